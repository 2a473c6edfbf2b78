"""Facts about the output, the norms and the optimizer: one number or word each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isograd import statistics
from isograd.sites.batches import is_signal

_SUMMED = 100
"""Steps after which those of Adagrad count, which divides by the root of their number."""


def output_facts(out: Tensor | None) -> dict[str, Any]:
    """Facts `output.*` of the tensor that enters the loss."""
    if out is None or not is_signal(out) or not out.numel():
        return {}
    out = out.detach()
    values = statistics.derive(statistics.sums(out).tolist())
    facts: dict[str, Any] = {"output.shape": list(out.shape)}
    for key in ("rms", "mean", "min", "max"):
        facts[f"output.{key}"] = values[key]
    if out.ndim >= 1 and out.shape[0] > 1:
        facts["output.spread"] = float(statistics.spread(out))
    return facts


def norm_facts(model: nn.Module) -> dict[str, Any]:
    """Facts `norm.momentum` and `norm.tracked` of batch norms with running statistics.

    Taken before the measured pass, which counts as one more batch.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.track_running_stats and m.num_batches_tracked is not None]
    if not norms:
        return {}
    tracked = min(int(m.num_batches_tracked) for m in norms if m.num_batches_tracked is not None)
    momenta = [m.momentum for m in norms if m.momentum is not None]
    facts: dict[str, Any] = {"norm.tracked": tracked}
    if momenta:
        facts["norm.momentum"] = min(momenta)
    return facts


def optimizer_facts(
    optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, Tensor]]
) -> dict[str, Any]:
    """Facts `optimizer.*`: hyper-parameters of the first group, and what it does not hold.

    Args:
        optimizer: any.
        named: names and parameters of the model.
    """
    group = optimizer.param_groups[0]
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    betas = group.get("betas")
    facts: dict[str, Any] = {
        "optimizer.name": type(optimizer).__name__,
        "optimizer.lr": learning_rate(optimizer),
        "optimizer.momentum": float(group.get("momentum", 0.0) or 0.0),
        "optimizer.adaptive": _is_adaptive(optimizer, group),
        "optimizer.maximize": bool(group.get("maximize")),
        "optimizer.weight_decay": float(group.get("weight_decay", 0.0) or 0.0),
        "optimizer.penalty": _adds_decay(optimizer, group),
        "optimizer.missing": _names((n for n, p in named if p.requires_grad and id(p) not in held)),
    }
    if (least := _least_rate(optimizer)) is not None:
        facts["optimizer.lr_least"] = least
    planned = max(map(planned_rate, optimizer.param_groups), default=0.0)
    if planned > (facts["optimizer.lr"] or 0.0) > 0:
        facts["optimizer.lr_planned"] = planned
    if betas is not None:
        facts["optimizer.betas"] = [float(b) for b in betas]
    if group.get("eps") is not None and not isinstance(group["eps"], (tuple, list)):
        facts["optimizer.eps"] = float(group["eps"])
    if isinstance(optimizer, torch.optim.RMSprop) and group["alpha"] < 1:
        # Its average starts at zero, and nothing corrects that.
        facts["optimizer.first_step"] = (1 - float(group["alpha"])) ** -0.5
    if isinstance(optimizer, torch.optim.Adagrad) and not group["initial_accumulator_value"]:
        facts["optimizer.first_step"] = _SUMMED**0.5
    return facts


def planned_rate(group: Mapping[str, Any]) -> float:
    """The highest rate of a group that a schedule has noted down; 0 without one."""
    return max(float(group.get(key) or 0) for key in ("initial_lr", "max_lr"))


def learning_rate(optimizer: torch.optim.Optimizer) -> float | None:
    """The highest of all groups; None where none has one."""
    return max((float(g["lr"]) for g in optimizer.param_groups if "lr" in g), default=None)


def _least_rate(optimizer: torch.optim.Optimizer) -> float | None:
    """The lowest of all groups with parameters; None where all have one rate."""
    rates = {float(g["lr"]) for g in optimizer.param_groups if "lr" in g and g["params"]}
    return min(rates) if len(rates) > 1 else None


def step_facts(
    named: Sequence[tuple[str, Tensor]], optimizer: torch.optim.Optimizer | None, size: int
) -> dict[str, Any]:
    """Facts of one step of a training: optimizer, batch size, and what is frozen.

    Args:
        named: names and parameters of the model.
        optimizer: where there is one.
        size: samples of the step's forwards; 0 where they were not seen.
    """
    facts: dict[str, Any] = {} if optimizer is None else optimizer_facts(optimizer, named)
    if size:
        facts["batch.size"] = size
    facts["model.frozen"] = [n for n, p in named if not p.requires_grad]
    return {key: value for key, value in facts.items() if value is not None}


def _names(names: Iterable[str]) -> list[str]:
    return list(names)


def _adds_decay(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool | None:
    """Whether weight decay joins a gradient that is then divided by its size; None: there is none.

    Torch's own that do so; of others nobody knows.
    """
    if not group.get("weight_decay"):
        return None
    joins = type(optimizer).__name__ in (
        "Adam",
        "NAdam",
        "RAdam",
        "Adamax",
        "RMSprop",
        "Adagrad",
        "Adadelta",
    )
    return joins and not group.get("decoupled_weight_decay", False)


def _is_adaptive(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> bool:
    """Whether steps do not scale with the gradient, as in Adam and its relatives."""
    return "betas" in group or type(optimizer).__name__ in (
        "RMSprop",
        "Adagrad",
        "Adadelta",
        "Adafactor",
        "Rprop",
        "Muon",
    )
