"""What a loss does with the size of a batch."""

from typing import Any

import torch
from torch import Tensor, nn

from isograd.sites.losses import Loss


def weighted(loss: Loss | None) -> bool:
    """Whether one of torch's losses weighs the labels, so that their entropy is none of its."""
    kinds = nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss
    names = ("weight", "pos_weight") if isinstance(loss, kinds) else ()
    return any(getattr(loss, name, None) is not None for name in names)


def undecided(loss: Loss | None, outputs: Any, targets: Any) -> float | None:
    """A weighted binary cross entropy where every output says one half; None of any other loss.

    Torch divides that of classes by the weights, so that ln C stays what it is there.
    """
    binary = isinstance(loss, nn.BCEWithLogitsLoss) and loss.reduction == "mean"
    if not binary or not weighted(loss) or not isinstance(outputs, Tensor) or loss is None:
        return None
    with torch.no_grad():
        return float(loss(torch.zeros_like(outputs), targets))


def sums_entries(loss: Loss | None, outputs: Any, targets: Any, value: float) -> bool | None:
    """Whether the loss of a sample is the sum over its entries rather than their mean.

    None where it cannot be told: no loss handed in, or outputs and targets that are no rows of as
    many entries.
    """
    both = isinstance(outputs, Tensor) and isinstance(targets, Tensor)
    if loss is None or not both or outputs.ndim < 2 or outputs.shape != targets.shape or not value:
        return None
    count = outputs.shape[-1]
    half = count // 2
    if not half:
        return None
    try:
        with torch.no_grad():
            first = float(loss(outputs[..., :half], targets[..., :half]))
            second = float(loss(outputs[..., half:], targets[..., half:]))
    except Exception:  # a loss that knows how many entries there are
        return None
    mean = (half * first + (count - half) * second) / count
    return bool(abs(first + second - value) < abs(mean - value))


def is_summed(loss: Loss | None, outputs: Any, targets: Any, value: float) -> bool | None:
    """Whether the loss of a batch is the sum of those of its halves rather than their mean.

    None where it cannot be told: no loss handed in, or outputs and targets that do not split.
    """
    both = isinstance(outputs, Tensor) and isinstance(targets, Tensor)
    if loss is None or not both or not outputs.ndim or not targets.ndim or not value:
        return None
    if len(outputs) != len(targets) or len(outputs) < 2:
        return None
    half = len(outputs) // 2
    try:
        with torch.no_grad():
            parts = float(loss(outputs[:half], targets[:half]))
            parts += float(loss(outputs[half:], targets[half:]))
    except Exception:  # a loss that cannot take half a batch
        return None
    return abs(parts - value) < abs(parts / 2 - value)
