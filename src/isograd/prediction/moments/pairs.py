"""Pairs of entries along one axis: how two indices can be related, and how many pairs there are.

An axis of n entries is cut into k classes, segments whose entries are exchangeable. Two indices
i, j are then related in one of k + k^2 ways: the same entry of class c (k ways), or different
entries of classes c and c' (k^2 ways, row by row). One class is the plain exchangeable axis, n
classes a full covariance.

On a `Line`, an axis of positions, different entries are near or far besides: there are k ways of
the same entry, then one for each c, c' and distance that a pair really has.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Sizes = tuple[int, ...]
"""Sizes of the classes of one axis, in order."""


class Line(tuple[int, ...]):
    """Sizes of the classes of an axis whose pairs are told apart by their distance, too."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


class Mirror(Line):
    """A line whose ends are alike: all classes but the last have half their entries at each."""

    __slots__ = ()

    def halves(self) -> list[int]:
        """Sizes of the classes of one end, from the border on."""
        return [size // 2 for size in self[:-1]]


_AT_ONCE = 2_000_000
_DISTANCES = (2, 4)
FAR = _DISTANCES[-1]
"""Distances from which on two entries of a line are farther from each other: 1, 2 to 3, more."""
LONGEST = 2048
"""Positions beyond which near and far are not told apart: tables of pairs would be too large."""
_RINGS, _NARROW = 2, 32
"""Classes at each end of an axis, and positions up to which it has so many; beyond, one."""


def of_positions(rows: Array, *, strict: bool = False) -> Sizes:
    """A line whose positions are cut into classes at both ends.

    Ends that differ by one or two positions, as behind a stride, count as alike.

    Args:
        rows: (positions, any): equal for positions that are alike.
        strict: whether they do not.
    """
    n = len(rows)
    same = 1e-9 * (np.abs(rows).max() + 1e-300)
    if n > LONGEST:
        ends = [
            min(sum(_runs(half, same)), n // 4) for half in (rows[: n // 2], rows[: n // 2 : -1])
        ]
        return tuple(size for size in (ends[0], n - sum(ends), ends[1]) if size)
    low, high = _runs(rows[: n // 2 + 1], same), _runs(rows[: (n - 1) // 2 - n : -1], same)
    if not strict and low != high and max(sum(low), sum(high)) <= _RINGS:
        low = high = [1] * max(sum(low), sum(high))
    if low == high and not (strict and np.abs(rows - rows[::-1]).max() > same):
        ends = low[: _RINGS if n <= _NARROW else 1]
        rest = n - 2 * sum(ends)
        return Mirror(size for size in [*(2 * end for end in ends), rest] if size)
    first, last = sum(low[:1]), sum(high[:1])
    return Line(size for size in (first, n - first - last, last) if size)


def _runs(rows: Array, same: float) -> list[int]:
    """How many rows each are alike, from the first on, before all are as the last one."""
    unlike = np.abs(rows - rows[-1]).max(axis=1) > same
    outer = int(unlike.nonzero()[0].max(initial=-1)) + 1
    changes = np.abs(np.diff(rows[:outer], axis=0)).max(axis=1, initial=0) > same
    edges = [0, *(changes.nonzero()[0] + 1).tolist(), *([outer] if outer else [])]
    return [b - a for a, b in pairwise(edges)]


def in_order(sizes: Sizes) -> Sizes:
    """Sizes of the stretches of entries of one class each."""
    if isinstance(sizes, Mirror):
        ends = sizes.halves()
        return (*ends, sizes[-1], *reversed(ends))
    return tuple(sizes)


def plain(sizes: Sizes) -> Sizes:
    """Classes without distances, at most one at each end."""
    if isinstance(sizes, Mirror) and len(sizes) > 1:
        end = sizes[0] // 2
        return (end, sum(sizes) - 2 * end, end) if sum(sizes) > 2 * end else (end, end)
    return tuple(sizes) if isinstance(sizes, Line) else sizes


@lru_cache(maxsize=4096)
def owners(sizes: Sizes) -> Indices:
    """The class of every entry."""
    if isinstance(sizes, Mirror):
        k = len(sizes)
        return np.repeat([*range(k), *reversed(range(k - 1))], in_order(sizes))
    return np.repeat(np.arange(len(sizes)), sizes)


@lru_cache(maxsize=16)
def labels(sizes: Sizes) -> Indices:
    """(entries, entries): the way in which each two indices are related; not for long axes."""
    k, n = len(sizes), sum(sizes)
    owner = owners(sizes)
    every = owner[:, None] * k + owner
    if isinstance(sizes, Line):
        at = np.arange(n)
        far = np.searchsorted(_DISTANCES, np.abs(at[:, None] - at), side="right")
        every = every * (len(_DISTANCES) + 1) + far
        apart = ~np.eye(n, dtype=bool)
        every[apart] = np.unique(every[apart], return_inverse=True)[1]
    every += k
    every[range(n), range(n)] = owner
    return np.asarray(every)


@lru_cache(maxsize=1024)
def _examples(line: Line) -> Indices:
    """Of each way of a line, where in its labels, flat, one pair stands."""
    return np.unique(labels(line), return_index=True)[1]


@lru_cache(maxsize=4096)
def ways(sizes: Sizes) -> int:
    """Number of ways in which two indices can be related."""
    return len(_examples(sizes)) if isinstance(sizes, Line) else len(sizes) * (1 + len(sizes))


@lru_cache(maxsize=4096)
def counts(sizes: Sizes) -> Array:
    """Ordered pairs of indices per way."""
    if isinstance(sizes, Line):
        return np.bincount(labels(sizes).ravel()).astype(np.float64)
    n = np.array(sizes, dtype=np.float64)
    return np.concatenate([n, (np.outer(n, n) - np.diag(n)).ravel()])


@lru_cache(maxsize=4096)
def same_counts(sizes: Sizes) -> Array:
    """As `counts`, with nothing for pairs of different indices."""
    n = np.array(sizes, dtype=np.float64)
    return np.concatenate([n, np.zeros(ways(sizes) - len(n))])


@lru_cache(maxsize=4096)
def shares(sizes: Sizes) -> Array:
    """Share of all ordered pairs per way: weights of a mean over the axis."""
    found = counts(sizes)
    return np.asarray(found / found.sum())


@lru_cache(maxsize=4096)
def same_shares(sizes: Sizes) -> Array:
    """Share of the entries per class, zero for pairs of different indices."""
    found = same_counts(sizes)
    return np.asarray(found / found.sum())


@lru_cache(maxsize=4096)
def lengths(cuts: tuple[Sizes, ...]) -> tuple[int, ...]:
    """Entries of each of several factors."""
    return tuple(sum(cut) for cut in cuts)


@lru_cache(maxsize=4096)
def shape_of(cuts: tuple[Sizes, ...], groups: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a tensor whose axes are so many consecutive factors each."""
    sizes = lengths(cuts)
    ends = list(accumulate(groups, initial=0))
    return tuple(prod(sizes[a:b]) for a, b in pairwise(ends))


@lru_cache(maxsize=4096)
def every_share(cuts: tuple[Sizes, ...]) -> Array:
    """Share of all ordered pairs per kind of pair, of several factors, flat."""
    return outer([shares(cut) for cut in cuts])


@lru_cache(maxsize=4096)
def every_same(cuts: tuple[Sizes, ...]) -> Array:
    """Share of the entries per kind of pair, zero for pairs of different entries, flat."""
    return outer([same_shares(cut) for cut in cuts])


@lru_cache(maxsize=4096)
def every_entry(cuts: tuple[Sizes, ...]) -> Array:
    """Share of the entries per class, of several factors, flat."""
    return outer([np.array(cut) / sum(cut) for cut in cuts])


def outer(parts: list[Array]) -> Array:
    """Products of one number of each part, flat."""
    result = np.ones(1)
    for part in parts:
        result = np.multiply.outer(result, part).ravel()
    return result


@lru_cache(maxsize=4096)
def places(cuts: tuple[Sizes, ...]) -> tuple[Indices, Indices]:
    """Flat indices of the classes of the first and the second entry, per kind of pair."""
    classes = np.arange(int(np.prod([len(cut) for cut in cuts]))).reshape([len(c) for c in cuts])
    first, other = zip(*(ends(cut) for cut in cuts), strict=True)
    return classes[np.ix_(*first)], classes[np.ix_(*other)]


@lru_cache(maxsize=4096)
def given_first(sizes: Sizes) -> Array:
    """Matrix [classes, ways]: averages over the second index for a first one of each class."""
    first, _ = ends(sizes)
    found = np.zeros((len(sizes), ways(sizes)))
    found[first, range(len(first))] = counts(sizes) / np.array(sizes)[first]
    return found / sum(sizes)


@lru_cache(maxsize=4096)
def ends(sizes: Sizes) -> tuple[Indices, Indices]:
    """Classes of the first and the second index, per way."""
    k = len(sizes)
    each = np.arange(k)
    if isinstance(sizes, Line):
        first, other = np.divmod(_examples(sizes), sum(sizes))
        owner = owners(sizes)
        return owner[first], owner[other]
    return np.concatenate([each, np.repeat(each, k)]), np.concatenate([each, np.tile(each, k)])


@lru_cache(maxsize=4096)
def common(a: Sizes, b: Sizes) -> Sizes:
    """The coarsest cut that is finer than both."""
    if a == b:
        return a
    edges = sorted({*accumulate(in_order(a)), *accumulate(in_order(b))})
    made = [edge - before for before, edge in zip([0, *edges[:-1]], edges, strict=True)]
    if not (isinstance(a, Line) or isinstance(b, Line)):
        return tuple(made)
    if all(isinstance(one, Mirror) or len(one) == 1 for one in (a, b)):
        k = len(made)
        outer = [made[c] + made[-1 - c] for c in range(k // 2)]
        return Mirror([*outer, *made[k // 2 : k - k // 2]])
    return Line(made)


@lru_cache(maxsize=4096)
def parents(coarse: Sizes, fine: Sizes) -> Indices:
    """Class of `coarse` that holds each class of `fine`."""
    _, starts = np.unique(owners(fine), return_index=True)
    return owners(coarse)[starts]


@lru_cache(maxsize=4096)
def refining(coarse: Sizes, fine: Sizes) -> Indices:
    """For each way of `fine` the way of `coarse` that it is a case of."""
    if isinstance(fine, Line):
        return labels(coarse).ravel()[_examples(fine)]
    parent, k = parents(coarse, fine), len(coarse)
    across = k + parent[:, None] * k + parent[None, :]
    # A class of one entry has no pair of different ones: what stands there is the entry itself.
    for c, size in enumerate(fine):
        if size == 1:
            across[c, c] = parent[c]
    return np.concatenate([parent, across.ravel()])


@lru_cache(maxsize=4096)
def coarsening(fine: Sizes, coarse: Sizes) -> Array:
    """Matrix [ways of coarse, ways of fine] of averages over the pairs of finer classes."""
    number = counts(fine)
    result = np.zeros((ways(coarse), ways(fine)))
    if isinstance(fine, Line):
        result[refining(coarse, fine), range(len(number))] = number
        return normalized(result, coarse)
    parent, k = parents(coarse, fine), len(coarse)
    first, second = ends(fine)
    for way in range(ways(fine)):
        c, d = parent[first[way]], parent[second[way]]
        to = c if way < len(fine) else k + c * k + d
        result[to, way] += number[way]
    return normalized(result, coarse)


@lru_cache(maxsize=512)
def halving(sizes: Sizes, outer: int) -> Array:
    """Matrix [2 x 2 ways of outer and inner, ways of sizes]: an axis as two without classes."""
    n = sum(sizes)
    member = indicator(sizes).reshape(outer, n // outer, -1)
    rows, columns = member.sum(axis=1), member.sum(axis=0)
    total, k = np.array(sizes, dtype=np.float64), len(sizes)
    result = np.zeros((4, ways(sizes)))
    result[0, :k] = total
    lone = np.diag(total)
    result[1, k:] = (rows.T @ rows - lone).ravel()
    result[2, k:] = (columns.T @ columns - lone).ravel()
    result[3, k:] = (np.outer(total, total) + lone).ravel() - (
        result[1, k:] + result[2, k:] + 2 * lone.ravel()
    )
    return np.asarray(result / result.sum(axis=1, keepdims=True))


def normalized(sums: Array, sizes: Sizes) -> Array:
    """Rows [ways of sizes, …] of sums over pairs as averages; a lone entry is its own other."""
    number = counts(sizes)
    k = len(sizes)
    result = sums / np.where(number > 0, number, 1.0)[:, None]
    if not isinstance(sizes, Line):
        for c, size in enumerate(sizes):
            if size == 1:
                result[k + c * k + c] = result[c]
    return np.asarray(result)


def tallied(
    related: Sequence[tuple[Sizes, Indices]], weights: Array, lengths: Sequence[int] = ()
) -> Array:
    """Sums of products of two weights over all pairs of terms, by how these are related.

    Args:
        related: per axis its classes, and the index on it of each term.
        weights: of the terms.
        lengths: of the result's axes; the number of ways of each axis where left out.
    """
    lengths = lengths or [ways(sizes) for sizes, _ in related]
    number = len(weights)
    step = max(1, _AT_ONCE // max(number, 1))
    total = np.zeros(prod(lengths))
    for start in range(0, number, step):
        some = slice(start, start + step)
        key = np.zeros((1, 1), dtype=np.intp)
        for (sizes, at), length in zip(related, lengths, strict=True):
            key = key * length + labels(sizes)[at[some][:, None], at]
        products = weights[some][:, None] * weights
        total += np.bincount(key.ravel(), products.ravel(), minlength=len(total))
    return total.reshape(lengths)


def transition(matrix: Array, out: Sizes, into: Sizes) -> Array:
    """Matrix [ways of out, ways of into] of y = matrix @ x along one axis.

    E[y_o y_o'] = sum over i, i' of M_oi M_o'i' E[x_i x_i'], averaged over the pairs of each way.

    Args:
        matrix: (outputs, inputs).
        out: classes of the outputs.
        into: classes of the inputs.
    """
    if isinstance(out, Line) or isinstance(into, Line):
        of, read = np.nonzero(matrix)
        return normalized(tallied([(out, of), (into, read)], matrix[of, read]), out)
    kin, kout = len(into), len(out)
    member_in, member_out = indicator(into), indicator(out)
    per_out = matrix @ member_in  # sums over the inputs of a class
    squares = np.square(matrix) @ member_in
    pairs_out = np.einsum("oc,od->ocd", per_out, per_out)
    pairs_out[:, range(kin), range(kin)] -= squares
    own = np.concatenate([squares, pairs_out.reshape(len(matrix), kin * kin)], axis=1)
    same = member_out.T @ own
    columns = member_out.T @ matrix  # sums over the outputs of a class
    blocks = columns @ member_in
    across = np.empty((kout, kout, ways(into)))
    for c in range(kout):
        for d in range(kout):
            equal = (columns[c] * columns[d]) @ member_in
            every = np.outer(blocks[c], blocks[d])
            every[range(kin), range(kin)] -= equal
            across[c, d] = np.concatenate([equal, every.ravel()])
        across[c, c] -= same[c]
    return normalized(np.concatenate([same, across.reshape(kout * kout, -1)]), out)


def means_of(matrix: Array, out: Sizes, into: Sizes) -> Array:
    """Matrix [classes of out, classes of into] that takes means of x to means of matrix @ x."""
    blocks = indicator(out).T @ matrix @ indicator(into)
    return np.asarray(blocks / np.array(out, dtype=np.float64)[:, None])


@lru_cache(maxsize=512)
def indicator(sizes: Sizes) -> Array:
    """(entries, classes), 1 where an entry is of a class."""
    return np.eye(len(sizes))[owners(sizes)]
