"""Spectrum against Fuss-Catalan numbers, closed-form edges and random matrices."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.spectrum import spectrum


def fuss_catalan(depth: int, k: int) -> float:
    return math.comb((depth + 1) * k, k) / (depth * k + 1)


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 30, 200])
def test_linear_gaussian(depth: int) -> None:
    of = spectrum("linear", depth)
    assert of.weight_var == of.chi_1 == of.mean == 1
    assert of.variance == pytest.approx(fuss_catalan(depth, 2) - 1, rel=1e-12)
    assert of.third == pytest.approx(fuss_catalan(depth, 3), rel=1e-12)
    assert of.edge == pytest.approx((depth + 1) ** (depth + 1) / depth**depth, rel=1e-10)
    assert of.zero_mass == of.edge_mass == 0
    assert of.isometry == "none"


def test_linear_orthogonal_is_an_isometry() -> None:
    of = spectrum("linear", 50, weights="orthogonal")
    assert (of.mean, of.variance, of.third, of.isometry) == (1, 0, 1, "exact")
    assert of.edge == pytest.approx(1, rel=1e-12)
    assert of.edge_mass == 1
    assert of.density() is None


@pytest.mark.parametrize("depth", [3, 5, 10, 40])
def test_relu_closed_form(depth: int) -> None:
    gaussian, orthogonal = (spectrum("relu", depth, weights=w) for w in ("gaussian", "orthogonal"))
    assert gaussian.weight_var == pytest.approx(2, rel=1e-12)
    assert gaussian.variance == pytest.approx(2 * depth, rel=1e-12)
    assert orthogonal.variance == pytest.approx(depth, rel=1e-12)
    # S = ((M + 1)/(2 M + 1))^L: the least of (1 + M)/(M S) is at M = 1/(L - 2).
    m = 1 / (depth - 2)
    edge = (1 + m) / m * ((2 * m + 1) / (m + 1)) ** depth
    assert orthogonal.edge == pytest.approx(edge, rel=1e-10)
    assert gaussian.zero_mass == pytest.approx(0.5, rel=1e-12)


def test_published_case() -> None:
    of = {
        (depth, weights): spectrum("tanh", depth, weights=weights, bias_var=0.05)
        for depth in (5, 10)
        for weights in ("gaussian", "orthogonal")
    }
    assert of[5, "orthogonal"].variance == pytest.approx(1.71, abs=0.005)
    assert of[10, "orthogonal"].variance == pytest.approx(3.42, abs=0.005)
    assert of[10, "gaussian"].variance == pytest.approx(13.42, abs=0.005)
    assert of[5, "gaussian"].q == pytest.approx(0.57004788164076415, rel=1e-10)
    assert "keep depth times q small" in of[10, "orthogonal"].reason


@pytest.mark.parametrize(
    ("name", "weights", "q"),
    [
        ("linear", "gaussian", 1.0),
        ("relu", "gaussian", 1.0),
        ("relu", "orthogonal", 1.0),
        ("tanh", "gaussian", 0.6),
        ("tanh", "orthogonal", 0.6),
        ("elu", "gaussian", 1.0),
        ("gelu", "orthogonal", 3.5),
    ],
)
def test_density_has_the_moments(name: str, weights: str, q: float) -> None:
    of = spectrum(name, 4, weights=weights, q=q)
    points, density = of.density(512)
    assert np.all(np.diff(points) < 0)
    assert np.all(density > 0)
    assert points[0] < of.edge
    logs = np.log(points)
    # In ln lambda, where the density is smooth; some of it is still below the last point.
    mass = -np.trapezoid(density * points, logs)
    assert 0.85 * (1 - of.zero_mass) < mass < 1.001 * (1 - of.zero_mass)
    for power, moment in ((1, of.mean), (2, of.variance + of.mean**2), (3, of.third)):
        assert -np.trapezoid(density * points ** (power + 1), logs) == pytest.approx(
            moment, rel=2e-3
        )


def test_density_of_one_gaussian_layer_is_marchenko_pastur() -> None:
    points, density = spectrum("linear", 1).density()
    truth = np.sqrt(4 / points - 1) / (2 * np.pi)
    np.testing.assert_allclose(density, truth, rtol=1e-8)


@pytest.mark.parametrize("weights", ["gaussian", "orthogonal"])
def test_random_networks(weights: str) -> None:
    """Moments of the Jacobian of wide tanh networks at the fixed point."""
    width, depth, draws = 300, 3, 4
    of = spectrum("tanh", depth, weights=weights, bias_var=0.05)
    phi, random = activation("tanh"), np.random.default_rng(0)
    squares = []
    for _ in range(draws):
        h = random.standard_normal(width) * math.sqrt(of.q)
        jacobian = np.eye(width)
        for _ in range(depth):
            w = random.standard_normal((width, width)) / math.sqrt(width)
            if weights == "orthogonal":
                w = np.linalg.qr(w)[0]
            w *= math.sqrt(of.weight_var)
            jacobian = w @ (phi.slope(h)[:, None] * jacobian)
            h = w @ phi.value(h) + math.sqrt(0.05) * random.standard_normal(width)
        squares.append(np.linalg.svd(jacobian, compute_uv=False) ** 2)
    found = np.concatenate(squares)
    # The mean over 4 draws of width 300 has a standard error of 3 %, the variance of about 6 %.
    assert found.mean() == pytest.approx(of.mean, rel=0.1)
    assert found.var() == pytest.approx(of.variance, rel=0.2)
    assert found.max() == pytest.approx(of.edge, rel=0.2)


def test_isometry_verdicts() -> None:
    near = spectrum("tanh", 20, weights="orthogonal", q=0.001)
    assert near.isometry == "near"
    assert near.variance < 0.01
    assert spectrum("tanh", 20, weights="gaussian", q=0.001).isometry == "none"
    assert "draw them orthogonal" in spectrum("tanh", 20, q=0.001).reason
    limit = spectrum("tanh", 20, weights="orthogonal")
    assert (limit.q, limit.isometry) == (0, "exact")
    assert "falls only slowly" in limit.reason
    assert "at any length" in spectrum("relu", 20, weights="orthogonal").reason
    assert "grows by 1.5 per layer" in spectrum("relu", 20, weight_var=3.0).reason
    assert "shrinks by 0.3333 per layer" in spectrum("linear", 9, weight_var=1 / 3).reason


def test_flat_parts_meet_at_the_edge() -> None:
    """Hardtanh is linear on most inputs: orthogonal layers pass a share of directions unchanged."""
    q, depth = 0.2, 3
    of = spectrum("hardtanh", depth, weights="orthogonal", weight_var=1.0, q=q)
    flat = math.erfc(1 / math.sqrt(2 * q))
    assert of.edge_mass == pytest.approx(1 - depth * flat, rel=1e-9)
    assert of.zero_mass == pytest.approx(flat, rel=1e-9)
    assert of.edge == pytest.approx(1, rel=1e-9)


def test_what_does_not_exist_is_none() -> None:
    none = spectrum("sigmoid", 10)
    assert none.q is None
    assert none.mean is None
    assert none.reason.startswith("no critical weights")
    assert none.density() is None
    grows = spectrum("relu", 10, weight_var=3.0, bias_var=0.1)
    assert grows.q is None
    assert "no fixed point" in grows.reason
    unbounded = spectrum("exp", 3, q=1.0)
    assert unbounded.edge is None
    assert "no bound" in unbounded.reason
    assert unbounded.variance > 0
    huge = spectrum("relu", 2000, weight_var=4.0)
    assert huge.mean is None
    assert huge.log_mean == pytest.approx(2000 * math.log(2), rel=1e-12)
    assert "beyond the range" in huge.reason
    assert spectrum("tanh", 1, weights="orthogonal", q=1.0).density() is None


def test_bad_arguments() -> None:
    for kwargs, match in (
        ({"depth": 0}, "depth is a whole number"),
        ({"depth": 2.5}, "depth is a whole number"),
        ({"weights": "uniform"}, "'gaussian' or 'orthogonal'"),
        ({"weight_var": -1.0}, "weight_var is a finite number above 0"),
        ({"bias_var": math.nan}, "bias_var is a finite number"),
        ({"q": math.inf}, "q is a finite number"),
    ):
        with pytest.raises(InputError, match=match):
            spectrum("tanh", **({"depth": 3} | kwargs))
    with pytest.raises(InputError, match="steps"):
        spectrum("tanh", 3, q=1.0).density(3)


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["tanh", "relu", "gelu", "softplus", "hardtanh", "elu", "hardshrink"]),
    depth=st.integers(1, 500),
    weights=st.sampled_from(["gaussian", "orthogonal"]),
    weight_var=st.none() | st.floats(1e-3, 1e3),
    q=st.floats(0, 100),
)
def test_no_nan(name: str, depth: int, weights: str, weight_var: float | None, q: float) -> None:
    of = spectrum(name, depth, weights=weights, weight_var=weight_var, q=q)
    for value in (of.mean, of.variance, of.third, of.edge, of.zero_mass, of.log_mean):
        assert value is None or math.isfinite(value)
    found = of.density(32)
    if found is not None:
        assert np.isfinite(found).all()
