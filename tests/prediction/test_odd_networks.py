"""Networks that are put together in other ways than usual, against what draws of them do."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

import isograd

Build = Callable[[], nn.Module]
DRAWS = 10


def measured(build: Build, shape: tuple[int, ...]) -> dict[str, list[float]]:
    """Root of the mean energy over draws of weights and inputs, by key, in the record's order."""
    sums: dict[str, list[float]] = {}
    for seed in range(DRAWS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            x = torch.randn(shape, generator=Generator().manual_seed(1000 + seed))
            record = isograd.measure(build(), x, seed=2000 + seed)
        for key in ("forward.rms", "backward.rms", "weight.grad_rms"):
            row = [(value or 0.0) ** 2 / DRAWS for value in record.series[key]]
            before = sums.setdefault(key, [0.0] * len(row))
            sums[key] = [one + two for one, two in zip(before, row, strict=True)]
    return {key: [math.sqrt(energy) for energy in row] for key, row in sums.items()}


class Masked(nn.Module):
    """Attention that tells its weights: torch adds a mask of -inf to the products of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(96, 6, batch_first=True)
        self.register_buffer("mask", torch.ones(16, 16).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x, attn_mask=self.mask)[0]
        return out


class SharedBranch(nn.Module):
    """One branch, added several times: its gradients point the same way."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(96, 80), nn.Linear(80, 96)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(6):
            x = x + self.outer(torch.tanh(self.inner(x)))
        return x


class SharedKernel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(8, 32, 1), nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(5):
            x = x + 0.5 * torch.relu(self.conv(x))
        return x


class GatesWrittenOut(nn.Module):
    """An LSTM as tutorials have it: one product of input and state together, cut into gates."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Linear(96 + 80, 4 * 80), nn.Linear(80, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(len(x), 80)
        for t in range(x.shape[1]):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        out: Tensor = self.head(h)
        return out


class ConvolutionalGates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(8 + 32, 4 * 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = c = torch.zeros(len(x), 32, *x.shape[3:])
        for t in range(x.shape[1]):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return h


class Squeezed(nn.Module):
    """A branch times a number per channel, in front of the ReLU that gates its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(48, 48, 3, padding=1), nn.Linear(48, 48)
        self.head = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        weight = self.gate(y.mean((2, 3))).sigmoid()[:, :, None, None]
        out: Tensor = self.head(torch.relu(x + y * weight).mean((2, 3)))
        return out


class Waves(nn.Module):
    """Positions as sines and cosines in a frozen parameter: they are no independent draws."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.empty(32, 96), requires_grad=False)
        self.norm = nn.LayerNorm(96)
        self.attention = nn.MultiheadAttention(96, 4, batch_first=True)
        angle = torch.arange(32.0)[:, None] / 10_000 ** (torch.arange(0, 96, 2) / 96)
        self.position.copy_(torch.cat([angle.sin(), angle.cos()], 1))

    def forward(self, x: Tensor) -> Tensor:
        x = 0.3 * x + self.position
        y = self.norm(x)
        out: Tensor = x + self.attention(y, y, y, need_weights=False)[0]
        return out


@pytest.mark.parametrize(
    ("build", "shape", "errors"),
    [
        (Masked, (8, 16, 96), (0.03, 0.03, 0.04)),
        (SharedBranch, (16, 96), (0.06, 0.06, 0.08)),
        (SharedKernel, (4, 8, 12, 12), (0.03, 0.04, 0.08)),
        (GatesWrittenOut, (8, 8, 96), (0.06, 0.14, 0.20)),
        (Waves, (8, 32, 96), (0.06, 0.05, 0.09)),
        (Squeezed, (8, 48, 10, 10), (0.06, 0.05, 0.14)),
        (ConvolutionalGates, (4, 8, 8, 10, 10), (0.03, 0.08, 0.20)),
    ],
)
def test_prediction_is_what_draws_do(
    build: Build, shape: tuple[int, ...], errors: tuple[float, ...]
) -> None:
    record = isograd.predict(build, torch.randn(shape, generator=Generator().manual_seed(7)))
    for (key, known), error in zip(measured(build, shape).items(), errors, strict=True):
        largest = max(known)
        for place, (value, truth) in enumerate(zip(record.series[key], known, strict=True)):
            if truth > 1e-6 * largest:  # the bias of all keys does nothing
                assert value == pytest.approx(truth, rel=error), (key, place)
