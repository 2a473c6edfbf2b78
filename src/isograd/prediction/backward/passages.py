"""Passages: gradients that go through the same random matrix several times in a row.

k passages through one square matrix W of n units, complex entries of variance 1 / n, leave
S = E tr(W^k W'^k) / n = n [Gamma(n + k + 2) / Gamma(n) - Gamma(n + 1) / Gamma(n - k - 1)]
/ (n^(k + 2) (k + 1) (k + 2)), which is 1 for k = 1 and about sinh(x) / x with x = k^2 / 2n: pairs
of paths that meet the entries of W in another order (Zagier 1995, On the distribution of the
number of cycles of elements in symmetric groups, counts them). Drawn anew at each passage, it would
be 1. Of real entries there are twice as many such pairs, to first order in 1 / n^2, which leaves
2 S - 1. A reordered path meets other slopes on its way, so that each step of it counts by their
overlap. Reordered pieces are short then, and many fit behind each other: exp(2 orders / n^2).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments.pairs import Array

if TYPE_CHECKING:
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.steps import Step

_MOST = 4.0
"""Largest ln of the growth: what makes means larger still are draws too rare to be met."""


def orders(most: int, overlap: float) -> Array:
    """Pairs of paths that meet the same weights in another order, after 0 … `most` passages.

    Two pieces of a path change places: with b and d steps, and c between them, that is
    b + c + d <= k with b, d >= 1; without loss of overlap these are C(k + 2, 4). b + c + d - 1
    slopes are those of another time then; where b = d the c in between stay in place, and
    2 (b - 1) are left.

    Args:
        most: the largest number of passages.
        overlap: E[f' g'] / E f'^2 of two steps, f' and g' the slopes between passages.
    """
    length = np.arange(1, most + 1)
    alike = length // 2
    moved = (length * (length - 1) / 2 - alike) * overlap ** (length - 1.0)
    in_place = np.append(0.0, np.cumsum(overlap ** (2.0 * (length - 1))))[alike]
    return np.append(0.0, np.cumsum(np.cumsum(moved + in_place)))


def growth(units: int, found: float, kept: float) -> float:
    """E tr(W^k W'^k) / n of real entries, and of slopes between them.

    Args:
        units: n.
        found: the number of orders; C(k + 2, 4) stands for k passages.
        kept: overlap of the slopes after all passages; 1 if they do not change.
    """
    k = (math.sqrt(1 + 4 * (1 + math.sqrt(1 + 24 * found))) - 1) / 2
    rising = math.lgamma(units + k + 2) - math.lgamma(units)
    falling = -math.inf
    if k + 1 < units:
        falling = math.lgamma(units + 1) - math.lgamma(units - k - 1)
    power = (k + 2) * math.log(units)
    total = math.exp(min(rising - power, 100.0)) - math.exp(falling - power)
    same = math.log(max(2 * units * total / ((k + 1) * (k + 2)) - 1, 1.0))
    return math.exp(min(kept * same + (1 - kept) * 2 * found / units**2, _MOST))


@lru_cache(maxsize=64)
def growths(units: int, most: int, overlap: float) -> Array:
    """What `growth` gives after 0 … `most` passages."""
    return np.array(
        [growth(units, n, overlap**k) for k, n in enumerate(orders(most, overlap).tolist())]
    )


class Passages:
    """Energy of a gradient on its way back, by how often it has met the matrix.

    Args:
        units: of the square matrix.
        most: the largest number of passages.
        overlap: as in `orders`.
    """

    def __init__(self, units: int, most: int, overlap: float) -> None:
        self.growths = growths(units, most + 1, min(max(overlap, 0.0), 1.0))
        self.energies = np.zeros(most + 2)

    def arrive(self, energy: float) -> None:
        """Adds what has met it not yet."""
        self.energies[0] = max(self.energies[0] + energy, 0.0)

    def scale(self, factor: float) -> None:
        """All of it, times a number."""
        self.energies *= factor

    def meet(self) -> float:
        """One passage more; returns its factor beyond that of a matrix drawn anew."""
        whole = self.energies.sum()
        if whole <= 0:
            return 1.0
        self.energies[1:] = self.energies[:-1] * self.growths[1:] / self.growths[:-1]
        self.energies[0] = 0.0
        return float(self.energies.sum() / whole)

    @property
    def variance(self) -> float:
        """Of ln of its energy over draws of the matrix.

        The energy is close to lognormal, its median to 1 over the root of its mean.
        """
        whole = self.energies.sum()
        return float(self.energies @ np.log(self.growths) / whole) if whole > 0 else 0.0


class Meetings:
    """How often each gradient of a run has met the square matrices that are used several times.

    Args:
        steps: of the forward.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        used = Counter(found for found in map(_square, steps) if found is not None)
        self.most = {draw: times for (draw, _), times in used.items() if times > 1}
        self._shares: dict[int, dict[int, Array]] = {}
        """Per gradient and matrix: shares of its energy, by number of passages."""
        self._overlaps: dict[int, float] = {}
        """Of the slopes since the last passage."""
        self._kept: list[Field] = []

    def pass_on(self, step: Step, before: Field | None, into: Field, gradient: Field) -> Field:
        """What a step makes of a gradient, given what it would be with a matrix drawn anew.

        Args:
            step: whose backward it was.
            before: the gradient of its output.
            into: the input.
            gradient: of the input.
        """
        if not self.most:
            return gradient
        shares, overlap = (
            dict(self._shares.get(id(before), {})),
            self._overlaps.get(id(before), 1.0),
        )
        square = _square(step)
        if square is not None and square[0] in self.most and "draw" not in into.notes:
            draw, units = square
            one = Passages(units, self.most[draw], round(overlap, 3))
            one.energies += shares.get(draw, 0.0)
            one.arrive(1.0 - one.energies.sum())
            sure = one.variance
            again = one.meet()
            noise, notes = gradient.noise + max(one.variance - sure, 0.0), gradient.notes
            gradient = gradient.scaled(math.sqrt(again))
            gradient.noise, gradient.notes = noise, notes
            shares[draw], overlap = one.energies / one.energies.sum(), 1.0
        if shares:
            self._keep(gradient, shares, overlap * _overlap(step))
        return gradient

    def add(self, total: Field, first: Field, second: Field) -> None:
        """What a sum of two gradients has met."""
        one, two = (self._shares.get(id(each), {}) for each in (first, second))
        whole = first.energy + second.energy
        if whole <= 0 or not (one or two):
            return
        parts = [(one, first.energy / whole), (two, second.energy / whole)]
        shares = {
            draw: np.sum([share * met[draw] for met, share in parts if draw in met], axis=0)
            for draw in one.keys() | two.keys()
        }
        self._keep(total, shares, min(self._overlaps.get(id(g), 1.0) for g in (first, second)))

    def _keep(self, gradient: Field, shares: dict[int, Array], overlap: float) -> None:
        self._shares[id(gradient)], self._overlaps[id(gradient)] = shares, overlap
        self._kept.append(gradient)


def _square(step: Step) -> tuple[int, int] | None:
    """The draw and the units of a square matrix, if a step is a product with one."""
    if getattr(step.link, "kind", None) != "product":
        return None
    for one in step.inputs[:2]:
        if "draw" in one.notes and len(one.shape) == 2 and one.shape[0] == one.shape[1]:
            return one.notes["draw"], one.shape[0]
    return None


def _overlap(step: Step) -> float:
    """That of the slopes of a function at independent arguments; 1 of other steps."""
    nodes = step.outputs[0].nodes if step.outputs else None
    if nodes is None:
        return 1.0
    second = nodes.square_slope()
    return nodes.mean_slope() ** 2 / second if second > 0 else 1.0
