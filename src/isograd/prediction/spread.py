"""Unequal channels: a kernel of few weights gives its channels unequal variances.

The variance s of one channel is a quadratic form w C w in its own K weights, C being the
covariance of the K inputs that they multiply. A norm per channel divides by it, so that the
gradient before the norm holds E 1/s, which is above 1 / E s: by K / (K - 2) for independent inputs
and Gaussian weights, a fourth of the energy for the 9 weights of a depthwise kernel. Behind the
convolution it is gone, because the gradient there holds w w' / s.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np

from isograd.prediction import pairs
from isograd.prediction.fields import Field
from isograd.prediction.pairs import Array

UNEQUAL = "unequal channels"
"""Note of a convolution's output: E s E 1/s - 1; of a gradient: that much is due to it."""
_LARGEST = 1.0
_ENOUGH = 2.5
"""Degrees of freedom that are needed for E 1/s to exist, and a bit."""


def unequal(x: Field, taps: Sequence[int], kurtosis: float) -> float:
    """E s E 1/s - 1 of the variances s of channels over a draw of their weights.

    Args:
        x: the input, (samples, groups, channels of one group, spatial axes).
        taps: lengths of the kernel.
        kurtosis: of the weights.
    """
    sizes = (x.shape[2], *taps)
    if prod(sizes) <= _ENOUGH:
        return _LARGEST
    over = [place for axis in (0, *range(3, len(x.groups))) for place in x.factors_of(axis)]
    values = x.like(x.centered(over)).second
    for axis in range(len(x.groups) - 1, -1, -1):
        for place in reversed(x.factors_of(axis)):
            same = pairs.same_shares(x.cuts[place])
            rows = [np.tensordot(same, values, (0, place))]
            if axis >= 2:
                other = pairs.counts(x.cuts[place]) - pairs.same_counts(x.cuts[place])
                rows.append(np.tensordot(other / other.sum(), values, (0, place)))
            values = np.stack(rows, axis=place) if axis >= 2 else rows[0]
        if axis >= 2 and not x.groups[axis]:
            values = np.stack([values, values], axis=sum(x.groups[:axis]))
    share, multiplicity = _eigenvalues(values.reshape((2,) * len(sizes)), sizes)
    # Weights with thinner tails: sums of many are Gaussian still, single ones spread less.
    thin = np.where(np.arange(len(share)) == len(share) - 1, 1.0, (kurtosis - 1) / 2)
    share, multiplicity = share * thin, multiplicity / thin
    total = float(share @ multiplicity)
    if total <= 0 or multiplicity[share > 1e-9 * share.max()].sum() <= _ENOUGH:
        return _LARGEST
    t, weights = half_line()
    log = np.log1p(2 * np.outer(share / total, t))
    found = float(weights @ np.exp(-(multiplicity @ log) / 2)) - 1
    return min(max(found, 0.0), _LARGEST)


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
