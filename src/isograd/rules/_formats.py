"""The range of the floating-point formats a model may compute in."""

from dataclasses import dataclass

from isograd.records import Record


@dataclass(frozen=True)
class Format:
    """A floating-point format: IEEE 754 binary16 and binary32, bfloat16, binary64."""

    name: str
    largest: float
    """Largest finite number."""
    smallest_exponent: int
    """Binary exponent of the smallest subnormal."""
    normal_exponent: int
    """Binary exponent of the smallest number with full precision."""


_FORMATS = (
    Format("bfloat16", 3.3895313892515355e38, -133, -126),
    Format("float16", 65504.0, -24, -14),
    Format("float32", 3.4028234663852886e38, -149, -126),
    Format("float64", 1.7976931348623157e308, -1074, -1022),
)

FULL = _FORMATS[2]
"""What training computes in unless told otherwise."""


def format_of(record: Record) -> Format:
    """The format of the model; float32 where the record does not say."""
    dtype = str(record.fact("model.dtype"))
    return next((f for f in _FORMATS if f.name in dtype), FULL)
