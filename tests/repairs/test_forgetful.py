"""Recurrences that forget within two steps: ill where a longer memory learns far more."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isograd


class _Reader(nn.Module):
    """A plain recurrence over 70 steps, read at its end."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.r, self.head = nn.RNN(4, 48, batch_first=True), nn.Linear(48, 4)
        nn.init.orthogonal_(self.r.get_parameter("weight_hh_l0"), gain)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.r(x)[0][:, -1])
        return out


def _repaired(gain: float, back: int) -> Any:
    """Repair of a network whose classes stand `back` steps before the end."""
    torch.manual_seed(1)
    x = torch.randn(1024, 70, 4)
    batches = [(b, b[:, -back].argmax(1)) for b in x.split(64)]
    return isograd.repair(
        _Reader(gain),
        batches[0],
        nn.functional.cross_entropy,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        data=batches,
        budget=200,
    )


def test_forgotten_steps_that_the_task_needs_are_remembered() -> None:
    done = _repaired(0.4, back=3)
    assert done.verdict == "repaired"
    assert "init-recurrent" in done.remedies
    found = done.before.findings[0]
    assert (found.code, found.severity) == ("IG504", isograd.Severity.WARNING)
    assert found.evidence["memory"] < 2
    assert "with orthogonal recurrent weights to" in found.message


@pytest.mark.parametrize(("gain", "back", "steps"), [(0.4, 1, 100), (1.0, 3, 16)])
def test_a_short_memory_is_left_alone_where_it_does(gain: float, back: int, steps: int) -> None:
    done = _repaired(gain, back)
    assert done.verdict == "healthy"
    assert done.learned
    assert done.cost.steps <= steps
