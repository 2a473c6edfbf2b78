"""Inputs, targets, losses, labels and rehearsals: where the lines run."""

import math
from dataclasses import replace

import pytest
from threshold_readings import (
    FLAT,
    batch,
    large_head,
    narrow_logits,
    squared_sigmoids,
    targets,
    unabsorbed,
)

from isograd.diagnosis import diagnose
from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules import RULES, NotApplicable, Outcome, Passed
from isograd.rules._examples import chain, with_history
from isograd.rules.divergence import Divergence
from isograd.rules.initial_loss import InitialLoss, _loss
from isograd.rules.inputs import Inputs, _batch
from isograd.rules.labels import Labels
from isograd.rules.loss_broadcast import LossBroadcast
from isograd.rules.loss_pairing import LossPairing
from isograd.rules.output_activation import OutputActivation
from isograd.rules.plateau import Plateau, _rehearsed
from isograd.rules.targets import Targets, _regression

FALLING = [2.3 * 0.97**k for k in range(80)]


def cause(outcome: Outcome) -> str | None:
    return outcome.cause if isinstance(outcome, Finding) else None


def severity(outcome: Outcome) -> Severity | None:
    return outcome.severity if isinstance(outcome, Finding) else None


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (0.0, 1.0, None),  # standardized
        (0.13, 0.31, None),  # pixels in 0..1
        (4.9, 6.0, None),  # digits in 0..16
        (33.3, 78.6, Severity.ERROR),  # raw pixels
        (12.0, 8.0, Severity.WARNING),
        (1e-3, 2e-3, Severity.WARNING),
        (5.0, 0.1, Severity.WARNING),  # an offset
    ],
)
def test_inputs(mean: float, std: float, expected: Severity | None) -> None:
    assert severity(Inputs().judge(_batch(mean, std, mean - std, mean + std))) is expected


def test_a_norm_behind_the_first_layer_takes_the_scale_up() -> None:
    look = replace(_batch(33.3, 78.6, 0, 255).seen, sites=chain(3, activation="batch_norm").sites)
    assert severity(Inputs().judge(Reading(look))) is Severity.INFO


def test_a_model_that_scales_its_input_itself_is_fine() -> None:
    scaled = chain(3, series={"forward.rms": 0.5, "weight.gain": 1.4})
    facts = _batch(33.3, 78.6, 0.0, 255.0).seen.facts
    assert isinstance(Inputs().judge(Reading(replace(scaled, facts=facts))), Passed)


def test_rare_pixels_are_not_taken_for_uneven_columns() -> None:
    assert isinstance(Inputs().judge(batch(feature_std_ratio=900.0, feature_offset=80.0)), Passed)
    assert isinstance(Inputs().judge(batch(feature_std_ratio=2e5)), Finding)


def test_what_learns_all_the_same_is_only_worth_knowing() -> None:
    look = _batch(12.0, 8.0, 0.0, 30.0).seen
    reading = with_history(look, replace(look, step=80), losses=FALLING)
    assert severity(Inputs().judge(reading)) is Severity.INFO


def test_a_constant_batch_is_a_data_bug() -> None:
    assert cause(Inputs().judge(_batch(1.0, 0.0, 1.0, 1.0))) == "data-bug"
    ids = Reading(chain(2, facts={"batch.kind": "ids"}))
    assert isinstance(Inputs().judge(ids), NotApplicable)


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (0.0, 1.0, None),
        (3.0, 1.0, None),
        (3.0, 4.0, None),
        (152.0, 77.0, Severity.ERROR),
        (0.0, 20.0, Severity.WARNING),
        (0.0, 1e-3, Severity.WARNING),
    ],
)
def test_targets(mean: float, std: float, expected: Severity | None) -> None:
    assert severity(Targets().judge(_regression(mean=mean, std=std))) is expected


def test_targets_that_the_outputs_have_reached_are_fine() -> None:
    look = _regression(mean=152.0, std=77.0).seen
    fits = replace(look, facts={**look.facts, "output.rms": 140.0})
    assert isinstance(Targets().judge(Reading(fits)), Passed)


@pytest.mark.parametrize("value", [-2.31, -1.0, -9.0])
def test_a_loss_with_its_sign_turned_is_told(value: float) -> None:
    finding = InitialLoss().judge(_loss(value, kind="cross_entropy", chance=2.303))
    assert severity(finding) is Severity.ERROR
    assert isinstance(finding, Finding)
    assert finding.cause == "loss-mismatch"


@pytest.mark.parametrize(
    ("value", "kind"), [(-0.1, "cross_entropy"), (-2.31, "nll"), (-2.3, "bce")]
)
def test_other_negative_losses_are_not(value: float, kind: str) -> None:
    assert not isinstance(InitialLoss().judge(_loss(value, kind=kind, chance=2.303)), Finding)


def test_initial_loss_of_a_sum_is_judged_per_sample() -> None:
    reading = _loss(16 * 2.4, kind="cross_entropy", chance=2.303, **{"loss.summed": True})
    assert severity(InitialLoss().judge(reading)) is Severity.INFO
    fast = replace(reading.seen, series={"weight.update_ratio": (0.8,) * 3})
    finding = InitialLoss().judge(Reading(fast))
    assert (severity(finding), cause(finding)) == (Severity.WARNING, "lr-too-high")


def test_a_sum_over_samples_and_outputs() -> None:
    facts = {"loss.summed": True, "output.shape": [16, 5], "target.mean": 0.0, "target.std": 1.0}
    reading = _loss(16 * 5 * 1.2, kind="mse", chance=1.0, **facts)
    assert severity(InitialLoss().judge(reading)) is Severity.INFO
    fast = replace(reading.seen, series={"weight.update_ratio": (0.8,) * 3})
    assert severity(InitialLoss().judge(Reading(fast))) is Severity.WARNING
    adam = replace(fast, facts={**fast.facts, "optimizer.adaptive": True})
    assert severity(InitialLoss().judge(Reading(adam))) is Severity.INFO


def test_a_large_start_that_a_training_does_not_absorb_is_a_warning() -> None:
    assert severity(InitialLoss().judge(unabsorbed(60.0))) is Severity.WARNING
    assert severity(InitialLoss().judge(unabsorbed(5.0))) is Severity.INFO
    assert severity(InitialLoss().judge(Reading(unabsorbed(60.0).seen))) is Severity.INFO


def test_a_norm_does_not_absorb_what_the_last_layer_makes_large() -> None:
    assert severity(InitialLoss().judge(large_head(60.0))) is Severity.WARNING
    assert severity(InitialLoss().judge(large_head(3.0))) is Severity.INFO


@pytest.mark.parametrize(
    ("classes", "least"), [(2, math.log(1 + math.exp(-2))), (10, math.log(1 + 9 * math.exp(-2)))]
)
def test_logits_between_minus_one_and_one_leave_a_loss(classes: int, least: float) -> None:
    outcome = OutputActivation().judge(narrow_logits(classes))
    if classes == 2:
        assert isinstance(outcome, Passed)
    else:
        assert isinstance(outcome, Finding)
        assert outcome.evidence["least"] == pytest.approx(least)
        scaled = narrow_logits(classes).seen
        scaled = replace(scaled, facts={**scaled.facts, "output.max": 7.0})
        assert isinstance(OutputActivation().judge(Reading(scaled)), Passed)


def test_a_softmax_over_the_samples() -> None:
    facts = {"loss.kind": "nll", "loss.input_ops": ["log_softmax", "nll_loss"], "batch.size": 16}
    facts |= {"output.shape": [16, 10], "output.softmax_axis": 0, "output.softmax_width": 16}
    assert cause(LossPairing().judge(Reading(chain(3, facts=facts)))) == "loss-mismatch"
    along = chain(3, facts={**facts, "output.softmax_axis": 1, "output.softmax_width": 10})
    assert isinstance(LossPairing().judge(Reading(along)), Passed)
    steps_first = chain(3, facts={**facts, "output.shape": [20, 16, 10]})
    assert isinstance(LossPairing().judge(Reading(steps_first)), Passed)


def test_branches_as_large_as_their_stream_explain_a_large_start() -> None:
    reading = _loss(40.0, kind="cross_entropy", chance=2.303)
    assert cause(InitialLoss().judge(reading)) == "init-too-large"
    adds = replace(reading.seen, series={"forward.branch_ratio": (None, 0.9, None, 1.1, None)})
    assert cause(InitialLoss().judge(Reading(adds))) == "unscaled-residual"


def test_an_offset_of_the_targets_is_no_fault_of_the_initialization() -> None:
    facts = {"target.mean": 3.0, "target.std": 1.0}
    reading = _loss(10.2, kind="mse", chance=1.0, **facts)
    assert isinstance(InitialLoss().judge(reading), Passed)


@pytest.mark.parametrize(
    ("kind", "ops", "found"),
    [
        ("cross_entropy", ["softmax", "cross_entropy"], Severity.ERROR),
        ("cross_entropy", ["log_softmax", "cross_entropy"], Severity.INFO),
        ("cross_entropy", ["sigmoid", "cross_entropy"], Severity.ERROR),
        ("cross_entropy", ["cross_entropy"], None),
        ("cross_entropy", ["softmax", "clamp_min", "log", "cross_entropy"], None),
        ("cross_entropy", ["log", "softmax", "cross_entropy"], Severity.ERROR),
        ("cross_entropy", ["sigmoid", "logit", "cross_entropy"], None),
        ("bce_logits", ["sigmoid", "binary_cross_entropy_with_logits"], Severity.ERROR),
        ("nll", ["nll_loss"], Severity.ERROR),
        ("nll", ["softmax", "log", "nll_loss"], None),
        ("kl", ["softmax", "kl_div"], Severity.ERROR),
        ("bce", ["sigmoid", "clamp", "log"], None),
        ("mse", ["softmax", "mse_loss"], None),
    ],
)
def test_loss_pairing(kind: str, ops: list[str], found: Severity | None) -> None:
    facts = {"loss.kind": kind, "loss.input_ops": ops, "output.min": -2.0, "output.max": 2.0}
    assert severity(LossPairing().judge(Reading(chain(3, facts=facts)))) is found


def test_logarithms_of_probabilities_suit_a_divergence() -> None:
    facts = {"loss.kind": "kl", "loss.input_ops": [], "output.min": -9.0, "output.max": -1e-8}
    assert isinstance(LossPairing().judge(Reading(chain(3, facts=facts))), Passed)


def test_softmax_over_one_unit_is_constant_whatever_the_loss() -> None:
    for kind in ("bce", "mse", "l1", "cross_entropy"):
        facts = {"loss.kind": kind, "loss.input_ops": ["softmax"], "output.softmax_width": 1}
        assert cause(LossPairing().judge(Reading(chain(3, facts=facts)))) == "loss-mismatch"


def test_one_class_has_nothing_to_choose_from() -> None:
    facts = {"loss.kind": "cross_entropy", "target.classes": 1, "loss.input_ops": []}
    assert cause(LossPairing().judge(Reading(chain(3, facts=facts)))) == "loss-mismatch"


@pytest.mark.parametrize(
    ("activation", "low", "high", "expected"),
    [
        ("relu", 0.0, 9.0, None),
        ("relu", -3.0, 9.0, "output-activation"),
        ("tanh", 1.5, 4.9, "output-activation"),
        ("tanh", -0.9, 0.9, None),
        ("sigmoid", 0.0, 1.0, None),
        ("softplus", -1.0, 1.0, "output-activation"),
        ("gelu", -3.0, 9.0, None),
    ],
)
def test_output_activation(activation: str, low: float, high: float, expected: str | None) -> None:
    facts = {
        "loss.kind": "mse",
        "loss.input_site": 3,
        "target.kind": "real",
        "target.min": low,
        "target.max": high,
    }
    look = chain(3, activation=activation, facts=facts)
    assert cause(OutputActivation().judge(Reading(look))) == expected


@pytest.mark.parametrize(
    ("steps", "level", "told"),
    [
        (40, 0.1, Severity.WARNING),
        (40, 0.088, Severity.INFO),  # slowly, but from its inputs
        (20, 0.1, Severity.INFO),
    ],
)
def test_sigmoids_under_a_squared_error_that_teaches_nothing_are_to_blame(
    steps: int, level: float, told: Severity
) -> None:
    reading = squared_sigmoids(steps, level=level)
    assert severity(OutputActivation().judge(reading)) is told
    assert severity(OutputActivation().judge(Reading(reading.seen))) is Severity.INFO


def test_an_output_that_is_scaled_afterwards_is_not_judged() -> None:
    look = OutputActivation.sick().seen
    scaled = replace(
        look,
        series={**look.series, "forward.max": (1.0,) * len(look.sites)},
        facts={**look.facts, "output.max": 10.0},
    )
    assert isinstance(OutputActivation().judge(Reading(scaled)), Passed)


def test_pairs_on_purpose_are_only_worth_knowing() -> None:
    look = chain(2, facts={"loss.value": 1.0, "loss.broadcast": [[8, 1, 3], [1, 8, 3]]})
    assert severity(LossBroadcast().judge(Reading(look))) is Severity.INFO
    same = chain(2, facts={"loss.value": 1.0, "loss.broadcast": [[8, 3], [3]]})
    assert isinstance(LossBroadcast().judge(Reading(same)), Passed)


def test_labels() -> None:
    judge = Labels().judge
    constant = targets(kind="class", min=0.0, max=0.0, distinct=1)
    assert (severity(judge(constant)), cause(judge(constant))) == (Severity.WARNING, "data-bug")
    beyond = targets(kind="class", min=1.0, max=10.0, distinct=10, out_of_range=6, classes=10)
    assert (severity(judge(beyond)), cause(judge(beyond))) == (Severity.ERROR, "data-bug")
    assert cause(judge(targets(kind="class", min=0.0, max=9.0, distinct=10))) is None
    assert cause(judge(Labels.sick())) == "loss-mismatch"


def test_a_wrong_loss_comes_before_raw_inputs() -> None:
    look = Labels.sick().seen
    raw = _batch(33.3, 78.6, 0.0, 255.0).seen.facts
    diagnosis = diagnose(replace(look, facts={**raw, **look.facts}))
    assert [finding.code for finding in diagnosis.findings[:2]] == ["IG608", "IG601"]


def test_a_plateau_is_a_remark_until_something_explains_it() -> None:
    assert severity(Plateau().judge(_rehearsed(FLAT, spread=0.5))) is Severity.INFO
    assert severity(Plateau().judge(_rehearsed(FLAT * 3, spread=0.5))) is Severity.WARNING
    assert cause(Plateau().judge(_rehearsed(FLAT, spread=1e-6))) == "lr-too-high"


def test_weights_that_have_hardly_moved_explain_a_plateau() -> None:
    for update, found in ((5e-5, "lr-too-low"), (5e-4, "optimizer-hyperparameter")):
        reading = _rehearsed(FLAT, spread=0.5)  # 80 steps: 0.4 % and 4 % of their size
        series = {"weight.update_ratio": tuple(update for _ in reading.seen.parameters)}
        moved = replace(reading, seen=replace(reading.seen, series=series))
        assert cause(Plateau().judge(moved)) == found


@pytest.mark.parametrize(
    ("rate", "momentum", "chance", "found"),
    [
        (0.5, 0.9, 2.303, "lr-too-high"),
        (0.1, 0.9, 2.303, "optimizer-hyperparameter"),
        (0.5, 0.9, None, "optimizer-hyperparameter"),  # of an unknown loss, where it ends
    ],
)
def test_a_bold_rate_explains_a_plateau(
    rate: float, momentum: float, chance: float | None, found: str
) -> None:
    reading = _rehearsed(FLAT, spread=0.5)
    facts = {"optimizer.name": "SGD", "optimizer.lr": rate, "optimizer.momentum": momentum}
    facts |= {"loss.chance": chance}
    told = Plateau().judge(
        replace(reading, seen=replace(reading.seen, facts={**reading.seen.facts, **facts}))
    )
    assert isinstance(told, Finding)
    assert told.cause == found
    if found == "lr-too-high":
        assert told.severity is Severity.WARNING
        assert "the learning rate is 0.5, which momentum adds up to 5" in told.message
        assert told.remedies[0].startswith("Lower the learning rate from 0.5")
        assert not any("higher" in advice for advice in told.remedies)


def test_a_plateau_of_weights_that_have_moved_enough_is_the_datas() -> None:
    assert cause(Plateau().judge(_rehearsed(FLAT, spread=0.5))) == "optimizer-hyperparameter"
    assert cause(Plateau().judge(_rehearsed(FLAT * 3, spread=0.5))) == "data-bug"


def test_a_plateau_names_the_value_it_stands_at() -> None:
    outcome = Plateau().judge(_rehearsed([5.4, 3.1, *FLAT], spread=0.5))
    assert isinstance(outcome, Finding)
    assert "the loss of a constant answer is 2.3" in outcome.message


def test_what_falls_or_has_arrived_is_no_plateau() -> None:
    noisy = [2.3 - 0.004 * k + 0.02 * math.sin(7 * k) for k in range(80)]
    assert isinstance(Plateau().judge(_rehearsed(noisy, spread=0.5)), Passed)
    arrived = [0.3 + 0.01 * math.sin(7 * k) for k in range(80)]
    assert isinstance(Plateau().judge(_rehearsed([2.3, 1.2, *arrived], spread=0.5)), Passed)
    assert isinstance(Plateau().judge(_rehearsed(FLAT[:20], spread=0.5)), NotApplicable)


def test_divergence() -> None:
    def judged(losses: list[float]) -> Outcome:
        return Divergence().judge(with_history(chain(3), chain(3, step=9), losses=losses))

    assert cause(judged([2.3, 9.0, 80.0, math.nan])) == "lr-too-high"
    assert isinstance(judged([2.3, 30.0, 2.2, 2.1, 2.0, 1.9]), Passed)
    assert isinstance(judged([math.nan]), NotApplicable)


def test_a_batch_without_samples_is_told() -> None:
    look = chain(2, facts={"batch.size": 0})
    finding = RULES["IG601"].judge(Reading(look))
    assert isinstance(finding, Finding)
    assert "0 samples" in finding.message


def test_a_loss_summed_over_features_has_its_own_chance() -> None:
    facts = {
        "batch.size": 16,
        "output.shape": [16, 784],
        "loss.kind": "bce_logits",
        "loss.chance": math.log(2),
        "loss.value": 784 * math.log(2),
    }
    finding = RULES["IG603"].judge(Reading(chain(2, facts=facts)))
    assert not isinstance(finding, Finding) or finding.severity is Severity.INFO
    large = {**facts, "loss.value": 784 * 20 * math.log(2)}
    assert RULES["IG603"].judge(Reading(chain(2, facts=large))).severity is Severity.WARNING
