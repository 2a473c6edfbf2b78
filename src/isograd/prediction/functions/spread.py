"""Unequal channels: a kernel of few weights gives its channels unequal variances.

The variance s of one channel is a quadratic form w C w in its own K weights, C being the
covariance of the K inputs that they multiply. A norm per channel divides by it, so that the
gradient before the norm holds E 1/s, which is above 1 / E s: by K / (K - 2) for independent inputs
and Gaussian weights, a fourth of the energy for the 9 weights of a depthwise kernel. Behind the
convolution the gradient holds w w' / s: for independent inputs the excess is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeVar

import numpy as np

from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import of_others, weighed
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.means import averaged
from isograd.prediction.moments.pairs import Array
from isograd.prediction.moments.sweeps import Sweep

T = TypeVar("T")
Shares = Callable[[], tuple[Array, Array]]

UNEQUAL = "unequal channels"
"""Note of a convolution's output: gives what `unequal` says; of a gradient before a norm: that."""
_LARGEST = 1.0
_ENOUGH = 2.5
"""Degrees of freedom that are needed for E 1/s to exist, and a bit."""
ALIKE = "alike"
"""Note of a field."""


@dataclass(frozen=True, slots=True)
class Alike:
    """How far two entries of different samples or places are alike in one draw and not in another.

    Of n channels that are read their correlation has the variance 1 / n over draws, beside what
    the layers before left: the correlation of a function of u is that of u times E f'^2 / E f^2.
    A norm over samples and places divides by what it makes of that: E 1/var gets 2 of it.
    """

    whole: float = 0.0
    energy: Callable[[], float] = lambda: 0.0
    """Variance of the energy of a channel over all of its entries that a norm does not know of."""


def alike_of(f: Field) -> float:
    """The variance over draws of the correlation of two unrelated entries of a field."""
    found: Alike | None = f.notes.get(ALIKE)
    if found is not None:
        return found.whole
    if f.nodes is None or f.origin is None or ALIKE not in f.origin.notes:
        return 0.0
    return f.nodes.linear() ** 2 * alike_of(f.origin)


def once(find: Callable[[], T]) -> Callable[[], T]:
    """Found when it is first asked for."""
    return lru_cache(maxsize=1)(find)


def read(x: Field, wide: Field, shares: Shares) -> Alike:
    """Of the output of a convolution.

    Args:
        x: its input.
        wide: the same, (samples, groups, channels of one group, spatial axes).
        shares: what its outputs read.
    """
    share, multiplicity = shares()
    total = float(share @ multiplicity)
    few = float(np.square(share) @ multiplicity) / total**2 if total > 0 else 1.0
    carried = alike_of(x)
    before = carried * few * wide.shape[2]
    if wide.shape[2] > 1 or x.nodes is None or x.origin is None:
        return Alike(before + few / wide.shape[1], lambda: 2 * before)
    return Alike(before + few / wide.shape[1], once(lambda: _of_one(x, carried)))


def _of_one(x: Field, carried: float) -> float:
    """Variance of the energy of one channel, which is all that a depthwise convolution reads."""
    origin, nodes = x.origin, x.nodes
    assert origin is not None
    assert nodes is not None
    fixed = "batch statistics" in origin.notes
    places = set(range(len(origin.cuts))) - set(origin.factors_of(1))
    own = averaged(nodes.cumulants(origin, fixed), origin.cuts, places)
    return own + (0.0 if fixed else 2 * carried)


def read_features(x: Field, n: int) -> Alike:
    """Of the output of a linear layer that reads n features."""
    carried = alike_of(x)
    return Alike(carried + 1 / max(n, 1), lambda: 2 * carried)


def note_blend(out: Field, a: Field, b: Field) -> None:
    """Of a sum of independent fields."""
    if (ALIKE in a.notes or ALIKE in b.notes) and a.shape == b.shape and out.energy > 0:
        share = a.energy / out.energy
        out.notes[ALIKE] = Alike(share**2 * alike_of(a) + (1 - share) ** 2 * alike_of(b))


def unequal(shares: Shares, kurtosis: float) -> tuple[float, float]:
    """(E s E 1/s - 1, E s E |w|^2/s / E |w|^2 - 1) of the variances s of channels over weights w.

    Args:
        shares: of the covariance of what an output reads.
        kurtosis: of the weights.
    """
    share, multiplicity = shares()
    if multiplicity.sum() <= _ENOUGH:
        return _LARGEST, 0.0
    # Weights with thinner tails: sums of many are Gaussian still, single ones spread less.
    thin = np.where(np.arange(len(share)) == len(share) - 1, 1.0, (kurtosis - 1) / 2)
    share, multiplicity = share * thin, multiplicity / thin
    total = float(share @ multiplicity)
    if total <= 0 or multiplicity[share > 1e-9 * share.max()].sum() <= _ENOUGH:
        return _LARGEST, 0.0
    t, weights = half_line()
    damped = 1 + 2 * np.outer(share / total, t)
    whole = weights * np.exp(-(multiplicity @ np.log(damped)) / 2)
    behind = float((multiplicity @ (1 / damped)) @ whole) / float(multiplicity.sum()) - 1
    return min(max(float(whole.sum()) - 1, 0.0), _LARGEST), min(max(behind, 0.0), _LARGEST)


def shares_of(x: Field, sweeps: Sequence[Sweep]) -> tuple[Array, Array]:
    """(eigenvalues, how often) of the covariance of what an output reads, one class per axis.

    Of one channel, whose taps may be few, taps that reach over a border read less.

    Args:
        x: the input, (samples, groups, channels of one group, spatial axes).
        sweeps: one per spatial axis.
    """
    if x.shape[2] > 1:
        return _eigenvalues(_averages(x), (x.shape[2], *(sweep.taps for sweep in sweeps)))
    lengths = tuple(sweep.taps for sweep in sweeps)
    values, d = _averages(x)[0], len(lengths)
    ways, share = [], np.ones(())
    for axis, sweep in enumerate(sweeps):
        there = sweep.places()[1].astype(float)
        shape = [1] * (2 * d)
        shape[axis] = shape[d + axis] = sweep.taps
        ways.append((1 - np.eye(sweep.taps, dtype=np.intp)).reshape(shape))
        share = share * (there.T @ there / sweep.steps).reshape(shape)
    matrix = (values[tuple(ways)] * share).reshape(prod(lengths), prod(lengths))
    found = np.maximum(np.linalg.eigvalsh(matrix), 0.0)
    return found, np.ones_like(found)


def _averages(x: Field) -> Array:
    """[channel, spatial axes …; the same, another]: covariances of what one place reads."""
    over = [place for axis in (0, *range(3, len(x.groups))) for place in x.factors_of(axis)]
    values = x.like(x.centered(over)).second
    for axis in range(len(x.groups) - 1, -1, -1):
        for place in reversed(x.factors_of(axis)):
            same = pairs.same_shares(x.cuts[place])
            rows = [weighed(values, place, same)]
            if axis >= 2:
                rows.append(weighed(values, place, of_others(x.cuts[place])))
            values = np.stack(rows, axis=place) if axis >= 2 else rows[0]
        if axis >= 2 and not x.groups[axis]:
            values = np.stack([values, values], axis=sum(x.groups[:axis]))
    return values.reshape((2,) * (len(x.groups) - 2))


def _eigenvalues(values: Array, sizes: Sequence[int]) -> tuple[Array, Array]:
    """(eigenvalues, how often) of the covariance of entries of exchangeable axes."""
    found, number = values.copy(), np.ones(values.shape)
    for axis, n in enumerate(sizes):
        rows = np.moveaxis(found, axis, 0)
        equal, other = rows[0].copy(), rows[1].copy()
        rows[0], rows[1] = equal - other, equal + (n - 1) * other
        np.moveaxis(number, axis, 0)[0] *= n - 1
    return np.maximum(found, 0.0).ravel(), number.ravel()


@lru_cache(maxsize=1)
def half_line() -> tuple[Array, Array]:
    """Nodes and weights on (0, infinity), dense around one."""
    x, w = np.polynomial.legendre.leggauss(96)
    u = 13.0 * x
    return np.exp(u), 13.0 * w * np.exp(u)
