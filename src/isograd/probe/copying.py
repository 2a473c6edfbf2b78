"""Copies of networks: what a deep copy of a model need not look into."""

import copy
import copyreg
import itertools
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

_ATOMS = frozenset({type(None), bool, int, float, str})
"""Types of which a deep copy is the object itself."""
_DICTS = frozenset({dict, OrderedDict})
_EMPTY = frozenset({*_DICTS, set})
_COMPILED = "_compiled_call_impl"
"""What torch itself leaves out of a module's state."""


def known_copies(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[Any, Any]:
    """What a deep copy of a model need not look into, as its memo: most of its time.

    Copies of buffers and of what an optimizer of it remembers, each with the memory that it fills:
    what shares that memory shares that of the copy. And copies of all modules that are copied
    attribute by attribute, as torch's own are; weights that hooks compute are copied without
    their history, which torch itself refuses to do.

    Raises:
        Exception: whatever a deep copy of an attribute raises.
    """
    memo: dict[Any, Any] = {"torch": {}}  # where torch looks for the memory that it has copied
    modules = list(model.modules())
    kept = [vars(module).get("_buffers", {}) for module in modules]
    if optimizer is not None:
        kept += [state for state in optimizer.state.values() if type(state) is dict]
    for value in itertools.chain.from_iterable(table.values() for table in kept):
        if type(value) is not torch.Tensor or not _plain(value):
            continue
        memory = value.untyped_storage()._cdata
        if memory not in memo["torch"]:
            twin = memo[id(value)] = value.clone()
            memo["torch"][memory] = twin.untyped_storage()
    usual, kinds = list[tuple[dict[str, Any], dict[str, Any]]](), dict[type, bool]()
    for module in modules:  # all of them first: an attribute may be another module
        kind = type(module)
        if kind not in kinds:
            kinds[kind] = _usual(kind)
        if kinds[kind] and not hasattr(module, "__deepcopy__"):
            memo[id(module)] = object.__new__(kind)
            usual.append((vars(module), vars(memo[id(module)])))
    for given, made in usual:
        for name, value in given.items():
            if type(value) in _ATOMS:
                made[name] = value
            elif type(value) is torch.Tensor and not value.is_leaf and _by_hook(given, name):
                made[name] = memo[id(value)] = value.detach().clone()
            elif type(value) in _EMPTY and not value and id(value) not in memo:
                made[name] = memo[id(value)] = type(value)()
            elif name != _COMPILED:
                made[name] = _copied(value, memo)
    return memo


def _by_hook(given: dict[str, Any], name: str) -> bool:
    """Whether a hook computes an attribute before each forward, as torch's older weight norm."""
    hooks = given.get("_forward_pre_hooks", {}).values()
    return any(name in (getattr(h, "name", ""), getattr(h, "_tensor_name", "")) for h in hooks)


def _copied(value: Any, memo: dict[Any, Any]) -> Any:
    """A deep copy of an attribute of a module."""
    known = memo.get(id(value))
    if known is not None:
        return known
    kind = type(value)
    if kind in _DICTS:
        twin: Any = kind()
        memo[id(value)] = twin
        for key, item in value.items():
            place = key if type(key) in _ATOMS else copy.deepcopy(key, memo)
            twin[place] = item if type(item) in _ATOMS else _copied(item, memo)
        return twin
    if kind is nn.Parameter and not vars(value):
        return value.__deepcopy__(memo)
    return copy.deepcopy(value, memo)


def _usual(kind: Any) -> bool:
    """Whether a deep copy of a module is one of its attributes, made without its constructor."""
    return (
        not issubclass(kind, torch.jit.ScriptModule)
        and kind.__setstate__ is nn.Module.__setstate__
        and kind.__getstate__ is nn.Module.__getstate__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__new__ is object.__new__
        and not hasattr(kind, "__getnewargs__")
        and not hasattr(kind, "__getnewargs_ex__")
        and kind not in copyreg.dispatch_table
        and not any("__slots__" in vars(one) for one in kind.__mro__)
    )


def _plain(tensor: torch.Tensor) -> bool:
    """Whether a clone is all that a deep copy would make of a tensor."""
    return (
        tensor.layout == torch.strided
        and tensor.device.type in ("cpu", "cuda")
        and not tensor.requires_grad
        and not tensor.is_quantized
        and not tensor.is_inference()
        and not tensor.is_conj()
        and not tensor.is_neg()
        and not vars(tensor)
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    )
