"""The examples of docs/watch.md run, and leave the run file that they promise."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from isograd import open_run

EXAMPLES = Path(__file__).parents[2] / "examples" / "watching"

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("name", "steps", "told"),
    [
        ("loop", None, "lr-too-high"),
        ("compiled", 40, "looks at 5 sites"),
        ("with_accelerate", 10, "10 steps of 64 samples"),
        ("with_lightning", 40, "40 steps, alarms: 0"),
        ("with_transformers", 20, "20 steps, alarms: 0"),
    ],
)
def test_an_example(name, steps, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if name == "with_accelerate":
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
    if name == "compiled":
        torch._dynamo.reset()
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert told in capsys.readouterr().out
    with open_run(f"runs/{name.removeprefix('with_')}.isograd") as run:
        if steps is None:
            assert run.session.state == "stopped at a finding"
            assert 100 <= run.progress().step < 110
        else:
            assert (run.session.state, run.progress().step) == ("finished", steps - 1)


def test_the_script_under_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["watch", "--run", "runs/script.isograd", "--", sys.executable]
    ended = subprocess.run(
        [sys.executable, "-m", "isograd", *words, str(EXAMPLES / "script.py")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("loss ")
    with open_run("runs/script.isograd") as run:
        assert (run.session.state, run.progress().step) == ("finished", 59)
        assert not run.alarms()


def test_every_example_is_on_the_page():
    page = (EXAMPLES.parents[1] / "docs" / "watch.md").read_text()
    assert all(f"examples/watching/{path.name}" in page for path in EXAMPLES.glob("*.py"))
