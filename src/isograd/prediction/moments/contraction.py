"""Contraction: second moments of sums over products of two independent fields, as einsum writes it.

How the axes of both meet depends on their layouts alone, so that it is worked out once for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from isograd.prediction.functions.grams import paired
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array, Sizes

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def contracted(x: Field, of_x: str, y: Field, of_y: str, of_out: str) -> Field:
    """The field of the sum over the labels that the output lacks.

    Args:
        x: first factor.
        of_x: its labels, one letter an axis.
        y: second factor.
        of_y: its labels.
        of_out: labels of the output.
    """
    plan = _plan((x.cuts, x.groups, of_x), (y.cuts, y.groups, of_y), of_out)
    if plan is None:
        x, y, whole = _aligned(x, of_x, y, of_y, of_out)
        plan = _plan((x.cuts, x.groups, whole), (y.cuts, y.groups, whole), of_out)
        assert plan is not None
    second = _summed(x.second, y.second, plan.second, plan.labels)
    if x.is_centered or y.is_centered:
        mean = np.zeros(plan.classes)
    else:
        mean = _summed(x.mean, y.mean, plan.mean, plan.labels)
    return Field(second, plan.cuts, plan.groups, mean)


def in_common(
    gradient: Field, of_out: str, other: Field, of_other: str, of_mine: str, variance: float
) -> Field | None:
    """What a gradient and a factor have in common (`grams.paired`), contracted; None for nothing.

    Args:
        gradient: of the output.
        of_out: its labels.
        other: keys or features.
        of_other: its labels.
        of_mine: labels of what the gradient goes to.
        variance: of the correlation of two tokens.
    """
    tokens = [c for c in of_out if c in of_other and c not in of_mine]
    if not tokens:
        return None
    g, o, whole = _aligned(gradient, of_out, other, of_other, of_mine)
    axis = whole.index(tokens[-1])
    if not g.groups[axis] or not o.groups[axis]:
        return None
    one, two = paired(g, o, g.factors_of(axis)[-1], o.factors_of(axis)[-1], variance)
    return contracted(one, whole, two, whole, of_mine)


@dataclass(frozen=True, slots=True)
class _Weights:
    """Pairs, or entries, that one number stands for, of the factors that are summed over."""

    first: Array | None
    """Broadcasts to the moments of the first field; None for ones."""
    other: Array | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """How two layouts are contracted."""

    labels: str
    """For einsum, one letter a factor."""
    second: _Weights
    mean: _Weights
    cuts: tuple[Sizes, ...]
    groups: tuple[int, ...]
    classes: tuple[int, ...]


def _summed(x: Array, y: Array, weights: _Weights, labels: str) -> Array:
    if weights.first is not None:
        x = x * weights.first
    if weights.other is not None:
        y = y * weights.other
    return np.asarray(np.einsum(labels, x, y))


Layout = tuple[tuple[Sizes, ...], tuple[int, ...], str]
"""(cuts, groups, labels) of one field."""


@lru_cache(maxsize=4096)
def _plan(x: Layout, y: Layout, out: str) -> _Plan | None:
    """None where an axis of both is not cut alike, or one that is kept is in neither."""
    spare = iter(_LETTERS)
    letters: dict[str, str] = {}
    cut_of: dict[str, tuple[Sizes, ...]] = {}
    sides = []
    for cuts, groups, labels in (x, y):
        if len(set(labels)) < len(labels):
            return None
        side, at = "", 0
        for label, number in zip(labels, groups, strict=True):
            own = cuts[at : at + number]
            at += number
            if number and label not in letters:
                letters[label] = "".join(next(spare) for _ in own)
                cut_of[label] = own
            if number and cut_of[label] != own:
                return None
            side += letters[label] if number else ""
        sides.append(side)
    kept = "".join(letters.get(label, "") for label in out)
    sizes = {
        c: cut for label in letters for c, cut in zip(letters[label], cut_of[label], strict=True)
    }
    own = tuple(sizes[c] for c in kept)
    once = ["".join(c for c in side if c not in kept) for side in sides]
    once[1] = "".join(c for c in once[1] if c not in once[0])
    counts = {c: pairs.counts(cut) for c, cut in sizes.items()}
    entries = {c: np.array(cut, dtype=np.float64) for c, cut in sizes.items()}
    second, mean = (
        _Weights(*(_outer(side, summed, table) for side, summed in zip(sides, once, strict=True)))
        for table in (counts, entries)
    )
    return _Plan(
        f"{sides[0]},{sides[1]}->{kept}",
        second,
        mean,
        own,
        tuple(len(letters.get(label, "")) for label in out),
        tuple(len(cut) for cut in own),
    )


def _outer(side: str, summed: str, table: dict[str, Array]) -> Array | None:
    if not summed:
        return None
    result = np.ones((1,) * len(side))
    for place, c in enumerate(side):
        if c in summed:
            shape = [1] * len(side)
            shape[place] = -1
            result = result * table[c].reshape(shape)
    return result


def _aligned(x: Field, of_x: str, y: Field, of_y: str, out: str) -> tuple[Field, Field, str]:
    """Both fields with the same labels, cut alike where both have an axis."""
    whole = "".join(sorted({*of_x, *of_y}, key=(out + of_x + of_y).index))
    a, b = aligned(_spread(x, of_x, whole), _spread(y, of_y, whole))
    return _owned(a, x, of_x, whole), _owned(b, y, of_y, whole), whole


def _spread(f: Field, labels: str, whole: str) -> Field:
    """Axes in the order of `whole`, length one where the field has none."""
    order = sorted(range(len(labels)), key=lambda axis: whole.index(labels[axis]))
    moved = f.permuted(order) if order != list(range(len(labels))) else f
    groups = [0] * len(whole)
    for axis, number in zip(order, moved.groups, strict=True):
        groups[whole.index(labels[axis])] = number
    return moved.regrouped(tuple(groups))


def _owned(f: Field, before: Field, labels: str, whole: str) -> Field:
    """One entry of each axis that was repeated."""
    owned = [c in labels and before.groups[labels.index(c)] > 0 for c in whole]
    kept = [place for axis, own in enumerate(owned) for place in f.factors_of(axis) if own]
    take = tuple(slice(None) if place in kept else 0 for place in range(len(f.cuts)))
    groups = tuple(n if own else 0 for n, own in zip(f.groups, owned, strict=True))
    return Field(f.second[take], tuple(f.cuts[p] for p in kept), groups, f.mean[take])
