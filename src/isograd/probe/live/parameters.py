"""Parameters at one step: their gradients, their sizes, and how far the optimizer moves them."""

from typing import Any

import torch
from torch import Tensor, nn

from isograd.probe.live.taps import local
from isograd.sites.batches import is_signal
from isograd.statistics import Place, Table, flatten

SAMPLE, RUN = 1024, 8
"""Entries of a parameter that are compared before and after a step, in evenly spaced runs that lie
in one line of memory: a ratio of two rms is then known to within 3 to 6 percent (one sd). Smaller
parameters are compared whole."""

OLD = 8
"""Parameters, evenly spread, that tell whether gradients are cleared between steps."""

TURNS = 8
"""Looks in which every parameter is read whole once; in between its size is that of the sample."""


class Parameters:
    """Reads the parameters of a model in one step.

    Args:
        model: the plain module.
        device: where the tables are.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._tensors = [p for _, p in model.named_parameters()]
        places = [Place()] * len(self._tensors)
        self.gradients, self.weights = Table(places, device), Table(places, device)
        self.device = self.weights.device
        self.moved = torch.zeros(3, len(places), dtype=torch.float64, device=self.device)
        """Of each one's sample: sums of squares before the step and of the change, and entries."""
        self.read: set[int] = set()
        """Parameters whose turn this step was, whole or as a sample."""
        self._before: Tensor | None = None
        self._rows: list[int] = []
        self._views: list[Tensor] = []
        self._lengths = self._places = torch.zeros(0, dtype=torch.long, device=self.device)
        self._of_gradients = [self.gradients.part_reader(i) for i in range(len(places))]
        self._of_weights = [self.weights.part_reader(i) for i in range(len(places))]
        self._key: list[tuple[int, int]] = []
        self.carried: float | Tensor | None = None
        """Size of the gradients that were there before this step, over those it was made with."""
        self._old: list[tuple[nn.Parameter, Tensor]] = []

    def clear(self) -> None:
        """Forgets what was read."""
        self.gradients.clear()
        self.weights.clear()
        self.moved.zero_()
        self.read.clear()
        self._before = self.carried = None
        self._old = []

    @torch.no_grad()
    def starts_from(self, optimizer: torch.optim.Optimizer) -> None:
        """Keeps samples of the gradients that are there before the first backward of a step."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        some = held[:: max(1, len(held) // OLD)]
        self._old = [
            (p, _sample(local(p.grad)).double().square().sum())
            for p in some
            if p.grad is not None and is_signal(p.grad)
        ]
        self.carried = None if self._old else 0.0

    @torch.no_grad()
    def _compare_old(self) -> None:
        old, self._old = self._old, []
        pairs = [
            (size.to(self.device), _sample(local(p.grad)).double().square().sum().to(self.device))
            for p, size in old
            if p.grad is not None and is_signal(p.grad)
        ]
        if pairs:
            before, now = torch.stack([torch.stack(pair) for pair in pairs]).sum(0)
            self.carried = (before / now.clamp(min=1e-300)).sqrt().clamp(max=1e6)

    @torch.no_grad()
    def before(self, held: set[int], turn: int) -> None:
        """Reads gradients and weights, and keeps samples of the weights.

        Args:
            held: identities of the parameters that are about to change.
            turn: number of the look.
        """
        if self._old:
            self._compare_old()
        moving = []
        for index, parameter in enumerate(self._tensors):
            if index in self.read or not (id(parameter) in held or not parameter.requires_grad):
                continue
            self.read.add(index)
            plain = local(parameter.detach())
            if not is_signal(plain) or not plain.numel():
                continue
            if plain.numel() <= SAMPLE or index % TURNS == turn % TURNS or not turn:
                self._add(self.weights, self._of_weights, index, plain, whole=not turn)
            gradient = parameter.grad
            if gradient is not None and is_signal(gradient):
                self._add(
                    self.gradients, self._of_gradients, index, local(gradient), whole=not turn
                )
                moving.append(index)
        self._rows = moving
        self._before = self._samples()

    def _add(self, table: Table, readers: list[Any], index: int, x: Tensor, *, whole: bool) -> None:
        read = readers[index]
        if whole or read is None or not read(x):
            table.read(index, x)

    @torch.no_grad()
    def after(self) -> None:
        """Compares the samples with what they have become."""
        if self._before is None or not self._rows:
            return
        old, new = self._before, self._samples()
        squares = torch.stack([old, new - old], dim=1).square_()
        sums = torch.segment_reduce(squares, "sum", lengths=self._lengths)
        self.moved[:2, self._places] += sums.T
        self.moved[2, self._places] += self._lengths
        self._before = None

    def _samples(self) -> Tensor:
        """Samples of what is about to change, one after the other, in float64."""
        tensors = [local(self._tensors[i].detach()) for i in self._rows]
        key = [(i, t.data_ptr()) for i, t in zip(self._rows, tensors, strict=True)]
        if key != self._key:
            self._views = [_sample(t) for t in tensors]
            lengths = [v.numel() for v in self._views]
            self._lengths = torch.tensor(lengths, dtype=torch.long, device=self.device)
            self._places = torch.tensor(self._rows, dtype=torch.long, device=self.device)
            # Of a parameter that is not dense they are copies, which would not follow it.
            self._key = (
                key
                if all(v.data_ptr() == t for v, (_, t) in zip(self._views, key, strict=True))
                else []
            )
        together = [v.reshape(-1).to(self.device) for v in self._views]
        return torch.cat(together).double() if together else torch.zeros(0)


def _sample(x: Tensor) -> Tensor:
    """Evenly spaced short runs of entries, a view of them where the tensor is dense."""
    flat = flatten(x)
    if len(flat) <= SAMPLE:
        return flat
    period = len(flat) // (SAMPLE // RUN)
    return flat[: period * (SAMPLE // RUN)].view(-1, period)[:, :RUN]
