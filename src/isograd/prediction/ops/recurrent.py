"""Recurrent layers and cells: LSTM, GRU and plain, over all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from isograd.prediction.backward.noise import Noise, noise_of
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import independent
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.recurrent.gated import CELLS
from isograd.prediction.recurrent.recurrence import Cell, Returned, Start
from isograd.prediction.recurrent.states import is_zero, law, laws_of, of_states, states
from isograd.prediction.recurrent.timeline import (
    Timeline,
    cut_of_time,
    field_of,
    laid_out,
    steps_of,
)
from isograd.prediction.recurrent.unrolled import one_step

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_KEEP = 32
"""Steps at both ends of a long stretch that are walked through at least …"""
_MOST = 256
"""… and at most."""
_FORGOTTEN = 1e-10
"""Share of a gradient's energy that does not count any more."""


class Recurrent(Op):
    """Every step of every layer, as pairs of steps."""

    code = "recurrent"
    functions = tuple(
        "lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell "
        "pack_padded_sequence pad_packed_sequence".split()
    )
    source = "gates as a Gaussian process over time and samples (Yang 2019)"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """As torch.lstm, torch.lstm_cell and the like are called."""
        if "pack" in call.name:
            raise _packed(call)
        if call.name.endswith("_cell"):
            return one_step(call, *args, **kwargs)
        return _layers(call, *args, **kwargs)


def _packed(call: Call) -> Exception:
    return call.refuse(
        "packs sequences of different lengths",
        "predict with padded tensors, which a recurrent layer takes as well",
    )


# -- one layer and direction -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entering:
    """What goes into a layer, per pair of steps."""

    timeline: Timeline
    second: Array
    """(2, R, R): E x_t x_s of one feature, of one sample and of two."""
    mean: Array
    """(R,)."""
    width: int
    """Number of features."""


@dataclass(frozen=True, slots=True)
class Direction:
    """One layer read in one direction."""

    weights: tuple[Field, ...]
    """Input's, state's, and both biases if there are any."""
    cell: Cell
    entered: Entering
    reverse: bool

    def outputs(self) -> tuple[Array, Array]:
        """E h_t h_s and E h_t in the order of time."""
        second, mean = self.cell.outputs()
        return (second[:, ::-1, ::-1], mean[::-1]) if self.reverse else (second, mean)

    def last(self) -> Start:
        """The last state read."""
        second, mean = self.cell.outputs()
        return Start(second[:, -1, -1], mean[-1])

    def back(self, gradient: Array, state: Array, memory: Array) -> Returned:
        """The backward, from (2, R, R) in the order of time and (2,) of the last states."""
        n = self.cell.steps + 1
        whole = np.zeros((2, 1, n, n))
        whole[:, 0, 1:, 1:] = gradient[:, ::-1, ::-1] if self.reverse else gradient
        whole[:, 0, -1, -1] += state
        found = self.cell.back(whole, memory)
        if self.reverse:
            found.arguments = found.arguments[:, ::-1, ::-1]
            found.products = found.products[:, ::-1, ::-1]
        return found

    def before(self) -> Array:
        """E h_(t-1) h_(s-1) in the order of time."""
        second = self.cell.state[:, 0, :-1, :-1]
        return second[:, ::-1, ::-1] if self.reverse else second

    def to_inputs(self, found: Returned) -> Array:
        """(2, R, R): gradient of one input feature."""
        return self.cell.laws.units * self.weights[0].energy * found.arguments

    def of_weights(
        self, found: Returned, batch: int, noise: Noise | None
    ) -> list[tuple[Field, Field]]:
        """Gradients of weights and biases: sums over samples and steps, all pairs of them."""
        number = np.array([batch, batch * (batch - 1.0)])[:, None, None] / self.cell.gates
        line = self.entered.timeline
        to_x, to_h = found.arguments * number, found.products * number
        each = [to_x * self.entered.second, to_h * self.before(), to_x, to_h]
        totals = [max(float(line.counted(one).sum()), 0.0) for one in each]
        result = [
            (w, independent(w.shape, 0.0, total))
            for w, total in zip(self.weights, totals, strict=False)
        ]
        if noise is not None:
            size = np.array([batch, batch * (batch - 1.0)])[:, None, None]
            ones = np.ones(to_x.shape)
            inputs = (self.entered.second, self.before(), ones, ones)
            sums = [totals[2], totals[3], totals[2], totals[3]]
            every = float(line.counted(ones * size).sum())
            for (_, gradient), x, summed, total in zip(result, inputs, sums, totals, strict=False):
                mean = float(line.counted(x * size).sum()) / every
                share = min(max(summed * mean / total, 0.0), 1.0) if total > 0 else 0.0
                units = self.cell.laws.units
                read = units if x is inputs[1] else self.entered.width
                gradient.noise = noise.mixed(share, read, 2 / units)
        return result


def _direction(
    call: Call, kind: str, x: Entering, weights: Sequence[Any], start: tuple[Start, Start],
    *, reverse: bool = False,
) -> Direction:  # fmt: skip
    weights = [w for w in weights if w is not None]
    fields = tuple(call.field(w) for w in weights)
    cell, units = CELLS[kind], fields[1].shape[1]
    laws = laws_of(fields, weights, cell.gates, units)
    mean, variance = law(fields[0])
    product = x.mean[:, None] * x.mean[None, :]
    inputs = x.width * (variance * x.second + mean**2 * (x.second - product))
    means = x.width * mean * x.mean
    if reverse:
        inputs, means = inputs[:, ::-1, ::-1], means[::-1]
    made = cell(laws, inputs, means, *start)
    made.walk()
    return Direction(fields, made, x, reverse)


# -- layers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layers:
    """The arguments of torch.lstm and the like."""

    kind: str
    weights: Sequence[Any]
    per: int
    """Tensors per layer and direction."""
    number: int
    directions: int
    dropout: float
    order: tuple[int, int, int]
    """From (batch, time, features) to the axes of the call and back."""

    def run(self, call: Call, x: Entering, starts: Starts) -> list[list[Direction]]:
        """All layers, one after the other."""
        stack = []
        for layer in range(self.number):
            row = []
            for d in range(self.directions):
                at = layer * self.directions + d
                own = self.weights[self.per * at : self.per * (at + 1)]
                row.append(_direction(call, self.kind, x, own, starts.of(at), reverse=d == 1))
            stack.append(row)
            x = self.joined(row, self.dropout)
        return stack

    def joined(self, row: list[Direction], dropout: float = 0.0) -> Entering:
        """The outputs of a layer as the next one's inputs."""
        parts = [one.outputs() for one in row]
        second = np.mean([part[0] for part in parts], axis=0)
        mean = np.mean([part[1] for part in parts], axis=0)
        width = len(row) * row[0].cell.laws.units
        return Entering(row[0].entered.timeline, _thinned(second, dropout), mean, width)


def _thinned(second: Array, dropout: float) -> Array:
    """Dropout: only an entry with itself has more energy."""
    result = second.copy()
    each = np.arange(second.shape[-1])
    result[0, each, each] /= max(1 - dropout, 1e-12)
    return result


def _layers(call: Call, x: Any, hx: Any, *rest: Any) -> Outcome:
    """torch.lstm(x, hx, weights, biases, layers, dropout, train, bidirectional, batch_first)."""
    if isinstance(hx, Tensor) and not hx.is_floating_point():
        raise _packed(call)
    weights, biases, number, dropout, train, both, batch_first = rest
    order = (0, 1, 2) if batch_first else (1, 0, 2)
    layers = Layers(
        call.name, weights, 4 if biases else 2, number, 2 if both else 1,
        dropout if train else 0.0, order,
    )  # fmt: skip
    if len(weights) != layers.per * number * layers.directions:
        raise call.refuse("projects its state (proj_size)", "predict without proj_size")
    source = call.field(x)
    laid = laid_out(source, order)
    starts = Starts(call, hx)
    entered = _entering(source, laid, _KEEP)
    stack = layers.run(call, entered, starts)
    if not entered.timeline.exact:
        keep = _memory(stack)
        if keep > _KEEP:
            entered = _entering(source, laid, keep)
            stack = layers.run(call, entered, starts)
    return _outcome(call, layers, source, laid.shape, stack, starts)


def _entering(source: Field, laid: Field, keep: int) -> Entering:
    """A field as what goes into a layer; another recurrent layer leaves its pairs of steps."""
    found = source.notes.get("steps")
    if isinstance(found, Entering) and (found.timeline.exact or keep == _KEEP):
        return found
    timeline = Timeline.of(cut_of_time(laid), keep)
    second, mean = steps_of(laid, timeline)
    return Entering(timeline, second[0], mean[0], laid.shape[2])


def _memory(stack: list[list[Direction]]) -> int:
    """Steps after which nothing is left of a gradient."""
    rate = max(one.cell.rate() for row in stack for one in row)
    if rate >= 1:
        return _MOST
    return min(int(np.log(_FORGOTTEN) / np.log(max(rate, 1e-6))) + 1, _MOST)


def _outcome(
    call: Call, layers: Layers, source: Field, shape: tuple[int, ...], stack: list[list[Direction]],
    starts: Starts,
) -> Outcome:  # fmt: skip
    batch, _, width = shape
    flat = [one for row in stack for one in row]
    units, timeline = flat[-1].cell.laws.units, flat[-1].entered.timeline
    out = field_of([one.outputs() for one in stack[-1]], timeline, batch, units, layers.order)
    out.notes["steps"] = layers.joined(stack[-1])
    finals = [states([one.last() for one in flat], batch, units)]
    if layers.kind == "lstm":
        finals.append(states([one.cell.memory_at(one.cell.steps) for one in flat], batch, units))

    def back(gradients: list[Field | None]) -> list[tuple[Field, Field]]:
        noise = _noise(call, gradients)
        ends = [of_states(g, len(flat)) for g in gradients[1:]] + [np.zeros((len(flat), 2))]
        arriving = _arriving(gradients[0], layers.order, stack[-1])
        result: list[tuple[Field, Field]] = []
        initial = np.zeros((2, len(flat), 2))
        for layer in reversed(range(layers.number)):
            below = np.zeros_like(arriving[0])
            for d, one in enumerate(stack[layer]):
                at = layer * layers.directions + d
                found = one.back(arriving[d], ends[0][at], ends[1][at])
                result += one.of_weights(found, batch, noise)
                below = below + one.to_inputs(found)
                initial[:, at] = found.state, found.memory
            if layer:
                below = _thinned(below, layers.dropout)
            arriving = [below] * layers.directions
        parts = [(below, np.zeros(below.shape[-1]))]
        gradient = field_of(parts, timeline, batch, width, layers.order)
        gradient.notes["steps"] = Entering(timeline, *parts[0], width)
        return [(source, gradient), *result, *starts.gradients(initial, batch, units)]

    formula = f"{len(timeline.at)} steps, pair by pair, gate by gate"
    return Outcome((out, *finals), back, [source, *starts.fields], formula=formula)


def _noise(call: Call, gradients: Sequence[Field | None]) -> Noise | None:
    """Of the gradient of all outputs, or of the last states; features are their last axis."""
    given = next((g for g in gradients if g is not None), None)
    if given is None or not call.run.weighs:
        return None
    places = [place for axis in range(len(given.groups) - 1) for place in given.factors_of(axis)]
    return noise_of(given, given, places)


def _arriving(
    gradient: Field | None, order: tuple[int, int, int], row: list[Direction]
) -> list[Array]:
    """(2, R, R) of the gradient of each direction's outputs."""
    units, timeline = row[0].cell.laws.units, row[0].entered.timeline
    if gradient is None:
        steps = len(timeline.at)
        return [np.zeros((2, steps, steps))] * len(row)
    known = gradient.notes.get("steps")
    if isinstance(known, Entering) and known.timeline is timeline:
        return [known.second] * len(row)
    found, _ = steps_of(laid_out(gradient, order), timeline, (units,) * len(row))
    return list(found)


# -- states ------------------------------------------------------------------------------------


class Starts:
    """Initial states (layers, batch, units): what they are, and where their gradients go."""

    def __init__(self, call: Call, hx: Any) -> None:
        given = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        found = [None if is_zero(call, one) else call.field(one) for one in given]
        self.fields = [field for field in found if field is not None]
        self._both = [*found, None][:2]

    def of(self, layer: int) -> tuple[Start, Start]:
        """Initial h and c of one layer and direction."""
        h, c = (_start(field, layer) for field in self._both)
        return h, c

    def gradients(self, found: Array, batch: int, units: int) -> list[tuple[Field, Field]]:
        """Pairs of (initial state, its gradient) from (h and c, layers, 2)."""
        return [
            (field, states([Start(row) for row in rows], batch, units))
            for field, rows in zip(self._both, found, strict=True)
            if field is not None
        ]


def _start(field: Field | None, layer: int) -> Start:
    if field is None:
        return Start(np.zeros(2))
    return Start(of_states(field, field.shape[0])[layer], field.average)
