"""Tests of filters of few weights, whose channels differ in what they make alike."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from isograd.prediction.functions import filters
from isograd.prediction.moments.fields import Field
from isograd.prediction.propagation import Propagation

CHANNELS = 256


def block(x, w):
    """A depthwise convolution, a norm, an activation, and the mean over all positions."""
    y = functional.conv2d(x, w, padding=w.shape[-1] // 2, groups=CHANNELS)
    y = functional.batch_norm(y, None, None, training=True)
    return y, functional.silu(y).mean((2, 3))


def drawn(seed, size, taps, common):
    generator = torch.Generator().manual_seed(seed)
    shape = 16, CHANNELS, size, size
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = (1 - common) ** 0.5 * x
    lead = torch.randn((*shape[:2], 1, 1), generator=generator, dtype=torch.float64)
    x = (x + common**0.5 * lead).requires_grad_()
    w = torch.randn((CHANNELS, 1, taps, taps), generator=generator, dtype=torch.float64) / taps
    y, out = block(x, w)
    probe = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(out, x, probe)
    return y, out, gradient


def predicted(size, taps, common):
    shape = (16, CHANNELS, size, size)
    second = np.zeros((2, 2, 2, 2))
    second[0, 0] = common
    second[0, 0, 0, 0] = 1.0
    x = Field(second, tuple((n,) for n in shape), (1, 1, 1, 1), np.zeros((1, 1, 1, 1)))
    w = np.zeros((2, 2, 2))
    w[0, 0, 0] = taps**-2
    cuts = ((CHANNELS,), (taps,), (taps,))
    kernel = Field(w, cuts, (1, 0, 1, 1), np.zeros((1, 1, 1)))
    run = Propagation()
    with run:
        out = run.field_of(block(run.abstract(x), run.abstract(kernel))[1])
    g = np.zeros((2, 2))
    g[0, 0] = 1.0
    run.backward([(out, Field(g, out.cuts, out.groups, np.zeros((1, 1))))])
    return out.energy, run.gradient_of(x).energy


@pytest.mark.parametrize(("size", "taps"), [(6, 3), (3, 5)])
def test_positions_of_one_channel(size, taps):
    """Pooled values and gradients; these are a fifth larger than if all channels were alike."""
    found = [drawn(seed, size, taps, 0.2)[1:] for seed in range(12)]
    out, gradient = (
        float(np.mean([one[i].square().mean().item() for one in found])) for i in (0, 1)
    )
    energy, back = predicted(size, taps, 0.2)
    assert energy == pytest.approx(out, rel=0.03)
    assert back == pytest.approx(gradient, rel=0.06)


def test_variance_of_the_correlation():
    """Of white noise, for neighbors: 6 of the products of 9 weights overlap."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(200_000, 3, 3))
    rho = (w[:, 1:] * w[:, :-1]).sum((1, 2)) / np.square(w).sum((1, 2))
    run = Propagation()
    white = np.zeros((2, 2, 2, 2))
    white[0, 0, 0, 0] = 1.0
    shape = (2, CHANNELS, 9, 9)
    x = Field(white, tuple((n,) for n in shape), (1, 1, 1, 1), np.zeros((1, 1, 1, 1)))
    kernel = np.zeros((2, 2, 2))
    kernel[0, 0, 0] = 1.0
    w = Field(kernel, ((CHANNELS,), (3,), (3,)), (1, 0, 1, 1), np.zeros((1, 1, 1)))
    with run:
        y = functional.conv2d(run.abstract(x), run.abstract(w), padding=1, groups=CHANNELS)
    out = run.field_of(y)
    spread = filters.variance(out)
    assert spread[0, 0].max() == pytest.approx(6 / 81 / (1 + 2 / 9), rel=1e-6)
    assert spread[0, 0].max() == pytest.approx(rho.var(), rel=0.01)
    assert spread[:, 1].max() == spread[1].max() == 0.0
