"""Entrances: where a training loop enters a model that it never calls as a whole."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from isograd.probe.live.shield import Shield
from isograd.probe.live.steps import inside_backward


class Entered(Protocol):
    """Told that a part is called."""

    def __call__(self, part: nn.Module, args: Any, kwargs: Any, *, first: bool) -> None:
        """`first`: it is the part with which a forward begins."""


class Entrances:
    """Hooks on the parts of a model, of which the outermost one that runs is told of.

    A loop may call `model.encoder` and `model.decoder`, and never `model`. After the first step
    only those parts keep their hooks through which it came in.

    Args:
        model: the plain module.
        guard: makes a hook that cannot raise.
        entering: called with a part and the arguments of its call.
        left: called with its outputs.
    """

    def __init__(
        self, model: nn.Module, guard: Shield, entering: Entered, left: Callable[[Any], None]
    ) -> None:
        self._model, self._guard = model, guard
        self._told, self._told_left = entering, left
        self._hooks: dict[nn.Module, list[Any]] = {}
        self._under_way: nn.Module | None = None
        self._first: nn.Module | None = None
        self._used: set[nn.Module] = set()
        self._settled = False

    def open(self) -> None:
        """Hooks all parts, except for those that are compiled with what is found on them."""
        for module in self._model.modules():
            takes_none = isinstance(module, torch.jit.ScriptModule)
            if module is not self._model and module._compiled_call_impl is None and not takes_none:
                enter = module.register_forward_pre_hook(
                    self._guard(self._entering), with_kwargs=True
                )
                leave = module.register_forward_hook(self._guard(self._left), always_call=True)
                self._hooks[module] = [enter, leave]

    def settle(self) -> None:
        """A step is over: no other parts than those used so far are looked at from here on."""
        self._under_way = None
        if not self._settled and self._used:
            self.prune()

    def prune(self) -> None:
        """Takes the hooks off all parts that the loop has not called."""
        self._settled = True
        for module in set(self._hooks) - self._used:
            self._unhook(module)

    def remove(self) -> None:
        """Takes everything off."""
        self._under_way = None
        for module in list(self._hooks):
            self._unhook(module)

    def _unhook(self, module: nn.Module) -> None:
        for hook in self._hooks.pop(module):
            hook.remove()

    def _entering(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self._under_way is not None or not torch.is_grad_enabled() or inside_backward():
            return
        self._under_way = module
        self._used.add(module)
        if self._first is None:
            self._first = module
        self._told(module, args, kwargs, first=module is self._first)

    def _left(self, module: nn.Module, _: Any, outputs: Any) -> None:
        if module is self._under_way:
            self._under_way = None
            self._told_left(outputs)
