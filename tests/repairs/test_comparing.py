"""Comparison: Student's paired test against scipy's, and what is too small to count."""

import math

import numpy as np
import pytest
from scipy import stats

from isograd.repairs.comparing import LEVEL, REPEATED, SEVERAL, Comparison


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2.3, 2.1, 2.4), (1.2, 1.3, 0.9)),
        ((2.3, 2.1, 2.4, 2.2), (2.2, 2.2, 2.3, 2.3)),
        ((0.1, 0.2), (0.3, 0.25)),
    ],
)
def test_p_is_that_of_students_paired_test(
    before: tuple[float, ...], after: tuple[float, ...]
) -> None:
    found = Comparison(before, after)
    told = stats.ttest_rel(before, after, alternative="greater")
    assert found.p == pytest.approx(told.pvalue, rel=1e-9)
    assert found.gain == pytest.approx(sum(before) / len(before) - sum(after) / len(after))


def test_a_lucky_seed_does_not_win() -> None:
    assert not Comparison((2.3, 2.3, 2.3), (0.2, 2.3, 2.3)).better


def test_a_sure_gain_wins_and_a_sure_loss_is_worse() -> None:
    sure = Comparison((2.3, 2.2, 2.4), (1.1, 1.2, 1.1))
    assert sure.better
    assert not sure.worse
    assert Comparison(sure.after, sure.before).worse


def test_looking_three_times_is_wrong_in_five_percent() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 2, 5))
    wrong = 0
    for before, after in 10 + draws:
        looks = [Comparison(tuple(before[:n]), tuple(after[:n])) for n in (3, 4, 5)]
        wrong += any(look.p < REPEATED for look in looks)
    assert wrong / 4000 == pytest.approx(0.05, abs=3 * (0.05 * 0.95 / 4000) ** 0.5)


def test_a_help_of_different_size_is_a_help_if_every_run_is_better() -> None:
    before, after = (2.303, 2.302, 2.304, 2.303), (2.0, 0.4, 1.9, 2.1)
    found = Comparison(before, after)
    assert stats.ttest_rel(before, after, alternative="greater").pvalue > 0.08
    assert found.p == pytest.approx(1 / 70)
    ranks = stats.mannwhitneyu((5, 6, 7, 8), (1, 2, 3, 4), alternative="greater", method="exact")
    assert found.p == pytest.approx(ranks.pvalue)


def test_to_learn_at_all_is_told_from_a_bar_that_stood_before() -> None:
    before, after = (2.302, 2.3026, 2.3012), (2.28, 2.247, 2.09)
    found = Comparison(before, after, smallest=0.005, bar=2.298)
    two = stats.barnard_exact([[0, 3], [3, 0]], alternative="less", pooled=True)
    assert found.p == pytest.approx(SEVERAL * two.pvalue, rel=1e-3)
    assert found.p == SEVERAL / 64
    assert found.better
    assert not Comparison(before, after, smallest=0.005).better
    assert not Comparison(before, after, smallest=0.005, bar=2.25).better  # one has not learned
    assert not Comparison(before, after, smallest=0.005, bar=2.302).better  # one had learned before


def test_a_bar_makes_no_luck_of_chance() -> None:
    draws = np.random.default_rng(0).normal(size=(4000, 2, 3))
    # Half of the runs learn: who does is luck.
    scores = np.where(draws < 0, 2 + 0.2 * draws, 2.3)
    wrong = sum(
        Comparison(tuple(before), tuple(after), smallest=0.0, bar=2.1).p < 0.05
        for before, after in scores
    )
    assert wrong / 4000 < 0.05


def test_looking_in_three_ways_is_wrong_in_five_percent() -> None:
    # The worst there is: noise around the bar, which Student's test and the bar judge apart.
    draws = 10 + np.random.default_rng(0).normal(size=(20000, 2, 3))
    wrong = sum(Comparison(tuple(b), tuple(a), bar=10.0).p < LEVEL for b, a in draws)
    assert 0.04 < wrong / 20000 < 0.05


def test_a_gain_of_one_percent_is_none_however_sure() -> None:
    tiny = Comparison((1.0, 1.01, 1.02), (0.99, 1.0, 1.01))
    assert tiny.p < 0.001
    assert not tiny.better
    assert tiny.told == "too small to count, less than 2% of the score"
    assert tiny.negligible
    assert not Comparison((1.0, 1.01, 1.02), (0.985, 0.995, 1.005)).negligible  # near what counts
    assert Comparison((1.0, 1.01, 1.02), (0.9, 0.91, 0.92)).better


def test_where_nothing_is_random_the_sign_decides() -> None:
    assert Comparison((2.0, 2.0), (1.0, 1.0)).p == 0
    assert Comparison((1.0, 1.0), (1.0, 1.0)).p == 1
    assert not Comparison((1.0,), (0.1,)).better
    assert math.isnan(Comparison((1.0,), (0.1,)).spread)


def test_a_p_of_nothing_is_told_as_small() -> None:
    assert Comparison((2.0, 2.0, 2.0), (1.0, 1.001, 1.0)).sure == "p < 0.001"
    assert Comparison((2.0, 2.0), (1.0, 1.0)).sure.startswith("the same from every seed")
    assert Comparison((2.3, 2.3), (2.3, 2.3)).sure == "p = 1"
    assert Comparison((0.1, 0.2), (0.3, 0.25)).sure == "p = 0.83"
    assert Comparison((0.1, 0.2), (0.3, 0.25)).told == "no significant difference"


def test_who_does_not_break_is_better_than_who_always_does() -> None:
    after = 2.28, 2.302, 2.303
    assert not Comparison((2.303, 2.303, 2.303), after, smallest=0.0).better
    lasting = Comparison((2.303, 2.303, 2.303), after, smallest=0.0, lasts=True)
    assert lasting.better
    assert lasting.p == pytest.approx(1.25 / 64)
    assert not Comparison((2.303,) * 3, (2.303,) * 3, smallest=0.0, lasts=True).better
