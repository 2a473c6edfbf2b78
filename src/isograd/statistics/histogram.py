"""Histogram of binary exponents: magnitudes at any quantile, losses in any number format."""

import torch
from torch import Tensor

from isograd.statistics._extension import DTYPES, reads
from isograd.statistics._layout import flatten, stride_for

EXPONENT_LOW = -150
EXPONENT_HIGH = 129
"""Bins are the exponents EXPONENT_LOW <= e < EXPONENT_HIGH; the outermost take what lies beyond."""

SAMPLE = 1 << 14
"""Largest number of entries that are looked at; a share of 1e-2 is then known to 8 %."""

# A float64 is 1 sign, 11 exponent and 52 fraction bits, 2^e stored as e + 1023; 2047 is not finite.
_FRACTION = 52
_BIAS = 1023
_STORED = 2048
_FIRST = EXPONENT_LOW + _BIAS
_LAST = EXPONENT_HIGH - 1 + _BIAS


def exponents(x: Tensor) -> Tensor:
    """How many non-zero finite entries have 2^e <= |x| < 2^(e+1), for every exponent e.

    Exact up to `SAMPLE` entries. Of a larger tensor an evenly strided sample of at most `SAMPLE`
    entries is counted, and the counts are scaled back to the size of the tensor and rounded.

    Args:
        x: any floating-point or complex dtype, shape and strides.

    Returns:
        int64 vector [EXPONENT_HIGH - EXPONENT_LOW] on the tensor's device.

    Raises:
        InputError: the tensor holds integers or booleans.
    """
    flat = flatten(x)
    count = flat.numel()
    step = stride_for(count, SAMPLE) if count > SAMPLE else 1
    sample = flat[::step]
    if (native := reads(sample)) is not None:
        bins = torch.zeros(EXPONENT_HIGH - EXPONENT_LOW, dtype=torch.int64)
        seen, stride = len(sample), sample.stride(0)
        native.exponents(sample.data_ptr(), DTYPES[sample.dtype], seen, stride, bins.data_ptr())
    else:
        bins = _bins(sample)
    return bins if step == 1 else (bins * count + len(sample) // 2) // len(sample)


def _bins(sample: Tensor) -> Tensor:
    # Every narrower format, its subnormals too, is a normal float64: the exponent can be read off.
    magnitude = sample.abs().double()
    stored = magnitude.view(torch.int64) >> _FRACTION
    counts = _histogram(stored)
    below = counts[1:_FIRST].sum()
    if sample.dtype == torch.float64:
        # Stored 0 is zero or, below 2^-1022, a float64 subnormal, which belongs to the first bin.
        below += torch.count_nonzero(magnitude) - counts[1:].sum()
    above = counts[_LAST + 1 : _STORED - 1].sum()
    bins = counts[_FIRST : _LAST + 1].clone()
    bins[0] += below
    bins[-1] += above
    return bins


def _histogram(stored: Tensor) -> Tensor:
    if stored.device.type == "cpu":
        return torch.bincount(stored, minlength=_STORED)
    # bincount reads the largest entry back from the device to size its result.
    zeros = stored.new_zeros(_STORED)
    return zeros.scatter_add_(0, stored, torch.ones_like(stored))
