"""Reaching: whether a backward goes through the watched model or past it."""

from collections import deque
from typing import Any

from torch import Tensor, nn

from isograd.sites.batches import tensors

FAR = 50_000
"""Operations after which a graph is not followed any further: a backward then counts as ours."""

FIRST = 3
"""Steps that show whether several networks share the loop; in other loops nothing is followed."""


class Ends:
    """Where the calls of a model end, in the graph of the step that is under way.

    Two networks that train each other share a loop: the backward of one may not touch the other.

    Args:
        model: the plain module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.several = False
        """Whether several networks share the loop."""
        self._steps = 0
        self._nodes: set[Any] = set()

    @property
    def _wanted(self) -> bool:
        return self.several or self._steps < FIRST

    def take(self, outputs: Any) -> None:
        """A call of the model, or of a part of it, has returned."""
        if self._wanted:
            self._nodes.update(t.grad_fn for t in tensors(outputs) if t.grad_fn is not None)

    def settle(self) -> None:
        """The step is over."""
        self._steps += 1
        self._nodes.clear()

    def reached_by(self, loss: Tensor | None) -> bool:
        """Whether the backward of a loss comes through the model."""
        if not self._wanted or not self._nodes or loss is None or loss.grad_fn is None:
            return True
        own: set[int] | None = None
        todo, seen = deque([loss.grad_fn]), {loss.grad_fn}
        while todo:
            node: Any = todo.popleft()
            if node in self._nodes:
                return True
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                own = {id(p) for p in self._model.parameters()} if own is None else own
                if id(leaf) in own:
                    return True
            following = {n for n, _ in node.next_functions if n is not None} - seen
            if len(seen) > FAR:
                return True
            seen |= following
            todo.extend(following)
        self.several = True
        return False
