"""Gains against published digits, closed forms and adaptive quadrature."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from isograd.errors import InputError
from isograd.sites import ACTIVATIONS
from isograd.theory.activations import activation
from isograd.theory.gains import gains

SECOND_MOMENT = {
    "tanh": 1.5925374197228314,
    "gelu": 1.5335304411955352,
    "silu": 1.6765324703310912,
    "mish": 1.4868475812732081,
    "elu": 1.2451983007007066,
    "softplus": 1.0418668355353017,
    "sigmoid": 1.8462285453386054,
    "selu": 1.0,
    "relu": math.sqrt(2),
}
SLOPE = {
    "tanh": 1.4674135916307951,
    "gelu": 1.4811144127083482,
    "silu": 1.6233202579524973,
    "elu": 1.2234285575526209,
    "selu": 0.96602577697390117,
    "sin": 1.3272506002845751,
    "relu": math.sqrt(2),
}
STD = {
    "relu": 1.7128585504496627,
    "gelu": 1.7009262433633331,
    "silu": 1.7871872221004420,
    "tanh": 1.5925374197228314,
    "mish": 1.5920253810994462,
}
BATCH_NORM_GROWTH = {
    "relu": math.pi / (math.pi - 1),
    "gelu": 1.31884,
    "silu": 1.21208,
    "tanh": 1.17781,
    "elu": 1.07901,
    "selu": 1.07157,
    "sigmoid": 1.03359,
}


@pytest.mark.parametrize(("name", "value"), SECOND_MOMENT.items())
def test_keeps_the_signal(name: str, value: float) -> None:
    assert gains(name).second_moment == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize(("name", "value"), SLOPE.items())
def test_keeps_the_gradient(name: str, value: float) -> None:
    assert gains(name).slope == pytest.approx(value, rel=1e-10)
    assert gains(name).slope_moment == pytest.approx(value**-2, rel=1e-10)


@pytest.mark.parametrize(("name", "value"), STD.items())
def test_keeps_the_standard_deviation(name: str, value: float) -> None:
    assert gains(name).std == pytest.approx(value, rel=1e-10)


@pytest.mark.parametrize(("name", "value"), BATCH_NORM_GROWTH.items())
def test_growth_of_the_gradient_under_batch_norm(name: str, value: float) -> None:
    """E phi'^2 / Var phi (Yang et al. 2019, A mean field theory of batch normalization)."""
    assert gains(name).slope_moment * gains(name).std ** 2 == pytest.approx(value, abs=5e-6)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3, -0.5])
def test_leaky_relu_closed_form(slope: float) -> None:
    of = gains("leaky_relu", negative_slope=slope)
    assert of.second_moment == pytest.approx(math.sqrt(2 / (1 + slope**2)), rel=1e-12)
    assert of.slope == pytest.approx(of.second_moment, rel=1e-12)
    assert of.slope_fourth == pytest.approx((1 + slope**4) / 2, rel=1e-12)


def test_selu_growth_of_the_gradient() -> None:
    assert gains("selu").slope_moment == pytest.approx(1.0715749924557993, rel=1e-10)


def test_sine_closed_form() -> None:
    assert gains("sin").second_moment ** -2 == pytest.approx((1 - math.exp(-2)) / 2, rel=1e-12)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS - {"glu"} | {"linear", "erf", "atan"}))
def test_adaptive_quadrature_agrees(name: str) -> None:
    phi, of = activation(name), gains(name)

    def moment(power: int, f) -> float:
        def integrand(x: float) -> float:
            return float(f(x)) ** power * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

        edges = [-13.0, *sorted({0.0, *phi.kinks}), 13.0]
        pairs = pairwise(edges)
        return sum(quad(integrand, a, b, epsabs=0, epsrel=1e-12)[0] for a, b in pairs)

    mean, square = moment(1, phi.value), moment(2, phi.value)
    assert of.second_moment == pytest.approx(square**-0.5, rel=1e-10)
    assert of.std == pytest.approx((square - mean**2) ** -0.5, rel=1e-9)
    assert of.slope_moment == pytest.approx(moment(2, phi.slope), rel=1e-10)
    assert of.slope_fourth == pytest.approx(moment(4, phi.slope), rel=1e-10)


def test_nothing_passes() -> None:
    of = gains("hardshrink", lambd=50.0)
    assert of.slope_moment == 0
    assert of.slope == of.second_moment == math.inf


def test_asked_again_it_is_at_hand() -> None:
    assert gains("gelu", approximate="tanh") is gains("gelu", approximate="tanh")
    assert gains("gelu", approximate="tanh") != gains("gelu")


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="glu is not elementwise"):
        gains("glu")


@pytest.mark.parametrize("name", ["linear", "relu", "tanh", "sigmoid", "selu", "leaky_relu"])
def test_the_number_of_torch(name: str) -> None:
    of = gains(name)
    assert of.torch_gain == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-12)
    assert of.remark
    # It is said to be exact where it is.
    exact = math.isclose(of.torch_gain, of.second_moment, rel_tol=1e-12)
    assert exact == ("exactly" in of.remark)


def test_torch_knows_no_other() -> None:
    assert gains("gelu").torch_gain is None
    assert gains("erf").slope == pytest.approx(1.3252183528612112, rel=1e-10)


def test_of_a_module_and_of_a_callable() -> None:
    assert gains(torch.nn.LeakyReLU(0.3)) == gains("leaky_relu", negative_slope=0.3)
    of = gains(lambda x: 2 * torch.tanh(x))
    assert of.second_moment == pytest.approx(SECOND_MOMENT["tanh"] / 2, rel=1e-10)


@pytest.mark.parametrize("given", [("softplus", {"beta": 200.0}), ("celu", {"alpha": 0.003})])
def test_sharp_bends_are_resolved(given: tuple[str, dict[str, float]]) -> None:
    """Close to ReLU, so that a rule made for unit scales misses the difference."""
    name, params = given
    phi, of = activation(name, **params), gains(name, **params)
    edges = [-13.0, -1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0, 13.0]

    def f(x: float) -> float:
        return float(phi.slope(x)) ** 2 * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    truth = sum(quad(f, a, b, epsabs=1e-15, epsrel=1e-13)[0] for a, b in pairwise(edges))
    assert of.slope_moment == pytest.approx(truth, rel=1e-12)
    assert abs(truth - 0.5) > 1e-4
