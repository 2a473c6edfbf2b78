"""Known numbers added to logits, such as a bias by distance: they are no part of their variance.

Attention without any logits is then softmax(bias) instead of uniform, and the logits come on top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isograd.prediction.moments.fields import Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BIASED = "biased"
"""Note of a field: (the field without the bias, the bias)."""
_LARGEST = 20_000_000
"""Entries of a bias that is laid out anew."""


def biased(out: Field, base: Field, bias: Tensor, factor: float = 1.0) -> None:
    """Notes that a field is another one plus known numbers.

    Args:
        out: the sum.
        base: what the numbers were added to.
        bias: the numbers; broadcast to the shape.
        factor: of the numbers.
    """
    if bias.numel() < 2 or not bias.is_floating_point() or out.shape != base.shape:
        return
    with torch._C.DisableTorchFunction():
        values = bias.detach().double().numpy() * factor
    if BIASED in base.notes:
        base, before = base.notes[BIASED]
        values = values + before
    out.notes[BIASED] = base, values


def carried(out: Field, f: Field) -> None:
    """Notes of `out`, the same entries as `f`, the bias that `f` has."""
    if BIASED in f.notes and out.shape == f.shape:
        out.notes[BIASED] = f.notes[BIASED]


def laid_out(out: Field, f: Field, ahead: Callable[[Field], Field]) -> None:
    """As `carried`, for a field of another shape with the same entries in the same order."""
    found = f.notes.get(BIASED)
    size = np.prod(f.shape)
    if found is not None and np.prod(out.shape) == size and size <= _LARGEST:
        base, values = found
        out.notes[BIASED] = ahead(base), np.broadcast_to(values, f.shape).reshape(out.shape)


def without_bias(f: Field, axis: int) -> Field:
    """Logits without their bias, which becomes how far each entry is seen."""
    found = f.notes.get(BIASED)
    if found is None:
        return f
    base, values = found
    shape = np.broadcast_shapes(values.shape, () if f.visible is None else f.visible.shape)
    seen: Any = np.broadcast_to(values, (1,) * (len(f.groups) - len(shape)) + shape)
    if f.visible is not None:
        seen = np.where(f.visible, seen, -np.inf)
    top = seen.max(axis, keepdims=True)
    weights = np.exp(seen - np.where(np.isfinite(top), top, 0.0))
    if weights.shape[axis] == 1 or not weights.any():
        return f
    plain: Field = base.like(base.second, base.mean)
    plain.visible = weights
    return plain
