"""Slopes, saturation and dead units against torch's autograd and quadrature."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.probe.measuring import measure
from isograd.probe.slopes import Sample, dead_units, slopes
from isograd.records import Record
from isograd.sites import ELEMENTWISE
from isograd.theory.gains import gains

MODULES: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "leaky_relu": nn.LeakyReLU(0.2),
    "prelu": nn.PReLU(init=0.3),
    "elu": nn.ELU(0.7),
    "selu": nn.SELU(),
    "celu": nn.CELU(0.6),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "mish": nn.Mish(),
    "softplus": nn.Softplus(beta=2),
    "sigmoid": nn.Sigmoid(),
    "logsigmoid": nn.LogSigmoid(),
    "tanh": nn.Tanh(),
    "hardtanh": nn.Hardtanh(-0.5, 2.0),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "softsign": nn.Softsign(),
    "hardshrink": nn.Hardshrink(0.3),
    "softshrink": nn.Softshrink(0.4),
    "tanhshrink": nn.Tanhshrink(),
    "threshold": nn.Threshold(0.2, -3.0),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
}
PARAMS: dict[str, dict[str, float | str]] = {
    "leaky_relu": {"negative_slope": 0.2},
    "prelu": {"negative_slope": 0.3},
    "elu": {"alpha": 0.7},
    "celu": {"alpha": 0.6},
    "hardtanh": {"min_val": -0.5, "max_val": 2.0},
    "hardshrink": {"lambd": 0.3},
    "softshrink": {"lambd": 0.4},
    "softplus": {"beta": 2.0},
    "threshold": {"threshold": 0.2, "value": -3.0},
}
GENERATOR = torch.Generator().manual_seed(11)
SMALL = torch.randn(47, 31, generator=GENERATOR) * 2


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.weight)


def derivative(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.double().requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    return slope


def looked_at(function: Any, x: Tensor) -> tuple[Record, int]:
    """The record of an activation of x, and the index of its site."""
    record = measure(Function(function), x)
    (index,) = (i for i, _ in record.pairs("forward.slope"))
    return record, index


def test_every_elementwise_activation_is_here() -> None:
    assert set(MODULES) | set(FUNCTIONS) | {"rrelu"} == set(ELEMENTWISE)


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_slope_and_saturation_are_autograds(name: str) -> None:
    function = MODULES.get(name) or FUNCTIONS[name]
    record, index = looked_at(function, SMALL)
    assert record.sites[index].kind == name
    double = function.double() if isinstance(function, nn.Module) else function
    slope = derivative(double, SMALL)
    grid = derivative(double, torch.linspace(-8, 8, 257)).abs().max()
    if isinstance(function, nn.Module):
        function.float()
    assert record.value("forward.slope", index) == pytest.approx(
        float(slope.square().mean().sqrt()), rel=1e-5
    )
    saturated = float((slope.abs() < 0.05 * grid).double().mean())
    assert record.value("forward.saturated", index) == pytest.approx(saturated, abs=1.5 / 1457)


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_slope_of_a_gaussian_is_theorys(name: str) -> None:
    """A sample of 4096 of 2^16 inputs; five standard errors of the mean of squares."""
    x = torch.randn(512, 128, generator=torch.Generator().manual_seed(1))
    function = MODULES.get(name) or FUNCTIONS[name]
    record, index = looked_at(function, x)
    theory = gains(name, **PARAMS.get(name, {}))
    error = 5 * math.sqrt(max(theory.slope_fourth - theory.slope_moment**2, 1e-12) / 4000)
    found = record.value("forward.slope", index)
    assert found is not None
    assert abs(found**2 - theory.slope_moment) < error
    plain = gains(name)
    assert record.value("forward.slope_theory", index) == pytest.approx(1 / plain.slope)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.relu(x, inplace=True),
        lambda x: F.relu_(x),
        lambda x: x.relu_(),
        lambda x: x.clamp_min(-9).relu_(),
        nn.ReLU(inplace=True),
        lambda x: F.leaky_relu(x, 0.2, True),
        lambda x: F.leaky_relu(input=x, negative_slope=0.2),
        lambda x: F.leaky_relu_(x, 0.2),
        lambda x: F.elu(x, alpha=0.7, inplace=True),
        nn.SiLU(inplace=True),
        nn.Hardtanh(-0.5, 2.0, inplace=True),
        lambda x: F.threshold(x, 0.2, -3.0, True),
        lambda x: torch.tanh_(x),
        lambda x: x.sigmoid_(),
        lambda x: F.gelu(x, approximate="tanh"),
    ],
)
def test_an_in_place_call_is_read_before_it_overwrites(function: Any) -> None:
    record, index = looked_at(function, SMALL)
    slope = derivative(lambda x: function(1 * x), SMALL)
    assert record.value("forward.slope", index) == pytest.approx(
        float(slope.square().mean().sqrt()), rel=1e-4
    )


@pytest.mark.parametrize(
    "shape", [(8192, 16), (16, 8192), (7, 300, 41), (2, 3, 211, 97), (40_000,), (32, 64, 32, 32)]
)
def test_the_sample_meets_every_index_of_every_axis(shape: tuple[int, ...]) -> None:
    """A ramp along each axis keeps its mean square."""
    for axis in range(len(shape)):
        sides = [-1 if a == axis else 1 for a in range(len(shape))]
        ramp = torch.linspace(-3, 3, shape[axis]).reshape(sides)
        record, index = looked_at(torch.tanh, ramp.expand(shape).clone())
        exact = float(derivative(torch.tanh, ramp).square().mean().sqrt())
        assert record.value("forward.slope", index) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize(
    "function",
    [nn.GLU(), lambda x: F.rrelu(x, training=True), lambda x: F.relu(x).sum() * 0 + x],
)
def test_what_has_no_slope_of_its_own(function: Any) -> None:
    record = measure(Function(function), SMALL[:, :30])
    for index, site in enumerate(record.sites):
        if site.kind != "relu":
            assert record.value("forward.slope", index) is None


def test_a_norm_has_no_slope_even_if_its_last_operation_has() -> None:
    class SoftNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x)

    record = measure(nn.Sequential(SoftNorm(), nn.Tanh()), SMALL)
    assert [site.kind for site in record.sites] == ["layer_norm", "tanh"]
    assert record.value("forward.slope", 0) is None
    assert record.value("forward.slope", 1) is not None


def test_non_finite_inputs_are_left_out() -> None:
    inputs = torch.tensor([0.5, math.nan, math.inf, -0.25])
    expected = derivative(torch.tanh, torch.tensor([0.5, -0.25])).square().mean().sqrt()
    (found,) = slopes([Sample(torch.tanh, inputs, (), {})])
    assert found is not None
    assert found[0] == pytest.approx(float(expected), rel=1e-6)
    assert slopes([Sample(torch.tanh, torch.tensor([math.nan]), (), {})]) == [None]


def test_samples_of_like_calls_do_not_see_one_another() -> None:
    near, far = torch.linspace(-1, 1, 30), torch.linspace(3, 9, 20)
    leaky = [Sample(nn.functional.leaky_relu, near, (s,), {}) for s in (0.01, 0.3, 0.01)]
    taken = [Sample(torch.tanh, near, (), {}), None, *leaky, Sample(torch.tanh, far, (), {})]
    alone = [None if one is None else slopes([one])[0] for one in taken]
    assert slopes(taken) == [None if pair is None else pytest.approx(pair) for pair in alone]
    assert alone[2] != alone[3]
    assert alone[0] != alone[5]


def test_a_function_without_a_derivative_has_no_slope() -> None:
    assert slopes([Sample(torch.floor, torch.tensor([0.5]), (), {})]) == [None]  # zero everywhere
    assert slopes([Sample(torch.detach, torch.tensor([0.5]), (), {})]) == [None]
    assert slopes([Sample(torch.tanh, torch.tensor([0.5]), (1, 2, 3), {})]) == [None]


LOW = torch.tensor([0.0, -1.0, -0.3, 0.0, 0.2, 1.0, 6.0])
HIGH = torch.tensor([0.0, -1.0, 0.7, 0.4, 0.6, 1.0, 6.0])


@pytest.mark.parametrize(
    ("kind", "dead"),
    [
        ("relu", 1),  # always zero
        ("threshold", 1),
        ("relu6", 2),  # and always six
        ("hardtanh", 3),  # always -1, 1 or beyond
        ("hardsigmoid", 3),
        ("sigmoid", 3),
        ("tanh", 3),
        ("hardshrink", 1),
        ("softshrink", 1),
        ("gelu", 1),
        ("silu", 1),
        ("mish", 1),
        ("softplus", 1),
        ("hardswish", 1),
        ("leaky_relu", None),
        ("elu", None),
        ("sin", None),
        ("softsign", None),
    ],
)
def test_dead_units_by_their_outputs(kind: str, dead: int | None) -> None:
    found = dead_units(kind, LOW, HIGH, None)
    assert (found is None) == (dead is None)
    if found is not None:
        assert float(found) == pytest.approx((dead or 0) / 7)


DEADLY = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.Hardtanh(),
    nn.Hardtanh(-2.0, 2.0),
    nn.Hardtanh(min_val=-3.0, max_val=0.5),
    nn.Threshold(0.3, -2.0),
    nn.Threshold(0.0, 0.0),
    nn.Hardsigmoid(),
    nn.Hardshrink(0.7),
    nn.Softshrink(0.7),
    nn.Hardswish(),
]


@pytest.mark.parametrize("activation", DEADLY, ids=repr)
@pytest.mark.parametrize("inplace", [False, True])
def test_dead_units_are_those_without_a_derivative(activation: nn.Module, inplace: bool) -> None:
    """Units shifted far to the left, far to the right, and not at all."""
    if inplace:
        if not hasattr(activation, "inplace"):
            pytest.skip("has no in-place form")
        activation.inplace = True
    shifts = torch.tensor([-9.0, -5.0, -2.6, -1.4, -0.1, 0.0, 0.2, 1.4, 2.6, 5.0, 9.0])
    x = 0.2 * torch.randn(29, 11, generator=torch.Generator().manual_seed(3)) + shifts
    record, index = looked_at(activation, x)
    flat = (derivative(lambda x: activation(1 * x), x) == 0).all(0)
    if inplace:
        activation.inplace = False
    assert 0 < int(flat.sum()) < 11
    assert record.value("forward.dead", index) == pytest.approx(float(flat.double().mean()))


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "softplus", "hardswish"])
def test_a_smooth_unit_is_dead_far_on_the_left_only(name: str) -> None:
    left = torch.randn(29, 5, generator=torch.Generator().manual_seed(3))
    left[:, 2:4] -= 60
    left[:, 4] *= 1e-3  # small, not flat
    record, index = looked_at(MODULES[name], left)
    assert record.value("forward.dead", index) == pytest.approx(2 / 5)
    tiny = 1e-8 * left[:, :2]  # a small signal has its slope
    record, index = looked_at(MODULES[name], tiny)
    assert record.value("forward.dead", index) == 0


def test_a_constant_unit_is_one_that_never_changes() -> None:
    x = SMALL[:, :5].clone()
    x[:, 1] = 0.7
    x[:, 4] = -0.2
    record, index = looked_at(torch.tanh, x)
    assert record.value("forward.constant", index) == pytest.approx(2 / 5)
    assert record.value("forward.dead", index) == 0
