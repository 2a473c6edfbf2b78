"""Elementwise functions of a nearly Gaussian field, by quadrature and Hermite series.

A function f of u ~ N(m, v) is kept as its values and slopes at quadrature nodes. For two entries
with correlation rho, E[f(u) f(u')] = sum_k a_k a'_k rho^k with a_k = E[f(m + sqrt(v) z) He_k(z)] /
sqrt(k!) (Mehler's formula). Functions of the same field combine node by node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod, sqrt
from typing import Any

import numpy as np

from isograd.prediction.functions.filters import around, shift, variance
from isograd.prediction.functions.series import TERMS, coefficients, powers_of, rate, series
from isograd.prediction.moments import pairs
from isograd.prediction.moments.axes import dotted
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.pairs import Array, Indices

_MANY = 1000
"""Pairs from which on a series is summed up power by power, not from a table of all powers."""
_POINTS = 16
_REACH = 9.0
_EDGES = (-9.0, -5.0, -2.5, -1.0, 0.0, 1.0, 2.5, 5.0, 9.0)
"""Borders of panels in standard deviations."""
_BENDS = (-8.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0)
"""Borders of panels in the function's own argument: where activations of torch.nn bend."""


_LATEST: list[tuple[Array, Array]] = []
"""Nodes and their polynomials, what was asked for last in front."""
_BASES = 8
"""Of how many nodes polynomials are kept: they are by far the largest thing of a run."""


class Quadrature:
    """Nodes for N(mean, deviation^2), one row per class.

    Args:
        mean: one entry per class.
        deviation: standard deviations, shaped alike.
    """

    correlation: Array | None = None
    """Of the Gaussians behind the entries, per kind of pair, where the entries are no Gaussians."""
    given: Callable[[], tuple[tuple[Array, Array], tuple[Array, Array]]] | None = None
    """Of a sum whose law is known: means of both terms at the nodes, and of their squares."""
    _related: tuple[Array, Array, Array | None] | None = None
    """What `related` found last, behind the second moments that it was for."""

    def __init__(self, mean: Array, deviation: Array) -> None:
        safe = np.where(deviation > 0, deviation, 1.0)
        bends = (np.array(_BENDS) - mean[..., None]) / safe[..., None]
        self._fill(mean, deviation, bends)

    @classmethod
    def plain(cls, mean: Array, deviation: Array) -> Quadrature:
        """Nodes at fixed z, for functions that bend nowhere, or only at the mean."""
        result = object.__new__(cls)
        result.mean, result.deviation = mean, deviation
        z, weights, _ = _fixed()
        result.z, result.weights = _repeated(z, mean.shape), _repeated(weights, mean.shape)
        return result

    @classmethod
    def at(cls, mean: Array, deviation: Array, bend: Array) -> Quadrature:
        """Nodes in z alone, with a bend at z = `bend` in each class."""
        result = object.__new__(cls)
        result._fill(mean, deviation, bend[..., None])
        return result

    def _fill(self, mean: Array, deviation: Array, bends: Array) -> None:
        self.mean, self.deviation = mean, deviation
        z, w = _nodes(bends.reshape(-1, bends.shape[-1]))
        self.z = z.reshape((*mean.shape, -1))
        self.weights = w.reshape((*mean.shape, -1))

    @classmethod
    def of(cls, origin: Field) -> Quadrature:
        """Nodes for the entries of a field, taken as Gaussian."""
        variance = np.maximum(origin.energies - np.square(origin.mean), 0.0)
        return cls(origin.mean, np.sqrt(variance))

    def moved(self, move: Callable[[Array, int], Array]) -> Quadrature:
        """The same nodes with the factors of the origin laid out otherwise.

        Args:
            move: (array, number of trailing axes that are no factors) -> array.
        """
        result = object.__new__(Quadrature)
        result.mean, result.deviation = move(self.mean, 0), move(self.deviation, 0)
        result.z, result.weights = move(self.z, 1), move(self.weights, 1)
        result.x = move(self.x, 1)
        return result

    def related(self, origin: Field) -> tuple[Array, Array | None]:
        """Correlation of the Gaussians per kind of pair of the origin; its powers if of few.

        Where the correlation differs from channel to channel, the powers are means over channels.
        """
        if self._related is None or self._related[0] is not origin.second:
            correlation = self.correlation
            if correlation is None:
                first, other = origin.per_pair(self.deviation)
                product = first * other
                known = product > 0
                correlation = (origin.second - origin.products()) / np.where(known, product, 1.0)
                correlation = np.where(known, np.clip(correlation, -1.0, 1.0), 0.0)
            spread, moved = variance(origin), shift(origin)
            if moved is not None:
                correlation = np.clip(correlation + moved, -1.0, 1.0)
            powers: Array | None = None
            if spread is not None:
                powers = np.asarray(sum(w * powers_of(r) for w, r in around(correlation, spread)))
            elif correlation.size < _MANY:
                powers = powers_of(correlation)
            self._related = origin.second, correlation, powers
        return self._related[1:]

    @cached_property
    def x(self) -> Array:
        """Arguments of the function: mean + deviation z."""
        return np.asarray(self.mean[..., None] + self.deviation[..., None] * self.z)

    @property
    def basis(self) -> Array:
        """(classes …, nodes, terms): weights times orthonormal Hermite polynomials."""
        if self.z.base is not None and self.z.base is _fixed()[0]:
            return _repeated(_fixed()[2], self.z.shape[:-1])
        known = next((one for one in _LATEST if one[0] is self.z), None)
        known = known or next((one for one in _LATEST if np.array_equal(one[0], self.z)), None)
        known = known or (self.z, _polynomials(self.z, self.weights))
        _LATEST[:] = [known, *(one for one in _LATEST if one is not known)][:_BASES]
        self.z, basis = known
        return basis


@dataclass(slots=True, eq=False)
class Nodes:
    """One function at the nodes of a quadrature."""

    quadrature: Quadrature
    values: Array
    """(classes …, nodes)."""
    slopes: Array
    """Derivative by the argument, likewise."""
    steps: list[tuple[Field, Array]] = field(default_factory=list)
    """Functions of the same argument that this one is a function of, with derivatives by them."""
    _told: dict[str, tuple[Array, Any]] = field(default_factory=dict)
    """What was asked for last, by its name, behind the second moments that it was for."""

    def expectation(self, values: Array) -> Array:
        """E of something known at the nodes, per class."""
        return np.asarray((self.quadrature.weights * values).sum(-1))

    def moments(self, origin: Field) -> tuple[Array, Array]:
        """(mean per class, E[f f'] per kind of pair)."""
        return series(self.quadrature, self.values, origin)

    def chain(self, origin: Field) -> Array:
        """E[f' f'] per kind of pair: what takes the gradient's field to the origin's."""
        return np.asarray(self._once("chain", origin, lambda: self.between(self.slopes, origin)))

    def _once(self, name: str, origin: Field, find: Callable[[], Any]) -> Any:
        found = self._told.get(name)
        if found is None or found[0] is not origin.second:
            found = self._told[name] = origin.second, find()
        return found[1]

    def turning(self, origin: Field) -> Array:
        """D E f' f' / d Cov(u, u') per kind of pair; 0 for an entry and itself."""
        find = lambda: rate(self.quadrature, self.slopes, origin)  # noqa: E731
        return np.asarray(self._once("turning", origin, find))

    def squared_chain(self, origin: Field) -> Array:
        """E[f'^2 f'^2] per kind of pair."""
        find = lambda: self.between(np.square(self.slopes), origin)  # noqa: E731
        return np.asarray(self._once("squared chain", origin, find))

    def between(self, slopes: Array, origin: Field) -> Array:
        """E[s s'] per kind of pair for any function s given at the nodes."""
        return series(self.quadrature, slopes, origin)[1]

    def kurtosis(self) -> float:
        """E f^4 / (E f^2)^2, averaged over classes."""
        square = np.square(self.values)
        second = self.expectation(square)
        fourth = self.expectation(np.square(square))
        return float((fourth / np.maximum(np.square(second), 1e-300)).mean())

    def mean_slope(self) -> float:
        """E f', averaged over classes: what a small change has in common with its cause."""
        return float(self._of_itself("mean slope", lambda: self.expectation(self.slopes).mean()))

    def square_slope(self) -> float:
        """E f'^2, averaged over classes."""
        find = lambda: self.expectation(np.square(self.slopes)).mean()  # noqa: E731
        return float(self._of_itself("square slope", find))

    def value_coefficients(self) -> Array:
        """Those of the function's Hermite series."""
        find = lambda: coefficients(self.quadrature, self.values)  # noqa: E731
        return np.asarray(self._of_itself("value series", find))

    def slope_coefficients(self) -> Array:
        """Those of its derivative's."""
        find = lambda: coefficients(self.quadrature, self.slopes)  # noqa: E731
        return np.asarray(self._of_itself("slope series", find))

    def _of_itself(self, name: str, find: Callable[[], Any]) -> Any:
        """What does not depend on the origin."""
        found = self._told.get(name)
        if found is None:
            found = self._told[name] = self.values, find()
        return found[1]

    def slope_kurtosis(self, origin: Field) -> float:
        """1 + 2 E f'^4 / (E f'^2)^2: what `slope_noise` leaves of a Gaussian gradient's own."""
        return float(self._once("kurtosis", origin, self._slope_kurtosis))

    def _slope_kurtosis(self) -> float:
        square = np.square(self.slopes)
        second = self.expectation(square)
        fourth = self.expectation(np.square(square))
        return float((1 + 2 * fourth / np.maximum(np.square(second), 1e-300)).mean())

    def slope_noise(self, origin: Field) -> float:
        """Variance of ln of the mean of f'^2 over finitely many units."""
        return float(self._once("slopes", origin, lambda: self._noise(self.slopes, origin)))

    def value_noise(self, origin: Field) -> float:
        """Variance of ln of the mean of f^2 over finitely many units."""
        return float(self._once("values", origin, lambda: self._noise(self.values, origin)))

    def tilt(self, slopes: Array, origin: Field) -> Array | None:
        """E[s s' (rho - E rho)] over channels whose correlations differ; None where none do."""
        spread = variance(origin)
        if spread is None:
            return None
        correlation, _ = self.quadrature.related(origin)
        total = np.zeros_like(correlation)
        for weight, one in around(correlation, spread):
            found = series(self.quadrature, slopes, origin, (one, powers_of(one)))[1]
            total += weight * (one - correlation) * found
        return total

    def _noise(self, values: Array, origin: Field) -> float:
        """Mean over all pairs of entries of E[v^2 v'^2] / (E v^2 E v'^2) - 1."""
        related = self.quadrature.related(origin)
        mean, second = series(self.quadrature, np.square(values), origin, related)
        first, other = origin.per_pair(mean)
        excess = second / np.maximum(first * other, 1e-300) - 1
        return max(dotted(excess, pairs.every_share(origin.cuts)), 0.0)

    def stiffness(self) -> float:
        """D ln E f^2 / d ln E u^2 where the argument u is scaled, averaged over classes."""
        weighted = self.quadrature.weights * self.values
        change = (weighted * self.slopes * self.quadrature.x).sum(-1)
        energy = (weighted * self.values).sum(-1)
        return float((change / np.maximum(energy, 1e-300)).mean())

    def of_scale(self, centered: bool) -> tuple[float, float]:
        """(d ln E f^2 / d ln s where u is scaled by sqrt(s), kurtosis); or those of f - E f."""
        values = self.values - centered * self.expectation(self.values)[..., None]
        square, change = np.square(values), values * self.slopes * self.quadrature.x
        second = np.maximum(self.expectation(square), 1e-300)
        stiffness = self.expectation(change) / second
        fourth = self.expectation(np.square(square)) / np.square(second)
        return float(stiffness.mean()), float(fourth.mean())

    def linear(self) -> float:
        """Share of the variance that goes with u itself, averaged over classes."""
        away = self.values - self.expectation(self.values)[..., None]
        whole = np.maximum(self.expectation(np.square(away)), 1e-300)
        slope = self.expectation(away * self.quadrature.z)
        return float((np.square(slope) / whole).mean())

    def cumulants(self, origin: Field, normalized: bool = False) -> Array:
        """Cov(x^2, x'^2) - 2 Cov(x, x')^2 of x = (f - E f) / its rms, per kind of pair.

        Args:
            origin: the field.
            normalized: without what goes with u^2, which a norm has fixed.
        """
        away = self.values - self.expectation(self.values)[..., None]
        away = away / np.sqrt(np.maximum(self.expectation(np.square(away)), 1e-300))[..., None]
        related = self.quadrature.related(origin)
        squares, same = (series(self.quadrature, v, origin, related)[1] for v in (away**2, away))
        found = squares - 1 - 2 * np.square(same)
        if normalized:
            z = self.quadrature.z
            fixed = np.square(self.expectation(away**2 * (np.square(z) - 1))).mean() / 2
            found = found - fixed * np.square(related[0])
        return np.asarray(found)

    # -- along with the layout of the origin ----------------------------------------------------

    def _moved(self, move: Callable[[Array, int], Array]) -> Nodes:
        return Nodes(self.quadrature.moved(move), move(self.values, 1), move(self.slopes, 1))

    def take(self, indices: Indices, place: int) -> Nodes:
        """Classes of one factor chosen by index."""
        return self._moved(lambda x, _: x.take(indices, place))

    def permuted(self, order: Sequence[int]) -> Nodes:
        """Factors in another order."""
        return self._moved(lambda x, extra: x.transpose([*order, *([x.ndim - 1] * extra)]))

    def expanded(self, place: int) -> Nodes:
        """A new factor of one class."""
        return self._moved(lambda x, _: np.expand_dims(x, place))

    def squeezed(self, place: int) -> Nodes:
        """Without a factor of one class."""
        return self._moved(lambda x, _: np.asarray(x.take(0, place)))


@lru_cache(maxsize=1)
def _rule() -> tuple[Array, Array]:
    x, w = np.polynomial.legendre.leggauss(_POINTS)
    return x, w


def _polynomials(z: Array, weights: Array) -> Array:
    """Weights times orthonormal Hermite polynomials of z, the order last."""
    found = np.empty((TERMS, *z.shape))
    found[0] = weights
    found[1] = z * weights
    for k in range(1, TERMS - 1):
        following = found[k + 1]
        np.multiply(z, found[k], out=following)
        following -= sqrt(k) * found[k - 1]
        following /= sqrt(k + 1)
    return np.moveaxis(found, 0, -1)


def _repeated(values: Array, classes: tuple[int, ...]) -> Array:
    """The same values for all classes, as a view."""
    if prod(classes) == 1:
        return values.reshape(*classes, *values.shape)
    return np.broadcast_to(values, (*classes, *values.shape))


@lru_cache(maxsize=1)
def _fixed() -> tuple[Array, Array, Array]:
    """Nodes in z, their weights, and polynomials there, where nothing bends but at z = 0."""
    z, weights = _nodes(np.zeros((1, 1)))
    keep = weights[0] > 0
    z, weights = z[0][keep].copy(), weights[0][keep].copy()
    return z, weights, np.ascontiguousarray(_polynomials(z, weights))


def _nodes(bends: Array) -> tuple[Array, Array]:
    """Composite Gauss-Legendre nodes in z and weights of the standard normal, [class, node].

    Args:
        bends: borders of panels beside the fixed ones, [class, bend].
    """
    fixed = np.broadcast_to(np.array(_EDGES), (len(bends), len(_EDGES)))
    edges = np.sort(np.concatenate([fixed, np.clip(bends, -_REACH, _REACH)], axis=1), axis=1)
    x, w = _rule()
    half = np.diff(edges, axis=1)[..., None] / 2
    middle = (edges[:, :-1, None] + edges[:, 1:, None]) / 2
    z = (middle + half * x).reshape(len(bends), -1)
    weights = (half * w).reshape(len(bends), -1) * np.exp(-np.square(z) / 2)
    return z, weights / weights.sum(axis=1, keepdims=True)
