"""Parameters at one step: their gradients, their sizes, and how far the optimizer moves them."""

from typing import Any

import torch
from torch import Tensor, nn

from isograd.sites.batches import is_signal
from isograd.statistics import Moves, Place, Table, local
from isograd.statistics.moves import SAMPLE, sample

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
        self.moved = torch.zeros(len(places), 3, dtype=torch.float64, device=self.device)
        """Of each one's sample: sums of squares before the step and of the change, and entries."""
        self.read: set[int] = set()
        """Parameters whose turn this step was, whole or as a sample."""
        self._moves = Moves(self.device)
        self._rows: list[int] = []
        self._of_gradients = [self.gradients.part_reader(i) for i in range(len(places))]
        self._of_weights = [self.weights.part_reader(i) for i in range(len(places))]
        self.carried: float | Tensor | None = None
        """Size of the gradients that were there before this step, over those it was made with."""
        self._old: list[tuple[nn.Parameter, Tensor]] = []

    def clear(self) -> None:
        """Forgets what was read."""
        self.gradients.clear()
        self.weights.clear()
        self.moved.zero_()
        self.read.clear()
        self._rows, self._old, self.carried = [], [], None

    @torch.no_grad()
    def starts_from(self, optimizer: torch.optim.Optimizer) -> None:
        """Keeps samples of the gradients that are there before the first backward of a step."""
        held = [p for group in optimizer.param_groups for p in group["params"]]
        some = held[:: max(1, len(held) // OLD)]
        self._old = [
            (p, sample(local(p.grad)).double().square().sum())
            for p in some
            if p.grad is not None and is_signal(p.grad)
        ]
        self.carried = None if self._old else 0.0

    @torch.no_grad()
    def _compare_old(self) -> None:
        old, self._old = self._old, []
        pairs = [
            (size.to(self.device), sample(local(p.grad)).double().square().sum().to(self.device))
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
        moving, whole = [], not turn
        for index, parameter in enumerate(self._tensors):
            if index in self.read or not (id(parameter) in held or not parameter.requires_grad):
                continue
            self.read.add(index)
            plain = _own(parameter)
            entries = plain.numel()
            if not entries:
                continue
            if entries <= SAMPLE or index % TURNS == turn % TURNS or whole:
                self._add(self.weights, self._of_weights[index], index, plain, whole=whole)
            gradient = parameter.grad
            if gradient is not None and self._add(
                self.gradients, self._of_gradients[index], index, gradient, whole=whole
            ):
                moving.append(index)
        self._rows = moving
        self._moves.take([_own(self._tensors[index]) for index in moving])

    def _add(self, table: Table, read: Any, index: int, x: Tensor, *, whole: bool) -> bool:
        """Reads a tensor, unless it carries no signal; the usual case takes no line too many."""
        if whole or read is None or not read(x):
            if not is_signal(x):
                return False
            table.read(index, local(x))
        return True

    @torch.no_grad()
    def after(self) -> None:
        """Compares the samples with what they have become."""
        if not self._rows:
            return
        found = self._moves.compare([_own(self._tensors[index]) for index in self._rows])
        if len(self._rows) == len(self._tensors):
            self.moved += found
        else:
            self.moved[self._rows] += found
        self._rows = []


def _own(parameter: Tensor) -> Tensor:
    """What this process holds of a parameter."""
    return parameter if type(parameter) is nn.Parameter else local(parameter.detach())
