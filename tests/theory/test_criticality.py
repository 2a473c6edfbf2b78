"""Verdicts and lines against reference digits, closed forms and the invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isograd.errors import InputError
from isograd.theory import critical, critical_line, phase
from isograd.theory.activations import _TABLE

TANH = {
    1e-5: 1.0395211284844858,
    0.001: 1.1891895852346807,
    0.01: 1.4242052904885957,
    0.05: 1.7609546396067391,
    0.1: 1.9860726411358642,
    0.2: 2.2851524737201925,
    0.3: 2.5051271896797650,
    0.5: 2.8431674597240820,
    1.0: 3.4432109122654405,
}
HALF_STABLE = {
    "silu": (14.320173618, 1.988004678, 0.555143171),  # Roberts, Yaida and Hanin, section 5.3.4
    "gelu": (3.561552813, 1.983058257, 0.172922391),
    "mish": (1.670169132, 2.013524070, 0.094521787),
    "hardswish": (4.803855949, 1.973289584, 0.507145849),
}


@pytest.mark.parametrize(("bias_var", "weight_var"), TANH.items())
def test_tanh(bias_var: float, weight_var: float) -> None:
    found = critical("tanh", bias_var=bias_var)
    assert found.verdict == "stable"
    assert found.weight_var == pytest.approx(weight_var, rel=1e-11)
    assert found.bias_var == bias_var
    assert phase("tanh", weight_var=found.weight_var, bias_var=bias_var).phase == "critical"


def test_erf() -> None:
    assert critical("erf").weight_var == pytest.approx(math.pi / 4, rel=1e-14)
    assert critical("erf", bias_var=0.05).weight_var == pytest.approx(1.3758390073466804, rel=1e-12)
    at = critical("erf", bias_var=0.1)
    assert at.weight_var == pytest.approx(1.5521178553336423, rel=1e-12)
    assert at.chi_q == pytest.approx(1 / (1 + 2 * at.q_star), rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "sin", "atan", "hardtanh", "softsign", "elu"])
def test_the_line_starts_at_the_origin(name: str) -> None:
    found = critical(name)
    assert (found.verdict, found.weight_var, found.q_star) == ("stable", 1.0, 0.0)


def test_scale_invariance() -> None:
    for slope in (0.0, 0.3, -0.7):
        found = critical(torch.nn.LeakyReLU(slope))
        assert found.verdict == "stable"
        assert found.weight_var == pytest.approx(2 / (1 + slope**2), rel=1e-14)
        assert found.bias_var == 0.0
        assert found.q_star is None
        assert "every q" in found.reason
    assert critical("relu", bias_var=0.1).verdict == "none"


@pytest.mark.parametrize(("name", "numbers"), HALF_STABLE.items())
def test_half_stable(name: str, numbers: tuple[float, float, float]) -> None:
    found = critical(name)
    assert found.verdict == "half-stable"
    threshold = found.threshold
    assert (threshold.q_star, threshold.weight_var, threshold.bias_var) == pytest.approx(
        numbers, rel=1e-8
    )
    # At bias variance 0 nothing is stable, and the numbers are the threshold's.
    assert (found.q_star, found.weight_var, found.bias_var) == pytest.approx(numbers, rel=1e-8)
    beyond = critical(name, bias_var=2.0)
    assert beyond.verdict == "half-stable"
    assert beyond.bias_var == 2.0
    assert beyond.chi_q < 1


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "logsigmoid", "hardsigmoid"])
def test_none_without_centering(name: str) -> None:
    found = critical(name)
    assert found.verdict == "none"
    assert "negative bias variance" in found.reason
    assert found.weight_var is found.q_star is None


def test_sigmoid_centered() -> None:
    found = critical(lambda x: torch.sigmoid(x) - 0.5)
    assert found.verdict == "stable"
    assert found.weight_var == pytest.approx(16.0, rel=1e-10)


def test_sigmoid_is_critical_where_it_is_a_step() -> None:
    """The line does come back to a bias variance of 0, far out, and the verdict says where."""
    line = critical_line("sigmoid", np.geomspace(1, 1000, 200))
    assert not line.feasible[line.q_star < 45].any()
    assert line.feasible[line.q_star > 46].all()
    assert line.weight_var[line.feasible].min() > 100
    assert "all but a step" in critical("sigmoid").reason


@pytest.mark.parametrize("act", ["exp", lambda x: x**2, "tanhshrink"])
def test_none_where_it_is_unstable_all_along(act: object) -> None:
    found = critical(act)
    assert found.verdict == "none"
    assert "unstable all along" in found.reason


def test_none_across_a_jump() -> None:
    assert "jumps" in critical(torch.sign).reason


def test_softshrink_is_marginal_all_along() -> None:
    # d/dq E phi^2 = E phi'^2 where phi phi'' = 0.
    assert critical("softshrink", bias_var=0.3).chi_q == pytest.approx(1.0, rel=1e-12)
    assert critical("softshrink").verdict == "none"


@pytest.mark.parametrize("name", ["tanh", "gelu", "elu", "hardtanh", "softplus"])
def test_the_line_is_critical(name: str) -> None:
    line = critical_line(name)
    assert line.q_star[0] == pytest.approx(1e-6)
    assert line.q_star[-1] == pytest.approx(100)
    for i in np.flatnonzero(line.feasible & (line.chi_q < 0.999) & (line.bias_var > 0))[::60]:
        at = {"weight_var": line.weight_var[i], "bias_var": line.bias_var[i], "q0": line.q_star[i]}
        found = phase(name, **at)
        assert found.q_star == pytest.approx(line.q_star[i], rel=1e-9)
        assert found.chi_1 == pytest.approx(1.0, abs=1e-10)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="bias_var is -1"):
        critical("tanh", bias_var=-1)
    with pytest.raises(InputError, match="the line of exp is known"):
        critical_line("exp", [1.0, 1000.0])


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(_TABLE)),
    bias_var=st.one_of(st.just(0.0), st.floats(1e-10, 100)),
)
def test_always_a_verdict(name: str, bias_var: float) -> None:
    found = critical(name, bias_var=bias_var)
    assert found.reason
    numbers = (found.weight_var, found.bias_var, found.chi_q)
    if found.verdict == "none":
        assert numbers == (None, None, None)
        return
    assert all(math.isfinite(number) for number in numbers)
    assert found.chi_q <= 1 + 1e-9
    if found.q_star:
        again = phase(name, weight_var=found.weight_var, bias_var=found.bias_var, q0=found.q_star)
        # At a threshold dQ/dq = 1, and a fixed point that only touches may be lost to rounding.
        assert again.chi_1 is None or found.chi_q > 0.9999 or abs(again.chi_1 - 1) < 1e-9
