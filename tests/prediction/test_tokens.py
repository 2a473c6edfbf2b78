"""Tests of attention over positions that are alike because they are near each other."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import isograd
from isograd.prediction.functions.tokens import unlikeness

WIDTH, LENGTH = 64, 24


def waves(length: int, width: int) -> torch.Tensor:
    at = torch.arange(length)[:, None]
    pace = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.cat([torch.sin(at * pace), torch.cos(at * pace)], dim=1)


class Attention(nn.Module):
    """One head, without mask or with one."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.norm(x)
        found = nn.functional.scaled_dot_product_attention(
            self.q(n), self.k(n), self.v(n), is_causal=self.causal
        )
        return x + self.o(found)


class Encoder(nn.Module):
    """Waves added to a stream, a layer of gates, attention."""

    def __init__(self, *, waved: bool = True, windows: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.waved, self.windows = waved, windows
        self.first = nn.Conv1d(WIDTH, WIDTH, 9, padding=4) if windows else nn.Linear(WIDTH, WIDTH)
        self.mixed, self.attention = nn.Linear(WIDTH, WIDTH), Attention(causal)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.mT).mT if self.windows else self.first(x)
        if self.waved:
            x = x + waves(x.shape[1], WIDTH)
        return self.attention(x + self.mixed(torch.relu(x)))


def batch(seed: int) -> torch.Tensor:
    return torch.randn(4, LENGTH, WIDTH, generator=torch.Generator().manual_seed(3 * seed + 1))


def errors(draws: int = 30, **settings: bool) -> dict[str, float]:
    """Of rms of gradients of weights, predicted over measured, less one."""
    record = isograd.predict(lambda: Encoder(**settings), batch(0))
    squares: dict[str, float] = {}
    for seed in range(draws):
        torch.manual_seed(3 * seed)
        measured = isograd.measure(Encoder(**settings), batch(seed), seed=3 * seed + 2)
        for one, rms in zip(measured.parameters, measured.series["weight.grad_rms"], strict=True):
            squares[one.name] = squares.get(one.name, 0.0) + rms**2 / draws
    found = zip(record.parameters, record.series["weight.grad_rms"], strict=True)
    return {one.name: rms / squares[one.name] ** 0.5 - 1 for one, rms in found}


@pytest.mark.parametrize(
    "settings",
    [{}, {"causal": True}, {"waved": False, "windows": True}, {"windows": True}],
    ids=["waves", "causal", "windows", "both"],
)
def test_queries_and_keys_see_that_near_positions_are_alike(settings):
    """Half of it was missing: sums of products of covariances are not products of their means."""
    found = errors(**settings)
    for name in ("q", "k", "v", "o"):
        assert abs(found[f"attention.{name}.weight"]) < 0.1, found


def test_independent_positions_are_alike_by_chance_alone():
    found = errors(waved=False)
    for name in ("q", "k", "v", "o"):
        assert abs(found[f"attention.{name}.weight"]) < 0.1, found


class Nothing:
    """A run in which nothing was made."""

    class twins:
        made: dict[int, object] = {}  # noqa: RUF012


@pytest.mark.parametrize("length", [24, 600])
def test_unlikeness_is_that_of_all_pairs(length):
    from isograd.prediction.operands import constant

    table = waves(length, WIDTH)
    gram = (table @ table.T).double().numpy() / WIDTH
    centered = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    apart = centered[~np.eye(length, dtype=bool)]
    expected = apart.var() / np.diagonal(centered).mean() ** 2
    found = unlikeness(Nothing(), constant(table))
    assert found == pytest.approx(expected, rel=1e-5 if length < 256 else 0.1)
    alike = constant(torch.randn(1, WIDTH).expand(length, WIDTH).clone())
    assert unlikeness(Nothing(), alike) < 1e-6
