"""Rules over time: what goes wrong in a watched run, and what is no more than training."""

import math
import random

import pytest

from isograd.findings import Finding, Severity
from isograd.probe.thinning import Thinned
from isograd.records import Reading
from isograd.rules import RULES, NotApplicable, Outcome, Passed
from isograd.rules._examples import chain, over_steps, run
from isograd.rules._profile import outcome
from isograd.rules._watched import suffers
from isograd.rules.input_shift import over_inputs

TEN = {"loss.kind": "cross_entropy", "loss.chance": math.log(10), "batch.size": 64}
FALLS = [0.1 + 2.2 * 0.97**k for k in range(200)]
WORSE = [*FALLS[:100], *[2.0] * 100]
OVER_TIME = ("IG105", "IG208", "IG209", "IG210", "IG307", "IG308", "IG403", "IG610")


def judged(code: str, reading: Reading) -> Outcome:
    return RULES[code].judge(reading)


def found(code: str, reading: Reading) -> Finding:
    result = judged(code, reading)
    assert isinstance(result, Finding), result
    return result


def noisy(values: list[float], size: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [v * math.exp(size * draw.gauss(0, 1)) for v in values]


@pytest.mark.parametrize("code", OVER_TIME[:-1])
def test_nothing_over_time_is_said_of_one_look_or_a_rehearsal(code: str) -> None:
    sick = RULES[code].sick()
    assert isinstance(judged(code, Reading(sick.seen)), (NotApplicable, Passed))
    short = Reading(sick.seen, history=sick.history[:1])
    assert isinstance(judged(code, short), (NotApplicable, Passed))


@pytest.mark.parametrize("code", ["IG105", "IG208", "IG209", "IG210", "IG307", "IG308"])
def test_a_cheap_look_without_the_column_changes_nothing(code: str) -> None:
    sick = RULES[code].sick()
    blind = chain(len(sick.seen.parameters), activation=sick.seen.sites[1].kind, step=95)
    losses = sick.last.fact("watch.losses")
    with_blind = [r for look in (sick.seen, *sick.history) for r in (look, blind)]
    blinded = Reading(
        with_blind[0],
        history=(*with_blind[1:-1], chain(1, facts={"watch.losses": losses}, step=99)),
    )
    assert found(code, blinded).message == found(code, sick).message


def test_dying_units() -> None:
    def dead(course: list[float], losses: list[float], **facts: float) -> Reading:
        columns = {"forward.dead": course, "forward.zero": [facts.pop("zero", 0.6)] * len(course)}
        return over_steps(columns, losses, every=20, facts={**TEN, **facts})

    course = [0.01, 0.01, 0.02, 0.1, 0.3, 0.5, 0.55, 0.6, 0.6, 0.6]
    finding = found("IG208", dead(course, WORSE))
    assert (finding.severity, finding.cause) == (Severity.WARNING, "lr-too-high")
    assert (
        "60 % of the units of acts.0 are dead at step 180; at step 0 it was 1 %" in finding.message
    )
    assert found("IG208", dead(course, FALLS)).severity is Severity.INFO
    gone = [*course[:-4], 0.95, 0.96, 0.96, 0.96]
    assert found("IG208", dead(gone, FALLS)).severity is Severity.WARNING
    assert found("IG208", dead(gone, WORSE)).severity is Severity.ERROR
    # Sparse units in a batch of eight: 0.95^8 = 0.66 are off by chance.
    assert isinstance(judged("IG208", dead(course, WORSE, zero=0.95, **{"batch.size": 8})), Passed)
    # What is off for every sample of every batch is not off by chance, however sparse it is.
    assert found("IG208", dead([0.0] * 6 + [1.0] * 4, WORSE, zero=1.0)).severity is Severity.ERROR
    still = {"weight.update_ratio": [1e-3] * 10, "forward.dead": [*course[:-4], *[0.95] * 4]}
    assert found("IG208", over_steps(still, WORSE, facts=TEN)).cause == "dead-units"
    healed = [*course[:5], 0.5, 0.2, 0.05, 0.05, 0.05]
    assert isinstance(judged("IG208", dead(healed, WORSE)), Passed)
    once = [0.02] * 9 + [0.9]
    assert isinstance(judged("IG208", dead(once, WORSE)), Passed)


def test_saturation() -> None:
    def saturated(course: list[float], losses: list[float]) -> Reading:
        columns = {"forward.saturated": course}
        return over_steps(columns, losses, every=20, activation="tanh", facts=TEN)

    course = [0.05] * 4 + [0.3, 0.6, 0.8, 0.9, 0.9, 0.9]
    assert found("IG209", saturated(course, WORSE)).severity is Severity.WARNING
    assert found("IG209", saturated(course, FALLS)).severity is Severity.INFO
    learned = [0.05 + 0.05 * k for k in range(10)]
    assert isinstance(judged("IG209", saturated(learned, FALLS)), Passed)
    start = [0.85] * 10  # what was there at the start is IG204's
    assert isinstance(judged("IG209", saturated(start, WORSE)), Passed)


def test_rank() -> None:
    def ranks(course: list[float], losses: list[float], **facts: object) -> Reading:
        columns = {"forward.rank": course, "forward.units": [31.0] * len(course)}
        return over_steps(columns, losses, every=20, facts={**TEN, **facts})

    course = [12.0, 12.0, 11.0, 9.0, 5.0, 2.0, 1.2, 1.1, 1.1, 1.1]
    classes = {"target.kind": "class", "target.classes": 10}
    assert found("IG210", ranks(course, WORSE, **classes)).severity is Severity.WARNING
    assert found("IG210", ranks(course, FALLS, **classes)).severity is Severity.INFO
    # Nine differences between ten classes: a healthy end.
    ended = [12.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 7.0, 7.0, 7.0]
    assert isinstance(judged("IG210", ranks(ended, WORSE, **classes)), Passed)
    two = {"target.kind": "class", "target.classes": 2}
    assert isinstance(judged("IG210", ranks(course, WORSE, **two)), NotApplicable)
    few = {"target.kind": "class", "target.classes": 10, "target.distinct": 2}
    assert isinstance(judged("IG210", ranks(course, WORSE, **few)), NotApplicable)
    free = ranks(course, FALLS, **{"output.shape": [64, 32]})
    assert found("IG210", free).severity is Severity.WARNING  # its loss falls because of it
    assert found("IG210", free).cause == "loss-mismatch"


def gradients(rows: list[list[float]], losses: list[float], **facts: object) -> Reading:
    columns = {"weight.grad_rms": rows, "weight.rms": [0.1] * len(rows)}
    return over_steps(columns, losses, every=20, facts={**TEN, **facts})


def test_a_stopped_layer() -> None:
    usual, stopped = [1e-3, 2e-3, 1e-3, 3e-3], [1e-3, 1e-9, 1e-3, 3e-3]
    finding = found("IG308", gradients([usual] * 6 + [stopped] * 4, FALLS))
    assert (finding.severity, finding.sites) == (Severity.WARNING, ("layers.1.weight",))
    assert found("IG308", gradients([usual] * 6 + [[1e-3, 0.0, 1e-3, 3e-3]] * 4, FALLS)).cause == (
        "graph-cut"
    )
    # A schedule, or the end of training, changes all of them alike.
    ends = [[g * 0.2**k for g in usual] for k in range(10)]
    assert isinstance(judged("IG308", gradients(ends, FALLS)), Passed)
    wander = [[g * 3 ** (-1) ** (k + i) for i, g in enumerate(usual)] for k in range(10)]
    assert isinstance(judged("IG308", gradients(wander, FALLS)), Passed)
    frozen = gradients([usual] * 6 + [stopped] * 4, FALLS, **{"model.frozen": ["layers.1.weight"]})
    assert isinstance(judged("IG308", frozen), Passed)
    always = [stopped] * 10  # behind from the start is IG101's
    assert isinstance(judged("IG308", gradients(always, FALLS)), Passed)


def test_a_gradient_that_jumps() -> None:
    def norms(course: list[float], losses: list[float]) -> Reading:
        return gradients([[g] * 4 for g in course], losses)

    usual = noisy([1e-3] * 12, 0.3)
    finding = found("IG105", norms([*usual, 3e-2, 3e-2], WORSE))
    assert (finding.severity, finding.cause) == (Severity.WARNING, "lr-too-high")
    assert found("IG105", norms([*usual, 3e-2, 3e-2], FALLS)).severity is Severity.INFO
    assert isinstance(judged("IG105", norms([*usual, 3e-2], WORSE)), Passed)
    assert isinstance(judged("IG105", norms([*usual, 3e-2, 1e-3], WORSE)), Passed)
    wild = noisy([1e-3] * 12, 1.5)
    assert isinstance(judged("IG105", norms([*wild, 3e-2, 3e-2], WORSE)), Passed)
    drift = [1e-3 * 1.3**k for k in range(14)]
    assert isinstance(judged("IG105", norms(drift, WORSE)), Passed)
    assert isinstance(judged("IG105", norms([3e-2, 3e-2], WORSE)), NotApplicable)


def test_the_gradient_norm_is_that_of_all_parameters() -> None:
    reading = gradients([[1e-3, 2e-3, 3e-3, 4e-3]] * 9, FALLS)
    sizes = [math.prod(p.shape) for p in reading.seen.parameters]
    norm = math.sqrt(sum(n * (1e-3 * (k + 1)) ** 2 for k, n in enumerate(sizes)))
    result = judged("IG105", reading)
    assert isinstance(result, Passed)
    assert result.reason == f"the gradient norm is {norm:.3g}, usually {norm:.3g}"


def test_weights_that_grow() -> None:
    def grows(sizes: list[float], losses: list[float], **series: list[float]) -> Reading:
        return over_steps({"weight.rms": sizes, **series}, losses, every=20, facts=TEN)

    fast = [0.1 * 1.5**k for k in range(10)]
    assert found("IG307", grows(fast, WORSE)).severity is Severity.WARNING
    assert found("IG307", grows(fast, FALLS)).severity is Severity.INFO
    assert found("IG307", grows([0.1 * 2.5**k for k in range(10)], FALLS)).severity is (
        Severity.WARNING
    )
    stops = [0.1 * 1.5 ** min(k, 4) for k in range(10)]
    assert isinstance(judged("IG307", grows(stops, WORSE)), Passed)
    root = [0.1 * math.sqrt(1 + 20 * k) for k in range(5)]
    assert isinstance(judged("IG307", grows(root, WORSE)), Passed)
    small = {"weight.gain": [0.05] * 10, "weight.gain_fit": [1.4] * 10}
    assert isinstance(judged("IG307", grows(fast, WORSE, **small)), Passed)


def losses_of(*parts: list[float], noise: float = 0.03, **facts: object) -> Reading:
    losses = noisy([x for part in parts for x in part], noise)
    made = [chain(3, facts={**TEN, **facts}, step=step) for step in (0, len(losses))]
    return run(*made, losses=losses)


START = [0.5 + 1.8 * 0.97**k for k in range(250)]


@pytest.mark.parametrize(
    "later",
    [
        [],
        [0.5] * 200,
        [2.0] * 10,
        [2.0] * 30,
        [2.0 * 0.97**k + 0.5 for k in range(100)],  # heals
        [*[2.5] * 40, *[0.5] * 100],
        [0.5 + 0.0005 * k for k in range(400)],  # drifts
    ],
)
def test_a_loss_that_heals_or_drifts_is_no_spike(later: list[float]) -> None:
    assert isinstance(judged("IG610", losses_of(START, later)), Passed)


@pytest.mark.parametrize("steps", [60, 100, 200, 400])
def test_a_spike_that_stays(steps: int) -> None:
    finding = found("IG610", losses_of(START, [1.6] * steps))
    assert finding.severity is Severity.WARNING
    step = finding.evidence["step"]
    assert abs(step - 250) <= 3
    assert finding.evidence["before"] == pytest.approx(0.5, abs=0.06)
    assert finding.evidence["now"] == pytest.approx(1.6, rel=0.05)


def long_run(*parts: list[float]) -> Reading:
    """A run of 40,000 steps and more as a watch keeps it: the older losses thinned out."""
    kept: Thinned[tuple[int, float]] = Thinned(recent=512, older=512)
    course = [2.4 + 8.4 / (1 + k / 50) ** 0.7 for k in range(40_000)]
    for step, loss in enumerate(noisy([x for part in (course, *parts) for x in part], 0.03)):
        kept.append((step, loss))
    losses = [[step for step, _ in kept.items], [loss for _, loss in kept.items]]
    facts = {"loss.kind": "cross_entropy", "loss.chance": math.log(50_000), "batch.size": 64}
    last = chain(3, facts={**facts, "watch.losses": losses}, step=losses[0][-1])
    return Reading(chain(3, facts=facts), history=(last,))


def test_a_long_run_is_well_until_it_is_not() -> None:
    well = long_run()
    assert len(well.last.fact("watch.losses")[0]) <= 1024
    assert outcome(well) == "trains"
    assert suffers(well) is False
    for code in ("IG604", "IG609", "IG610"):
        assert isinstance(judged(code, well), Passed)
    healed = long_run([4.0 * 0.98**k + 2.45 for k in range(300)])
    assert isinstance(judged("IG610", healed), Passed)
    assert isinstance(judged("IG610", long_run([2.47] * 600)), Passed)
    for steps in (60, 400, 1000):
        ill = long_run([5.0] * steps)
        finding = found("IG610", ill)
        assert finding.severity is Severity.WARNING
        assert abs(finding.evidence["step"] - 40_000) < 100  # the steps between thinned losses
        assert suffers(ill) is True
    assert found("IG609", long_run([40.0] * 60)).severity is Severity.ERROR


def test_a_raised_rate_explains_a_jump() -> None:
    losses = noisy([*START, *[1.6] * 60], 0.03)
    made = [chain(3, facts={**TEN, "optimizer.lr": 0.01}, step=k) for k in (0, 100, 200)]
    made.append(chain(3, facts={**TEN, "optimizer.lr": 0.1}, step=310))
    assert found("IG610", run(*made, losses=losses)).severity is Severity.INFO


def test_an_adversarial_loss_may_wander() -> None:
    losses = noisy([*[0.7] * 200, *[1.1] * 80], 0.03)
    assert isinstance(judged("IG610", run(chain(3), chain(3, step=280), losses=losses)), Passed)
    losses = noisy([*[0.7] * 200, *[2.0] * 80], 0.03)
    assert isinstance(judged("IG610", run(chain(3), chain(3, step=280), losses=losses)), Finding)


def scales(pairs: list[tuple[float, float]], every: int = 10) -> Reading:
    made = [
        chain(3, facts={"watch.scale": scale, "watch.skipped": skipped}, step=every * k)
        for k, (scale, skipped) in enumerate(pairs)
    ]
    return run(*made, losses=[2.3])


def test_the_scaler_may_look_for_its_scale_at_the_start() -> None:
    start = [(65536.0 / 2 ** min(k, 6), min(k, 6)) for k in range(10)]
    assert isinstance(judged("IG403", scales(start, every=1)), Passed)
    grows = [(2.0 ** (10 + k), 3) for k in range(10)]
    assert isinstance(judged("IG403", scales(grows, every=2000)), Passed)
    assert isinstance(judged("IG403", Reading(chain(3))), NotApplicable)


def test_a_scaler_that_goes_on_falling() -> None:
    falls = [(65536.0 / 2 ** (2 * k), 5 * k) for k in range(7)]
    finding = found("IG403", scales(falls))
    assert (finding.severity, finding.cause) == (Severity.WARNING, "precision")
    assert "30 of 60 steps were left out, 50% of the latest" in finding.message
    bottom = [(65536.0 / 2 ** (2 * k), 2 * k) for k in range(10)]
    assert found("IG403", scales(bottom)).severity is Severity.ERROR


@pytest.mark.parametrize(
    ("levels", "worse", "severity"),
    [
        ([(0.0, 1.0)] * 5 + [(0.3, 0.3)] * 4, True, Severity.WARNING),
        ([(0.0, 1.0)] * 5 + [(0.3, 0.3)] * 4, False, Severity.INFO),
        ([(0.0, 1.0)] * 5 + [(0.0, 0.05)] * 4, False, Severity.WARNING),
        ([(0.0, 1.0)] * 5 + [(0.0, 0.0)] * 4, False, Severity.WARNING),
        ([(5.0, 1.0)] * 5 + [(-9.0, 1.0)] * 4, False, Severity.WARNING),
    ],
)
def test_inputs_of_another_scale(
    levels: list[tuple[float, float]], worse: bool, severity: Severity
) -> None:
    finding = found("IG611", over_inputs(levels, worse=worse))
    assert (finding.severity, finding.evidence["step"]) == (severity, 50)


@pytest.mark.parametrize(
    "levels",
    [
        [(0.0, 1.0)] * 8 + [(0.0, 9.0)],
        [(0.0, 1.0)] * 5 + [(0.0, 9.0)] * 2 + [(0.0, 1.0)],
        [(0.0, 1.2**k) for k in range(30)],
        [(0.0, 1.0), (0.0, 3.0)] * 6,
        [(0.4 * k, 1.0) for k in range(20)],
        [(0.0, 0.0)] * 9,
    ],
)
def test_inputs_that_come_and_go_or_drift(levels: list[tuple[float, float]]) -> None:
    assert isinstance(judged("IG611", over_inputs(levels)), Passed)
