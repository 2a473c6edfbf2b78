"""Measured beside predicted: real networks that hide something, and readings made by hand."""

from dataclasses import replace

import pytest

import isograd
from isograd.findings import Finding, Severity
from isograd.records import Reading, Record, Site
from isograd.rules import RULES, NotApplicable, Outcome, Passed
from isograd.rules._beside import deviations
from isograd.rules._examples import chain
from isograd.rules.beside_prediction import _example as beside
from isograd.rules.shared_values import parted
from patients.hidden import HIDDEN, OPEN


def judged(code: str, reading: Reading) -> Outcome:
    return RULES[code].judge(reading)


def found(reading: Reading) -> Finding:
    outcome = judged("IG701", reading)
    assert isinstance(outcome, Finding), outcome
    return outcome


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_hidden_is_found(name: str) -> None:
    case = HIDDEN[name]
    patient = case.build()
    finding = found(isograd.check(patient.model, patient.batch).reading)
    assert finding.sites[0] == case.site, finding.message
    assert finding.severity.value == case.severity, finding.message
    assert case.says in finding.message


@pytest.mark.parametrize("name", OPEN)
def test_what_the_code_says_is_predicted(name: str) -> None:
    patient = OPEN[name]()
    reading = isograd.check(patient.model, patient.batch).reading
    assert reading.expected is not None, reading.seen.notes
    assert isinstance(judged("IG701", reading), Passed)


def test_the_first_site_is_named_and_what_follows_is_not() -> None:
    finding = found(beside(30.0, at=6))
    assert finding.sites == ("layers.3",)
    assert finding.evidence["factor"] == pytest.approx(30.0)
    assert "acts.2, is as predicted" in finding.message
    back = found(beside(30.0, way="backward", at=6))
    assert back.sites == ("layers.3",)
    assert "at acts.3, is as predicted" in back.message


def test_only_what_has_no_weights_is_a_warning() -> None:
    assert found(beside(30.0, at=6)).severity is Severity.INFO  # a weight layer
    assert found(beside(30.0, at=7)).severity is Severity.WARNING  # its tanh
    assert found(beside(5.0, at=7)).severity is Severity.INFO
    # The gradient at a layer comes through what reads it.
    assert found(beside(30.0, at=6, way="backward")).severity is Severity.WARNING
    assert found(beside(30.0, at=7, way="backward")).severity is Severity.INFO


def test_a_wide_band_is_silent() -> None:
    assert isinstance(judged("IG701", beside(30.0, band=1.0)), Passed)


def test_a_deviation_that_builds_up_has_no_beginning() -> None:
    reading = beside(1.0)
    rms = [x * 1.15**i for i, x in reading.seen.pairs("forward.rms")]
    assert rms[-1] > 2 * reading.seen.series["forward.rms"][-1]
    seen = replace(reading.seen, series={**reading.seen.series, "forward.rms": tuple(rms)})
    assert isinstance(judged("IG701", replace(reading, seen=seen)), Passed)


def with_column(reading: Reading, key: str, column: list[float]) -> Reading:
    assert reading.expected is not None
    series = {**reading.expected.series, key: tuple(column)}
    return replace(reading, expected=replace(reading.expected, series=series))


def test_behind_a_sampled_operation_nothing_is_said() -> None:
    count = len(beside(1.0).seen.sites)
    for start, outcome in ((4, Passed), (6, Passed), (7, Finding)):
        column = [float(i >= start) for i in range(count)]
        reading = with_column(beside(30.0, at=6), "forward.sampled", column)
        assert isinstance(judged("IG701", reading), outcome)


def test_silence_where_no_number_is_predictable() -> None:
    reading = beside(30.0)
    assert reading.expected is not None
    facts = {"prediction.condition": 40.0, "prediction.predictable": False}
    outcome = judged("IG701", replace(reading, expected=replace(reading.expected, facts=facts)))
    assert isinstance(outcome, NotApplicable)
    assert "40 times" in outcome.reason


def test_a_trained_network_is_left_alone() -> None:
    reading = beside(30.0)
    facts = {**reading.seen.facts, "loss.value": 0.1, "loss.chance": 2.3, "batch.size": 64}
    outcome = judged("IG701", replace(reading, seen=replace(reading.seen, facts=facts)))
    assert isinstance(outcome, NotApplicable)


def test_without_both_there_is_nothing_to_compare() -> None:
    reading = beside(30.0)
    assert reading.expected is not None
    assert isinstance(judged("IG701", replace(reading, expected=None)), NotApplicable)
    assert isinstance(judged("IG701", Reading(reading.expected)), NotApplicable)
    assert isinstance(judged("IG701", Reading(reading.expected, reading.seen)), NotApplicable)


def test_sites_are_matched_by_their_names() -> None:
    """The prediction may have taken another way through the code."""
    seen = chain(3, series={"forward.rms": [1.0, 2.0, 3.0]})
    names = [replace(site, name=f"other.{i}") for i, site in enumerate(seen.sites)]
    other = replace(seen, sites=(*names[:-1], seen.sites[-1]))
    series = {"forward.rms": (9.0,) * 4 + (1.5,), "forward.band": (0.1,) * 5}
    (one,) = deviations(seen, replace(other, series=series), "forward").values()
    assert (one.site, one.measured, one.predicted) == (4, 3.0, 1.5)


def test_copied_layers_are_told_with_what_to_do() -> None:
    groups = [
        [f"encoder.layers.{i}.{end}" for i in range(6)] for end in ("linear1.weight", "norm.bias")
    ]
    record = Record(
        (Site("a", "linear", "Linear", 1, (2, 3)),), facts={"prediction.same_values": groups}
    )
    finding = judged("IG702", Reading(record, replace(record, source="predicted")))
    assert isinstance(finding, Finding)
    assert finding.message.startswith(
        "6 layers share their initial values: encoder.layers.0, encoder.layers.1 … encoder.layers.5"
    )
    assert "12 of 0 parameters" in finding.message


def test_copies_are_seen_in_a_prediction_alone_and_beside_a_measurement() -> None:
    import torch
    from torch import nn

    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    x = torch.randn(5, 7, 16)
    for reading in (isograd.check(model, x).reading, Reading(isograd.predict(model, x))):
        finding = judged("IG702", reading)
        assert isinstance(finding, Finding)
        assert finding.evidence["layers"] == ["layers.0", "layers.1", "layers.2"]
    assert isinstance(judged("IG702", isograd.check(nn.Linear(16, 3), x).reading), Passed)
    assert isinstance(
        judged("IG702", isograd.check(model, x, predict=False).reading), NotApplicable
    )


def test_names_are_parted_where_they_differ() -> None:
    assert parted(["a.0.fc.weight", "a.1.fc.weight"]) == (("a.0", "a.1"), "fc.weight")
    assert parted(["weight", "fc.weight"]) == (("weight", "fc.weight"), "")
    assert parted(["a.weight", "b.bias"]) == (("a.weight", "b.bias"), "")
