"""Recurrent cells called step by step: the calls of one loop are the steps of one layer.

Steps share their weights, so that neither the states nor the gradients of two of them are
independent. A state remembers the calls that it came through; the next call of the same cell goes
on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import independent
from isograd.prediction.moments.means import fluctuation
from isograd.prediction.ops import Outcome
from isograd.prediction.recurrent.gated import CELLS
from isograd.prediction.recurrent.recurrence import Cell, Laws, Start
from isograd.prediction.recurrent.states import is_zero, law, laws_of, of_states, states
from isograd.prediction.recurrent.timeline import Timeline, field_of, laid_out, steps_of

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_FIRST, _MOST = 8, 256
"""Steps that a chain has room for at first, and at most; then a new one begins."""
_LINES = (0, 1, 2)
_KEY = "chain"


@dataclass(frozen=True, slots=True)
class Input:
    """What enters one step."""

    field: Field
    second: Array
    """(2,): E x x' of one feature, of one sample and of two."""
    mean: float

    @classmethod
    def of(cls, field: Field) -> Input:
        """Of a field (batch, features)."""
        laid = laid_out(field.regrouped((field.groups[0], 0, field.groups[1])), _LINES)
        second, mean = steps_of(laid, Timeline.of((1,), 1))
        found = np.array(second[0, :, 0, 0])
        if field.shape[0] == 1:
            found[1] = mean[0, 0] ** 2
        return cls(field, found, float(mean[0, 0]))

    def with_other(self, other: Input) -> Array:
        """(2,): E x x' of two steps; what two samples share is shared by two steps."""
        if self.field is other.field:
            return self.second
        level = (self.second[1] + other.second[1]) / 2
        return np.array([level, level])


class Chain:
    """The calls of one cell so far.

    Args:
        kind: as in `CELLS`.
        weights: input's, state's, and both biases if there are any.
        laws: of those.
        batch: number of samples.
        start: the initial h and c.
    """

    def __init__(
        self, kind: str, weights: tuple[Field, ...], laws: Laws, batch: int,
        start: tuple[Start, Start],
    ) -> None:  # fmt: skip
        self.kind, self.weights, self.laws, self.start = kind, weights, laws, start
        self.inputs: list[Input] = []
        self.entered = np.zeros((2, 1, 1))
        """E x_t x_s of one feature; [0, 0] is step 1."""
        self.cell: Cell | None = None
        self.number = np.array([batch, batch * (batch - 1.0)]) / CELLS[kind].gates
        self.returned: dict[int, tuple[Array, Array]] = {}
        """Gradients of h_t and c_t that step t + 1 has handed back."""
        self._turned = False

    def extend(self, x: Input) -> Cell:
        """Adds a step."""
        self.inputs.append(x)
        steps = len(self.inputs)
        if self.cell is None or steps > self.cell.steps:
            self.cell = self._made(_FIRST if self.cell is None else 2 * self.cell.steps)
        else:
            self._enter(steps - 1, self.cell)
            self.cell.step(steps)
        return self.cell

    def _made(self, room: int) -> Cell:
        """A cell with room for more steps, those so far walked through."""
        first = self.inputs[-1]
        second = np.empty((2, room, room))
        second[:] = first.second[1]
        second[0, range(room), range(room)] = first.second[0]
        self.entered = second
        inputs, means = self._arguments(second, np.full(room, first.mean))
        cell = CELLS[self.kind](self.laws, inputs, means, *self.start)
        for t in range(len(self.inputs)):
            self._enter(t, cell)
            cell.step(t + 1)
        return cell

    def _arguments(self, second: Array, mean: Array) -> tuple[Array, Array]:
        """Covariance and mean of the input's part of the gates' arguments."""
        (middle, variance), width = law(self.weights[0]), self.weights[0].shape[1]
        product = mean[:, None] * mean[None, :]
        covariance = width * (variance * second + middle**2 * (second - product))
        return covariance, width * middle * mean

    def _enter(self, t: int, cell: Cell) -> None:
        new = self.inputs[t]
        row = np.stack([new.with_other(one) for one in self.inputs[: t + 1]], axis=-1)
        self.entered[:, t, : t + 1] = self.entered[:, : t + 1, t] = row
        mean = np.array([one.mean for one in self.inputs[: t + 1]])
        covariance, means = self._arguments(self.entered[:, : t + 1, : t + 1], mean)
        cell.inputs[:, t, : t + 1] = cell.inputs[:, : t + 1, t] = covariance[:, t]
        cell.means[t] = means[t]

    def pull(self, t: int, state: Array, memory: Array) -> Cell:
        """The backward of step t, from (2,) gradients of h_t and c_t that have arrived."""
        cell = self.cell
        assert cell is not None
        if not self._turned:
            cell.turn()
            self._turned = True
        nothing = np.zeros(2)
        own_h, own_c = self.returned.get(t, (nothing, nothing))
        row = np.zeros((2, 1, cell.steps + 1 - t))
        row[:, 0, 0] = state - own_h
        cell.pull(t, row, memory - own_c)
        self.returned[t - 1] = cell.handed(t)
        return cell

    def of_weights(self, t: int) -> list[tuple[Field, Field]]:
        """What step t adds to the gradients of weights and biases, with the steps behind it."""
        cell = self.cell
        assert cell is not None
        twice = np.full(cell.steps + 1 - t, 2.0)
        twice[0] = 1.0
        to_x = cell.inner[:, 0, t, t:] * twice * self.number[:, None]
        to_h = cell.products()[:, 0, t, t:] * twice * self.number[:, None]
        totals = (
            (to_x * self.entered[:, t - 1, t - 1 :]).sum(),
            (to_h * cell.state[:, 0, t - 1, t - 1 : -1]).sum(),
            to_x.sum(),
            to_h.sum(),
        )
        return [
            (w, independent(w.shape, 0.0, max(float(total), 0.0)))
            for w, total in zip(self.weights, totals, strict=False)
        ]


def one_step(call: Call, x: Any, hx: Any, *weights: Any) -> Outcome:
    """torch.lstm_cell(x, hx, w_ih, w_hh, b_ih, b_hh) and the like."""
    kind = call.name.removesuffix("_cell")
    source = call.field(x)
    batch, width = source.shape
    given = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    before = [None if is_zero(call, one) else call.field(one) for one in given]
    chain = _chain(call, kind, before, weights, batch)
    cell = chain.extend(Input.of(source))
    t, units = len(chain.inputs), chain.laws.units
    ends = [Start(cell.state[:, 0, t, t], cell.mean[t])]
    ends += [cell.memory_at(t)] if kind == "lstm" else []
    outs = tuple(_flat(end, batch, units) for end in ends)
    for out in outs:
        out.notes[_KEY] = (chain, t)

    def back(gradients: Any) -> list[tuple[Field, Field]]:
        arrived = [_of_flat(g) for g in (gradients if kind == "lstm" else [gradients])]
        noise = max(g.noise + fluctuation(g) for g in _given(gradients))
        before_it = 0.0 if chain.cell is None else chain.cell.variance()
        done = chain.pull(t, *[*arrived, np.zeros(2)][:2])
        noise += done.variance() - before_it
        slope = units * chain.weights[0].energy * done.inner[:, 0, t, t]
        parts = [(slope[:, None, None], np.zeros(1))]
        to_x = field_of(parts, Timeline.of((1,), 1), batch, width, _LINES)
        result = [(source, to_x.regrouped((to_x.groups[0], to_x.groups[2])))]
        result += chain.of_weights(t)
        for state, row in zip([*before, None][:2], chain.returned[t - 1], strict=True):
            if state is not None:
                result.append((state, _flat(Start(row), batch, units)))
        for _, found in result:
            found.noise = noise
        return result

    inputs = [source, *(one for one in before if one is not None)]
    formula = f"step {t} of a loop, pair by pair with the others"
    return Outcome(outs if kind == "lstm" else outs[0], back, inputs, formula=formula)


def _chain(
    call: Call, kind: str, before: Sequence[Field | None], weights: Sequence[Any], batch: int
) -> Chain:
    """The chain that a call goes on with, or a new one."""
    given = [w for w in weights if w is not None]
    fields = tuple(call.field(w) for w in given)
    found = None if before[0] is None else before[0].notes.get(_KEY)
    if found is not None and all(
        one is not None and one.notes.get(_KEY) == found for one in before
    ):
        chain: Chain = found[0]
        same = all(a is b for a, b in zip(chain.weights, fields, strict=False))
        if same and chain.kind == kind and len(chain.inputs) == found[1] < _MOST:
            return chain
    units = fields[1].shape[1]
    laws = laws_of(fields, given, CELLS[kind].gates, units)
    h, c = (_started(one) for one in [*before, None][:2])
    return Chain(kind, fields, laws, batch, (h, c))


def _started(field: Field | None) -> Start:
    return Start(np.zeros(2)) if field is None else Start(_of_flat(field), field.average)


def _given(gradients: Any) -> list[Field]:
    """Those that arrived."""
    several = gradients if isinstance(gradients, (list, tuple)) else [gradients]
    return [one for one in several if one is not None]


def _flat(row: Start, batch: int, units: int) -> Field:
    """A field (batch, units)."""
    made = states([row], batch, units)
    return made.regrouped(made.groups[1:])


def _of_flat(field: Field | None) -> Array:
    """(2,) of a field (batch, units): of one sample and of two."""
    if field is None:
        return np.zeros(2)
    return np.asarray(of_states(field.regrouped((0, *field.groups)), 1)[0])
