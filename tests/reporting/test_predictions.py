"""Predictions told: repeated blocks once, doubts first, explanations, sweeps and their figure."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_diagnoses import HOSTILE, MAKERS

from isograd.diagnosis import diagnose
from isograd.errors import InputError
from isograd.prediction.explanation import Explanation, Operation, Term
from isograd.prediction.sweeping import Point, Sweep
from isograd.records import Record, Site
from isograd.reporting import explanations, prediction_figures, render, sweeps, theory_figures
from isograd.reporting._folding import Group, fold


def record(*sites: tuple[str, str, int], **series: Any) -> Record:
    """Sites from (name, kind, width), with rms that double from site to site."""
    made = tuple(
        Site(name, kind, kind.title(), i + 1, (13, width), (i - 1,) if i else ())
        for i, (name, kind, width) in enumerate(sites)
    )
    columns = {
        "forward.rms": tuple(0.001 * 2.0**i for i in range(len(made))),
        "forward.band": tuple(0.05 for _ in made),
        "backward.rms": tuple(3.0 for _ in made),
        "backward.band": tuple(1.2 for _ in made),
        "forward.correlation": tuple(0.25 for _ in made),
        **series,
    }
    return Record(made, series=columns, facts={"model.name": "Net"}, source="predicted")


def rows(found: Record) -> list[tuple[str, str, int, bool]]:
    groups = fold(found, range(len(found.sites)))
    told = [i for group in groups for i in group.sites]
    assert sorted(told) == list(range(len(found.sites)))  # every site, once
    return [(one.heading, one.label, len(one.sites), one.inner) for one in groups]


# -- folding --------------------------------------------------------------------------------------


def test_blocks_that_repeat_are_told_once() -> None:
    blocks = [
        (f"h.{i}.{part}", kind, 37)
        for i in range(12)
        for part, kind in (("ln", "layer_norm"), ("fc", "linear"))
    ]
    assert rows(record(("stem", "linear", 37), *blocks, ("head", "linear", 5))) == [
        ("", "stem", 1, False),
        ("h.0 … 11, 12 times", ".ln", 12, True),
        ("", ".fc", 12, True),
        ("", "head", 1, False),
    ]


def test_a_pattern_of_single_layers_is_told_once() -> None:
    layers = [(str(i), ("linear", "relu")[i % 2], 37) for i in range(8)]
    assert rows(record(*layers, ("8", "linear", 37))) == [
        ("0 … 7, 4 times", "0 … 6", 4, True),
        ("", "1 … 7", 4, True),
        ("", "8", 1, False),
    ]
    assert rows(record(*((str(i), "linear", 37) for i in range(5)))) == [("", "0 … 4", 5, False)]


def test_blocks_that_differ_stand_by_themselves() -> None:
    sites = []
    for i, width in enumerate((37, 37, 53, 53, 53)):
        sites += [(f"stage.{i}.fc", "linear", width), (f"stage.{i}:add", "add", width)]
    assert rows(record(*sites)) == [
        ("stage.0 … 1, 2 times", ".fc", 2, True),
        ("", ":add", 2, True),
        ("stage.2 … 4, 3 times", ".fc", 3, True),
        ("", ":add", 3, True),
    ]
    odd = record(("s.0.a", "linear", 3), ("s.0.b", "linear", 3), ("s.1.a", "linear", 3))
    assert rows(odd) == [
        ("s.0", ".a", 1, True),
        ("", ".b", 1, True),
        ("", "s.1.a", 1, False),
    ]


def test_lists_in_lists_and_calls_of_a_shared_module() -> None:
    sites = [
        (f"s.{i}.{j}.{part}", "linear", 37 + i) for i in range(2) for j in range(3) for part in "ab"
    ]
    assert rows(record(*sites)) == [
        ("s.0.0 … 2, 3 times", ".a", 3, True),
        ("", ".b", 3, True),
        ("s.1.0 … 2, 3 times", ".a", 3, True),
        ("", ".b", 3, True),
    ]
    shared = [("fc", "linear", 3), ("fc#2", "linear", 3), ("fc#3", "linear", 3)]
    assert [label for _, label, _, _ in rows(record(*shared))] == ["fc", "fc#2", "fc#3"]


def test_only_what_is_asked_for() -> None:
    found = record(*((f"h.{i}.{part}", "linear", 3) for i in range(3) for part in "ab"))
    assert fold(found, [0, 2, 4]) == [Group("h.0.a … 2", (0, 2, 4))]


# -- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_lines_keep_to_the_width(width: int) -> None:
    sites = [
        (f"model.transformer.layers.{i}.attention.output.{part}", "linear", 37)
        for i in range(4)
        for part in ("projection_of_values", "dense")
    ]
    text = render(diagnose(record(*sites)), "text", width=width)
    table = text[text.index("site ") :].split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= max(width, 80)
    assert "4 times" in table


def test_first_last_and_the_extreme_between() -> None:
    found = record(
        *((f"h.{i}.{part}", "linear", 3) for i in range(3) for part in "ab"),
        **{"backward.rms": (1.0, 1.0, 50.0, 1.0, 2.0, 1.0)},
    )
    lines = render(diagnose(found), "text", width=100).splitlines()
    (row,) = [line for line in lines if line.startswith("    .a ")]
    assert "0.00100 → 0.0160 ±5%" in row
    assert "1.00 → 50.0 → 2.00 ×÷3.3" in row
    assert row.endswith("0.25")


def test_the_main_sites_of_a_long_table() -> None:
    kinds = ("linear", "relu", "dropout")
    sites = [(f"part{i}.{kind}", kind, 37 + i) for i in range(40) for kind in kinds]
    text = render(diagnose(record(*sites)), "text", width=100)
    assert "part7.linear" in text
    assert "part7.relu" not in text
    assert "80 activations, norms and the like left out" in text


def test_a_doubt_is_said_first_in_every_form() -> None:
    found = replace(
        record(("fc", "linear", 3)),
        facts={"prediction.predictable": False, "prediction.condition": 37.0},
        notes=("not predictable: …", "loss: none (no targets); …", "another note"),
    )
    diagnosis = diagnose(found)
    assert diagnosis.healthy
    text = render(diagnosis, "text", width=100)
    assert text.startswith("! not predictable\n")
    assert "not predictable: a small deviation of the signal grows 37 times" in text
    assert text.count("not predictable") == 2
    assert "another note" in text
    assert "loss: none" not in text
    assert "🟡 isograd: not predictable" in render(diagnosis, "markdown")
    assert "isograd: not predictable" in render(diagnosis, "html")


def test_what_was_sampled_is_named_in_every_form() -> None:
    facts = {"prediction.predictable": True, "prediction.sampled": ["roll", HOSTILE]}
    diagnosis = diagnose(replace(record(("fc", "linear", 3)), facts=facts))
    for form in ("text", "markdown", "html"):
        told = render(diagnosis, form)
        assert "estimated by drawing" in told
        assert "\x1b" not in told
        assert "<script>alert" not in told or form == "text"


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_any_record_can_be_told_as_predicted(name: str, form: str) -> None:
    diagnosis = MAKERS[name]()
    seen = replace(diagnosis.reading.seen, source="predicted")
    told = render(replace(diagnosis, reading=replace(diagnosis.reading, seen=seen)), form)
    assert "\x1b" not in told


def test_a_predicted_record_without_sites() -> None:
    assert render(diagnose(Record((), source="predicted")), "text").startswith("✓ healthy")


# -- explanations ---------------------------------------------------------------------------------


def term(name: str, energy: float, **more: Any) -> Term:
    given: dict[str, Any] = {
        "kind": "signal", "shape": (13, 37), "mean": 0.0, "cosine": 0.5, "gradient": 0.25,
    }  # fmt: skip
    return Term(name, energy=energy, **{**given, **more})


def explanation(name: str = "fc") -> Explanation:
    weight = term("fc.weight", 0.01, kind="weight", shape=(53, 37), cosine=None, handed=4.0)
    inputs = (term("x", 1.0, handed=0.0625), weight)
    moved = Operation(
        "view", name, "", "no arithmetic", (), (), moved=True, sampled=False, count=None
    )
    linear = Operation(
        "linear", name, "n E x^2 E w^2", "a book", inputs, (term(name, 0.37),), False, False, 37.0
    )
    drawn = Operation(
        "roll", name, "", "sampled", (term("", 0.37, maker=1),), (term("", 0.4),), False, True
    )
    return Explanation(name, "Linear", (moved, linear, drawn))


def test_an_explanation_tells_the_arithmetic_and_its_source() -> None:
    text = explanations.tell(explanation(), width=100)
    assert text.startswith("fc: Linear, 2 operations, 1 more only lay numbers out anew\n")
    assert "37 · E x² 1 · E w² 0.01 = 0.37" in text
    assert "n E x² E w² [1]" in text
    assert "[1] a book" in text
    assert "no rule: estimated by drawing" in text
    assert "sampled" not in text
    back = text[text.index("Backward") :].splitlines()
    assert back[1].split() == ["2", "roll", "fc", "0.25", "0.5"]
    (to_x,) = [line.split() for line in back if line.startswith("    to x ")]
    assert to_x == ["to", "x", "13×37", "0.0625", "0.25", "×", "0.25"]
    assert any("in all, from every path" in line for line in back)


def test_an_explanation_steers_no_terminal() -> None:
    text = explanations.tell(explanation(HOSTILE), width=60)
    assert "\x1b" not in text
    assert "\x1b" in explanations.tell(explanation(), color=True)


# -- sweeps ---------------------------------------------------------------------------------------


def sweep_of(*gradients: float | None, name: str = "depth") -> Sweep:
    points = [
        Point(
            10 * (i + 1), 10 * (i + 1), 1000, 0.5, 0.25, 0.2, 0.6, gradient, 0.05, 0.9, 1.0,
            replace(record(("fc", "linear", 3)), facts={"model.name": "Net"}),
        )
        for i, gradient in enumerate(gradients)
    ]  # fmt: skip
    return Sweep(name, tuple(points), ("a note",))


def verdicts(found: Sweep, *codes: str) -> list[Any]:
    """Healthy diagnoses, and sick ones where there is a code."""
    sick = MAKERS["sick"]()
    healthy = [None if p.record is None else diagnose(p.record) for p in found.points]
    return [sick if code else one for one, code in zip(healthy, codes, strict=True)]


def test_a_sweep_tells_where_health_ends() -> None:
    found = sweep_of(1.0, 1e-3, 1e-9)
    text = sweeps.tell(found, verdicts(found, "", "", "ill"), width=120)
    lines = text.splitlines()
    assert lines[0] == "! healthy at depth 10, 20"
    assert "layers  signal first → last  cosine  gradient first / last" in lines[3]
    first, second, third = (line for line in lines if "0.500 → 0.250" in line)
    assert first.split()[0] == "10"
    assert first.count("█") > second.count("█") > third.count("█")
    assert "✓ healthy" in first
    assert "✗ IG" in third
    assert lines[-1] == "  note a note"
    plain = sweeps.as_plain(found, verdicts(found, "", "", "ill"))
    assert [one["healthy"] for one in plain["points"]] == [True, True, False]


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (("", ""), "✓ healthy at both 2 values"),
        (("", "", ""), "✓ healthy at all 3 values"),
        (("ill", "ill"), "✗ no value of depth is healthy"),
    ],
)
def test_the_headline_of_a_sweep(codes: tuple[str, ...], told: str) -> None:
    found = sweep_of(*(1.0 for _ in codes))
    assert sweeps.tell(found, verdicts(found, *codes)).splitlines()[0] == told


@pytest.mark.parametrize("odd", [0.0, math.inf, math.nan, None])
def test_numbers_that_no_axis_can_show(odd: float | None) -> None:
    found = sweep_of(1.0, odd)
    assert "20" in sweeps.tell(found, verdicts(found, "", ""))


def test_a_point_that_failed_is_told_and_not_well() -> None:
    found = Sweep("width", (Point("x", error="make() raised TypeError"), *sweep_of(1.0).points))
    text = sweeps.tell(found, verdicts(found, "", ""))
    assert "x      make() raised TypeError" in text
    assert not sweeps.is_well(found.points[0], None)
    assert sweeps.as_plain(found, [None, None])["points"][0]["error"] == "make() raised TypeError"


@pytest.mark.parametrize("values", [(10, 20), (1, 1000), ("a", "b"), (True, False), (5,)])
def test_a_figure_of_numbers_and_words(tmp_path: Path, values: tuple[Any, ...]) -> None:
    found = sweep_of(*(10.0**-i for i in range(len(values))))
    points = tuple(replace(p, value=v) for p, v in zip(found.points, values, strict=True))
    figure = prediction_figures.sweep(replace(found, points=points))
    back, ahead = figure.axes
    assert back.get_yscale() == "log"
    assert (back.get_xscale() == "log") == (values == (1, 1000))
    assert list(back.lines[0].get_ydata()) == pytest.approx([10.0**-i for i in range(len(values))])
    assert ahead.get_xlabel() == "depth"
    theory_figures.save(figure, str(tmp_path / "sweep.svg"))
    assert (tmp_path / "sweep.svg").read_text().startswith("<?xml")


def test_a_figure_without_numbers() -> None:
    with pytest.raises(InputError, match="no point of the sweep has numbers"):
        prediction_figures.sweep(Sweep("width", (Point(3, error="no"),)))
