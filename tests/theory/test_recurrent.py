"""Recurrent nets against feed-forward theory and wide random networks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isograd.errors import InputError
from isograd.theory.activations import activation
from isograd.theory.fixed_points import phase
from isograd.theory.recurrent import recurrence, recurrent_step

DRIVEN = {"weight_var": 1.5, "input_var": 0.1, "input_square": 0.8, "input_correlation": 0.3}


def test_without_inputs_it_is_a_deep_network() -> None:
    of, deep = (
        recurrence("tanh", weight_var=2.5, bias_var=0.05),
        phase("tanh", weight_var=2.5, bias_var=0.05),
    )
    assert (of.q_star, of.c_star, of.xi_c) == (deep.q_star, deep.c_star, deep.xi_c)
    assert of.chi_1 == pytest.approx(1.1335156987042717, rel=1e-9)


def test_inputs_that_agree_are_a_bias() -> None:
    of = recurrence("tanh", **(DRIVEN | {"input_correlation": 1.0}))
    assert of.q_star == pytest.approx(
        phase("tanh", weight_var=1.5, bias_var=0.08).q_star, rel=1e-12
    )
    assert of.c_star == 1


def test_steps_lead_to_the_fixed_point() -> None:
    q, c = 0.9, 0.9
    for _ in range(300):
        step = recurrent_step("tanh", q, c, bias_var=0.02, **DRIVEN)
        q, c = step.q, step.c
    of = recurrence("tanh", bias_var=0.02, **DRIVEN)
    assert q == pytest.approx(of.q_star, rel=1e-9)
    assert c == pytest.approx(of.c_star, rel=1e-8)
    assert step.chi_1 == pytest.approx(of.chi_1, rel=1e-9)
    apart = (recurrent_step("tanh", q, c + d, bias_var=0.02, **DRIVEN).c for d in (1e-5, -1e-5))
    assert (next(apart) - next(apart)) / 2e-5 == pytest.approx(of.chi_c, rel=1e-5)


def test_random_network() -> None:
    width, steps = 2000, 12
    of = recurrence("tanh", **DRIVEN)
    phi, random = activation("tanh"), np.random.default_rng(1)
    w = random.standard_normal((width, width)) * math.sqrt(1.5 / width)
    h = random.standard_normal((2, width)) * 0.5
    gram = 0
    for step in range(steps):
        x = random.standard_normal((2, width))
        x[1] = 0.3 * x[0] + math.sqrt(1 - 0.09) * x[1]
        # Inputs through random weights: Gaussian with variance input_var * input_square.
        h = phi.value(h) @ w + math.sqrt(0.08) * x
        if step >= steps - 4:
            gram = gram + h @ h.T / width / 4
    assert gram[0, 0] == pytest.approx(of.q_star, rel=0.1)
    assert gram[0, 1] / math.sqrt(gram[0, 0] * gram[1, 1]) == pytest.approx(of.c_star, abs=0.06)


def test_what_does_not_exist_is_none() -> None:
    of = recurrence("relu", weight_var=2.5, input_var=0.1)
    assert of.q_star is None
    assert of.c_star is None
    assert "no fixed point" in of.reason
    faint = recurrence("tanh", weight_var=0.5, input_var=1e-266, input_correlation=0.0)
    assert faint.c_star is None
    assert "no angle" in faint.reason


def test_bad_arguments() -> None:
    for kwargs, match in (
        ({"weight_var": 0.0}, "weight_var"),
        ({"input_correlation": 2.0}, "input_correlation is from -1 to 1"),
        ({"input_var": -1.0}, "input_var"),
        ({"bias_var": math.nan}, "bias_var"),
    ):
        with pytest.raises(InputError, match=match):
            recurrence("tanh", **(DRIVEN | kwargs))
    with pytest.raises(InputError, match="c is from -1 to 1"):
        recurrent_step("tanh", 1.0, 1.5, **DRIVEN)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["tanh", "relu", "gelu", "sigmoid", "hardtanh"]),
    weight_var=st.floats(0.01, 10),
    input_var=st.one_of(st.just(0.0), st.floats(1e-9, 10)),
    correlation=st.floats(-1, 1),
)
def test_no_nan(name, weight_var, input_var, correlation) -> None:
    of = recurrence(name, weight_var=weight_var, input_var=input_var, input_correlation=correlation)
    for value in (of.q_star, of.chi_1, of.c_star, of.chi_c, of.xi_c):
        assert value is None or not math.isnan(value)
    assert of.c_star is None or -1 <= of.c_star <= 1
