"""Tests of scales that differ from place to place and among samples, forward and backward."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import isograd
from isograd.prediction.functions import powers
from isograd.prediction.functions.gaussian import Nodes, Quadrature
from isograd.prediction.functions.powers import POWERS, Filter, Powers
from isograd.prediction.functions.spread import shares_of, unequal
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.sweeps import Sweep

SHAPE = (5, 3, 7)
"""Samples, channels, places."""


def silu(z):
    return z / (1 + np.exp(-z))


def brute_force(rho, away, *, common):
    """E f(sqrt(s) u) f(sqrt(s') u') for scales 1 + away and 1 - away, by Gauss-Hermite."""
    x, w = np.polynomial.hermite_e.hermegauss(61)
    w = w / w.sum()
    total = 0.0
    for one in (1 + away, 1 - away):
        for other in (one,) if common else (1 + away, 1 - away):
            u = x[:, None]
            v = rho * u + math.sqrt(1 - rho**2) * x
            found = silu(math.sqrt(one) * u) * silu(math.sqrt(other) * v)
            total += w @ found @ w / (2 if common else 4)
    return total


@pytest.mark.parametrize("rho", [0.0, 0.4, -0.7])
def test_functions_of_scaled_gaussians(rho):
    """Pairs that share their scale, and pairs that do not, against two scales and quadrature."""
    away = 0.4
    second = np.full((2, 2, 2), rho)
    second[0, 0, 0] = 1.0
    u = Field(second, tuple((n,) for n in SHAPE), (1, 1, 1), np.zeros((1, 1, 1)))
    u.notes[POWERS] = (Powers({0: away}, kurtosis=3 * (1 + away**2)),) * 2
    quadrature = Quadrature.of(u)
    mean, found = Nodes(quadrature, silu(quadrature.x), quadrature.x).moments(u)
    assert found[0, 0, 1] == pytest.approx(brute_force(rho, away, common=True), rel=3e-3)
    assert found[1, 0, 0] == pytest.approx(brute_force(rho, away, common=False), rel=3e-3)
    assert found[0, 0, 0] == pytest.approx(brute_force(1.0, away, common=True), rel=3e-3)
    assert abs(brute_force(1.0, 0.0, common=True) / found[0, 0, 0] - 1) > 0.01
    assert mean.item() == pytest.approx(brute_force(0.0, away, common=False) ** 0.5, rel=3e-3)


@pytest.mark.parametrize(("channels", "uniform"), [(6, False), (5, True)])
def test_few_channels_make_places_unequal(channels, uniform):
    """Two channels of a layer of few inputs: covariance of their squares, and the kurtosis."""
    torch.manual_seed(3)
    draws, wide = 40_000, 8
    x = torch.relu(torch.randn(draws, channels, 1, dtype=torch.float64))
    if uniform:
        w = (torch.rand(draws, wide, channels, dtype=torch.float64) - 0.5) * math.sqrt(12)
    else:
        w = torch.randn(draws, wide, channels, dtype=torch.float64)
    y = (w @ x).squeeze(-1).square()
    energy = y.mean()
    pairs = (y.sum(1).square() - y.square().sum(1)).mean() / (wide * (wide - 1)) / energy**2 - 1
    second = np.full((2, 2), 1 / (2 * math.pi))
    second[0, 0] = 0.5
    cuts = ((draws,), (channels,))
    origin = Field(np.eye(2)[:1].repeat(2, 0) * [[1], [0]], cuts, (1, 1), np.zeros((1, 1)))
    quadrature = Quadrature.of(origin)
    relu = np.maximum(quadrature.x, 0)
    field = Field(second, cuts, (1, 1), np.full((1, 1), (2 * math.pi) ** -0.5), origin)
    field.nodes = Nodes(quadrature, relu, np.sign(relu))
    out = Field(np.eye(2), ((draws,), (wide,)), (1, 1), np.zeros((1, 1)))
    powers.note_convolved(out, field, Filter(channels, (), 1.0, 1.8 if uniform else 3.0), 1)
    raw = out.notes[POWERS][0]
    assert raw.place == pytest.approx(pairs.item(), rel=0.05)
    assert raw.kurtosis == pytest.approx((y.square().mean() / energy**2).item(), rel=0.03)


@pytest.mark.parametrize("common", [0.0, 0.5])
def test_gradients_through_weights_that_a_norm_divides_by(common):
    """E s E 1/s, and E s E |w|^2/s, of s = w B w, B counting what reaches over the border."""
    size, taps = 3, 3
    second = np.full((2, 2, 2), 0.0)
    second[0, 0] = common
    second[0, 0, 0] = 1.0
    shape = (8, 4, 1, size)
    x = Field(second, ((8,), (4,), (size,)), (1, 1, 0, 1), np.zeros((1, 1, 1)))
    assert x.shape == shape
    sweep = Sweep(size, size, taps, 1, 1, 1)
    found, behind = unequal(lambda: shares_of(x, [sweep]), 3.0)
    rest = common - (1 + 2 * common) / size / 8  # without the mean of the batch
    b = np.where(np.eye(taps), 1 - (1 + 2 * common) / size / 8, rest)
    there = sweep.places()[1].astype(float)
    b = b * (there.T @ there)
    w = np.random.default_rng(1).standard_normal((400_000, taps))
    s = np.einsum("ni,ij,nj->n", w, b, w)
    # 1 / s of three weights has no variance: compare what has, weighted by s^(1/2).
    assert 0 < found <= 1
    ratio = float((np.square(w).sum(1) / s).mean() * s.mean() / taps)
    assert 1 + behind == pytest.approx(ratio, rel=0.03)


def block(size, act, *, width=360, taps=3):
    return nn.Sequential(
        nn.Conv2d(48, width, 1, bias=False), nn.BatchNorm2d(width), act(),
        nn.Conv2d(width, width, taps, padding=taps // 2, groups=width, bias=False),
        nn.BatchNorm2d(width), act(), nn.Conv2d(width, 96, 1, bias=False), nn.BatchNorm2d(96),
    )  # fmt: skip


def alike(seed, size, common):
    torch.manual_seed(seed)
    lead = torch.randn(8, 48, 1, 1)
    return common**0.5 * lead + (1 - common) ** 0.5 * torch.randn(8, 48, size, size)


def measured(build, batch, draws):
    """{name: (rms, gradient's rms)} of the children of a network over draws, a probe behind it."""
    found = {}
    for seed in range(draws):
        torch.manual_seed(1000 + seed)
        model = build()
        kept = {}

        def keep(name, kept=kept):
            def hook(_module, _given, made):
                made.retain_grad()
                kept[name] = made

            return hook

        for name, module in model.named_children():
            module.register_forward_hook(keep(name))
        out = model(batch(seed).requires_grad_())
        (out * torch.randn_like(out)).sum().backward()
        for name, one in kept.items():
            both = one.detach().square().mean().item(), one.grad.square().mean().item()
            found.setdefault(name, []).append(both)
    return {name: np.sqrt(np.mean(rows, axis=0)) for name, rows in found.items()}


def errors(build, batch, draws):
    """{name: (forward, backward)} relative, the gradient that arrives taken as exact."""
    record = isograd.predict(build, batch(0))
    sites = {site.name: place for place, site in enumerate(record.sites)}
    truth = measured(build, batch, draws)
    last = list(truth)[-1]
    scale = truth[last][1] / record.series["backward.rms"][sites[last]]
    return {
        name: (
            record.series["forward.rms"][sites[name]] / forward - 1,
            scale * record.series["backward.rms"][sites[name]] / backward - 1,
        )
        for name, (forward, backward) in truth.items()
    }


@pytest.mark.parametrize(
    ("size", "act", "common", "within"),
    [
        (6, nn.ReLU6, 0.0, 0.01),
        (3, nn.ReLU6, 0.5, 0.025),
        (6, nn.SiLU, 0.0, 0.012),
    ],
)
def test_a_block_of_few_weights(size, act, common, within):
    """Outputs and gradients at each layer; a gradient of independent scales is 5 % off."""
    found = errors(lambda: block(size, act), lambda seed: alike(seed, size, common), 24)
    for name, (forward, backward) in found.items():
        assert abs(forward) < within, name
        assert abs(backward) < within, name


class Dropped(nn.Module):
    """Two branches that whole samples go without at random, and what follows."""

    def __init__(self, share=0.25):
        super().__init__()
        self.first = nn.Conv2d(48, 64, 1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(64, 64, 1, bias=False), nn.BatchNorm2d(64)) for _ in range(2)
        )
        self.second = nn.Conv2d(64, 256, 1, bias=False)
        self.last_norm, self.act = nn.BatchNorm2d(256), nn.SiLU()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Conv2d(256, 32, 1, bias=False)
        self.share = share

    def forward(self, x):
        x = self.norm(self.first(x))
        for branch in self.branches:
            kept = x.new_empty([len(x), 1, 1, 1]).bernoulli_(1 - self.share) / (1 - self.share)
            x = x + branch(x) * kept
        x = self.last_norm(self.second(x))
        return self.head(self.pool(self.act(x)))


def test_dropped_samples():
    """A sample that is dropped is smaller than the others; its pooled SiLU is by its variance."""
    found = errors(Dropped, lambda seed: alike(seed, 4, 0.0), 80)
    for name in ("act", "pool", "head"):
        assert abs(found[name][0]) < 0.01, name
    for name in ("act", "last_norm", "norm"):
        assert abs(found[name][1]) < 0.02, name
