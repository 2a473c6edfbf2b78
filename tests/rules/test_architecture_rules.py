"""Norms, recurrence and formats: where the lines run."""

from dataclasses import replace

import pytest
from threshold_readings import FLAT, collapsed, forgetful, plain_stack, stuck, unrolled

from isograd.findings import Finding, Severity
from isograd.records import Reading, Site
from isograd.rules import NotApplicable, Outcome, Passed
from isograd.rules._examples import chain, with_history
from isograd.rules.batch_norm_values import BatchNormValues
from isograd.rules.format_range import FormatRange
from isograd.rules.norm_placement import NormPlacement, post_norm
from isograd.rules.recurrence import Recurrence, recurrent
from isograd.rules.running_statistics import RunningStatistics, _rehearsed


def severity(outcome: Outcome) -> Severity | None:
    return outcome.severity if isinstance(outcome, Finding) else None


FALLING = [2.3 * 0.95**k for k in range(60)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [(1, Severity.ERROR), (4, Severity.WARNING), (8, None), (64, None)],
)
def test_batch_norm_values(values: int, expected: Severity | None) -> None:
    facts = {"norm.min_values": values, "batch.size": values}
    assert severity(BatchNormValues().judge(Reading(chain(2, facts=facts)))) is expected


def test_a_batch_norm_that_its_eps_keeps_from_normalizing_is_told() -> None:
    facts = {"norm.min_values": 64, "batch.size": 64, "norm.swallowed": ["1", "4"]}
    finding = BatchNormValues().judge(Reading(chain(2, facts=facts)))
    assert severity(finding) is Severity.WARNING
    assert isinstance(finding, Finding)
    assert "IG101" in finding.explains  # gradients are small because signals are
    learns = with_history(chain(2, facts=facts), chain(2, step=60), losses=FALLING)
    assert severity(BatchNormValues().judge(learns)) is Severity.INFO
    assert "eps" in finding.message
    assert finding.sites == ("1", "4")


@pytest.mark.parametrize(
    ("momentum", "gap", "expected"),
    [(0.001, 1.4, Severity.WARNING), (0.001, 0.3, None), (0.1, 0.8, None), (0.1, 1.5, "warn")],
)
def test_running_statistics(momentum: float, gap: float, expected: object) -> None:
    outcome = RunningStatistics().judge(_rehearsed(momentum=momentum, gap=gap))
    assert isinstance(outcome, Finding) is (expected is not None)


def test_statistics_lag_while_training_goes_well() -> None:
    losses = FALLING
    for momentum, expected in ((0.1, Severity.INFO), (0.001, Severity.WARNING)):
        reading = _rehearsed(momentum=momentum, gap=1.5)
        learning = with_history(reading.seen, reading.last, losses=losses)
        assert severity(RunningStatistics().judge(learning)) is expected


def test_two_steps_of_rehearsal_say_nothing_about_running_statistics() -> None:
    facts = {"norm.momentum": 0.1, "norm.tracked": 2, "norm.eval_gap": 2.0}
    reading = with_history(chain(2), chain(2, facts=facts, step=2), losses=[2.3, 2.2])
    assert isinstance(RunningStatistics().judge(reading), NotApplicable)


def test_the_momentum_tells_sooner_that_initial_statistics_stay_in_use() -> None:
    def judged(momentum: float, batches: int) -> object:
        facts = {"norm.momentum": momentum, "norm.tracked": batches, "norm.eval_gap": 0.5}
        reading = with_history(chain(2), chain(2, facts=facts, step=batches), losses=[2.3, 2.2])
        return RunningStatistics().judge(reading)

    assert isinstance(judged(0.001, 12), Finding)
    assert isinstance(judged(0.001, 11), NotApplicable)
    # 0.01 leaves 85 % after 16 batches, but 74 % after thirty.
    assert isinstance(judged(0.01, 16), NotApplicable)
    assert isinstance(judged(0.01, 30), Passed)


def test_dropout_takes_the_blame_for_a_gap_that_is_not_stale() -> None:
    reading = _rehearsed(momentum=0.1, gap=1.5)
    sites = (*reading.last.sites, Site("drop", "dropout", "Dropout", 3, (16, 7), (0,)))
    last = replace(reading.last, sites=sites)
    assert severity(RunningStatistics().judge(Reading(last, history=(last,)))) is Severity.INFO


def test_bert_base_is_fine_and_24_layers_are_not() -> None:
    assert isinstance(NormPlacement().judge(Reading(post_norm(24))), Passed)
    assert severity(NormPlacement().judge(Reading(post_norm(48)))) is Severity.WARNING


def test_a_collapse_in_the_rehearsal_makes_it_an_error() -> None:
    finding = NormPlacement().judge(collapsed())
    assert severity(finding) is Severity.ERROR
    assert isinstance(finding, Finding)
    assert "1e-06" in finding.message


def test_pre_norm_of_any_depth_is_fine() -> None:
    sites = [Site("embed", "linear", "Linear", 1, (16, 31))]
    for k in range(100):
        skip = len(sites) - 1
        sites.append(Site(f"{k}.norm", "layer_norm", "LayerNorm", k + 1, (16, 31), (skip,)))
        sites.append(Site(f"{k}.fc", "linear", "Linear", k + 2, (16, 31), (skip + 1,)))
        sites.append(Site(f"{k}:add", "add", "add", k + 2, (16, 31), (skip, skip + 2)))
    assert isinstance(NormPlacement().judge(Reading(replace(chain(1), sites=tuple(sites)))), Passed)


def test_residual_batch_norms_are_no_stack() -> None:
    assert isinstance(NormPlacement().judge(plain_stack()), Finding)
    sites = list(plain_stack().seen.sites)
    for k in range(8, len(sites), 2):
        before = sites[k].inputs[0]
        sites[k] = replace(sites[k], kind="add", inputs=(before, max(0, before - 4)))
    look = replace(plain_stack().seen, sites=tuple(sites))
    assert isinstance(NormPlacement().judge(Reading(look)), Passed)


def test_post_norm_is_blamed_where_steps_that_should_do_change_nothing() -> None:
    assert severity(NormPlacement().judge(stuck(0.03))) is Severity.WARNING
    assert isinstance(NormPlacement().judge(stuck(1e-3)), Passed)  # small steps take longer
    assert isinstance(NormPlacement().judge(stuck(0.03, FLAT[:20])), Passed)
    falling = [2.3 * 0.99**k for k in range(80)]
    assert isinstance(NormPlacement().judge(stuck(0.03, falling)), Passed)


def test_recurrence_explodes_by_degrees() -> None:
    mild = recurrent(growth=0.03, decay=0.04, steps=112)
    assert severity(Recurrence().judge(Reading(mild))) is Severity.WARNING
    assert severity(Recurrence().judge(Recurrence.sick())) is Severity.ERROR


def test_a_memory_that_fades_is_a_warning_only_where_nothing_is_learned() -> None:
    reading = forgetful()
    assert severity(Recurrence().judge(reading)) is Severity.WARNING
    assert severity(Recurrence().judge(Reading(reading.seen))) is Severity.INFO
    falling = [2.3 * 0.98**k for k in range(80)]
    learns = with_history(reading.seen, replace(reading.seen, step=80), losses=falling)
    assert severity(Recurrence().judge(learns)) is Severity.INFO


def test_a_short_sequence_is_forgotten_only_where_nothing_is_learned() -> None:
    first = recurrent(growth=0.0, decay=-0.5, steps=40)
    assert isinstance(Recurrence().judge(Reading(first)), Passed)
    flat = with_history(first, replace(first, step=80), losses=FLAT)
    assert severity(Recurrence().judge(flat)) is Severity.WARNING
    soon = with_history(first, replace(first, step=40), losses=FLAT[:40])
    assert isinstance(Recurrence().judge(soon), Passed)


def test_gates_are_never_blamed_for_forgetting() -> None:
    first = recurrent(growth=0.0, decay=-0.4, steps=112, label="LSTM")
    reading = with_history(first, replace(first, step=80), losses=FLAT)
    assert severity(Recurrence().judge(reading)) is Severity.INFO


def test_a_cell_called_step_by_step_is_a_loop() -> None:
    finding = Recurrence().judge(unrolled(growth=2.5))
    assert isinstance(finding, Finding)
    assert finding.sites == ("cell",)
    assert isinstance(Recurrence().judge(unrolled(growth=1.05)), Passed)


def test_time_is_the_second_axis_only_where_samples_are_the_first() -> None:
    look = recurrent(growth=0.02, decay=0.0, steps=280)
    swapped = replace(look, sites=(replace(look.sites[0], shape=(280, 32, 41)), look.sites[1]))
    for record in (look, swapped):
        finding = Recurrence().judge(Reading(record))
        assert isinstance(finding, Finding)
        assert finding.evidence["steps"] == 280


def test_formats_matter_in_the_format_in_use() -> None:
    series = {"backward.share_fp16_underflow": 0.4, "backward.share_bf16_underflow": 0.0}
    for dtype, expected in (
        ("float32", Severity.INFO),
        ("float16", Severity.WARNING),
        ("bfloat16", None),
    ):
        look = chain(3, series=series, facts={"model.dtype": dtype})
        assert severity(FormatRange().judge(Reading(look))) is expected
