"""Tests of new tensors made after abstract ones."""

import numpy as np
import pytest
import torch

from isograd.prediction.moments.known import independent
from isograd.prediction.propagation import Propagation

SHAPE = (3, 4, 5)


@pytest.mark.parametrize(
    "function",
    [
        lambda t: t.new_zeros((2, 3)),
        lambda t: t.new_ones(2, 3),
        lambda t: t.new_full((2, 3), 7),
        lambda t: t.new_full(size=(2,), fill_value=1.5),
        lambda t: t.new_tensor([[1.0], [2.0]]),
        torch.zeros_like,
        lambda t: torch.ones_like(t, dtype=torch.bool),
        lambda t: torch.full_like(t, 2.5, dtype=torch.float64),
        lambda t: t.new_empty(2, 2).fill_(3.0),
        lambda t: torch.empty_like(t).fill_(3.0),
        lambda t: t.new_zeros(4, dtype=torch.long),
    ],
)
def test_known_values_stay_known(function):
    run = Propagation()
    with run:
        found = function(run.abstract(independent(SHAPE, 0.0, 1.0)))
        assert run.is_known(found)
    wanted = function(torch.zeros(SHAPE))
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("function", "mean", "variance"), [
    (torch.randn_like, 0.0, 1.0), (torch.rand_like, 0.5, 1 / 12),
])  # fmt: skip
def test_noise_is_independent_of_everything(function, mean, variance):
    run = Propagation()
    x = independent(SHAPE, 0.0, 1.0)
    with run:
        found = run.field_of(function(run.abstract(x)))
    same = independent(SHAPE, mean, variance)
    np.testing.assert_allclose(found.second, same.second)
    np.testing.assert_allclose(found.mean, same.mean)


def test_large_tensors_are_not_allocated():
    run = Propagation()
    with run:
        found = run.field_of(torch.ones_like(run.abstract(independent((1000, 2000), 0.0, 1.0))))
    assert found.energy == found.average == 1.0


def test_a_mask_drawn_by_the_model_stands_for_all_masks():
    """As in stochastic depth: 1 / p times a mask of samples, in place."""
    run = Propagation()
    x = independent(SHAPE, 0.5, 1.0)
    with run:
        mask = torch.empty(3, 1, 1).bernoulli_(0.8).div_(0.8)
        out = run.field_of(run.abstract(x) * mask)
    assert out.energy == pytest.approx(x.energy / 0.8)
    assert out.average == pytest.approx(0.5)
    np.testing.assert_allclose(out.second[1], x.second[1])  # masks of two samples
    np.testing.assert_allclose(out.second[0], x.second[0] / 0.8)  # one mask for the same sample
