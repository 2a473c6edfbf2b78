"""Borders and pooling against torch's own convolutions, closed forms and mpmath."""

import math

import mpmath
import numpy as np
import pytest
import torch
from torch.nn import functional

from isograd.errors import InputError
from isograd.theory.convolution import (
    average_pool,
    max_pool,
    padding_factor,
    padding_profile,
    padding_shares,
)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    ("size", "kernel", "kwargs"),
    [
        ((7, 11), (3, 5), {"padding": (1, 2)}),
        ((7, 11), (3, 5), {"padding": (2, 0), "stride": (2, 3)}),
        ((13, 8), (3, 2), {"padding": (2, 1), "dilation": (3, 2)}),
        ((9, 6), (4, 3), {"padding": "same"}),
        ((9, 6), (4, 3), {"padding": "same", "dilation": (1, 2)}),
        ((9, 6), (4, 3), {"padding": "valid"}),
    ],
)
def test_convolution_of_ones(size, kernel, kwargs) -> None:
    """A kernel of ones on an image of ones counts the taps inside."""
    ones = torch.ones(1, 1, *size, dtype=torch.float64)
    taps = torch.ones(1, 1, *kernel, dtype=torch.float64)
    counts = functional.conv2d(ones, taps, **kwargs)[0, 0] / math.prod(kernel)
    rows, columns = padding_shares(size, kernel, **kwargs)
    np.testing.assert_allclose(np.outer(rows, columns), counts, rtol=1e-12)
    assert padding_factor(size, kernel, **kwargs) == pytest.approx(float(counts.mean()), rel=1e-12)


def test_closed_form() -> None:
    # Three taps, one zero on either side: 2 of 3 n taps per axis are outside.
    assert padding_factor((8, 8), 3, padding=1) == pytest.approx((1 - 2 / 24) ** 2, rel=1e-14)
    assert padding_factor(8, 1) == padding_factor(8, 3) == 1


def test_random_convolution_loses_as_much() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 12, 6, 5)
    weight = torch.randn(200, 12, 3, 3) / math.sqrt(12 * 9)
    energy = functional.conv2d(x, weight, padding=1).square().mean()
    # 64 * 200 * 30 outputs of 12 * 30 inputs each: a standard error of about 0.5 %.
    assert float(energy) == pytest.approx(padding_factor((6, 5), 3, padding=1), rel=0.02)


def test_profile() -> None:
    energy = torch.ones(1, 1, 7, 6, dtype=torch.float64)
    for _ in range(4):
        energy = functional.avg_pool2d(energy, 3, stride=1, padding=1)
    rows, columns = padding_profile((7, 6), 3, 4)
    np.testing.assert_allclose(np.outer(rows, columns), energy[0, 0], rtol=1e-12)
    assert padding_profile(5, 3, 0)[0].tolist() == [1] * 5
    assert len(padding_profile(9, 3, 2, padding=0)[0]) == 5


@pytest.mark.parametrize(
    ("taps", "mean", "variance"),
    [(1, 0.0, 1.0), (4, 1.02937537, 0.49171524), (9, 1.48501316, 0.35735333)],
)
def test_max_pool(taps: int, mean: float, variance: float) -> None:
    of = max_pool(taps)
    assert of.mean == pytest.approx(mean, abs=5e-9)
    assert of.variance == pytest.approx(variance, abs=5e-9)
    assert of.second_moment == of.mean**2 + of.variance


def test_max_pool_closed_forms_and_mpmath() -> None:
    assert max_pool(2).mean == pytest.approx(1 / math.sqrt(math.pi), rel=1e-12)
    assert max_pool(2).variance == pytest.approx(1 - 1 / math.pi, rel=1e-12)
    assert max_pool(3).mean == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-12)
    for taps in (9, 64):
        truth = mpmath.quad(
            lambda x, k=taps: x * k * mpmath.npdf(x) * mpmath.ncdf(x) ** (k - 1),
            [-12, -4, 0, 1, 2, 3, 5, 12],
        )
        assert max_pool(taps).mean == pytest.approx(float(truth), rel=1e-12)
    shifted = max_pool(4, mean=3.0, variance=4.0)
    assert shifted.mean == pytest.approx(3 + 2 * max_pool(4).mean, rel=1e-14)
    assert shifted.variance == pytest.approx(4 * max_pool(4).variance, rel=1e-14)
    assert math.isfinite(max_pool(1_000_000).variance)


def test_average_pool() -> None:
    of = average_pool(9, mean=0.7, variance=2.0)
    assert (of.mean, of.variance) == (0.7, pytest.approx(2 / 9))
    assert average_pool(4, correlation=1.0).variance == 1
    assert average_pool(4, correlation=-1 / 3).variance == pytest.approx(0, abs=1e-15)
    assert average_pool(5, correlation=0.25).variance == pytest.approx(0.4, rel=1e-14)


def test_bad_arguments() -> None:
    for call, match in (
        (lambda: padding_factor(2, 5), "does not fit into 2"),
        (lambda: padding_factor((4, 4), (3, 3, 3)), "kernel has 3 axes, size has 2"),
        (lambda: padding_factor(4, 3, padding="full"), "'same' or 'valid'"),
        (lambda: padding_factor(4, 3, padding="same", stride=2), "stride 1 only"),
        (lambda: padding_factor(4, 3, padding=-1), "padding is a whole number"),
        (lambda: max_pool(0), "taps is a whole number"),
        (lambda: average_pool(3, correlation=-0.9), "correlation is from -0.5"),
    ):
        with pytest.raises(InputError, match=match):
            call()
