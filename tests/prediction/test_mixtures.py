"""Sums of a rectified term and a Gaussian one: what a gradient holds of either, against draws."""

import numpy as np
import pytest
import torch

from isograd import Record, measure, predict
from isograd.prediction.functions.gaussian import Nodes, Quadrature
from isograd.prediction.functions.mixtures import quadrature_of
from isograd.prediction.moments.known import independent
from isograd.prediction.moments.sums import summed

DRAWS = 400_000


@pytest.mark.parametrize("deviation", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_terms_given_their_sum(deviation: float, sign: float) -> None:
    u, other = independent((4, 8), 0.2, 1.0), independent((4, 8), 0.0, deviation**2)
    quadrature = Quadrature.of(u)
    x = quadrature.x
    nodes = Nodes(quadrature, np.maximum(x, 0.0), (x > 0).astype(float))
    mean, second = nodes.moments(u)
    skewed = u.like(second, mean)
    skewed.origin, skewed.nodes = u, nodes
    total = summed(other, skewed, sign)
    total.notes["terms"] = (skewed, other, sign)
    found = quadrature_of(total)
    assert found.given is not None

    rng = np.random.default_rng(0)
    a = sign * np.maximum(rng.normal(0.2, 1.0, DRAWS), 0.0)
    b = rng.normal(0.0, deviation, DRAWS)
    for term, (share, square) in zip((a, b), found.given(), strict=True):
        away = term - term.mean()
        for gate in (lambda t: t > 0, lambda t: 1 / (1 + np.exp(-t))):
            slope = gate(found.x)
            for known, power in ((share, 1), (square, 2)):
                expected = float((gate(a + b) * away**power).mean())
                scale = float(np.mean(np.abs(away) ** power))
                answer = float((found.weights * slope * known).sum())
                assert answer == pytest.approx(expected, abs=0.01 * scale)


class Squeezed(torch.nn.Module):
    """relu(relu(a) + b s(mean b)), as in a residual block with squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = torch.nn.Conv2d(8, 64, 3, padding=1, bias=False)
        self.branch = torch.nn.Conv2d(8, 64, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(64)
        self.gate = torch.nn.Linear(64, 64)
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.branch(x))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3))))[:, :, None, None]
        return self.head(torch.relu(2 * torch.relu(self.skip(x) - 0.5) + y).mean((2, 3)))


def _backward(record: Record, name: str) -> float:
    value = record.value("backward.rms", [site.name for site in record.sites].index(name))
    assert value is not None
    return value


def test_gates_of_channels_know_what_their_gradient_sums_up() -> None:
    draws = []
    for seed in range(12):
        torch.manual_seed(seed)
        x = torch.randn(8, 8, 10, 10)
        draws.append(_backward(measure(Squeezed(), x, seed=seed), "gate"))
    torch.manual_seed(0)
    guess = _backward(predict(Squeezed(), torch.randn(8, 8, 10, 10)), "gate")
    assert guess == pytest.approx(float(np.mean(np.square(draws))) ** 0.5, rel=0.06)


class Block(torch.nn.Module):
    """relu(x + norm(conv x))."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(units, units, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class Stack(torch.nn.Module):
    """Residual blocks under a mean over places, whose gradients are alike at all places."""

    def __init__(self, units: int = 64, blocks: int = 4) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(8, units, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(units)
        self.blocks = torch.nn.Sequential(*[Block(units) for _ in range(blocks)])
        self.head = torch.nn.Linear(units, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(self.blocks(x).mean((2, 3)))


def test_places_are_open_together_along_a_rectified_stream() -> None:
    def of_norms(record: Record) -> dict[str, float]:
        rows = zip(record.parameters, record.series["weight.grad_rms"], strict=True)
        return {p.name: v or 0.0 for p, v in rows if ".norm." in p.name}

    draws = []
    for seed in range(20):
        torch.manual_seed(seed)
        draws.append(of_norms(measure(Stack(), torch.randn(8, 8, 8, 8), seed=seed)))
    torch.manual_seed(0)
    guess = of_norms(predict(Stack(), torch.randn(8, 8, 8, 8)))
    for name, value in guess.items():
        known = float(np.mean([draw[name] ** 2 for draw in draws])) ** 0.5
        assert value == pytest.approx(known, rel=0.18), name


class Named(torch.nn.Module):
    """relu(norm(conv x) + norm(x)), x rectified: the identity's norm of RepVGG."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(units, units, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(units)
        self.identity = torch.nn.BatchNorm2d(units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)) + self.identity(x))


def test_norms_of_what_is_rectified_stay_skewed() -> None:
    def build() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv2d(8, 64, 3, padding=1, bias=False), torch.nn.BatchNorm2d(64),
            torch.nn.ReLU(), *[Named(64) for _ in range(3)],
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 5),
        )  # fmt: skip

    draws = []
    for seed in range(8):
        torch.manual_seed(seed)
        record = measure(build(), torch.randn(8, 8, 8, 8), seed=seed)
        draws.append([record.series[key] for key in ("forward.rms", "backward.rms")])
    known = np.sqrt(np.mean(np.square(np.array(draws, dtype=float)), axis=0))
    guess = predict(build, torch.randn(8, 8, 8, 8))
    for i, site in enumerate(guess.sites):
        if site.name.endswith(".conv"):
            assert guess.series["forward.rms"][i] == pytest.approx(known[0][i], rel=0.04)
            assert guess.series["backward.rms"][i] == pytest.approx(known[1][i], rel=0.16)
