"""Tensors made of the same values, side by side: what they have in common adds up."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

import isograd

DRAWS = 10
Body = Callable[[Tensor], Tensor]


class Several(nn.Module):
    """One hidden layer, several things made of it, and what is left of their mean."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.body, self.a, self.out = body, nn.Linear(40, 128), nn.Linear(128, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.body(self.a(x)))
        return out


def stacked(h: Tensor) -> Tensor:
    return torch.stack([torch.tanh(h) * (k + 1) for k in range(4)], 1).mean(1)


def joined(h: Tensor) -> Tensor:
    rows = [torch.tanh(h)[:, None], torch.relu(h)[:, None], h[:, None]]
    return torch.cat(rows, 1).sum(1)


def filled(h: Tensor) -> Tensor:
    out = torch.zeros(len(h), 3, h.shape[1])
    for k in range(3):
        out[:, k - 3] = torch.relu(h) * (k + 1)
    return out.mean(1)


def copied(h: Tensor) -> Tensor:
    out = torch.empty_like(h)
    out.copy_(torch.tanh(h))
    return out


def means(build: Callable[[], nn.Module]) -> dict[str, list[float]]:
    """Root of the mean energy over draws of weights and batch."""
    sums: dict[str, list[float]] = {}
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        x = torch.randn(64, 40, generator=Generator().manual_seed(100 + seed))
        record = isograd.measure(build(), x, seed=200 + seed)
        for key in ("forward.rms", "backward.rms", "weight.grad_rms"):
            row = [(value or 0.0) ** 2 / DRAWS for value in record.series[key]]
            before = sums.setdefault(key, [0.0] * len(row))
            sums[key] = [one + two for one, two in zip(before, row, strict=True)]
    return {key: [math.sqrt(energy) for energy in row] for key, row in sums.items()}


@pytest.mark.parametrize("body", [stacked, joined, filled, copied])
def test_what_tensors_side_by_side_have_in_common(body: Body) -> None:
    seen = means(lambda: Several(body))
    with isograd.recording():
        model = Several(body)
    found = isograd.predict(model, "float32[64,40]")
    layers = [found.sites[i].kind == "linear" for i in range(len(found.sites))]
    for key, off in (("forward.rms", 0.05), ("backward.rms", 0.1), ("weight.grad_rms", 0.15)):
        for place, (one, two) in enumerate(zip(seen[key], found.series[key], strict=True)):
            if key == "weight.grad_rms" or layers[place]:
                assert two == pytest.approx(one, rel=off), (key, place)


def test_sums_over_samples_of_opposed_gradients_behind_norms() -> None:
    """Labels in equal numbers: the gradients of a bias cancel but for what a norm makes unlike."""

    def build() -> nn.Module:
        body = [nn.Linear(40, 32), nn.LayerNorm(32)]
        for _ in range(3):
            body += [nn.Linear(32, 32), nn.LayerNorm(32)]
        return nn.Sequential(*body, nn.Linear(32, 2))

    labels, sums = torch.arange(4) % 2, [0.0] * 18
    for seed in range(40):
        torch.manual_seed(seed)
        x = torch.randn(4, 40, generator=Generator().manual_seed(100 + seed))
        row = isograd.measure(build(), (x, labels)).series["weight.grad_rms"]
        sums = [one + (value or 0.0) ** 2 / 40 for one, value in zip(sums, row, strict=True)]
    with isograd.recording():
        model = build()
    found = isograd.predict(model, (torch.empty(4, 40, device="meta"), labels))
    for place, parameter in enumerate(found.parameters):
        if parameter.kind == "bias" or parameter.name.endswith("bias"):
            value, seen = found.series["weight.grad_rms"][place], math.sqrt(sums[place])
            assert value is not None
            assert 0.6 * seen < value < 1.2 * seen, parameter.name
