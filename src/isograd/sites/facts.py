"""Facts about the batch and the targets, for prediction and probe: one number or word each."""

import math
from typing import Any

import torch
from torch import Tensor

from isograd.sites.batches import Batch, is_signal, tensors

_MOST_COLUMNS = 2048
"""Above this many columns the condition number is left out: its cost grows with the cube."""
_SAFE = (1e-100, 1e100)
"""Largest magnitudes whose squares float64 holds, and those of what counts beside them."""


def batch_facts(batch: Batch) -> dict[str, Any]:
    """Facts `batch.*` of the first floating-point input; of one without values its shape."""
    inputs = batch.inputs()
    facts: dict[str, Any] = {"batch.size": batch.size}
    if not inputs:
        return facts
    # A number beside the batch (a count of tokens, a temperature) is no batch.
    x = next((t for t in inputs if t.is_floating_point() and t.ndim), None)
    facts["batch.shape"] = list((inputs[0] if x is None else x).shape)
    facts["batch.kind"] = "ids" if x is None else "float"
    if x is None or x.is_meta or not x.numel() or not is_signal(x):
        return facts
    x = x.detach().double()
    facts.update(_moments(x))
    facts["batch.integer_like"] = _whole(x[:1]) and _whole(x)
    if x.ndim in (2, 4) and x.shape[0] > 1:
        facts.update(_feature_facts(x))
    return facts


def _moments(x: Tensor) -> dict[str, Any]:
    """Size and range of the finite entries, and how many are not."""
    low, high = (float(end) for end in x.aminmax())
    kept = x if math.isfinite(low) and math.isfinite(high) else x[torch.isfinite(x)]
    facts: dict[str, Any] = {"batch.nonfinite": x.numel() - kept.numel()}
    if not kept.numel():
        return facts | dict.fromkeys(("batch.mean", "batch.rms", "batch.min", "batch.max"))
    if kept is not x:
        low, high = (float(end) for end in kept.aminmax())
    # Divided by the largest, squares of the others neither overflow nor vanish.
    largest = max(-low, high)
    largest = 1.0 if largest == 0 or _SAFE[0] < largest < _SAFE[1] else largest
    kept = kept / largest if largest != 1.0 else kept
    mean = float(kept.mean()) * largest
    rms = float(torch.linalg.vector_norm(kept)) / math.sqrt(kept.numel()) * largest
    facts |= {"batch.mean": mean, "batch.rms": rms, "batch.min": low, "batch.max": high}
    facts["batch.std"] = math.sqrt(max(0.0, rms * rms - mean * mean))
    return facts


def _whole(x: Tensor) -> bool:
    return bool((x == x.round()).all())


def _feature_facts(x: Tensor) -> dict[str, Any]:
    over = (0,) if x.ndim == 2 else (0, 2, 3)
    mean = x.mean(over, keepdim=True)
    # Not x.std(over), which takes eight times as long where features are strided.
    std = (x - mean).square_().mean(over).sqrt()
    mean = mean.flatten()
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


def target_facts(
    targets: Any, out: tuple[int, ...] | None, loss_kind: str | None
) -> dict[str, Any]:
    """Facts `target.*` of the first target tensor, and `loss.chance` where it is known.

    Args:
        targets: as they came with the batch.
        out: shape of the tensor that enters the loss.
        loss_kind: the fact `loss.kind`.
    """
    t = next(tensors(targets), None)
    if t is None or t.is_meta or not t.numel() or t.is_complex():
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
        "target.count": int(values.numel()),
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
    classes = _classes(out, tuple(t.shape)) if whole else None
    if loss_kind in ("cross_entropy", "nll") and classes is not None:
        facts["target.classes"] = classes
        facts["target.out_of_range"] = int(((values < 0) | (values >= classes)).sum())
        facts["loss.chance"] = math.log(classes) if classes > 1 else None
    elif loss_kind == "cross_entropy" and tuple(t.shape) == out and t.ndim > 1:
        facts["target.improper"] = float((t.double().sum(1) - 1).abs().mean())
    elif loss_kind in ("bce", "bce_logits"):
        facts["target.classes"] = 2
        facts["target.out_of_range"] = int(((values < 0) | (values > 1)).sum())
        facts["loss.chance"] = math.log(2)
    elif loss_kind == "mse" and not whole:
        facts["loss.chance"] = facts["target.std"] ** 2
    elif loss_kind == "l1" and not whole:
        facts["loss.chance"] = float((values - values.median()).abs().mean())
    return facts


def _classes(out: tuple[int, ...] | None, targets: tuple[int, ...]) -> int | None:
    """Length of the axis of classes of outputs; None where shapes do not tell which one it is.

    A loop may flatten outputs `[batch, length, classes]` and its targets before the loss: the
    targets are then as many as the outputs have places, whatever their shape.
    """
    if out is None or len(out) < 2:
        return None
    if len(out) == 2 or out[:1] + out[2:] == targets != out[:-1]:
        return out[1]
    places = math.prod(targets)
    if out[:-1] == targets or math.prod(out[:-1]) == places:
        return out[-1]
    return out[1] if math.prod(out[:1] + out[2:]) == places else None
