"""Quadrature against closed forms, and against the defects of Gauss-Hermite."""

import math

import numpy as np
import pytest
from scipy.special import erf

from isograd.theory.gaussian import expect

SCALES = (0.01, 0.3, 1.0, 2.7, 10.0, 100.0)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("power", "moment"), [(0, 1), (1, 0), (2, 1), (4, 3), (6, 15), (8, 105)])
def test_moments(scale: float, power: int, moment: float) -> None:
    truth = moment * scale**power
    got = expect(lambda x: x**power, scale=scale)
    assert got == pytest.approx(truth, rel=1e-12, abs=1e-12 * scale**power)


@pytest.mark.parametrize("scale", SCALES)
def test_erf_closed_form(scale: float) -> None:
    q = scale**2
    truth = 2 / math.pi * math.asin(2 * q / (1 + 2 * q))  # Williams 1997
    assert expect(lambda x: erf(x) ** 2, scale=scale) == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7])
def test_sine_closed_form(scale: float) -> None:
    q = scale**2
    assert expect(lambda x: np.sin(x) ** 2, scale=scale) == pytest.approx(
        (1 - math.exp(-2 * q)) / 2, rel=1e-10
    )
    assert expect(lambda x: np.cos(x) ** 2, scale=scale) == pytest.approx(
        (1 + math.exp(-2 * q)) / 2, rel=1e-10
    )


@pytest.mark.parametrize("scale", SCALES)
def test_gelu_closed_form(scale: float) -> None:
    q = scale**2
    root = math.sqrt(1 + 2 * q)
    truth = q * (0.25 + (q / ((1 + q) * root) + math.atan(q / root) / 2) / math.pi)
    gelu = expect(lambda x: (x * (1 + erf(x / math.sqrt(2))) / 2) ** 2, scale=scale)
    assert gelu == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("edge", [0.0, 0.5, -1.7, 3.0])
def test_a_jump_is_no_obstacle(scale: float, edge: float) -> None:
    truth = math.erfc(edge / scale / math.sqrt(2)) / 2
    got = expect(lambda x: np.where(x > edge, 1.0, 0.0), kinks=(edge,), scale=scale)
    assert got == pytest.approx(truth, rel=1e-10, abs=1e-15)


def test_fast_growth() -> None:
    assert expect(lambda x: np.exp(4 * x)) == pytest.approx(math.exp(8), rel=1e-10)


def test_mean_of_the_log_normal() -> None:
    assert expect(np.exp, scale=2.0) == pytest.approx(math.exp(2), rel=1e-10)
