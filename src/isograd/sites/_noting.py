"""What an operation is noted as: of its inputs, its result, and how it was called."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isograd.sites import STEPS

if TYPE_CHECKING:
    from isograd.sites.tape import Call, Node, Tape

CUTTING = frozenset("detach detach_ data numpy item tolist".split())
"""Operations that hand on values without their graph."""


def has_stranger(call: "Call", parameters: dict[int, int], known: "list[Node]") -> bool:
    """Whether a leaf that asks for a gradient is neither a parameter nor an input."""
    given = {n.shape for n in known if n.phase in ("input", "target")}
    return any(
        t.is_leaf and t.requires_grad and id(t) not in parameters and tuple(t.shape) not in given
        for t in call.tensors
    )


def merge(nodes: "list[Node]") -> tuple[int, ...]:
    """Nearest sites upstream of several operations, once each."""
    return tuple(dict.fromkeys(source for node in nodes for source in node.sources))


def cuts(name: str, inputs: list[Tensor], out: Tensor) -> bool:
    """Whether a result has lost the graph that its inputs had, or can pass nothing on to it."""
    if name in STEPS and out.requires_grad:
        return True
    if out.requires_grad or not any(t.requires_grad for t in inputs):
        return False
    return name in CUTTING or out.is_floating_point() or "arg" in name


def axis_of(call: "Call", out: Tensor) -> int:
    """The axis that a softmax normalizes, counted from the front."""
    axis = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    if not isinstance(axis, int):  # what torch takes where none is named
        axis = 0 if out.ndim in (0, 1, 3) else 1
    return axis % out.ndim if out.ndim else 0


def channels(kind: str | None, out: Tensor, signals: "list[Node]") -> bool:
    """Whether the units of a result are on axis 1."""
    if kind in ("conv", "batch_norm", "instance_norm", "group_norm"):
        return out.ndim >= 2
    if kind in ("linear", "attention", "recurrent", "embedding", "layer_norm"):
        return False
    same = next((node for node in signals if len(node.shape) == out.ndim), None)
    if same is not None:
        return same.channels
    return out.ndim in (4, 5)


class Quiet:
    """A stretch of the tape's own arithmetic."""

    __slots__ = ("_gradients", "_guard", "_tape")

    def __init__(self, tape: "Tape") -> None:
        self._tape = tape

    def __enter__(self) -> None:
        self._tape._busy = True
        self._guard = torch._C.DisableTorchFunction()
        self._guard.__enter__()  # first, or the next call would be seen
        self._gradients = torch.is_grad_enabled()
        if self._gradients:
            torch._C._set_grad_enabled(False)

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool | None:
        if self._gradients:
            torch._C._set_grad_enabled(True)
        self._guard.__exit__(None, None, None)
        self._tape._busy = False
        if isinstance(error, Exception) and self._tape.on_fault is not None:
            self._tape.on_fault(error)
            return True
        return False
