"""Numbers about parameters: size, gain, symmetry, and their gradients."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isograd import statistics
from isograd.records import Number, Parameter
from isograd.sites.parameters import fans

_KEYS = (
    "mean rms max nonfinite fan_in fan_out gain row_spread row_cosine grad_rms grad_nonfinite "
    "grad_sign".split()
)


def weight_series(
    model: nn.Module,
    parameters: Sequence[Parameter],
    gradients: Sequence[Tensor | None],
    layouts: Mapping[int, tuple[bool, int]],
) -> dict[str, list[Number]]:
    """The `weight.*` columns that need tensors; `gain_fit` and `gain_slope` come from theory.

    Args:
        model: the model.
        parameters: as `parameters_of` gave them.
        gradients: dLoss/dw per parameter, None where none arrived.
        layouts: per parameter (transposed, groups) where not the usual [out, in].
    """
    columns: dict[str, list[Number]] = {f"weight.{key}": [] for key in _KEYS}
    for index, ((_, tensor), parameter) in enumerate(
        zip(model.named_parameters(), parameters, strict=True)
    ):
        gradient, layout = gradients[index], layouts.get(index, (False, 1))
        row = weight_numbers(tensor.detach(), parameter, gradient, layout)
        for key in columns:
            columns[key].append(row.get(key))
    return columns


def weight_numbers(
    tensor: Tensor,
    parameter: Parameter,
    gradient: Tensor | None = None,
    layout: tuple[bool, int] = (False, 1),
) -> dict[str, Number]:
    """What `weight_series` has in its columns, of one tensor.

    Args:
        tensor: its values.
        parameter: what it is.
        gradient: dLoss/dw, where one arrived.
        layout: (transposed, groups), as `fans` wants it.
    """
    row: dict[str, Number] = {}
    local = _local(tensor)
    if local.is_floating_point() and local.numel():
        values = statistics.brief(local)
        row["weight.mean"], row["weight.rms"] = values["mean"], values["rms"]
        row["weight.nonfinite"] = values["nonfinite"]
        low, high = values["min"], values["max"]
        row["weight.max"] = None if low is None or high is None else max(abs(low), abs(high))
        if parameter.is_weight and local.ndim >= 2:
            fan_in, fan_out = fans(parameter, *layout)
            row["weight.fan_in"], row["weight.fan_out"] = float(fan_in), float(fan_out)
            if values["rms"] is not None:
                row["weight.gain"] = values["rms"] * fan_in**0.5
            rows = local.transpose(0, 1) if layout[0] else local
            row["weight.row_spread"] = float(statistics.row_spread(rows))
            row["weight.row_cosine"] = _finite(statistics.row_cosine(rows))
    if gradient is not None and gradient.numel():
        gradient = _local(gradient.detach())
        gradient = gradient if gradient.layout == torch.strided else gradient.to_dense()
        values = statistics.brief(gradient)
        row["weight.grad_rms"] = values["rms"]
        row["weight.grad_nonfinite"] = values["nonfinite"]
        if parameter.is_weight and gradient.ndim >= 2:
            rows = gradient.transpose(0, 1) if layout[0] else gradient
            row["weight.grad_sign"] = float(statistics.sign_agreement(rows))
    return row


def _finite(value: Tensor) -> Number:
    number = float(value)
    return number if math.isfinite(number) else None


def _local(tensor: Any) -> Tensor:
    """The shard this process holds of a distributed tensor; other tensors unchanged."""
    shard: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return shard
