"""Tests of losses over pairs: what targets have in common where logits meet them twice."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import isograd

SIZE = 48


class Pairs(nn.Module):
    """Two encoders, or one for both; logits are products of normalized outputs."""

    def __init__(self, *, shared=False):
        super().__init__()
        self.first = nn.Linear(32, 24)
        self.second = self.first if shared else nn.Linear(32, 24)

    def forward(self, a, b):
        return F.normalize(self.first(a), dim=-1), F.normalize(self.second(b), dim=-1)


class Symmetric(Pairs):
    def forward(self, a, b):
        x, y = super().forward(a, b)
        logits, target = math.exp(2.0) * x @ y.T, torch.arange(SIZE)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class Both(Pairs):
    def __init__(self):
        super().__init__(shared=True)

    def forward(self, a, b):
        z = torch.cat(super().forward(a, b))
        logits = (z @ z.T / 0.5).masked_fill(torch.eye(2 * SIZE, dtype=torch.bool), -1e9)
        return F.cross_entropy(logits, torch.arange(2 * SIZE).roll(SIZE))


class Roots(nn.Module):
    """A function of a length, which is a function of a sum."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(32, 24)

    def forward(self, a, b):
        return (1 - F.pairwise_distance(self.first(a), b[:, :24])).square().mean()


@pytest.mark.parametrize(("build", "within"), [(Symmetric, 0.12), (Both, 0.12), (Roots, 0.07)])
def test_gradients_of_pairs(build, within):
    """Of independent gradients their sum would be 30 % too low, or nothing arrives at all."""
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.randn(SIZE, 32, generator=generator) for name in "ab"}
    record = isograd.predict(build, batch)
    place = next(n for n, site in enumerate(record.sites) if site.name == "first")
    drawn = []
    for seed in range(40):
        torch.manual_seed(seed)
        drawn.append(isograd.measure(build(), batch).series["backward.rms"][place])
    truth = float(np.sqrt(np.mean(np.square(drawn))))
    assert record.series["backward.rms"][place] == pytest.approx(truth, rel=within)


def test_triplets_and_angles_are_predicted_by_rules():
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.randn(SIZE, 32, generator=generator) for name in "abc"}

    class Triplet(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(32, 24)

        def forward(self, a, b, c):
            x, y, z = self.first(a), self.first(b), self.first(c)
            angles = F.cosine_embedding_loss(x, y, torch.arange(SIZE) % 2 * 2 - 1)
            return F.triplet_margin_loss(x, y, z) + angles

    record = isograd.predict(Triplet, batch)
    assert not record.facts["prediction.sampled"]
    loss = record.facts["loss.value"]
    found = []
    for seed in range(10):
        torch.manual_seed(seed)
        found.append(float(Triplet()(**batch).detach()))
    assert loss == pytest.approx(np.mean(found), rel=0.05)
