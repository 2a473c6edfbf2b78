"""Poison: where the first non-finite value of a step came from."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from isograd.probe.borrowing import borrowed
from isograd.probe.nonfinite import Watcher, value_range
from isograd.sites.batches import Batch, is_signal, tensors
from isograd.sites.randomness import put_random_states, random_states
from isograd.sites.tape import Node, Tape


class Held:
    """The latest call of the model, or the calls of its parts where a loop calls these.

    Kept until the step is over, so that they can be run again.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[nn.Module, Batch, list[Tensor]]] = []
        """What was called, with what, and the random states before."""
        self.outputs: list[Tensor] = []
        self.gradients: dict[int, Tensor] = {}

    def take(
        self, called: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, first: bool
    ) -> None:
        """A forward begins with this call, or goes on with it."""
        if first:
            self.release()
        self.calls.append((called, Batch(args, kwargs), random_states()))

    def returned(self, outputs: Any, *, listen: bool, guard: Any) -> None:
        """The latest call has returned; `listen`: the gradients of its outputs are kept."""
        self.gradients = {}
        self.outputs = [t for t in tensors(outputs) if is_signal(t) and t.requires_grad]
        if listen:
            for index, out in enumerate(self.outputs):
                told = partial(self._gradient, self.gradients, index)
                out.register_hook(guard(told))

    @staticmethod
    def _gradient(kept: dict[int, Tensor], index: int, gradient: Tensor) -> None:
        kept[index] = gradient.detach()

    def release(self) -> None:
        """Lets go of every tensor."""
        self.calls, self.outputs, self.gradients = [], [], {}

    def locate(
        self, model: nn.Module, known: Sequence[Node], loss: Tensor | None
    ) -> dict[str, Any]:
        """Facts `event.forward` and `event.backward`: the same once more, every operation watched.

        Args:
            model: the plain module, whose weights are still those of this step.
            known: operations of the first look, which know the sites upstream of them.
            loss: of the step.
        """
        if not self.calls:
            return {}
        watcher = Watcher(known)
        try:
            with borrowed(model), torch.enable_grad():
                return self._again(model, watcher, loss)
        finally:
            for hook in watcher.hooks:
                hook.remove()

    def _again(self, model: nn.Module, watcher: Watcher, loss: Tensor | None) -> dict[str, Any]:
        tape = Tape(model, watcher)
        outs: list[Tensor] = []
        with tape.recording():
            for called, batch, random in self.calls:
                put_random_states(random)
                tape.take(batch)
                outs = [t for t in tensors(batch.call(called)) if is_signal(t) and t.requires_grad]
        if watcher.forward is not None:
            return {"event.forward": watcher.forward}
        if loss is not None and not bool(torch.isfinite(loss.detach()).all()):
            broken = not all(bool(torch.isfinite(out).all()) for out in self.outputs)
            found = _not_again(self.outputs) if broken else _in_loss(loss, self.outputs, tape)
            return {"event.forward": found}
        given = self.gradients
        if len(outs) != len(self.outputs) or not given:
            return {}
        if not all(bool(torch.isfinite(g).all()) for g in given.values()):
            return {"event.backward": _in_loss(loss, self.outputs, tape)}
        wanted = [p for p in model.parameters() if p.requires_grad]
        torch.autograd.grad(
            [outs[i] for i in given], wanted, [given[i] for i in given], allow_unused=True
        )
        watcher.find_backward(tape)
        return {} if watcher.backward is None else {"event.backward": watcher.backward}


def _not_again(outputs: list[Tensor]) -> dict[str, Any]:
    """What is known where the model returned values that were finite when it ran again."""
    return {
        "op": "an operation that was finite when it was run again",
        "module": "",
        "site": None,
        "phase": "model",
        "inputs": [],
        "count": sum(int((~torch.isfinite(out)).sum()) for out in outputs),
    }


def _in_loss(loss: Tensor | None, outputs: list[Tensor], tape: Tape) -> dict[str, Any]:
    """The operation of the loss that made it, as far as the graph of the loss tells."""
    names, culprit = _graph_of(loss, {t.grad_fn for t in outputs})
    signals = [n for n in tape.nodes if n.depth >= 0]
    last = signals[-1] if signals else None
    return {
        "op": culprit or (names[0] if names else "loss"),
        "module": "",
        "site": last.sources[-1] if last is not None and last.sources else None,
        "phase": "loss",
        "inputs": [value_range(t.detach()) for t in outputs[:4]],
        "count": 1,
    }


def _graph_of(loss: Tensor | None, ends: set[Any]) -> tuple[list[str], str | None]:
    """Operations from the model's outputs to the loss, and the first that took a bad input."""
    if loss is None or loss.grad_fn is None:
        return [], None
    order: list[Any] = []
    todo: list[Any] = [loss.grad_fn]
    seen = set(ends)
    while todo:
        node = todo.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        order.append(node)
        todo.extend(following for following, _ in node.next_functions)
    names = [_name(node) for node in order if "AccumulateGrad" not in type(node).__name__]
    for node in reversed(order):
        if _is_singular(node):
            return names, _name(node)
    return names, None


def _name(node: Any) -> str:
    return str(type(node).__name__).split("Backward")[0].lower()


def _is_singular(node: Any) -> bool:
    """Whether an operation was given what its function has no finite value or slope for."""
    name = _name(node)
    with suppress(Exception):  # saved tensors may have been freed
        if name.startswith("log") and "softmax" not in name:
            return bool((node._saved_self <= 0).any())
        if name in ("sqrt", "rsqrt"):
            return not bool(torch.isfinite(1 / node._saved_result).all())
        if name == "div":
            return bool((node._saved_other == 0).any())
        if name == "exp":
            return not bool(torch.isfinite(node._saved_result).all())
    return False
