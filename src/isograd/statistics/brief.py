"""The few numbers that a parameter needs, in fewer passes than all sums of a signal."""

import math

import torch
from torch import Tensor

from isograd.statistics._layout import flatten
from isograd.statistics.derived import Number, derive
from isograd.statistics.table import sums

_SAFE = (1e-15, 1e15)
"""Largest magnitudes whose squares neither underflow nor overflow in float32."""


def brief(x: Tensor) -> dict[str, Number]:
    """`mean`, `rms`, `min`, `max` and `nonfinite` (count) of a tensor, read back.

    The same numbers as `derive(sums(x))` has under these names, in three plain passes where no
    entry is non-finite, tiny or huge, and by that way otherwise.

    Args:
        x: any floating-point or complex dtype, shape and strides.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    flat = flatten(x)
    low, high = (v.item() for v in torch.aminmax(flat)) if flat.numel() else (0.0, 0.0)
    if flat.dtype != torch.float32 or not _SAFE[0] < max(-low, high) < _SAFE[1]:
        of = derive(sums(x).tolist())
        return {key: of[key] for key in ("mean", "rms", "min", "max", "nonfinite")}
    count = flat.numel()
    return {
        "mean": flat.sum().item() / count,
        "rms": torch.linalg.vector_norm(flat).item() / math.sqrt(count),
        "min": low,
        "max": high,
        "nonfinite": 0.0,
    }
