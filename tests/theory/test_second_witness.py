"""Averages of every kind of activation against mpmath with 30 digits and another quadrature."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from isograd.errors import InputError
from isograd.theory import (
    activation,
    correlation_map,
    dropout_phase,
    finite_width,
    gains,
    length_map,
    norm_growth,
    spectrum,
    transform,
)
from isograd.theory.activations import Activation
from isograd.theory.averages import averages
from isograd.theory.kernels import product
from isograd.theory.moments import moments

LENGTHS = (1e-6, 1e-3, 1.0, 20.0, 100.0)
Real = Callable[[Any], Any]


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(-abs(x))) + max(x, 0)


def _leaky(slope: float) -> tuple[Real, Real, list[float]]:
    a = mpmath.mpf(slope)
    return lambda x: x if x > 0 else a * x, lambda x: 1 if x > 0 else a, [0]


def _mish_slope(x: Any) -> Any:
    gate = mpmath.tanh(_softplus(x))
    return gate + x * (1 - gate**2) * _sigmoid(x)


def _early_softplus(x: Any) -> Any:
    return x if x > 1 else _softplus(x)


TRUTH: dict[str, tuple[dict[str, float], Real, Real, list[float]]] = {
    "rrelu": ({"lower": 0.0, "upper": 0.25}, *_leaky(0.125)),
    "leaky_relu": ({"negative_slope": 0.375}, *_leaky(0.375)),
    "celu": (
        {"alpha": 2.0},
        lambda x: x if x > 0 else 2 * mpmath.expm1(x / 2),
        lambda x: 1 if x > 0 else mpmath.exp(x / 2),
        [0],
    ),
    "softplus": (
        {"threshold": 1.0},
        _early_softplus,
        lambda x: 1 if x > 1 else _sigmoid(x),
        [1],
    ),
    "hardswish": (
        {},
        lambda x: x * min(max(x / 6 + mpmath.mpf(1) / 2, 0), 1),
        lambda x: x / 3 + mpmath.mpf(1) / 2 if abs(x) < 3 else (1 if x > 0 else 0),
        [-3, 3],
    ),
    "silu": (
        {},
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
        [],
    ),
    "mish": ({}, lambda x: x * mpmath.tanh(_softplus(x)), _mish_slope, []),
    "tanh": ({}, mpmath.tanh, lambda x: mpmath.sech(x) ** 2, []),
    "softsign": ({}, lambda x: x / (1 + abs(x)), lambda x: (1 + abs(x)) ** -2, [0]),
    "tanhshrink": ({}, lambda x: x - mpmath.tanh(x), lambda x: mpmath.tanh(x) ** 2, []),
    "cos": ({}, mpmath.cos, lambda x: -mpmath.sin(x), []),
}


def _rule(scale: Any, kinks: list[float]) -> list[tuple[Any, Any]]:
    """Arguments and weights: 24-point panels, no wider than 3 of x and 1 of z, to 13 sigma."""
    nodes, weights = _legendre(24)
    reach = 13 * scale
    edges = {mpmath.mpf(k) for k in kinks if abs(k) < reach}
    edges |= {mpmath.mpf(s) * t for s in (-1, 1) for t in (0.25, 0.5, 1, 1.5, 2) if t < reach}
    edges |= {scale * k for k in range(-13, 14)}
    rising = sorted(edges)
    found = []
    for low, high in pairwise(rising):
        pieces = int(mpmath.ceil((high - low) / 3))
        half = (high - low) / pieces / 2
        for piece in range(pieces):
            middle = low + (2 * piece + 1) * half
            for node, weight in zip(nodes, weights, strict=True):
                x = middle + half * node
                found.append((x, weight * half * mpmath.npdf(x, 0, scale)))
    return found


def _legendre(count: int) -> tuple[list[Any], list[Any]]:
    """Nodes by Newton's method from their asymptotics, and weights, in mpmath's precision."""
    nodes, weights = [], []
    for i in range(count):
        x = mpmath.cos(mpmath.pi * (i + mpmath.mpf(3) / 4) / (count + mpmath.mpf(1) / 2))
        for _ in range(6):
            before, now = mpmath.mpf(1), x
            for k in range(2, count + 1):
                before, now = now, ((2 * k - 1) * x * now - (k - 1) * before) / k
            rise = count * (x * now - before) / (x * x - 1)
            x -= now / rise
        nodes.append(x)
        weights.append(2 / ((1 - x * x) * rise**2))
    return nodes, weights


@pytest.mark.parametrize("name", TRUTH)
@pytest.mark.parametrize("q", LENGTHS)
def test_averages_to_eleven_digits(name: str, q: float) -> None:
    params, value, slope, kinks = TRUTH[name]
    act = activation(name, **params)
    with mpmath.workdps(30):
        scale = mpmath.sqrt(q)
        rows = [(x, w, value(x), slope(x)) for x, w in _rule(scale, kinks)]
        square = float(mpmath.fsum(w * f * f for _, w, f, _ in rows))
        slopes = float(mpmath.fsum(w * g * g for _, w, _, g in rows))
        fourth = float(mpmath.fsum(w * g**4 for _, w, _, g in rows))
        growth = float(mpmath.fsum(w * x * f * g for x, w, f, g in rows)) / q
    of = averages(act, q)
    assert length_map(act, q, weight_var=1.0) == pytest.approx(square, rel=1e-11)
    assert moments(act).at(q)[:2] == pytest.approx((square, slopes), rel=1e-11)
    assert of.square == pytest.approx(square, rel=1e-11)
    assert of.slope_square == pytest.approx(slopes, rel=1e-11)
    assert of.slope_fourth == pytest.approx(fourth, rel=1e-11)
    if not act.jumps and name != "cos":  # of cos it is e^-2q, which is below rounding
        assert of.square_growth == pytest.approx(growth, rel=1e-11)
        assert moments(act).at(q)[2] == pytest.approx(growth, rel=1e-11)


@pytest.mark.parametrize("rate", [2.0, 5.0, 7.0, 9.0, 13.0, 30.0])
def test_what_oscillates(rate: float) -> None:
    """E sin^2 and E cos^4 are known; panels too wide for the rate gave 3e-8 at 9."""
    wave = activation(lambda x: torch.sin(rate * x))
    square = (1 - np.exp(-2 * rate**2)) / 2
    fourth = rate**4 * (3 + 4 * np.exp(-2 * rate**2) + np.exp(-8 * rate**2)) / 8
    found = gains(wave)
    assert found.second_moment == pytest.approx(square**-0.5, rel=1e-12)
    assert found.slope_fourth == pytest.approx(fourth, rel=1e-12)
    assert averages(wave, 1.0).slope_fourth == pytest.approx(fourth, rel=1e-12)


def test_parameters_of_rrelu_reach_its_closed_form() -> None:
    both = activation("rrelu", lower=0.1, upper=0.3), activation("leaky_relu", negative_slope=0.2)
    one, other = (product(act, 1.3, 0.7, 0.4) for act in both)
    assert one == pytest.approx(other, rel=1e-14)


def test_a_softplus_that_ends_early_is_torchs() -> None:
    module = torch.nn.Softplus(beta=2.0, threshold=3.0)
    x = np.linspace(-4, 4, 83)
    found = activation(module)
    assert found.value(x) == pytest.approx(module(torch.from_numpy(x)).numpy(), rel=1e-14)
    assert found.jumps == (1.5,)


def _steep(x: torch.Tensor) -> torch.Tensor:
    return torch.exp(x**2 / 4)


def test_infinite_averages_are_said_to_be() -> None:
    """E exp(u^2 / 2) is infinite at unit variance; a rule that ends at 13 made 10.4 of it."""
    of = averages(activation(_steep), 1.0)
    assert of.mean == pytest.approx(np.sqrt(2), rel=1e-12)
    assert of.square == of.slope_square == np.inf
    assert gains(_steep).second_moment == gains(_steep).std == 0.0
    assert norm_growth(_steep, "batch").growth is None
    found = spectrum(_steep, 3, weight_var=0.1, q=1.0)
    assert found.mean is None
    assert "infinite" in found.reason


def test_exp_as_far_as_its_averages_go() -> None:
    of = averages(activation("exp"), 1.0)
    wanted = np.exp([0.5, 2.0, 8.0, 18.0])
    found = [of.mean, of.square, of.fourth, of.slope_sixth]
    assert found == pytest.approx(wanted, rel=1e-10)
    assert averages(activation("exp"), 20.0).square == np.inf


NUMPY: list[tuple[Callable[[Any], Any], tuple[float, ...], tuple[float, ...]]] = [
    (lambda x: np.maximum(np.asarray(x), 0.3), (0.3,), ()),
    (lambda x: np.maximum(np.asarray(x), 2.2), (2.2,), ()),
    (lambda x: np.where(np.asarray(x) > -0.7, x, -0.1), (-0.7,), (-0.7,)),
    (lambda x: np.where(np.abs(np.asarray(x)) < 1.1, x, 0.2 * x), (-1.1, 1.1), (-1.1, 1.1)),
]


@pytest.mark.parametrize(("given", "kinks", "jumps"), NUMPY)
def test_kinks_of_numpy_functions(
    given: Callable[[Any], Any], kinks: tuple[float, ...], jumps: tuple[float, ...]
) -> None:
    """At no dyadic place, and as large where x is: rounding of 1e5 drowned the slope."""
    found: Activation = activation(given)
    assert found.kinks == pytest.approx(kinks, abs=1e-12)
    assert found.jumps == pytest.approx(jumps, abs=1e-12)
    x = np.array([-90_000.0, -3.7, 0.1, 5.3, 70_000.0])
    step = 1e-3
    wanted = (given(x + step) - given(x - step)) / (2 * step)
    assert found.slope(x) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("depth", [1, 5, 50])
def test_dks_of_atan(depth: int) -> None:
    """Its solution starts at 1/2, the edge of a panel, where it was looked for on neither side."""
    found = transform("atan", depth=depth)
    a, b = found.input_scale, found.input_shift
    moments = np.zeros(4)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for low in np.arange(-11.0, 11.0, 0.5):
        x = low + (nodes + 1) / 4
        density = weights / 4 * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
        f = found.output_scale * (np.arctan(a * x + b) + found.output_shift)
        slope = found.output_scale * a / (1 + (a * x + b) ** 2)
        moments += [density @ row for row in (f, f * f, x * f * slope, slope**2)]
    assert moments == pytest.approx([0.0, 1.0, 1.0, 1.5 ** (1 / depth)], abs=1e-11)


def test_squared_relu_has_no_constants_and_says_so() -> None:
    with pytest.raises(InputError, match="no constants found"):
        transform(lambda x: torch.relu(x) ** 2, depth=30)


@pytest.mark.parametrize(
    ("act", "weight_var", "bias_var"), [("hardshrink", 0.8, 0.3), (torch.sign, 0.7, 0.2)]
)
def test_dropout_counts_jumps_in_its_slope(act: object, weight_var: float, bias_var: float) -> None:
    found = dropout_phase(act, keep=0.9, weight_var=weight_var, bias_var=bias_var)
    assert found.c_star is not None
    assert found.q_star is not None

    def after(c: float) -> float:
        of = correlation_map(act, c, found.q_star, weight_var=weight_var, bias_var=bias_var)
        return of.covariance / found.q_star

    step = 1e-4
    slope = (after(found.c_star + step) - after(found.c_star - step)) / (2 * step)
    assert found.chi_c == pytest.approx(slope, rel=1e-6)


def test_a_moved_bias_is_told() -> None:
    """GELU is critical without biases only at its threshold, from which shorter lengths fall."""
    for found in (
        dropout_phase("gelu", keep=0.9),
        spectrum("gelu", 5),
        finite_width("gelu", depth=5, width=100),
    ):
        assert "no stable critical point at bias variance 0" in found.reason
    assert "critical point" not in spectrum("gelu", 5, bias_var=0.3).reason


@pytest.mark.parametrize(("name", "batch"), [("gelu", 8), ("sigmoid", 16)])
def test_pairs_of_a_batch_by_sampling(name: str, batch: int) -> None:
    """E phi^2 - E phi phi and the rest over random normalized batches, in place of quadrature."""
    act = activation(name)
    draws = np.random.default_rng(3).standard_normal((200_000, batch))
    v = draws - draws.mean(axis=1, keepdims=True)
    v /= np.sqrt((v**2).mean(axis=1, keepdims=True))
    f, g = act.value(v), act.slope(v)
    pairs = batch * (batch - 1)
    both = [((row.sum(axis=1) ** 2 - (row**2).sum(axis=1)) / pairs).mean() for row in (f, g, v * g)]
    above = (batch - 1) * (g**2).mean() + both[1] - ((v * g) ** 2).mean() + both[2]
    growth = above / ((batch - 3) * ((f**2).mean() - both[0]))
    # 1.6 million entries: some 0.1 %.
    assert norm_growth(name, "batch", batch=batch).growth == pytest.approx(growth, rel=4e-3)


def test_a_batch_of_what_oscillates_too_fast_has_a_reason() -> None:
    found = norm_growth(lambda x: torch.sin(30 * x), "batch", batch=16)
    assert found.growth is None
    assert "too often" in found.reason
