"""A result: what one run of an experiment measured, and everything needed to do it again."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isograd.errors import DataError

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


FAULTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What settings that make no sense end in."""


@dataclass(frozen=True)
class Result:
    """Numbers and series of one run; strict JSON holds all of it."""

    experiment: str
    scale: str
    """fast, standard or full; `custom` where a setting was changed by hand."""
    settings: Mapping[str, Any]
    seed: int
    data: str | None
    """The data set used; None where none is needed."""
    device: str
    numbers: Mapping[str, float]
    series: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    """What was done otherwise than asked for, such as another data set."""
    made_with: Mapping[str, str] | None = None
    """Versions of isograd and torch; on a GPU its name and the date too."""


def to_json(result: Result) -> str:
    """Strict JSON; what is not finite becomes "nan", "inf" or "-inf"."""
    rows = [
        f"  {json.dumps(key)}: {json.dumps(_strict(value), allow_nan=False, ensure_ascii=False)}"
        for key, value in asdict(result).items()
    ]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def from_json(text: str, where: str | Path = "result") -> Result:
    """The result that `to_json` wrote.

    Raises:
        DataError: the text is no result.
    """
    try:
        told = json.loads(text)
        told["numbers"] = {key: _number(value) for key, value in told["numbers"].items()}
        told["series"] = _unplain(told["series"])
        told["notes"] = tuple(told["notes"])
        return Result(**told)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{where}: this is not a result of the lab ({type(error).__name__}: {error}); "
            "write it again with `isograd lab run`"
        ) from error


def plain(value: Any) -> Any:
    """Tensors, arrays and tuples as lists, numbers of any kind as Python's own."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _number(value: float | str) -> float:
    return _NOT_FINITE[value] if isinstance(value, str) else value


def _unplain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unplain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unplain(item) for item in value]
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
