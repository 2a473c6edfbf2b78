"""Parameters at one step: their gradients, their sizes, and how far the optimizer moves them."""

from collections.abc import Sequence

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
        self._rows: Sequence[int] = ()
        self._small = [p.numel() <= SAMPLE for p in self._tensors]
        self._plain = all(type(p) is nn.Parameter for p in self._tensors)
        self.carried: float | Tensor | None = None
        """Size of the gradients that were there before this step, over those it was made with."""
        self._old: list[tuple[nn.Parameter, Tensor]] = []

    def clear(self) -> None:
        """Forgets what was read."""
        self.gradients.clear()
        self.weights.clear()
        self.moved.zero_()
        self.read.clear()
        self._rows, self._old, self.carried = (), [], None

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
        due = [
            index
            for index, p in enumerate(self._tensors)
            if index not in self.read and (id(p) in held or not p.requires_grad)
        ]
        self.read.update(due)
        whole, mine = not turn, turn % TURNS
        now = [i for i in due if whole or self._small[i] or i % TURNS == mine]
        _read(self.weights, now, self._own(now), whole=whole)
        gradients = [self._tensors[index].grad for index in due]
        self._rows = _read(self.gradients, due, gradients, whole=whole)
        self._moves.take(self._own(self._rows))

    @torch.no_grad()
    def after(self) -> None:
        """Compares the samples with what they have become."""
        if not self._rows:
            return
        found = self._moves.compare(self._own(self._rows))
        if len(self._rows) == len(self._tensors):
            self.moved += found
        else:
            self.moved[list(self._rows)] += found
        self._rows = ()

    def _own(self, rows: Sequence[int]) -> list[Tensor]:
        """What this process holds of parameters."""
        if self._plain:
            return [self._tensors[index] for index in rows]
        return [local(self._tensors[index].detach()) for index in rows]


def _read(
    table: Table, rows: Sequence[int], tensors: Sequence[Tensor | None], *, whole: bool
) -> Sequence[int]:
    """Reads tensors into rows; returns the rows of those that carry a signal."""
    left = range(len(rows)) if whole else table.read_parts(rows, tensors)
    signals = {
        place: local(x) for place in left if (x := tensors[place]) is not None and is_signal(x)
    }
    table.read_all([rows[place] for place in signals], [*signals.values()])
    without = {rows[place] for place in left if place not in signals}
    return [row for row in rows if row not in without] if without else rows
