"""The first operation that made a non-finite value is named, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isograd.probe.measuring import measure
from isograd.probe.nonfinite import value_range
from isograd.records import Record

X = torch.randn(5, 7, generator=torch.Generator().manual_seed(5))


class Network(nn.Module):
    """Two layers with an operation between them, in a module of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(7, 11), nn.Linear(11, 3)
        self.block = Block(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(self.first(x)))


class Block(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def looked(function: Callable[[Tensor], Tensor], loss: Any = None) -> Record:
    batch: Any = X if loss is None else (X, torch.zeros(5, 3))
    return measure(Network(function), batch, loss, step=17)


def overflow(x: Tensor) -> Tensor:
    return (x * 1e30) * (1e20 * x)


@pytest.mark.parametrize(
    ("function", "op", "inputs", "site"),
    [
        (lambda x: x.relu().log(), "log", 1, "block"),
        (lambda x: (x - x) / (x - x), "div", 2, "block"),
        (lambda x: x.sqrt(), "sqrt", 1, "block"),
        (overflow, "mul", 2, "block"),
        (lambda x: x.exp().exp().exp().exp(), "exp", 1, "block:exp#4"),
        (lambda x: x.half().mul(1e9).float(), "mul", 1, "first"),
        (lambda x: torch.where(x > 0, x, torch.tensor(math.nan)), "where", 2, "block"),
        (lambda x: x.pow(-0.5), "pow", 1, "block"),
    ],
)
def test_forward(function: Callable[[Tensor], Tensor], op: str, inputs: int, site: str) -> None:
    record = looked(function)
    event = record.fact("event.forward")
    assert event["op"] == op
    assert event["module"] == "block"
    assert event["phase"] == "model"
    assert event["step"] == 17
    assert len(event["inputs"]) == inputs
    assert event["count"] > 0
    assert record.sites[event["site"]].name == site


def test_the_ranges_of_the_inputs() -> None:
    record = looked(lambda x: (0 * x + torch.arange(-5.0, 6.0)).log())
    (seen,) = record.fact("event.forward")["inputs"]
    assert seen == {
        "shape": [5, 11],
        "dtype": "float32",
        "min": -5.0,
        "max": 5.0,
        "abs_min": 1.0,
        "nonfinite": 0,
        "zeros": 5,
    }
    assert record.fact("event.forward")["count"] == 5 * 6  # five negative ones and zero


def test_the_first_of_several_is_named() -> None:
    record = looked(lambda x: (x.log() + 1).exp().sqrt())
    assert record.fact("event.forward")["op"] == "log"


def test_a_loss_is_a_phase_of_its_own() -> None:
    record = looked(lambda x: x, lambda o, t: (o - o).log().mean() + t.mean())
    event = record.fact("event.forward")
    assert (event["op"], event["phase"], event["module"]) == ("log", "loss", "")
    assert record.sites[event["site"]].name == "last"


def test_weights_that_are_not_numbers() -> None:
    model = Network(lambda x: x)
    with torch.no_grad():
        model.last.weight[1, 2] = math.nan
    event = measure(model, X).fact("event.forward")
    assert (event["op"], event["module"]) == ("linear", "last")
    assert [entry["nonfinite"] for entry in event["inputs"]] == [0, 1, 0]
    assert event["count"] == 5  # one output of five samples


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (lambda x: (x - x).sqrt(), "sqrt"),  # infinite slope at zero, times zero
        (lambda x: x.relu().sqrt(), "sqrt"),
        (lambda x: torch.where(x > 0, x.sqrt(), x), "sqrt"),  # the branch not taken
        (lambda x: (x - x).abs().pow(0.5), "pow"),
        (lambda x: x / (x - x).norm(dim=1, keepdim=True).clamp_min(1.0) + (x - x).pow(0.3), "pow"),
    ],
)
def test_backward(function: Callable[[Tensor], Tensor], op: str) -> None:
    record = looked(function)
    event = record.fact("event.backward")
    assert event["op"] == op
    assert event["module"] == "block"
    assert event["step"] == 17
    assert event["inputs"][0]["nonfinite"] == 0
    assert event["count"] >= 1


def test_of_several_readers_the_one_with_the_slope_is_named() -> None:
    """The gradient of relu's output is infinite; only one of its three readers made it so."""
    record = looked(lambda x: (lambda r: 2 * r + r.sqrt() + r.sin())(x.relu()))
    assert record.fact("event.backward")["op"] == "sqrt"


def test_an_operation_of_several_parts() -> None:
    """Autograd takes a number over a tensor as a reciprocal, whose slope overflows, and a product.

    The difference reads the same tensor later and is innocent.
    """
    record = looked(lambda x: (lambda y: 1.0 / y - y)(0 * x + 1e-30))
    assert record.fact("event.forward") is None
    event = record.fact("event.backward")
    assert (event["op"], event["module"]) == ("rdiv", "block")


def test_no_hook_is_left_on_what_somebody_keeps() -> None:
    kept: list[Tensor] = []

    def function(x: Tensor) -> Tensor:
        kept.append(x.relu())
        kept.append(kept[-1].log())
        return kept[-1]

    looked(function)
    assert len(kept) == 4  # two passes
    assert not any(out._backward_hooks for out in kept)


def test_backward_of_the_loss() -> None:
    record = looked(lambda x: x, lambda o, t: ((o - o) ** 2).sum().sqrt() + 0 * t.sum())
    event = record.fact("event.backward")
    assert (event["op"], event["phase"], event["module"]) == ("sqrt", "loss", "")


def test_a_gradient_that_overflows() -> None:
    """The forward is finite; 1e30 times 1e30 on the way back is not."""
    record = looked(lambda x: (x * 1e-30) * 1e30, lambda o, t: 1e30 * o.mean())
    assert record.fact("event.forward") is None
    event = record.fact("event.backward")
    assert (event["op"], event["module"]) == ("mul", "block")
    assert event["inputs"][0]["max"] < 1e-29  # the second product, not the first
    assert record.sites[event["site"]].name == "block"


def test_a_gradient_that_is_wrong_at_a_parameter_only() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(7, 11)
            self.power = nn.Parameter(torch.tensor(0.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * (self.power**0.5 + 1)

    record = measure(Scaled(), X)
    assert record.fact("event.forward") is None
    event = record.fact("event.backward")
    assert event["op"] == "pow"
    assert record.value("weight.grad_nonfinite", 0) == 1


def test_an_operation_of_several_parts_on_a_parameter() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(7, 11)
            self.scale = nn.Parameter(torch.tensor(1e-30))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + self.scale + 1.0 / self.scale

    record = measure(Scaled(), X)
    event = record.fact("event.backward")
    assert (event["op"], event["count"]) == ("rdiv", 1)


def test_of_two_culprits_the_first_on_the_way_back_is_named() -> None:
    record = looked(lambda x: (x - x).sqrt() + (x - x).pow(0.3))
    assert record.fact("event.backward")["op"] == "pow"


def test_what_is_finite_has_no_event() -> None:
    record = looked(torch.tanh, lambda o, t: F.mse_loss(o, t))
    assert record.fact("event.forward") is None
    assert record.fact("event.backward") is None


def test_infinite_on_purpose_is_no_event() -> None:
    """Masked attention: -inf before a softmax."""

    def masked(x: Tensor) -> Tensor:
        mask = torch.zeros(11)
        mask[4:] = -math.inf
        return (x + mask).softmax(1)

    record = looked(masked)
    assert record.fact("event.forward") is None
    assert record.fact("event.backward") is None


def test_a_pass_that_cannot_be_repeated_gives_a_note() -> None:
    class Once(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            if type(self).calls > 1:
                raise RuntimeError("only once")
            return super().forward(x).log()

    record = measure(Once(7, 5), X)
    assert record.fact("event.forward") is None
    assert any("not located" in note and "only once" in note for note in record.notes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(
    "values",
    [
        (-3.0, 0.0, 0.25, 2.0),
        (0.0, math.nan, -0.5, math.inf, 4.0),
        (6e4, 6e4),
        (0.0,),
        (),
        (math.nan,),
    ],
)
def test_the_extremes_are_those_of_the_finite_entries(
    values: tuple[float, ...], dtype: torch.dtype
) -> None:
    found = value_range(torch.tensor(values, dtype=dtype))
    finite = [v for v in values if math.isfinite(v)]
    assert found["min"] == min(finite, default=None)
    assert found["max"] == max(finite, default=None)
    assert found["nonfinite"] == len(values) - len(finite)
    assert found["zeros"] == finite.count(0)
    assert found["abs_min"] == min((abs(v) for v in finite if v), default=None)
