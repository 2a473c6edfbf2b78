"""Tests of largest and smallest entries along axes, against draws in float64."""

import numpy as np
import pytest
import torch
from test_ops_pooling import ALONE, GRADIENT, SHARED, check_largest, mixture
from torch.nn import functional

from isograd.prediction.propagation import Propagation


@pytest.mark.parametrize("parts", [ALONE, SHARED])
@pytest.mark.parametrize(
    "function",
    [
        lambda t: t.amax(2, keepdim=True).expand(2, 3, 5, 4),
        lambda t: torch.amin(functional.relu(t), (2, 3), keepdim=True).expand(2, 3, 5, 4),
        lambda t: torch.max(functional.relu(t), 1, keepdim=True)[0].expand(2, 3, 5, 4),
        lambda t: t.min(dim=-1).values[..., None].expand(2, 3, 5, 4),
    ],
)
def test_along_axes(parts, function):
    check_largest(function, (2, 3, 5, 4), parts, GRADIENT, mean=0.8, number=20_000, slack=0.02)


def test_of_everything():
    x = mixture((2, 3, 5, 4), ALONE)
    run = Propagation()
    with run:
        out = run.field_of(run.abstract(x).max())
    assert out.shape == ()
    draws = torch.from_numpy(np.random.default_rng(1).normal(size=(20_000, 120)))
    largest = draws.max(dim=1).values
    assert out.average == pytest.approx(float(largest.mean()), rel=0.01)
    assert out.energy == pytest.approx(float(largest.square().mean()), rel=0.01)


def test_of_two_tensors():
    x, y = mixture((2, 3, 5, 4), ALONE), mixture((2, 3, 5, 4), ALONE)
    run = Propagation()
    with run:
        a, b = run.abstract(x), run.abstract(y)
        out = run.field_of(torch.max(a, b))
        floor = run.field_of(torch.min(a, torch.tensor(0.0)))
    assert out.energy == pytest.approx(1.0, rel=0.05)
    assert floor.energy == pytest.approx(0.5, rel=1e-3)
