"""Transforms against reference constants, their own conditions by mpmath, and torch modules."""

import math
import pickle
import time

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.transforms import Transform, transform

MPMATH = {
    "tanh": mpmath.tanh,
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
}


def test_reference_constants() -> None:
    of = transform("tanh", "dks", depth=50)
    assert of.input_scale == pytest.approx(0.128440478513280809, rel=1e-10)
    assert of.input_shift == pytest.approx(0.570779547532500959, rel=1e-10)
    assert of.output_shift == pytest.approx(-0.509807241772191216, rel=1e-10)
    assert of.output_scale == pytest.approx(10.6044476434741508, rel=1e-10)
    assert of.negative_slope is None


@pytest.mark.parametrize(
    ("depth", "slope"),
    [
        (20, 0.18138027749038434),
        (50, 0.43052294850240269),
        (100, 0.57043953105872020),
        (200, 0.67959964387132364),
        (1000, 0.84435011070222440),
    ],
)
def test_leaky_reference(depth: int, slope: float) -> None:
    of = transform("relu", "tat", depth=depth)
    assert of.negative_slope == pytest.approx(slope, rel=1e-10)
    assert of.output_scale == pytest.approx(math.sqrt(2 / (1 + slope**2)), rel=1e-10)
    assert abs(of.residuals["eta"]) < 1e-8
    assert transform("leaky_relu", "tat", depth=depth) == of


def moments_by_mpmath(name: str, of: Transform) -> dict[str, float]:
    f = MPMATH[name]

    def g(x):
        return of.output_scale * (f(of.input_scale * x + of.input_shift) + of.output_shift)

    def mean(h):
        return float(mpmath.quad(lambda x: h(x) * mpmath.npdf(x), [-12, -6, -2, 0, 2, 6, 12]))

    with mpmath.workdps(30):
        # Stein's lemma instead of derivatives: E[x g g'] = E[(x^2 - 1) g^2] / 2.
        return {
            "mean": mean(g),
            "second_moment": mean(lambda x: g(x) ** 2),
            "growth": mean(lambda x: (x * x - 1) * g(x) ** 2) / 2,
            "slope": mean(lambda x: mpmath.diff(g, x) ** 2),
        }


@pytest.mark.parametrize(("name", "depth"), [("tanh", 20), ("softplus", 10), ("gelu", 50)])
def test_dks_conditions_by_mpmath(name: str, depth: int) -> None:
    found = moments_by_mpmath(name, transform(name, "dks", depth=depth))
    assert found["mean"] == pytest.approx(0, abs=1e-8)
    assert found["second_moment"] == pytest.approx(1, abs=1e-8)
    assert found["growth"] == pytest.approx(1, abs=1e-8)
    assert found["slope"] == pytest.approx(1.5 ** (1 / depth), abs=1e-8)


@pytest.mark.parametrize(("name", "depth"), [("tanh", 20), ("silu", 10)])
def test_tat_conditions_by_mpmath(name: str, depth: int) -> None:
    of = transform(name, "tat", depth=depth)
    found = moments_by_mpmath(name, of)
    for key in ("second_moment", "growth", "slope"):
        assert found[key] == pytest.approx(1, abs=1e-8)
    scale = of.output_scale * of.input_scale**2
    with mpmath.workdps(30):
        curvature = mpmath.quad(
            lambda x: (
                (scale * mpmath.diff(MPMATH[name], of.input_scale * x + of.input_shift, 2)) ** 2
                * mpmath.npdf(x)
            ),
            [-12, -6, -2, 0, 2, 6, 12],
        )
    assert float(curvature) == pytest.approx(0.3 / depth, abs=1e-8)


SMOOTH = "tanh gelu silu mish softplus sigmoid elu sin softsign logsigmoid tanhshrink".split()


@pytest.mark.parametrize("method", ["dks", "tat"])
@pytest.mark.parametrize("name", SMOOTH)
def test_every_smooth_activation(name: str, method: str) -> None:
    for depth in (3, 10, 100, 10_000):
        start = time.process_time()
        of = transform(name, method, depth=depth)
        assert time.process_time() - start < 0.5, "the bar is 0.05 s; ten times that for a busy CI"
        assert max(map(abs, of.residuals.values())) < 1e-10
        assert of.input_scale > 0
        assert of.output_scale > 0


def test_correlation_map_of_the_network() -> None:
    """What DKS promises: from slope 1.5^(1/L) at 1 and C(0) = 0, the L-fold map stays near c."""
    depth, c = 30, 0.5
    of = transform("tanh", "dks", depth=depth)
    phi = activation("tanh")
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    for _ in range(depth):
        other = c * nodes[:, None] + math.sqrt(1 - c * c) * nodes
        f, g = (
            of.output_scale * (phi.value(of.input_scale * x + of.input_shift) + of.output_shift)
            for x in (nodes, other)
        )
        c = float(weights @ (f * (g @ weights)))
    # A convex map from 0 to 0 and 1 to 1 with slope 1.5 at 1 strays by less than (1.5 - 1)/2.
    assert 0.25 < c < 0.5


@pytest.mark.parametrize(
    ("name", "method"), [("tanh", "dks"), ("SiLU", "tat"), ("relu", "tat"), ("swish", "dks")]
)
def test_module(name: str, method: str) -> None:
    of = transform(name, method, depth=40)
    module = of.module()
    assert isinstance(module, torch.nn.Module)
    assert not list(module.parameters())
    x = torch.linspace(-3, 3, 101, dtype=torch.float64)
    if of.negative_slope is None:
        value = activation(name).value(of.input_scale * x.numpy() + of.input_shift)
    else:
        value = np.where(x > 0, x, of.negative_slope * x)
    truth = of.output_scale * (value + of.output_shift)
    np.testing.assert_allclose(module(x), truth, rtol=1e-12, atol=1e-12)
    assert "output_scale=" in repr(module)
    copied = pickle.loads(pickle.dumps(module))
    assert torch.equal(copied(x), module(x))


def test_module_of_torch_and_of_arrays() -> None:
    x = torch.linspace(-2, 2, 11)
    by_module, by_name = (transform(act, "dks", depth=9) for act in (torch.nn.Tanh(), "tanh"))
    assert by_module.input_shift == pytest.approx(by_name.input_shift, rel=1e-8)
    torch.testing.assert_close(by_module.module()(x), by_name.module()(x))
    with pytest.raises(InputError, match="tanh is a function of arrays"):
        transform(activation("tanh"), "dks", depth=9).module()


def test_out_of_reach() -> None:
    with pytest.raises(InputError, match=r"eta = 0.9 is out of reach in 10 .*0.8715"):
        transform("relu", "tat", depth=10)
    with pytest.raises(InputError, match="out of reach in 5 layers"):
        transform("relu", "tat", depth=5, eta=0.8)
    assert 0 < transform("relu", "tat", depth=7, eta=0.8).negative_slope < 0.1
    for name in ("selu", "hardtanh", "hardswish", "relu6"):
        for method in ("dks", "tat"):
            with pytest.raises(InputError, match=f"the slope of {name} jumps"):
                transform(name, method, depth=50)
    with pytest.raises(InputError, match="the slope of relu jumps"):
        transform("relu", "dks", depth=50)
    for method in ("dks", "tat"):
        with pytest.raises(InputError, match="linear is linear"):
            transform("linear", method, depth=50)
        with pytest.raises(InputError, match="no constants found by which exp"):
            transform("exp", method, depth=50)


def test_bad_arguments() -> None:
    for kwargs, match in (
        ({"depth": 0}, "depth"),
        ({"method": "skip"}, "'dks' or 'tat'"),
        ({"zeta": 1.0}, "zeta is a finite number above 1"),
        ({"eta": 1.0}, "eta is between 0 and 1"),
        ({"tau": -1.0}, "tau is a finite number above 0"),
    ):
        with pytest.raises(InputError, match=match):
            transform("tanh", **({"depth": 5} | kwargs))


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from([*SMOOTH, "cos", "exp", "relu", "prelu"]),
    method=st.sampled_from(["dks", "tat"]),
    depth=st.integers(1, 3000),
    zeta=st.floats(1.001, 50),
    tau=st.floats(1e-3, 50),
    eta=st.floats(0.01, 0.99),
)
def test_constants_or_a_refusal(name, method, depth, zeta, tau, eta) -> None:
    try:
        of = transform(name, method, depth=depth, zeta=zeta, tau=tau, eta=eta)
    except InputError:
        return
    assert max(map(abs, of.residuals.values())) < 1e-8
    assert math.isfinite(of.output_scale + of.output_shift + of.input_shift + of.input_scale)
