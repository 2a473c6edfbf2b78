"""Names of torch functions, and Python-level ones taken apart."""

from __future__ import annotations

import types
from typing import Any

import torch
from torch._ops import OpOverload, OpOverloadPacket

PLAIN = frozenset(
    "shape dtype ndim requires_grad grad grad_fn is_leaf layout size dim numel stride "
    "is_contiguous is_floating_point is_complex element_size nelement ndimension itemsize "
    "requires_grad_ is_sparse is_quantized is_nested is_mkldnn storage_offset names "
    "is_inference _version __hash__ __len__ register_hook retain_grad retains_grad "
    "output_nr is_same_size is_signed has_names is_conj is_neg __dir__ __repr__ __format__".split()
)
"""Answered by the meta tensor itself."""
DEVICE = {"device": torch.device("cpu"), "is_meta": False, "is_cpu": True, "is_cuda": False}
"""What an abstract tensor says of itself: models ask, to put masks and positions beside it."""
VALUES = frozenset(
    "item tolist numpy __bool__ __int__ __float__ __index__ __array__ nonzero unique equal "
    "allclose is_nonzero data_ptr".split()
)
"""Need values, which an abstract tensor does not have."""
_IN_PLACE = frozenset("add sub mul truediv pow matmul and or xor".split())
_COPIES: dict[Any, Any] = {}


def function_name(function: Any) -> str:
    """Of a torch function; that of the attribute, where it reads one of a tensor.

    Operations of other libraries than torch bear theirs: `own::squared_relu`.
    """
    if isinstance(function, (OpOverload, OpOverloadPacket)):
        packet = function.overloadpacket if isinstance(function, OpOverload) else function
        return packet._qualified_op_name.removeprefix("aten::")
    name: str = getattr(function, "__name__", "")
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", "")
    elif name == "__set__" and function.__self__ is torch.Tensor.requires_grad:
        name = "requires_grad_"
    return name


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
