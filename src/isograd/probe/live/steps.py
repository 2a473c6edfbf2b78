"""Steps: sees backwards, losses, loss scales and optimizer steps without a line in the loop."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from isograd.probe.live.copies import without_hooks


class Listener(Protocol):
    """Who is told what the loop does."""

    def backward_begins(self, loss: Tensor | None, scale: Callable[[], float]) -> None:
        """A backward of this loss begins.

        Args:
            loss: without the scale.
            scale: reads what a GradScaler multiplied it by, for which a device is waited.
        """

    def backward_ended(self) -> None:
        """It is over."""

    def zeroed(self, owner: torch.optim.Optimizer | nn.Module) -> None:
        """The gradients of an optimizer or a module have been cleared."""

    def evaluated(self) -> None:
        """The closure of a step has run; what it does once more belongs to the same step."""

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer that holds parameters of the model is about to change them."""

    def step_ended(self, optimizer: torch.optim.Optimizer | None) -> None:
        """It has changed them; None: a GradScaler left this step out."""


class Steps:
    """Between `open` and `close` its listener is told what the loop does.

    Args:
        model: whose parameters an optimizer must hold to count.
        optimizer: the one whose steps count; None: the first that steps. Others that hold
            parameters of the model are told of, too, but `leads` says no.
        listener: who is told.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None, listener: Listener
    ) -> None:
        self.listener = listener
        self.optimizer = _innermost(optimizer)
        self.again = False
        """Whether a step evaluates its closure once more, from another point (LBFGS)."""
        self._model = model
        self._known: dict[int, tuple[torch.optim.Optimizer, bool]] = {}
        self._scaled: tuple[Tensor, Tensor, Any] | None = None
        self._hooks: list[Any] = []

    def open(self) -> None:
        """Begins to listen."""
        self._hooks = [
            register_optimizer_step_pre_hook(self._before),
            register_optimizer_step_post_hook(self._after),
        ]
        _PATCHES.add(self)

    def close(self) -> None:
        """Takes everything off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._scaled = None
        _PATCHES.remove(self)

    def leads(self, optimizer: torch.optim.Optimizer | None) -> bool:
        """Whether the steps of this optimizer are the ones that count."""
        return optimizer is None or optimizer is self.optimizer

    def clears(self, owner: torch.optim.Optimizer | nn.Module) -> bool:
        """Whether gradients of the optimizer whose steps count are among those of this owner."""
        if isinstance(owner, torch.optim.Optimizer):
            cleared = {id(p) for group in _innermost(owner).param_groups for p in group["params"]}
        else:
            cleared = {id(p) for p in owner.parameters()}
        if self.optimizer is None:
            return any(id(p) in cleared for p in self._model.parameters())
        return any(id(p) in cleared for g in self.optimizer.param_groups for p in g["params"])

    def held(self) -> set[int]:
        """Identities of the parameters of every optimizer that has stepped so far."""
        groups = [g for one, ours in self._known.values() if ours for g in one.param_groups]
        return {id(p) for group in groups for p in group["params"]}

    def _holds(self, optimizer: torch.optim.Optimizer) -> bool:
        found = self._known.get(id(optimizer))
        if found is None or found[0] is not optimizer:
            ours = {id(p) for p in self._model.parameters()}
            held = any(id(p) in ours for g in optimizer.param_groups for p in g["params"])
            inner = getattr(optimizer, "optimizer", None)  # one that only hands on to another
            found = (optimizer, held and not isinstance(inner, torch.optim.Optimizer))
            self._known[id(optimizer)] = found
        return found[1]

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> Any:
        if not self._holds(optimizer):
            return None
        self.again = False
        if self.optimizer is None:
            self.optimizer = optimizer
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            self.listener.step_begins(optimizer)
            return None
        # The gradients of this step are there when its closure has run, and not before.
        ours = self._told(closure, optimizer)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": ours}
        return (args[0], ours, *args[2:]), kwargs

    def _told(
        self, closure: Callable[[], Any], optimizer: torch.optim.Optimizer
    ) -> Callable[[], Any]:
        @wraps(closure)
        def ours() -> Any:
            result = closure()
            if not self.again:
                self.again = True
                self.listener.step_begins(optimizer)
                self.listener.evaluated()
            return result

        return ours

    def _after(self, optimizer: torch.optim.Optimizer, _: Any, __: Any) -> None:
        if self._holds(optimizer):
            self.again = False
            self.listener.step_ended(optimizer)

    def scaled(self, scaler: Any, loss: Any, result: Any) -> None:
        """A GradScaler has multiplied a loss."""
        if isinstance(loss, Tensor) and isinstance(result, Tensor):
            self._scaled = (loss, result, scaler)

    def skipped(self, optimizer: torch.optim.Optimizer) -> None:
        """A GradScaler has left a step out."""
        if self.leads(_innermost(optimizer)):
            self.listener.step_ended(None)

    def begins(self, tensors: Any) -> None:
        """A backward of these tensors begins."""
        loss = tensors if isinstance(tensors, Tensor) else next(iter(_as_tensors(tensors)), None)
        scale: Callable[[], float] = _one
        if loss is not None and self._scaled is not None and self._scaled[1] is loss:
            loss, _, scaler = self._scaled
            scale = scaler.get_scale if scaler.is_enabled() else _one
        self._scaled = None
        if loss is not None and loss.numel() != 1:
            loss = None
        self.listener.backward_begins(loss, scale)


def _one() -> float:
    return 1.0


def _as_tensors(given: Any) -> Iterable[Tensor]:
    return [t for t in given if isinstance(t, Tensor)] if isinstance(given, (list, tuple)) else []


def _innermost(optimizer: Any) -> Any:
    """The optimizer that does the steps, under those that hand on to it (Accelerate's)."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


class _Patches:
    """Torch's functions that announce a backward, replaced while anybody listens."""

    def __init__(self) -> None:
        self.listeners: list[Steps] = []
        self._originals: list[tuple[Any, str, Any, Any]] = []
        """Owner, name, what was found there (None: what it inherits), and what stands there now."""

    def add(self, one: Steps) -> None:
        if not self.listeners:
            self._replace(torch.autograd, "backward", self._backward)
            self._replace(torch.optim.Optimizer, "zero_grad", self._zero)
            self._replace(nn.Module, "zero_grad", self._zero)
            self._replace(torch.amp.GradScaler, "scale", self._scale)
            self._replace(torch.amp.GradScaler, "step", self._step)
            self._replace(nn.Module, "__reduce_ex__", self._reduce)
        self.listeners.append(one)

    def remove(self, one: Steps) -> None:
        if one in self.listeners:
            self.listeners.remove(one)
        if not self.listeners:
            for owner, name, original, ours in self._originals:
                if getattr(owner, name) is not ours:
                    continue  # somebody else has replaced it since
                if original is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)
            self._originals = []

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        ours = wraps(original)(make(original))
        own = original if name in vars(owner) else None
        self._originals.append((owner, name, own, ours))
        setattr(owner, name, ours)

    def _backward(self, original: Any) -> Any:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            # Reentrant checkpointing runs backwards inside a backward.
            listeners = [] if inside_backward() else [x for x in self.listeners if not x.again]
            for one in listeners:
                one.begins(tensors)
            try:
                return original(tensors, *args, **kwargs)
            finally:
                for one in listeners:
                    one.listener.backward_ended()

        return backward

    def _zero(self, original: Any) -> Any:
        def zero_grad(owner: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(owner, *args, **kwargs)
            if not torch.compiler.is_compiling():
                for one in self.listeners:
                    if not one.again:
                        one.listener.zeroed(owner)
            return result

        return zero_grad

    def _reduce(self, original: Any) -> Any:
        def reduce(module: Any, protocol: Any) -> Any:
            return without_hooks(original(module, protocol))

        return reduce

    def _scale(self, original: Any) -> Any:
        def scale(scaler: Any, outputs: Any) -> Any:
            result = original(scaler, outputs)
            for one in self.listeners:
                one.scaled(scaler, outputs, result)
            return result

        return scale

    def _step(self, original: Any) -> Any:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            done: list[Any] = []
            hook = register_optimizer_step_pre_hook(lambda *_: done.append(1))
            try:
                result = original(scaler, optimizer, *args, **kwargs)
            finally:
                hook.remove()
            if not done:
                for one in list(self.listeners):
                    one.skipped(optimizer)
            return result

        return step


_PATCHES = _Patches()


def inside_backward() -> bool:
    """Whether autograd is running a backward in this thread."""
    return torch._C._current_graph_task_id() != -1
