"""Logits of which some are not looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.functions.biases import biased, carried
from isograd.prediction.moments.fields import Field
from isograd.prediction.ops import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from isograd.prediction.propagation import Call

MASKED = -1e4
"""Added to a logit, it hides the entry."""
_AWAY = -50.0
"""So does this, where all others get nothing added: exp(-50) is below what a float32 sum keeps."""


def hiding(call: Call, name: str, x: Any, y: Any) -> Outcome | None:
    """Logits plus a mask of zeros and huge negative numbers."""
    if name != "add":
        return None
    for logits, mask in ((x, y), (y, x)):
        masked = hiding_of(call, mask)
        if masked is not None:
            return masked(call.field(logits))
        if call.known(mask) and mask.numel() > 1 and mask.is_floating_point():
            with torch._C.DisableTorchFunction():
                nothing = bool((mask == 0).all())
            if nothing:
                return Outcome(call.field(logits))
    return None


def hiding_of(call: Call, mask: Any) -> Callable[[Field], Outcome] | None:
    """What adding known numbers does to logits, if some of them hide entries; else None."""
    if not call.known(mask) or mask.numel() < 2 or not mask.is_floating_point():
        return None
    with torch._C.DisableTorchFunction():
        covered = covering(mask)
        if covered is None:
            return None
        rest = mask.masked_fill(covered, 0.0)
        visible, told = (~covered).numpy(), bool(rest.any())

    def masked(logits: Field) -> Outcome:
        done = hidden(logits, visible)
        if told:
            biased(done.out, logits, rest)
        return done

    return masked


def covering(mask: Tensor) -> Tensor | None:
    """Which entries a mask hides that is added to logits; None if it is no mask."""
    covered = mask <= MASKED
    if bool(covered.any()):
        return covered
    covered = mask <= _AWAY
    return covered if bool(covered.any() and (covered | (mask == 0)).all()) else None


def hidden(logits: Field, visible: Any) -> Outcome:
    """Logits some of which are not looked at."""
    shape = np.broadcast_shapes(logits.shape, visible.shape)
    out = alias(logits) if shape == logits.shape else _widened(logits, shape)
    out.visible = visible if logits.visible is None else (logits.visible & visible)
    back = lambda g: [(logits, g.summed_to(logits.shape))]  # noqa: E731
    return Outcome(out, back, [logits], formula="masked")


def _widened(logits: Field, shape: tuple[int, ...]) -> Field:
    out = logits.expanded(shape)
    out.nodes = None
    return out


def alias(x: Field) -> Field:
    """The same field under another name."""
    out = x.like(x.second, x.mean)
    out.origin, out.nodes, out.affine = x.origin, x.nodes, x.affine
    out.visible, out.averaged = x.visible, x.averaged
    carried(out, x)
    return out
