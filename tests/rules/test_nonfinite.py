"""Why the first non-finite value appeared, told from what went in."""

import math
from dataclasses import replace

import pytest
from threshold_readings import broken_weights, log_of_weights, overflow

from isograd.diagnosis import diagnose
from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules import Passed
from isograd.rules._examples import chain
from isograd.rules.nonfinite import Nonfinite


def event(op: str, low: float, high: float, **more: object) -> dict[str, object]:
    inputs = [{"min": low, "max": high, "nonfinite": 0, "zeros": 2}]
    return {"op": op, "module": "acts.1", "site": 1, "inputs": inputs, "count": 3, **more}


def found(reading: Reading | Record) -> Finding:
    outcome = Nonfinite().judge(Reading(reading) if isinstance(reading, Record) else reading)
    assert isinstance(outcome, Finding), outcome
    return outcome


def look(way: str, what: dict[str, object], **facts: object) -> Record:
    facts = {f"event.{way}": what, "loss.value": math.nan, **facts}
    return chain(3, series={"weight.grad_nonfinite": 4.0}, facts=facts)


@pytest.mark.parametrize("op", ["sqrt", "log", "div", "pow"])
def test_ordinary_numbers_in_is_a_local_fault(op: str) -> None:
    finding = found(look("forward", event(op, -3.0, 2.0)))
    assert finding.cause == "local-nan"
    assert "`" + op + "` in acts.1" in finding.remedies[0]
    assert "[-3, 2] with 2 zeros" in finding.message


@pytest.mark.parametrize(("phase", "place"), [("model", "the model itself"), ("loss", "the loss")])
def test_an_operation_of_no_submodule_is_told_from_one_of_the_loss(phase: str, place: str) -> None:
    finding = found(look("forward", event("log", -3.0, 2.0, module="", phase=phase)))
    assert f"`log` in {place}:" in finding.message


def test_the_trap_of_where_is_found_in_the_backward_pass() -> None:
    finding = found(look("backward", event("sqrt", -5.7, 6.0), **{"loss.value": 2.7}))
    assert (finding.cause, finding.evidence["direction"]) == ("local-nan", "backward")
    assert "torch.where" in finding.remedies[1]


def test_a_gradient_that_is_dropped_again_is_only_worth_knowing() -> None:
    facts = {"event.backward": event("sqrt", 0.0, 6.0), "loss.value": 2.7}
    finding = found(chain(3, series={"weight.grad_nonfinite": 0.0}, facts=facts))
    assert finding.severity is Severity.INFO


def test_a_mask_of_infinities_passes() -> None:
    facts = {"event.forward": event("masked_fill", -1.0, 1.0), "loss.value": 2.7}
    look = chain(3, series={"weight.grad_nonfinite": 0.0}, facts=facts)
    assert isinstance(Nonfinite().judge(Reading(look)), Passed)


def test_large_numbers_overflow_float16_first() -> None:
    assert found(overflow(dtype="float16", peak=3e4)).cause == "precision"
    assert found(overflow(dtype="torch.float32", peak=3e4)).cause == "local-nan"
    assert found(overflow(dtype="bfloat16", peak=1e25)).cause == "init-too-large"


def test_an_overflow_names_what_amplified() -> None:
    bare = chain(3, facts={"event.forward": event("add", 0, 1e30), "loss.value": math.inf})
    assert found(bare).cause == "exploding-activation"
    assert found(overflow(dtype="float32", peak=1e30)).cause == "init-too-large"
    facts = {"event.forward": {**event("rnn_relu", 0, 1e30), "site": 0}, "loss.value": math.inf}
    assert found(chain(2, kind="recurrent", facts=facts)).cause == "recurrent-jacobian"


def test_after_steps_a_loss_that_swelled_blames_the_learning_rate() -> None:
    assert found(broken_weights(losses=[2.3, 40.0, math.nan])).cause == "lr-too-high"
    assert found(broken_weights(losses=[2.3, 2.2, math.nan])).cause == "local-nan"
    assert found(log_of_weights()).cause == "lr-too-high"


@pytest.mark.parametrize(("largest", "cause"), [(0.3, "local-nan"), (1e25, "lr-too-high")])
def test_a_first_update_that_makes_nan_of_ordinary_gradients_is_a_local_fault(
    largest: float, cause: str
) -> None:
    # The largest finite float32 is 3e38: with gradients of 0.3 a rate of 1e38 would be it.
    broken = broken_weights(losses=[3.19])
    seen = chain(3, series={"weight.grad_rms": largest})
    assert found(replace(broken, seen=seen)).cause == cause
    assert found(broken).cause == "lr-too-high"  # nothing is known of its gradients


def test_a_weight_that_is_broken_from_the_start_is_a_data_bug() -> None:
    what = event("linear", -1.0, 1.0)
    what["inputs"] = [{"min": None, "max": None, "nonfinite": 9}]
    assert found(look("forward", what)).cause == "data-bug"


def test_a_broken_batch_is_reported_as_such() -> None:
    finding = found(chain(2, facts={"batch.nonfinite": 12, "batch.shape": [16, 48]}))
    assert finding.cause == "data-bug"
    assert "12 of 768 entries" in finding.message


def test_without_an_event_the_columns_tell_the_site() -> None:
    series = {"forward.nonfinite": (0.0, 5.0, 7.0), "forward.max": 2.0, "forward.min": 0.0}
    finding = found(chain(3, series=series, facts={"loss.value": math.nan}))
    assert finding.sites == ("layers.1",)


def test_what_follows_is_folded_into_it() -> None:
    diagnosis = diagnose(Nonfinite.sick())
    assert diagnosis.findings[0].code == "IG401"
    assert "IG609" in [symptom.code for symptom in diagnosis.findings[0].symptoms]


def test_a_broken_parameter_is_named() -> None:
    look = chain(3, series={"weight.nonfinite": (0.0, 7.0, 0.0)})
    finding = Nonfinite().judge(Reading(look))
    assert isinstance(finding, Finding)
    assert finding.sites == ("layers.1.weight",)
    assert "7 entries" in finding.message
