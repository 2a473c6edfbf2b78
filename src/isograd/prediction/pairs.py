"""Pairs of entries along one axis: how two indices can be related, and how many pairs there are.

An axis of n entries is cut into k classes, segments whose entries are exchangeable. Two indices
i, j are then related in one of k + k^2 ways: the same entry of class c (k ways), or different
entries of classes c and c' (k^2 ways, row by row). One class is the plain exchangeable axis, n
classes a full covariance.
"""

from functools import lru_cache
from itertools import accumulate, pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Sizes = tuple[int, ...]
"""Sizes of the classes of one axis, in order."""


def ways(sizes: Sizes) -> int:
    """Number of ways in which two indices can be related."""
    return len(sizes) * (1 + len(sizes))


@lru_cache(maxsize=4096)
def counts(sizes: Sizes) -> Array:
    """Ordered pairs of indices per way."""
    n = np.array(sizes, dtype=np.float64)
    return np.concatenate([n, (np.outer(n, n) - np.diag(n)).ravel()])


@lru_cache(maxsize=4096)
def same_counts(sizes: Sizes) -> Array:
    """As `counts`, with nothing for pairs of different indices."""
    n = np.array(sizes, dtype=np.float64)
    return np.concatenate([n, np.zeros(len(sizes) ** 2)])


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
    return _outer([shares(cut) for cut in cuts])


@lru_cache(maxsize=4096)
def every_same(cuts: tuple[Sizes, ...]) -> Array:
    """Share of the entries per kind of pair, zero for pairs of different entries, flat."""
    return _outer([same_shares(cut) for cut in cuts])


@lru_cache(maxsize=4096)
def every_entry(cuts: tuple[Sizes, ...]) -> Array:
    """Share of the entries per class, of several factors, flat."""
    return _outer([np.array(cut) / sum(cut) for cut in cuts])


def _outer(parts: list[Array]) -> Array:
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
    k = len(sizes)
    share = counts(sizes) / np.concatenate([np.array(sizes), np.repeat(np.array(sizes), k)])
    found = np.zeros((k, ways(sizes)))
    found[np.arange(k), np.arange(k)] = share[:k]
    for c in range(k):
        found[c, k + c * k : k + (c + 1) * k] = share[k + c * k : k + (c + 1) * k]
    return found / sum(sizes)


@lru_cache(maxsize=4096)
def ends(sizes: Sizes) -> tuple[Indices, Indices]:
    """Classes of the first and the second index, per way."""
    k = len(sizes)
    each = np.arange(k)
    return np.concatenate([each, np.repeat(each, k)]), np.concatenate([each, np.tile(each, k)])


@lru_cache(maxsize=4096)
def common(a: Sizes, b: Sizes) -> Sizes:
    """The coarsest cut that is finer than both."""
    if a == b:
        return a
    edges = sorted({*accumulate(a), *accumulate(b)})
    return tuple(edge - before for before, edge in zip([0, *edges[:-1]], edges, strict=True))


@lru_cache(maxsize=4096)
def parents(coarse: Sizes, fine: Sizes) -> Indices:
    """Class of `coarse` that holds each class of `fine`."""
    edges = np.array(list(accumulate(coarse)))
    starts = np.array([0, *accumulate(fine)][:-1])
    return np.searchsorted(edges, starts, side="right")


@lru_cache(maxsize=4096)
def refining(coarse: Sizes, fine: Sizes) -> Indices:
    """For each way of `fine` the way of `coarse` that it is a case of."""
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
    parent, k = parents(coarse, fine), len(coarse)
    first, second = ends(fine)
    number = counts(fine)
    result = np.zeros((ways(coarse), ways(fine)))
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
    for c, size in enumerate(sizes):
        if size == 1:
            result[k + c * k + c] = result[c]
    return np.asarray(result)


def transition(matrix: Array, out: Sizes, into: Sizes) -> Array:
    """Matrix [ways of out, ways of into] of y = matrix @ x along one axis.

    E[y_o y_o'] = sum over i, i' of M_oi M_o'i' E[x_i x_i'], averaged over the pairs of each way.

    Args:
        matrix: (outputs, inputs).
        out: classes of the outputs.
        into: classes of the inputs.
    """
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
    return np.repeat(np.eye(len(sizes)), sizes, axis=0)
