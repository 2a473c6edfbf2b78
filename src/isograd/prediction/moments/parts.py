"""Parts of a field, and fields put together: slices, indices and borders, with their adjoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise, permutations
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.axes import along
from isograd.prediction.moments.fields import Field, Shape
from isograd.prediction.moments.pairs import Array, Indices, Sizes

if TYPE_CHECKING:
    from isograd.prediction.functions.gaussian import Nodes

_CLASSES = 24
"""Classes that an axis put together has at most; the most alike neighbors become one."""
_MOMENTS = 10_000
"""Second moments that a field put together has at most, if fewer classes are enough for that."""
_FEW = 4
"""Classes that known indices make at most of an axis that had none; more are averaged."""
_LOOKED_AT = 1024
"""Entries chosen by indices whose pairs are all counted; of more, as many at equal distances."""


def single(f: Field, axis: int) -> tuple[Field, int | None]:
    """The field with an axis as one factor, and that factor; None at length one."""
    if not f.groups[axis]:
        return f, None
    whole = f.as_one(axis)
    place = whole.factors_of(axis)[0]
    return whole.plain([place]), place


def with_factor(f: Field, axis: int) -> Field:
    """The field with an axis as one factor, also at length one."""
    if f.groups[axis]:
        whole = f.as_one(axis)
        return whole.plain(whole.factors_of(axis))
    place = sum(f.groups[:axis])
    return f._with(
        np.stack([f.second, f.second], axis=place),
        np.expand_dims(f.mean, place),
        (*f.cuts[:place], (1,), *f.cuts[place:]),
        (*f.groups[:axis], 1, *f.groups[axis + 1 :]),
    )


# -- slices ---------------------------------------------------------------------------------------


def part(f: Field, axis: int, start: int, stop: int) -> Field:
    """Entries start … stop - 1 of one axis."""
    if start == 0 and stop == f.shape[axis]:
        return f
    outer = _outermost(f, axis, start, stop)
    if outer is not None:
        return outer
    whole, place = single(f, axis)
    if place is None:
        return f
    edges = sorted({start, stop, *accumulate(whole.cuts[place])} - {0})
    fine = tuple(b - a for a, b in pairwise([0, *edges]))
    cut = whole.recut((*whole.cuts[:place], fine, *whole.cuts[place + 1 :]))
    kept = [c for c, at in enumerate([0, *edges[:-1]]) if start <= at < stop]
    return _chosen(cut, place, kept)


def _outermost(f: Field, axis: int, start: int, stop: int) -> Field | None:
    """A part of an axis of several factors that is a part of the first; None if it is not."""
    factors = f.factors_of(axis)
    inner = prod(f.sizes[place] for place in factors[1:])
    if len(factors) < 2 or start % inner or stop % inner:
        return None
    before, after = f.groups[:axis], f.groups[axis + 1 :]
    apart = f.regrouped((*before, 1, len(factors) - 1, *after))
    found = part(apart, axis, start // inner, stop // inner)
    return found.regrouped((*before, found.groups[axis] + len(factors) - 1, *after))


def _chosen(f: Field, place: int, kept: list[int]) -> Field:
    """Some classes of one factor; the factor goes away with its last entry but one."""
    cut = f.cuts[place]
    new = tuple(cut[c] for c in kept)
    second, mean = f.second.take(_ways_of(kept, len(cut)), place), f.mean.take(kept, place)
    nodes = None if f.nodes is None else f.nodes.take(np.array(kept), place)
    if sum(new) == 1:
        return dropped(f, place, second, mean, nodes)
    cuts: tuple[Sizes, ...] = (*f.cuts[:place], new, *f.cuts[place + 1 :])
    return f._with(second, mean, cuts, f.groups, nodes)


def dropped(f: Field, place: int, second: Array, mean: Array, nodes: Nodes | None = None) -> Field:
    """Without a factor, with what is left in the first place of it."""
    cuts = (*f.cuts[:place], *f.cuts[place + 1 :])
    axis = next(a for a in range(len(f.groups)) if place in f.factors_of(a))
    groups = tuple(n - (a == axis) for a, n in enumerate(f.groups))
    second, mean = np.asarray(second.take(0, place)), np.asarray(mean.take(0, place))
    return f._with(second, mean, cuts, groups, None if nodes is None else nodes.squeezed(place))


def _ways_of(classes: Sequence[int], k: int) -> list[int]:
    """The ways of an axis of k classes between some of them."""
    return [*classes, *(k + c * k + d for c in classes for d in classes)]


def embedded(g: Field, axis: int, start: int, size: int) -> Field:
    """Adjoint of `part`: zero elsewhere along an axis of `size` entries."""
    if g.shape[axis] == size:
        return g
    whole = with_factor(g, axis)
    place = whole.factors_of(axis)[0]
    inner = whole.cuts[place]
    before, after = start, size - start - sum(inner)
    cut = (*((before,) if before else ()), *inner, *((after,) if after else ()))
    classes = range(int(before > 0), int(before > 0) + len(inner))
    second = _at(whole.second, place, _ways_of(classes, len(cut)), pairs.ways(cut))
    mean = _at(whole.mean, place, classes, len(cut))
    cuts = (*whole.cuts[:place], cut, *whole.cuts[place + 1 :])
    return whole._with(second, mean, cuts, whole.groups)


def _at(rows: Array, axis: int, where: Sequence[int], length: int) -> Array:
    """Rows along an axis put at places of a longer one, with zeros elsewhere."""
    result = np.zeros((*rows.shape[:axis], length, *rows.shape[axis + 1 :]))
    np.moveaxis(result, axis, 0)[list(where)] = np.moveaxis(rows, axis, 0)
    return result


# -- indices --------------------------------------------------------------------------------------


def gathered(f: Field, axes: Sequence[int], index: Sequence[Indices]) -> Field:
    """Entries chosen by known indices along one axis, or along several at once.

    Args:
        f: the input.
        axes: of the tensor, next to each other; those of the indices come in their place.
        index: per axis, not negative; all of one shape.
    """
    shape = index[0].shape
    whole, into = _apart(f, axes)
    out: list[Sizes] = [(size,) for size in shape]
    if len(shape) == 1 and any(len(cut) > 1 for cut in into):
        out = [_runs(_joint([_classes(cut)[i] for cut, i in zip(into, index, strict=True)], into))]
    pairs_of, members = _pairs_between(out, into, index), _members_between(out, into, index)
    number = np.maximum(pairs_of.sum(axis=1), 1.0)
    second = (pairs_of / number[:, None])[_settled(out)]
    mean = members / np.maximum(members.sum(axis=1), 1.0)[:, None]
    return _exchanged(whole, axes, second, mean, out)


def scattered(g: Field, axes: Sequence[int], index: Sequence[Indices], sizes: Shape) -> Field:
    """Adjoint of `gathered`: entries of one index add up, all others are zero.

    Args:
        g: the gradient's field of the output.
        axes: of the input.
        index: as in `gathered`.
        sizes: lengths of those axes of the input.
    """
    at = range(axes[0], axes[0] + index[0].ndim)
    whole, out = _apart(g, at)
    labels = 1 + _joint(np.ix_(*map(_classes, out)), out)
    most = _FEW if all(len(cut) == 1 for cut in out) else _CLASSES
    counted = len(axes) > 1  # then how often an index occurs differs, and adds up over axes
    into = [_runs(_seen(i, labels, n, counted), most) for i, n in zip(index, sizes, strict=True)]
    number = np.maximum(_product(map(pairs.counts, into)), 1.0)
    second = (_pairs_between(out, into, index).T / number[:, None])[_settled(into)]
    mean = _members_between(out, into, index).T / _product(map(np.array, into))[:, None]
    return _exchanged(whole, at, second, mean, into)


def _apart(f: Field, axes: Iterable[int]) -> tuple[Field, list[Sizes]]:
    """The field with each of some axes as one factor, also at length one; their classes."""
    for axis in axes:
        f = with_factor(f, axis)
    return f, [f.cuts[f.factors_of(axis)[0]] for axis in axes]


def _exchanged(
    whole: Field, axes: Sequence[int], second: Array, mean: Array, cuts: Sequence[Sizes]
) -> Field:
    """The field with other axes in place of some, as matrices for all of them at once say."""
    place, number = whole.factors_of(axes[0])[0], len(axes)
    made = []
    for array, matrix, length in ((whole.second, second, pairs.ways), (whole.mean, mean, len)):
        lead, tail = array.shape[:place], array.shape[place + number :]
        moved = along(array.reshape(*lead, -1, *tail), place, matrix)
        moved = moved.reshape(*lead, *map(length, cuts), *tail)
        gone = [place + at for at, cut in enumerate(cuts) if sum(cut) == 1]
        made.append(moved[tuple(0 if axis in gone else slice(None) for axis in range(moved.ndim))])
    kept = [cut for cut in cuts if sum(cut) > 1]
    return whole._with(
        made[0],
        made[1],
        (*whole.cuts[:place], *kept, *whole.cuts[place + number :]),
        (*whole.groups[: axes[0]], *(int(sum(c) > 1) for c in cuts), *whole.groups[axes[-1] + 1 :]),
    )


def _pairs_between(out: Sequence[Sizes], into: Sequence[Sizes], index: Sequence[Indices]) -> Array:
    """(ways of the outputs, ways of their indices): pairs of outputs, all axes taken together."""
    total = index[0].size
    at = np.arange(total)
    if total > _LOOKED_AT:
        at = np.linspace(0, total - 1, _LOOKED_AT).astype(np.intp)
    places = np.unravel_index(at, index[0].shape)
    a = _joint_ways(out, places)
    b = _joint_ways(into, [i.reshape(-1)[at] for i in index])
    shape = (prod(map(pairs.ways, out)), prod(map(pairs.ways, into)))
    found = np.bincount((a * shape[1] + b).ravel(), minlength=prod(shape)).reshape(shape)
    weights = np.ones(shape[0])
    if total > _LOOKED_AT:
        weights = _product(map(pairs.counts, out)) / np.maximum(found.sum(axis=1), 1)
    return np.asarray(found * weights[:, None])


def _members_between(
    out: Sequence[Sizes], into: Sequence[Sizes], index: Sequence[Indices]
) -> Array:
    """(classes of the outputs, classes of their indices): numbers of outputs."""
    a = _joint(np.ix_(*map(_classes, out)), out)
    b = _joint([_classes(cut)[i] for cut, i in zip(into, index, strict=True)], into)
    shape = (prod(map(len, out)), prod(map(len, into)))
    found = np.bincount((a * shape[1] + b).ravel(), minlength=prod(shape))
    return found.reshape(shape).astype(np.float64)


def _joint_ways(cuts: Sequence[Sizes], index: Sequence[Indices]) -> Indices:
    """(entries, entries): how the indices of two entries are related on all axes together."""
    result = np.zeros((len(index[0]), len(index[0])), dtype=np.intp)
    for cut, i in zip(cuts, index, strict=True):
        k, c = len(cut), _classes(cut)[i]
        way = np.where(i[:, None] == i, c, k + c[:, None] * k + c)
        result = result * pairs.ways(cut) + way
    return result


def _settled(cuts: Sequence[Sizes]) -> Indices:
    """For each way of all axes together the one that stands for it: a lone entry for its pair."""
    result = np.zeros(1, dtype=np.intp)
    for cut in cuts:
        own = np.arange(pairs.ways(cut))
        for c, size in enumerate(cut):
            if size == 1:
                own[len(cut) + c * len(cut) + c] = c
        result = np.add.outer(result * len(own), own).ravel()
    return result


def _classes(cut: Sizes) -> Indices:
    """The class of every entry."""
    return np.repeat(np.arange(len(cut)), cut)


def _joint(classes: Sequence[Indices], cuts: Sequence[Sizes]) -> Indices:
    """One number for the classes on all axes."""
    result = np.zeros((), dtype=np.intp)
    for one, cut in zip(classes, cuts, strict=True):
        result = result * len(cut) + one
    return result


def _product(arrays: Iterable[Array]) -> Array:
    """Products over all combinations, the last axis fastest."""
    result = np.ones(1)
    for array in arrays:
        result = np.multiply.outer(result, array).ravel()
    return result


def _seen(index: Indices, labels: Indices, size: int, counted: bool) -> Indices:
    """Per entry of an axis the label of an output that is taken from there, 0 for none.

    Args:
        index: where outputs are taken from.
        labels: of the outputs, one or more.
        size: length of the axis.
        counted: whether the label says, too, how many are taken from there.
    """
    result = np.zeros(size, dtype=np.intp)
    result[index.reshape(-1)] = labels.reshape(-1)
    if counted:
        result += int(labels.max() + 1) * np.bincount(index.reshape(-1), minlength=size)
    return result


def _runs(labels: Indices, most: int = 2 * _CLASSES) -> Sizes:
    """Classes of neighbors of the same label; a single one if there are too many."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return tuple(b - a for a, b in pairwise(edges)) if len(edges) <= most + 1 else (len(labels),)


# -- together -------------------------------------------------------------------------------------


def joined(
    fields: Sequence[Field], axis: int, shared: Callable[[Field, Field], Field | None] | None = None
) -> Field:
    """Fields one after the other along an axis.

    Args:
        fields: the parts.
        axis: along which.
        shared: covariance of two of them, on the axes of the first; they are independent without.
    """
    if len(fields) == 1:
        return fields[0]
    # The other axes on the same factors and classes; this one is left out of it.
    others = [_without(f, axis) for f in fields]
    alike = len({(f.cuts, f.groups) for f in others}) == 1
    base = others[0] if alike else aligned(*others)[0]
    place = sum(base.groups[:axis])
    whole = [single(f, axis)[0] for f in fields]
    wide = [with_factor(f if alike else aligned(f, base)[0], axis) for f in whole]
    inner = [f.cuts[place] for f in wide]
    cut = tuple(size for one in inner for size in one)
    k, at = len(cut), 0
    shape = wide[0].second.shape
    second = np.zeros((*shape[:place], pairs.ways(cut), *shape[place + 1 :]))
    rows = np.moveaxis(second, place, 0)
    mean = np.concatenate([f.mean for f in wide], axis=place)
    for f, one in zip(wide, inner, strict=True):
        rows[_ways_of(range(at, at + len(one)), k)] = np.moveaxis(f.second, place, 0)
        at += len(one)
    owner = [part for part, one in enumerate(inner) for _ in one]
    means = np.moveaxis(mean, place, 0)
    for c, d in np.ndindex(k, k) if mean.any() else ():
        if owner[c] != owner[d] and means[c].any() and means[d].any():
            rows[k + c * k + d] = base.per_pair(means[c])[0] * base.per_pair(means[d])[1]
    if shared is not None and k == len(fields):
        for c, d in permutations(range(k), 2):
            both = shared(fields[c], fields[d]) if fields[c].shape == fields[d].shape else None
            if both is not None:
                found = with_factor(aligned(single(both, axis)[0], base)[0], axis)
                if found.cuts == wide[c].cuts:  # any two of the entries
                    rows[k + c * k + d] += np.tensordot(
                        pairs.shares(inner[c]), found.second, (0, place)
                    )
    cuts = (*base.cuts[:place], cut, *base.cuts[place:])
    groups = (*base.groups[:axis], 1, *base.groups[axis + 1 :])
    return simplified(Field(second, cuts, groups, mean), place)


def simplified(f: Field, place: int) -> Field:
    """Neighboring classes that are alike as one, until there are few enough."""
    cut = f.cuts[place]
    if len(cut) == 1:
        return f
    rows = np.moveaxis(f.second, place, 0)[: len(cut)].reshape(len(cut), -1)
    scale = np.abs(rows).max() + 1e-300
    gaps = np.abs(rows[1:] - rows[:-1]).max(axis=1) / scale
    keep = gaps > 1e-9
    # k + k^2 ways, times those of the other factors.
    others = f.second.size // pairs.ways(cut)
    most = min(_CLASSES, max(_FEW, int((_MOMENTS / others) ** 0.5)))
    if keep.sum() >= most:
        keep = gaps >= np.sort(gaps)[-(most - 1)]
    edges = np.flatnonzero(keep) + 1
    sizes = np.add.reduceat(np.array(cut), [0, *edges.tolist()])
    new = tuple(int(s) for s in sizes)
    return f if new == cut else f.recut((*f.cuts[:place], new, *f.cuts[place + 1 :]))


def few_classes(f: Field) -> Field:
    """A sum of parts, such as gradients from every step of a loop, without too many moments."""
    if f.second.size > _MOMENTS:
        for place, cut in enumerate(f.cuts):
            if len(cut) > _CLASSES and not isinstance(cut, pairs.Line):
                f = simplified(f, place)
    return f


def _without(f: Field, axis: int) -> Field:
    """One entry of an axis, for the sake of the other axes."""
    whole, place = single(f, axis)
    if place is None:
        return whole
    return whole._with(
        np.asarray(whole.second.take(0, place)),
        np.asarray(whole.mean.take(0, place)),
        (*whole.cuts[:place], *whole.cuts[place + 1 :]),
        (*whole.groups[:axis], 0, *whole.groups[axis + 1 :]),
    )
