"""Largest and smallest entries along whole axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.windows import Windows
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.arithmetic import several
from isograd.prediction.ops.elementwise import of_one
from isograd.prediction.ops.layout import relaid
from isograd.prediction.ops.pooling import Pooling, maximum

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


class Extremes(Op):
    """A single window over the axes; of two tensors, the larger entry of each pair."""

    code = "extremes"
    functions = ("amax", "amin", "max", "min")
    source = Pooling.source

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        named = call.name in ("max", "min")
        given = dict(zip(("dim", "keepdim"), args, strict=False)) | kwargs
        if isinstance(given.get("dim"), Tensor) or "other" in given:
            call.name = {"max": "maximum", "min": "minimum"}[call.name]
            return several(call, x, given.get("other", given.get("dim")))
        dim, keep = given.get("dim", given.get("axis")), bool(given.get("keepdim", False))
        smallest = call.name.endswith("min")
        found = _extreme(call, call.field(x), _axes(dim, call.field(x)), keep, smallest=smallest)
        if named and dim is not None:  # with the indices, that are never known
            kind = torch.return_types.min if smallest else torch.return_types.max
            return _with_indices(found, kind)
        return found


def _extreme(call: Call, f: Field, axes: list[int], keep: bool, *, smallest: bool) -> Outcome:
    shape = f.shape
    rest = [axis for axis in range(len(shape)) if axis not in axes]

    def step(outcome: Outcome) -> Field:
        call.run.record("layout", "", outcome)
        field: Field = outcome.out
        return field

    if smallest:
        f = step(of_one(call, f, torch.neg))
    windows = tuple(Windows(shape[axis], ((0, shape[axis]),)) for axis in axes)
    top = step(maximum(call, f, windows, [*rest, *axes]))
    kept = [1 if axis in axes else n for axis, n in enumerate(shape)]
    target = tuple(kept) if keep else tuple(shape[axis] for axis in rest)
    start = top.shape
    if smallest:
        top = step(of_one(call, top, torch.neg))
    return relaid(call, top, lambda g: g.reshaped(target), lambda g: g.reshaped(start))


def _with_indices(found: Outcome, kind: Any) -> Outcome:
    """Two outputs; the second holds whole numbers that are never computed."""
    alone = found.back

    def back(gradients: list[Field | None]) -> Any:
        gradient = gradients[0]
        return [] if gradient is None or alone is None else alone(gradient)

    with torch._C.DisableTorchFunction():
        unknown = torch.empty(found.out.shape, dtype=torch.int64, device="meta")
    return Outcome(kind((found.out, unknown)), back, found.inputs, formula=found.formula)


def _axes(dim: Any, f: Field) -> list[int]:
    number = len(f.groups)
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return list(range(number))
    given = [dim] if isinstance(dim, int) else dim
    return sorted(axis % number for axis in given)
