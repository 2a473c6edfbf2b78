"""Facts about the batch, the targets, the norms and the optimizer: one number or word each."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from isograd import statistics
from isograd.sites.batches import Batch, is_signal, tensors

_MOST_COLUMNS = 2048
"""Above this many columns the condition number is left out: its cost grows with the cube."""


def batch_facts(batch: Batch) -> dict[str, Any]:
    """Facts `batch.*` of the first floating-point input."""
    inputs = batch.inputs()
    facts: dict[str, Any] = {"batch.size": batch.size}
    if not inputs:
        return facts
    x = next((t for t in inputs if t.is_floating_point()), None)
    facts["batch.shape"] = list((inputs[0] if x is None else x).shape)
    facts["batch.kind"] = "ids" if x is None else "float"
    if x is None or not x.numel() or not is_signal(x):
        return facts
    x = x.detach()
    values = statistics.derive(statistics.sums(x).tolist())
    mean, rms = values["mean"], values["rms"]
    for key in ("mean", "rms", "min", "max", "nonfinite"):
        facts[f"batch.{key}"] = values[key]
    if mean is not None and rms is not None:
        facts["batch.std"] = math.sqrt(max(0.0, rms * rms - mean * mean))
    x = x.double()
    facts["batch.integer_like"] = bool((x == x.round()).all())
    if x.ndim in (2, 4) and x.shape[0] > 1:
        facts.update(_feature_facts(x))
    return facts


def _feature_facts(x: Tensor) -> dict[str, Any]:
    over = (0,) if x.ndim == 2 else (0, 2, 3)
    mean, std = x.mean(over), x.std(over, correction=0)
    varying = std > 1e-12 * std.max()
    if not bool(varying.any()) or not bool(torch.isfinite(std).all()):
        return {}
    mean, std = mean[varying], std[varying]
    facts: dict[str, Any] = {
        "batch.feature_std_ratio": float(std.max() / std.min()),
        "batch.feature_offset": float((mean / std).square().mean().sqrt()),
    }
    if x.ndim == 2 and 1 < x.shape[1] <= _MOST_COLUMNS and x.shape[0] >= x.shape[1]:
        moments = torch.linalg.eigvalsh(x.T @ x / x.shape[0])
        largest = float(moments.max())
        kept = moments[moments > 1e-12 * largest]
        if largest > 0:
            facts["batch.condition"] = largest / float(kept.min())
    return facts


def target_facts(targets: Any, out: Tensor | None, loss_kind: str | None) -> dict[str, Any]:
    """Facts `target.*` of the first target tensor, and `loss.chance` where it is known.

    Args:
        targets: as they came with the batch.
        out: the tensor that enters the loss.
        loss_kind: the fact `loss.kind`.
    """
    t = next(tensors(targets), None)
    if t is None or not t.numel() or t.is_complex():
        return {}
    t = t.detach()
    whole = not t.is_floating_point()
    kept = t[t != -100] if whole else t  # -100: torch's ignore_index
    if not kept.numel():
        return {}
    values = kept.double().flatten()
    distinct = values[:100_000].unique(return_counts=True)
    binary = bool(((values == 0) | (values == 1)).all())
    kind = "class" if whole else ("binary" if binary else "real")
    facts: dict[str, Any] = {
        "target.kind": kind,
        "target.mean": float(values.mean()),
        "target.std": float(values.std(correction=0)),
        "target.min": float(values.min()),
        "target.max": float(values.max()),
        "target.distinct": int(distinct[0].numel()),
        "target.integer_like": bool((values == values.round()).all()),
    }
    if kind != "real":
        share = distinct[1].double() / distinct[1].sum()
        facts["target.entropy"] = float(-(share * share.log()).sum())
    if loss_kind in ("cross_entropy", "nll") and out is not None and out.ndim > 1 and whole:
        classes = (
            out.shape[-1] if out.ndim == t.ndim + 1 and out.shape[:-1] == t.shape else out.shape[1]
        )
        facts["target.classes"] = classes
        facts["target.out_of_range"] = int(((values < 0) | (values >= classes)).sum())
        facts["loss.chance"] = math.log(classes) if classes > 1 else None
    elif loss_kind in ("bce", "bce_logits"):
        facts["target.classes"] = 2
        facts["target.out_of_range"] = int(((values < 0) | (values > 1)).sum())
        facts["loss.chance"] = math.log(2)
    elif loss_kind == "mse" and not whole:
        facts["loss.chance"] = facts["target.std"] ** 2
    elif loss_kind == "l1" and not whole:
        facts["loss.chance"] = float((values - values.median()).abs().mean())
    return facts


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


def optimizer_facts(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Any]:
    """Facts `optimizer.*`: hyper-parameters of the first group, and what it does not hold."""
    group = optimizer.param_groups[0]
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    betas = group.get("betas")
    facts: dict[str, Any] = {
        "optimizer.name": type(optimizer).__name__,
        "optimizer.lr": max(
            (float(g["lr"]) for g in optimizer.param_groups if "lr" in g), default=None
        ),
        "optimizer.momentum": float(group.get("momentum", 0.0) or 0.0),
        "optimizer.adaptive": _is_adaptive(optimizer, group),
        "optimizer.weight_decay": float(group.get("weight_decay", 0.0) or 0.0),
        "optimizer.missing": _names(
            (n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held)
        ),
    }
    if betas is not None:
        facts["optimizer.betas"] = [float(b) for b in betas]
    if group.get("eps") is not None and not isinstance(group["eps"], (tuple, list)):
        facts["optimizer.eps"] = float(group["eps"])
    return facts


def _names(names: Iterable[str]) -> list[str]:
    return list(names)


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
