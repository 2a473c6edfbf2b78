"""Recurrent cells over time, in the limit of many units.

With many units and weights drawn once, the gates' arguments of one unit are a Gaussian process
over time and samples: Cov = sigma_w^2 E h_t h_s + the input's part + sigma_b^2 (Yang 2019, Wide
feedforward or recurrent neural networks of any architecture are Gaussian processes). Kept are
E h_t h_s for all pairs of steps, of one sample and of two, which holds the parts that add up
coherently over time: biases, constant inputs, memory.

Arrays of pairs are (2, steps + 1, steps + 1): [one sample | two samples, t, s]; step 0 is the
initial state. What passes through forget gates is a sum over paths of their means; the gate of
the step itself counts with its second moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from isograd.prediction.pairs import Array

_TERMS = 24
_EDGES = (-9.0, -5.0, -2.5, -1.0, -0.3, 0.0, 0.3, 1.0, 2.5, 5.0, 9.0)


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


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5)


def _sigmoid_slope(x: Array) -> Array:
    return np.asarray(0.25 / np.square(np.cosh(np.clip(0.5 * x, -300, 300))))


def _tanh_slope(x: Array) -> Array:
    return np.asarray(1 / np.square(np.cosh(np.clip(x, -300, 300))))


SIGMOID = Squash(_sigmoid, _sigmoid_slope)
TANH = Squash(np.tanh, _tanh_slope)
RELU = Squash(lambda x: np.maximum(x, 0.0), lambda x: np.where(x > 0, 1.0, 0.0))


class Gate:
    """A function of a Gaussian process, step by step."""

    def __init__(self, squash: Squash, steps: int) -> None:
        n = steps + 1
        self.squash = squash
        self.argument = np.zeros(n)
        """Mean of the argument."""
        self.deviation = np.zeros(n)
        self.covariance = np.zeros((2, n, n))
        self.mean = np.zeros(n)
        """E f_t."""
        self.second = np.zeros((2, n, n))
        """E f_t f_s."""
        self._terms = np.zeros((n, _TERMS))
        self._rest = np.zeros(n)

    def step(self, t: int, argument: float, covariance: Array) -> Array:
        """E f_t f_s for s = 1 .. t.

        Args:
            t: the step.
            argument: mean of the argument.
            covariance: (2, t), with the arguments of the steps 1 .. t.
        """
        deviation = np.sqrt(max(float(covariance[0, -1]), 0.0))
        self.argument[t], self.deviation[t] = argument, deviation
        values = self.squash.value(argument + deviation * _Z)
        terms = values @ _BASIS
        square = float(_WEIGHTS @ np.square(values))
        rest = np.sqrt(max(square - float(terms @ terms), 0.0))
        self._terms[t], self._rest[t], self.mean[t] = terms, rest, terms[0]
        own = slice(1, t + 1)
        scale = deviation * self.deviation[own]
        rho = np.clip(covariance / np.where(scale > 0, scale, np.inf), -1.0, 1.0)
        powers = np.empty((2, t, _TERMS))
        powers[..., 0] = 1.0
        powers[..., 1:] = rho[..., None]
        np.cumprod(powers, axis=-1, out=powers)
        found = np.einsum("jsk,sk->js", powers, self._terms[own] * terms)
        found += rest * self._rest[own] * powers[..., -1] ** 2
        found[0, -1] = square
        self.covariance[:, t, own] = self.covariance[:, own, t] = covariance
        self.second[:, t, own] = self.second[:, own, t] = found
        return found

    def slopes(self) -> Array:
        """E f'_t f'_s for all pairs of steps."""
        values = self.squash.slope(self.argument[:, None] + self.deviation[:, None] * _Z)
        terms = values @ _BASIS
        square = np.square(values) @ _WEIGHTS
        rest = np.sqrt(np.maximum(square - np.square(terms).sum(-1), 0.0))
        scale = np.outer(self.deviation, self.deviation)
        rho = np.clip(self.covariance / np.where(scale > 0, scale, np.inf), -1.0, 1.0)
        found = np.broadcast_to(np.outer(terms[:, 0], terms[:, 0]), rho.shape).copy()
        power = rho.copy()
        for k in range(1, _TERMS):
            found += np.outer(terms[:, k], terms[:, k]) * power
            power *= rho
        found += np.outer(rest, rest) * np.square(power)
        each = np.arange(len(square))
        found[0, each, each] = square
        return found


@dataclass(frozen=True)
class Laws:
    """Laws of what one layer and direction has of its own."""

    units: int
    mean: float
    """Of the recurrent weights."""
    variance: float
    bias_mean: Array
    """(2, gates): of the input's and of the state's bias."""
    bias_variance: Array
    """Likewise."""

    def fed_back(self, second: Array, means: Array) -> Array:
        """Covariance of W h, from E h h' and the products of the means."""
        spread = self.variance * second
        if self.mean:
            spread = spread + self.mean**2 * (second - means)
        return self.units * spread

    def shared(self, gate: int) -> tuple[float, float]:
        """Mean and variance of both biases of a gate together."""
        return float(self.bias_mean[:, gate].sum()), float(self.bias_variance[:, gate].sum())

    @property
    def back(self) -> float:
        """E of the sum over units of squared recurrent weights, per entry."""
        return self.units * (self.variance + self.mean**2)


@dataclass(frozen=True)
class Start:
    """An initial state: E x x' of one sample and of two, and its mean."""

    second: Array
    mean: float = 0.0


@dataclass
class Returned:
    """What the backward of a cell gives; pairs of the steps 1 … T."""

    arguments: Array
    """(2, T, T): gradient of the gates' arguments, summed over gates; what reaches the input."""
    fed_back: Array
    """Likewise, of what the recurrent weights' products enter."""
    state: Array
    """(2,): gradient of the initial h."""
    memory: Array
    """(2,): gradient of the initial c."""


class Cell:
    """One layer and direction of a recurrent network.

    Args:
        laws: of its weights.
        inputs: (2, T, T) covariance of the input's part of each gate's argument, without biases.
        means: (T,) its mean.
        state: the initial h.
        memory: the initial c.
    """

    gates = 1

    def __init__(
        self, laws: Laws, inputs: Array, means: Array, state: Start, memory: Start
    ) -> None:
        self.laws, self.inputs, self.means = laws, inputs, means
        self.steps = len(means)
        n = self.steps + 1
        self.state, self.mean = np.zeros((2, n, n)), np.zeros(n)
        self.state[:, 0, 0], self.mean[0] = state.second, state.mean
        self.memory = memory
        self.prepare()
        for t in range(1, n):
            self.step(t)

    def prepare(self) -> None:
        """Makes the gates."""
        raise NotImplementedError

    def step(self, t: int) -> None:
        """State of step t."""
        raise NotImplementedError

    def back(self, gradient: Array, last: Array) -> Returned:
        """The backward.

        Args:
            gradient: (2, T + 1, T + 1), of the outputs h_t from outside.
            last: (2,), of the last c.
        """
        raise NotImplementedError

    def outputs(self) -> tuple[Array, Array]:
        """E h_t h_s and E h_t of the steps 1 … T."""
        return self.state[:, 1:, 1:], self.mean[1:]

    def last_memory(self) -> Start:
        """The last c."""
        return Start(np.zeros(2))

    def _argument(self, t: int) -> tuple[float, Array, Array]:
        """Mean and covariance (2, t) of the input's part, covariance of the state's part."""
        before = self.state[:, t - 1, :t]
        means = self.mean[t - 1] * self.mean[:t]
        return self.means[t - 1], self.inputs[:, t - 1, :t], self.laws.fed_back(before, means)

    def _keep(self, t: int, found: Array, mean: float) -> None:
        """Notes E h_t h_s for s = 1 … t, and the mean."""
        self.state[:, t, 1 : t + 1] = self.state[:, 1 : t + 1, t] = found
        self.state[:, t, 0] = self.state[:, 0, t] = mean * self.mean[0]
        self.mean[t] = mean


class Plain(Cell):
    """h_t = f(W x_t + U h_(t-1) + b)."""

    squash = TANH

    def prepare(self) -> None:
        """Makes the gate."""
        self.gate = Gate(self.squash, self.steps)

    def step(self, t: int) -> None:
        """State of step t."""
        mean, inputs, fed = self._argument(t)
        shift, spread = self.laws.shared(0)
        shift += self.laws.units * self.laws.mean * self.mean[t - 1]
        found = self.gate.step(t, mean + shift, inputs + fed + spread)
        self._keep(t, found, self.gate.mean[t])

    def back(self, gradient: Array, last: Array) -> Returned:
        """The backward."""
        del last
        slopes = self.gate.slopes()
        whole = gradient.copy()
        found = np.zeros_like(whole)
        for t in range(self.steps, 0, -1):
            row = whole[:, t, t:] * slopes[:, t, t:]
            found[:, t, t:] = row
            whole[:, t - 1, t - 1 : -1] += self.laws.back * row
        inner = symmetric(found)[:, 1:, 1:]
        return Returned(inner, inner, whole[:, 0, 0], np.zeros(2))


class Rectified(Plain):
    """The same with a ReLU."""

    squash = RELU


class Paths:
    """x_t = a_t x_(t-1) + u_t with random gates a_t, as a sum over paths of mean gates.

    Args:
        steps: T.
        start: x_0.
    """

    def __init__(self, steps: int, start: Start) -> None:
        n = steps + 1
        self.reach = np.zeros((n, n))
        """[t, l]: product of the mean gates from l to t."""
        self.reach[0, 0] = 1.0
        self.fresh = np.zeros((2, n, n))
        """E u_t u_s, where u_0 = x_0."""
        self.second = np.zeros((2, n, n))
        """E x_t x_s."""
        self.fresh[:, 0, 0] = self.second[:, 0, 0] = start.second
        self.mean, self.fresh_mean = np.zeros(n), np.zeros(n)
        self.mean[0] = self.fresh_mean[0] = start.mean

    def step(
        self, t: int, kept: float, square: Array, fresh: Array, mixed: Array, mean: float
    ) -> None:
        """Adds step t.

        Args:
            t: the step.
            kept: E a_t.
            square: (2,), E a_t a_t.
            fresh: (2, t), E u_t u_s for s = 1 … t.
            mixed: (2,), E of a_t times the gate in u_t over the mean of that gate.
            mean: E u_t.
        """
        own = slice(1, t + 1)
        self.fresh[:, t, own] = self.fresh[:, own, t] = fresh
        self.fresh[:, t, 0] = self.fresh[:, 0, t] = mean * self.fresh_mean[0]
        with_past = self.fresh[:, t, :t] @ self.reach[:t, :t].T
        row = kept * self.second[:, t - 1, :t] + with_past
        self.second[:, t, :t] = self.second[:, :t, t] = row
        self.second[:, t, t] = (
            square * self.second[:, t - 1, t - 1]
            + 2 * mixed * with_past[:, t - 1]
            + fresh[:, t - 1]
        )
        self.reach[t, :t] = kept * self.reach[t - 1, :t]
        self.reach[t, t] = 1.0
        self.fresh_mean[t] = mean
        self.mean[t] = kept * self.mean[t - 1] + mean

    def back_row(self, t: int, found: Array, kept: float, square: Array, arriving: Array) -> None:
        """Row t of E d_t d_s, s >= t, of the gradient d_t = a_(t+1) d_(t+1) + e_t.

        Args:
            t: the step.
            found: (2, T + 1, T + 1), filled.
            kept: E a_(t+1).
            square: (2,), E a_(t+1) a_(t+1).
            arriving: (2, T + 1 - t), E e_t e_s.
        """
        found[:, t, t] = arriving[:, 0]
        if t + 1 == found.shape[-1]:
            return
        later = arriving[:, 1:] @ self.reach[t + 1 :, t + 1 :]
        found[:, t, t + 1 :] = kept * found[:, t + 1, t + 1 :] + later
        found[:, t, t] += square * found[:, t + 1, t + 1] + 2 * kept * later[:, 0]


def symmetric(rows: Array) -> Array:
    """Pairs t > s from those s >= t."""
    upper = np.triu(rows)
    return np.asarray(upper + np.triu(rows, 1).transpose(0, 2, 1))


def moved(pairs: Array) -> Array:
    """[t, s] -> [t - 1, s - 1]; zero where there is none."""
    result = np.zeros_like(pairs)
    result[:, 1:, 1:] = pairs[:, :-1, :-1]
    return result


class Lstm(Cell):
    """c_t = f_t c_(t-1) + i_t g_t, h_t = o_t tanh(c_t); gates in torch's order i, f, g, o."""

    gates = 4

    def prepare(self) -> None:
        """Makes the gates; those of one law are one."""
        made: dict[tuple[object, ...], Gate] = {}
        self.order = []
        for place, squash in enumerate((SIGMOID, SIGMOID, TANH, SIGMOID)):
            key = (squash, *self.laws.shared(place))
            self.order.append(made.setdefault(key, Gate(squash, self.steps)))
        self.distinct = [(gate, key[1], key[2]) for key, gate in made.items()]
        self.out = Gate(TANH, self.steps)
        self.paths = Paths(self.steps, self.memory)

    def step(self, t: int) -> None:
        """State of step t."""
        mean, inputs, fed = self._argument(t)
        mean += self.laws.units * self.laws.mean * self.mean[t - 1]
        both = inputs + fed
        for gate, shift, spread in self.distinct:
            gate.step(t, mean + shift, both + spread)
        i, f, g, o = self.order
        own = slice(1, t + 1)
        paths = self.paths
        kept, fresh = f.mean[t], i.mean[t] * g.mean[t]
        paths.step(
            t, kept, f.second[:, t, t], i.second[:, t, own] * g.second[:, t, own], kept, fresh
        )
        centered = paths.second[:, t, own] - paths.mean[t] * paths.mean[own]
        squashed = self.out.step(t, paths.mean[t], centered)
        self._keep(t, o.second[:, t, own] * squashed, o.mean[t] * self.out.mean[t])

    def last_memory(self) -> Start:
        """The last c."""
        return Start(self.paths.second[:, -1, -1], self.paths.mean[-1])

    def back(self, gradient: Array, last: Array) -> Returned:
        """The backward."""
        i, f, g, o = self.order
        slope = {id(gate): gate.slopes() for gate, *_ in self.distinct}
        through_o = self.out.second * slope[id(o)]
        into_memory = o.second * self.out.slopes()
        through_c = (
            moved(self.paths.second) * slope[id(f)]
            + g.second * slope[id(i)]
            + i.second * slope[id(g)]
        )
        whole, memory = gradient.copy(), np.zeros_like(gradient)
        inner = np.zeros_like(gradient)
        for t in range(self.steps, 0, -1):
            row = whole[:, t, t:]
            arriving = row * into_memory[:, t, t:]
            if t == self.steps:
                arriving = arriving + last[:, None]
            after = min(t + 1, self.steps)
            self.paths.back_row(t, memory, f.mean[after], f.second[:, after, after], arriving)
            inner[:, t, t:] = row * through_o[:, t, t:] + memory[:, t, t:] * through_c[:, t, t:]
            whole[:, t - 1, t - 1 : -1] += self.laws.back * inner[:, t, t:]
        found = symmetric(inner)[:, 1:, 1:]
        return Returned(found, found, whole[:, 0, 0], f.second[:, 1, 1] * memory[:, 1, 1])


class Gru(Cell):
    """h_t = (1 - z) n + z h_(t-1), n = tanh(x + r y), y = U h_(t-1) + b; torch's order r, z, n."""

    gates = 3

    def prepare(self) -> None:
        """Makes the gates."""
        self.reset = Gate(SIGMOID, self.steps)
        same = self.laws.shared(0) == self.laws.shared(1)
        self.update = self.reset if same else Gate(SIGMOID, self.steps)
        self.new = Gate(TANH, self.steps)
        n = self.steps + 1
        self.inner, self.inner_mean = np.zeros((2, n, n)), np.zeros(n)
        self.rest = np.zeros((2, n, n))
        self.paths = Paths(self.steps, Start(self.state[:, 0, 0].copy(), self.mean[0]))

    def step(self, t: int) -> None:
        """State of step t."""
        laws, own = self.laws, slice(1, t + 1)
        mean, inputs, fed = self._argument(t)
        fed_mean = laws.units * laws.mean * self.mean[t - 1]
        for place, gate in ((0, self.reset), (1, self.update)):
            if place == 0 or gate is not self.reset:
                shift, spread = laws.shared(place)
                gate.step(t, mean + fed_mean + shift, inputs + fed + spread)
        (x_shift, y_shift), (x_spread, y_spread) = laws.bias_mean[:, 2], laws.bias_variance[:, 2]
        y = self.inner_mean[t] = fed_mean + y_shift
        product = y * self.inner_mean[own]
        inner = fed + y_spread + product
        self.inner[:, t, own] = self.inner[:, own, t] = inner
        r, z = self.reset, self.update
        centered = r.second[:, t, own] * inner - r.mean[t] * r.mean[own] * product
        new = self.new.step(t, mean + x_shift + r.mean[t] * y, inputs + x_spread + centered)
        rest = 1 - z.mean[t] - z.mean[own] + z.second[:, t, own]
        self.rest[:, t, own] = self.rest[:, own, t] = rest
        mixed = z.mean[t] - z.second[:, t, t]
        gone = 1 - z.mean[t]
        self.paths.step(
            t, z.mean[t], z.second[:, t, t], rest * new, mixed / max(gone, 1e-300),
            gone * self.new.mean[t],
        )  # fmt: skip
        self.state[:, t, : t + 1] = self.state[:, : t + 1, t] = self.paths.second[:, t, : t + 1]
        self.mean[t] = self.paths.mean[t]

    def back(self, gradient: Array, last: Array) -> Returned:
        """The backward."""
        del last
        r, z, new = self.reset, self.update, self.new
        before = moved(self.state)
        # E n_t h_(s-1): h_(s-1) is the sum over its paths of (1 - z_l) n_l.
        gone = 1 - z.mean
        shares = self.paths.reach * gone[None, :]
        crossed = np.zeros_like(before)
        crossed[:, :, 1:] = (new.second @ shares.T)[:, :, :-1]
        crossed[:, :, 1:] += new.mean[:, None] * (self.paths.reach[:-1, 0] * self.mean[0])[None, :]
        update = before + new.second - crossed - crossed.transpose(0, 2, 1)
        through_n = self.rest * new.slopes()
        through_z = update * z.slopes()
        through_r = through_n * self.inner * r.slopes()
        to_x = through_n + through_z + through_r
        to_h = r.second * through_n + through_z + through_r
        whole = gradient.copy()  # what arrives from outside and through the weights
        slope = np.zeros_like(whole)
        for t in range(self.steps, 0, -1):
            after = min(t + 1, self.steps)
            self.paths.back_row(t, slope, z.mean[after], z.second[:, after, after], whole[:, t, t:])
            whole[:, t - 1, t - 1 : -1] += self.laws.back * slope[:, t, t:] * to_h[:, t, t:]
        both = symmetric(slope)
        first = z.second[:, 1, 1] * slope[:, 1, 1] + whole[:, 0, 0]
        return Returned((both * to_x)[:, 1:, 1:], (both * to_h)[:, 1:, 1:], first, np.zeros(2))


CELLS: dict[str, type[Cell]] = {
    "lstm": Lstm,
    "gru": Gru,
    "rnn_tanh": Plain,
    "rnn_relu": Rectified,
}
