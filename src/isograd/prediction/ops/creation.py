"""New tensors shaped or typed as another: known values, and noise."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch

from isograd.prediction.moments.known import constant, independent
from isograd.prediction.ops import Op, Outcome

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

_VALUES = {"zeros": 0.0, "ones": 1.0, "empty": 0.0}
_NOISE = {"randn_like": (0.0, 1.0), "rand_like": (0.5, 1 / 12)}
"""Mean and variance."""
_MOST = 1_000_000
"""Entries up to which values are kept, so that masks and positions may be made of them."""


class Creation(Op):
    """Nothing of the other tensor but its shape and type goes in."""

    code = "creation"
    functions = tuple(
        "new_empty new_zeros new_ones new_full new_tensor empty_like zeros_like ones_like "
        "full_like rand_like randn_like".split()
    )
    source = "no arithmetic"

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        with torch._C.DisableTorchFunction():
            dtype = kwargs.get("dtype") or x.dtype
            if call.name in _NOISE:
                return Outcome(independent(tuple(x.shape), *_NOISE[call.name]), dtype=dtype)
            if call.name == "new_tensor":
                return Outcome(torch.tensor(args[0] if args else kwargs["data"], dtype=dtype))
            shape, value = _asked(call.name, x, args, kwargs)
            if prod(shape) > _MOST and dtype.is_floating_point:
                return Outcome(constant(shape, float(value)), dtype=dtype)
            return Outcome(torch.full(shape, value, dtype=dtype))


def _asked(
    name: str, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[int, ...], Any]:
    """(shape, value) of the new tensor."""
    rest = list(args)
    if name.endswith("_like"):
        shape, kind = tuple(x.shape), name.removesuffix("_like")
    else:
        kind = name.removeprefix("new_")
        if rest and not isinstance(rest[0], int):
            shape = tuple(rest.pop(0))
        elif kind == "full" or not rest:
            shape = tuple(kwargs["size"])
        else:
            shape, rest = tuple(rest), []
    if kind != "full":
        return shape, _VALUES[kind]
    return shape, rest[0] if rest else kwargs["fill_value"]
