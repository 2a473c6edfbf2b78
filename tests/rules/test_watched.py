"""What the rules of a single look say of a watched run: nothing that later looks have answered."""

import gc
import math
import random
from dataclasses import replace

import pytest

from isograd.diagnosis import diagnose
from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules import RULES, NotApplicable, Outcome, Passed
from isograd.rules._course import course
from isograd.rules._examples import chain, over_steps, run
from isograd.rules._profile import outcome
from isograd.rules._remembering import remembered
from isograd.rules._watched import cooling, looks, over, suffers, warming
from isograd.rules.initial_loss import _loss

TEN = {"loss.kind": "cross_entropy", "loss.chance": math.log(10), "batch.size": 64}
NAN = math.nan


def noisy(values: list[float], size: float = 0.02, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [v * (1 + size * draw.gauss(0, 1)) for v in values]


FALLS = noisy([0.1 + 2.2 * 0.98**k for k in range(300)])
STANDS = noisy([2.303] * 300)


def watch(losses: list[float], **facts: object) -> Reading:
    return run(chain(3, facts=TEN), chain(3, facts=TEN, step=len(losses)), losses=losses, **facts)


def judged(code: str, reading: Reading) -> Outcome:
    return RULES[code].judge(reading)


def found(code: str, reading: Reading) -> Finding:
    result = judged(code, reading)
    assert isinstance(result, Finding), result
    return result


def test_the_course_of_a_run_is_thinned_and_has_steps() -> None:
    look = chain(3, facts={"watch.losses": [[0, 64, 128, 129], [2.3, NAN, 1.0, 0.9]]}, step=130)
    path = course(Reading(chain(3), history=(look,)))
    assert path is not None
    assert (path.losses, path.watched, path.steps) == ((2.3, 1.0, 0.9), (0, 128, 129), 130)
    assert path.broke_at is None
    broken = chain(3, facts={"watch.losses": [[0, 1, 2, 3], [2.3, NAN, NAN, math.inf]]})
    path = course(Reading(broken))
    assert path is not None
    assert path.broke_at == 1


@pytest.mark.parametrize("given", [3, [], [[1]], [[1], 2], [["a"], [1.0]], "word", {}, [[], []]])
def test_losses_that_are_none(given: object) -> None:
    assert course(Reading(chain(3, facts={"watch.losses": given}))) is None


def test_what_the_training_came_to() -> None:
    assert outcome(watch(FALLS)) == "trains"
    assert outcome(watch(STANDS)) == "flat"
    assert outcome(watch([*FALLS, *[NAN] * 5])) == "diverges"
    assert outcome(watch([*FALLS, NAN, 0.2])) == "trains"
    assert outcome(watch([2.3 * 1.2**k for k in range(40)])) == "diverges"
    adversarial = noisy([0.7] * 300)
    assert outcome(run(chain(3), chain(3, step=300), losses=adversarial)) is None


@pytest.mark.parametrize(
    ("losses", "worse"),
    [
        (FALLS, False),
        (STANDS, True),
        (FALLS[:6], None),
        ([*FALLS, *noisy([0.15] * 60)], False),
        ([*FALLS, *noisy([0.9] * 60)], True),
        ([*FALLS, NAN, NAN, NAN], True),
        ([*FALLS, *noisy([3.0] * 4), *noisy([0.12] * 60)], False),
        (noisy([0.1] * 300), False),  # fine-tuning: far below chance from the start
    ],
)
def test_whether_the_loss_is_worse_than_it_was(losses: list[float], worse: bool | None) -> None:
    assert suffers(watch(losses)) is worse


def test_of_an_unknown_loss_nothing_is_said() -> None:
    assert suffers(run(chain(3), chain(3, step=300), losses=noisy([0.7] * 300))) is None
    assert suffers(Reading(chain(3))) is None


@pytest.mark.parametrize(
    ("rates", "up", "down"),
    [
        ([0.1] * 9, False, False),
        ([0.01 * k for k in range(1, 10)], True, False),
        ([0.1 * 0.8**k for k in range(9)], False, True),
        ([0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01], False, True),
        ([], False, False),
    ],
)
def test_schedules(rates: list[float], up: bool, down: bool) -> None:
    made = [chain(3, facts={"optimizer.lr": rate}, step=k) for k, rate in enumerate(rates)]
    reading = run(*(made or [chain(3)]), losses=[1.0])
    assert warming(reading) is up
    assert cooling(reading) is down


def test_columns_over_time_skip_looks_without_them() -> None:
    made = [
        chain(3, step=k, series={"forward.dead": [k, 2.0 * k, 0]} if k % 2 else {})
        for k in range(8)
    ]
    reading = run(*made, losses=[1.0])
    column = over(reading, "forward.dead", fewest=4)
    assert not isinstance(column, NotApplicable)
    assert column.steps == (1, 3, 5, 7)
    assert column.rows[0] == (1, 3, 5, 7)
    assert (column.then(0), column.now(0)) == (3, 5)
    lacking = over(reading, "forward.dead", fewest=5)
    assert isinstance(lacking, NotApplicable)
    assert "forward.dead is known of 4 looks, 5 are needed" in lacking.reason


def test_a_look_with_other_sites_is_no_look_of_the_same_network() -> None:
    reading = run(chain(3), chain(4, step=1), chain(3, step=2), losses=[1.0])
    assert [look.step for look in looks(reading)] == [0, 2]


def test_what_is_remembered_is_forgotten_with_its_record() -> None:
    calls = []

    @remembered
    def number(record: Record) -> int:
        calls.append(record)
        return len(record.sites)

    first, second = chain(3), chain(3)
    assert (number(first), number(first), number(second)) == (5, 5, 5)
    assert len(calls) == 2
    calls.clear()
    del first, second
    gc.collect()
    for depth in range(2, 40):  # new records may get the place of old ones
        assert number(chain(depth)) == 2 * depth - 1


def test_an_initial_loss_is_that_of_the_first_step() -> None:
    reading = _loss(85.0, kind="cross_entropy", chance=math.log(10))
    assert isinstance(judged("IG603", reading), Finding)
    resumed = Reading(replace(reading.seen, step=1000))
    assert isinstance(judged("IG603", resumed), NotApplicable)
    trained = run(reading.seen, replace(reading.seen, step=300), losses=[85.0, *FALLS[1:]])
    assert found("IG603", trained).severity is Severity.INFO


def test_a_plateau_has_the_name_of_its_value() -> None:
    finding = found("IG604", watch(STANDS))
    assert finding.severity is Severity.WARNING
    assert "where the loss of a constant answer is 2.3" in finding.message
    assert "in the latest 150 of 300 steps" in finding.message
    assert isinstance(judged("IG604", watch(FALLS)), Passed)


def test_a_plateau_in_warm_up_or_of_an_unknown_loss_is_a_remark() -> None:
    made = [chain(3, facts={**TEN, "optimizer.lr": 1e-5 * k}, step=30 * k) for k in range(11)]
    assert found("IG604", run(*made, losses=STANDS)).severity is Severity.INFO
    unknown = run(chain(3), chain(3, step=300), losses=noisy([0.7] * 300))
    assert found("IG604", unknown).severity is Severity.INFO


def test_constant_outputs_are_not_healed_by_a_look_that_did_not_measure_them() -> None:
    first = chain(3, facts={**TEN, "output.rms": 1.0, "output.spread": 0.5})
    collapsed = chain(3, facts={**TEN, "output.rms": 1.0, "output.spread": 1e-6}, step=100)
    reading = run(first, collapsed, chain(3, facts=TEN, step=120), losses=STANDS)
    assert "after 100 steps" in found("IG203", reading).message
    assert found("IG604", reading).cause == "lr-too-high"


def test_a_divergence_is_told_with_its_latest_losses() -> None:
    reading = watch([*FALLS, *[20.0] * 30])
    finding = found("IG609", reading)
    assert finding.severity is Severity.ERROR
    assert len(finding.evidence["losses"]) <= 100
    assert "no longer finite at step 300" in found("IG609", watch([*FALLS, *[NAN] * 3])).message
    assert isinstance(judged("IG609", watch([*FALLS, 30.0, *FALLS[-30:]])), Passed)


def test_first_steps_that_overshoot_are_no_divergence() -> None:
    assert isinstance(judged("IG609", watch([2.3, 2.2, 9.0, 12.0, 8.0, 3.0])), Passed)
    assert isinstance(judged("IG609", watch([2.3, 2.2, 9.0, 12.0, 8.0, *FALLS[:9]])), Passed)
    assert isinstance(judged("IG609", watch([2.3, *[9.0] * 5])), Passed)
    assert isinstance(judged("IG609", watch([2.3, 2.2, *[9.0] * 12])), Finding)


EVENT = {
    "op": "linear",
    "site": 2,
    "module": "layers.1",
    "inputs": [{"min": -1e25, "max": 2e25, "nonfinite": 0}],
    "count": 7,
}


def test_an_event_is_told_with_rank_and_what_went_in_before() -> None:
    event = {**EVENT, "rank": 3, "before": [[90, 4.0], [100, 90.0], ["x", 1], 7]}
    broken = chain(3, facts={"event.forward": event, "loss.value": NAN}, step=110)
    finding = found("IG401", run(chain(3), broken, losses=[2.3, NAN]))
    assert "after 110 steps on rank 3 in the forward pass" in finding.message
    assert "the largest that went in before: 4 (step 90), 90 (step 100)." in finding.message


def test_an_event_that_a_later_look_shows_to_have_healed_is_none() -> None:
    broken = chain(3, facts={"event.forward": EVENT, "loss.value": NAN}, step=10)
    well = chain(3, facts={"loss.value": 2.0}, step=20)
    blind = chain(3, step=20)
    assert isinstance(judged("IG401", run(chain(3), broken, well, losses=[2.0])), Passed)
    assert isinstance(judged("IG401", run(chain(3), broken, blind, losses=[2.0])), Finding)
    again = replace(broken, step=30)
    assert (
        "after 30 steps" in found("IG401", run(chain(3), broken, well, again, losses=[2.0])).message
    )
    first = replace(broken, step=20)
    told = found("IG401", run(chain(3), chain(3), first, again, losses=[2.0])).message
    assert "after 20 steps" in told


def scaled(scale: float, step: int, way: str = "backward") -> Record:
    facts = {f"event.{way}": EVENT, "loss.value": 2.0, "watch.scale": scale}
    return chain(3, series={"weight.grad_nonfinite": 5.0}, facts=facts, step=step)


def test_overflows_that_a_scaler_leaves_out_are_its_business() -> None:
    start = [scaled(2.0 ** (16 - k), k) for k in range(5)]
    assert isinstance(judged("IG401", run(*start, losses=[2.3])), Passed)
    bottom = [scaled(1.0, k) for k in range(5)]
    assert isinstance(judged("IG401", run(*bottom, losses=[2.3])), Finding)
    forward = [scaled(2.0**16, k, "forward") for k in range(2)]
    assert isinstance(judged("IG401", run(*forward[:1], losses=[2.3])), Passed)
    assert isinstance(judged("IG401", run(*forward, losses=[2.3])), Passed)  # the loss is finite
    lost = [replace(r, facts={**r.facts, "loss.value": NAN}) for r in forward]
    assert isinstance(judged("IG401", run(*lost, losses=[2.3])), Finding)


def test_weights_that_a_masked_gradient_poisoned() -> None:
    poisoned = chain(
        3, series={"weight.nonfinite": [0.0, 11.0, 0.0]}, facts={"loss.value": 2.0}, step=40
    )
    finding = found("IG401", run(chain(3), poisoned, losses=[2.3, 2.0]))
    assert finding.sites == ("layers.1.weight",)
    assert "11 entries" in finding.message
    assert "after 40 steps, although the loss is finite" in finding.message


def test_targets_that_are_all_ones_are_a_gans_unless_they_are_learned() -> None:
    ones = {"loss.kind": "bce_logits", "target.kind": "binary", "target.distinct": 1}
    facts = {**ones, "batch.size": 64, "target.min": 1.0, "target.max": 1.0, "target.entropy": 0.0}

    def training(losses: list[float], **more: object) -> Reading:
        made = [chain(3, facts={**facts, **more}, step=step) for step in (0, len(losses))]
        return run(*made, losses=losses)

    stands, learned = noisy([0.7] * 200), [0.7 * 0.97**k for k in range(200)]
    assert found("IG608", training(stands)).severity is Severity.INFO
    assert found("IG608", training(stands)).explains == ()
    assert found("IG608", training(learned)).severity is Severity.WARNING
    ten = {"loss.kind": "cross_entropy", "target.kind": "class", "target.classes": 10}
    assert found("IG608", training(stands, **ten)).severity is Severity.WARNING
    assert suffers(training(stands)) is None
    assert isinstance(judged("IG610", training([*stands, *noisy([1.0] * 60)])), Passed)


def test_half_precision_with_a_scaler_does_not_underflow() -> None:
    look = chain(
        3,
        series={"backward.share_fp16_underflow": 0.4, "forward.share_fp16_overflow": 0.0},
        facts={"model.dtype": "torch.float16"},
    )
    assert isinstance(judged("IG402", Reading(look)), Finding)
    scaled = replace(look, facts={**look.facts, "watch.scale": 1024.0})
    assert isinstance(judged("IG402", Reading(scaled)), Passed)


def steps(ratios: list[float], losses: list[float], rates: list[float] | None = None) -> Reading:
    given = rates or [0.1] * len(ratios)
    made = [
        chain(
            4,
            series={"weight.update_ratio": ratio, "weight.rms": 0.1},
            facts={**TEN, "optimizer.lr": rate, "optimizer.momentum": 0.0},
            step=10 * k,
        )
        for k, (ratio, rate) in enumerate(zip(ratios, given, strict=True))
    ]
    return run(*made, losses=losses)


def test_updates_over_time() -> None:
    usual = [1e-3 * (1 + 0.3 * (-1) ** k) for k in range(12)]
    assert isinstance(judged("IG304", steps(usual, FALLS)), Passed)
    high = found("IG304", steps([*usual[:5], *[0.3] * 4], STANDS))
    assert (high.severity, high.cause) == (Severity.WARNING, "lr-too-high")
    assert (
        "At step 80 a typical weight moves by 0.3 of its size per step, where it was"
        in high.message
    )
    assert found("IG304", steps([*usual[:5], *[0.3] * 4], FALLS)).severity is Severity.INFO
    assert isinstance(judged("IG304", steps([*usual, 0.3], STANDS)), Passed)  # one odd batch


def test_small_updates_are_bad_only_where_nothing_is_learned() -> None:
    small = [1e-6] * 12
    low = found("IG304", steps(small, STANDS))
    assert (low.severity, low.cause) == (Severity.WARNING, "lr-too-low")
    assert "from 0.1 to about 100" in low.remedies[0]
    assert isinstance(judged("IG304", steps(small, FALLS)), Passed)
    warm = [1e-4 * (k + 1) for k in range(12)]
    assert isinstance(judged("IG304", steps(small, STANDS, warm)), Passed)
    cool = [0.1 * 0.5**k for k in range(12)]
    assert isinstance(judged("IG304", steps(small, STANDS, cool)), Passed)


def test_the_first_step_of_a_warm_up_is_small() -> None:
    assert isinstance(judged("IG304", steps([1e-7], [2.3])), Passed)
    assert isinstance(judged("IG304", steps([0.6], [2.3])), Finding)


def test_units_that_die_over_time_are_not_told_twice() -> None:
    reading = over_steps({"forward.dead": [0.0, 0.0, 0.7, 0.7]}, STANDS)
    assert isinstance(judged("IG205", reading), Passed)
    rehearsed = replace(
        reading, history=(replace(reading.last, facts={"rehearsal.losses": STANDS}),)
    )
    assert isinstance(judged("IG205", rehearsed), Finding)


def test_no_rule_breaks_on_a_run() -> None:
    diagnosis = diagnose(watch(FALLS))
    assert {v.state for v in diagnosis.verdicts} <= {"finding", "passed", "not-applicable"}
    assert diagnosis.healthy
