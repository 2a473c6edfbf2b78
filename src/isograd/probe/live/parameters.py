"""Parameters at one step: their gradients, their sizes, and how far the optimizer moves them."""

import math

import torch
from torch import Tensor, nn

from isograd.probe.live.taps import local
from isograd.sites.batches import is_signal
from isograd.statistics import Place, Table

SAMPLE = 1024
"""Entries of a parameter that are compared before and after a step, evenly spaced: a ratio of two
rms is then known to within 3 percent (one sd). Smaller parameters are compared whole."""

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
        self.moved = torch.zeros(len(places), 3, dtype=torch.float64, device=self.device)
        """Of each one's sample: sums of squares before the step and of the change, and entries."""
        self.read: set[int] = set()
        """Parameters whose turn this step was, whole or as a sample."""
        self._before: list[Tensor] = []
        self._rows: list[int] = []

    def clear(self) -> None:
        """Forgets what was read."""
        self.gradients.clear()
        self.weights.clear()
        self.moved.zero_()
        self.read.clear()
        self._before = []

    @torch.no_grad()
    def before(self, held: set[int], turn: int) -> None:
        """Reads gradients and weights, and keeps samples of the weights.

        Args:
            held: identities of the parameters that are about to change.
            turn: number of the look.
        """
        with_gradient, whole, moving = [], [], []
        for index, parameter in enumerate(self._tensors):
            if index in self.read or not (id(parameter) in held or not parameter.requires_grad):
                continue
            self.read.add(index)
            plain = local(parameter.detach())
            if not is_signal(plain) or not plain.numel():
                continue
            if plain.numel() <= SAMPLE or index % TURNS == turn % TURNS or not turn:
                whole.append((index, plain))
            gradient = parameter.grad
            if gradient is not None and is_signal(gradient):
                with_gradient.append((index, local(gradient)))
                moving.append(index)
        for table, found in ((self.gradients, with_gradient), (self.weights, whole)):
            table.read_all([i for i, _ in found], [t for _, t in found])
        self._rows = moving
        self._before = self._samples()

    @torch.no_grad()
    def after(self) -> None:
        """Compares the samples with what they have become."""
        if not self._before:
            return
        lengths = [b.numel() for b in self._before]
        rows = torch.tensor(self._rows, device=self.device).repeat_interleave(
            torch.tensor(lengths, device=self.device)
        )
        old = torch.cat([b.to(self.device) for b in self._before]).double()
        new = torch.cat([b.to(self.device) for b in self._samples()]).double()
        squares = torch.stack([old.square(), (new - old).square(), torch.ones_like(old)], dim=1)
        self.moved.index_add_(0, rows, squares)
        self._before = []

    def _samples(self) -> list[Tensor]:
        return [_sample(local(self._tensors[i].detach())) for i in self._rows]


def _sample(x: Tensor) -> Tensor:
    flat = x.reshape(-1) if x.is_contiguous() else x.flatten()
    if flat.is_complex():
        flat = torch.view_as_real(flat).flatten()
    if flat.numel() > SAMPLE:
        flat = flat[:: math.ceil(flat.numel() / SAMPLE)]
    return flat.clone()
