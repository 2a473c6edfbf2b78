"""Phases against reference digits, closed forms, iteration and random questions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isograd.errors import InputError
from isograd.theory import (
    activation,
    correlation_map,
    fixed_points,
    kernels,
    length_map,
    phase,
)
from isograd.theory.activations import _TABLE


def test_tanh_reference_values() -> None:
    ordered = phase("tanh", weight_var=1.5, bias_var=0.05)
    assert ordered.phase == "ordered"
    assert ordered.q_star == pytest.approx(0.41803720053347785, rel=1e-13)
    assert ordered.chi_1 == pytest.approx(0.93863626819885116, rel=1e-13)
    assert ordered.xi_c == pytest.approx(15.790994034122881, rel=1e-11)
    assert ordered.usable_depth == pytest.approx(6 * ordered.xi_c)
    chaotic = phase("tanh", weight_var=2.5, bias_var=0.05)
    assert chaotic.phase == "chaotic"
    assert chaotic.q_star == pytest.approx(1.0639583774168116, rel=1e-13)
    assert chaotic.chi_1 == pytest.approx(1.1335156987042717, rel=1e-12)
    assert chaotic.c_star == pytest.approx(0.44680423234426709, rel=1e-12)
    assert chaotic.chi_c == pytest.approx(0.91871677491377288, rel=1e-12)
    assert chaotic.xi_c == pytest.approx(11.795597515877579, rel=1e-11)
    critical = phase("tanh", weight_var=1.7609546396067391, bias_var=0.05)
    assert critical.phase == "critical"
    assert critical.q_star == pytest.approx(0.57004788164076415, rel=1e-12)
    assert critical.chi_q == pytest.approx(0.51818648406805004, rel=1e-12)
    assert critical.xi_q == pytest.approx(1.5210974073488168, rel=1e-12)
    assert critical.xi_c == math.inf


def test_erf_reference_values() -> None:
    found = phase("erf", weight_var=1.2, bias_var=0.1)
    assert found.q_star == pytest.approx(0.5, rel=1e-13)
    assert found.chi_1 == pytest.approx(0.88212623267486728, rel=1e-13)


def test_selu_keeps_its_length_and_lets_gradients_grow() -> None:
    found = phase("selu", weight_var=1.0)
    assert found.q_star == pytest.approx(1.0, rel=1e-12)
    assert found.chi_1 == pytest.approx(1.0715749924557993, rel=1e-12)
    assert found.chi_q == pytest.approx(0.7826479, abs=5e-8)  # Klambauer et al. 2017
    assert found.c_star == pytest.approx(0.0, abs=1e-12)


def test_scale_invariance() -> None:
    found = phase("relu", weight_var=2.0)
    assert (found.q_star, found.phase, found.c_star) == (1.0, "critical", 1.0)
    assert "every q is fixed" in found.reason
    assert phase("relu", weight_var=2.0, q0=7.0).q_star == 7.0
    assert phase("linear", weight_var=1.0).c_star is None
    assert phase("relu", weight_var=1.0, bias_var=0.1).q_star == pytest.approx(0.2)
    grows = phase("relu", weight_var=2.0, bias_var=0.1)
    assert grows.q_star is None
    assert "no fixed point" in grows.reason
    dies = phase("leaky_relu", weight_var=0.5)
    assert (dies.q_star, dies.phase) == (0.0, "ordered")


def test_no_fixed_point() -> None:
    for act, weight_var, bias_var in [
        ("exp", 1.0, 0.0),
        (lambda x: x**2, 1.0, 0.1),
        ("gelu", 2.5, 0.3),
        ("elu", 3.0, 0.1),
    ]:
        found = phase(act, weight_var=weight_var, bias_var=bias_var)
        assert found.q_star is None
        assert found.phase is None
        assert found.fixed_points == ()
        assert "no fixed point" in found.reason


def test_several_fixed_points() -> None:
    found = phase("exp", weight_var=0.1)
    # w e^(2q) = q: Lambert's W, on both branches.
    for point, truth, stable in zip(
        found.fixed_points, (0.12958555090953687, 1.2713206788867), (True, False), strict=True
    ):
        assert point.q == pytest.approx(truth, rel=1e-11)
        assert point.chi_q == pytest.approx(2 * truth, rel=1e-11)
        assert point.stable == stable
    assert found.q_star == found.fixed_points[0].q
    assert "also fixed: q = 1.271" in found.reason


def test_unstable_fixed_point() -> None:
    found = phase(lambda x: x**2, weight_var=1.0)
    assert found.q_star == pytest.approx(1 / 3)
    assert found.stable is False
    assert found.phase is None
    assert "unstable" in found.reason
    assert phase(lambda x: x**2, weight_var=1.0, q0=0.1).q_star == 0.0


def test_a_signal_that_dies() -> None:
    found = phase("tanh", weight_var=0.5)
    assert (found.q_star, found.chi_1, found.phase, found.c_star) == (0.0, 0.5, "ordered", None)
    found = phase("tanh", weight_var=1.0)
    assert (found.q_star, found.phase, found.stable) == (0.0, "critical", True)


def test_jumps_part_inputs_however_near() -> None:
    found = phase(torch.sign, weight_var=1.0, bias_var=0.5)
    # C(c) = (w 2/pi asin c + b) / q with q = w + b.
    assert found.phase == "chaotic"
    assert found.c_star is not None
    assert 1.5 * found.c_star == pytest.approx(
        2 / math.pi * math.asin(found.c_star) + 0.5, rel=1e-10
    )
    slope = 2 / math.pi / math.sqrt(1 - found.c_star**2) / 1.5
    assert found.chi_c == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "weight_var", "bias_var"),
    [
        ("tanh", 3.0, 0.2),
        ("hardtanh", 1.3, 0.1),
        ("elu", 1.7, 0.05),
        ("silu", 2.0, 0.5),
        ("sin", 9, 1),
    ],
)
def test_iteration_comes_to_the_fixed_point(name: str, weight_var: float, bias_var: float) -> None:
    found = phase(name, weight_var=weight_var, bias_var=bias_var)
    at = {"weight_var": weight_var, "bias_var": bias_var}
    q = 1.0
    for _ in range(4000):
        q, before = length_map(name, q, **at), q
        if abs(q - before) < 1e-15 * q:
            break
    assert found.q_star == pytest.approx(q, rel=1e-9)
    assert abs(length_map(name, found.q_star, **at) - found.q_star) < 1e-12 * found.q_star
    image = correlation_map(name, found.c_star, found.q_star, **at)
    assert image.value == pytest.approx(found.c_star, abs=1e-12)
    assert image.slope == pytest.approx(found.chi_c, rel=1e-8)
    if found.c_star < 1:
        away = correlation_map(name, found.c_star + 1e-2 * (1 - found.c_star), found.q_star, **at)
        assert away.value < found.c_star + 1e-2 * (1 - found.c_star)


def test_what_is_refused() -> None:
    for wrong in ({"weight_var": 0.0}, {"weight_var": math.nan}, {"weight_var": 1, "bias_var": -1}):
        with pytest.raises(InputError, match="must be finite"):
            phase("tanh", **wrong)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(_TABLE)),
    weight_var=st.floats(1e-3, 50),
    bias_var=st.one_of(st.just(0.0), st.floats(1e-12, 10)),
    q0=st.floats(1e-6, 100),
)
def test_always_a_result_or_a_verdict(
    name: str, weight_var: float, bias_var: float, q0: float
) -> None:
    found = phase(name, weight_var=weight_var, bias_var=bias_var, q0=q0)
    assert found.reason
    for field in ("q_star", "chi_1", "chi_q", "c_star", "chi_c", "xi_q", "xi_c", "usable_depth"):
        value = getattr(found, field)
        assert value is None or not math.isnan(value)
    for point in found.fixed_points:
        if point.q > 0:
            image = length_map(name, point.q, weight_var=weight_var, bias_var=bias_var)
            assert abs(image - point.q) < 1e-11 * point.q
    assert (found.phase is None) == (not found.stable)
    if found.c_star is not None:
        assert 0 <= found.c_star <= 1
        assert found.chi_c <= 1 + 1e-6
    if found.phase == "chaotic" and not math.isinf(found.chi_1) and name != "hardshrink":
        assert found.chi_1 > 1


def test_uncorrelated_is_exactly_zero() -> None:
    assert phase("selu", weight_var=1.0, bias_var=0.0).c_star == 0.0


def test_the_angle_of_what_oscillates_fast_needs_no_quadrature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its series holds up to a correlation far below 1, which is as far as it has to."""
    monkeypatch.setattr(fixed_points, "chord", None)
    found = phase(lambda x: torch.sin(50 * x), weight_var=1.7, bias_var=0.05)
    # E sin^2 is 1/2 there, and two inputs' sines are independent.
    assert found.q_star == pytest.approx(0.85 + 0.05, rel=1e-12)
    assert found.c_star == pytest.approx(0.05 / 0.9, rel=1e-12)


@pytest.mark.parametrize("bias_var", [0.02, 0.4, 3.0])
def test_the_angle_behind_a_step_is_an_arcsine(bias_var: float) -> None:
    """E sign(u1) sign(u2) = (2 / pi) arcsin c, of slope (2 / pi) / sin(angle)."""
    weight_var, step = 1.7, activation(torch.sign)
    found = phase(step, weight_var=weight_var, bias_var=bias_var)
    q, c = weight_var + bias_var, found.c_star
    assert found.q_star == pytest.approx(q, rel=1e-12)
    assert c is not None
    assert 0 < c < 1
    assert weight_var * 2 / math.pi * math.asin(c) + bias_var == pytest.approx(q * c, rel=1e-12)
    slope = weight_var * 2 / math.pi / math.sqrt(1 - c * c) / q
    assert found.chi_c == pytest.approx(slope, rel=1e-10)
    assert kernels.chord(step, q, 0.01)[1] == pytest.approx(
        2 / math.pi / (q * math.sin(0.01)), rel=1e-11
    )
