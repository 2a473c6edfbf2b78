"""The contract that every rule passes, whoever wrote it."""

import ast
import dataclasses
import inspect
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from threshold_readings import FURTHER

from isograd.findings import CAUSES, Finding, Severity
from isograd.records import EXPONENTS, Parameter, Reading, Record, Site
from isograd.rules import RULES, NotApplicable, Outcome, Passed, Rule
from isograd.rules._rule import HEADINGS

KEYS = Path(__file__).parents[2] / "docs" / "records.md"
ALL = list(RULES)

pytestmark = pytest.mark.parametrize("rule", ALL, ids=[rule.code for rule in ALL])


def documented_keys() -> tuple[set[str], set[str]]:
    """Series and facts that docs/records.md names."""
    text = KEYS.read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    keys = {key for cell in cells for key in re.findall(r"`([a-z_]+\.[a-z0-9_]+)`", cell)}
    forward = {key for key in keys if key.split(".")[0] == "forward"}
    backward = {key.replace("forward", "backward", 1) for key in forward}
    shares = {
        f"{way}.share_{form}_{end}"
        for way in ("forward", "backward")
        for form in ("fp16", "bf16", "fp8")
        for end in ("underflow", "overflow")
    }
    weights = {key for key in keys if key.startswith("weight.")}
    series = forward | backward | shares | weights | {"backward.time_decay", "backward.unit_sign"}
    return series, keys - series | {"norm.momentum", "norm.tracked", "norm.min_values"}


def record(sites: int, number: float | None, fact: Any) -> Record:
    """A record in which every series and every fact has one value."""
    series, facts = documented_keys()
    kinds = ("linear", "relu", "batch_norm", "add", "recurrent", "sigmoid", "conv", "layer_norm")
    places = tuple(
        Site(f"s{i}", kinds[i % len(kinds)], "X", i, (5, 7), (i - 1,) if i else (), (i,))
        for i in range(sites)
    )
    parameters = tuple(Parameter(f"p{i}", (7, 5), "linear") for i in range(sites))
    return Record(
        places,
        parameters,
        dict.fromkeys(series, (number,) * sites),
        {f"{way}.exponents": ((0,) * len(EXPONENTS),) * sites for way in ("forward", "backward")},
        dict.fromkeys(facts, fact),
    )


def odd_readings() -> Iterator[Reading]:
    """Readings that no network gives, and that a rule must survive."""
    yield Reading(Record(()))
    yield Reading(Record((), facts={"batch.size": 0}))
    for sites in (1, 9):
        for number in (None, 0.0, 1.0, -1.0, 1e30, 5e-324, math.nan, math.inf, -math.inf):
            look = record(sites, number, number)
            yield Reading(look)
            last = dataclasses.replace(look, step=7)
            yield Reading(look, history=(last,))
            losses = {"rehearsal.losses": [2.0, number, 1.0] * 20}
            yield Reading(look, history=(dataclasses.replace(last, facts=losses),))
    for fact in ("word", [], {}, [1, 2], {"op": None}, [[2], [3]], True):
        yield Reading(record(9, 1.0, fact))


def outline(outcome: Outcome) -> tuple[Any, ...]:
    """What a user would notice of an outcome, numbers in its text aside."""
    if isinstance(outcome, Finding):
        return outcome.severity, outcome.cause, len(outcome.sites)
    return (type(outcome),)


def test_names_itself_once(rule: Rule) -> None:
    assert re.fullmatch(r"IG\d{3}", rule.code)
    assert sum(other.code == rule.code for other in ALL) == 1
    assert isinstance(rule.rank, int)
    assert 0 <= rule.rank <= 70


def test_is_a_frozen_dataclass_of_thresholds(rule: Rule) -> None:
    assert dataclasses.is_dataclass(rule)
    assert type(rule).__dataclass_params__.frozen  # type: ignore[attr-defined]  # set by dataclass
    for field in dataclasses.fields(rule):
        assert field.default is not dataclasses.MISSING, field.name


def test_docstring_answers_the_four_questions(rule: Rule) -> None:
    sections = rule.sections()
    assert tuple(sections) == HEADINGS
    assert rule.title()
    assert len(rule.title()) <= 80
    for heading, text in sections.items():
        assert len(text.split()) >= 6, heading
        assert text.endswith("."), heading


def test_every_threshold_gives_its_reason(rule: Rule) -> None:
    tree = ast.parse(inspect.getsource(inspect.getmodule(type(rule))))  # type: ignore[arg-type]
    body = next(
        node.body
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == type(rule).__name__
    )
    explained = {
        node.target.id: after.value.value
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    for field in dataclasses.fields(rule):
        assert len(str(explained.get(field.name, "")).split()) >= 5, field.name


def test_finds_the_sick(rule: Rule) -> None:
    found = rule.judge(rule.sick())
    assert isinstance(found, Finding), found
    assert found.code == rule.code
    assert found.cause in CAUSES
    assert found.severity in Severity
    assert re.search(r"\d", found.message), found.message
    assert found.message.endswith("."), found.message
    assert found.evidence or found.sites
    assert found.remedies
    for remedy in found.remedies:
        assert len(remedy.split()) >= 2
        assert remedy.endswith("."), remedy


def test_passes_the_well(rule: Rule) -> None:
    outcome = rule.judge(rule.well())
    assert isinstance(outcome, Passed), outcome
    assert re.search(r"\d", outcome.reason), outcome.reason


def test_names_sites_that_exist(rule: Rule) -> None:
    reading = rule.sick()
    found = rule.judge(reading)
    assert isinstance(found, Finding)
    known = {
        site.name.split("#")[0] for look in (reading.seen, *reading.history) for site in look.sites
    }
    known |= {parameter.name for parameter in reading.seen.parameters}
    assert {name.split("#")[0] for name in found.sites} <= known


def test_explains_only_what_there_is(rule: Rule) -> None:
    codes = {other.code for other in ALL}
    assert set(rule.explains) <= codes
    for reading in (rule.sick(), *FURTHER.get(rule.code, ())):
        found = rule.judge(reading)
        if isinstance(found, Finding):
            assert set(found.explains) <= codes


def test_an_empty_record_gets_a_reason(rule: Rule) -> None:
    outcome = rule.judge(Reading(Record(())))
    assert isinstance(outcome, (NotApplicable, Passed)), outcome
    assert outcome.reason


def test_never_raises(rule: Rule) -> None:
    for reading in odd_readings():
        outcome = rule.judge(reading)
        if isinstance(outcome, Finding):
            assert outcome.message
            assert outcome.remedies
        else:
            assert outcome.reason


def test_is_silent_where_nothing_was_measured(rule: Rule) -> None:
    outcome = rule.judge(Reading(record(9, None, None)))
    severe = isinstance(outcome, Finding) and outcome.severity.reaches(Severity.WARNING)
    assert not severe, outcome


def test_every_threshold_decides_something(rule: Rule) -> None:
    readings = [rule.sick(), rule.well(), *FURTHER.get(rule.code, ())]
    before = [outline(rule.judge(reading)) for reading in readings]
    for field in dataclasses.fields(rule):
        if not isinstance(field.default, (int, float)):
            continue
        kind = type(field.default)
        extremes = (kind(field.default * 1e-9), kind(field.default * 1e9))
        after = [
            [outline(dataclasses.replace(rule, **{field.name: value}).judge(r)) for r in readings]
            for value in extremes
        ]
        assert any(found != before for found in after), f"{field.name} changes nothing"
