"""What tells the samples of a batch apart: their spread, and the angle between them."""

import math

import torch
from torch import Tensor

from isograd.statistics._layout import rows, stride_for, working_dtype
from isograd.statistics.reference import device_scale, largest_scale

_BLOCK = 1 << 16
# Entries of one block of columns: its scratch stays in the second-level cache.
_DEVICE_BLOCK = 1 << 22
SAMPLES = 32
FEATURES = 1 << 14
"""The correlation is taken of at most this many evenly spaced samples and features."""


def spread(x: Tensor) -> Tensor:
    """Standard deviation over the samples (axis 0), root mean square over all other axes.

    sqrt(mean_j var_i x_ij), population variance, in the unit of x: 0 if and only if no entry
    depends on the sample (up to what float32 resolves).

    Returns:
        float64 [] on the tensor's device; NaN for fewer than two samples, no features, or a
        non-finite entry.
    """
    table = rows(x) if x.dim() else rows(x.reshape(1))
    samples, features = table.shape
    if samples < 2 or not features:
        return torch.full((), math.nan, dtype=torch.float64, device=table.device)
    dtype = working_dtype(table)
    scale = _scale(table, dtype)
    block = _BLOCK if table.device.type == "cpu" else _DEVICE_BLOCK
    squares, common = [], []
    for columns in torch.split(table, max(1, block // samples), dim=1):
        # Distances from the first sample, not raw values: a spread far below the mean would cancel.
        shifted = (columns - columns[0]).to(dtype)
        if scale is not None:
            shifted /= scale
        flat = shifted.view(-1)
        squares.append(torch.dot(flat, flat))
        total = shifted.sum(dim=0)
        common.append(torch.dot(total, total))
    mean_square = torch.stack(squares).double().sum() / samples
    square_mean = torch.stack(common).double().sum() / samples**2
    variance = ((mean_square - square_mean) / features).clamp(min=0.0)
    return variance.sqrt() if scale is None else variance.sqrt() * scale


def correlation(x: Tensor) -> Tensor:
    """Mean cosine between the entries of two different samples (axis 0).

    With unit vectors u_i it is (|sum u_i|^2 - n) / (n (n - 1)), so that the Gram matrix need not be
    formed. At most `SAMPLES` evenly spaced samples and `FEATURES` evenly strided features of each
    are taken. A sample that is zero has no direction and is left out.

    Returns:
        float64 [] on the tensor's device; NaN for fewer than two samples that are not zero, or a
        non-finite entry.
    """
    table = rows(x) if x.dim() else rows(x.reshape(1))
    samples, features = table.shape
    if samples < 2 or not features:
        return torch.full((), math.nan, dtype=torch.float64, device=table.device)
    table = table[:: -(-samples // SAMPLES)]
    if features > FEATURES:
        table = table[:, :: stride_for(features, FEATURES)]
    table = table.to(working_dtype(table))
    # Each row by its own size: samples of very different size have a direction all the same.
    table = table / table.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(table.dtype).tiny)
    norms = torch.linalg.vector_norm(table, dim=1)
    nonzero = norms != 0
    units = table / torch.where(nonzero, norms, 1.0)[:, None]
    total = units.sum(dim=0)
    count = nonzero.sum().double()
    # Sum of |u_i|^2 as computed, not the count: their rounding would be n times the result's.
    lengths = units.square().sum(dtype=torch.float64)
    between = total.square().sum(dtype=torch.float64) - lengths
    return torch.div(between, count * (count - 1))


def row_spread(w: Tensor) -> Tensor:
    """How different the units of a weight [out, in, ...] are: `spread` over rms; 0: all are equal.

    Returns:
        float64 [] on the tensor's device; NaN for a single unit, or a non-finite entry; 0 for a
        weight that is zero.
    """
    distance = spread(w)
    table = rows(w) if w.dim() else rows(w.reshape(1))
    table = table.to(working_dtype(table))
    largest = table.abs().amax() if table.numel() else table.new_zeros(())
    scaled = table / torch.where(largest == 0, torch.ones_like(largest), largest)
    rms = scaled.square().mean(dtype=torch.float64).sqrt() * largest.double()
    return torch.where(rms == 0, distance, distance / rms)


def sign_agreement(g: Tensor) -> Tensor:
    """Mean over the units of a gradient [out, in, ...] of |sum of its entries' signs| / entries.

    1: all incoming weights of every unit move the same way (zig-zag); about sqrt(2/(pi in)) for
    independent signs.

    Returns:
        float64 [] on the tensor's device; NaN for an empty gradient. A NaN has no sign.
    """
    table = rows(g) if g.dim() else rows(g.reshape(1))
    signs = table.sgn().sum(dim=1, dtype=torch.float32)
    return signs.abs().mean(dtype=torch.float64) / table.shape[1]


def _scale(table: Tensor, dtype: torch.dtype) -> Tensor | float | None:
    """Power of two by which the entries must be divided so that squares are safe; None: by one."""
    low, high = torch.aminmax(table)
    if table.device.type != "cpu":
        return device_scale(torch.maximum(-low, high).double(), dtype)
    largest = max(-low.item(), high.item())
    scale = largest_scale(largest, dtype) if math.isfinite(largest) else 1.0
    return None if scale == 1.0 else scale
