"""Hooks around native readers: the usual case is read without a line of Python."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from isograd.statistics._extension import extension


class Shared(NamedTuple):
    """Addresses of what a hook looks at and changes; whoever owns it outlives the hook."""

    state: int
    """Two float64: whether hooks do nothing, and the seconds that they have taken."""
    thorough: int
    """uint8: whether everything is left to Python."""
    seen: int
    """uint8: whether an output was read already; the hook of a module says so."""


def forward_hook(
    shared: Shared,
    read: Callable[[Tensor], bool],
    slow: Callable[..., None],
    back: Callable[[Tensor], None],
    *,
    modes: bool,
) -> Callable[..., None]:
    """A hook of a module: reads its output, once, and has `back` called with the gradient.

    Args:
        shared: what it shares with its owner.
        read: a reader of a native table.
        slow: is called in its place in every other case, errors included.
        back: a hook of the output.
        modes: whether a torch function mode of ours may be on, which is to see nothing of it.
    """
    native = extension()
    assert native is not None, "there is a reader"
    quiet = torch._C.DisableTorchFunction if modes else None
    hook: Callable[..., None] = native.forward_hook(*shared, read, slow, back, quiet)
    return hook


def gradient_hook(
    shared: Shared, read: Callable[[Tensor], bool], slow: Callable[[Tensor], Any]
) -> Callable[[Tensor], None]:
    """A hook of a tensor, likewise: reads its gradient."""
    native = extension()
    assert native is not None, "there is a reader"
    hook: Callable[[Tensor], None] = native.gradient_hook(*shared, read, slow, None, None)
    return hook
