"""Places: which operations and module calls are sites, and what they are called.

Decided from the graph and from shapes alone, never from a value: tensors on the meta device and
live ones have the same sites.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from isograd.records import Site
from isograd.sites import NORMS, RECTIFIERS
from isograd.sites.tape import Call, Frame, Node, Tape, class_of, is_opaque


@dataclass(slots=True)
class Row:
    """One site, while the tape runs."""

    name: str
    """Unique. An operation's may still become that of the module it is alone in."""
    kind: str
    label: str
    node: Node
    inputs: tuple[int, ...]
    """Indices of the nearest sites upstream."""

    def site(self) -> Site:
        """The site as a Record holds it."""
        node = self.node
        return Site(
            self.name, self.kind, self.label, node.depth, node.shape, self.inputs, node.parameters
        )


class Places(ABC):
    """Listens to a tape and keeps one row per site; a subclass takes the numbers."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.names: dict[str, int] = {}
        """How often each name has been given."""
        self._closes = False

    @abstractmethod
    def read(self, tape: Tape, row: Row, out: Tensor, frame: Frame | None, /) -> None:
        """Called once per site, in order, when its row has just been added to `rows`.

        Args:
            tape: the tape.
            row: of the site.
            out: its output tensor, which later in-place operations may overwrite.
            frame: the module call that is the site; None for an operation by itself.
        """

    @abstractmethod
    def residual(self, tape: Tape, skip: Tensor, branch: Tensor, /) -> None:
        """Called before an addition that closes an identity skip; `read` follows for its sum.

        Inside a module that is one operation to its user, no `read` follows.

        Args:
            tape: the tape.
            skip: the term with fewer weight layers behind it.
            branch: the other one, which was computed from it.
        """

    def before(self, tape: Tape, _: str, kind: str | None, call: Call, /) -> None:
        """Looks at an addition while both of its terms are still there."""
        self._closes = False
        if kind == "add" and tape.phase == "model":
            terms = _skip_and_branch(tape, call)
            if terms is not None:
                self._closes = True
                self.residual(tape, *terms)

    def after(self, tape: Tape, node: Node, out: Tensor, _: Call, /) -> None:
        """Makes a site of an operation that is one by itself."""
        if node.kind is None or tape.phase != "model" or node.depth < 0:
            return
        if tape.stack and tape.stack[-1].opaque:
            return
        if node.kind == "add" and not self._closes:
            return
        path = tape.stack[-1].path if tape.stack else ""
        operation = "add" if node.kind == "add" else node.op.rstrip("_")
        row = self._row(node, f"{path or 'forward'}:{operation}", node.kind, operation)
        if tape.stack:
            tape.stack[-1].sites.append(len(self.rows) - 1)
        self.read(tape, row, out, None)

    def returned(self, tape: Tape, frame: Frame, node: Node, out: Tensor, /) -> None:
        """Makes a site of a module call, or gives the one operation in it the module's name."""
        if node.index < frame.start or tape.phase != "model" or node.depth < 0:
            return  # handed its input through
        if tape.stack and tape.stack[-1].opaque:
            return
        label = class_of(frame.module).__name__
        if frame.opaque:
            kind = _kind_of_call(tape, frame, label)
            called = tape.nodes[frame.start :]
            node.parameters = tuple(dict.fromkeys(p for n in called for p in n.parameters))
        elif frame.calls or _has_children(frame.module):
            return
        elif len(frame.sites) == 1 and node.sources == (frame.sites[0],) and frame.path:
            row = self.rows[frame.sites[0]]
            row.name, row.label = self._unique(frame.path), label
            return
        elif node.site is not None:
            return
        else:
            kind = "module"
        row = self._row(node, frame.path or label, kind, label)
        frame.sites.append(len(self.rows) - 1)
        self.read(tape, row, out, frame)

    def adopt(self, rows: Sequence[Row], names: Mapping[str, int]) -> None:
        """Takes the sites that a module call has made in another run, at the same place."""
        self.rows += rows
        self.names.update(names)

    def _row(self, node: Node, name: str, kind: str, label: str) -> Row:
        row = Row(self._unique(name), kind, label, node, node.sources)
        node.sources, node.site = (len(self.rows),), len(self.rows)
        self.rows.append(row)
        return row

    def _unique(self, name: str) -> str:
        count = self.names[name] = self.names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"


def _skip_and_branch(tape: Tape, call: Call) -> tuple[Tensor, Tensor] | None:
    """The terms of an addition that closes an identity skip."""
    if len(call.tensors) != 2 or call.kwargs.get("alpha", 1) != 1:
        return None
    a, b = call.tensors
    first, second = tape.node_of(a), tape.node_of(b)
    if first is None or second is None or a.shape != b.shape or not a.numel():
        return None
    if min(first.depth, second.depth) < 0 or not a.is_floating_point():
        return None
    skip, branch = (a, b) if first.depth <= second.depth else (b, a)
    start, end = sorted((first, second), key=lambda n: n.depth)
    if start.depth == end.depth or not _leads_to(tape.nodes, start, end):
        return None
    return skip, branch


def _leads_to(nodes: list[Node], start: Node, end: Node) -> bool:
    """Whether `start` is upstream of `end`."""
    seen, todo = {end.index}, [end.index]
    while todo:
        for index in nodes[todo.pop()].inputs:
            if index == start.index:
                return True
            if index > start.index and index not in seen:
                seen.add(index)
                todo.append(index)
    return False


def _has_children(module: nn.Module) -> bool:
    return not is_opaque(module) and bool(module._modules)


_CLASS_WORDS = (
    ("RMSNorm", "rms_norm"),
    ("T5LayerNorm", "rms_norm"),
    ("LayerNorm", "layer_norm"),
    ("GroupNorm", "group_norm"),
    ("BatchNorm", "batch_norm"),
    ("Norm", "layer_norm"),
    ("GELU", "gelu"),
    ("SiLU", "silu"),
    ("Swish", "silu"),
    ("Mish", "mish"),
)


def _kind_of_call(tape: Tape, frame: Frame, label: str) -> str:
    """The kind of a module call that is one operation to its user: that of the last one in it."""
    kinds = [n.kind for n in tape.nodes[frame.start :] if n.kind is not None and n.kind != "add"]
    kind = kinds[-1] if kinds else "module"
    if class_of(frame.module).__module__.startswith("torch.nn."):
        return kind
    if kind in NORMS or kind in RECTIFIERS:
        return kind
    # Written out in elementary operations: told from its class name.
    return next((named for word, named in _CLASS_WORDS if word in label), kind)
