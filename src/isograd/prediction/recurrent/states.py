"""States of recurrent layers as fields, and the laws of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from isograd.prediction.moments import pairs
from isograd.prediction.moments.fields import Field
from isograd.prediction.recurrent.recurrence import Laws, Start
from isograd.prediction.recurrent.timeline import Timeline, laid_out, reduced, steps_of

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call


def law(field: Field) -> tuple[float, float]:
    """Mean and variance of the entries."""
    mean = field.average
    return mean, max(field.energy - mean**2, 0.0)


def laws_of(fields: tuple[Field, ...], weights: Sequence[Any], gates: int, units: int) -> Laws:
    """Of what a layer has of its own; biases gate by gate where their values are known.

    Args:
        fields: of the weights, then of the biases if there are any.
        weights: the tensors themselves.
        gates: how many.
        units: of each gate.
    """
    mean, variance = law(fields[1])
    means, variances = np.zeros((2, gates)), np.zeros((2, gates))
    for row, (field, tensor) in enumerate(zip(fields[2:], weights[2:], strict=True)):
        means[row], variances[row] = law(field)
        if isinstance(tensor, Tensor) and not tensor.is_meta:  # gates may start differently
            values = tensor.detach().double().cpu().numpy().reshape(gates, units)
            found, spread = values.mean(axis=1), values.var(axis=1)
            if units > 1 and np.ptp(found) > 6 * np.sqrt(spread.mean() / units) + 1e-12:
                means[row], variances[row] = found, spread
    return Laws(units, mean, variance, means, variances)


def is_zero(call: Call, value: Any) -> bool:
    """Whether a state is known and nothing."""
    return call.known(value) and not bool(value.any())


def of_states(field: Field | None, layers: int) -> Array:
    """(layers, 2) of a field (layers, batch, units): of one sample and of two."""
    if field is None:
        return np.zeros((layers, 2))
    laid = laid_out(field, (1, 0, 2))
    found, _ = steps_of(laid, Timeline(np.arange(layers), np.ones(layers)))
    each = np.arange(layers)
    return np.asarray(found[0][:, each, each].T)


def states(rows: Sequence[Start], batch: int, units: int) -> Field:
    """A field (layers, batch, units); layers are independent of each other."""
    mean = np.array([row.mean for row in rows])
    layers = len(rows)
    cut = (1,) * layers
    second = np.empty((2, pairs.ways(cut), 2))
    second[:] = np.concatenate([mean**2, np.outer(mean, mean).ravel()])[:, None]
    second[:, :layers, 0] = np.array([row.second for row in rows]).T
    each = np.arange(layers)
    second[:, layers + each * layers + each] = second[:, :layers]
    if units == 1:
        second[..., 1] = second[..., 0]
    axes = ((batch,), cut, (units,))
    return reduced(second, axes, mean[None, :, None]).permuted((1, 0, 2))
