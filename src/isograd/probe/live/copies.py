"""Copies: hooks that watch a model are in no copy of it, and in no file."""

from collections import OrderedDict
from functools import partial
from typing import Any

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_ABOUT = (
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
"""Where a module keeps its hooks, and what it notes of some of them."""


def without_hooks(found: Any) -> Any:
    """What a module's `__reduce_ex__` returns, without the hooks of ours in it."""
    if type(found) is tuple:
        return tuple(map(without_hooks, found))
    if not isinstance(found, dict) or not all(isinstance(found.get(k), dict) for k in _HOOKS):
        return found
    ours = {number for key in _HOOKS for number, hook in found[key].items() if _is_ours(hook)}
    if not ours:
        return found
    kept = {
        key: OrderedDict((k, v) for k, v in found[key].items() if k not in ours)
        for key in (*_HOOKS, *_ABOUT)
        if isinstance(found.get(key), dict)
    }
    return {**found, **kept}


def _is_ours(hook: Any) -> bool:
    hook = hook.func if isinstance(hook, partial) else hook
    where = str(getattr(hook, "__module__", None))
    native = getattr(hook, "__qualname__", "") == "tuple.forward"
    return native or where.startswith(("isograd.probe.", "isograd.sites."))
