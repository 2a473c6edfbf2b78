"""Covariances written out, pair of entries by pair of entries: the second witness of fields."""

from functools import cache
from itertools import accumulate, pairwise
from math import prod

import numpy as np
from hypothesis import strategies as st

from isograd.prediction.fields import Field


def way_of(cut, i, j):
    """How indices i and j of one axis are related, as `isograd.prediction.pairs` numbers it."""
    edges = list(accumulate(cut))
    c = next(number for number, edge in enumerate(edges) if i < edge)
    d = next(number for number, edge in enumerate(edges) if j < edge)
    return c if i == j else len(cut) + c * len(cut) + d


def table(cut):
    """(entries, entries): the way of every pair."""
    n = sum(cut)
    return np.array([[way_of(cut, i, j) for j in range(n)] for i in range(n)])


@cache
def averaging(cut):
    """(ways, entries, entries): what takes a covariance to means over the pairs of each way."""
    of, k = table(cut), len(cut)
    result = np.stack([(of == way) / max(1, (of == way).sum()) for way in range(k + k * k)])
    for c, size in enumerate(cut):
        if size == 1:  # no pair of different entries: by agreement the entry itself
            result[k + c * k + c] = result[c]
    return result


@cache
def membership(cut):
    """(classes, entries): what takes entries to their means per class."""
    return (
        np.stack([np.arange(len(cut)) == c for c in np.repeat(np.arange(len(cut)), cut)]).T
        / (np.array(cut)[:, None])
    )


def written_out(field):
    """(entries x entries second moments, means) of the flattened tensor."""
    second, mean = field.second, field.mean
    for place, cut in enumerate(field.cuts):
        second = second.take(table(cut).ravel(), place)
        mean = mean.take(np.repeat(np.arange(len(cut)), cut), place)
    sizes, d = field.sizes, len(field.cuts)
    apart = second.reshape([n for size in sizes for n in (size, size)])
    order = [*range(0, 2 * d, 2), *range(1, 2 * d, 2)]
    total = prod(sizes)
    return apart.transpose(order).reshape(total, total), mean.ravel()


def averaged(second, mean, cuts):
    """Moments per kind of pair and per class of a tensor of axes with classes `cuts`.

    Further axes of `second` (entries, entries, …) and `mean` (entries, …) come first in the result.
    """
    sizes, d = [sum(cut) for cut in cuts], len(cuts)
    found = second.reshape([*sizes, *sizes, *second.shape[2:]])
    for place, cut in enumerate(cuts):  # the pair's axes go, one axis of ways comes at the end
        found = np.tensordot(found, averaging(cut), ([0, d - place], [1, 2]))
    means = mean.reshape([*sizes, *mean.shape[1:]])
    for cut in cuts:
        means = np.tensordot(means, membership(cut), (0, 1))
    return found, means


def made(rng, cuts, groups):
    """A field of random, valid moments: many kinds of correlation, means that are not zero."""
    total = prod(sum(cut) for cut in cuts)
    draws = rng.normal(size=(3, total)) * rng.uniform(0.2, 2.0, size=total)
    draws += rng.normal(size=(3, 1))
    mean = draws.mean(axis=0)
    second, means = averaged(draws.T @ draws / 3 + np.diag(rng.uniform(0, 1, total)), mean, cuts)
    return Field(second, tuple(cuts), tuple(groups), means)


def matrix_of(function, shape):
    """The matrix of a linear function of an array, on flattened entries."""
    rows = np.eye(prod(shape)).reshape(-1, *shape)
    return np.stack([np.asarray(function(row)).ravel() for row in rows], axis=1)


def assert_maps(result, function, source, shape=None):
    """`result` is the field of `function(x)`, linear, for x of field `source`."""
    matrix = matrix_of(function, source.shape)
    second, mean = written_out(source)
    assert_moments(result, matrix @ second @ matrix.T, matrix @ mean)
    wanted = np.asarray(function(np.zeros(source.shape))).shape if shape is None else shape
    assert result.shape == wanted


def assert_moments(result, second, mean):
    """A field has these moments, averaged over its kinds of pairs."""
    assert_sound(result)
    found, means = averaged(second, mean, result.cuts)
    scale = np.abs(second).max(initial=1.0)
    np.testing.assert_allclose(result.second, found, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(result.mean, means, rtol=0, atol=1e-12 * scale)


def assert_sound(field):
    """Shapes of the parts fit each other, and no factor has length one."""
    assert sum(field.groups) == len(field.cuts)
    assert field.second.shape == tuple(len(cut) * (1 + len(cut)) for cut in field.cuts)
    assert field.mean.shape == tuple(len(cut) for cut in field.cuts)
    assert all(size > 1 for size in field.sizes)


@st.composite
def cuts_of(draw, size, most=4):
    """Classes of an axis."""
    number = draw(st.integers(0, min(most, size) - 1))
    edges = draw(st.permutations(range(1, size)))[:number] if size > 1 else []
    ends = [0, *sorted(edges), size]
    return tuple(b - a for a, b in pairwise(ends))


@st.composite
def layouts(draw, axes=(0, 3), most=60, several=True):
    """(cuts, groups): factors and classes of a small tensor."""
    cuts, groups, left = [], [], most
    for _ in range(draw(st.integers(*axes))):
        number = draw(st.integers(0, 2 if several else 1))
        here = 0
        for _ in range(number):
            if left >= 2:
                size = draw(st.integers(2, min(6, left)))
                left //= size
                cuts.append(draw(cuts_of(size)))
                here += 1
        groups.append(here)
    return tuple(cuts), tuple(groups)


@st.composite
def fields(draw, axes=(0, 3), most=60, several=True):
    """Random fields."""
    cuts, groups = draw(layouts(axes, most, several))
    return made(np.random.default_rng(draw(st.integers(0, 2**20))), cuts, groups)


def factorizations(n):
    """Ordered products of numbers > 1 that give n."""
    if n == 1:
        return [()]
    heads = [d for d in range(2, n + 1) if n % d == 0]
    return [(d, *rest) for d in heads for rest in factorizations(n // d)]
