"""Commands end to end: what they hand on, print, write and exit with."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

import isograd.checking
from isograd.cli import _progress, main
from isograd.cli.commands import demo
from isograd.diagnosis import diagnose
from isograd.findings import Diagnosis, Finding, Severity
from isograd.rules import RULES

Run = Callable[..., Any]
HEALTHY = Diagnosis((), (), diagnose(RULES["IG101"].well()).reading)


class Stub:
    """Stands in for check(): keeps what it was given, returns what it was told."""

    def __init__(self) -> None:
        self.severity: Severity | None = None

    def __call__(self, model: Any, batch: Any, loss: Any = None, **options: Any) -> Diagnosis:
        self.model, self.batch, self.loss, self.options = model, batch, loss, options
        if self.severity is None:
            return HEALTHY
        finding = Finding("IG101", self.severity, "dead-units", "Bad.")
        return Diagnosis((finding,), (), HEALTHY.reading)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr(isograd.checking, "check", stub)
    return stub


def test_check_hands_on_what_it_was_told(folder: Path, isograd: Run, check: Stub) -> None:
    words = "check net.py:make --data digits --batch-size 11 --loss cross_entropy --eval --seed 5"
    more = "--optimizer sgd --lr 0.25 --momentum 0.5 --steps 3 --select IG1,IG2 --ignore IG101"
    assert isograd(*words.split(), *more.split(), "--dtype", "float64").code == 0
    assert check.batch[0].shape == (11, 64)
    assert check.batch[0].dtype is torch.float64
    assert check.loss is torch.nn.functional.cross_entropy
    assert not check.model.training
    optimizer = check.options.pop("optimizer")(check.model.parameters())
    assert optimizer.defaults["lr"] == 0.25
    assert len(list(check.options.pop("data"))) == 1797 // 11
    assert callable(check.options.pop("progress"))
    assert check.options == {
        "steps": 3,
        "select": ("IG1", "IG2"),
        "ignore": ("IG101",),
        "predict": True,
        "seed": 5,
    }


def test_check_predicts_unless_told_not_to(folder: Path, isograd: Run, check: Stub) -> None:
    assert isograd("check", "net.py:make", "--data", "digits", "--no-predict").code == 0
    assert check.options["predict"] is False


def test_a_prediction_alone_is_judged_by_the_same_rules(folder: Path, isograd: Run) -> None:
    (folder / "deep.py").write_text(DEEP)
    spec = ("--predict-only", "--input", "float32[32,64] -> int64[32]<10")
    ended = isograd("check", "deep.py:sigmoids", *spec)
    assert ended.code == 1
    assert "IG302 saturating-activation" in ended.out
    assert "predicted" in ended.out
    assert isograd("check", "deep.py:healthy", *spec).code == 0
    data = isograd("check", "deep.py:healthy", "--predict-only", "--data", "digits")
    assert data.code == 0
    found = isograd("check", "deep.py:sigmoids", *spec, "--select", "IG204", "--format", "json")
    assert json.loads(found.out)["reading"]["seen"]["source"] == "predicted"


DEEP = """
from torch import nn

def stack(act, norm):
    layers = [m for _ in range(20) for m in (nn.Linear(64, 64), norm(), act())]
    return nn.Sequential(*layers, nn.Linear(64, 10))

def sigmoids():
    return stack(nn.Sigmoid, nn.Identity)

def healthy():
    return stack(nn.ReLU, lambda: nn.LayerNorm(64))
"""


def test_nothing_is_built_for_a_prediction_alone(folder: Path, isograd: Run) -> None:
    (folder / "huge.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    width = 100_000\n"  # 40 GB a layer
        "    layers = [m for _ in range(3) for m in (nn.Linear(width, width), nn.Tanh())]\n"
        "    return nn.Sequential(*layers, nn.Linear(width, 10))\n"
    )
    ended = isograd("check", "huge.py:make", "--predict-only", "--input", "float32[16,100000]")
    assert ended.code == 0
    assert "30,001,300,010 parameters" in ended.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--input float32[3,64]", "so give --data; or --predict-only"),
        ("--predict-only --data digits --input float32[3,64]", "give one of them"),
        ("--predict-only --data digits --optimizer sgd --lr 0.1", "--optimizer: nothing is meas"),
        ("--predict-only --data digits --device cpu", "--device: nothing is measured"),
        ("--predict-only --data digits --no-predict", "--no-predict: nothing is measured"),
        ("--predict-only --input float31[3]", "float31"),
        ("--predict-only", "there is nothing to predict on; add --input"),
    ],
)
def test_words_that_do_not_go_with_a_prediction(
    folder: Path, isograd: Run, options: str, words: str
) -> None:
    ended = isograd("check", "net.py:make", *options.split())
    assert ended.code == 2
    assert words in ended.err


def test_check_uses_the_factorys_own_batch(folder: Path, isograd: Run, check: Stub) -> None:
    isograd("check", "net.py:with_batch")
    assert check.batch[0].shape == (5, 64)
    assert check.options["data"] is None
    isograd("check", "net.py:with_batch", "--data", "digits")
    assert check.batch[0].shape == (64, 64)


def test_the_seed_decides_the_weights(folder: Path, isograd: Run, check: Stub) -> None:
    weights = []
    for seed in ("3", "3", "4"):
        isograd("check", "net.py:model", "--data", "digits", "--seed", seed)
        weights.append(check.model[0].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_model_keeps_its_mode_unless_told(folder: Path, isograd: Run, check: Stub) -> None:
    (folder / "asleep.py").write_text("from torch import nn\nmodel = nn.Linear(64, 10).eval()\n")
    isograd("check", "asleep.py:model", "--data", "digits")
    assert not check.model.training
    isograd("check", "asleep.py:model", "--data", "digits", "--train")
    assert check.model.training


@pytest.mark.parametrize(
    ("severity", "codes"),
    [
        (None, {"error": 0, "warning": 0, "never": 0}),
        (Severity.INFO, {"error": 0, "warning": 0, "never": 0}),
        (Severity.WARNING, {"error": 0, "warning": 1, "never": 0}),
        (Severity.ERROR, {"error": 1, "warning": 1, "never": 0}),
    ],
)
def test_the_exit_code_is_the_verdict(
    folder: Path, isograd: Run, check: Stub, severity: Severity | None, codes: dict[str, int]
) -> None:
    check.severity = severity
    words = ("check", "net.py:make", "--data", "digits")
    assert {on: isograd(*words, "--fail-on", on).code for on in codes} == codes
    assert isograd(*words).code == codes["warning"]


def test_check_without_a_batch_says_what_to_do(folder: Path, isograd: Run) -> None:
    ended = isograd("check", "net.py:make")
    assert ended.code == 2
    assert "came without a batch to measure on; add --data (digits" in ended.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("check net.py:make --data iris", "64"),
        ("check net.py:make --data digits --loss net.py:make", "loss"),
        ("check net.py:make --data digits --loss l1_loss", "loss"),
    ],
)
def test_what_does_not_fit_is_one_line(folder: Path, isograd: Run, words: str, found: str) -> None:
    ended = isograd(*words.split())
    assert ended.code == 2
    assert ended.err.startswith("isograd: error: ")
    assert ended.err.count("\n") == 1
    assert found in ended.err


def test_the_suffix_of_the_file_decides_the_form(folder: Path, isograd: Run, check: Stub) -> None:
    words = ("check", "net.py:make", "--data", "digits", "--output")
    for name in ("r.json", "r.sarif"):
        ended = isograd(*words, name)
        assert (ended.out, ended.err) == ("", f"wrote {name}\n")
        json.loads((folder / name).read_text())
    for name in ("r.html", "r.HTM"):
        isograd(*words, name)
        assert "<html" in (folder / name).read_text()
    isograd(*words, "r.txt", "--format", "json")
    json.loads((folder / "r.txt").read_text())


def test_a_report_that_cannot_be_written_is_bad_input(
    folder: Path, isograd: Run, check: Stub
) -> None:
    words = ("check", "net.py:make", "--data", "digits")
    ended = isograd(*words, "--output", "/dev/full")
    assert ended.code == 2
    assert "cannot be written: No space left" in ended.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--output .", ".: is a folder; name a file in it"),
        ("--save .", ".: is a folder; name a file in it"),
        ("--output no/r.html", "there is no folder no; make it first"),
        ("--output r.pdf", "no report is written as .pdf; use .txt, .log, .json"),
        ("--seed -1", "'--seed': -1 is not in the range"),
        (f"--seed {2**63}", "is not in the range"),
        ("--optimizer adam --lr inf", "'--lr': inf is not a finite number."),
        ("--optimizer adam --weight-decay nan", "'--weight-decay': nan is not a finite number."),
        ("--select ,", "--select and --ignore want codes of rules"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_runs(
    folder: Path, isograd: Run, check: Stub, words: str, found: str
) -> None:
    ended = isograd("check", "net.py:make", "--data", "digits", *words.split())
    assert ended.code == 2
    assert found in ended.err
    assert not hasattr(check, "model")


def test_a_command_that_is_none_is_told_with_those_there_are(isograd: Run) -> None:
    ended = isograd("chek")
    assert ended.code == 2
    assert (
        "'chek'; there is check, demo, doctor, explain, lab, predict, repair, report, rules, runs"
        in ended.err
    )


def test_piped_output_has_no_color_and_no_progress(folder: Path, isograd: Run, check: Stub) -> None:
    ended = isograd("check", "net.py:make", "--data", "digits", "--format", "text")
    assert "\x1b" not in ended.out
    assert ended.out.endswith("\n")
    assert ended.err == ""


def test_a_saved_diagnosis_is_shown_again(folder: Path, isograd: Run, check: Stub) -> None:
    first = isograd("check", "net.py:make", "--data", "digits", "--save", "run.isograd")
    check.severity = Severity.ERROR
    last = isograd("check", "net.py:Net", "--data", "digits", "--save", "run.isograd")
    assert isograd("report", "run.isograd").out == last.out != first.out
    assert isograd("report", "run.isograd", "--entry", "1").out == first.out
    listed = isograd("report", "run.isograd", "--list").out.splitlines()
    assert [line.split()[-2:] for line in listed] == [
        ["net.py:make", "healthy"],
        ["net.py:Net", "dead-units"],
    ]
    ended = isograd("report", "run.isograd", "--entry", "3")
    assert ended.code == 2
    assert "has no entry 3, it holds 2" in ended.err


def test_rules_and_explain_tell_the_same(isograd: Run) -> None:
    lines = isograd("rules").out.splitlines()
    assert [line.split()[0] for line in lines] == [rule.code for rule in RULES]
    entries = json.loads(isograd("rules", "--format", "json").out)
    assert [entry["title"] for entry in entries] == [line.split("  ", 1)[1] for line in lines]
    for entry in entries:
        told = isograd("explain", entry["code"].lower()).out
        assert told.startswith(f"{entry['code']}  {entry['title']}\n")
        assert {*entry["sections"]} <= {*told.splitlines()}


def test_doctor_tells_versions_and_devices(isograd: Run) -> None:
    facts = json.loads(isograd("doctor", "--format", "json").out)
    assert set(facts) == {"versions", "extras", "devices", "statistics"}
    assert set(facts["statistics"]) >= {"reference", "graph", "native", "triton"}
    assert facts["versions"]["torch"] == version("torch")
    assert facts["devices"]["torch"] == f"build {torch.__version__}"
    assert "cpu" in facts["devices"]
    text = isograd("doctor").out
    assert f"torch             {version('torch')}\n" in text


def test_doctor_says_what_is_slower(isograd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isograd.statistics.backends.native.extension", lambda: None)
    told = json.loads(isograd("doctor", "--format", "json").out)["statistics"]
    assert "ten times as long" in told["native"]
    assert told["reference"] == "reads cpu"


def test_doctor_works_without_torch(isograd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    ended = isograd("doctor")
    assert ended.code == 0
    assert "cannot be imported by" in ended.out


def test_demo_shows_one_ill_and_one_well(folder: Path, isograd: Run) -> None:
    ended = isograd("demo")
    assert ended.code == 0, ended.err
    ill, well = ended.out.split(f"== {demo.WELL}")
    assert "saturating-activation" in ill
    assert "healthy" in well
    assert "<html" in (folder / demo.REPORT).read_text()


def test_nothing_said_is_a_call_for_help(isograd: Run) -> None:
    assert isograd().out == isograd("--help").out


@pytest.mark.parametrize(
    "name", ["check", "demo", "doctor", "explain", "report", "rules", "runs", "tail"]
)
def test_every_help_has_an_example(isograd: Run, name: str) -> None:
    assert f"  isograd {name}" in isograd(name, "-h").out


def test_a_reader_that_left_is_no_error() -> None:
    command = [sys.executable, "-m", "isograd", "rules"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.communicate()[1] == b""
    assert process.returncode == 1


def test_ctrl_c_ends_as_a_shell_expects(monkeypatch: pytest.MonkeyPatch, isograd: Run) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("isograd.cli.commands.explain.explain", press)
    assert isograd("explain", "IG101").code == 130


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_waits_a_second_then_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "DELAY", 0.05)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with _progress.progress("rehearsing") as tell:
        tell(3, 50)
        time.sleep(0.3)
    assert "rehearsing … 3 of 50" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    with _progress.progress("measuring"):
        pass
    assert "measuring" not in sys.stderr.getvalue()


def test_our_own_faults_are_not_called_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> str:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("isograd.cli.commands.explain.explain", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["explain", "IG101"])


@pytest.mark.parametrize("group", ["theory", "lab"])
def test_a_group_alone_shows_its_help_as_it_stands(isograd: Run, group: str) -> None:
    ended = isograd(group)
    assert ended.code == 2
    assert f"Usage: isograd {group}" in ended.err.splitlines()[0]
    assert "Commands:" in ended.err.splitlines()
