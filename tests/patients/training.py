"""Trainings that are watched: a loop that looks every few steps, and its parts."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.alarms import Alarms
from isograd.diagnosis import diagnose
from isograd.findings import Alarm
from isograd.probe.facts import optimizer_facts
from isograd.probe.measuring import measure
from isograd.records import Reading, Record

Batches = Iterator[tuple[Any, Any]]


@dataclass
class Training:
    """A training loop in parts."""

    model: nn.Module
    batches: Batches
    optimizer: torch.optim.Optimizer
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    schedule: Callable[[int], float] | None = None
    """Learning rate as a multiple of the optimizer's, by step."""
    meddle: Callable[[int, "Training"], None] = lambda *_: None
    """Called before every step: what goes wrong, or what else is trained."""
    looks: dict[int, Record] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def run(self, steps: int, every: int) -> Iterator[tuple[int, Reading]]:
        """Trains; every few steps, and at each of the first ones, the reading so far."""
        for step, batch in self.prepared(steps):
            look = step % every == 0 or step in (1, 2, 4, 8)
            record = measure(self.model, batch, self.loss, step=step) if look else None
            before = [p.detach().clone() for p in self.model.parameters()] if look else []
            self.step(batch)
            if record is not None:
                yield step, self._reading(record, before)

    def prepared(self, steps: int) -> Iterator[tuple[int, tuple[Any, Any]]]:
        """Steps and their batches, each once the learning rate is set and it was meddled with."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for step in range(steps):
            if self.schedule is not None:
                for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * self.schedule(step)
            self.meddle(step, self)
            yield step, next(self.batches)

    def step(self, batch: tuple[Any, Any]) -> None:
        """One step, as any training loop has it."""
        self.optimizer.zero_grad()
        value = self.loss(self.model(batch[0]), batch[1])
        self.losses.append(float(value.detach()))
        value.backward()
        self.optimizer.step()

    def _reading(self, record: Record, before: list[Tensor]) -> Reading:
        ratios = tuple(
            float((new.detach() - old).norm() / old.norm()) if old.norm() > 0 else None
            for old, new in zip(before, self.model.parameters(), strict=True)
        )
        facts = {**record.facts, **optimizer_facts(self.optimizer, self.model.named_parameters())}
        series = {**record.series, "weight.update_ratio": ratios}
        first = next(iter(self.looks.values()), record)
        record = replace(record, facts=facts, series=series)
        if record.sites == first.sites:
            record = replace(record, sites=first.sites, parameters=first.parameters)
        self.looks[record.step] = record
        losses = [list(range(len(self.losses))), list(self.losses)]
        last = replace(record, facts={**facts, "watch.losses": losses})
        kept = list(self.looks.values())
        return Reading(kept[0] if len(kept) > 1 else last, history=(*kept[1:-1], last)[-64:])


def watched(training: Training, steps: int, every: int = 10) -> tuple[list[Alarm], Alarms, Reading]:
    """Trains and judges: all changes of alarms, the alarms, and the last reading."""
    alarms, changes = Alarms(), list[Alarm]()
    reading = None
    for step, reading in training.run(steps, every):
        changes += alarms.update(step, diagnose(reading))
    assert reading is not None
    return changes, alarms, reading


def stream(x: Tensor, y: Tensor, size: int = 64) -> Batches:
    """Batches for ever."""
    while True:
        order = torch.randperm(len(x))
        for k in range(0, len(x) - size + 1, size):
            yield x[order[k : k + size]], y[order[k : k + size]]


def mlp(*widths: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
        if act is nn.ReLU:
            nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
            nn.init.zeros_(layers[-2].bias)
    head = nn.Linear(widths[-1], 10)
    return nn.Sequential(*layers, head)


def sgd(model: nn.Module, lr: float, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **more)


def adam(model: nn.Module, lr: float, **more: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr, **more)


def cosine(steps: int, warm: int) -> Callable[[int], float]:
    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    return rate


class Transformer(nn.Module):
    """Eight rows of a digit as tokens."""

    def __init__(self, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(torch.randn(8, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.reshape(-1, 8, 8)) + self.place
        return self.head(self.body(x).mean(1))


class Gru(nn.Module):
    """Reads a digit row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.GRU(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.reshape(-1, 8, 8))[0][:, -1])


def conv() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 32, 3, padding=1, stride=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
