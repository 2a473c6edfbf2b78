"""Graph: plain torch operations that depend on no entry, so that torch.compile can fuse them."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from isograd.statistics._layout import flatten, real
from isograd.statistics.backends import Backend, Target
from isograd.statistics.columns import ALIVE, FLAT, merge, scale_for

_CHUNK = 1 << 22
# Bounds the scratch memory: seven tensors of 32 MiB where nothing is fused.


class Graph(Backend):
    """For tensors in a graph under torch.compile, and for devices that have no other backend."""

    code: ClassVar[str] = "graph"
    devices: ClassVar[frozenset[str]] = frozenset({"cuda", "xpu", "meta"})
    rank: ClassVar[int] = 0

    def read(self, x: Tensor, target: Target) -> None:
        """Adds the numbers of a tensor to a row, see `Backend.read`."""
        row, low, high, flags, axis = target
        flat = flatten(x)
        for chunk in torch.split(flat, _CHUNK) if flat.numel() else (flat,):
            row.copy_(merge(row, measured(chunk, low, high)))
        if flags is not None:
            raise_flags(x, flags, axis, low, high)


def measured(flat: Tensor, low: float | None, high: float | None) -> Tensor:
    """One row of a tensor of one axis."""
    finite = flat.isfinite()
    kept = torch.where(finite, flat, 0.0).double()
    if flat.numel():
        smallest = torch.where(finite, flat, math.inf).amin().double()
        largest = torch.where(finite, flat, -math.inf).amax().double()
    else:
        smallest = kept.new_full((), math.inf)
        largest = -smallest
    scale = torch.ones_like(largest)
    if flat.dtype == torch.float64:  # the powers of all others are float64 numbers
        scale = scale_for(torch.maximum(-smallest, largest).clamp(min=0.0))
        kept = kept / scale
    square = kept * kept
    count = torch.full_like(scale, flat.numel())
    none = torch.zeros_like(scale)
    return torch.stack(
        [
            count,
            count - finite.sum(),
            (flat == 0).sum().double(),
            (kept > 0).sum().double(),
            kept.sum(),
            square.sum(),
            kept.abs().sum(),
            (square * square).sum(),
            smallest,
            largest,
            scale,
            none if low is None else (finite & (_single(flat) <= low)).sum().double(),
            none if high is None else (finite & (_single(flat) >= high)).sum().double(),
        ]
    )


def raise_flags(x: Tensor, flags: Tensor, axis: int, low: float | None, high: float | None) -> None:
    """Raises the flag of every unit to what its entries say, see `Read`."""
    if not x.numel() or not x.dim() or x.shape[axis] != len(flags):
        return
    axis %= x.dim()
    x = _single(real(x))
    flat = torch.zeros_like(x, dtype=torch.bool)
    if low is not None:
        flat |= x <= low
    if high is not None:
        flat |= x >= high
    kept = ~(flat & x.isfinite())
    others = [other for other in range(x.dim()) if other != axis]
    alive = kept.any(dim=others) if others else kept  # any(dim=[]) would take all axes
    flags.copy_(torch.maximum(flags, torch.where(alive, ALIVE, FLAT).to(flags.dtype)))


def _single(x: Tensor) -> Tensor:
    """In a type that holds the thresholds, which torch would round to that of the tensor."""
    return x.float() if x.itemsize < 4 else x
