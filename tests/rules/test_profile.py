"""Quantities over depth, the outcome of a rehearsal, what an optimizer makes up for."""

import math
import random
from dataclasses import replace

import pytest

from isograd.findings import Severity
from isograd.records import Reading, Record, Site
from isograd.rules import RULES, NotApplicable
from isograd.rules._examples import chain, with_history
from isograd.rules._profile import (
    contrast,
    effective_updates,
    gradient,
    outcome,
    rescued,
    signal,
    slope,
    weighed,
)


def backward(norms: list[float]) -> Record:
    counts = [float(100 * (i + 1)) for i in range(len(norms))]
    rms = [n / math.sqrt(c) for n, c in zip(norms, counts, strict=True)]
    return chain(len(norms), series={"backward.rms": rms, "backward.count": counts})


def test_gradient_is_a_norm_so_that_widths_cancel() -> None:
    profile = gradient(backward([1e-3, 1e-2, 1e-1, 1.0]))
    assert profile is not None
    assert math.exp(-profile.rate) == pytest.approx(0.1)
    assert math.exp(profile.change(toward_input=True, falling=True)) == pytest.approx(1e-3)
    assert profile.change(toward_input=True, falling=False) == 0.0


def test_a_small_head_is_not_the_depths_doing() -> None:
    profile = gradient(backward([1e-4, 1e-4, 1e-4, 1e-4, 1.0]))
    assert profile is not None
    assert profile.change(toward_input=True, falling=True) == pytest.approx(0.0)


def test_one_wall_in_the_middle_counts() -> None:
    profile = gradient(backward([1e-6, 1e-6, 1e-6, 1.0, 1.0, 1.0]))
    assert profile is not None
    assert math.exp(profile.change(toward_input=True, falling=True)) == pytest.approx(1e-6)


def test_a_zero_head_leaves_nothing_to_judge() -> None:
    assert gradient(backward([0.0, 0.0, 0.0, 1.0])) is None


def test_underflow_is_vanishing() -> None:
    profile = gradient(backward([0.0, 0.0, 1e-30, 1e-20, 1e-10, 1.0]))
    assert profile is not None
    assert profile.change(toward_input=True, falling=True) < math.log(1e-30)


def test_the_stream_counts_where_a_branch_is_small() -> None:
    sites = (
        Site("stem", "linear", "Linear", 1, (8, 5)),
        Site("branch", "linear", "Linear", 2, (8, 5), (0,)),
        Site("add", "add", "add", 2, (8, 5), (0, 1)),
        Site("head", "linear", "Linear", 3, (8, 3), (2,)),
    )
    profile = signal(Record(sites, series={"forward.spread": (1.0, 1e-6, 1.0, 0.7)}))
    assert profile is not None
    assert profile.sites == (0, 2, 3)


def test_slope_ignores_odd_points() -> None:
    ys = [0.3 * x for x in range(200)]
    ys[7] = ys[90] = -50.0
    assert slope(range(200), ys) == pytest.approx(0.3)
    assert slope([1], [2.0]) == 0.0


def rehearsed(losses: list[float], **facts: float) -> Reading:
    first = chain(3, facts={"loss.kind": "cross_entropy", "loss.chance": math.log(10), **facts})
    return with_history(first, replace(first, step=len(losses)), losses=losses)


NOISE = [0.02 * math.sin(7 * k) for k in range(40)]


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([2.4 - 0.03 * k + NOISE[k] for k in range(40)], "trains"),
        ([2.303 + NOISE[k] for k in range(40)], "flat"),
        ([5.0 - 0.06 * k for k in range(40)], None),
        ([2.3, 2.4, 9.0, 1e3, 1e5, 1e7, 1e8, 1e9, 1e9, 1e9, 1e9], "diverges"),
        ([2.3, 2.4, math.nan], "diverges"),
        ([2.3, 1.0, 0.1], None),
        ([25.0, 4.0, *[0.02 + NOISE[k] ** 2 for k in range(38)]], "trains"),
        ([9.0, 4.0, *[2.31 + NOISE[k] for k in range(38)]], "flat"),
    ],
)
def test_outcome(losses: list[float], told: str | None) -> None:
    assert outcome(rehearsed(losses)) == told


def test_learning_the_label_frequencies_is_no_training() -> None:
    losses = [2.3 - 0.01 * k for k in range(40)]  # down to 1.9, and the labels' entropy is 1.8
    assert outcome(rehearsed(losses)) == "trains"
    assert outcome(rehearsed(losses, **{"target.entropy": 1.8})) != "trains"


def test_noise_is_flat() -> None:
    draw = random.Random(3)
    for _ in range(50):
        losses = [2.303 + draw.gauss(0, 0.05) for _ in range(40)]
        assert outcome(rehearsed(losses)) != "trains"


def test_a_constant_answer_is_not_learned() -> None:
    losses = [9.0, 4.0, *[2.2 + NOISE[k] for k in range(38)]]
    blind = {"output.rms": 1.0, "output.spread": 1e-6, "batch.size": 64}
    assert outcome(rehearsed(losses, **{**blind, "output.spread": 0.5})) == "trains"
    assert outcome(rehearsed(losses, **blind)) == "flat"


def test_what_has_learned_is_not_ill() -> None:
    facts = {"loss.value": 0.3, "batch.size": 64}
    assert outcome(rehearsed([0.3 + NOISE[k] for k in range(40)], **facts)) == "trains"
    assert outcome(rehearsed([0.3, 0.31], **facts)) == "trains"
    assert outcome(rehearsed([0.3, 0.31], **{**facts, "batch.size": 2})) is None
    assert outcome(rehearsed([0.3 + 0.1 * k for k in range(40)], **facts)) != "trains"


def test_a_sum_has_the_chance_level_of_a_sum() -> None:
    facts = {"loss.summed": True, "batch.size": 64}
    assert outcome(rehearsed([147.4 + NOISE[k] for k in range(40)], **facts)) == "flat"
    assert outcome(rehearsed([150.0 - 3 * k for k in range(40)], **facts)) == "trains"


def test_norms_that_have_seen_nothing_say_nothing_about_depth() -> None:
    record = backward([1e-6, 1e-4, 1e-2, 1.0])
    idle = replace(record, facts={"model.training": False, "norm.tracked": 0})
    assert gradient(record) is not None
    assert gradient(idle) is None
    for code in ("IG101", "IG102", "IG201", "IG202", "IG203", "IG207", "IG302", "IG303"):
        assert isinstance(RULES[code].judge(Reading(idle)), NotApplicable)
    assert gradient(replace(idle, facts={**idle.facts, "norm.tracked": 500})) is not None


def test_weighed() -> None:
    assert weighed(Severity.ERROR, "trains") is Severity.INFO
    assert weighed(Severity.WARNING, "flat") is Severity.ERROR
    assert weighed(Severity.WARNING, None) is Severity.WARNING
    assert weighed(Severity.INFO, "diverges") is Severity.INFO


def test_updates_with_momentum_and_without_what_stands_still() -> None:
    series = {
        "weight.update_ratio": [1e-3, 2e-3, 0.0],
        "weight.rms": 0.1,
        "weight.grad_rms": [1.0, 1.0, 0.0],
    }
    record = chain(3, series=series, facts={"optimizer.momentum": 0.9})
    assert effective_updates(record) == pytest.approx({0: 1e-2, 1: 2e-2})
    adaptive = replace(record, facts={"optimizer.momentum": 0.9, "optimizer.adaptive": True})
    assert effective_updates(adaptive) == pytest.approx({0: 1e-3, 1: 2e-3})


@pytest.mark.parametrize(
    ("adaptive", "apart", "update", "saved"),
    [
        (True, 1e-4, 1e-2, True),
        (False, 1e-4, 1e-2, False),
        (True, 1e-7, 1e-2, False),
        (True, 1e-4, 1e-6, False),
    ],
)
def test_what_an_adaptive_optimizer_rescues(
    adaptive: bool, apart: float, update: float, saved: bool
) -> None:
    series = {
        "forward.spread": apart,
        "forward.rms": 1.0,
        "weight.update_ratio": update,
        "weight.rms": 0.1,
    }
    record = chain(4, series=series, facts={"optimizer.adaptive": adaptive})
    assert contrast(record) == pytest.approx(apart)
    assert rescued(Reading(record), left=1e-5) is saved
    facts = {**record.facts, "loss.chance": 1.0}
    for steps in (40, 400):  # which move the weights by 0.4, and by 4
        stood = replace(record, facts=facts), replace(record, facts=facts, step=steps)
        after = rescued(with_history(*stood, losses=[1.0, 1.01] * (steps // 2)), left=1e-5)
        assert after is (saved and steps * update < 1)
