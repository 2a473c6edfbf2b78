"""The recorder: decides which operations are sites, and takes their numbers while they exist."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from isograd import statistics
from isograd.probe.slopes import Sample, dead_units, sample
from isograd.probe.tape import Call, Frame, Node, Tape, class_of, is_opaque
from isograd.sites import ACTIVATIONS, NORMS, RECTIFIERS
from isograd.statistics import units


@dataclass(slots=True)
class Row:
    """One site under construction; tensors hold one number each, read back at the end."""

    name: str
    kind: str
    label: str
    node: Node
    inputs: tuple[int, ...]
    sums: Tensor
    exponents: Tensor
    numbers: dict[str, Tensor] = field(default_factory=dict)
    sample: Sample | None = None
    gradient_sums: Tensor | None = None
    gradient_exponents: Tensor | None = None


_PASSING = ACTIVATIONS | {"dropout", "pool", "softmax", "log_softmax"}
"""Kinds whose samples are as far apart as those of the site before them."""


class Recorder:
    """Listens to a tape and keeps one row per site."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.hooks: list[RemovableHandle] = []
        self.batch_norms: list[float] = []
        """Values per channel over which each batch norm in training mode averaged."""
        self._names: dict[str, int] = {}
        self._samples: dict[int, Sample] = {}
        self._sample: Sample | None = None
        self._branch: Tensor | None = None

    def close(self) -> None:
        """Takes all hooks off."""
        for hook in self.hooks:
            hook.remove()

    def before(self, tape: Tape, name: str, kind: str | None, call: Call) -> None:
        """Takes what an in-place operation is about to overwrite."""
        self._sample = self._branch = None
        if not call.tensors or tape.phase != "model":
            return
        if kind in ACTIVATIONS:
            self._sample = sample(name, call)
        elif kind == "add":
            self._branch = self._branch_ratio(tape, call)
        elif kind == "batch_norm" and (call.kwargs.get("training") or call.args[5:6] == (True,)):
            x = call.tensors[0]
            if x.ndim >= 2 and x.shape[1]:
                self.batch_norms.append(x.numel() / x.shape[1])

    def after(self, tape: Tape, node: Node, out: Tensor, _: Call) -> None:
        """Makes a site of an operation that is one by itself."""
        if node.kind is None or tape.phase != "model" or node.depth < 0:
            return
        if self._sample is not None:
            self._samples[node.index] = self._sample
        if tape.stack and tape.stack[-1].opaque:
            return
        if node.kind == "add" and self._branch is None:
            return
        path = tape.stack[-1].path if tape.stack else ""
        operation = "add" if node.kind == "add" else node.op.rstrip("_")
        name = f"{path or 'forward'}:{operation}"
        row = self._add(node, name, node.kind, operation, out, self._sample)
        if self._branch is not None:
            row.numbers["forward.branch_ratio"] = self._branch
        if tape.stack:
            tape.stack[-1].sites.append(len(self.rows) - 1)

    def returned(self, tape: Tape, frame: Frame, node: Node, out: Tensor) -> None:
        """Makes a site of a module call, or gives the one operation in it the module's name."""
        if node.index < frame.start or tape.phase != "model" or node.depth < 0:
            return  # handed its input through
        if tape.stack and tape.stack[-1].opaque:
            return
        label = class_of(frame.module).__name__
        if frame.opaque:
            self._opaque(tape, frame, node, out, label)
        elif frame.calls == 0 and not _has_children(frame.module):
            if len(frame.sites) == 1 and node.sources == (frame.sites[0],) and frame.path:
                row = self.rows[frame.sites[0]]
                row.name, row.label = self._unique(frame.path), label
            elif node.site is None:
                self._add(node, frame.path or label, "module", label, out)
                frame.sites.append(len(self.rows) - 1)

    def _opaque(self, tape: Tape, frame: Frame, node: Node, out: Tensor, label: str) -> None:
        inner = [n for n in tape.nodes[frame.start :] if n.kind is not None and n.kind != "add"]
        kind = (inner[-1].kind or "module") if inner else "module"
        if not class_of(frame.module).__module__.startswith("torch.nn."):
            kind = _kind_of_class(label, kind)
        last = kind in ACTIVATIONS and bool(inner) and inner[-1].index == node.index
        taken = self._samples.get(node.index) if last else None
        row = self._add(node, frame.path or label, kind, label, out, taken)
        frame.sites.append(len(self.rows) - 1)
        if kind == "recurrent" and isinstance(frame.module, nn.RNNBase) and out.ndim == 3:
            axis = 1 if frame.module.batch_first else 0
            row.numbers["forward.time"] = _norms_over(out, axis)
            given = frame.arguments[0] if frame.arguments else None
            if isinstance(given, Tensor) and given.requires_grad:
                self._listen(given, partial(self._time_gradient, row, axis))
        row.node.parameters = tuple(
            dict.fromkeys(p for n in tape.nodes[frame.start :] for p in n.parameters)
        )

    def _add(
        self,
        node: Node,
        name: str,
        kind: str,
        label: str,
        out: Tensor,
        taken: Sample | None = None,
    ) -> Row:
        with torch.autocast(out.device.type, enabled=False):
            row = Row(
                self._unique(name),
                kind,
                label,
                node,
                node.sources,
                statistics.sums(out),
                statistics.exponents(out),
                sample=taken,
            )
            self._numbers(row, out)
        node.sources, node.site = (len(self.rows),), len(self.rows)
        self.rows.append(row)
        if out.requires_grad:
            self._listen(out, partial(self._gradient, row))
        return row

    def _numbers(self, row: Row, out: Tensor) -> None:
        if out.ndim < 2 or out.is_complex() or not out.numel():
            return
        if out.shape[0] > 1 and row.kind not in _PASSING:
            row.numbers["forward.spread"] = statistics.spread(out)
            row.numbers["forward.correlation"] = statistics.correlation(out)
        if row.kind in ACTIVATIONS:
            low, high = units(out, 1 if row.node.channels else -1)
            row.numbers["forward.constant"] = (low == high).double().mean()
            dead = dead_units(row.kind, low, high, row.sample)
            if dead is not None:
                row.numbers["forward.dead"] = dead

    def _gradient(self, row: Row, gradient: Tensor) -> None:
        with torch.no_grad(), torch.autocast(gradient.device.type, enabled=False):
            if gradient.layout == torch.strided:
                row.gradient_sums = statistics.sums(gradient)
                row.gradient_exponents = statistics.exponents(gradient)

    def _time_gradient(self, row: Row, axis: int, gradient: Tensor) -> None:
        with torch.no_grad():
            row.numbers["backward.time"] = _norms_over(gradient, axis)

    def _listen(self, tensor: Tensor, hook: Any) -> None:
        self.hooks.append(tensor.register_hook(hook))

    def _unique(self, name: str) -> str:
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    def _branch_ratio(self, tape: Tape, call: Call) -> Tensor | None:
        """Rms of branch over rms of skip, if this addition closes an identity skip."""
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
        with torch.autocast(a.device.type, enabled=False):
            ratio: Tensor = branch.double().norm() / skip.double().norm().clamp_min(1e-300)
            return ratio


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


def _norms_over(x: Tensor, axis: int) -> Tensor:
    others = [i for i in range(x.ndim) if i != axis]
    norms: Tensor = x.detach().double().norm(dim=others)
    return norms


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


def _kind_of_class(label: str, found: str) -> str:
    """The kind of a module written out in elementary operations, told from its class name."""
    if found in NORMS or found in RECTIFIERS:
        return found
    return next((kind for word, kind in _CLASS_WORDS if word in label), found)
