"""Tests of sums that never cross 0, and of gradients that go straight through a quantization."""

import pytest
import torch
from torch import nn

import isograd


def compared(make, batch, draws: int = 40, loss=None) -> dict[str, tuple[float, float]]:
    """Predicted over measured rms, less one, forward and backward, of every site."""
    record = isograd.predict(make, batch(0), loss=loss)
    found: dict[str, tuple[float, float]] = {}
    squares: dict[tuple[str, str], float] = {}
    for seed in range(draws):
        torch.manual_seed(3 * seed)
        one = isograd.measure(make(), batch(seed), loss, seed=3 * seed + 2)
        for way in ("forward", "backward"):
            for site, rms in zip(one.sites, one.series[f"{way}.rms"], strict=True):
                key = (way, site.name)
                squares[key] = squares.get(key, 0.0) + (rms or 0.0) ** 2 / draws
    for at, site in enumerate(record.sites):
        errors = []
        for way in ("forward", "backward"):
            rms = record.value(f"{way}.rms", at)
            measured = squares[way, site.name] ** 0.5
            errors.append(rms / measured - 1 if measured and rms is not None else 0.0)
        found[site.name] = errors[0], errors[1]
    return found


def drawn(*shape: int):
    return lambda seed: torch.randn(*shape, generator=torch.Generator().manual_seed(3 * seed + 1))


class Rectified(nn.Module):
    """relu(x + relu(branch)) of an x that was rectified: the outer one does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(96, 96)
        self.branches = nn.ModuleList(nn.Linear(96, 96) for _ in range(5))
        self.last = nn.Linear(96, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        for branch in self.branches:
            x = torch.relu(x + torch.relu(branch(x)))
        return self.last(x)


def test_a_rectifier_of_what_is_never_negative_does_nothing():
    """Seen as a Gaussian it closed a part of the gates: 15 % low after two such blocks."""
    found = compared(Rectified, drawn(32, 96))
    errors = [error for name, pair in found.items() if ":" not in name for error in pair]
    assert max(map(abs, errors)) < 0.06, found


class Averages(nn.Module):
    """A running mean with exponential weights that know it, over the sum of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.value, self.known = (nn.Linear(48, 48) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = mean = torch.zeros(x.shape[0], 48)
        number = torch.ones(x.shape[0], 48)
        for t in range(x.shape[1]):
            gate, kept = self.weight(x[:, t]) + self.known(mean), torch.sigmoid(mean)
            number = kept * number + torch.exp(gate)
            total = kept * total + torch.exp(gate) * self.value(x[:, t])
            mean = total / number
        return mean


def test_a_running_sum_of_weights_is_never_near_zero():
    """One over a Gaussian is all tail: the fourth mean had an rms of 10^10."""
    record = isograd.predict(Averages, drawn(16, 12, 48)(0))
    assert record.facts["prediction.predictable"]
    found = compared(Averages, drawn(16, 12, 48), draws=10)
    assert max(abs(pair[0]) for pair in found.values()) < 1.0, found


class Quantized(nn.Module):
    """Straight-through, in either of the two ways that it is written."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        self.before, self.after = nn.Linear(64, 64), nn.Linear(64, 10)
        self.book = nn.Parameter(torch.randn(32, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        y = torch.softmax(x @ self.book.t(), -1) @ self.book
        x = x + (y - x).detach() if self.first else y - x.detach() + x
        return self.after(x)


@pytest.mark.parametrize("first", [True, False])
def test_a_gradient_that_goes_straight_through(first):
    """Forward y and backward x; as sums of independent terms forward was too large by x."""
    found = compared(lambda: Quantized(first), drawn(32, 64))
    errors = [error for name, pair in found.items() if ":" not in name for error in pair]
    assert max(map(abs, errors)) < 0.1, found
