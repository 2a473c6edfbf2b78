"""When to look: within the budget, densely at first, and at once when something looks bad."""

import itertools
import math

import pytest

from isograd.probe.live.schedule import AROUND, DENSE, SELDOM, Schedule


def simulate(schedule: Schedule, steps: int, *, seconds: float, cost: float) -> list[int]:
    """Steps that are looked at, of a training whose steps and looks take this long."""
    looks, due = [], 0
    for step in range(steps):
        looked = step >= due
        schedule.took(seconds + cost * looked, cost * looked, looked=looked)
        if looked:
            looks.append(step)
            due = schedule.after(step)
        elif schedule.urgent:
            due = step + 1
    return looks


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("budget", [0.005, 0.02, 0.2])
def test_the_budget_is_kept(cost: float, budget: float) -> None:
    schedule = Schedule(None, budget)
    looks = simulate(schedule, 20_000, seconds=0.1, cost=cost)
    spent = AROUND * cost * len(looks) / (20_000 * 0.1)
    # Those of the start, and later ones between which the steps grow by half.
    seldom = math.ceil(math.log(20_000 / DENSE[-1]) / math.log(1 + SELDOM))
    least = AROUND * cost * (len(DENSE) + 2 + seldom) / (20_000 * 0.1)
    assert spent <= max(budget * 1.02, least)
    assert len(looks) > len(DENSE)


def test_the_start_is_looked_at_densely_and_later_looks_are_sparse() -> None:
    looks = simulate(Schedule(None, 0.02), 100_000, seconds=0.1, cost=1e-5)
    assert looks[: len(DENSE) + 1] == [0, *DENSE]
    late = [b - a for a, b in itertools.pairwise(looks) if a > 50_000]
    assert min(late) >= 500
    assert len(looks) < 1200


def test_every_n_steps() -> None:
    looks = simulate(Schedule(7, 0.02), 50, seconds=0.1, cost=10.0)
    assert looks == list(range(0, 50, 7))


def test_trouble_is_looked_at_at_once() -> None:
    schedule = Schedule(None, 0.02)
    simulate(schedule, 500, seconds=0.1, cost=0.01)
    calm = schedule.after(500)
    schedule.alarm()
    assert schedule.urgent
    assert calm > 501
    assert [schedule.after(step) for step in range(501, 504)] == [502, 503, 504]


def test_trouble_without_end_is_not_looked_at_without_end() -> None:
    schedule, due, looks = Schedule(None, 0.02), 0, 0
    for step in range(30_000):
        looked = step >= due
        schedule.took(0.001 + 0.01 * looked, 0.01 * looked, looked=looked)
        schedule.alarm()  # every loss is a spike
        if looked:
            looks += 1
            due = schedule.after(step)
        elif schedule.urgent:
            due = step + 1
    assert schedule.overhead < 0.1
    assert looks > 16


def test_pauses_pay_for_no_look() -> None:
    with_pauses, without = Schedule(None, 0.02), Schedule(None, 0.02)
    for schedule, pause in ((with_pauses, 60.0), (without, 0.0)):
        for step in range(1000):
            schedule.took(0.1 + pause * (step % 100 == 99), 0.0, looked=False)
    assert with_pauses.trained < 1.03 * without.trained


def test_a_long_run_of_short_steps_is_never_out_of_sight() -> None:
    schedule = Schedule(None, 0.02)
    looks = simulate(schedule, 20_000, seconds=0.0001, cost=0.1)  # a look costs a thousand steps
    later = [b / a for a, b in itertools.pairwise(looks) if a >= DENSE[-1]]
    assert max(later) <= 1 + SELDOM + 0.02
    assert len(looks) < 30


def test_noise_does_not_use_up_the_looks_at_trouble() -> None:
    schedule = Schedule(None, 0.02)
    granted = 0
    for step in range(4096):
        schedule.took(0.001, 0.001, looked=True)  # far beyond the budget
        if step % 16 == 0:
            before = schedule.urgent
            schedule.alarm()
            granted += schedule.urgent and not before
        if schedule.urgent:
            schedule.after(step)
    assert granted == 4 + 6  # one more each at 64, 128, ... 2048 steps
