"""Sums of one pass over a tensor, from which every scalar statistic of it is derived."""

import math

import torch
from torch import Tensor

from isograd.statistics._layout import flatten, working_dtype

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
"""Entries of the vector. `zero` and `positive` are counts; `sum`, `sum_sq`, `sum_abs`, `sum_4` are
of x/scale, its square, magnitude and fourth power, over the finite entries; min, max have no scale.
"""

_CPU_CHUNK = 1 << 16
# Three buffers of 256 KiB stay in the second-level cache; a pass over them costs as much as the
# arithmetic alone.
_DEVICE_CHUNK = 1 << 22
# Bounds the scratch memory; a count below 2^24 is exact in float32.
_SAFE = (2.0**-16, 2.0**24)
# Largest magnitudes whose fourth power, summed over a chunk, is far from both ends of float32.
_LIMIT = {torch.float32: 2.0**126, torch.float64: 2.0**1020}
# Scales whose reciprocal is a normal number too.


def sums(x: Tensor) -> Tensor:
    """Every sum of `SUMS` over all entries of a tensor, without reading back from its device.

    Non-finite entries are counted and left out of everything else. The powers are taken of
    x/scale, `scale` being a power of two near max|x| (1 where that is safe), so that they neither
    underflow nor overflow. Counts, min and max are exact; sums are added in the tensor's working
    precision (float32, or float64 for float64) within a chunk and in float64 across chunks, with a
    relative error below 1e-5 of the sum of magnitudes.

    Args:
        x: any floating-point or complex dtype (a complex entry counts as two), shape and strides.

    Returns:
        float64 vector [len(SUMS)] on the tensor's device. An empty tensor has count 0; one without
        finite entries has min = inf, max = -inf.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    flat = flatten(x)
    return _on_cpu(flat) if flat.device.type == "cpu" else _on_device(flat)


def largest_scale(largest: float, dtype: torch.dtype) -> float:
    """Power of two above a magnitude, 1 where powers of the magnitude are safe as they are."""
    if largest == 0 or _SAFE[0] <= largest <= _SAFE[1]:
        return 1.0
    limit = _LIMIT[dtype]
    exponent = math.frexp(largest)[1]
    return min(max(math.ldexp(1.0, min(exponent, 1023)), 1 / limit), limit)


def device_scale(largest: Tensor, dtype: torch.dtype) -> Tensor:
    """`largest_scale` on a device: float64 [] in, float64 [] out, nothing read back."""
    limit = _LIMIT[dtype]
    power = (largest / torch.frexp(largest).mantissa).clamp(1 / limit, limit)
    safe = (largest == 0) | ((largest >= _SAFE[0]) & (largest <= _SAFE[1]))
    return torch.where(safe, torch.ones_like(power), power)


def _on_cpu(flat: Tensor) -> Tensor:
    count = flat.numel()
    low, high = _extremes(flat)
    if not (math.isfinite(low) and math.isfinite(high)) and count:
        flat = flat[flat.isfinite()]
        low, high = _extremes(flat)
    finite = flat.numel()
    dtype = working_dtype(flat)
    scale = largest_scale(max(-low, high), dtype) if finite else 1.0
    totals = [0.0] * 6
    for chunk in torch.split(flat, _CPU_CHUNK) if finite else ():
        moments = _moments(chunk.to(dtype), None if scale == 1.0 else 1 / scale)
        totals = [total + part.item() for total, part in zip(totals, moments, strict=True)]
    nonzero, signs, *powers = totals
    head = (count, count - finite, finite - nonzero, (nonzero + signs) / 2)
    return torch.tensor((*head, *powers, low, high, scale), dtype=torch.float64)


def _extremes(flat: Tensor) -> tuple[float, float]:
    if not flat.numel():
        return math.inf, -math.inf
    low, high = torch.aminmax(flat)
    return low.item(), high.item()


def _on_device(flat: Tensor) -> Tensor:
    # Nothing may depend on the data here: a branch would make the host wait for the device.
    dtype = working_dtype(flat)
    chunks = torch.split(flat, _DEVICE_CHUNK) if flat.numel() else ()
    totals = flat.new_zeros(7, dtype=torch.float64)
    low = flat.new_full((), math.inf, dtype=torch.float64)
    high = -low
    for chunk in chunks:
        finite = chunk.isfinite()
        low = torch.minimum(low, chunk.where(finite, math.inf).amin().double())
        high = torch.maximum(high, chunk.where(finite, -math.inf).amax().double())
    scale = device_scale(torch.maximum(-low, high).clamp(min=0.0), dtype)
    inverse = (1 / scale).to(dtype)
    for chunk in chunks:
        finite = chunk.isfinite()
        moments = _moments(chunk.where(finite, 0.0).to(dtype), inverse)
        totals = totals + torch.stack([finite.sum().double(), *(m.double() for m in moments)])
    finite_count, nonzero, signs = totals[:3]
    count = torch.full_like(scale, flat.numel())
    head = (count, count - finite_count, finite_count - nonzero, (nonzero + signs) / 2)
    return torch.cat([torch.stack(head), totals[3:], torch.stack((low, high, scale))])


def _moments(chunk: Tensor, inverse: float | Tensor | None) -> tuple[Tensor, ...]:
    """Non-zero count, sum of signs; then sum, sum of squares, magnitudes, fourth powers, scaled."""
    # Dot products are fast but add up in few lanes: over a chunk of equal values they are 4e-5 off,
    # where sum() is right to 1e-7. A count is exact in both.
    sign = torch.sgn(chunk)
    nonzero, signs = torch.dot(sign, sign), sign.sum()
    if inverse is not None:
        chunk = chunk * inverse
    magnitude = torch.mul(chunk, sign, out=sign).sum()
    square = torch.mul(chunk, chunk, out=sign)
    square_sum = square.sum()
    return nonzero, signs, chunk.sum(), square_sum, magnitude, square.mul_(square).sum()
