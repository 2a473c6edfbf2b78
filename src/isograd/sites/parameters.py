"""Parameters: their kinds, their fans, and the activations that their layers feed.

No value of a parameter is read, so that those on the meta device are described like live ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from isograd.records import Parameter, Site
from isograd.sites import ELEMENTWISE, NORMS
from isograd.sites.tape import Tape

_NORM_MODULES = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def hooked(model: nn.Module) -> list[str]:
    """Names of the parameters whose gradient a hook of their own changes or reads."""
    kinds = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return [n for n, p in model.named_parameters() if any(getattr(p, k, None) for k in kinds)]


def uses(tape: Tape) -> tuple[dict[int, set[str]], dict[int, tuple[bool, int]]]:
    """What the operations of a tape make of its model's parameters.

    Returns:
        Per index of a parameter the kinds of the operations that used it, and per weight that a
        layer used its layout: (transposed, groups), as `fans` wants them.
    """
    used: dict[int, set[str]] = {}
    layouts: dict[int, tuple[bool, int]] = {}
    parameters = list(tape.model.parameters())
    for node in tape.nodes:
        for index in node.parameters:
            used.setdefault(index, set()).add(node.kind or node.op)
            weight = parameters[index]
            if node.kind == "linear" and weight.ndim == 2:
                # x @ w is laid out [in, out], linear(x, w) and x @ w.T the other way round.
                turned = any(index in tape.nodes[i].parameters for i in node.inputs)
                layouts[index] = ((node.op != "linear") != turned, 1)
            elif node.kind == "conv" and node.op.startswith("conv") and weight.ndim > 2:
                transposed = "transpose" in node.op
                shape = node.shape if transposed else tape.nodes[node.inputs[0]].shape
                layouts[index] = (transposed, shape[1 - weight.ndim] // weight.shape[1])
    return used, layouts


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


def feeding(
    sites: Sequence[Site], parameters: Sequence[Parameter], follows: Mapping[int, str]
) -> list[str | None]:
    """Per parameter the activation that its layer feeds, `linear` where it feeds none.

    The gain that fits a weight is that of this activation.

    Args:
        sites: of one network.
        parameters: of the same one.
        follows: `following(sites)`.

    Returns:
        None for parameters that are no weight, or that no site uses. A weight of several layers
        counts for the last of them.
    """
    fed: list[str | None] = [None] * len(parameters)
    for index, site in enumerate(sites):
        for place in site.parameters:
            if parameters[place].is_weight:
                fed[place] = follows.get(index, "linear")
    return fed


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


def model_facts(model: nn.Module) -> dict[str, Any]:
    """Facts `model.*` that need no forward."""
    parameters = list(model.parameters())
    first = next((p for p in parameters if p.is_floating_point()), None)
    scripted = [m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)]
    drops = {
        name: float(m.p)
        for name, m in model.named_modules()
        if isinstance(m, _DropoutNd) and m.training and m.p
    }
    hidden = {id(p): p.numel() for m in scripted for p in m.parameters(recurse=False)}
    return {
        "model.name": type(model).__name__,
        "model.parameters": sum(p.numel() for p in parameters),
        "model.trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "model.scripted": sum(hidden.values()),
        "model.training": model.training,
        "model.dtype": "none" if first is None else str(first.dtype).removeprefix("torch."),
        "model.device": "none" if first is None else str(first.device),
        "model.frozen": [n for n, p in model.named_parameters() if not p.requires_grad],
        "model.dropout": list(drops.values()),
        "model.dropout_at": list(drops),
    }
