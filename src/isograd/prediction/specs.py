"""Types and shapes of inputs, written as text; read without torch."""

import math
import re
from dataclasses import dataclass

from isograd.errors import DataError

FLOATS = ("float32", "float64", "float16", "bfloat16")
TYPES = (*FLOATS, "int64", "int32", "bool")
_SHORT = {"float": "float32", "int": "int64"}
_SPEC = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)\s*=\s*)?(?P<dtype>[a-z]+\d*)\s*\[(?P<shape>[\d,\s]*)\]"
    r"\s*(?:<\s*(?P<below>\d+))?"
)


@dataclass(frozen=True)
class Spec:
    """One input."""

    dtype: str
    """One of TYPES."""
    shape: tuple[int, ...]
    name: str | None = None
    """Keyword under which the model takes it; by position where there is none."""
    below: int | None = None
    """Whole numbers are drawn from 0 to one less."""


def parse(text: str) -> tuple[list[Spec], Spec | None]:
    """The inputs that a text names, and the targets behind an arrow.

    `float32[32,3,224,224] -> int64[32]<1000`; several inputs are joined by `;`, each with `name=`
    in front where the model takes it by keyword: `ids=int64[2,128]<50257; mask=bool[2,128]`.

    Raises:
        DataError: a part of it is no type and shape, or whole numbers without a bound.
    """
    inputs, arrow, targets = text.partition("->")
    target = _one(targets.strip()) if arrow else None
    if target is not None and target.name is not None:
        raise DataError(f"--input {text!r}: targets have no name; write -> {targets.split('=')[1]}")
    return [_one(item.strip()) for item in inputs.split(";")], target


def _one(item: str) -> Spec:
    found = _SPEC.fullmatch(item)
    dtype = None if found is None else _SHORT.get(found["dtype"], found["dtype"])
    if found is None or dtype not in TYPES:
        raise DataError(
            f"--input {item!r}: expected a type and a shape such as float32[32,3,224,224] or "
            f"int64[2,128]<50257; types: {', '.join(TYPES)}"
        )
    shape = tuple(int(size) for size in found["shape"].split(",") if size.strip())
    if 0 in shape:
        raise DataError(f"--input {item!r}: an axis of length 0 holds nothing to predict from")
    if math.prod(shape) >= 2**63:
        raise DataError(f"--input {item!r}: no tensor has 2**63 entries or more; give fewer")
    whole = dtype.startswith("int")
    if whole and not int(found["below"] or 0):
        raise DataError(
            f"--input {item!r}: whole numbers need a bound of 1 or more: "
            f"{item.partition('<')[0].strip()}<1000 draws them from 0 to 999"
        )
    if found["below"] and not whole:
        raise DataError(f"--input {item!r}: a bound is for whole numbers, such as int64[2,128]<9")
    return Spec(dtype, shape, found["name"], int(found["below"]) if whole else None)
