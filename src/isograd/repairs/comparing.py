"""Comparison: whether one way of training is better than another, seed by seed."""

import functools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

LEVEL = 0.05
"""Chance of calling a change better that is not: one-sided, of a comparison looked at once."""
REPEATED = 0.0225
"""The same where one looks after three, four and five seeds and stops as soon as it passes: that is
wrong in five percent of cases."""
SEVERAL = 1.25
"""What it costs to look at three seeds in several ways: without it 5.6 percent of simulated cases
are wrong, of noise around the bar, and with it less than five."""
LEAST = 0.001
"""A smaller `p` is told as being below this."""
SMALLEST = 0.02
"""A gain below two percent of the score is not worth a change, however sure it is."""


@dataclass(frozen=True)
class Comparison:
    """Scores of the same seeds before and after a change; lower is better.

    The differences are judged by Student's paired t-test, one-sided; where every score after is
    below every one before, by that as well (a rank-sum test), since a change that helps much, but
    not always as much, has a spread that hides it from the first. Where every run after has learned
    and none before has (a `bar` that stood before the runs lies between them), by that (Barnard
    1945, Nature 156, 177): if it made no difference who learns with probability q, that would
    happen with probability (q (1 - q))^n; and in the same way where every run before broke and none
    after did. With either `p` is SEVERAL times the least of all.
    Scores are finite: who makes them puts the score of an untrained network in the place of a run
    that broke.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    level: float = LEVEL
    """Below this `p` the gain counts."""
    smallest: float = SMALLEST
    """Part of the score that a gain must be."""
    bar: float = math.nan
    """A score that was named before any run: who is below it has learned something."""
    lasts: bool = False
    """Whether every run before broke, and none after."""

    @property
    def gain(self) -> float:
        """Mean of before - after."""
        return statistics.fmean(self._differences)

    @property
    def spread(self) -> float:
        """Standard deviation of before - after over the seeds."""
        return statistics.stdev(self._differences) if len(self.before) > 1 else math.nan

    @functools.cached_property
    def p(self) -> float:
        """Probability of such a gain, or a larger one, if the change did nothing."""
        from scipy.special import stdtr

        count = len(self.before)
        if count < 2:
            return 1.0
        found = self._student(stdtr)
        if max(self.after) < min(self.before):
            found = min(found, 1 / math.comb(2 * count, count))
        if self.lasts or max(self.after) < self.bar <= min(self.before):
            found = min(found, 0.25**count)
        several = self.lasts or not math.isnan(self.bar)
        return min(1.0, SEVERAL * found) if several else found

    def _student(self, stdtr: Callable[[int, float], float]) -> float:
        count = len(self.before)
        if self.spread == 0 or self._alike:
            return 0.0 if self.gain > 0 else 1.0
        return float(stdtr(count - 1, -self.gain / (self.spread / math.sqrt(count))))

    @property
    def sure(self) -> str:
        """`p = 0.012`, `p < 0.001`: smaller ones rest on normal tails that nobody has seen.

        Of runs from the same weights on the same batch, all of which are one run: that.
        """
        if self._alike:
            return "the same from every seed: nothing in it is random"
        return f"p = {self.p:.2g}" if self.p >= LEAST else f"p < {LEAST:g}"

    @property
    def better(self) -> bool:
        """Whether the gain is more than chance and more than next to nothing."""
        scale = abs(statistics.fmean(self.before))
        return self.p < self.level and self.gain > self.smallest * scale

    @property
    def told(self) -> str:
        """`p = 0.012` of a gain that counts, and else why it does not."""
        if self.better:
            return self.sure
        if self.p < self.level:
            return f"too small to count, less than {100 * self.smallest:g}% of the score"
        return "no significant difference"

    @property
    def negligible(self) -> bool:
        """Whether the gain is sure, and so far below what counts that more runs will not help."""
        least = self.smallest * abs(statistics.fmean(self.before))
        return self.p < self.level and 2 * self.gain < least

    @property
    def worse(self) -> bool:
        """The same the other way around."""
        return Comparison(self.after, self.before, self.level, self.smallest).better

    @property
    def _alike(self) -> bool:
        return len(self.before) > 1 and self.spread <= 1e-12 * abs(self.gain) != 0

    @property
    def _differences(self) -> list[float]:
        return [b - a for b, a in zip(self.before, self.after, strict=True)]
