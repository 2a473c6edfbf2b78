"""Hermite series: E f(u) f(u') of Gaussian u, u' for all kinds of pairs of a field.

E[f(u) f(u')] = sum_k a_k a'_k rho^k with a_k = E[f(m + sqrt(v) z) He_k(z)] / sqrt(k!) (Mehler).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isograd.prediction.functions.polynomials import evaluated, products
from isograd.prediction.functions.powers import Powers, changes, excess, matters

if TYPE_CHECKING:
    from isograd.prediction.functions.gaussian import Quadrature
    from isograd.prediction.moments.fields import Field
    from isograd.prediction.moments.pairs import Array

TERMS = 48
_ONE_SHAPE = 1e-9


def series(
    quadrature: Quadrature,
    values: Array,
    origin: Field,
    related: tuple[Array, Array | None] | None = None,
) -> tuple[Array, Array]:
    """(E f per class, E f f' per kind of pair).

    Args:
        quadrature: nodes of u.
        values: f there.
        origin: the field u.
        related: correlations, and powers of them, to be taken for the field's own; scales are then
            the same everywhere.
    """
    if not np.isfinite(values).all():  # such as the root of a negative number, far in the tail
        values = np.where(np.isfinite(values), values, 0.0)
    correlation, powers = related or quadrature.related(origin)
    mixed = matters(origin) if quadrature.correlation is None and related is None else None
    if mixed is not None:
        return _mixed(quadrature, values, origin, mixed, correlation, powers)
    return _plain(quadrature, values, origin, correlation, powers)[:2]


def _mixed(
    quadrature: Quadrature, values: Array, origin: Field, of: Powers, correlation: Array,
    powers: Array | None,
) -> tuple[Array, Array]:  # fmt: skip
    """As `_plain`, of entries whose scale differs."""
    mean, second, coefficients = _plain(quadrature, values, origin, correlation, powers)
    shift, change = changes(origin, coefficients, correlation, of)
    second = second + change
    weights = quadrature.weights * (1 + excess(quadrature.z, of))
    second[tuple(slice(0, len(cut)) for cut in origin.cuts)] = (weights * np.square(values)).sum(-1)
    return mean + shift, second


def _plain(
    quadrature: Quadrature, values: Array, origin: Field, correlation: Array, powers: Array | None
) -> tuple[Array, Array, Array]:
    if quadrature.deviation.size == 1:
        flat = values.reshape(-1)
        terms = flat @ quadrature.basis.reshape(len(flat), -1)
        square = (quadrature.weights.reshape(-1) * flat) @ flat
        unit = terms / np.sqrt(square) if square > 0 else np.zeros_like(terms)
        second = np.array(square * _summed(np.square(unit), correlation, powers))
        second[(0,) * second.ndim] = square
        classes = quadrature.deviation.shape
        return terms[:1].reshape(classes), second, terms.reshape(*classes, -1)
    coefficients = np.matmul(values[..., None, :], quadrature.basis)[..., 0, :]
    square = (quadrature.weights * np.square(values)).sum(-1)
    rest = np.sqrt(np.maximum(square - np.square(coefficients).sum(-1), 0.0))
    shape = _one_shape(coefficients, square)
    if shape is not None:
        left, right = origin.per_pair(np.sqrt(square))
        result = left * right * _summed(np.square(shape), correlation, powers)
    else:
        if powers is None:
            terms = products(coefficients, coefficients)
            second = evaluated(origin.cuts, coefficients.shape[:-1], terms, correlation)
        else:
            left, right = origin.per_pair(coefficients)
            second = np.einsum("...k,...k,...k->...", left, right, powers)
        one, two = origin.per_pair(rest)
        result = np.array(second + one * two * _tail(correlation))
    result[tuple(slice(0, len(cut)) for cut in origin.cuts)] = square
    return np.asarray(coefficients[..., 0]), result, coefficients


def _one_shape(coefficients: Array, square: Array) -> Array | None:
    """Coefficients over the root of E f^2, if those of all classes are the same."""
    if not (square > 0).all():
        return None
    unit = (coefficients / np.sqrt(square)[..., None]).reshape(-1, TERMS)
    return np.asarray(unit[0]) if np.abs(unit - unit[0]).max() < _ONE_SHAPE else None


def _summed(squares: Array, correlation: Array, powers: Array | None) -> Array:
    """Power series of the correlation with coefficients that sum to one, if not before the tail."""
    if powers is not None:
        result = powers @ squares
    else:
        result = np.full_like(correlation, squares[-1])
        for term in squares[-2::-1]:
            result *= correlation
            result += term
    rest = 1.0 - float(squares.sum())
    return np.asarray(result + rest * _tail(correlation) if rest > 0 else result)


def _tail(correlation: Array) -> Array:
    """The power that stands for all terms left out."""
    found = correlation
    for _ in range(5):
        found = found * found
    return np.asarray(found * found * found)


def powers_of(correlation: Array) -> Array:
    """(…, terms): powers of rho from 0 on."""
    result = np.empty((*correlation.shape, TERMS))
    result[..., 0] = 1.0
    result[..., 1:] = correlation[..., None]
    return np.cumprod(result, axis=-1, out=result)


def rate(quadrature: Quadrature, values: Array, origin: Field) -> Array:
    """D E f f' / d Cov(u, u') per kind of pair; 0 for an entry and itself."""
    safe = np.where(quadrature.deviation > 0, quadrature.deviation, np.inf)
    scaled = coefficients(quadrature, values) * np.sqrt(np.arange(TERMS)) / safe[..., None]
    correlation, _ = quadrature.related(origin)
    terms = products(scaled, scaled)[1:]
    total = evaluated(origin.cuts, scaled.shape[:-1], terms, correlation)
    total[tuple(slice(0, len(cut)) for cut in origin.cuts)] = 0.0
    return total


def coefficients(quadrature: Quadrature, values: Array) -> Array:
    """(classes …, terms): E f He_k / sqrt(k!) of a function known at the nodes."""
    found = np.matmul(np.nan_to_num(values)[..., None, :], quadrature.basis)
    return np.asarray(found[..., 0, :])


def cross_series(
    first: Quadrature, other: Quadrature, a: Array, b: Array, origin: Field, shared: Field | None
) -> tuple[Array, Array]:
    """E f(u) E g(v), and E[f(u) g(v)], per kind of pair.

    Args:
        first: nodes of u.
        other: nodes of v, laid out alike.
        a: `coefficients` of f.
        b: those of g.
        origin: the field u.
        shared: covariance of u and v, on the axes of u; None for none.
    """
    left, _ = origin.per_pair(a)
    _, right = origin.per_pair(b)
    mean = left[..., 0] * right[..., 0]
    if shared is not None and shared.cuts != origin.cuts and shared.sizes == origin.sizes:
        shared = shared.recut(origin.cuts)
    if shared is None or shared.cuts != origin.cuts:
        whole = np.broadcast_to(mean, origin.second.shape)
        return whole, whole
    one, _ = origin.per_pair(first.deviation)
    _, two = origin.per_pair(other.deviation)
    product = np.maximum(one * two, 1e-300)
    correlation = np.clip(shared.second / product, -1.0, 1.0)
    return mean, np.asarray((left * right * powers_of(correlation)).sum(-1))
