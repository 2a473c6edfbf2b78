"""Sums of a function of a Gaussian and of something Gaussian: no Gaussians themselves.

After a residual addition relu(u) + v is skewed, and the next relu sees that. Such a sum is kept
as a monotone function g of a standard Gaussian, its quantile function, with correlations that give
back the second moments known of it (a Gaussian copula).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.functions.gaussian import Nodes, Quadrature
from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array

TERMS = ("of first term", "of other term")
"""Notes of a gradient at a sum of a function and something Gaussian, of what it holds of either."""
LAW = "law"
"""Note of what is no function of a Gaussian itself, but has the law of one: that function."""
_GRID = 257
_SUMMANDS = 64
"""Values that stand for the non-Gaussian term."""
_SMALL, _LARGE = 1e-3, 300.0
"""Ratio of the terms' variances below and above which the sum is simply one of them."""


_SMOOTH = frozenset(
    "gelu silu mish softplus sigmoid logsigmoid log_sigmoid tanh erf sin cos exp square "
    "special_expit".split()
)
_BENT_AT_ZERO = frozenset("relu leaky_relu elu selu celu abs prelu".split())
_WIDE = 2.0
"""Standard deviation up to which the fixed nodes resolve smooth functions."""


def quadrature_of(f: Field, function: str = "") -> Quadrature:
    """Nodes for the entries of a field: by its terms where these are known, else as Gaussian.

    Args:
        f: the field.
        function: name of what is to be evaluated, which tells where it bends.
    """
    terms = f.notes.get("terms")
    if terms is None:
        return _gaussian(f, function)
    skewed, other, sign = terms
    one, two = aligned(skewed, other)
    known = one.nodes is not None
    skewed = one if known else skewed
    largest = int(np.argmax(pairs.every_entry(skewed.cuts)))
    assert skewed.nodes is not None
    values, weights = _standing_for(skewed.nodes, largest)
    mean = float(weights @ values)
    variance = float(weights @ np.square(values - mean))
    rest = other.energy - other.average**2
    if known:
        rest = float((two.energies - np.square(two.mean)).flat[largest])
    rest = max(rest, 0.0)
    total = f.energies - np.square(f.mean)
    if variance <= 0 or not _SMALL < rest / variance < _LARGE or total.min() <= 0:
        return Quadrature.of(f)
    width = float(np.sqrt(variance + rest))
    shape = sign * (values - mean) / width
    smoothing = float(np.sqrt(rest)) / width
    x = np.linspace(-9.0, 9.0, _GRID)
    below = _of_each(torch.special.ndtr, (x[:, None] - shape) / smoothing) @ weights
    z = _normal_quantile(below)
    keep = np.concatenate([[True], np.diff(z) > 1e-9]) & np.isfinite(z)
    made = _copula(f, z[keep], x[keep], np.sqrt(total))
    made.given = partial(_given, made, f.mean, np.sqrt(total), shape, weights, smoothing)
    return made


def _given(
    made: Quadrature,
    mean: Array,
    deviation: Array,
    shape: Array,
    weights: Array,
    smoothing: float,
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """E t and E t^2 of the term t that is no Gaussian, and of the Gaussian one, given the sum.

    The sum is shape_k + smoothing z with probability weights_k, in units of its deviation, so that
    of a sum x it is Bayes' rule for k.

    Args:
        made: nodes of the sum.
        mean: of the sum, per class.
        deviation: likewise.
        shape: values of the first term in that unit, about its mean.
        weights: their probabilities.
        smoothing: deviation of the other term.

    Returns:
        Four times (..., nodes); both terms are as in the sum, about their means.
    """
    x = (made.x - mean[..., None]) / deviation[..., None]
    away = np.square((x[..., None] - shape) / smoothing) / 2
    likely = np.exp(away.min(-1, keepdims=True) - away) * weights
    likely /= likely.sum(-1, keepdims=True)
    first, square = likely @ shape, likely @ np.square(shape)
    unit = deviation[..., None]
    rest = np.square(x) - 2 * x * first + square
    return (first * unit, square * unit**2), ((x - first) * unit, rest * unit**2)


def _gaussian(f: Field, function: str) -> Quadrature:
    deviation = np.sqrt(np.maximum(f.energies - np.square(f.mean), 0.0))
    centered = function in _BENT_AT_ZERO and f.is_centered
    if (centered or function in _SMOOTH) and deviation.min() > 0 and deviation.max() <= _WIDE:
        return Quadrature.plain(f.mean, deviation)
    return Quadrature(f.mean, deviation)


def _standing_for(nodes: Nodes, largest: int) -> tuple[Array, Array]:
    """A few values and weights for a function's law, in its largest class of entries."""
    flat = nodes.values.reshape(-1, nodes.values.shape[-1])
    weights = nodes.quadrature.weights.reshape(flat.shape)
    order = np.argsort(flat[largest])
    values, share = flat[largest][order], weights[largest][order]
    ends = np.cumsum(share)
    group = np.minimum((ends - share / 2) / ends[-1] * _SUMMANDS, _SUMMANDS - 1).astype(int)
    mass = np.bincount(group, share, _SUMMANDS)
    sums = np.bincount(group, share * values, _SUMMANDS)
    there = mass > 0
    return sums[there] / mass[there], mass[there] / mass.sum()


def _normal_quantile(share: Array) -> Array:
    return _of_each(torch.special.ndtri, np.clip(share, 1e-16, 1 - 1e-16))


def _of_each(function: Callable[[Tensor], Tensor], x: Array) -> Array:
    """A function of torch's; scipy has the same ones, and takes longer to import than a run."""
    with torch._C.DisableTorchFunction():
        return np.asarray(function(torch.from_numpy(np.ascontiguousarray(x))).numpy())


@lru_cache(maxsize=1)
def _correlations(orders: int) -> tuple[Array, Array]:
    """Correlations from -1 to 1, and their powers."""
    grid = np.linspace(-1.0, 1.0, 201)
    return grid, np.power(grid[:, None], np.arange(orders))


def _copula(f: Field, z: Array, x: Array, deviation: Array) -> Quadrature:
    """Nodes at which g(z) runs through the law, and correlations that fit the second moments."""
    zero = np.interp(-f.mean / deviation, x, z)  # where the field itself is zero
    made = Quadrature.at(f.mean, deviation, zero)
    shape = np.interp(made.z, z, x)
    shape = shape - (made.weights * shape).sum(-1, keepdims=True)
    shape /= np.sqrt((made.weights * np.square(shape)).sum(-1, keepdims=True))
    made.x = f.mean[..., None] + deviation[..., None] * shape
    middle = shape.reshape(-1, shape.shape[-1])[0]
    basis = made.basis.reshape(-1, *made.basis.shape[-2:])[0]
    squares = np.square(middle @ basis)
    grid, powers = _correlations(len(squares))
    found = powers @ squares
    first, other = f.per_pair(deviation)
    wanted = (f.second - f.products()) / (first * other)
    rising = np.maximum.accumulate(found)
    made.correlation = np.interp(wanted, rising, grid)
    same = tuple(slice(0, len(cut)) for cut in f.cuts)
    made.correlation[same] = 1.0
    return made


def law_of(f: Field) -> Field | None:
    """A function of a Gaussian whose law the entries of a field have; None if they are Gaussian."""
    found: Field | None = f if f.nodes is not None else f.notes.get(LAW)
    return found


def note_standardized(out: Field, x: Field) -> None:
    """Of a batch norm: what was rectified is skewed as before.

    Args:
        out: the norm's output.
        x: its input.
    """
    deviation = np.sqrt(max(x.energy - x.average**2, 0.0))
    if x.nodes is None or x.origin is None or deviation <= 0 or x.cuts != out.cuts:
        return
    made, nodes = out.like(out.second, out.mean), x.nodes
    values, slopes = (nodes.values - x.average) / deviation, nodes.slopes / deviation
    made.origin, made.nodes = x.origin, Nodes(nodes.quadrature, values, slopes)
    out.notes[LAW] = made
