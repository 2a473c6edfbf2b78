"""Optimizers that warm up or clip are torch's own: schedules, groups and states work as ever."""

import copy
import functools
from typing import Any

import pytest
import torch
from torch import nn

from isograd import remedies
from isograd.remedies._examples import classes, plain
from isograd.remedies._optimizers import Clipped, Warmed

SGD = functools.partial(torch.optim.SGD, lr=0.5)


def rates_of_steps(optimizer: torch.optim.Optimizer, schedule: Any, steps: int) -> list[float]:
    """By how much steps on a gradient of one move a weight."""
    moved = []
    for _ in range(steps):
        weight = optimizer.param_groups[0]["params"][0]
        before, weight.grad = float(weight.detach()), torch.ones_like(weight)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        moved.append(before - float(weight.detach()))
    return moved


def test_a_schedule_goes_on_beside_a_warm_up() -> None:
    weight = nn.Parameter(torch.zeros(()))
    optimizer = Warmed(SGD, 4)([weight])
    moved = rates_of_steps(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1), 8)
    rise = (0.25, 0.5, 0.75, 1, 1, 1, 1, 1)
    steps = (1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001)
    assert moved == pytest.approx([0.5 * a * b for a, b in zip(rise, steps, strict=True)], rel=1e-3)
    assert weight.grad is None


@pytest.mark.parametrize("make", [Warmed(SGD, 10), Clipped(SGD, 1.0)])
def test_what_makes_it_makes_one_of_torch(make: Any) -> None:
    optimizer = make([nn.Parameter(torch.zeros(()))])
    assert isinstance(optimizer, torch.optim.Optimizer)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    rates_of_steps(optimizer, schedule, 3)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(()))], "lr": 0.25})
    optimizer.step()
    assert optimizer.param_groups[1]["lr"] == 0.25
    assert len(copy.deepcopy(optimizer).param_groups) == 2
    optimizer.load_state_dict(optimizer.state_dict())


def test_a_change_says_what_makes_its_optimizer() -> None:
    model = plain(2, gain=1.0)
    own = torch.optim.SGD(model.parameters(), lr=5.0)
    change = remedies.apply("optimizer-warmup", model, classes(), optimizer=own)
    assert "change.optimizer(change.model.parameters()) makes one" in str(change)
    assert change.optimizer is not None
    made = change.optimizer(change.model.parameters())
    torch.optim.lr_scheduler.StepLR(made, 1)
    change.undo()
    assert own.param_groups[0]["lr"] == made.param_groups[0]["lr"] == 5.0
    scaled = remedies.apply("init-gain", plain(), classes())
    assert "change.optimizer" not in str(scaled)
