"""What recurrent cells are made of: gates of a Gaussian process, and what passes through them.

Arrays of pairs of steps are (2, rows, steps + 1, steps + 1): [one sample | two samples, row, t, s].
Step 0 is the initial state. The rows, with weights that add up to one, stand for units whose
forget gates are open to a different degree all the time, by a bias or by what does not change in
the input; one row where that hardly varies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isograd.prediction.moments.pairs import Array

_TERMS = 24
_EDGES = (-9.0, -5.0, -2.5, -1.0, -0.3, 0.0, 0.3, 1.0, 2.5, 5.0, 9.0)
_ROWS = 7
_STEADY = 1e-3
"""Relative variance of what stays the same in a forget gate, from which on it has rows."""


def _tables() -> tuple[Array, Array, Array]:
    """Nodes, weights of the standard normal, and weighted orthonormal Hermite polynomials."""
    x, w = np.polynomial.legendre.leggauss(12)
    edges = np.array(_EDGES)
    half = np.diff(edges)[:, None] / 2
    z = ((edges[:-1, None] + edges[1:, None]) / 2 + half * x).reshape(-1)
    weights = (half * w).reshape(-1) * np.exp(-np.square(z) / 2)
    weights /= weights.sum()
    basis = np.empty((_TERMS, len(z)))
    basis[0], basis[1] = weights, z * weights
    for k in range(1, _TERMS - 1):
        basis[k + 1] = (z * basis[k] - np.sqrt(k) * basis[k - 1]) / np.sqrt(k + 1)
    return z, weights, np.ascontiguousarray(basis.T)


_Z, _WEIGHTS, _BASIS = _tables()


@dataclass(frozen=True)
class Squash:
    """A function of one argument and its derivative."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


def _tanh_slope(x: Array) -> Array:
    return np.asarray(1 - np.square(np.tanh(x)))


SIGMOID = Squash(
    lambda x: np.asarray(0.5 + 0.5 * np.tanh(0.5 * x)), lambda x: 0.25 * _tanh_slope(0.5 * x)
)
TANH = Squash(lambda x: np.asarray(np.tanh(x)), _tanh_slope)
RELU = Squash(lambda x: np.maximum(x, 0.0), lambda x: np.where(x > 0, 1.0, 0.0))


class Gate:
    """A function of a Gaussian process, step by step; pairs by Mehler's series."""

    def __init__(self, squash: Squash, steps: int, rows: int = 1) -> None:
        n = steps + 1
        self.squash = squash
        self.argument = np.zeros((rows, n))
        """Mean of the argument."""
        self.deviation = np.zeros((rows, n))
        self.covariance = np.zeros((2, rows, n, n))
        self.mean = np.zeros((rows, n))
        """E f_t."""
        self.second = np.zeros((2, rows, n, n))
        """E f_t f_s."""
        self._terms = np.zeros((rows, n, _TERMS))
        self._rest = np.zeros((rows, n))

    def step(self, t: int, argument: Array, covariance: Array) -> Array:
        """E f_t f_s for s = 1 … t, (2, rows, t).

        Args:
            t: the step.
            argument: (rows,) mean of the argument.
            covariance: (2, rows, t), with the arguments of the steps 1 … t.
        """
        deviation = np.sqrt(np.maximum(covariance[0, :, -1], 0.0))
        self.argument[:, t], self.deviation[:, t] = argument, deviation
        values = self.squash.value(np.asarray(argument)[..., None] + deviation[:, None] * _Z)
        terms = values @ _BASIS
        square = np.square(values) @ _WEIGHTS
        rest = np.sqrt(np.maximum(square - np.square(terms).sum(-1), 0.0))
        self._terms[:, t], self._rest[:, t], self.mean[:, t] = terms, rest, terms[:, 0]
        own = slice(1, t + 1)
        rho = _correlation(covariance, deviation[:, None] * self.deviation[:, own])
        powers = np.empty((*rho.shape, _TERMS))
        powers[..., 0] = 1.0
        powers[..., 1:] = rho[..., None]
        np.cumprod(powers, axis=-1, out=powers)
        found = np.einsum("jrsk,rsk->jrs", powers, self._terms[:, own] * terms[:, None])
        found += rest[:, None] * self._rest[:, own] * np.square(powers[..., -1])
        found[0, :, -1] = square
        self.covariance[:, :, t, own] = self.covariance[:, :, own, t] = covariance
        self.second[:, :, t, own] = self.second[:, :, own, t] = found
        return np.asarray(found)

    def slopes(self) -> Array:
        """E f'_t f'_s for all pairs of steps."""
        arguments = self.argument[..., None] + self.deviation[..., None] * _Z
        values = self.squash.slope(arguments)
        terms = values @ _BASIS
        square = np.square(values) @ _WEIGHTS
        rest = np.sqrt(np.maximum(square - np.square(terms).sum(-1), 0.0))
        rho = _correlation(self.covariance, _outer(self.deviation))
        found = np.broadcast_to(_outer(terms[..., 0]), rho.shape).copy()
        power = rho.copy()
        for k in range(1, _TERMS):
            found += _outer(terms[..., k]) * power
            power *= rho
        found += _outer(rest) * np.square(power)
        each = np.arange(square.shape[-1])
        found[0, :, each, each] = square.T
        return found


def _outer(x: Array) -> Array:
    return np.asarray(x[..., :, None] * x[..., None, :])


def _correlation(covariance: Array, scale: Array) -> Array:
    return np.clip(covariance / np.where(scale > 0, scale, np.inf), -1.0, 1.0)


class Steady:
    """What stays the same over time in the argument of a forget gate, by a few rows.

    Args:
        variance: (2,) of that part; what two samples share of it second.
        whole: variance of the argument.
    """

    def __init__(self, variance: Array, whole: float) -> None:
        self.variance = np.clip(variance, 0.0, max(whole, 0.0))
        self.variance[1] = min(self.variance)
        self.weights, self._z = np.ones(1), np.zeros(1)
        # (E sigmoid')^2 / (E sigmoid)^2 is about 1/4, and four to ten pairs of steps matter.
        if self.variance[0] > _STEADY:
            z, w = np.polynomial.hermite_e.hermegauss(_ROWS)
            self.weights, self._z = w / w.sum(), z

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.weights)

    def given(self, gate: Gate, t: int) -> tuple[Array, Array]:
        """(2, rows) of E f_t and E f_t f_t of a gate, for one sample and for two."""
        if self.rows == 1:
            return np.repeat(gate.mean[:, t][None], 2, axis=0), gate.second[:, :, t, t]
        values = gate.squash.value(self._arguments(gate.argument[0, t], gate.deviation[0, t]))
        mean, square = values @ _WEIGHTS, np.square(values) @ _WEIGHTS
        both = np.square(mean[1])
        square[1] = both * (gate.second[1, 0, t, t] / max(float(self.weights @ both), 1e-300))
        return mean, square

    def shares(self, gate: Gate) -> Array:
        """(2, rows, 1, 1): E of products of two slopes, over its average."""
        if self.rows == 1:
            return np.ones((2, 1, 1, 1))
        deviation = np.sqrt(np.square(gate.deviation[0, 1:]).mean())
        values = gate.squash.slope(self._arguments(gate.argument[0, 1:].mean(), deviation))
        square = np.square(values @ _WEIGHTS)
        return np.asarray((square / (square @ self.weights)[:, None])[..., None, None])

    def average(self, pairs: Array) -> Array:
        """Over rows, which become one."""
        if self.rows == 1:
            return pairs
        return np.asarray(np.tensordot(self.weights, pairs, (0, 1))[:, None])

    def _arguments(self, mean: float, deviation: float) -> Array:
        left = np.sqrt(np.maximum(deviation**2 - self.variance, 0.0))
        moved = mean + np.sqrt(self.variance)[:, None] * self._z
        return np.asarray(moved[..., None] + left[:, None, None] * _Z)


class Paths:
    """x_t = a_t x_(t-1) + u_t with random gates a_t, as a sum over paths of mean gates.

    Args:
        steps: T.
        second: (2,), E x_0 x_0.
        mean: E x_0.
        steady: the rows.
    """

    def __init__(self, steps: int, second: Array, mean: float, steady: Steady) -> None:
        n, rows = steps + 1, steady.rows
        self.reach = np.zeros((2, rows, n, n))
        """[…, t, l]: product of the mean gates from l to t."""
        self.reach[..., 0, 0] = 1.0
        self.fresh = np.zeros((2, rows, n, n))
        """E u_t u_s, where u_0 = x_0."""
        self.second = np.zeros((2, rows, n, n))
        """E x_t x_s."""
        self.fresh[..., 0, 0] = self.second[..., 0, 0] = second[:, None]
        self.mean, self._fresh_mean = np.zeros((rows, n)), np.zeros((rows, n))
        self.mean[:, 0] = self._fresh_mean[:, 0] = mean

    def step(
        self, t: int, kept: Array, square: Array, mixed: Array, fresh: Array, mean: Array
    ) -> None:
        """Adds step t.

        Args:
            t: the step.
            kept: (2, rows), E a_t.
            square: (2, rows), E a_t a_t.
            mixed: (2, rows), E of a_t times the gate in u_t, over the mean of that gate.
            fresh: (2, rows, t), E u_t u_s for s = 1 … t.
            mean: (rows,), E u_t.
        """
        own, second = slice(1, t + 1), self.second
        self.fresh[:, :, t, own] = self.fresh[:, :, own, t] = fresh
        first = mean * self._fresh_mean[:, 0]
        self.fresh[:, :, t, 0] = self.fresh[:, :, 0, t] = first
        past = np.matmul(self.reach[:, :, :t, :t], self.fresh[:, :, t, :t, None])[..., 0]
        row = kept[..., None] * second[:, :, t - 1, :t] + past
        second[:, :, t, :t] = second[:, :, :t, t] = row
        second[:, :, t, t] = (
            square * second[:, :, t - 1, t - 1] + 2 * mixed * past[..., -1] + fresh[..., -1]
        )
        self.reach[:, :, t, :t] = kept[..., None] * self.reach[:, :, t - 1, :t]
        self.reach[:, :, t, t] = 1.0
        self._fresh_mean[:, t] = mean
        self.mean[:, t] = kept[0] * self.mean[:, t - 1] + mean

    def back_row(self, t: int, found: Array, kept: Array, square: Array, arriving: Array) -> None:
        """Row t of E d_t d_s, s >= t, of the gradient d_t = a_(t+1) d_(t+1) + e_t.

        Args:
            t: the step.
            found: pairs, filled.
            kept: (2, rows), E a_(t+1).
            square: (2, rows), E a_(t+1) a_(t+1).
            arriving: (2, rows, T + 1 - t), E e_t e_s.
        """
        found[:, :, t, t] = arriving[..., 0]
        if t + 1 == found.shape[-1]:
            return
        reach = self.reach[:, :, t + 1 :, t + 1 :].swapaxes(-1, -2)
        later = np.matmul(reach, arriving[..., 1:, None])[..., 0]
        found[:, :, t, t + 1 :] = kept[..., None] * found[:, :, t + 1, t + 1 :] + later
        found[:, :, t, t] += square * found[:, :, t + 1, t + 1] + 2 * kept * later[..., 0]


def symmetric(rows: Array) -> Array:
    """Pairs t > s from those s >= t."""
    return np.asarray(np.triu(rows) + np.triu(rows, 1).swapaxes(-1, -2))


def moved(pairs: Array) -> Array:
    """[t, s] -> [t - 1, s - 1]; zero where there is none."""
    result = np.zeros_like(pairs)
    result[..., 1:, 1:] = pairs[..., :-1, :-1]
    return result
