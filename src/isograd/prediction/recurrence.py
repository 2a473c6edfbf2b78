"""Recurrent cells over time, in the limit of many units.

With many units and weights drawn once, the gates' arguments of one unit are a Gaussian process
over time and samples: Cov = sigma_w^2 E h_t h_s + the input's part + sigma_b^2 (Yang 2019, Wide
feedforward or recurrent neural networks of any architecture are Gaussian processes). Kept are
E h_t h_s for all pairs of steps, of one sample and of two, which holds what adds up coherently
over time: biases, constant inputs, memory. Shapes as in `isograd.prediction.memory`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isograd.prediction.memory import (
    RELU,
    SIGMOID,
    TANH,
    Gate,
    Paths,
    Steady,
    moved,
    symmetric,
)
from isograd.prediction.pairs import Array

_LAG = 2
"""Steps apart, at which the input's steady part is read: what forget gates remember."""
_RARE = 0.01
"""Share of the units whose memory may be longer than the gradient's is said to be."""


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
        return np.asarray(self.units * spread)

    def shared(self, gate: int) -> tuple[float, float]:
        """Mean and variance of both biases of a gate together."""
        return float(self.bias_mean[:, gate].sum()), float(self.bias_variance[:, gate].sum())

    @property
    def back(self) -> float:
        """E of the sum over units of squared recurrent weights, per entry."""
        return self.units * (self.variance + self.mean**2)


@dataclass(frozen=True)
class Start:
    """A state at one step: E x x' of one sample and of two, and its mean."""

    second: Array
    mean: float = 0.0


@dataclass
class Returned:
    """What the backward of a cell gives; pairs (2, T, T) of the steps 1 … T."""

    arguments: Array
    """Gradient of the gates' arguments, summed over gates: what reaches input and biases."""
    products: Array
    """Likewise, of the products with the recurrent weights."""
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
        self.state, self.mean = np.zeros((2, 1, n, n)), np.zeros(n)
        self.state[:, 0, 0, 0], self.mean[0] = state.second, state.mean
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
            gradient: (2, 1, T + 1, T + 1), of the states h_t from outside.
            last: (2,), of the last c.
        """
        raise NotImplementedError

    def rate(self) -> float:
        """Factor of the gradient's energy per step back, in the long run."""
        raise NotImplementedError

    def outputs(self) -> tuple[Array, Array]:
        """E h_t h_s and E h_t of the steps 1 … T."""
        return self.state[:, 0, 1:, 1:], self.mean[1:]

    def last_memory(self) -> Start:
        """The last c."""
        return Start(np.zeros(2))

    def _argument(self, t: int) -> tuple[float, Array, Array]:
        """Mean; covariances (2, 1, t) of the input's and of the state's part."""
        before = self.state[:, :, t - 1, :t]
        fed = self.laws.fed_back(before, self.mean[t - 1] * self.mean[:t])
        mean = self.means[t - 1] + self.laws.units * self.laws.mean * self.mean[t - 1]
        return mean, self.inputs[:, None, t - 1, :t], fed

    def _steady(self, bias: float) -> Steady:
        """What stays the same in the argument of a gate with that variance of the bias."""
        lag = min(_LAG, self.steps - 1)
        if not lag:
            return Steady(np.zeros(2), 0.0)
        each = np.arange(lag, self.steps)
        common = self.inputs[:, each, each - lag].mean(axis=1)
        whole = self.inputs[0].diagonal().mean()
        return Steady(np.maximum(common, 0.0) + bias, whole + bias)

    def _keep(self, t: int, found: Array, mean: float) -> None:
        """Notes E h_t h_s for s = 1 … t, and the mean."""
        own = slice(1, t + 1)
        self.state[:, :, t, own] = self.state[:, :, own, t] = found
        self.state[:, :, t, 0] = self.state[:, :, 0, t] = mean * self.mean[0]
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
        found = self.gate.step(t, np.array([mean + shift]), inputs + fed + spread)
        self._keep(t, found, self.gate.mean[0, t])

    def back(self, gradient: Array, last: Array) -> Returned:
        """The backward."""
        del last
        slopes = self.gate.slopes()
        whole = gradient.copy()
        found = np.zeros_like(whole)
        for t in range(self.steps, 0, -1):
            row = whole[..., t, t:] * slopes[..., t, t:]
            found[..., t, t:] = row
            whole[..., t - 1, t - 1 : -1] += self.laws.back * row
        inner = symmetric(found)[:, 0, 1:, 1:]
        return Returned(inner, inner, whole[:, 0, 0, 0], np.zeros(2))

    def rate(self) -> float:
        """Factor of the gradient's energy per step back, in the long run."""
        return self.laws.back * float(self.gate.slopes()[0, 0, -1, -1])


class Rectified(Plain):
    """The same with a ReLU."""

    squash = RELU


class Lstm(Cell):
    """c_t = f_t c_(t-1) + i_t g_t, h_t = o_t tanh(c_t); gates in torch's order i, f, g, o."""

    gates = 4

    def prepare(self) -> None:
        """Makes the gates; those of one law are one."""
        made: dict[tuple[int, float, float], Gate] = {}
        self.order = []
        for place, squash in enumerate((SIGMOID, SIGMOID, TANH, SIGMOID)):
            shift, spread = self.laws.shared(place)
            key = (id(squash), shift, spread)
            self.order.append(made.setdefault(key, Gate(squash, self.steps)))
        self.distinct = [(gate, shift, spread) for (_, shift, spread), gate in made.items()]
        self.steady = self._steady(self.laws.shared(1)[1])
        self.out = Gate(TANH, self.steps, self.steady.rows)
        self.paths = Paths(self.steps, self.memory.second, self.memory.mean, self.steady)
        self._kept = np.zeros((2, 2, self.steady.rows, self.steps + 2))

    def step(self, t: int) -> None:
        """State of step t."""
        mean, inputs, fed = self._argument(t)
        both = inputs + fed
        for gate, shift, spread in self.distinct:
            gate.step(t, np.array([mean + shift]), both + spread)
        i, f, g, o = self.order
        own, paths = slice(1, t + 1), self.paths
        kept, square = self._kept[..., t] = self.steady.given(f, t)
        fresh = i.second[:, :, t, own] * g.second[:, :, t, own]
        paths.step(t, kept, square, kept, fresh, i.mean[:, t] * g.mean[:, t])
        means = paths.mean[:, t, None] * paths.mean[:, own]
        squashed = self.out.step(t, paths.mean[:, t], paths.second[:, :, t, own] - means)
        average = float(self.steady.weights @ self.out.mean[:, t])
        found = o.second[:, :, t, own] * self.steady.average(squashed)
        self._keep(t, found, o.mean[0, t] * average)

    def last_memory(self) -> Start:
        """The last c."""
        second = self.steady.average(self.paths.second[..., -1:, -1:])
        return Start(second[:, 0, 0, 0], float(self.steady.weights @ self.paths.mean[:, -1]))

    def _through(self) -> tuple[Array, Array, Array]:
        """Squared slopes: of the arguments by h and by c, and of c by h."""
        i, f, g, o = self.order
        slope = {id(gate): gate.slopes() for gate, *_ in self.distinct}
        through_o = self.steady.average(self.out.second) * slope[id(o)]
        through_c = moved(self.paths.second) * slope[id(f)] * self.steady.shares(f)
        through_c += g.second * slope[id(i)] + i.second * slope[id(g)]
        return through_o, through_c, o.second * self.out.slopes()

    def back(self, gradient: Array, last: Array) -> Returned:
        """The backward."""
        through_o, through_c, into = self._through()
        whole, inner = gradient.copy(), np.zeros_like(gradient)
        memory = np.zeros_like(self.paths.second)
        for t in range(self.steps, 0, -1):
            row = whole[..., t, t:]
            arriving = row * into[..., t, t:]
            if t == self.steps:
                arriving = arriving + last[:, None, None]
            self.paths.back_row(
                t, memory, self._kept[0, ..., t + 1], self._kept[1, ..., t + 1], arriving
            )
            found = self.steady.average(memory[..., t, t:] * through_c[..., t, t:])
            inner[..., t, t:] = row * through_o[..., t, t:] + found
            whole[..., t - 1, t - 1 : -1] += self.laws.back * inner[..., t, t:]
        found = symmetric(inner)[:, 0, 1:, 1:]
        first = self._kept[1, ..., 1] * memory[..., 1, 1]
        return Returned(found, found, whole[:, 0, 0, 0], first @ self.steady.weights)

    def rate(self) -> float:
        """Factor of the gradient's energy per step back, in the long run."""
        o, c, into = (part[0, :, -1, -1] for part in self._through())
        forget = self._kept[1, 0, :, self.steps]
        back, found = self.laws.back, 0.0
        for row in np.flatnonzero(self.steady.weights > _RARE):
            # (h_t, c_(t+1)) -> (h_(t-1), c_t)
            by_h = [back * (o[0] + c[row] * into[row]), back * c[row] * forget[row]]
            step = np.array([by_h, [into[row], forget[row]]])
            found = max(found, float(np.abs(np.linalg.eigvals(step)).max()))
        return found


class Gru(Cell):
    """h_t = (1 - z) n + z h_(t-1), n = tanh(x + r y), y = U h_(t-1) + b; torch's order r, z, n."""

    gates = 3

    def prepare(self) -> None:
        """Makes the gates."""
        n = self.steps + 1
        self.reset = Gate(SIGMOID, self.steps)
        same = self.laws.shared(0) == self.laws.shared(1)
        self.update = self.reset if same else Gate(SIGMOID, self.steps)
        self.new = Gate(TANH, self.steps)
        self.inner, self.inner_mean = np.zeros((2, 1, n, n)), np.zeros(n)
        self.steady = self._steady(self.laws.shared(1)[1])
        rows = self.steady.rows
        self.rest = np.zeros((2, rows, n, n))
        """E (1 - z_t) (1 - z_s)."""
        self._kept = np.zeros((2, 2, rows, n + 1))
        self.paths = Paths(self.steps, self.state[:, 0, 0, 0], self.mean[0], self.steady)

    def step(self, t: int) -> None:
        """State of step t."""
        mean, inputs, fed = self._argument(t)
        z, paths, own = self.update, self.paths, slice(1, t + 1)
        for place, gate in enumerate(dict.fromkeys((self.reset, self.update))):
            shift, spread = self.laws.shared(place)
            gate.step(t, np.array([mean + shift]), inputs + fed + spread)
        new = self._new(t, fed, inputs)
        kept, square = self._kept[..., t] = self.steady.given(z, t)
        gone = 1 - kept
        rest = gone[..., None] * (1 - self._kept[0, ..., own])
        exact = 1 - z.mean[0, t] - z.mean[0, own] + z.second[:, :, t, own]
        rest = rest * (exact / self.steady.average(rest))
        rest[0, :, -1] = 1 - 2 * kept[0] + square[0]
        self.rest[:, :, t, own] = self.rest[:, :, own, t] = rest
        mixed = (kept - square) / np.maximum(gone, 1e-300)
        paths.step(t, kept, square, mixed, rest * new, gone[0] * self.new.mean[0, t])
        row = self.steady.average(paths.second[:, :, t, None, : t + 1])[:, :, 0]
        self.state[:, :, t, : t + 1] = self.state[:, :, : t + 1, t] = row
        self.mean[t] = float(self.steady.weights @ paths.mean[:, t])

    def _new(self, t: int, fed: Array, inputs: Array) -> Array:
        """E n_t n_s for s = 1 … t."""
        laws, own, r = self.laws, slice(1, t + 1), self.reset
        (x_shift, y_shift), (x_spread, y_spread) = laws.bias_mean[:, 2], laws.bias_variance[:, 2]
        y = self.inner_mean[t] = laws.units * laws.mean * self.mean[t - 1] + y_shift
        product = y * self.inner_mean[own]
        inner = fed + y_spread + product
        self.inner[:, :, t, own] = self.inner[:, :, own, t] = inner
        fed = r.second[:, :, t, own] * inner - r.mean[:, t] * r.mean[:, own] * product
        mean = self.means[t - 1] + x_shift + r.mean[:, t] * y
        return self.new.step(t, mean, inputs + x_spread + fed)

    def _through(self) -> tuple[Array, Array]:
        """Squared slopes by h: of the arguments, and of the products with recurrent weights."""
        r, z, new, paths = self.reset, self.update, self.new, self.paths
        # E n_t h_(s-1): h_(s-1) is the sum over its paths of (1 - z_l) n_l, and of h_0.
        shares = paths.reach * (1 - self._kept[0, :, :, None, :-1])
        crossed = np.zeros_like(paths.second)
        crossed[..., 1:] = np.matmul(new.second, shares.swapaxes(-1, -2))[..., :-1]
        first = paths.reach[:, :, :-1, 0] * self.mean[0]
        crossed[..., 1:] += new.mean[0, :, None] * first[..., None, :]
        update = moved(paths.second) + new.second - crossed - crossed.swapaxes(-1, -2)
        through_n = self.rest * new.slopes()
        through_r = through_n * self.inner * r.slopes()
        gates = update * z.slopes() * self.steady.shares(z) + through_r
        return through_n + gates, r.second * through_n + gates

    def back(self, gradient: Array, last: Array) -> Returned:
        """The backward."""
        del last
        to_x, to_h = self._through()
        whole = gradient.copy()  # what arrives from outside and through the weights
        slope = np.zeros_like(self.paths.second)
        for t in range(self.steps, 0, -1):
            arriving = whole[..., t, t:]
            self.paths.back_row(
                t, slope, self._kept[0, ..., t + 1], self._kept[1, ..., t + 1], arriving
            )
            found = self.steady.average(slope[..., t, t:] * to_h[..., t, t:])
            whole[..., t - 1, t - 1 : -1] += self.laws.back * found
        both = symmetric(slope)
        first = (self._kept[1, ..., 1] * slope[..., 1, 1]) @ self.steady.weights
        x, h = (self.steady.average(both * part)[:, 0, 1:, 1:] for part in (to_x, to_h))
        return Returned(x, h, first + whole[:, 0, 0, 0], np.zeros(2))

    def rate(self) -> float:
        """Factor of the gradient's energy per step back, in the long run."""
        forget = self._kept[1, 0, :, self.steps]
        rates = forget + self.laws.back * self._through()[1][0, :, -1, -1]
        return float(rates[self.steady.weights > _RARE].max())


CELLS: dict[str, type[Cell]] = {
    "lstm": Lstm,
    "gru": Gru,
    "rnn_tanh": Plain,
    "rnn_relu": Rectified,
}
