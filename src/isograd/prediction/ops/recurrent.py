"""Recurrent layers and cells: LSTM, GRU and plain, over all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from isograd.prediction import pairs
from isograd.prediction.fields import Field, independent
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.recurrence import CELLS, Cell, Laws, Returned, Start

if TYPE_CHECKING:
    from isograd.prediction.pairs import Array, Sizes
    from isograd.prediction.propagation import Call

_CLASSES = 8
"""Segments that the time axis is cut into at most."""
_ALIKE = 1e-3
"""Steps are of one segment while that changes the energies by less, relatively."""


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
        if "packed" in call.name or "pack_" in call.name:
            raise call.refuse(
                "packs sequences of different lengths",
                "predict with padded tensors, which the recurrent layer takes as well",
            )
        if call.name.endswith("_cell"):
            return _cell(call, *args, **kwargs)
        return _layers(call, *args, **kwargs)


# -- one layer and direction -------------------------------------------------------------------


@dataclass(slots=True)
class Sequence_:
    """What goes into a layer, per pair of steps; features of one kind."""

    second: Array
    """(2, T, T): E x_t x_s of one feature, of one sample and of two."""
    mean: Array
    """(T,)."""
    width: int
    """Number of features."""


@dataclass(slots=True)
class Direction:
    """One layer read in one direction."""

    weights: tuple[Field, ...]
    """Input's, state's, and both biases if there are any."""
    cell: Cell
    entered: Sequence_
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
        """The backward, from (2, T, T) in the order of time and (2,) of the last states."""
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
        """(2, T, T): gradient of one input feature."""
        law = self.weights[0]
        second = _energy(law)
        return self.cell.laws.units * second * found.arguments

    def of_weights(self, found: Returned, batch: int) -> list[tuple[Field, Field]]:
        """Gradients of weights and biases: sums over samples and steps, all pairs of them."""
        number = np.array([batch, batch * (batch - 1.0)])[:, None, None] / self.cell.gates
        to_x, to_h = found.arguments * number, found.products * number
        totals = [
            (to_x * self.entered.second).sum(),
            (to_h * self.before()).sum(),
            to_x.sum(),
            to_h.sum(),
        ]
        return [
            (w, independent(w.shape, 0.0, max(float(total), 0.0)))
            for w, total in zip(self.weights, totals, strict=False)
        ]


def _energy(weight: Field) -> float:
    return weight.energy


def _direction(
    call: Call,
    kind: str,
    x: Sequence_,
    weights: Sequence[Any],
    start: tuple[Start, Start],
    *,
    reverse: bool = False,
) -> Direction:
    fields = tuple(call.field(w) for w in weights if w is not None)
    cell, units = CELLS[kind], fields[1].shape[1]
    laws = _laws(fields, weights, cell.gates, units)
    mean, variance = _law(fields[0])
    product = x.mean[:, None] * x.mean[None, :]
    inputs = x.width * (variance * x.second + mean**2 * (x.second - product))
    means = x.width * mean * x.mean
    if reverse:
        inputs, means = inputs[:, ::-1, ::-1], means[::-1]
    return Direction(fields, cell(laws, inputs, means, *start), x, reverse)


def _law(field: Field) -> tuple[float, float]:
    mean = field.average
    return mean, max(field.energy - mean**2, 0.0)


def _laws(fields: tuple[Field, ...], weights: Sequence[Any], gates: int, units: int) -> Laws:
    mean, variance = _law(fields[1])
    means, variances = np.zeros((2, gates)), np.zeros((2, gates))
    for row, (field, tensor) in enumerate(zip(fields[2:], weights[2:], strict=False)):
        means[row], variances[row] = _law(field)
        if isinstance(tensor, Tensor) and not tensor.is_meta:  # gates may start differently
            values = tensor.detach().double().numpy().reshape(gates, units)
            means[row], variances[row] = _of_gates(values, means[row, 0], variances[row, 0])
    return Laws(units, mean, variance, means, variances)


def _of_gates(values: Array, mean: float, variance: float) -> tuple[Any, Any]:
    """Laws per gate, unless they differ by no more than chance."""
    n = values.shape[1]
    found = values.mean(axis=1)
    if n > 1 and np.ptp(found) > 6 * np.sqrt(values.var(axis=1).mean() / n) + 1e-12:
        return found, values.var(axis=1)
    return mean, variance


# -- fields and pairs of steps -----------------------------------------------------------------


def _laid_out(field: Field, order: tuple[int, int, int]) -> Field:
    """Axes (batch, time, features), one factor each, or none."""
    moved = field.permuted(order)
    for axis in range(3):
        moved = moved.as_one(axis)
    return moved


def _steps(field: Field, features: Sizes | None = None) -> tuple[Array, Array]:
    """Pairs of steps of a field (batch, time, features), one array per class of features.

    Returns:
        (classes, 2, T, T) of equal features, (classes, T) means.
    """
    batch, time, width = field.shape
    cuts = list(field.cuts)
    at = 0
    if batch > 1:
        cuts[0], at = (batch,), 1
    if width > 1:
        cuts[-1] = features if features is not None else (width,)
    whole = field.recut(cuts)
    second, mean = whole.second, whole.mean
    if batch == 1:
        second, mean = np.stack([second, second]), mean[None]
    if time == 1:
        second, mean = np.expand_dims(second, 1), np.expand_dims(mean, 1)
        index, classes = np.zeros((1, 1), dtype=np.intp), np.zeros(1, dtype=np.intp)
    else:
        cut = whole.cuts[at]
        k = len(cut)
        classes = np.repeat(np.arange(k), cut)
        index = k + classes[:, None] * k + classes[None, :]
        np.fill_diagonal(index, classes)
    if width == 1:
        second, mean = second[..., None], mean[..., None]
        count = 1
    else:
        count = len(whole.cuts[-1])
    found = np.moveaxis(second[..., :count], -1, 0)[:, :, index]
    return found, np.moveaxis(mean[0][classes], -1, 0)


def segments(energies: Array, limit: int = _CLASSES) -> Sizes:
    """Cuts the time axis where the energy changes: merges neighbours that are most alike."""
    sizes, levels = [1] * len(energies), [float(e) for e in energies]
    scale = float(np.square(energies).sum())
    while len(sizes) > 1:
        n, e = np.array(sizes), np.array(levels)
        costs = n[:-1] * n[1:] / (n[:-1] + n[1:]) * np.square(np.diff(e))
        place = int(np.argmin(costs))
        if len(sizes) <= limit and costs[place] > _ALIKE**2 * scale:
            break
        a, b = sizes[place], sizes[place + 1]
        levels[place] = (a * levels[place] + b * levels.pop(place + 1)) / (a + b)
        sizes[place] = a + sizes.pop(place + 1)
    return tuple(sizes)


def _field(
    parts: Sequence[tuple[Array, Array]], batch: int, units: int, order: tuple[int, int, int]
) -> Field:
    """A field (batch, time, features) from pairs of steps, then its axes in another order.

    Args:
        parts: per class of features (2, T, T) second moments and (T,) means.
        batch: samples.
        units: features per class.
        order: of the axes.
    """
    steps = len(parts[0][1])
    each = np.arange(steps)
    cut = segments(np.mean([second[0, each, each] for second, _ in parts], axis=0))
    starts = [0, *list(accumulate(cut))[:-1]]
    size = np.array(cut)

    def averaged(matrix: Array) -> Array:
        """(…, T, T) -> (…, ways)."""
        sums = np.add.reduceat(np.add.reduceat(matrix, starts, -1), starts, -2)
        own = np.add.reduceat(np.diagonal(matrix, axis1=-2, axis2=-1), starts, -1)
        k = len(cut)
        inner = np.arange(k)
        sums[..., inner, inner] -= own
        flat = np.concatenate([own, sums.reshape(*sums.shape[:-2], k * k)], axis=-1)
        return np.moveaxis(pairs.normalized(np.moveaxis(flat, -1, 0).reshape(pairs.ways(cut), -1), cut)
                           .reshape(pairs.ways(cut), *flat.shape[:-1]), 0, -1)  # fmt: skip

    k = len(parts)
    wide = (units,) * k
    second = np.empty((2, pairs.ways(cut), pairs.ways(wide)))
    for c, (own, mean) in enumerate(parts):
        second[:, :, c] = averaged(own)
        for d, (_, other) in enumerate(parts):
            product = (mean[:, None] * other[None, :] + other[:, None] * mean[None, :]) / 2
            second[:, :, k + c * k + d] = averaged(product)
        if units == 1:
            second[:, :, k + c * k + c] = second[:, :, c]
    mean = np.stack([np.add.reduceat(m, starts) / size for _, m in parts], axis=-1)[None]
    return _reduced(second, (batch,), cut, wide, mean).permuted(order)


def _reduced(second: Array, batch: Sizes, cut: Sizes, wide: Sizes, mean: Array) -> Field:
    """A field whose axes of length one have no factor."""
    cuts, groups = [], []
    for axis, one in enumerate((batch, cut, wide)):
        groups.append(int(sum(one) > 1))
        if sum(one) > 1:
            cuts.append(one)
        else:
            at = sum(groups)
            second, mean = second.take(0, at), mean.take(0, at)
        del axis
    return Field(second, tuple(cuts), tuple(groups), mean)


# -- the calls ---------------------------------------------------------------------------------


def _layers(call: Call, x: Any, hx: Any, *rest: Any) -> Outcome:
    """torch.lstm(input, hx, weights, bias, layers, dropout, training, bidirectional, batch_first)."""
    if isinstance(hx, Tensor) and hx.dtype.is_floating_point is False and hx.ndim == 1:
        raise call.refuse(
            "reads a packed sequence", "predict with padded tensors, which it takes as well"
        )
    weights, has_biases, layers, dropout, train, both, batch_first = rest
    per = 4 if has_biases else 2
    directions = 2 if both else 1
    if len(weights) != per * layers * directions:
        raise call.refuse("projects its state (proj_size)", "predict without proj_size")
    source = call.field(x)
    order = (0, 1, 2) if batch_first else (1, 0, 2)
    laid = _laid_out(source, order)
    batch, _, width = laid.shape
    second, mean = _steps(laid)
    entered = Sequence_(second[0], mean[0], width)
    starts = _Starts(call, hx)
    stack: list[list[Direction]] = []
    for layer in range(layers):
        row = []
        for d in range(directions):
            at = layer * directions + d
            own = weights[per * at : per * (at + 1)]
            row.append(_direction(call, call.name, entered, own, starts.of(at), reverse=d == 1))
        stack.append(row)
        entered = _joined(row, dropout if train else 0.0)
    units = stack[-1][0].cell.laws.units
    out = _field([one.outputs() for one in stack[-1]], batch, units, order)
    flat = [one for row in stack for one in row]
    finals = [_states([one.last() for one in flat], batch, units)]
    if call.name == "lstm":
        finals.append(_states([one.cell.last_memory() for one in flat], batch, units))

    def back(gradients: list[Field | None]) -> list[tuple[Field, Field]]:
        ends = [_of_states(g, len(flat)) for g in gradients[1:]] + [np.zeros((len(flat), 2))]
        arriving = _arriving(gradients[0], order, stack[-1])
        result: list[tuple[Field, Field]] = []
        initial = np.zeros((2, len(flat), 2))
        for layer in reversed(range(layers)):
            below = np.zeros_like(arriving[0])
            for d, one in enumerate(stack[layer]):
                at = layer * directions + d
                found = one.back(arriving[d], ends[0][at], ends[1][at])
                result += one.of_weights(found, batch)
                below = below + one.to_inputs(found)
                initial[:, at] = found.state, found.memory
            if layer and dropout and train:
                below = _thinned(below, dropout)
            arriving = [below] * directions
        gradient = _field([(below, np.zeros(below.shape[-1]))], batch, width, order)
        return [(source, gradient), *result, *starts.gradients(initial, batch, units)]

    inputs = [source, *starts.fields]
    return Outcome([out, *finals], back, inputs, formula="pairs of steps, gate by gate")


def _joined(row: list[Direction], dropout: float) -> Sequence_:
    """The outputs of a layer as the next one's inputs."""
    parts = [one.outputs() for one in row]
    second = np.mean([part[0] for part in parts], axis=0)
    mean = np.mean([part[1] for part in parts], axis=0)
    width = len(row) * row[0].cell.laws.units
    return Sequence_(_thinned(second, dropout) if dropout else second, mean, width)


def _thinned(second: Array, dropout: float) -> Array:
    """Dropout: only an entry with itself has more energy."""
    result = second.copy()
    each = np.arange(second.shape[-1])
    result[0, each, each] /= max(1 - dropout, 1e-12)
    return result


def _arriving(
    gradient: Field | None, order: tuple[int, int, int], row: list[Direction]
) -> list[Array]:
    """(2, T, T) of the gradient of each direction's outputs."""
    steps, units = row[0].cell.steps, row[0].cell.laws.units
    if gradient is None:
        return [np.zeros((2, steps, steps))] * len(row)
    found, _ = _steps(_laid_out(gradient, order), (units,) * len(row))
    return list(found)


class _Starts:
    """Initial states (layers, batch, units): what they are, and where their gradients go."""

    def __init__(self, call: Call, hx: Any) -> None:
        given = list(hx) if isinstance(hx, (tuple, list)) else [hx]
        self.fields = [call.field(one) for one in given if not _all_zero(call, one)]
        self._of = [None if _all_zero(call, one) else call.field(one) for one in given]
        if len(self._of) == 1:
            self._of.append(None)

    def of(self, layer: int) -> tuple[Start, Start]:
        """Initial h and c of one layer and direction."""
        h, c = (_start(field, layer) for field in self._of)
        return h, c

    def gradients(self, found: Array, batch: int, units: int) -> list[tuple[Field, Field]]:
        """Pairs of (initial state, its gradient) from (h and c, layers, 2)."""
        return [
            (field, _states([Start(row) for row in rows], batch, units))
            for field, rows in zip(self._of, found, strict=True)
            if field is not None
        ]


def _all_zero(call: Call, value: Any) -> bool:
    return call.known(value) and not bool(value.any())


def _start(field: Field | None, layer: int) -> Start:
    if field is None:
        return Start(np.zeros(2))
    rows = _of_states(field, field.shape[0])
    return Start(rows[layer], field.average)


def _of_states(field: Field | None, layers: int) -> Array:
    """(layers, 2) of a field (layers, batch, units): of one sample and of two."""
    if field is None:
        return np.zeros((layers, 2))
    as_steps = field.permuted((1, 0, 2))
    found, _ = _steps(_laid_out(as_steps, (0, 1, 2)))
    each = np.arange(layers)
    return np.asarray(found[0][:, each, each].T)


def _states(rows: Sequence[Start], batch: int, units: int) -> Field:
    """A field (layers, batch, units); layers are independent of each other."""
    mean = np.array([row.mean for row in rows])
    layers = len(rows)
    cut, wide = (1,) * layers, (units,)
    second = np.empty((2, pairs.ways(cut), 2))
    second[:] = np.concatenate([mean**2, np.outer(mean, mean).ravel()])[:, None]
    second[:, :layers, 0] = np.array([row.second for row in rows]).T
    each = np.arange(layers)
    second[:, layers + each * layers + each] = second[:, :layers]
    if units == 1:
        second[..., 1] = second[..., 0]
    return _reduced(second, (batch,), cut, wide, mean[None, :, None]).permuted((1, 0, 2))


def _cell(call: Call, x: Any, hx: Any, *weights: Any) -> Outcome:
    """torch.lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh): one step."""
    kind = call.name.removesuffix("_cell")
    source = call.field(x)
    batch, width = source.shape
    laid = source.regrouped((source.groups[0], 0, source.groups[1]))
    second, mean = _steps(_laid_out(laid, (0, 1, 2)))
    given = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    states = [None if _all_zero(call, one) else call.field(one) for one in given]
    stacked = [None if s is None else s.regrouped((0, *s.groups)) for s in [*states, None][:2]]
    entered = Sequence_(second[0], mean[0], width)
    h, c = (_start(one, 0) for one in stacked)
    one = _direction(call, kind, entered, weights, (h, c))
    units = one.cell.laws.units

    def flat(row: Start) -> Field:
        made = _states([row], batch, units)
        return made.regrouped(made.groups[1:])

    outs = [flat(one.last())]
    if kind == "lstm":
        outs.append(flat(one.cell.last_memory()))

    def ended(gradient: Field | None) -> Array:
        return _of_states(
            None if gradient is None else gradient.regrouped((0, *gradient.groups)), 1
        )[0]

    def back(gradients: Any) -> list[tuple[Field, Field]]:
        arrived = gradients if kind == "lstm" else [gradients, None]
        found = one.back(np.zeros((2, 1, 1)), ended(arrived[0]), ended(arrived[1]))
        to_x = _field([(one.to_inputs(found), np.zeros(1))], batch, width, (0, 1, 2))
        result = [(source, to_x.regrouped((to_x.groups[0], to_x.groups[2])))]
        result += one.of_weights(found, batch)
        for state, row in zip([*states, None][:2], (found.state, found.memory), strict=True):
            if state is not None:
                result.append((state, flat(Start(row))))
        return result

    inputs = [source, *(s for s in states if s is not None)]
    return Outcome(outs if kind == "lstm" else outs[0], back, inputs, formula="one step")
