"""`isograd watch`: real programs, unchanged, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isograd import open_run
from isograd.cli.commands import watch as watch_command
from isograd.integrations import scripts

TRAIN = """\
import sys
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(7, 13), nn.Dropout(0.3), nn.ReLU(), nn.Linear(13, 3))
teacher = nn.Linear(7, 3)
optimizer = torch.optim.SGD(net.parameters(), lr=float(sys.argv[1]), momentum=0.9)
with torch.no_grad():
    net(torch.randn(5, 7))
for step in range(12):
    inputs = torch.randn(11, 7)
    targets = teacher(inputs).argmax(1)
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(inputs), targets).backward()
    optimizer.step()
    if "break" in sys.argv and step == 7:
        raise ValueError("no more data")
print([p.sum().item().hex() for p in net.parameters()], __name__)
sys.exit(7)
"""

LAUNCH = """\
import subprocess, sys
code = subprocess.run([sys.executable, "train.py", *sys.argv[1:]]).returncode
print("launched", "torch" in sys.modules, "isograd" in sys.modules)
sys.exit(code)
"""


@pytest.fixture
def scripts_here(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "launch.py").write_text(LAUNCH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **more}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


def watched(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    program = "from isograd.cli import main; main()"
    return run(sys.executable, "-c", program, "watch", *words, **more)


def test_a_script_runs_as_it_does_without(scripts_here):
    broken = {"PYTHONPATH": str(scripts.SITE), scripts.VARIABLE: "{"}
    bare = run(sys.executable, "train.py", "0.1", **broken)  # a fault of ours leaves it alone
    assert bare.stderr.startswith("isograd watch: nothing is watched: JSONDecodeError")
    ended = watched("--run", "r.isograd", "--every", "5", "--", sys.executable, "train.py", "0.1")
    assert (ended.returncode, ended.stdout) == (7, bare.stdout)
    assert bare.returncode == 7
    assert ended.stderr == "isograd: watched; see isograd report r.isograd\n"
    with open_run("r.isograd") as opened:
        assert opened.session.state == "finished"
        assert [record.step for record in opened.records()] == [0, 5, 10]
        assert len(opened.losses()[0]) == 12
        assert next(iter(opened.records())).facts["model.name"] == "Sequential"


def test_a_module_a_child_process_and_a_sitecustomize_of_ones_own(scripts_here):
    (scripts_here / "site").mkdir()
    (scripts_here / "site" / "sitecustomize.py").write_text("print('mine')\n")
    ended = watched(
        "--", sys.executable, "-m", "launch", "0.1", "break", PYTHONPATH=str(scripts_here / "site")
    )
    assert ended.returncode == 1
    # Three Pythons: that of the command line, that of the module, and that of the training.
    # Their lines come in the order in which each of them flushes what it printed.
    assert sorted(ended.stdout.split()) == sorted([*["mine"] * 3, "launched", "False", "False"])
    assert "ValueError: no more data" in ended.stderr
    (file,) = (scripts_here / "isograd-runs").glob("*.isograd")
    with open_run(file) as opened:
        assert opened.session.state == "ended by ValueError"
        assert opened.progress().step == 7


def test_a_run_that_is_stopped(scripts_here):
    ended = watched(
        *("--run", "r.isograd", "--on-finding", "stop"), "--", sys.executable, "train.py", "1e30"
    )
    assert ended.returncode == 1
    assert "training is stopped at step" in ended.stderr
    assert "Traceback" not in ended.stderr
    with open_run("r.isograd") as opened:
        assert opened.session.state == "stopped at a finding"


def test_a_program_that_trains_nothing(isograd, scripts_here):
    ended = isograd("watch", "sh", "-c", "kill -9 $$")
    assert ended.code == 128 + 9
    assert ended.err.startswith("isograd: nothing was watched: no Python in this command")
    assert not (scripts_here / "isograd-runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("watch", "Missing argument"),
        ("watch -- train.py", "train.py: cannot be run: No such file or directory; write python"),
        ("watch --sinks sqlte -- true", "--sinks: no sink 'sqlte'; there is console, jsonl"),
        ("watch --overhead 0 -- true", "0 is not in the range 0<x<=1"),
        ("watch --every 0 -- true", "0 is not in the range x>=1"),
        ("watch --run . -- true", "--run '.': not a file; name one, such as runs/today.isograd"),
        ("watch --run /dev/null/a.isograd -- true", "nothing can be written in /dev/null"),
        ("watch --sinks sqlite,wandb -- true", "wandb needs wandb: pip install 'isograd[wandb]'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(isograd, scripts_here, monkeypatch, words, message):
    monkeypatch.setattr(watch_command, "find_spec", lambda _: None)
    ended = isograd(*words.split())
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert message in ended.err


def test_what_the_command_is_told(isograd, monkeypatch):
    told = {}

    def execute(words, env):
        told.update(words=words, env=env)
        return 0

    monkeypatch.setattr(watch_command, "_execute", execute)
    isograd("watch", "--run", "a.isograd", "--sinks", "sqlite,jsonl", "train", "--run", "b")
    assert told["words"] == ("train", "--run", "b")
    assert told["env"]["PYTHONPATH"].split(os.pathsep)[0] == str(scripts.SITE)
    assert '"sinks": ["sqlite", "jsonl"]' in told["env"][scripts.VARIABLE]
    assert f'"run": "{os.path.abspath("a.isograd")}"' in told["env"][scripts.VARIABLE]


@pytest.mark.parametrize(
    ("sinks", "told"),
    [
        ("sqlite", "isograd report a.isograd"),
        ("jsonl,console", "a.jsonl"),
        ("console", "above"),
        ("tensorboard,sqlite", "tensorboard --logdir a.tensorboard; isograd report a.isograd"),
        ("wandb mlflow", "W&B, project isograd, or the run that was open; MLflow, experiment"),
    ],
)
def test_where_the_readings_are(isograd, monkeypatch, tmp_path, sinks, told):
    def execute(words, env):
        Path(json.loads(env[scripts.VARIABLE])["note"]).write_text("a.isograd")
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch_command, "_execute", execute)
    ended = isograd("watch", "--run", "a.isograd", "--sinks", sinks, "train")
    assert ended.err.startswith(f"isograd: watched; see {told}")
