"""Truth values, and choices by them: where, and, or, not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isograd.prediction.functions.gaussian import Nodes
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.samples import origin_of
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.arithmetic import _number, _where
from isograd.prediction.ops.elementwise import as_nodes, evaluated, of_one, outcome
from isograd.prediction.sampling import sampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call

_LOGIC = {"and": torch.logical_and, "or": torch.logical_or, "xor": torch.logical_xor}
_NOT = frozenset("invert bitwise_not".split())


class Choices(Op):
    """Functions of the same field node by node; a known condition by its own moments."""

    code = "choices"
    functions = (
        "where",
        *(f"{kind}{name}" for kind in ("", "logical_", "bitwise_") for name in _LOGIC),
        *sorted(_NOT),
    )
    source = "second moments of products with truth values"

    def apply(self, call: Call, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        if call.name == "where":
            return _choice(call, *args, **kwargs)
        if call.name in _NOT:
            found = of_one(call, call.field(args[0]), torch.logical_not, call.name)
        else:
            function = _LOGIC[call.name.rpartition("_")[2]]
            found = _by_node(call, function, args) or sampled(call, *args)
        found.dtype = torch.bool
        return found


def _choice(call: Call, *args: Any, **kwargs: Any) -> Outcome:
    """`torch.where(condition, x, y)` or `x.where(condition, y)`."""
    given = (*args, *(kwargs[name] for name in ("input", "self", "other") if name in kwargs))
    is_method = getattr(call.function, "__objclass__", None) is not None
    condition, x, y = (given[1], given[0], given[2]) if is_method else given
    if call.known(condition):
        return _where(call, condition, x, y)
    return _by_node(call, _chosen, (condition, x, y)) or sampled(call, *given)


def _chosen(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition > 0.5, x, y)


def _by_node(call: Call, function: Callable[..., Tensor], args: Any) -> Outcome | None:
    """A function of numbers and functions of one field; None if there are several fields."""
    numbers = [_number(call, value) for value in args]
    fields = [
        None if number is not None else call.field(value)
        for value, number in zip(args, numbers, strict=True)
    ]
    first = next((f for f in fields if f is not None), None)
    if first is None or not all(f is None or _alike(first, f) for f in fields):
        return None
    origin, _, _, quadrature = as_nodes(first)
    values: list[Array] = []
    slopes: list[Array] = []
    for f, number in zip(fields, numbers, strict=True):
        _, value, slope, _ = as_nodes(first if f is None else f)
        values.append(value if f is not None else np.full_like(value, number or 0.0))
        slopes.append(slope if f is not None else np.zeros_like(slope))
    found, *by = evaluated(function, *values)
    inputs = [(f, one) for f, one in zip(fields, by, strict=True) if f is not None]
    total = np.sum([one * slope for one, slope in zip(by, slopes, strict=True)], axis=0)
    return outcome(call, origin, Nodes(quadrature, found, total), inputs)


def _alike(one: Field, other: Field) -> bool:
    return origin_of(one) is origin_of(other) and one.shape == other.shape
