"""Gradient: vanishing, exploding, cut off, one-sided."""

from dataclasses import replace

import pytest

from isograd.diagnosis import diagnose
from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules import RULES, Passed
from isograd.rules._examples import chain, with_history


def judged(code: str, reading: Reading) -> Finding:
    outcome = RULES[code].judge(reading)
    assert isinstance(outcome, Finding), outcome
    return outcome


def learning(reading: Reading) -> Reading:
    losses = [2.3 - 0.04 * k for k in range(30)]
    return with_history(reading.seen, replace(reading.seen, step=30), losses=losses)


def still(reading: Reading) -> Reading:
    losses = [2.303 + 0.003 * (-1) ** k for k in range(30)]
    return with_history(reading.seen, replace(reading.seen, step=30), losses=losses)


@pytest.mark.parametrize("code", ["IG101", "IG102", "IG201", "IG202", "IG302", "IG303", "IG304"])
def test_a_rehearsal_decides(code: str) -> None:
    sick = RULES[code].sick()
    assert judged(code, sick).severity is Severity.WARNING
    assert judged(code, learning(sick)).severity is Severity.INFO
    assert judged(code, still(sick)).severity is Severity.ERROR


def test_vanishing_is_told_with_its_rate_and_cause() -> None:
    found = judged("IG101", RULES["IG101"].sick())
    assert found.cause == "saturating-activation"
    assert "x0.24 per layer" in found.message
    assert found.sites[0] == "layers.0"


def test_three_sigmoid_layers_pass_and_six_do_not() -> None:
    for depth, sound in ((4, True), (7, False)):
        rms = [0.24 ** (depth - 1 - i) for i in range(depth)]
        record = chain(
            depth, activation="sigmoid", series={"backward.rms": rms, "backward.count": 64.0}
        )
        assert isinstance(RULES["IG101"].judge(Reading(record)), Passed) is sound


def test_an_adaptive_optimizer_rescues_what_is_lost_backward_alone() -> None:
    seen = RULES["IG101"].sick().seen
    seen = replace(seen, facts={**seen.facts, "optimizer.adaptive": True})
    found = judged("IG101", Reading(seen))
    assert found.severity is Severity.INFO
    assert found.explains == ()


def test_chance_at_finite_width_is_no_news() -> None:
    seen = RULES["IG101"].sick().seen
    wide = {**seen.series, "backward.band": (5.0,) * len(seen.sites)}
    assert isinstance(RULES["IG101"].judge(Reading(replace(seen, series=wide))), Passed)


@pytest.mark.parametrize(
    ("facts", "cause", "severity"),
    [
        ({"model.unreached": ["layers.0.weight"]}, "graph-cut", Severity.ERROR),
        ({"optimizer.missing": ["layers.2.weight"]}, "frozen-parameters", Severity.ERROR),
        ({"model.unused": ["spare"]}, "frozen-parameters", Severity.INFO),
    ],
)
def test_unreached(facts: dict[str, list[str]], cause: str, severity: Severity) -> None:
    found = judged("IG103", Reading(chain(3, facts=facts)))
    assert (found.cause, found.severity) == (cause, severity)
    assert next(iter(facts.values()))[0] in found.message


@pytest.mark.parametrize(
    ("module", "place"), [("", "`detach` after acts.1"), ("head", "`detach` in head")]
)
def test_a_cut_is_placed_by_a_name(module: str, place: str) -> None:
    cut = {"op": "detach", "site": 3, "module": module}
    facts = {"model.unreached": ["layers.0.weight"], "graph.cuts": [cut]}
    found = judged("IG103", Reading(chain(3, facts=facts)))
    assert f"the graph is cut by {place}." in found.message
    assert found.remedies[0].startswith(f"Remove {place}, or the no_grad() around it")


def test_freezing_a_part_is_fine_and_freezing_all_is_not() -> None:
    record = chain(3)
    some = (replace(record.parameters[0], trainable=False), *record.parameters[1:])
    assert isinstance(RULES["IG103"].judge(Reading(replace(record, parameters=some))), Passed)
    every = tuple(replace(p, trainable=False) for p in record.parameters)
    found = judged("IG103", Reading(replace(record, parameters=every)))
    assert found.cause == "frozen-parameters"


def test_zigzag_never_worries() -> None:
    assert judged("IG104", still(RULES["IG104"].sick())).severity is Severity.INFO


def test_one_cause_is_one_finding() -> None:
    depth = 15
    series = {
        "weight.gain": 0.577,
        "weight.gain_fit": 1.414,
        "weight.gain_slope": 1.414,
        "weight.fan_in": 41.0,
        "weight.fan_out": 37.0,
        "forward.spread": [0.5 * 0.408**i for i in range(depth)],
        "forward.rms": [0.6 * max(0.408**i, 0.1) for i in range(depth)],
        "backward.rms": [0.408 ** (depth - 1 - i) for i in range(depth)],
        "backward.count": 640.0,
        "weight.update_ratio": [1e-3 * 0.408 ** (depth - 1 - i) for i in range(depth)],
        "weight.rms": 0.09,
    }
    codes = ("IG1", "IG2", "IG3")
    loud = [
        f
        for f in diagnose(chain(depth, series=series), select=codes).findings
        if f.severity.reaches(Severity.WARNING)
    ]
    assert [f.cause for f in loud] == ["gain-mismatch"]
    assert {f.code for f in loud[0].symptoms} >= {"IG101", "IG201", "IG304"}
