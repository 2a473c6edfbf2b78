"""Loops to watch, and what a watch saw of them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import isograd
from isograd.records import Record
from isograd.watching import Watch

Loop = Callable[[nn.Module, torch.optim.Optimizer], None]


def data(rows: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 8, generator=generator)
    return x, torch.randint(4, (rows,), generator=generator)


class Net(nn.Module):
    """Two blocks, of which the second may be checkpointed."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 16), nn.Tanh())
        self.second = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
        self.head = nn.Linear(16, 4)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.reentrant is None:
            x = self.second(x)
        else:
            x = checkpoint(self.second, x, use_reentrant=self.reentrant)
        return self.head(F.relu(x) + x)


def watched(model: nn.Module, loop: Loop, **options: Any) -> Watch:
    torch.manual_seed(5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None, **options) as watch:
        loop(model, optimizer)
    assert watch.failure is None
    return watch


def make(reentrant: bool | None = None) -> Net:
    torch.manual_seed(0)
    return Net(reentrant)


def plain(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    x, y = data()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def looks(watch: Watch) -> list[Record]:
    assert watch.reading is not None
    return [watch.reading.seen, *watch.reading.history]


def same(one: Record, other: Record, *keys: str) -> None:
    assert [s.name for s in one.sites] == [s.name for s in other.sites]
    for key in keys:
        columns = [[math.nan if n is None else n for n in r.series[key]] for r in (one, other)]
        assert columns[0] == pytest.approx(columns[1], rel=1e-5, abs=1e-9, nan_ok=True), key


RMS = ("forward.rms", "backward.rms", "weight.grad_rms")
