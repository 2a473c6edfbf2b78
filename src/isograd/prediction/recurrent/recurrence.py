"""Recurrent cells over time, in the limit of many units.

With many units and weights drawn once, the gates' arguments of one unit are a Gaussian process
over time and samples: Cov = sigma_w^2 E h_t h_s + the input's part + sigma_b^2 (Yang 2019, Wide
feedforward or recurrent neural networks of any architecture are Gaussian processes). Kept are
E h_t h_s for all pairs of steps, of one sample and of two, which holds what adds up coherently
over time: biases, constant inputs, memory. Shapes as in `isograd.prediction.recurrent.memory`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isograd.prediction.backward.passages import Passages
from isograd.prediction.moments.pairs import Array
from isograd.prediction.recurrent.memory import RELU, TANH, Gate, Steady, symmetric

_LAG = 2
"""Steps apart, at which the input's steady part is read: what forget gates remember."""


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
        self.whole = self.inner = np.zeros((0,))
        """Of the backward: gradients of the states, and of the gates' arguments over gates."""
        self.prepare()

    def walk(self) -> None:
        """All steps, one after the other."""
        for t in range(1, self.steps + 1):
            self.step(t)

    def prepare(self) -> None:
        """Makes the gates."""
        raise NotImplementedError

    def step(self, t: int) -> None:
        """State of step t."""
        raise NotImplementedError

    def turn(self) -> None:
        """Begins the backward."""
        self.whole, self.inner = np.zeros_like(self.state), np.zeros_like(self.state)

    def pull(self, t: int, state: Array, memory: Array) -> None:
        """The backward of step t.

        Args:
            t: the step; those behind it are done.
            state: (2, 1, T + 1 - t), gradient of h_t from outside, with those of h_t … h_T.
            memory: (2,), gradient of c_t from outside.
        """
        raise NotImplementedError

    def handed(self, t: int) -> tuple[Array, Array]:
        """(2,) each: gradients of h_(t - 1) and c_(t - 1) from step t, which is done."""
        return self.whole[:, 0, t - 1, t - 1], np.zeros(2)

    def variance(self) -> float:
        """Of ln of the gradient's energy so far, over draws of the recurrent weights."""
        return 0.0

    def products(self) -> Array:
        """As `inner`, of the products with the recurrent weights."""
        return self.inner

    def back(self, gradient: Array, last: Array) -> Returned:
        """The whole backward.

        Args:
            gradient: (2, 1, T + 1, T + 1), of the states h_t from outside.
            last: (2,), of the last c.
        """
        self.turn()
        for t in range(self.steps, 0, -1):
            self.pull(t, gradient[..., t, t:], last if t == self.steps else np.zeros(2))
        state, memory = self.handed(1)
        x, h = (symmetric(rows)[:, 0, 1:, 1:] for rows in (self.inner, self.products()))
        return Returned(x, h, state + gradient[:, 0, 0, 0], memory)

    def rate(self) -> float:
        """Factor of the gradient's energy per step back, in the long run."""
        raise NotImplementedError

    def outputs(self) -> tuple[Array, Array]:
        """E h_t h_s and E h_t of the steps 1 … T."""
        return self.state[:, 0, 1:, 1:], self.mean[1:]

    def memory_at(self, t: int) -> Start:
        """The memory c of step t."""
        del t
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
        self.passages: Passages | None = None

    def step(self, t: int) -> None:
        """State of step t."""
        mean, inputs, fed = self._argument(t)
        shift, spread = self.laws.shared(0)
        found = self.gate.step(t, np.array([mean + shift]), inputs + fed + spread)
        self._keep(t, found, self.gate.mean[0, t])

    def turn(self) -> None:
        """Begins the backward."""
        super().turn()
        self._slopes = self.gate.slopes()

    def pull(self, t: int, state: Array, memory: Array) -> None:
        """The backward of step t."""
        del memory
        self.whole[..., t, t:] += state
        self.inner[..., t, t:] = row = self.whole[..., t, t:] * self._slopes[..., t, t:]
        if self.passages is None:
            one, two = self._slopes[0, 0, t, t], self._slopes[0, 0, max(t - 1, 1), t]
            self.passages = Passages(self.laws.units, t, two / max(one, 1e-300))
        self.passages.arrive(state[0, 0, 0])
        again = self.passages.meet()
        self.passages.scale(self.laws.back * self._slopes[0, 0, t, t])
        self.whole[..., t - 1, t - 1 : -1] += again * self.laws.back * row

    def variance(self) -> float:
        """Of ln of the gradient's energy so far, over draws of the recurrent weights."""
        return 0.0 if self.passages is None else self.passages.variance

    def rate(self) -> float:
        """Factor of the gradient's energy per step back, in the long run."""
        return self.laws.back * float(self.gate.slopes()[0, 0, -1, -1])


class Rectified(Plain):
    """The same with a ReLU."""

    squash = RELU
