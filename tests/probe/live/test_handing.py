"""Looks close together are handed over together, in order, and at once when it matters."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import nn

import isograd
from isograd.errors import IsogradWarning
from isograd.probe.live import handing
from isograd.probe.live.handing import EAGER, TOGETHER
from isograd.probe.live.reader import Reader
from isograd.records import Record, RunInfo
from isograd.sinks import Sink


class Told(Sink):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.looks: list[int] = []

    def open(self, info: RunInfo) -> None: ...

    def record(self, record: Record) -> None:
        self.looks.append(record.step)

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None: ...


def training() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    return model, torch.optim.SGD(model.parameters(), 0.01)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, *, times: float = 1.0) -> None:
    optimizer.zero_grad()
    (model(torch.ones(11, 5)).square().mean() * times).backward()
    optimizer.step()


def test_the_first_looks_come_at_once_and_later_ones_together() -> None:
    model, optimizer = training()
    told, arrived = Told(), []
    with isograd.watch(model, optimizer, every=1, sinks=(told,), on_finding=None):
        for _ in range(EAGER + 3 * TOGETHER):
            step(model, optimizer)
            arrived.append(len(told.looks))
    assert arrived[:EAGER] == list(range(1, EAGER + 1))
    assert arrived[EAGER:] == [EAGER + (k + 1) // TOGETHER * TOGETHER for k in range(3 * TOGETHER)]
    assert told.looks == list(range(EAGER + 3 * TOGETHER))


def test_who_asks_gets_everything_so_far() -> None:
    model, optimizer = training()
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None) as watch:
        for number in range(EAGER + 5):
            step(model, optimizer)
            if number < EAGER + 2:
                continue
            assert watch.record is not None
            assert watch.record.step == watch.losses[-1][0] == number


def test_nothing_waits_when_it_is_not_finite() -> None:
    model, optimizer = training()
    told = Told()
    with isograd.watch(model, optimizer, every=1, sinks=(told,), on_finding=None):
        for _ in range(EAGER + 2):
            step(model, optimizer)
        assert len(told.looks) == EAGER
        step(model, optimizer, times=math.inf)
        assert told.looks == list(range(EAGER + 3))


def test_nothing_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "SOON", 0.0)
    model, optimizer = training()
    told = Told()
    with isograd.watch(model, optimizer, every=1, sinks=(told,), on_finding=None):
        for number in range(EAGER + 3):
            step(model, optimizer)
            assert len(told.looks) == number + 1


def test_looks_far_apart_do_not_wait() -> None:
    model, optimizer = training()
    told = Told()
    with isograd.watch(model, optimizer, sinks=(told,), on_finding=None) as watch:
        for _ in range(40):
            step(model, optimizer)
            known = watch._desk.watcher._read.count
            assert len(told.looks) == known


def test_a_fault_loses_no_look_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = training()
    told = Told()
    with isograd.watch(model, optimizer, every=1, sinks=(told,), on_finding=None):
        for _ in range(EAGER + 2):
            step(model, optimizer)
        monkeypatch.setattr(Reader, "before", None)
        with pytest.warns(IsogradWarning, match="watching ended at step 10"):
            step(model, optimizer)
        assert told.looks == list(range(EAGER + 2))
