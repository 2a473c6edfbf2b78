"""What users may rely on, frozen: names, signatures, commands and their flags, JSON keys.

A change here is a change for every user: say so in CHANGELOG.md.
"""

import importlib
import inspect
import json
import re
from pathlib import Path

import click
import pytest
import torch

import isograd
from isograd.cli import app, main
from isograd.diagnosis import diagnose
from isograd.reporting import render
from isograd.rules import RULES

ROOT = Path(__file__).parent.parent

NAMES = """
    DataError Diagnosis Finding InputError IsogradError LossError ModelError PredictionError
    Reading Record Repair Severity StopTraining UntrainableError Watch __version__ assert_trainable
    check diagnose explain measure open_run predict recording repair watch
""".split()

SIGNATURES = {
    "assert_trainable": "model, batch, loss, *, fail_on, **options",
    "check": "model, batch, loss, *, optimizer, data, steps, select, ignore, predict, seed, "
    "progress",
    "diagnose": "reading, *, select, ignore, rules",
    "explain": "code",
    "measure": "model, batch, loss, *, seed, step",
    "open_run": "path, *, session",
    "predict": "model, inputs, *, input_stats, loss, width_band, seed",
    "recording": "",
    "repair": "model, batch, loss, *, optimizer, data, budget, allow, seed, progress",
    "watch": "model, optimizer, *, run, overhead, every, sinks, on_finding, rules, name",
}

COMMANDS = {
    "check": "target --data --loss --optimizer --lr --momentum --weight-decay --steps --batch-size "
    "--format --output --save --fail-on --select --ignore --no-predict --predict-only --input "
    "--device --dtype --seed --train --eval",
    "demo": "--output",
    "doctor": "--format",
    "explain": "code",
    "lab": "",
    "predict": "target --input --data --set --init --activation --residual-scale --sweep --figure "
    "--loss --batch-size --explain --format --output --save --fail-on --select --ignore --seed "
    "--train --eval",
    "repair": "target --data --loss --optimizer --lr --momentum --weight-decay --budget --allow "
    "--batch-size --format --output --device --dtype --seed --train --eval",
    "report": "run --list --session --entry --format --output",
    "rules": "--format",
    "runs": "folder --format",
    "tail": "run --session",
    "theory": "",
    "watch": "--run --overhead --every --on-finding --sinks words",
}

THEORY = {
    "critical": "activation --bias-var --line --param --format --figure",
    "diagram": "activation --weight-var --bias-var --param --format --figure",
    "gains": "activation --all --param --format --figure",
    "phase": "activation --weight-var --bias-var --param --format --figure",
    "spectrum": "activation --depth --weights --weight-var --bias-var --param --format --figure",
    "transform": "activation --depth --method --param --format --figure",
}
"""Subcommands of `isograd theory`."""

LAB = {
    "data": "",
    "fetch": "name --output",
    "list": "",
    "run": "name --all --set --data --seed --scale --device --output",
    "verify": "names --fast --all --jobs --output",
}
"""Subcommands of `isograd lab`."""

THEORY_KEYS = {
    "phase": "q_star stable chi_1 chi_q c_star chi_c xi_q xi_c phase usable_depth",
    "critical": "verdict weight_var bias_var q_star chi_q reason",
    "gains": "second_moment std slope",
}

JSON_KEYS = "findings healthy reading schema severity tool verdicts".split()
REPAIR_KEYS = """
    after before code comparison cost effects learned measure notes reason remedies schema skipped
    tool trials verdict
""".split()
FINDING_KEYS = "cause code evidence explains message remedies severity sites symptoms".split()

ERRORS = """
    CatalogueError DataError InputError IsogradError LossError ModelError PredictionError
    RemedyError RunTakenError StorageError TargetError UntrainableError
""".split()


def test_the_public_names() -> None:
    assert isograd.__all__ == sorted(NAMES) == dir(isograd)
    for name in NAMES:
        assert getattr(isograd, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        isograd.nothing  # noqa: B018


def test_every_public_name_says_what_it_is() -> None:
    assert all(getattr(isograd, name).__doc__ for name in NAMES if name != "__version__")


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature(name: str) -> None:
    words = []
    for parameter in inspect.signature(getattr(isograd, name)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        prefix = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        words.append(prefix + parameter.name)
    assert ", ".join(words) == SIGNATURES[name]


def test_the_errors() -> None:
    errors = importlib.import_module("isograd.errors")
    assert sorted(n for n in vars(errors) if n.endswith("Error")) == sorted(ERRORS)


def test_the_commands() -> None:
    context = click.Context(app)
    assert app.list_commands(context) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_flags_of_a_command(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    words = []
    for parameter in command.params:
        flags = [*parameter.opts, *parameter.secondary_opts]
        words += flags
    assert words == COMMANDS[name].split()


@pytest.mark.parametrize("name", THEORY)
def test_the_flags_of_a_theory_command(name: str) -> None:
    group = app.get_command(click.Context(app), "theory")
    assert isinstance(group, click.Group)
    assert sorted(group.commands) == sorted(THEORY)
    words = [flag for parameter in group.commands[name].params for flag in parameter.opts]
    assert words == THEORY[name].split()


@pytest.mark.parametrize("name", LAB)
def test_the_flags_of_a_lab_command(name: str) -> None:
    group = app.get_command(click.Context(app), "lab")
    assert isinstance(group, click.Group)
    assert sorted(group.commands) == sorted(LAB)
    words = [flag for parameter in group.commands[name].params for flag in parameter.opts]
    assert words == LAB[name].split()


@pytest.mark.parametrize("name", THEORY_KEYS)
def test_the_keys_of_a_theory_commands_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--weight-var", "2"] if name == "phase" else []
    with pytest.raises(SystemExit):
        main(["theory", name, "tanh", *more, "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert set(THEORY_KEYS[name].split()) <= set(told)


def test_the_keys_of_the_json_report() -> None:
    report = json.loads(render(diagnose(RULES["IG101"].sick()), "json"))
    assert sorted(report) == JSON_KEYS
    assert sorted(report["findings"][0]) == FINDING_KEYS


def test_the_keys_of_the_json_report_of_a_repair() -> None:
    healthy = isograd.Repair("healthy", "", torch.nn.Identity(), None, None, diagnose(well()))
    assert sorted(json.loads(render(healthy, "json"))) == REPAIR_KEYS


def well() -> isograd.Reading:
    return RULES["IG101"].well()


def test_the_readmes_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    exec(program, {})
    assert capsys.readouterr().out.endswith("saturating-activation\n")


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert version("isograd") == isograd.__version__
