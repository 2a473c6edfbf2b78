"""Given values: what a model does to its inputs before its first parameter is computed as well.

Columns of a table have means and scales of their own; a field knows only what they have in common.
Where a model takes them away by numbers that it knows (`(x - mean) / std`), moments of the result
are counted, not followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from isograd.prediction.calls import plain_name
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import empirical
from isograd.sites.batches import tensors

if TYPE_CHECKING:
    from isograd.prediction.ops import Outcome
    from isograd.prediction.propagation import Propagation

GIVEN = "given"
"""Note of the field of an input, and of what was made of it by known numbers: the values."""

_FOLLOWED = frozenset(
    "add sub rsub mul div truediv true_divide divide subtract multiply matmul mm clamp clip abs "
    "view reshape flatten unflatten permute transpose t T mT swapaxes movedim unsqueeze squeeze "
    "expand contiguous clone detach to float double half type_as getitem".split()
)
"""By their plain names; nothing here is drawn."""


def follow(
    run: Propagation, function: Any, args: Any, kwargs: Mapping[str, Any], outcome: Outcome
) -> None:
    """Computes an operation on given values, and counts its moments if it read a known array.

    Args:
        run: under way.
        function: the torch function.
        args: its arguments.
        kwargs: its arguments by name.
        outcome: what its rule made of the fields; its result gets the moments that are counted.
    """
    name, in_place = plain_name(getattr(function, "__name__", ""))
    out = outcome.out
    if name not in _FOLLOWED or not isinstance(out, Field):
        return
    read = list(tensors((args, kwargs)))
    values = [_value(run, tensor) for tensor in read]
    if not any(field_of is not None for field_of in map(run.field_of, read)):
        return
    if any(value is None for value in values):
        return
    at = {id(tensor): value for tensor, value in zip(read, values, strict=True)}

    def swap(tensor: Tensor) -> Tensor:
        value = at[id(tensor)]
        assert value is not None
        return value.clone() if in_place and tensor is args[0] else value

    with torch._C.DisableTorchFunction(), torch.no_grad():
        result = function(*tree_map_only(Tensor, swap, args), **tree_map_only(Tensor, swap, kwargs))
    if any(out is field for field in map(run.field_of, read)) or out.shape != tuple(result.shape):
        return
    out.notes[GIVEN] = result
    if any(run.field_of(tensor) is None and tensor.numel() > 1 for tensor in read):
        counted = empirical(result.double().cpu().numpy(), out.cuts)
        out.second, out.mean = counted.second, counted.mean


def _value(run: Propagation, tensor: Tensor) -> Tensor | None:
    field = run.field_of(tensor)
    if field is not None:
        return field.notes.get(GIVEN)
    return tensor.detach() if run.is_known(tensor) else None
