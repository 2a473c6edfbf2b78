"""Where the first non-finite value came from: the same pass once more, every operation watched."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isograd.errors import IsogradError
from isograd.records import Record
from isograd.sites.batches import is_signal
from isograd.sites.tape import Call, Frame, Node, Tape

if TYPE_CHECKING:
    from isograd.probe.measuring import Pass


class Watcher:
    """Listens to a tape and keeps the first operation that made a non-finite value.

    Args:
        first: the operations of the pass before, which know the sites upstream of them.
    """

    def __init__(self, first: Sequence[Node]) -> None:
        self.first = first
        self.forward: dict[str, Any] | None = None
        self.backward: dict[str, Any] | None = None
        self.ranges: dict[int, list[dict[str, Any]]] = {}
        self.hooks: list[Any] = []
        self.gradients: dict[int, bool] = {}
        """Per node whether dLoss/d(output) was finite, in order of the backward."""
        self.culprit: int | None = None
        """The node whose own derivative turned finite gradients into others."""

    def before(self, tape: Tape, name: str, kind: str | None, call: Call) -> None:
        """Nothing: only results are watched."""

    def returned(self, tape: Tape, frame: Frame, node: Node, out: Tensor) -> None:
        """Nothing: operations are watched, not modules."""

    def after(self, tape: Tape, node: Node, out: Tensor, call: Call) -> None:
        """Looks at one result and listens for its gradient."""
        inputs = [t for t in call.tensors if is_signal(t)]
        self.ranges[node.index] = [_range_of(tape, t) for t in inputs]
        if self.forward is None and not bool(torch.isfinite(out).all()):
            bad = int((~torch.isfinite(out)).sum())
            self.forward = self.event(node, self.ranges[node.index], bad)
        if out.requires_grad:
            self.hooks.append(out.register_hook(lambda g, i=node.index: self._gradient(i, g)))
            if out.grad_fn is not None:
                self.hooks.append(out.grad_fn.register_hook(partial(self._derived, node.index)))

    def _gradient(self, index: int, gradient: Tensor) -> None:
        self.gradients[index] = bool(torch.isfinite(gradient).all())

    def _derived(self, index: int, below: Sequence[Any], above: Sequence[Any]) -> None:
        if self.culprit is None and _finite(above) and not _finite(below):
            self.culprit = index

    def find_backward(self, tape: Tape) -> None:
        """The operation whose derivative was non-finite while what came from above was finite.

        Of an operation that autograd takes in several parts, only the last is watched: then it is
        the first reader of the first bad gradient; its own was not bad, or it would be the first.
        """
        bad = [i for i, finite in self.gradients.items() if not finite]
        if self.culprit is not None:
            node = tape.nodes[self.culprit]
            self.backward = self.event(node, self.ranges.get(node.index, []), max(len(bad), 1))
        if not bad or self.culprit is not None:
            return
        first = bad[0]
        readers = [n for n in tape.nodes if first in n.inputs and n.index in self.gradients]
        node = readers[0] if readers else tape.nodes[first]
        self.backward = self.event(node, self.ranges.get(node.index, []), len(bad))

    def event(self, node: Node, ranges: list[dict[str, Any]], count: int) -> dict[str, Any]:
        """One event as the facts `event.forward` and `event.backward` hold it."""
        same = self.first[node.index] if node.index < len(self.first) else node
        sources = same.sources if same.op == node.op else ()
        return {
            "op": node.op.strip("_"),
            "module": node.module,
            "site": sources[-1] if sources else None,
            "phase": node.phase,
            "inputs": ranges,
            "count": count,
        }


def _finite(gradients: Sequence[Any]) -> bool:
    given = [g for g in gradients if isinstance(g, Tensor) and is_signal(g)]
    return all(bool(torch.isfinite(g).all()) for g in given)


def locate(record: Record, done: "Pass", again: Callable[[Any], "Pass"]) -> Record:
    """The record with facts `event.forward` and `event.backward`.

    Args:
        record: of the pass in which something non-finite was seen.
        done: that pass.
        again: runs the same pass with another listener.
    """
    watcher = Watcher(done.tape.nodes)
    try:
        second = again(watcher)
        watcher.find_backward(second.tape)
        if watcher.backward is None and watcher.forward is None:
            watcher.backward = _in_parameters(watcher, second)
    except IsogradError as error:
        note = f"non-finite values were seen, but not located: {error}"
        return replace(record, notes=(*record.notes, note))
    finally:
        for hook in watcher.hooks:
            hook.remove()
    facts = dict(record.facts)
    for key, found in (("event.forward", watcher.forward), ("event.backward", watcher.backward)):
        if found is not None:
            facts[key] = {**found, "step": record.step}
    return replace(record, facts=facts)


def _in_parameters(watcher: Watcher, done: "Pass") -> dict[str, Any] | None:
    """A gradient that is non-finite only at a parameter: the operation that used it."""
    for index, gradient in enumerate(done.gradients):
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            users = [n for n in done.tape.nodes if index in n.parameters]
            if users:
                return watcher.event(users[-1], [], int((~torch.isfinite(gradient)).sum()))
    return None


def _range_of(tape: Tape, tensor: Tensor) -> dict[str, Any]:
    node = tape.node_of(tensor)
    given = {"batch": True} if node is not None and node.op == "input" else {}
    return {**value_range(tensor), **given}


def value_range(tensor: Tensor) -> dict[str, Any]:
    """Shape, dtype and extremes of a tensor, as the inputs of an event hold them."""
    x = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    finite = x.detach().flatten()
    if not bool(torch.isfinite(finite.sum())):  # else none is infinite or no number
        finite = finite[torch.isfinite(finite)]
    low, high = (float(end) for end in finite.aminmax()) if finite.numel() else (None, None)
    sizes = torch.where(finite == 0, math.inf, finite.abs())
    smallest = float(sizes.min()) if finite.numel() else math.inf
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "min": low,
        "max": high,
        "nonfinite": int(x.numel() - finite.numel()),
        "zeros": int(finite.numel() - finite.count_nonzero()),
        "abs_min": smallest if smallest < math.inf else None,
    }
