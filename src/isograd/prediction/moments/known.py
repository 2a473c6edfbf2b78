"""Fields of what is known: numbers, independent draws of one law, arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from torch import Tensor

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import along
from isograd.prediction.moments.fields import Field, Shape, _canonical
from isograd.prediction.moments.pairs import Array, Sizes

SIGN = "sign"
"""Note of what is never below 0 (1), or never above (-1)."""
_COMMON = 0.1
"""Share of the variance that two entries of independent draws never have in common."""
_FEW, _SMALLEST, _LARGEST = 8, 1024, 4_000_000
"""Entries of an axis, and in all, from which that is told from chance; in all, at most."""


def sign_of(f: Field) -> int:
    """1 for a field that is never below 0, -1 for one that is never above, 0 for any other."""
    if f.nodes is None:
        if not f.cuts:
            return int(np.sign(f.average)) if f.energy == f.average**2 else 0
        return int(f.notes.get(SIGN, 0))
    return int(bool((f.nodes.values >= 0).all())) - int(bool((f.nodes.values <= 0).all()))


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
    second = _all_pairs(x, x, chosen, 0)
    for axis, cut in enumerate(chosen):  # from all pairs to those that are not near
        rows = np.moveaxis(second, axis, 0)
        for way, near in _anywhere(cut):
            rows[way] -= rows[near].sum(axis=0)
        number = pairs.counts(cut)
        rows /= np.where(number > 0, number, 1.0).reshape(-1, *([1] * (second.ndim - 1)))
        _canonical(second, axis, cut)
    mean = x
    for axis, cut in enumerate(chosen):
        mean = along(mean, axis, (pairs.indicator(cut) / np.array(cut)).T)
    return Field(second, chosen, tuple(int(size > 1) for size in shape), np.asarray(mean))


def _all_pairs(a: Array, b: Array, cuts: Sequence[Sizes], axis: int) -> Array:
    """Sums over products of two entries, per way of each axis from `axis` on.

    Two entries lie at a near distance on each axis, or anywhere: those of an axis are added up
    before the axes behind it are looked at.

    Args:
        a: first entries.
        b: second entries; the same array where no axis before tells them apart.
        cuts: classes per axis.
        axis: the first that is still one of entries.
    """
    if axis == len(cuts):
        return a * b
    cut = cuts[axis]
    k, n = len(cut), sum(cut)
    total: Any = 0.0
    for move in _moves(cut):
        one, two = a, b
        if move is None:
            one = along(a, axis, pairs.indicator(cut).T)
            two = one if a is b else along(b, axis, pairs.indicator(cut).T)
            if k > 1:
                first, other = np.divmod(np.arange(k * k), k)
                one, two = one.take(first, axis), two.take(other, axis)
        elif move:
            at = np.arange(max(0, -move), n - max(0, move))
            one, two = a.take(at, axis), b.take(at + move, axis)
        found = _all_pairs(one, two, cuts, axis + 1)
        total = total + along(found, axis, _ways_at(cut, move))
    return np.asarray(total)


def patterned(values: Tensor) -> Field | None:
    """The field of a parameter whose entries are no independent draws, such as waves of positions.

    Told from what entries of one row or column, or all of them, have in common.
    """
    sizes = [size for size in values.shape if size > 1]
    if len(sizes) < 2 or min(sizes) < _FEW or not _SMALLEST <= values.numel() <= _LARGEST:
        return None
    made = empirical(values.detach().double().numpy())
    variance = made.energy - made.average**2
    rest = np.abs(made.second - made.average**2).ravel()[1:]  # without an entry and itself
    return made if variance > 0 and rest.max() > _COMMON * variance else None


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
                cut = pairs.plain(like.cuts[factors[0]])
        cuts.append(cut)
    return cuts


def _moves(cut: Sizes) -> list[int | None]:
    """Distances that are told apart from any other, and None for any."""
    if not isinstance(cut, pairs.Line):
        return [0, None]
    reach = min(pairs.FAR, sum(cut))
    return [*range(1 - reach, reach), None]


@lru_cache(maxsize=256)
def _ways_at(cut: Sizes, move: int | None) -> Array:
    """[ways, pairs of entries at a distance], or for any pair of classes the farthest way."""
    if move is not None:
        way = np.diagonal(pairs.labels(cut), move) if move else pairs.owners(cut)
        near = np.arange(pairs.ways(cut))[:, None] == way
        near[[far for far, _ in _anywhere(cut)]] = False
        return np.asarray(near, dtype=np.float64)
    found = np.zeros((pairs.ways(cut), len(cut) ** 2))
    for far, _ in _anywhere(cut):
        first, other = (end[far] for end in pairs.ends(cut))
        found[far, first * len(cut) + other] = 1.0
    return found


@lru_cache(maxsize=256)
def _anywhere(cut: Sizes) -> list[tuple[int, list[int]]]:
    """Of each two classes the way of the farthest pairs, and all others."""
    first, other = pairs.ends(cut)
    found = []
    for c, d in np.ndindex(len(cut), len(cut)):
        every = np.flatnonzero((first == c) & (other == d)).tolist()
        if every and (every[-1] >= len(cut)):
            found.append((every[-1], every[:-1]))
    return found
