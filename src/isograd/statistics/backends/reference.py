"""Reference: torch in float64, the truth that every other backend is held against."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from isograd.statistics._layout import flatten
from isograd.statistics.backends import Backend, Target
from isograd.statistics.backends.graph import raise_flags
from isograd.statistics.columns import merge, scale_for

_CHUNK = 1 << 15
# Three buffers of 256 KiB stay in the second-level cache; a pass over them costs as much as the
# arithmetic alone.


class Reference(Backend):
    """Everything in float64, by plain calls of torch that may depend on what the entries are."""

    code: ClassVar[str] = "reference"
    devices: ClassVar[frozenset[str]] = frozenset({"cpu"})
    rank: ClassVar[int] = 0

    def read(self, x: Tensor, target: Target) -> None:
        """Adds the numbers of a tensor to a row, see `Backend.read`."""
        row, low, high, flags, axis = target
        row.copy_(merge(row, _measured(flatten(x), low, high)))
        if flags is not None:
            raise_flags(x, flags, axis, low, high)


def _measured(flat: Tensor, low: float | None, high: float | None) -> Tensor:
    count = flat.numel()
    smallest, largest = _extremes(flat)
    if count and not (math.isfinite(smallest) and math.isfinite(largest)):
        flat = flat[flat.isfinite()]
        smallest, largest = _extremes(flat)
    finite = flat.numel()
    scale = 1.0
    if finite and flat.dtype == torch.float64:
        scale = scale_for(torch.tensor(max(-smallest, largest), dtype=torch.float64)).item()
    totals = [0.0] * 8
    for chunk in torch.split(flat, _CHUNK) if finite else ():
        totals = [
            a + b for a, b in zip(totals, _sums(chunk.double(), scale, low, high), strict=True)
        ]
    nonzero, signs, total, squares, magnitudes, fourths, below, above = totals
    powers = (total, squares, magnitudes, fourths)
    head = (count, count - finite, finite - nonzero, (nonzero + signs) / 2)
    values = (*head, *powers, smallest, largest, scale, below, above)
    return torch.tensor(values, dtype=torch.float64)


def _extremes(flat: Tensor) -> tuple[float, float]:
    if not flat.numel():
        return math.inf, -math.inf
    low, high = torch.aminmax(flat)
    return low.item(), high.item()


def _sums(chunk: Tensor, scale: float, low: float | None, high: float | None) -> list[float]:
    below = 0.0 if low is None else torch.count_nonzero(chunk <= low).item()
    above = 0.0 if high is None else torch.count_nonzero(chunk >= high).item()
    sign = torch.sgn(chunk)
    nonzero, signs = torch.dot(sign, sign), sign.sum()
    if scale != 1.0:
        chunk = chunk / scale
    magnitudes = torch.mul(chunk, sign, out=sign).sum()
    square = torch.mul(chunk, chunk, out=sign)
    squares = square.sum()
    fourths = square.mul_(square).sum()
    sums = (nonzero, signs, chunk.sum(), squares, magnitudes, fourths)
    return [*(one.item() for one in sums), below, above]
