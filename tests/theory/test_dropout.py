"""Dropout against the closed form of ReLU, reference values and wide random networks."""

import math

import numpy as np
import pytest

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.dropout import dropout_moments, dropout_phase
from isograd.theory.fixed_points import phase


@pytest.mark.parametrize(
    ("drop", "c_star", "xi_c"), [(0.1, 0.627, 2.27), (0.2, 0.473, 1.55), (0.5, 0.217, 0.80)]
)
def test_relu(drop: float, c_star: float, xi_c: float) -> None:
    keep = 1 - drop
    of = dropout_phase("relu", keep=keep)
    assert of.weight_var == pytest.approx(2 * keep, rel=1e-12)
    assert of.chi_1 == pytest.approx(1, rel=1e-12)
    assert of.c_star == pytest.approx(c_star, abs=5e-4)
    assert of.xi_c == pytest.approx(xi_c, abs=5e-3)
    c = of.c_star
    relu = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi
    assert keep * relu == pytest.approx(c, rel=1e-10)
    assert of.chi_c == pytest.approx(keep * (1 - math.acos(c) / math.pi), rel=1e-10)
    # A scale-invariant network has the same angles off criticality.
    off = dropout_phase("relu", keep=keep, weight_var=1.3)
    assert (off.c_star, off.chi_c) == pytest.approx((c, of.chi_c), rel=1e-10)
    assert off.chi_1 == pytest.approx(0.65 / keep, rel=1e-12)


def test_random_network() -> None:
    """Two passes of one input through a wide tanh network, masks apart."""
    width, depth, keep = 2500, 8, 0.8
    of = dropout_phase("tanh", keep=keep, bias_var=0.05)
    phi, random = activation("tanh"), np.random.default_rng(0)
    h = np.tile(random.standard_normal(width) * math.sqrt(of.q_star), (2, 1))
    for _ in range(depth):
        w = random.standard_normal((width, width)) * math.sqrt(of.weight_var / width)
        mask = (random.random((2, width)) < keep) / keep
        h = (phi.value(h) * mask) @ w + math.sqrt(0.05) * random.standard_normal(width)
    gram = h @ h.T / width
    # Entries of a Gram matrix of 2500 units: 3 % each, and as much from the layers before.
    assert gram[0, 0] == pytest.approx(of.q_star, rel=0.12)
    assert gram[0, 1] / math.sqrt(gram[0, 0] * gram[1, 1]) == pytest.approx(of.c_star, abs=0.06)


def test_nothing_dropped() -> None:
    of, plain = (
        dropout_phase("tanh", keep=1.0, weight_var=2.5, bias_var=0.05),
        phase("tanh", weight_var=2.5, bias_var=0.05),
    )
    assert (of.q_star, of.c_star, of.xi_c) == (plain.q_star, plain.c_star, plain.xi_c)
    assert of.c_star == pytest.approx(0.44680423234426709, rel=1e-9)


def test_what_does_not_exist_is_none() -> None:
    assert dropout_phase("sigmoid", keep=0.9).weight_var is None
    assert dropout_phase("relu", keep=0.5, weight_var=1.5, bias_var=0.1).q_star is None
    dying = dropout_phase("tanh", keep=0.9, weight_var=0.2)
    assert dying.q_star == 0
    assert dying.c_star is None
    assert "no angle" in dying.reason
    half_stable = dropout_phase("gelu", keep=0.9)
    assert half_stable.bias_var == pytest.approx(0.172922391, rel=1e-6)
    assert half_stable.chi_1 == pytest.approx(1, rel=1e-9)


def test_moments() -> None:
    mean, variance = dropout_moments(0.3, 0.8, keep=0.6)
    random = np.random.default_rng(0)
    x = 0.3 + math.sqrt(0.8) * random.standard_normal(1_000_000)
    y = x * (random.random(1_000_000) < 0.6) / 0.6
    assert mean == 0.3
    assert y.mean() == pytest.approx(mean, abs=5 * y.std() / 1000)
    assert y.var() == pytest.approx(variance, rel=0.01)


def test_bad_arguments() -> None:
    for keep in (0.0, 1.2, math.nan):
        with pytest.raises(InputError, match="keep is above 0"):
            dropout_phase("relu", keep=keep)
        with pytest.raises(InputError, match="keep is above 0"):
            dropout_moments(0, 1, keep=keep)
    with pytest.raises(InputError, match="variance is a finite number"):
        dropout_moments(0, -1, keep=0.5)
