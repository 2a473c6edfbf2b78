"""Two correlated arguments: series and split quadrature against closed forms and mpmath."""

import math

import mpmath
import numpy as np
import pytest
import torch

from isograd.theory import activation, correlation_map, kernels, length_map
from isograd.theory.closed_forms import closed_form
from isograd.theory.kernels import Series, chord, chords
from isograd.theory.moments import moments

CLOSED = ("relu", "leaky_relu", "erf", "gelu", "sin", "cos", "linear")
LENGTHS = (1e-6, 0.03, 1.0, 7.0, 100.0)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("c", [-0.99, -0.4, 0.0, 0.3, 0.7, 0.95, 0.9999])
def test_quadrature_and_closed_forms_agree(name: str, c: float) -> None:
    act = activation(name)
    for q1, q2 in [(q, q) for q in LENGTHS] + [(0.7, 2.3), (4.0, 0.01)]:
        if name in ("sin", "cos") and q1 > 10:
            continue  # both are e^-q there
        value, slope = act.closed(q1, q2, c * math.sqrt(q1 * q2))
        u1, u2, w = kernels._plane(act, q1, q2, c)
        assert w @ (act.value(u1) * act.value(u2)) == pytest.approx(
            value, rel=1e-11, abs=1e-12 * min(1, math.sqrt(q1 * q2))
        )
        assert w @ (act.slope(u1) * act.slope(u2)) == pytest.approx(slope, rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("q", [0.03, 1.0, 7.0])
def test_series_and_closed_forms_agree(name: str, q: float) -> None:
    act = activation(name)
    series = Series(act, np.array([q]))
    square = act.closed(q, q, q)[0]
    for c in (-0.9, -0.3, 0.0, 0.5, 0.9):
        value, slope = act.closed(q, q, c * q)
        assert series.reach(abs(c))
        assert series.at(c)[0] == pytest.approx(value, abs=1e-13 * square)
        assert series.at(c)[1] == pytest.approx(q * slope, abs=1e-11 * square)
        truth = (square - value) / (q * (1 - c))
        if c >= 0:
            assert series.chord([c])[0, 0] == pytest.approx(truth, rel=1e-12)
            both = chord(act, q, math.acos(c))
            assert both == pytest.approx((truth, slope), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "elu", "hardswish"])
@pytest.mark.parametrize(("q", "c"), [(1.3, 0.6), (4.0, -0.7), (0.4, 0.97), (30.0, 0.2)])
def test_one_argument_given_the_other(name: str, q: float, c: float) -> None:
    """u2 integrated for each u1, both on pieces between kinks: other coordinates, other nodes."""
    act, root, rest = activation(name), math.sqrt(q), math.sqrt(q * (1 - c * c))
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def rule(breaks: list[float]) -> tuple[np.ndarray, np.ndarray]:
        edges = np.unique([*np.arange(-10, 10.1, 0.5), *np.clip(breaks, -10, 10)])
        half, middle = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
        z = (middle + half * nodes).ravel()
        return z, (half * weights).ravel() * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    # Where the line of a kink of u2 crosses, the inner integral bends within rest / (c root).
    near = [(k + s * rest) / (c * root) for k in act.kinks for s in range(-6, 7)]
    outer, w_outer = rule([k / root for k in act.kinks] + near)
    total = 0.0
    for a, w in zip(outer, w_outer, strict=True):
        inner, w_inner = rule([(k - c * root * a) / rest for k in act.kinks])
        given = w_inner @ act.value(c * root * a + rest * inner)
        total += w * float(act.value(np.array([root * a]))[0]) * float(given)
    got = correlation_map(name, c, q, weight_var=1.0).covariance
    assert got == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("q", [0.01, 1.0, 20.0])
def test_moments_against_mpmath(q: float) -> None:
    root = mpmath.sqrt(q)

    def expect(f) -> float:
        edges = [x / root for x in (-4, -2, -1, 0, 1, 2, 4)]
        whole = sorted({-12, -6, -3, 3, 6, 12, *(e for e in edges if abs(e) < 12)})
        density = lambda z: mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)  # noqa: E731
        return float(mpmath.quad(lambda z: f(root * z, z) * density(z), whole))

    square, slope, growth = moments(activation("tanh")).at(q)
    with mpmath.workdps(25):
        assert square == pytest.approx(expect(lambda u, z: mpmath.tanh(u) ** 2), rel=1e-13)
        assert slope == pytest.approx(expect(lambda u, z: mpmath.sech(u) ** 4), rel=1e-13)
        truth = expect(lambda u, z: z * mpmath.tanh(u) * mpmath.sech(u) ** 2) / math.sqrt(q)
        assert growth == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "hardtanh", "elu", "gelu", "sin", "softplus"])
def test_the_table_of_moments_is_right(name: str) -> None:
    table = moments(activation(name))
    q = np.geomspace(1e-6, 100, 97)
    direct = np.array([table.at(one) for one in q.tolist()])
    # sin: what the table holds of dE phi^2/dq = e^-2q is right beside E phi'^2.
    np.testing.assert_allclose(table.over(q), direct, rtol=2e-12, atol=1e-14)


def test_relu_reference_values() -> None:
    for c, value, slope in [
        (0.0, 1 / math.pi, 0.5),
        (0.5, 0.60899778104422936, 2 / 3),
        (1.0, 1.0, 1.0),
        (-1.0, 0.0, 0.0),
    ]:
        found = correlation_map("relu", c, 1.7, weight_var=2.0)
        assert found.value == pytest.approx(value, rel=1e-12, abs=1e-15)
        assert found.slope == pytest.approx(slope, rel=1e-12, abs=1e-15)
        assert found.gradient == pytest.approx(slope, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", ["tanh", "gelu", "hardtanh", "selu", "silu"])
def test_slope_is_the_derivative(name: str) -> None:
    def value(c: float) -> float:
        return correlation_map(name, c, 1.9, weight_var=1.3, bias_var=0.1).value

    step = 1e-3
    numeric = (
        8 * (value(0.6 + step) - value(0.6 - step)) - value(0.6 + 2 * step) + value(0.6 - 2 * step)
    ) / (12 * step)
    found = correlation_map(name, 0.6, 1.9, weight_var=1.3, bias_var=0.1)
    assert found.slope == pytest.approx(numeric, rel=1e-9)


def test_wide_random_network() -> None:
    """One layer of width 4000 on two inputs, within four standard errors."""
    random = np.random.default_rng(0)
    act, c, (q1, q2) = activation("mish"), 0.4, (1.5, 0.6)
    z1, z2 = random.standard_normal((2, 4_000_000))
    u1, u2 = math.sqrt(q1) * z1, math.sqrt(q2) * (c * z1 + math.sqrt(1 - c * c) * z2)
    products = act.value(u1) * act.value(u2)
    found = correlation_map("mish", c, q1, q2=q2, weight_var=1.0)
    error = 4 * products.std() / math.sqrt(len(products))
    assert found.covariance == pytest.approx(products.mean(), abs=error)
    slopes = act.slope(u1) * act.slope(u2)
    error = 4 * slopes.std() / math.sqrt(len(slopes))
    assert found.gradient == pytest.approx(slopes.mean(), abs=error)


def test_closed_forms_are_of_these_activations_only() -> None:
    assert closed_form("tanh", {}) is None
    assert closed_form("gelu", {"approximate": "tanh"}) is None
    assert closed_form("prelu", {"negative_slope": 0.3})(1, 1, 1)[0] == pytest.approx(0.545)


def test_length_map_keeps_shapes() -> None:
    q = np.array([[0.0, 1e-20], [1.0, 50.0]])
    got = length_map("erf", q, weight_var=1.7, bias_var=0.2)
    np.testing.assert_allclose(
        got, 1.7 * 2 / math.pi * np.arcsin(2 * q / (1 + 2 * q)) + 0.2, rtol=1e-12
    )
    assert isinstance(length_map("erf", 1.0, weight_var=1.0), float)


@pytest.mark.parametrize("c", [-0.9, -0.2, 0.3, 0.97])
def test_jumps_count_in_the_slope_of_the_correlation_map(c: float) -> None:
    """sign: E[phi phi] = (2/pi) asin c (Sheppard); a staircase by finite differences."""
    found = correlation_map(torch.sign, c, 0.7, weight_var=1.0)
    assert found.slope == pytest.approx(2 / math.pi / math.sqrt(1 - c * c), rel=1e-12)
    assert found.gradient == 0

    def stairs(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0.4, 1 + 0.5 * x, torch.tanh(x)) - (x < -1.1) * 0.3

    at = {"q2": 2.3, "weight_var": 1.3, "bias_var": 0.1}
    step = 1e-3
    below, above = (correlation_map(stairs, c + s, 0.8, **at).value for s in (-step, step))
    lower, upper = (correlation_map(stairs, c + s, 0.8, **at).value for s in (-2 * step, 2 * step))
    numeric = (8 * (above - below) - (upper - lower)) / (12 * step)
    # What a difference of fourth order leaves: the fifth derivative is large near |c| = 1.
    assert correlation_map(stairs, c, 0.8, **at).slope == pytest.approx(numeric, rel=1e-6)


def test_where_jumps_meet_the_slope_is_infinite() -> None:
    assert correlation_map("hardshrink", 1.0, 0.7, weight_var=1.0).slope == math.inf
    assert correlation_map("hardshrink", -1.0, 0.7, weight_var=1.0).slope == math.inf
    assert 0 < correlation_map("hardshrink", 1.0, 0.7, q2=0.9, weight_var=1.0).slope < math.inf


@pytest.mark.parametrize("name", ["hardtanh", "selu", "hardshrink", "tanh", "gelu"])
@pytest.mark.parametrize("length", [0.02, 1.0, 90.0])
def test_chords_of_many_angles_are_those_of_products(name: str, length: float) -> None:
    act, angles = activation(name), np.array([0.02, 0.3, 1.4])
    for theta, found in zip(angles, chords(act, length, angles), strict=True):
        q = length / math.cos(theta / 2) ** 2
        u1, u2, w = kernels._plane(act, q, q, math.cos(theta))
        wanted = w @ np.square(act.value(u1) - act.value(u2)) / (4 * q * math.sin(theta / 2) ** 2)
        assert found == pytest.approx(wanted, rel=1e-11)
