"""Numbers about parameters: size, gain, symmetry, and their gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isograd import statistics
from isograd.records import Number, Parameter, Site
from isograd.sites import ELEMENTWISE, NORMS
from isograd.theory.gains import gains

_NORM_MODULES = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def parameters_of(model: nn.Module, used_by: Mapping[int, set[str]]) -> list[Parameter]:
    """All parameters, once each, with the kind that the operations using them tell.

    Args:
        model: the model.
        used_by: per index of a parameter the kinds of the operations that used it.
    """
    norms = {id(p) for m in model.modules() if _is_norm(m) for p in m.parameters(recurse=False)}
    found = []
    for index, (name, parameter) in enumerate(model.named_parameters()):
        kind = (
            "norm" if id(parameter) in norms else _kind(name, parameter, used_by.get(index, set()))
        )
        found.append(Parameter(name, tuple(parameter.shape), kind, parameter.requires_grad))
    return found


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _NORM_MODULES) or "Norm" in type(module).__name__


def _kind(name: str, parameter: Tensor, used: set[str]) -> str:
    if "parametrizations." in name:
        return "other"  # what the weight is made of: its size says nothing about the signal
    last = name.rpartition(".")[2]
    if "recurrent" in used and parameter.ndim == 2:
        return "recurrent" if "hh" in last else "linear"
    if "embedding" in used:
        return "embedding"
    if parameter.ndim < 2:
        return (
            "bias"
            if "bias" in last or used & {"linear", "conv", "recurrent", "attention"}
            else "other"
        )
    if "conv" in used:
        return "conv"
    if used & {"linear", "attention"}:
        return "linear"
    return "other"


def fans(parameter: Parameter, transposed: bool, groups: int) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight laid out [out, in, *taps], or [in, out, …] transposed."""
    shape = parameter.shape
    taps = 1
    for size in shape[2:]:
        taps *= size
    inside, outside = shape[1] * taps, shape[0] * taps // groups
    if transposed:
        inside, outside = shape[0] * taps // groups, shape[1] * taps
    return inside, outside


def weight_series(
    model: nn.Module,
    parameters: Sequence[Parameter],
    gradients: Sequence[Tensor | None],
    layouts: Mapping[int, tuple[bool, int]],
) -> dict[str, list[Number]]:
    """The `weight.*` columns that need tensors; `gain_fit` and `gain_slope` come from `fitting`.

    Args:
        model: the model.
        parameters: as `parameters_of` gave them.
        gradients: dLoss/dw per parameter, None where none arrived.
        layouts: per parameter (transposed, groups) where not the usual [out, in].
    """
    keys = "mean rms max nonfinite fan_in fan_out gain row_spread grad_rms grad_nonfinite grad_sign"
    columns: dict[str, list[Number]] = {f"weight.{key}": [] for key in keys.split()}
    for index, ((_, tensor), parameter) in enumerate(
        zip(model.named_parameters(), parameters, strict=True)
    ):
        row = _one(tensor.detach(), parameter, gradients[index], layouts.get(index, (False, 1)))
        for key in columns:
            columns[key].append(row.get(key))
    return columns


def _one(
    tensor: Tensor, parameter: Parameter, gradient: Tensor | None, layout: tuple[bool, int]
) -> dict[str, Number]:
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


def _local(tensor: Any) -> Tensor:
    """The shard this process holds of a distributed tensor; other tensors unchanged."""
    shard: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return shard


def fitting(
    sites: Sequence[Site], parameters: Sequence[Parameter]
) -> tuple[list[Number], list[Number], dict[int, str]]:
    """The gains that fit the activation each weight feeds.

    Returns:
        `weight.gain_fit` (1/sqrt E phi^2), `weight.gain_slope` (1/sqrt E phi'^2), and per weight
        site the kind of the activation that follows it directly or behind a norm; sites that
        feed none are not in the dict and count as linear (gain 1).
    """
    follows = following(sites)
    fit: list[Number] = [None] * len(parameters)
    slope: list[Number] = [None] * len(parameters)
    for index, site in enumerate(sites):
        for place in site.parameters:
            if not parameters[place].is_weight:
                continue
            found = gains(follows[index]) if index in follows else None
            fit[place] = 1.0 if found is None else found.second_moment
            slope[place] = 1.0 if found is None else found.slope
    return fit, slope, follows


def following(sites: Sequence[Site]) -> dict[int, str]:
    """Per weight site the activation that reads it, directly or through norm, dropout or pool."""
    readers: dict[int, list[int]] = {}
    for index, site in enumerate(sites):
        for source in site.inputs:
            readers.setdefault(source, []).append(index)
    through = NORMS | {"dropout", "pool", "module"}

    def search(index: int, hops: int) -> str | None:
        for reader in readers.get(index, ()):
            kind = sites[reader].kind
            if kind in ELEMENTWISE and kind != "exp":
                return kind
            if kind in through and hops and (found := search(reader, hops - 1)):
                return found
        return None

    found = {i: search(i, 3) for i, site in enumerate(sites) if site.kind in ("linear", "conv")}
    return {index: kind for index, kind in found.items() if kind is not None}
