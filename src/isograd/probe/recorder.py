"""The recorder: takes the numbers of every site while its tensors exist."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from isograd import statistics
from isograd.probe.alike import Alike
from isograd.probe.slopes import Sample, dead_units, sample
from isograd.sites import ACTIVATIONS, NORMS
from isograd.sites.graph import LOSSES
from isograd.sites.places import Places, Row
from isograd.sites.tape import Call, Frame, Node, Tape
from isograd.statistics import units


@dataclass(slots=True)
class Measures:
    """What was measured at one site; tensors hold one number each, read back at the end."""

    sums: Tensor
    exponents: Tensor
    numbers: dict[str, Tensor] = field(default_factory=dict)
    sample: Sample | None = None
    gradient_sums: Tensor | None = None
    gradient_exponents: Tensor | None = None


_PASSING = ACTIVATIONS | {"dropout", "pool", "softmax", "log_softmax"}
"""Kinds whose samples are as far apart as those of the site before them."""


LARGE_EPS = 0.01
"""Ten times the largest `eps` in common use: what batch norms get is looked at only above it."""


class Recorder(Places):
    """Listens to a tape and measures its sites."""

    def __init__(self) -> None:
        super().__init__()
        self.measures: list[Measures] = []
        """One per row, in the same order."""
        self.hooks: list[RemovableHandle] = []
        self.batch_norms: list[float] = []
        """Values per channel over which each batch norm in training mode averaged."""
        self.swallowed: list[str] = []
        """Batch norms in training mode whose `eps` is larger than the variance of what they get."""
        self.lone_norms: list[str] = []
        """Modules of the other norms that normalize every value by itself."""
        self.targets: dict[int, Tensor] = {}
        """What each loss function was given beside the prediction, by its node."""
        self.improper: dict[int, Tensor] = {}
        """How far from 1 what nll_loss takes for probabilities adds up to, by its node."""
        self._samples: dict[int, Sample] = {}
        self._alike = Alike()
        self._sample: Sample | None = None
        self._ratio: Tensor | None = None

    def close(self) -> None:
        """Takes all hooks off."""
        for hook in self.hooks:
            hook.remove()

    def before(self, tape: Tape, name: str, kind: str | None, call: Call, /) -> None:
        """Takes what an in-place operation is about to overwrite."""
        self._sample = self._ratio = None
        super().before(tape, name, kind, call)
        if not call.tensors or tape.phase != "model":
            return
        if kind in ACTIVATIONS:
            self._sample = sample(name, call)
        elif kind == "batch_norm" and (call.kwargs.get("training") or call.args[5:6] == (True,)):
            x = call.tensors[0]
            if x.ndim >= 2 and x.shape[1]:
                self.batch_norms.append(x.numel() / x.shape[1])
                if _swallowed(x, call):
                    self.swallowed.append(tape.stack[-1].path if tape.stack else f"forward:{name}")
        elif kind in NORMS and _averaged(kind, call) == 1:
            self.lone_norms.append(tape.stack[-1].path if tape.stack else f"forward:{name}")

    def residual(self, _: Tape, skip: Tensor, branch: Tensor, /) -> None:
        """Takes the rms of the branch over that of the skip."""
        with torch.autocast(skip.device.type, enabled=False):
            self._ratio = branch.double().norm() / skip.double().norm().clamp_min(1e-300)

    def after(self, tape: Tape, node: Node, out: Tensor, call: Call, /) -> None:
        """Keeps an activation's sample for the site that it is, or is the last operation of."""
        if self._sample is not None and node.kind in ACTIVATIONS:
            self._samples[node.index] = self._sample
        if node.op in LOSSES:
            given = [t for t in call.tensors[1:] if not t.requires_grad]
            if given:
                self.targets[node.index] = given[0]
        if node.op == "nll_loss" and call.tensors[0].ndim:
            logs = call.tensors[0].detach().double()
            total = logs.exp().sum(min(1, logs.ndim - 1))
            self.improper[node.index] = (total - 1).abs().mean()
        super().after(tape, node, out, call)

    def read(self, _: Tape, row: Row, out: Tensor, frame: Frame | None, /) -> None:
        """Measures the output of a site, and its gradient once the backward comes by."""
        with torch.autocast(out.device.type, enabled=False):
            measures = Measures(statistics.sums(out), statistics.exponents(out))
            if row.kind in ACTIVATIONS:
                measures.sample = self._samples.get(row.node.index)
            self._look(row, measures, out)
        if row.kind == "add" and self._ratio is not None:
            measures.numbers["forward.branch_ratio"] = self._ratio
        self.measures.append(measures)
        if out.requires_grad:
            self._listen(out, partial(self._gradient, measures))
        if frame is not None and row.kind == "recurrent" and out.ndim == 3:
            self._over_time(measures, out, frame)

    def _look(self, row: Row, measures: Measures, out: Tensor) -> None:
        """The numbers of a site that are about samples and units."""
        if out.ndim < 2 or out.is_complex() or not out.numel():
            return
        if out.shape[0] > 1 and row.kind not in _PASSING:
            measures.numbers["forward.spread"] = statistics.spread(out)
            self._alike.add(len(self.measures), out)
        if row.kind in ACTIVATIONS:
            low, high = units(out, 1 if row.node.channels else -1)
            measures.numbers["forward.constant"] = (low == high).double().mean()
            dead = dead_units(row.kind, low, high, measures.sample)
            if dead is not None:
                measures.numbers["forward.dead"] = dead

    def compare(self) -> None:
        """Adds how alike the samples are, which is asked of several sites at once."""
        for key, column in self._alike.numbers().items():
            for row, number in column.items():
                self.measures[row].numbers[key] = number

    def _over_time(self, measures: Measures, out: Tensor, frame: Frame) -> None:
        if not isinstance(frame.module, nn.RNNBase):
            return
        axis = 1 if frame.module.batch_first else 0
        measures.numbers["forward.time"] = _norms_over(out, axis)
        given = frame.arguments[0] if frame.arguments else None
        if isinstance(given, Tensor) and given.requires_grad:
            self._listen(given, partial(self._time_gradient, measures, axis))

    def _gradient(self, measures: Measures, gradient: Tensor) -> None:
        with torch.no_grad(), torch.autocast(gradient.device.type, enabled=False):
            if gradient.layout == torch.strided:
                measures.gradient_sums = statistics.sums(gradient)
                measures.gradient_exponents = statistics.exponents(gradient)

    def _time_gradient(self, measures: Measures, axis: int, gradient: Tensor) -> None:
        with torch.no_grad():
            measures.numbers["backward.time"] = _norms_over(gradient, axis)

    def _listen(self, tensor: Tensor, hook: Any) -> None:
        self.hooks.append(tensor.register_hook(hook))


def _swallowed(x: Tensor, call: Call) -> bool:
    """Whether a batch norm's `eps` is far above the usual, and above a typical channel's variance.

    Args:
        x: [samples, channels, ...], what goes in.
        call: of torch's function, whose eighth argument is `eps`.
    """
    eps = call.kwargs.get("eps", call.args[7] if len(call.args) > 7 else 0.0)
    if not isinstance(eps, float) or eps < LARGE_EPS:
        return False
    variance = x.detach().double().transpose(0, 1).flatten(1).var(1, correction=0)
    return bool(variance.median() < eps)


def _averaged(kind: str, call: Call) -> int:
    """Values over which a norm of single samples averages; 0 where that is not known."""
    x, given = call.tensors[0], (*call.args[1:2], *call.kwargs.values())
    if kind == "layer_norm" and given and isinstance(given[0], (list, tuple)):
        return math.prod(given[0])
    if kind == "group_norm" and given and isinstance(given[0], int) and x.ndim > 1:
        return x.numel() // max(x.shape[0] * given[0], 1)
    return math.prod(x.shape[2:]) if kind == "instance_norm" and x.ndim > 2 else 0


def _norms_over(x: Tensor, axis: int) -> Tensor:
    others = [i for i in range(x.ndim) if i != axis]
    norms: Tensor = x.detach().double().norm(dim=others)
    return norms
