"""Modules and callables: kinks, jumps and shape are found, and what cannot be used is refused."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from isograd.errors import InputError
from isograd.theory import activation, discovery, length_map, phase


def bent(x: Tensor) -> Tensor:
    return torch.where(x > 0.3, x - 0.3, 0.2 * torch.expm1(x - 0.3))


@pytest.mark.parametrize(
    ("given", "name", "params"),
    [
        (nn.ReLU, "relu", {}),
        (nn.LeakyReLU(0.2), "leaky_relu", {"negative_slope": 0.2}),
        (nn.GELU("tanh"), "gelu", {"approximate": "tanh"}),
        (nn.Hardtanh(-0.3, 2.1), "hardtanh", {"min_val": -0.3, "max_val": 2.1}),
        (nn.PReLU(init=0.5), "prelu", {"negative_slope": 0.5}),
        (nn.Threshold(0.1, 20.0), "threshold", {"threshold": 0.1, "value": 20.0}),
        (nn.Identity(), "linear", {}),
        (functional.gelu, "gelu", {}),
        (functional.silu, "silu", {}),
        (torch.tanh, "tanh", {}),
        (torch.sigmoid, "sigmoid", {}),
    ],
)
def test_what_the_table_knows(given: object, name: str, params: dict[str, float | str]) -> None:
    assert activation(given) is activation(name, **params)


def test_parameters_of_a_class_and_a_functional() -> None:
    assert activation(nn.ELU, alpha=1.7) is activation("elu", alpha=1.7)
    wanted = activation("leaky_relu", negative_slope=0.3)
    assert activation(functional.leaky_relu, negative_slope=0.3) is wanted


@pytest.mark.parametrize(
    ("given", "kinks", "jumps"),
    [
        (lambda x: functional.relu(x) ** 2, (0.0,), ()),
        (bent, (0.3,), ()),
        (lambda x: x.clamp(-0.7, 1.234567), (-0.7, 1.234567), ()),
        (torch.sign, (0.0,), (0.0,)),
        (lambda x: torch.where(x > 1 / 3, x, 0 * x), (1 / 3,), (1 / 3,)),
        (lambda x: functional.elu(x), (0.0,), ()),
        (lambda x: x / (1 + x.abs()), (0.0,), ()),
        (lambda x: torch.tanh(50 * (x - 3)), (), ()),
        (lambda x: torch.sin(3 * x), (), ()),
        (lambda x: x**2, (), ()),
        (np.tanh, (), ()),
        (lambda x: np.maximum(x, 0) + 0.0, (0.0,), ()),
        (lambda x: np.where(x > 0.25, 1.0, -x), (0.25,), (0.25,)),
    ],
)
def test_kinks_and_jumps_are_found(
    given: object, kinks: tuple[float, ...], jumps: tuple[float, ...]
) -> None:
    found = activation(given)
    assert found.kinks == pytest.approx(kinks, abs=1e-12)
    assert found.jumps == pytest.approx(jumps, abs=1e-12)


def test_kinks_may_be_declared() -> None:
    assert activation(torch.relu, kinks=(0.0, 1.0)).kinks == (0.0, 1.0)


def test_one_that_works_in_place() -> None:
    found, x = activation(torch.relu_), np.array([-1.0, 2.0])
    assert found.kinks == (0.0,)
    assert found.value(x).tolist() == [0.0, 2.0]
    assert x.tolist() == [-1.0, 2.0]


def test_parity_and_homogeneity() -> None:
    assert activation(lambda x: torch.tanh(2 * x)).odd
    assert not activation(bent).odd
    leak = activation(lambda x: 2 * functional.relu(x) - 0.3 * functional.relu(-x))
    assert leak.homogeneous
    assert not activation(lambda x: x**3).homogeneous


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (lambda x: torch.tanh(x), "tanh"),
        (lambda x: functional.selu(x), "selu"),
        (lambda x: functional.hardswish(x), "hardswish"),
        (np.tanh, "tanh"),
        (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), "elu"),
    ],
)
def test_a_callable_is_as_good_as_the_name(given: object, name: str) -> None:
    found, known = (phase(of, weight_var=1.4, bias_var=0.2) for of in (given, name))
    # torch keeps the 1/6 of hardswish in float32.
    tolerance = 1e-6 if name == "hardswish" else 1e-11
    for field in ("q_star", "chi_1", "chi_q", "c_star", "chi_c"):
        assert getattr(found, field) == pytest.approx(getattr(known, field), rel=tolerance)


def test_a_module_in_float32_is_asked_in_float64_and_stays_as_it_is() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.scale * x)

    module = Scaled()
    found = activation(module)
    assert found.value(np.array([0.2])) == pytest.approx(np.tanh([0.3]), rel=1e-15)
    assert found.slope(np.array([0.2])) == pytest.approx(1.5 / np.cosh([0.3]) ** 2, rel=1e-14)
    assert module.scale.dtype == torch.float32
    assert module.scale.grad is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (nn.Softmax(-1), "Softmax is not elementwise: an output depends"),
        (lambda x: functional.layer_norm(x, x.shape[-1:]), "not elementwise: an output depends"),
        (lambda x: x.sum(), r"not elementwise: \(521,\) became \(\)"),
        (nn.GLU(), "GLU raised on .* not elementwise"),
        (nn.functional.glu, "glu raised on .* not elementwise"),
        (lambda x: x + torch.randn_like(x), "random: two calls differ"),
        (lambda x: torch.log(x), "not finite at x = 0"),
        (lambda x: 1 / (x - 5), "not finite at x = 5"),
        (3, "a name, a module or a function of arrays, not int"),
        (nn.PReLU(3).requires_grad_(False), None),
        (lambda x: "no", "takes neither a torch tensor nor a numpy array"),
    ],
)
def test_what_is_refused(given: object, told: str | None) -> None:
    if told is None:
        assert isinstance(given, nn.PReLU)
        given.weight.copy_(torch.tensor([0.1, 0.2, 0.3]))
        told = "PReLU has 3 different slopes"
    with pytest.raises(InputError, match=told):
        activation(given)


def test_a_callable_has_no_parameters() -> None:
    with pytest.raises(InputError, match="takes kinks"):
        activation(bent, alpha=2.0)


def test_oscillation_far_out_does_not_hide_a_kink() -> None:
    """What is far out is given up, so that there are panels left to find the kink with."""

    def bent_wave(x: torch.Tensor) -> torch.Tensor:
        return x * torch.sin(3 * x) + (x - 0.37).abs()

    found = activation(bent_wave)
    assert found.kinks == pytest.approx((0.37,), abs=1e-9)
    fast = activation(lambda x: torch.sin(40 * x))
    # E sin^2(k u) = (1 - exp(-2 k^2 q)) / 2
    assert length_map(fast, [1e-4, 0.3], weight_var=2.0) == pytest.approx(
        [-math.expm1(-0.32), 1.0], rel=1e-10
    )


def test_like_modules_are_asked_for_their_kinks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        discovery, "_found_kinks", lambda value, slope, name: asked.append(name) or (0.5,)
    )

    class Bent(nn.Module):
        def __init__(self, at: float, learned: bool = False) -> None:
            super().__init__()
            self.at = at
            if learned:
                self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - self.at).relu()

    for module in (Bent(0.5), Bent(0.5), Bent(0.7), Bent(0.5, True), Bent(0.5, True)):
        assert activation(module).kinks == (0.5,)
    assert len(asked) == 4  # of the first two one, and each that holds a parameter
