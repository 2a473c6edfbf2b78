"""Statistics derived from read-back sums and histograms: plain numbers, no tensors."""

import math
from collections.abc import Sequence

from isograd.statistics.columns import SUMS
from isograd.statistics.histogram import EXPONENT_LOW

Number = float | None

FP16 = (2.0**-24, 65504.0)
BF16 = (2.0**-133, (2 - 2**-7) * 2.0**127)
FP8_E4M3 = (2.0**-9, 448.0)
FP8_E5M2 = (2.0**-16, 57344.0)
"""Smallest subnormal and largest finite magnitude of a number format."""


def derive(vector: Sequence[float]) -> dict[str, Number]:
    """The scalar statistics of a tensor from its vector of `sums`, read back as plain numbers.

    `zero` and `positive` are shares of all entries; everything else, but for the two counts, is of
    the finite entries. `None` where there is no such entry, and for the kurtosis of zeros.
    """
    of = dict(zip(SUMS, vector, strict=True))
    count, finite, scale = of["count"], of["count"] - of["nonfinite"], of["scale"]
    mean_square = of["sum_sq"] / finite if finite else 0.0
    return {
        "count": count,
        "nonfinite": of["nonfinite"] if count else None,
        "zero": of["zero"] / count if count else None,
        "positive": of["positive"] / count if count else None,
        "mean": of["sum"] / finite * scale if finite else None,
        "rms": math.sqrt(mean_square) * scale if finite else None,
        "abs_mean": of["sum_abs"] / finite * scale if finite else None,
        "kurtosis": of["sum_4"] / finite / mean_square**2 if mean_square else None,
        "min": of["min"] if finite else None,
        "max": of["max"] if finite else None,
    }


def shares(
    histogram: Sequence[int], count_nonzero: float, *, backward: bool = False
) -> dict[str, Number]:
    """Shares of the non-zero entries that would leave the range of fp16, bf16 and fp8.

    Underflow is exact: smallest subnormals are powers of two. Overflow counts from the power of two
    above the largest finite magnitude, so that of fp8 e4m3 what lies in (448, 512) is not counted.

    Args:
        histogram: counts of binary exponents, as `exponents` gives them.
        count_nonzero: non-zero finite entries of the whole tensor.
        backward: whether fp8 is e5m2, the format of gradients, and not e4m3.

    Returns:
        `share_<format>_underflow` and `share_<format>_overflow`; `None` without non-zero entries.
    """
    formats = {"fp16": FP16, "bf16": BF16, "fp8": FP8_E5M2 if backward else FP8_E4M3}
    result: dict[str, Number] = {}
    for name, (smallest, largest) in formats.items():
        first = math.frexp(smallest)[1] - 1 - EXPONENT_LOW
        beyond = math.frexp(largest)[1] - EXPONENT_LOW
        result[f"share_{name}_underflow"] = _share(histogram[:first], count_nonzero)
        result[f"share_{name}_overflow"] = _share(histogram[beyond:], count_nonzero)
    return result


def _share(counts: Sequence[int], total: float) -> Number:
    # The counts of a sampled histogram are rounded, and may add up to a little more than the total.
    return min(1.0, sum(counts) / total) if total else None
