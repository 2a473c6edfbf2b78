"""Losses that start too high: when that is a fault, and when the training takes it away."""

import dataclasses
import functools

import pytest
import torch
from threshold_readings import plateau, unabsorbed
from torch import nn
from torch.nn import functional as F

import isograd
from isograd.findings import Finding, Severity
from isograd.rules import RULES


@pytest.mark.parametrize(
    ("level", "value", "steps", "severity"),
    [
        (3.0, 12.0, 80, Severity.WARNING),  # five times chance, and still above it
        (3.0, 12.0, 40, None),  # it is on its way
        (2.0, 12.0, 80, None),  # it came below chance
        (3.0, 5.0, 80, None),  # usual initializations start there
        (3.0, 40.0, 80, Severity.WARNING),
        (2.0, 40.0, 80, Severity.INFO),
    ],
)
def test_what_is_not_absorbed_counts_from_three_times_chance(
    level: float, value: float, steps: int, severity: Severity | None
) -> None:
    found = RULES["IG603"].judge(unabsorbed(level, value, steps))
    assert (found.severity if isinstance(found, Finding) else None) is severity


class Letters(nn.Module):
    """Next letters of a line."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.RNN(12, 64, batch_first=True)
        self.head = nn.Linear(64, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(F.one_hot(x, 12).float())[0])
        return out.flatten(0, 1)


def test_a_recurrence_of_unit_normal_weights_is_drawn_anew() -> None:
    torch.manual_seed(0)
    lines = (torch.arange(25) * torch.randint(1, 6, (640, 1)) + torch.randint(12, (640, 1))) % 12
    batches = [(part[:, :-1], part[:, 1:].flatten()) for part in lines.split(32)]
    model = Letters()
    for p in model.parameters():
        nn.init.normal_(p)
    make = functools.partial(torch.optim.Adagrad, lr=0.1)
    done = isograd.repair(model, batches[0], optimizer=make, data=batches)
    assert done.changed, str(done)
    assert done.before.findings[0].cause == "init-too-large"
    assert any(code.startswith("init-") for code in done.remedies)


def test_small_steps_are_named_however_many_there_were() -> None:
    for steps in (60, 100, 140):
        slow = plateau([2.31 + 0.01 * (-1) ** k for k in range(steps)], spread=0.5, update=1.2e-4)
        found = RULES["IG604"].judge(slow)
        assert isinstance(found, Finding)
        assert (found.cause, found.severity) == ("lr-too-low", Severity.WARNING)
    warms = plateau([2.31 + 0.01 * (-1) ** k for k in range(140)], spread=0.5, update=1.2e-4)
    rates = {"optimizer.lr": 1e-4, "optimizer.lr_planned": 1e-3}
    seen = dataclasses.replace(warms.seen, facts={**warms.seen.facts, **rates})
    found = RULES["IG604"].judge(dataclasses.replace(warms, seen=seen))
    assert isinstance(found, Finding)
    assert found.severity is Severity.INFO
    usual = plateau([2.31 + 0.01 * (-1) ** k for k in range(140)], spread=0.5, update=1e-3)
    found = RULES["IG604"].judge(usual)
    assert isinstance(found, Finding)
    assert found.cause == "optimizer-hyperparameter"
