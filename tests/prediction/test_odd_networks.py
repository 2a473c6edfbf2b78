"""Networks that are put together in other ways than usual, against what draws of them do."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn

import isograd

Build = Callable[[], nn.Module]
DRAWS = 10


def measured(build: Build, shape: tuple[int, ...], key: str) -> dict[str, float]:
    """Root of the mean energy over draws of weights and inputs, by site."""
    sums: dict[str, float] = {}
    for seed in range(DRAWS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            x = torch.randn(shape, generator=Generator().manual_seed(1000 + seed))
            record = isograd.measure(build(), x, seed=2000 + seed)
        for site, value in zip(record.sites, record.series[key], strict=True):
            sums[site.name] = sums.get(site.name, 0.0) + (value or 0.0) ** 2 / DRAWS
    return {name: math.sqrt(energy) for name, energy in sums.items()}


class Masked(nn.Module):
    """Attention that tells its weights: torch adds a mask of -inf to the products of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(96, 6, batch_first=True)
        self.register_buffer("mask", torch.ones(16, 16).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(x, x, x, attn_mask=self.mask)[0]
        return out


@pytest.mark.parametrize(
    ("build", "shape", "forward", "backward"), [(Masked, (8, 16, 96), 0.03, 0.03)]
)
def test_prediction_is_what_draws_do(
    build: Build, shape: tuple[int, ...], forward: float, backward: float
) -> None:
    record = isograd.predict(build, torch.randn(shape, generator=Generator().manual_seed(7)))
    for key, error in (("forward.rms", forward), ("backward.rms", backward)):
        known = measured(build, shape, key)
        for site, value in zip(record.sites, record.series[key], strict=True):
            assert value == pytest.approx(known[site.name], rel=error), (key, site.name)
