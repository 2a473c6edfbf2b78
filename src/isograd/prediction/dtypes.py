"""Dtypes: which one comes out of a call, and calls that torch would refuse for unlike ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isograd.prediction.misfits import error, exact_copies, refused
from isograd.sites.batches import listed

if TYPE_CHECKING:
    from isograd.prediction.propagation import Propagation

_CURE = "give inputs of the dtype that the model has, or convert one of them by .to()"
_LAYER = ("input", "weight", "bias")
_CELL = ("input", "hx", "weight")
_OPERANDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("linear conv1d conv2d conv3d conv_tbc".split(), _LAYER),
    **dict.fromkeys((f"conv_transpose{d}d" for d in (1, 2, 3)), _LAYER),
    **dict.fromkeys((f"{kind}_cell" for kind in "lstm gru rnn_tanh rnn_relu".split()), _CELL),
    **dict.fromkeys(
        "matmul rmatmul linalg_matmul mm bmm mv dot cdist".split(), ("first", "second")
    ),
    **dict.fromkeys("addmm addmv addbmm baddbmm".split(), ("summand", "first", "second")),
    "scaled_dot_product_attention": ("query", "key", "value"),
    "layer_norm": ("input", "", "weight", "bias"),
    "group_norm": ("input", "", "weight", "bias"),
    "batch_norm": ("input", "", "", "weight", "bias"),
}
"""Operands that have to be of one dtype, in the order of the arguments."""
_NORMS = frozenset("layer_norm group_norm batch_norm".split())
_SHORT = frozenset({torch.float16, torch.bfloat16})
"""Inputs that norms take with weights of float32."""
_ASKED = frozenset("einsum tensordot inner bilinear prelu lerp multi_dot".split())
"""Functions that refuse some pairs of dtypes, which torch says itself on the meta device."""


def check(
    run: Propagation, name: str, function: Callable[..., Any], args: Any, kwargs: Any
) -> None:
    """Refuses a call that torch would refuse because dtypes differ.

    Not under autocast, nor behind it: which dtypes it gives is not followed.

    Args:
        run: under way.
        name: of the function.
        function: to be called.
        args: of the call.
        kwargs: of the call.

    Raises:
        ModelError: the call would fail; it says what is of which dtype.
    """
    roles = _OPERANDS.get(name)
    if roles is None and name not in _ASKED:
        return
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        run.cast = True
    with torch._C.DisableTorchFunction():
        if roles is None:
            said = torchs_own(function, args, kwargs)
        else:
            said = _unlike(name, roles, args, kwargs)
    if said and not run.cast and not _in_autocast():
        raise error(name, args, said, run.where(), _CURE)


def _unlike(name: str, roles: tuple[str, ...], args: Any, kwargs: Any) -> str:
    """What is of which dtype, where two operands differ: `the input is …, the weight …`."""
    first = None
    for place, role in enumerate(roles):
        value = args[place] if place < len(args) else kwargs.get(role)
        if not role or not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        if first is None:
            first = role, value.dtype
        elif value.dtype is not first[1]:
            if name in _NORMS and first[1] in _SHORT and value.dtype is torch.float32:
                continue
            return f"the {first[0]} is {_name(first[1])}, the {role} {_name(value.dtype)}"
    return ""


def torchs_own(function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """What torch says against a call whose operands differ in dtype; empty where it runs."""
    kinds = {one.dtype for one in listed(args, kwargs) if one.is_floating_point()}
    return refused(function, args, kwargs, exact_copies) if len(kinds) > 1 else ""


def _in_autocast() -> bool:
    """Whether a block of autocast is open, also one for a device that is not here."""
    depth = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return bool(depth > 1)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def of_result(
    run: Propagation, function: Callable[..., Any], args: Any, kwargs: Any
) -> torch.dtype:
    """The dtype that comes out of a call; torch is asked only where those of floats differ.

    Args:
        run: under way.
        function: that is called.
        args: of the call.
        kwargs: of the call.
    """
    asked = kwargs.get("dtype")
    if isinstance(asked, torch.dtype):
        return asked
    with torch._C.DisableTorchFunction():
        given = [value for value in listed(args, kwargs) if value.is_floating_point()]
        if not given:
            return torch.get_default_dtype()
        first = next((one for one in given if run.field_of(one) is not None), given[0]).dtype
        if all(one.dtype is first for one in given):
            return first
        try:
            with torch.no_grad():
                out = function(*exact_copies(args), **exact_copies(kwargs))
        except Exception:
            return first
        return next((one.dtype for one in listed((out,), {}) if one.is_floating_point()), first)
