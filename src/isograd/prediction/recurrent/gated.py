"""Recurrent cells with gates: LSTM and GRU; see `isograd.prediction.recurrent.recurrence`."""

from __future__ import annotations

import numpy as np

from isograd.prediction.moments.pairs import Array
from isograd.prediction.recurrent.memory import SIGMOID, TANH, Gate, Paths, moved
from isograd.prediction.recurrent.recurrence import Cell, Plain, Rectified, Start

_RARE = 0.01
"""Share of the units whose memory may be longer than the gradient's is said to be."""


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

    def memory_at(self, t: int) -> Start:
        """The memory c of step t."""
        second = self.steady.average(self.paths.second[..., t : t + 1, t : t + 1])
        return Start(second[:, 0, 0, 0], float(self.steady.weights @ self.paths.mean[:, t]))

    def _through(self) -> tuple[Array, Array, Array]:
        """Squared slopes: of the arguments by h and by c, and of c by h."""
        i, f, g, o = self.order
        slope = {id(gate): gate.slopes() for gate, *_ in self.distinct}
        through_o = self.steady.average(self.out.second) * slope[id(o)]
        through_c = moved(self.paths.second) * slope[id(f)] * self.steady.shares(f)
        through_c += g.second * slope[id(i)] + i.second * slope[id(g)]
        return through_o, through_c, o.second * self.out.slopes()

    def turn(self) -> None:
        """Begins the backward."""
        super().turn()
        self._slopes = self._through()
        self._memory = np.zeros_like(self.paths.second)

    def pull(self, t: int, state: Array, memory: Array) -> None:
        """The backward of step t."""
        through_o, through_c, into = self._slopes
        self.whole[..., t, t:] += state
        row = self.whole[..., t, t:]
        arriving = row * into[..., t, t:]
        arriving[..., 0] += memory[:, None]
        self.paths.back_row(t, self._memory, *self._kept_at(t + 1), arriving)
        found = self.steady.average(self._memory[..., t, t:] * through_c[..., t, t:])
        self.inner[..., t, t:] = row * through_o[..., t, t:] + found
        self.whole[..., t - 1, t - 1 : -1] += self.laws.back * self.inner[..., t, t:]

    def handed(self, t: int) -> tuple[Array, Array]:
        """(2,) each: gradients of h_(t - 1) and c_(t - 1) from step t, which is done."""
        row = self.whole[..., t - 1, t - 1 :] * self._slopes[2][..., t - 1, t - 1 :]
        row[..., 0] = 0.0
        self.paths.back_row(t - 1, self._memory, *self._kept_at(t), row)
        found = self._memory[..., t - 1, t - 1] @ self.steady.weights
        return self.whole[:, 0, t - 1, t - 1], found

    def _kept_at(self, t: int) -> tuple[Array, Array]:
        """(2, rows) of E f_t and E f_t f_t."""
        return self._kept[0, ..., t], self._kept[1, ..., t]

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
        self.product, self.product_mean = np.zeros((2, 1, n, n)), np.zeros(n)
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
        y = self.product_mean[t] = laws.units * laws.mean * self.mean[t - 1] + y_shift
        product = y * self.product_mean[own]
        inner = fed + y_spread + product
        self.product[:, :, t, own] = self.product[:, :, own, t] = inner
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
        through_r = through_n * self.product * r.slopes()
        gates = update * z.slopes() * self.steady.shares(z) + through_r
        return through_n + gates, r.second * through_n + gates

    def turn(self) -> None:
        """Begins the backward."""
        super().turn()
        self._slopes = self._through()
        self._gradient = np.zeros_like(self.paths.second)
        self._products = np.zeros_like(self.state)

    def pull(self, t: int, state: Array, memory: Array) -> None:
        """The backward of step t; `whole` is what comes from outside and through the weights."""
        del memory
        self.whole[..., t, t:] += state
        self.paths.back_row(t, self._gradient, *self._kept_at(t + 1), self.whole[..., t, t:])
        row = self._gradient[..., t, t:]
        self.inner[..., t, t:] = self.steady.average(row * self._slopes[0][..., t, t:])
        found = self.steady.average(row * self._slopes[1][..., t, t:])
        self._products[..., t, t:] = found
        self.whole[..., t - 1, t - 1 : -1] += self.laws.back * found

    def handed(self, t: int) -> tuple[Array, Array]:
        """(2,) each: gradients of h_(t - 1) and c_(t - 1) from step t, which is done."""
        row = self.whole[..., t - 1, t - 1 :]
        self.paths.back_row(t - 1, self._gradient, *self._kept_at(t), row)
        found = self._gradient[..., t - 1, t - 1] @ self.steady.weights
        return found, np.zeros(2)

    def products(self) -> Array:
        """As `inner`, of the products with the recurrent weights."""
        return self._products

    def _kept_at(self, t: int) -> tuple[Array, Array]:
        """(2, rows) of E z_t and E z_t z_t."""
        return self._kept[0, ..., t], self._kept[1, ..., t]

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
