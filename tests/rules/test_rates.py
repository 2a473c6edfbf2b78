"""One answer, whichever rule asks: whether steps are to blame, and to which rate to go."""

import math
from dataclasses import replace

import pytest

from isograd.findings import Finding
from isograd.records import Reading
from isograd.rules import RULES
from isograd.rules._examples import chain, run
from isograd.rules._rates import before_raise, lower, steps_to_blame

FLAT = [2.3] * 20


def watched(
    rates: list[float],
    sizes: list[float | None],
    losses: list[float] | None = None,
    **facts: object,
) -> Reading:
    """A look every ten steps, with these rates and updates."""
    looks = [
        chain(
            3,
            series={} if size is None else {"weight.update_ratio": size},
            facts={"optimizer.lr": rate, **facts},
            step=10 * k,
        )
        for k, (rate, size) in enumerate(zip(rates, sizes, strict=True))
    ]
    return run(*looks, losses=FLAT if losses is None else losses)


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        (watched([3.0] * 4, [0.06] * 4), "from 3 to about 0.05"),
        (watched([50.0] * 4, [0.4, 9.0, 9.0, 9.0]), "from 50 to about 0.1"),
        (watched([0.1] * 4, [2e-3] * 4), "from 0.1 to about 0.01"),
        (watched([0.3] * 4, [5.0] * 4, **{"optimizer.adaptive": True}), "from 0.3 to about 0.0006"),
        (watched([0.1] * 4, [None] * 4), "from 0.1 to about 0.01"),
        (watched([0.1] * 4 + [4.0] * 2, [1e-3] * 6), "Take the learning rate back from 4 to 0.1"),
        (watched([0.1] * 4, [0.5] * 4, **{"optimizer.name": "LBFGS"}), "strong_wolfe"),
        (Reading(chain(3)), "by a factor of ten"),
    ],
)
def test_to_which_rate(reading: Reading, told: str) -> None:
    assert told in lower(reading)


def test_a_warm_up_is_no_rate_that_was_raised() -> None:
    for warm in ([0.1 * (k + 1) for k in range(10)], [0.0, *[0.02 * 1.2**k for k in range(12)]]):
        assert before_raise(watched(warm, [1e-3] * len(warm))) is None
    assert before_raise(watched([0.1] * 9 + [1.0], [1e-3] * 10)) == 0.1
    assert before_raise(watched([1.0, 0.1, 0.01], [1e-3] * 3)) is None


def test_steps_are_to_blame_unless_they_were_small() -> None:
    assert steps_to_blame(watched([0.1] * 4, [None] * 4))
    assert not steps_to_blame(watched([0.1] * 4, [1e-3] * 4))
    late = watched([0.1] * 6, [1e-3] * 4 + [0.5] * 2)
    assert steps_to_blame(late)
    assert not steps_to_blame(late, until=35)  # what came after followed from it
    assert steps_to_blame(watched([0.1] * 5 + [1.0], [1e-3] * 6))


def spike(up: list[float], size: float) -> Finding:
    course = [2.3 * 0.97**k + 0.1 for k in range(250)] + up
    losses = [loss * (1 + 0.02 * math.sin(7 * k)) for k, loss in enumerate(course)]
    looks = 2 + len(losses) // 10
    reading = watched([0.1] * looks, [size] * looks, losses, **{"loss.chance": 2.3})
    result = RULES["IG610"].judge(reading)
    assert isinstance(result, Finding), result
    return result


def test_what_changes_from_one_step_to_the_next_are_the_data() -> None:
    level = [2.3] * 120
    assert spike(level, 1e-3).cause == "data-bug"
    assert "batches from step 250 on" in spike(level, 1e-3).remedies[0]
    assert spike(level, 0.3).cause == "lr-too-high"
    climbs = [min(0.1 * 1.25**k, 2.3) for k in range(120)]
    assert spike(climbs, 1e-3).cause == "lr-too-high"


def test_a_network_that_its_steps_have_killed_is_not_told_to_take_larger_ones() -> None:
    dead = watched([3.0] * 8, [0.09, 0.1, 0.12, *[0.0] * 5], [2.3] * 80, **{"loss.chance": 2.3})
    assert not isinstance(RULES["IG304"].judge(dead), Finding)
    slow = watched([1e-6] * 8, [1e-7] * 8, [2.3] * 80, **{"loss.chance": 2.3})
    result = RULES["IG304"].judge(slow)
    assert isinstance(result, Finding)
    assert result.cause == "lr-too-low"


def test_rules_do_not_contradict_each_other() -> None:
    """Of a rate that is far too large all that blame it name the same one to go to."""
    losses = [2.3 * 2**k for k in range(40)]
    reading = watched([50.0] * 4, [0.4, 9.0, 90.0, 90.0], losses)
    told = {}
    for code in ("IG304", "IG609"):
        result = RULES[code].judge(reading)
        assert isinstance(result, Finding)
        told[code] = result.remedies[0]
    assert all("from 50 to about 0.1" in text for text in told.values()), told


@pytest.mark.parametrize(("size", "ill"), [(0.8, False), (6.0, True)])
def test_steps_that_shrink_by_themselves_may_begin_large(size: float, ill: bool) -> None:
    facts = {"optimizer.adaptive": True, "optimizer.lr": 0.1, "optimizer.name": "Adagrad"}
    look = chain(3, series={"weight.update_ratio": size}, facts=facts)
    assert isinstance(RULES["IG304"].judge(Reading(look)), Finding)
    later = replace(look, facts={**facts, "optimizer.first_step": 10.0})
    assert isinstance(RULES["IG304"].judge(Reading(later)), Finding) is ill
