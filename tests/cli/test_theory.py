"""`isograd theory …`: what it prints is what the theory says, in every form."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isograd import theory
from isograd.cli import _theory, _theory_figures
from isograd.errors import InputError
from isograd.theory.activations import NAMES

Run = Callable[..., Any]

ACTIVATIONS = """\
import torch
from torch import nn


class Bent(nn.Module):
    def forward(self, x):
        return torch.where(x > 0, x, 0.25 * x)


def bent(x):
    return torch.where(x > 0, x, 0.25 * x)


def mixed(x):
    return x - x.mean()


module = nn.LeakyReLU(0.25)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "acts.py").write_text(ACTIVATIONS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_phase_in_every_form(isograd: Run) -> None:
    words = "theory phase tanh --weight-var 2.5 --bias-var 0.05".split()
    found = theory.phase("tanh", weight_var=2.5, bias_var=0.05)
    text = isograd(*words).out
    assert text.splitlines()[0] == "tanh, weight variance 2.5, bias variance 0.05:"
    assert text.splitlines()[1] == found.reason
    assert f"chi_1         {found.chi_1:.6g} " in text
    told = strict(isograd(*words, "--format", "json").out)
    assert told["c_star"] == found.c_star
    assert told["fixed_points"] == [
        {"q": point.q, "chi_q": point.chi_q, "stable": point.stable} for point in found.fixed_points
    ]
    (row,) = rows(isograd(*words, "--format", "csv").out)
    assert float(row["xi_c"]) == found.xi_c
    assert row["phase"] == "chaotic"


def test_what_does_not_exist_is_null_with_a_reason(isograd: Run) -> None:
    words = "theory critical softplus".split()
    told = strict(isograd(*words, "--format", "json").out)
    assert (told["verdict"], told["weight_var"], told["q_star"]) == ("none", None, None)
    assert "negative bias variance" in told["reason"]
    (row,) = rows(isograd(*words, "--format", "csv").out)
    assert row["weight_var"] == ""
    text = isograd(*words).out
    assert text.startswith("softplus, bias variance 0: none\n")
    assert "weight_var  – " in text


def test_infinity_is_a_word_in_json(isograd: Run) -> None:
    told = strict(isograd(*"theory phase relu --weight-var 2 --format json".split()).out)
    assert told["usable_depth"] == "inf"
    assert told["chi_1"] == pytest.approx(1, abs=1e-12)


def test_a_half_stable_line_shows_its_threshold(isograd: Run) -> None:
    told = strict(isograd(*"theory critical gelu --format json".split()).out)
    assert told["threshold"]["bias_var"] == pytest.approx(0.172922391, abs=1e-9)
    (row,) = rows(isograd(*"theory critical gelu --format csv".split()).out)
    assert float(row["threshold_q_star"]) == told["threshold"]["q_star"]


def test_the_whole_line(isograd: Run) -> None:
    told = rows(isograd(*"theory critical tanh --line --format csv".split()).out)
    line = theory.critical_line("tanh")
    assert [float(row["weight_var"]) for row in told] == line.weight_var.tolist()
    assert strict(isograd(*"theory critical tanh --line --format json".split()).out)["stable"]
    assert len(isograd(*"theory critical tanh --line".split()).out.splitlines()) == len(told) + 3


def test_the_table_of_gains_has_every_activation(isograd: Run) -> None:
    text = isograd("theory", "gains", "--all").out
    assert [line.split()[0] for line in text.splitlines()[4:]] == list(NAMES)
    told = strict(isograd(*"theory gains --all --format json".split()).out)
    assert {row["activation"]: row["slope"] for row in told}["gelu"] == theory.gains("gelu").slope
    assert len(rows(isograd(*"theory gains --all --format csv".split()).out)) == len(NAMES)


def test_a_diagram_in_every_form(isograd: Run) -> None:
    words = "theory diagram tanh --weight-var 0.5:4:7 --bias-var 0:1:3".split()
    text = isograd(*words).out
    assert "    1  ooooooo\n".replace(" 1", "  1") in text.replace("oooooo#", "ooooooo")
    assert "o ordered" in text
    told = strict(isograd(*words, "--format", "json").out)
    assert (len(told["chi_1"]), len(told["chi_1"][0])) == (7, 3)
    table = rows(isograd(*words, "--format", "csv").out)
    assert len(table) == 21
    for row in table[::5]:
        at = {"weight_var": float(row["weight_var"]), "bias_var": float(row["bias_var"])}
        assert row["phase"] == theory.phase("tanh", **at).phase


def test_letters_of_a_map_with_a_hole(isograd: Run) -> None:
    text = isograd(*"theory diagram relu --weight-var 1:4:7 --bias-var 0:1:2".split()).out
    # He's weights: critical without biases, nowhere stable with them.
    assert "         1  oo·····\n" in text
    assert "         0  oo=····\n" in text
    assert "· without a stable length" in text


def test_spectrum_and_transform(isograd: Run) -> None:
    words = "theory spectrum tanh --depth 7 --weights orthogonal --bias-var 0.01 --format json"
    found = theory.spectrum("tanh", 7, weights="orthogonal", bias_var=0.01)
    assert strict(isograd(*words.split()).out)["edge"] == found.edge
    told = isograd(*"theory transform leaky_relu --method tat --depth 50".split()).out
    assert "negative_slope  0.430523" in told
    told = isograd(*"theory transform tanh --depth 50 --format csv".split()).out
    assert float(rows(told)[0]["output_scale"]) == pytest.approx(10.6044476434741508, rel=1e-8)


@pytest.mark.parametrize(
    "words",
    [
        "leaky_relu --param negative_slope=0.25",
        "LeakyReLU --param negative_slope=0.25",
        "torch.nn:LeakyReLU --param negative_slope=0.25",
        "acts.py:bent",
        "acts.py:bent --param kinks=0",
        "acts.py:Bent",
        "acts.py:module",
    ],
)
def test_one_activation_in_many_ways(place: Path, isograd: Run, words: str) -> None:
    ended = isograd(*f"theory gains {words} --format json".split())
    assert ended.code == 0, ended.err
    exact = (2 / (1 + 0.25**2)) ** 0.5
    assert strict(ended.out)["slope"] == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("phase tahn --weight-var 1", "tahn"),
        ("gains leaky_relu --param slope=1", "slope"),
        ("gains acts.py:mixed", "elementwise"),
        ("gains acts.py:bnet", "did you mean bent"),
        ("transform selu --method tat --depth 9", "selu"),
        ("transform relu --method tat --depth 3", "0.9"),
        ("diagram tanh --weight-var 0:1", "weight_var"),
    ],
)
def test_what_theory_refuses_is_told_in_a_line(
    place: Path, isograd: Run, words: str, told: str
) -> None:
    ended = isograd("theory", *words.split())
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("isograd: error: ")
    assert told in line
    assert ended.out == ""


def test_parameters() -> None:
    words = ["alpha=0.5", "kinks=1", "edges=-1,2e0", "approximate=tanh"]
    assert _theory.params(words) == {
        "alpha": 0.5,
        "kinks": (1.0,),
        "edges": (-1.0, 2.0),
        "approximate": "tanh",
    }
    for bad in (["alpha"], ["alpha="], ["=1"], ["a b=1"], ["a=1", "a=2"]):
        with pytest.raises(InputError, match="--param"):
            _theory.params(bad)


@pytest.mark.parametrize(
    "text", ["1", "1:2:3:4", "a:2", "2:1", "-1:2", "0:inf", "0:1:1", "0:1:2.5"]
)
def test_what_is_no_grid(text: str) -> None:
    with pytest.raises(InputError, match="--x"):
        _theory.span(text, "--x")


@pytest.mark.parametrize(
    "words",
    [
        "phase tanh --weight-var 2.5",
        "phase exp --weight-var 2",
        "critical gelu",
        "critical relu",
        "critical sigmoid",
        "diagram relu --weight-var 1:3:6 --bias-var 0:1:5",
        "diagram gelu --weight-var 1:3:6 --bias-var 0:1:5",
        "spectrum relu --depth 5",
        "spectrum linear --depth 5",
        "gains tanh",
        "gains relu",
        "gains exp",
        "gains --all",
        "transform tanh --depth 50",
        "transform leaky_relu --method tat --depth 50",
        "transform gelu --method tat --depth 20 --format csv",
    ],
)
def test_figures_are_drawn(isograd: Run, tmp_path: Path, words: str) -> None:
    path = tmp_path / "figure.png"
    ended = isograd("theory", *words.split(), "--figure", str(path))
    assert ended.code == 0, ended.err
    assert ended.err == f"wrote {path}\n"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_figure_of_a_transform_shows_its_targets() -> None:
    """TAT's leaky ReLU takes correlation 0 to 0.9; DKS has a slope of 1.5 at c = 1."""
    leaky, tanh = theory.activation("leaky_relu"), theory.activation("tanh")
    found = theory.transform("leaky_relu", "tat", depth=50)
    ends, chi_1 = _theory_figures.through(_theory_figures.shaped(leaky, found), 1.0, [0.0], 50)
    assert ends[0] == pytest.approx(0.9, abs=1e-4)
    assert chi_1 == pytest.approx(1, rel=1e-9)
    found = theory.transform("tanh", "dks", depth=50)
    _, chi_1 = _theory_figures.through(_theory_figures.shaped(tanh, found), 1.0, [0.5], 50)
    assert chi_1**50 == pytest.approx(1.5, rel=1e-7)
