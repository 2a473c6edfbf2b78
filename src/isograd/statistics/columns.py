"""Columns: what a row says of a tensor, how a row begins, and how two rows become one."""

import math

import torch
from torch import Tensor

SUMS = (
    "count",
    "nonfinite",
    "zero",
    "positive",
    "sum",
    "sum_sq",
    "sum_abs",
    "sum_4",
    "min",
    "max",
    "scale",
)
"""`zero` and `positive` are counts; `sum`, `sum_sq`, `sum_abs`, `sum_4` are of x/scale, its square,
magnitude and fourth power; min and max have no scale. All but the first two are over the finite
entries. `scale` is a power of two: 1, but for float64 entries whose powers float64 cannot hold.
"""

COLUMNS = (*SUMS, "below", "above")
"""`below` and `above` are the numbers of finite entries at or below the lower threshold of a place,
and at or above the upper one."""

MIN, MAX, SCALE = (COLUMNS.index(name) for name in ("min", "max", "scale"))
_POWERS = {"sum": 1, "sum_abs": 1, "sum_sq": 2, "sum_4": 4}

UNREAD, FLAT, ALIVE = 0, 1, 2
"""Flags of a unit: nothing was read of it; every entry is finite and below or above; not so. Of two
parts of a batch the larger flag holds for the whole."""

_SAFE = (2.0**-200, 2.0**200)
# Largest magnitudes whose fourth powers add up in float64 far from both of its ends.
_LIMIT = 2.0**1020
# Largest scale: its reciprocal is a normal number too.


def empty(rows: int, device: torch.device | str) -> Tensor:
    """Rows of which nothing has been read: float64 [rows, len(COLUMNS)]."""
    if rows == 1 and torch.device(device).type == "cpu":
        return _ROW.clone()
    table = torch.zeros(rows, len(COLUMNS), dtype=torch.float64, device=device)
    clear(table)
    return table


def clear(table: Tensor) -> None:
    """Makes rows empty again, in place."""
    table.zero_()
    table[:, MIN] = math.inf
    table[:, MAX] = -math.inf


_ROW = torch.zeros(1, len(COLUMNS), dtype=torch.float64, device="cpu")
# Its copy takes a fifth of the time of four fills.
clear(_ROW)


def merge(first: Tensor, second: Tensor) -> Tensor:
    """Rows of two tensors as if these had been one, without reading back.

    Args:
        first: float64 [..., len(COLUMNS)].
        second: the same.
    """
    one, other = _size(first), _size(second)
    scale = torch.maximum(one, other)
    whole = torch.where(scale > 0, scale, 1.0)
    total = _times(first, one / whole) + _times(second, other / whole)
    total[..., MIN] = torch.minimum(first[..., MIN], second[..., MIN])
    total[..., MAX] = torch.maximum(first[..., MAX], second[..., MAX])
    total[..., SCALE] = torch.maximum(scale, (total[..., 0] > 0).double() * (scale == 0))
    return total


def _size(table: Tensor) -> Tensor:
    """The scale of rows, 0 where it does not matter because all entries are zero."""
    return torch.where(table[..., COLUMNS.index("sum_abs")] > 0, table[..., SCALE], 0.0)


def unscale(table: Tensor) -> Tensor:
    """The same rows with sums of the numbers themselves: scale 1, or 0 for an empty row."""
    whole = _times(table, table[..., SCALE])
    whole[..., SCALE] = (table[..., SCALE] > 0).double()
    return whole


def scale_for(largest: Tensor, safe: tuple[float, float] = _SAFE, limit: float = _LIMIT) -> Tensor:
    """Power of two near a magnitude, 1 where the powers of the magnitude are safe as they are.

    Args:
        largest: float64 [], not negative and finite; the same comes out.
        safe: between which magnitudes the powers are safe.
        limit: largest scale, its reciprocal is the smallest.
    """
    power = (largest / torch.frexp(largest).mantissa).clamp(1 / limit, limit)
    fits = (largest == 0) | ((largest >= safe[0]) & (largest <= safe[1]))
    return torch.where(fits, 1.0, power)


def _times(table: Tensor, factor: Tensor) -> Tensor:
    columns = list(table.unbind(-1))
    for name, power in _POWERS.items():
        place = COLUMNS.index(name)
        # One by one: the power of a factor may underflow where its product with the sum does not.
        for _ in range(power):
            columns[place] = columns[place] * factor
    return torch.stack(columns, dim=-1)
