"""Covariances written out, pair of entries by pair of entries: the second witness of fields."""

from functools import cache
from itertools import pairwise
from math import prod

import numpy as np
from hypothesis import strategies as st

from isograd.prediction.moments import pairs
from isograd.prediction.moments.fields import Field


def classes_of(cut):
    """The class of every entry."""
    found = [c for c, size in enumerate(cut) for _ in range(size)]
    if not isinstance(cut, pairs.Mirror):
        return found
    end = [c for c, size in enumerate(cut[:-1]) for _ in range(size // 2)]
    return [*end, *([len(cut) - 1] * cut[-1]), *reversed(end)]


def distance(i, j):
    """How far two entries of a line are from each other: 1, 2 to 3, more."""
    return 0 if abs(i - j) < 2 else 1 if abs(i - j) < 4 else 2


@cache
def table(cut):
    """(entries, entries): how every two are related, by the numbers of `moments.pairs`."""
    n, k, of = sum(cut), len(cut), classes_of(cut)
    if isinstance(cut, pairs.Line):
        kinds = {(of[i], of[j], distance(i, j)) for i in range(n) for j in range(n) if i != j}
        number = {kind: k + at for at, kind in enumerate(sorted(kinds))}
        other = [[number.get((of[i], of[j], distance(i, j))) for j in range(n)] for i in range(n)]
    else:
        other = [[k + of[i] * k + of[j] for j in range(n)] for i in range(n)]
    return np.array([[of[i] if i == j else other[i][j] for j in range(n)] for i in range(n)])


@cache
def averaging(cut):
    """(ways, entries, entries): what takes a covariance to means over the pairs of each way."""
    of, k = table(cut), len(cut)
    number = of.max() + 1 if isinstance(cut, pairs.Line) else k + k * k
    result = np.stack([(of == way) / max(1, (of == way).sum()) for way in range(number)])
    for c, size in enumerate(cut):
        if size == 1 and number == k + k * k and not isinstance(cut, pairs.Line):
            result[k + c * k + c] = result[c]  # by agreement the entry itself
    return result


@cache
def membership(cut):
    """(classes, entries): what takes entries to their means per class."""
    of = np.array(classes_of(cut))
    return np.stack([of == c for c in range(len(cut))]) / np.array(cut)[:, None]


def written_out(field):
    """(entries x entries second moments, means) of the flattened tensor."""
    second, mean = field.second, field.mean
    for place, cut in enumerate(field.cuts):
        second = second.take(table(cut).ravel(), place)
        mean = mean.take(classes_of(cut), place)
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
    assert field.second.shape == tuple(len(averaging(cut)) for cut in field.cuts)
    assert field.mean.shape == tuple(len(cut) for cut in field.cuts)
    assert all(size > 1 for size in field.sizes)


@st.composite
def cuts_of(draw, size, most=4, *, lines=False):
    """Classes of an axis; on demand of one that may tell near from far."""
    number = draw(st.integers(0, min(most, size) - 1))
    edges = draw(st.permutations(range(1, size)))[:number] if size > 1 else []
    ends = [0, *sorted(edges), size]
    cut = tuple(b - a for a, b in pairwise(ends))
    kind = draw(st.sampled_from(("plain", "line", "mirror"))) if lines and size > 2 else "plain"
    if kind == "mirror":
        half = [2 * n for n in cut[:-1] if 2 * n < size][:1]
        return pairs.Mirror([*half, size - sum(half)])
    return pairs.Line(cut) if kind == "line" else cut


@st.composite
def layouts(draw, axes=(0, 3), most=60, several=True, lines=False):
    """(cuts, groups): factors and classes of a small tensor."""
    cuts, groups, left = [], [], most
    for _ in range(draw(st.integers(*axes))):
        number = draw(st.integers(0, 2 if several else 1))
        here = 0
        for _ in range(number):
            if left >= 2:
                size = draw(st.integers(2, min(6, left)))
                left //= size
                cuts.append(draw(cuts_of(size, lines=lines)))
                here += 1
        groups.append(here)
    return tuple(cuts), tuple(groups)


@st.composite
def fields(draw, axes=(0, 3), most=60, several=True, lines=False):
    """Random fields; on demand with axes that may tell near from far."""
    cuts, groups = draw(layouts(axes, most, several, lines))
    return made(np.random.default_rng(draw(st.integers(0, 2**20))), cuts, groups)


def factorizations(n):
    """Ordered products of numbers > 1 that give n."""
    if n == 1:
        return [()]
    heads = [d for d in range(2, n + 1) if n % d == 0]
    return [(d, *rest) for d in heads for rest in factorizations(n // d)]
