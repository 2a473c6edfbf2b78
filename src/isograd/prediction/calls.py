"""Names of torch functions, and Python-level ones taken apart."""

from __future__ import annotations

import types
from typing import Any

_IN_PLACE = frozenset("add sub mul truediv pow matmul and or xor".split())
_COPIES: dict[Any, Any] = {}


def plain_name(name: str) -> tuple[str, bool]:
    """A function's name without decoration, and whether it works in place."""
    if name.startswith("__") and name.endswith("__"):
        inner = name.strip("_")
        if inner == "setitem":
            return inner, True
        in_place = inner.startswith("i") and inner[1:] in _IN_PLACE
        return (inner[1:] if in_place else inner), in_place
    if name.endswith("_") and not name.startswith("_"):
        return name.rstrip("_"), True
    return name.lstrip("_"), False


def unwrapped(function: Any) -> Any:
    """A Python-level torch function that does not hand itself over again."""
    found = _COPIES.get(function)
    if found is None:
        space = dict(function.__globals__)
        for key in space:
            if key.startswith("has_torch_function"):
                space[key] = _never
        found = types.FunctionType(
            function.__code__, space, function.__name__, function.__defaults__, function.__closure__
        )
        found.__kwdefaults__ = function.__kwdefaults__
        _COPIES[function] = found
    return found


def _never(*_: Any) -> bool:
    return False
