"""Every activation against torch: value and slope, defaults and parameters."""

import inspect

import numpy as np
import pytest
import torch
from torch.nn import functional

from isograd.errors import InputError
from isograd.sites import ACTIVATIONS
from isograd.theory.activations import _TABLE, activation

CASES = [(name, {}) for name in sorted(ACTIVATIONS - {"glu"} | {"erf", "atan"})] + [
    ("leaky_relu", {"negative_slope": 0.31}),
    ("leaky_relu", {"negative_slope": -1.7}),
    ("elu", {"alpha": 1.7}),
    ("celu", {"alpha": 0.6}),
    ("gelu", {"approximate": "tanh"}),
    ("softplus", {"beta": 2.5}),
    ("hardtanh", {"min_val": -0.3, "max_val": 2.1}),
    ("hardshrink", {"lambd": 1.2}),
    ("softshrink", {"lambd": 0.2}),
    ("threshold", {"threshold": 0.4, "value": -3.0}),
    ("rrelu", {"lower": 0.1, "upper": 0.5}),
    ("prelu", {"negative_slope": -0.2}),
]


def of_torch(name: str, params: dict[str, float | str], x: torch.Tensor) -> torch.Tensor:
    if name in ("sin", "cos", "exp", "erf", "atan"):
        return getattr(torch, name)(x)
    if name == "prelu":
        return functional.prelu(x, torch.tensor(params.get("negative_slope", 0.25)).double())
    if name == "threshold":
        return functional.threshold(x, **({"threshold": 0.0, "value": 0.0} | params))
    return getattr(functional, name)(x, **params)


def test_the_table_is_that_of_the_sites() -> None:
    assert set(_TABLE) == ACTIVATIONS - {"glu"} | {"linear", "erf", "atan"}


@pytest.mark.parametrize(("name", "params"), CASES)
def test_value_and_slope_are_those_of_torch(name: str, params: dict[str, float | str]) -> None:
    x = torch.linspace(-7.03, 7.01, 2_003, dtype=torch.float64, requires_grad=True)
    y = of_torch(name, params, x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    phi = activation(name, **params)
    entries = x.detach().numpy()
    # torch keeps some constants, as the 1/6 of hardsigmoid, in float32 even here.
    np.testing.assert_allclose(phi.value(entries), y.detach().numpy(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(phi.slope(entries), slope.numpy(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_slope_jumps_at_the_kinks_only(name: str, params: dict[str, float | str]) -> None:
    phi = activation(name, **params)
    x = np.linspace(-7, 7, 14_001)
    value, slope = phi.value(x), phi.slope(x)
    smooth = np.array([not np.any(np.abs(np.array(phi.kinks) - at) < 2e-3) for at in x[1:]])
    wide = 1e-2 * max(1.0, np.abs(slope).max())
    assert np.all(np.abs(np.diff(slope))[smooth] < wide)
    assert np.all(np.abs(np.diff(value))[smooth] < wide)
    for kink in phi.kinks:
        # The slope jumps, or (softsign, elu) the slope of the slope does.
        before, at, after = phi.slope(kink + 1e-5 * np.array([-1.0, 0.0, 1.0]))
        assert abs((after - at) - (at - before)) > 1e-6


@pytest.mark.parametrize(("name", "params"), CASES)
def test_largest_slope(name: str, params: dict[str, float | str]) -> None:
    phi = activation(name, **params)
    largest = np.abs(phi.slope(np.linspace(-30, 30, 600_001))).max()
    if name == "exp":
        assert phi.max_slope == np.inf
    else:
        assert largest <= phi.max_slope * (1 + 1e-9)
        assert largest == pytest.approx(phi.max_slope, rel=1e-4)


def test_parameters_have_the_names_and_defaults_of_torch() -> None:
    modules = {"leaky_relu": "LeakyReLU", "hardtanh": "Hardtanh", "rrelu": "RReLU"} | {
        name: name.capitalize() for name in ("softplus", "hardshrink", "softshrink")
    }
    modules |= {"elu": "ELU", "celu": "CELU", "gelu": "GELU"}
    for name, module in modules.items():
        theirs = inspect.signature(getattr(torch.nn, module)).parameters
        for key, parameter in inspect.signature(_TABLE[name]).parameters.items():
            assert theirs[key].default == parameter.default, (name, key)


def test_unknown_name() -> None:
    with pytest.raises(InputError, match=r"no activation 'rleu'.*known are .*relu, relu6"):
        activation("rleu")


def test_unknown_parameter() -> None:
    with pytest.raises(InputError, match=r"'elu' has no parameter slope; it takes alpha"):
        activation("elu", slope=1.0)
    with pytest.raises(InputError, match="it takes none"):
        activation("tanh", beta=1.0)


def test_unknown_approximation() -> None:
    with pytest.raises(InputError, match="no approximation 'cubic'"):
        activation("gelu", approximate="cubic")


def test_what_is_known_of_each() -> None:
    odd = {name for name in _TABLE if activation(name).odd}
    assert odd == set(
        "linear tanh hardtanh softsign hardshrink softshrink tanhshrink erf atan sin".split()
    )
    straight = {name for name in _TABLE if activation(name).homogeneous}
    assert straight == {"linear", "relu", "leaky_relu", "prelu", "rrelu", "threshold"}
    assert {name for name in _TABLE if activation(name).jumps} == {"hardshrink"}
    assert activation("hardshrink").jumps == (-0.5, 0.5)
    assert activation("threshold", value=-1.0).jumps == (0.0,)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("swish", "silu"), ("LeakyReLU", "leaky_relu"), ("ELU", "elu"), ("identity", "linear")],
)
def test_aliases(alias: str, name: str) -> None:
    assert activation(alias) is activation(name)
