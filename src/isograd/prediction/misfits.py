"""Misfits: calls that torch itself would refuse, because shapes do not fit or ids are too large.

Rules compute with moments and would not always notice. What torch says of a call is asked of
tensors on the meta device, once per combination of shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_CHECKED = frozenset(
    "linear matmul bmm mm addmm baddbmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
    "conv_transpose3d expand mean sum var std var_mean amax amin softmax log_softmax layer_norm "
    "cat stack flatten chunk split select narrow unflatten transpose permute".split()
)
"""Functions whose shapes are looked at before their rule runs."""
_SEEN_AT_MOST = 10_000


class Misfits:
    """Asks torch about calls, and remembers which are fine."""

    def __init__(self) -> None:
        self._fine: set[Any] = set()

    def find(self, name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> str:
        """What torch would say against a call; empty where it would run, or nobody knows."""
        if name == "embedding":
            return _too_large(args, kwargs)
        if name not in _CHECKED and not _is_plain_index(name, args):
            return ""
        try:
            key = (name, _key(args), _key(tuple(sorted(kwargs.items()))))
            if key in self._fine:
                return ""
        except TypeError:  # an argument that cannot be looked up
            return ""
        said = refused(function, args, kwargs)
        if not said and len(self._fine) < _SEEN_AT_MOST:
            self._fine.add(key)
        return said


def refused(function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """The first line of what torch raises on tensors of the same shapes; empty where it runs."""
    try:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            function(*_copies(args), **_copies(kwargs))
    except NotImplementedError:
        return ""
    except (RuntimeError, IndexError, ValueError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    except Exception:
        return ""
    return ""


def _copies(value: Any) -> Any:
    """The same arguments with empty tensors; types are left to the rules, all numbers are float."""
    if isinstance(value, Tensor):
        real = value.is_floating_point()
        dtype = torch.float32 if real else value.dtype
        return torch.empty(value.shape, dtype=dtype, device="meta")
    if isinstance(value, dict):
        return {key: _copies(item) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_copies(item) for item in value)
    if isinstance(value, torch.device):
        return torch.device("meta")
    return torch.float32 if isinstance(value, torch.dtype) else value


def _key(value: Any) -> Any:
    if isinstance(value, Tensor):
        with torch._C.DisableTorchFunction():
            return value.shape, value.is_floating_point()
    if isinstance(value, (tuple, list)):
        return tuple(_key(item) for item in value)
    if isinstance(value, slice):
        return "slice", value.start, value.stop, value.step
    hash(value)
    return value


def shapes(args: Any) -> str:
    """`4×5 by 7×3`: the tensors among arguments."""
    with torch._C.DisableTorchFunction():
        found = ["×".join(map(str, one.shape)) or "a number" for one in args if _is_tensor(one)]
    return " by ".join(found[:2])


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _is_plain_index(name: str, args: Any) -> bool:
    """Whether it is x[…] by numbers and slices."""
    if name not in ("getitem", "__getitem__") or len(args) != 2:
        return False
    parts = args[1] if isinstance(args[1], tuple) else (args[1],)
    return all(part is None or part is Ellipsis or type(part) in (int, slice) for part in parts)


def _too_large(args: Any, kwargs: Any) -> str:
    """Ids that an embedding does not have."""
    named = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    ids, weight = named.get("input"), named.get("weight")
    if not isinstance(ids, Tensor) or not isinstance(weight, Tensor):
        return ""
    with torch._C.DisableTorchFunction():
        if ids.is_meta or ids.is_floating_point() or not ids.numel():
            return ""
        low, high = (int(end) for end in ids.aminmax())
        if low >= 0 and high < weight.shape[0]:
            return ""
    return f"ids from {low} to {high}, where the table has {weight.shape[0]} rows, from 0"
