"""Fields (batch, time, features) as pairs of steps, and back.

A long sequence is not walked through step by step: of each stretch of alike steps a beginning and
an end are, and the last step of the beginning stands for all steps between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array, Indices, Sizes

_CLASSES = 8
"""Segments that the time axis is cut into at most."""
_ALIKE = 1e-3
"""Steps are of one segment while that changes the energies by less, relatively."""
OVER_TIME = "over time"
"""Note of a field: steps walked through, how many each stands for, and their energies."""
WALKED = 96
"""Sequences up to this length are walked through step by step."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Which steps are walked through.

    Args:
        at: the steps, rising.
        weights: how many steps each stands for.
        reach: steps beyond which two steps are far from each other.
    """

    at: Indices
    weights: Array
    reach: int = 16

    @classmethod
    def of(cls, cut: Sizes, keep: int) -> Timeline:
        """Steps of a time axis.

        Args:
            cut: its classes.
            keep: steps at the beginning and at the end of a class that are walked through.
        """
        at: list[int] = []
        weights: list[float] = []
        start = 0
        whole = sum(cut) <= WALKED
        for size in cut:
            if whole or size <= 2 * keep:
                at += range(start, start + size)
                weights += [1.0] * size
            else:
                at += [*range(start, start + keep), *range(start + size - keep, start + size)]
                weights += [1.0] * (keep - 1) + [1.0 + size - 2 * keep] + [1.0] * keep
            start += size
        return cls(np.array(at, dtype=np.intp), np.array(weights), 3 * keep // 4)

    @property
    def exact(self) -> bool:
        """Whether every step is walked through."""
        return bool((self.weights == 1).all())

    def counted(self, found: Array) -> Array:
        """Pairs (…, R, R) of the steps walked through, each times the pairs it stands for.

        A step between is far from all others but its neighbours, which it has like the step that
        stands for it.
        """
        if self.exact:
            return found
        w = self.weights
        far = found.copy()
        centres = np.flatnonzero(w > 1)
        for r in centres:
            reach = min(self.reach, int(r), len(w) - 1 - int(r))
            near = slice(r - reach, r + reach + 1)
            sides = np.stack([found[..., r, r - reach], found[..., r, r + reach]])
            level = np.sign(sides[0]) * np.abs(sides).min(axis=0)  # one side may die away
            far[..., r, near] = far[..., near, r] = level[..., None]
        each = (w[:, None] + w[None, :]) / 2
        return np.asarray(w[:, None] * w[None, :] * far + each * (found - far))


def segments(energies: Array, weights: Array, limit: int = _CLASSES) -> list[int]:
    """Cuts a time axis where the energy changes: merges neighbours that are most alike.

    Args:
        energies: per step walked through.
        weights: steps that each stands for.
        limit: of the number of segments.

    Returns:
        Steps walked through per segment.
    """
    sizes, levels, mass = [1] * len(energies), [float(e) for e in energies], list(weights)
    scale = float((np.square(energies) * weights).sum())
    while len(sizes) > 1:
        n, e = np.array(mass), np.array(levels)
        costs = n[:-1] * n[1:] / (n[:-1] + n[1:]) * np.square(np.diff(e))
        place = int(np.argmin(costs))
        if len(sizes) <= limit and costs[place] > _ALIKE**2 * scale:
            break
        a, b = mass[place], mass[place + 1]
        levels[place] = (a * levels[place] + b * levels.pop(place + 1)) / (a + b)
        mass[place] = a + mass.pop(place + 1)
        sizes[place] += sizes.pop(place + 1)
    return sizes


def laid_out(field: Field, order: tuple[int, int, int]) -> Field:
    """Axes (batch, time, features), one factor each, or none."""
    moved = field.permuted(order)
    for axis in range(3):
        moved = moved.as_one(axis)
    return moved


def cut_of_time(field: Field) -> Sizes:
    """Classes of the time axis of a field (batch, time, features)."""
    return field.cuts[field.factors_of(1)[0]] if field.groups[1] else (1,)


def steps_of(
    field: Field, timeline: Timeline, features: Sizes | None = None
) -> tuple[Array, Array]:
    """Pairs of steps of a field (batch, time, features), one array per class of features.

    Args:
        field: one factor per axis.
        timeline: steps to take.
        features: classes; one where left out.

    Returns:
        (classes, 2, R, R) of equal features, of one sample and of two; (classes, R) means.
    """
    batch, time, width = field.shape
    cuts = list(field.cuts)
    at = int(batch > 1)
    if batch > 1:
        cuts[0] = (batch,)
    if width > 1:
        cuts[-1] = features if features is not None else (width,)
    if time > 1 and not _fits(cuts[at], timeline):
        cuts[at] = tuple(int(w) for w in timeline.weights)
    whole = field.recut(cuts)
    second, mean = whole.second, whole.mean
    if batch == 1:
        second, mean = np.stack([second, second]), mean[None]
    if time == 1:
        second, mean = np.expand_dims(second, 1), np.expand_dims(mean, 1)
        classes = np.zeros(1, dtype=np.intp)
        index = np.zeros((1, 1), dtype=np.intp)
    else:
        cut = whole.cuts[at]
        k = len(cut)
        classes = np.repeat(np.arange(k), cut)[timeline.at]
        index = k + classes[:, None] * k + classes[None, :]
        np.fill_diagonal(index, classes)
    count = 1 if width == 1 else len(whole.cuts[-1])
    if width == 1:
        second, mean = second[..., None], mean[..., None]
    found = np.moveaxis(second[..., :count], -1, 0)[:, :, index]
    return found, np.moveaxis(mean[0][classes], -1, 0)


def _fits(cut: Sizes, timeline: Timeline) -> bool:
    """Whether no class begins between two steps walked through that are not neighbours."""
    if timeline.exact:
        return True
    borders = {0, *accumulate(cut)}
    ends = timeline.at + timeline.weights.astype(np.intp)
    return all(
        not any(start < border < end for border in borders)
        for start, end, w in zip(timeline.at, ends, timeline.weights, strict=True)
        if w > 1
    )


def field_of(
    parts: Sequence[tuple[Array, Array]],
    timeline: Timeline,
    batch: int,
    units: int,
    order: tuple[int, int, int],
) -> Field:
    """A field (batch, time, features) from pairs of steps, then its axes in another order.

    Args:
        parts: per class of features (2, R, R) second moments and (R,) means.
        timeline: the steps.
        batch: samples.
        units: features per class.
        order: of the axes.
    """
    each = np.arange(len(timeline.at))
    energies = np.mean([second[0, each, each] for second, _ in parts], axis=0)
    averages = _Averages(segments(energies, timeline.weights), timeline)
    cut, k = averages.cut, len(parts)
    wide = (units,) * k
    second = np.empty((2, pairs.ways(cut), pairs.ways(wide)))
    for c, (own, mean) in enumerate(parts):
        second[:, :, c] = averages.of_pairs(own)
        for d, (_, other) in enumerate(parts):
            product = (mean[:, None] * other[None, :] + other[:, None] * mean[None, :]) / 2
            second[:, :, k + c * k + d] = averages.of_pairs(product)
        if units == 1:
            second[:, :, k + c * k + c] = second[:, :, c]
    means = np.stack([averages.of_steps(m) for _, m in parts], axis=-1)[None]
    found = reduced(second, ((batch,), cut, wide), means).permuted(order)
    found.notes[OVER_TIME] = timeline.at, timeline.weights, energies
    return found


class _Averages:
    """Averages over segments of a timeline.

    Args:
        sizes: steps walked through per segment.
        timeline: the steps.
    """

    def __init__(self, sizes: list[int], timeline: Timeline) -> None:
        self.timeline = timeline
        self.starts = [0, *accumulate(sizes)][:-1]
        self.number = np.add.reduceat(timeline.weights, self.starts)
        self.cut: Sizes = tuple(round(n) for n in self.number)

    def of_steps(self, values: Array) -> Array:
        """(R,) -> (segments,)."""
        weighted = values * self.timeline.weights
        return np.asarray(np.add.reduceat(weighted, self.starts) / self.number)

    def of_pairs(self, found: Array) -> Array:
        """(…, R, R) -> (…, ways)."""
        k, lead = len(self.cut), found.shape[:-2]
        counted = self.timeline.counted(found)
        sums = np.add.reduceat(np.add.reduceat(counted, self.starts, -1), self.starts, -2)
        diagonal = np.diagonal(found, axis1=-2, axis2=-1) * self.timeline.weights
        own = np.add.reduceat(diagonal, self.starts, -1)
        inner = np.arange(k)
        sums[..., inner, inner] -= own
        flat = np.concatenate([own, sums.reshape(*lead, k * k)], axis=-1)
        ways = pairs.normalized(flat.reshape(-1, k + k * k).T, self.cut)
        return ways.T.reshape(*lead, -1)


def reduced(second: Array, axes: tuple[Sizes, Sizes, Sizes], mean: Array) -> Field:
    """A field of three axes, those of length one without a factor."""
    cuts: list[Sizes] = []
    for cut in axes:
        if sum(cut) > 1:
            cuts.append(cut)
        else:
            second = np.asarray(second.take(0, len(cuts)))
            mean = np.asarray(mean.take(0, len(cuts)))
    groups = tuple(int(sum(cut) > 1) for cut in axes)
    return Field(np.asarray(second), tuple(cuts), groups, np.asarray(mean))
