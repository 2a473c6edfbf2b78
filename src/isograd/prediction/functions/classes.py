"""Softmax over classes with Gaussian logits, and how often two targets are the same class."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from isograd.prediction.moments.pairs import Array, Sizes

_WIDEST = 16.0
"""Standard deviation of logits from which one class wins but for ties, rarer by its inverse."""
_STEP = 0.1
_GRID = 48


@lru_cache(maxsize=64)
def _hermite() -> tuple[Array, Array]:
    x, w = np.polynomial.legendre.leggauss(16)
    edges = np.array([-9.0, -5.0, -2.5, -1.0, 0.0, 1.0, 2.5, 5.0, 9.0])
    half = np.diff(edges)[:, None] / 2
    z = ((edges[:-1, None] + edges[1:, None]) / 2 + half * x).reshape(-1)
    weights = (half * w).reshape(-1) * np.exp(-np.square(z) / 2)
    return z, np.asarray(weights / weights.sum())


def _levels(deviation: float, number: int) -> Array:
    """Logarithms of t over which the integrals below run."""
    low = -np.log(number) - 9 * deviation - 14
    return np.arange(low, 9 * deviation + 5, _STEP)


@lru_cache(maxsize=4096)
def _won(variance: float, number: int) -> float:
    """E sum p^2 of a softmax over independent logits of a variance.

    With 1 / S^2 = int_0^inf t exp(-t S) dt and S = sum exp(x):
    number int t^2 E[exp(2 x - t exp(x))] E[exp(-t exp(x))]^(number - 1) d ln t.
    """
    if variance <= 0:
        return 1 / number
    z, weights = _hermite()
    deviation = float(np.sqrt(variance))
    if deviation > _WIDEST:
        return 1 - (1 - _won(_WIDEST**2, number)) * _WIDEST / deviation
    level = _levels(deviation, number)
    inner = np.exp(np.minimum(level[:, None] + deviation * z, 300.0))
    gone = np.exp(-inner)
    square = (np.square(inner) * gone) @ weights
    rest = np.maximum(gone @ weights, 1e-300)
    return float(number * _STEP * (square * rest ** (number - 1)).sum())


def participation(covariance: Array, variance: Array, number: int) -> Array:
    """E sum over classes of p p' of two rows, whose logits have a covariance class by class.

    As a function of the correlation it is a power series with positive terms. Known are its value
    at 0, its slope there, v sum (E dp_c/dx_j)^2 (Price's theorem), and its value at 1. The terms
    behind, scaled, are nearly one curve for all v and numbers of classes: that of exp(2 rho).

    Args:
        covariance: of the logits of one class in two rows, less that of two classes.
        variance: likewise of one row (the geometric mean of both), shaped alike.
        number: of classes.
    """
    levels = np.unique(np.round(variance, 12))
    if len(levels) > _GRID:
        levels = np.square(np.linspace(0, np.sqrt(levels[-1]), _GRID))
    won = np.interp(variance, levels, [_won(float(v), number) for v in levels])
    rho = np.clip(covariance / np.where(variance > 0, variance, np.inf), -1.0, 1.0)
    slope = variance * np.square(1 - won) / (number - 1)
    behind = (np.exp(2 * rho) - 1 - 2 * rho) / (np.exp(2) - 3)
    found = 1 / number + slope * rho + (won - 1 / number - slope) * behind
    return np.asarray(np.where(rho == 1, won, found))


@lru_cache(maxsize=4096)
def log_of_sum(variance: float, number: int) -> float:
    """E ln sum exp(x) over independent logits of mean 0: int (e^-t - E[e^(-t e^x)]^n) d ln t."""
    z, weights = _hermite()
    deviation = float(np.sqrt(max(variance, 0.0)))
    if deviation > _WIDEST:  # the largest logit, which grows with them
        return log_of_sum(_WIDEST**2, number) * deviation / _WIDEST
    level = _levels(deviation, number)
    inner = np.exp(np.minimum(level[:, None] + deviation * z, 300.0))
    rest = (np.exp(-inner) @ weights) ** number
    return float(_STEP * (np.exp(-np.exp(level)) - rest).sum())


def agreement(ids: Any, weights: Array, cuts: tuple[Sizes, ...]) -> Array:
    """Share of the pairs of two rows, of each kind, that are of one class.

    Args:
        ids: classes of the rows, one axis a factor.
        weights: of the rows, likewise; rows of weight 0 do not count.
        cuts: of the factors; pairs across classes of a factor count alike.
    """
    d = ids.ndim
    _, inverse = np.unique(ids, return_inverse=True)
    labels = inverse.reshape(ids.shape)
    found = np.ones((2,) * d)
    equal, every = np.empty((2,) * d), np.empty((2,) * d)
    for subset in range(2**d):
        free = [axis for axis in range(d) if subset >> axis & 1]
        place = tuple(int(axis in free) for axis in range(d))
        rest = [axis for axis in range(d) if axis not in free]
        size = int(np.prod([ids.shape[axis] for axis in free], dtype=np.int64))
        rows = labels.transpose([*rest, *free]).reshape(-1, size)
        w = weights.transpose([*rest, *free]).reshape(-1, size)
        equal[place] = _alike(rows, w)
        every[place] = np.square(w.sum(axis=1)).sum()
    for axis in range(d):  # from all pairs to pairs of different rows
        for sums in (equal, every):
            rows = np.moveaxis(sums, axis, 0)
            rows[1] -= rows[0]
    np.divide(equal, every, out=found, where=every > 1e-12 * max(float(every.max()), 1e-300))
    for axis, cut in enumerate(cuts):
        k = len(cut)
        found = found.take([0] * k + [1] * (k * k), axis)
        rows = np.moveaxis(found, axis, 0)
        for c, size in enumerate(cut):
            if size == 1:
                rows[k + c * k + c] = rows[c]
    return found


def _alike(rows: Any, weights: Array) -> float:
    """Sum over rows and classes of (weight of the class in the row)^2."""
    number = int(rows.max()) + 1 if rows.size else 1
    keys = np.arange(len(rows))[:, None] * number + rows
    _, place = np.unique(keys, return_inverse=True)
    return float(np.square(np.bincount(place.reshape(-1), weights.reshape(-1))).sum())
