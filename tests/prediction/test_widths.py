"""Tests of the band: single draws lie as far from the prediction as it says, at any width."""

import numpy as np
import pytest
import torch
from torch import nn

import isograd

DRAWS = {64: 40, 512: 20, 4096: 6}
"""Draws of the weights, by width."""


def stack(width):
    layers = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers)


def deviations(width):
    """(ln of measured over predicted rms per draw, its band): last output, first gradient."""
    batch = torch.randn(4, width, generator=torch.Generator().manual_seed(width))
    record = isograd.predict(lambda: stack(width), batch)
    sides = [("forward", len(record.sites) - 1), ("backward", 0)]
    expected = [record.series[f"{side}.rms"][at] for side, at in sides]
    bands = [record.series[f"{side}.band"][at] for side, at in sides]
    found = []
    for seed in range(DRAWS[width]):
        torch.manual_seed(seed)
        model = stack(width)
        first = model[0](batch)
        first.retain_grad()
        out = model[1:](first)
        (out * torch.randn_like(out)).sum().div(width**0.5).backward()  # as the probe of a record
        measured = [out.square().mean().sqrt().item(), first.grad.square().mean().sqrt().item()]
        found.append(np.log(np.array(measured) / np.array(expected)))
    return np.array(found), np.array(bands)


def test_draws_come_closer_with_width():
    """From width 64 to 4096 errors fall eightfold; a band holds what rules may be off by, too."""
    spreads = {}
    for width in DRAWS:
        found, bands = deviations(width)
        spreads[width] = np.sqrt(np.mean(np.square(found), axis=0))
        ratio = spreads[width] / bands
        assert (ratio > 0.3).all(), (width, ratio)
        assert (ratio < 1.7).all(), (width, ratio)
    assert (spreads[64] / spreads[4096] > 4).all(), spreads
    assert (spreads[64] / spreads[4096] < 20).all(), spreads


@pytest.mark.parametrize("width", [64])
def test_most_draws_lie_within_two_bands(width):
    """Of a normal error 95 % would."""
    found, bands = deviations(width)
    assert (np.abs(found) <= 2 * bands).mean() >= 0.9
