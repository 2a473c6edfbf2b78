"""Fields of what is known: numbers, independent draws of one law, arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isograd.prediction import pairs
from isograd.prediction.fields import Field, Shape, along
from isograd.prediction.pairs import Array, Sizes


def scalar(value: float) -> Field:
    """A known number."""
    return Field(np.array(value * value), (), (), np.array(float(value)))


def independent(shape: Shape, mean: float, variance: float) -> Field:
    """Independent entries of one law."""
    cuts = tuple((size,) for size in shape if size > 1)
    second = np.full((2,) * len(cuts), mean * mean)
    second[(0,) * len(cuts)] += variance
    return Field(
        second,
        cuts,
        tuple(int(size > 1) for size in shape),
        np.full((1,) * len(cuts), float(mean)),
    )


def constant(shape: Shape, value: float) -> Field:
    """All entries the same known number."""
    return independent(shape, value, 0.0)


def empirical(values: Array, cuts: Sequence[Sizes] | None = None) -> Field:
    """Moments of the entries of a known array.

    Args:
        values: any shape.
        cuts: classes per axis longer than one; one class each where left out.
    """
    shape = values.shape
    kept = [size for size in shape if size > 1]
    x = np.asarray(values, dtype=np.float64).reshape(kept)
    chosen = tuple((size,) for size in kept) if cuts is None else tuple(cuts)
    d = len(kept)
    second = np.empty(tuple(pairs.ways(cut) for cut in chosen))
    # All subsets of axes on which the two entries are independent of each other.
    for subset in range(2**d):
        free = [axis for axis in range(d) if subset >> axis & 1]
        y = x
        for axis in free:
            y = along(y, axis, (pairs.indicator(chosen[axis]) / np.array(chosen[axis])).T)
        a, b = y, y
        for axis in free:
            k = len(chosen[axis])
            first, other = np.repeat(np.arange(k), k), np.tile(np.arange(k), k)
            a, b = a.take(first, axis), b.take(other, axis)
        found = a * b
        for axis in range(d):
            if axis not in free:
                share = pairs.indicator(chosen[axis]) / np.array(chosen[axis])
                found = along(found, axis, share.T)
        place = tuple(
            slice(len(cut), None) if axis in free else slice(0, len(cut))
            for axis, cut in enumerate(chosen)
        )
        second[place] = found
    for axis, cut in enumerate(chosen):  # from all pairs to pairs of different entries
        k = len(cut)
        rows = np.moveaxis(second, axis, 0)
        for c, size in enumerate(cut):
            own = rows[k + c * k + c]
            rows[k + c * k + c] = (own * size - rows[c]) / (size - 1) if size > 1 else rows[c]
    mean = x
    for axis, cut in enumerate(chosen):
        mean = along(mean, axis, (pairs.indicator(cut) / np.array(cut)).T)
    return Field(second, chosen, tuple(int(size > 1) for size in shape), np.asarray(mean))


def cuts_of(like: Field, shape: tuple[int, ...]) -> list[tuple[int, ...]] | None:
    """Classes of the axes of a field that an array is broadcast against; None if all plain."""
    if all(len(cut) == 1 for cut in like.cuts):
        return None
    extra = len(like.groups) - len(shape)
    cuts = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        cut: tuple[int, ...] = (size,)
        if axis + extra >= 0:
            factors = like.factors_of(axis + extra)
            if len(factors) == 1 and sum(like.cuts[factors[0]]) == size:
                cut = like.cuts[factors[0]]
        cuts.append(cut)
    return cuts
