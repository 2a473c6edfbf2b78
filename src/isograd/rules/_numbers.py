"""Numbers of a record that a judgement can rest on: finite, or None."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from isograd.records import Record


def finite(value: Any) -> float | None:
    """The value as a float if it is one finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def fact(record: Record, key: str) -> float | None:
    """A fact of the record as a finite number."""
    return finite(record.fact(key))


def middle(values: Iterable[float]) -> float | None:
    """The median, `None` of nothing."""
    kept = list(values)
    return median(kept) if kept else None


def dependence(record: Record) -> float | None:
    """How much the outputs depend on the inputs: spread over samples over rms; 0 if constant.

    Taken over many samples the largest value is 1.
    """
    spread, rms = fact(record, "output.spread"), fact(record, "output.rms")
    if spread is None or rms is None or (fact(record, "batch.size") or 0) < 2:
        return None
    return spread / rms if rms > 0 else 0.0


def first_update(record: Record) -> float | None:
    """Median over the weights of the first update's size relative to the weight."""
    column = record.pairs("weight.update_ratio")
    return middle(v for i, v in column if record.parameters[i].is_weight)


def show(value: float) -> str:
    """The number with three significant digits."""
    return f"{value:.3g}"


def counted(number: int, noun: str) -> str:
    """`1 look`, `2 looks`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def sizes(value: Any) -> tuple[int, ...]:
    """A fact that is a shape, empty where it is anything else."""
    given = value if isinstance(value, (list, tuple)) else ()
    return tuple(given) if all(isinstance(n, int) for n in given) else ()


def words(value: Any) -> tuple[str, ...]:
    """A fact that is a list of words, empty where it is anything else."""
    return tuple(str(word) for word in value) if isinstance(value, (list, tuple)) else ()


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first few of several names, for a message; evidence holds them all."""
    return ", ".join(names[:shown]) + (", …" if len(names) > shown else "")
