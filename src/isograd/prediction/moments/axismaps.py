"""Linear maps along axes: what a known matrix on each of them does to a field, and its adjoint."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import along
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array, Sizes
from isograd.prediction.moments.sweeps import lined


class AxisMap(Hashable, Protocol):
    """y = matrix @ x along one axis; hashable, so that what follows from it is kept."""

    def matrix(self) -> Array:
        """(outputs, inputs)."""
        ...


def mapped(
    f: Field, first: int, maps: Sequence[AxisMap], cuts: Sequence[Sizes] | None = None
) -> Field:
    """The field of a tensor whose axes from `first` on went through `maps`.

    Args:
        f: the tensor's.
        first: axis of the first map.
        maps: one per axis.
        cuts: classes of the outputs; those of the inputs, carried over, where None.
    """
    for number, one in enumerate(maps):
        axis = first + number
        f = f.as_one(axis) if f.groups[axis] > 1 else f
        cut = carried(one, cut_of(f, axis)) if cuts is None else cuts[number]
        f = _mapped(f, axis, one, cut, back=False)
    return f


def adjoint(g: Field, first: int, maps: Sequence[AxisMap], like: Field) -> Field:
    """The gradient's field of the input, from that of the output; on the classes of `like`."""
    for axis, one in enumerate(maps, first):
        whole = like.as_one(axis) if like.groups[axis] > 1 else like
        g = g.as_one(axis) if g.groups[axis] > 1 else g
        g = _mapped(g, axis, one, cut_of(whole, axis), back=True)
    return g


def cut_of(f: Field, axis: int) -> Sizes:
    """Classes of an axis of at most one factor; one class of one entry for length one."""
    return f.cuts[f.factors_of(axis)[0]] if f.groups[axis] else (1,)


def _mapped(f: Field, axis: int, one: AxisMap, cut: Sizes, *, back: bool) -> Field:
    """One axis through a matrix or, `back`, through its transpose, to entries of classes `cut`."""
    place = sum(f.groups[:axis])
    second, mean, old = f.second, f.mean, cut_of(f, axis)
    if not f.groups[axis]:
        second, mean = np.expand_dims(second, place), np.expand_dims(mean, place)
    ways, means = transitions(one, cut, old, back)
    second = along(second, place, ways[:, : second.shape[place]])
    mean = along(mean, place, means)
    cuts = [*f.cuts[:place], cut, *f.cuts[place + f.groups[axis] :]]
    groups = [*f.groups]
    groups[axis] = 1
    if sum(cut) == 1:
        second, mean = np.asarray(second.take(0, place)), np.asarray(mean.take(0, place))
        del cuts[place]
        groups[axis] = 0
    result = f.like(second, mean)
    result.cuts, result.groups = tuple(cuts), tuple(groups)
    return result


@lru_cache(maxsize=4096)
def transitions(one: AxisMap, out: Sizes, into: Sizes, back: bool) -> tuple[Array, Array]:
    """What takes second moments and means from the classes `into` to `out`; see `pairs`."""
    matrix = one.matrix().T if back else one.matrix()
    return pairs.transition(matrix, out, into), pairs.means_of(matrix, out, into)


@lru_cache(maxsize=4096)
def carried(one: AxisMap, into: Sizes) -> Sizes:
    """Classes of the outputs: of each, that of the inputs that it has most of."""
    matrix = one.matrix()
    return lined(matrix, into) or _classes(matrix, pairs.in_order(into))


def _classes(matrix: Array, into: Sizes) -> Sizes:
    if len(into) == 1:
        return (len(matrix),)
    owner = (np.abs(matrix) @ pairs.indicator(into)).argmax(axis=1)
    if (np.diff(owner) < 0).any():
        return (len(matrix),)
    return tuple(int(size) for size in np.unique(owner, return_counts=True)[1])
