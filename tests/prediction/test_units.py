"""Rectifiers that are off, and recurrent layers over time: predicted beside measured."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.prediction.moments.fields import Field
from isograd.prediction.times import time_numbers
from isograd.records import Record
from isograd.rules.dead_units import chance_dead

IN, WIDTH, SAMPLES = 97, 1999, 13


def both(model: nn.Module, x: Tensor) -> tuple[Record, Record]:
    return isograd.predict(model, x), isograd.measure(model, x)


def layer(bias: float, gain: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Linear(IN, WIDTH)
    nn.init.normal_(made.weight, std=gain / math.sqrt(IN))
    nn.init.constant_(made.bias, bias)
    return nn.Sequential(made, nn.ReLU())


@pytest.mark.parametrize("bias", [0.0, -1.0, -2.0, -9.0, 3.0])
@pytest.mark.parametrize("common", [0.0, 1.0, 3.0])
def test_units_that_are_off_for_every_sample(bias: float, common: float) -> None:
    """Samples that have much in common switch the same units off."""
    torch.manual_seed(1)
    x = torch.randn(SAMPLES, IN) + common * torch.randn(IN)
    predicted, measured = both(layer(bias), x)
    for key in ("forward.dead", "forward.zero", "forward.units"):
        assert predicted.value(key, 1) == pytest.approx(measured.value(key, 1), abs=0.04)


def test_without_a_bias_chance_alone_switches_units_off() -> None:
    """The closed form that the rule on dead units has, which shares no code with it."""
    x = torch.empty(SAMPLES, IN, device="meta")
    for between in (0.0, 0.4, 0.9, 0.99):
        record = isograd.predict(layer(0.0), x, input_stats={"correlation": between})
        assert record.value("forward.dead", 1) == pytest.approx(
            chance_dead(between, SAMPLES), rel=0.02, abs=1e-4
        )


def test_a_unit_of_a_map_is_a_channel() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 301, 3, bias=False), nn.ReLU())
    predicted, measured = both(model, x)
    assert predicted.value("forward.units", 1) == measured.value("forward.units", 1) == 301
    assert measured.value("forward.dead", 1) == 0
    assert predicted.value("forward.dead", 1) == pytest.approx(0, abs=1e-12)


def test_units_behind_a_layer_of_unlike_biases() -> None:
    """Half of the units are off for good; the mean of all would say none."""
    x = torch.randn(SAMPLES, IN)
    halves = nn.Sequential(Joined(layer(-30.0), layer(30.0)))
    predicted, measured = both(halves, x)
    shares = [predicted.value("forward.dead", i) for i in (1, 3)]
    assert shares == [measured.value("forward.dead", i) for i in (1, 3)] == [1.0, 0.0]


class Joined(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], dim=1)


def test_other_activations_and_one_sample_are_not_told() -> None:
    x = torch.randn(SAMPLES, IN)
    smooth = nn.Sequential(nn.Linear(IN, WIDTH), nn.Tanh())
    assert isograd.predict(smooth, x).value("forward.dead", 1) is None
    assert isograd.predict(layer(0.0), x[:1]).value("forward.dead", 1) is None


LAYERS: dict[str, Any] = {
    "tanh": lambda: nn.RNN(23, 211, batch_first=True),
    "gru": lambda: nn.GRU(23, 211),
    "lstm of two layers": lambda: nn.LSTM(23, 211, 2, batch_first=True),
}


class Last(nn.Module):
    """The last step of a recurrent layer."""

    def __init__(self, inner: nn.RNNBase) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)[0]
        return out[:, -1] if self.inner.batch_first else out[-1]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("steps", [19, 60])
def test_state_and_gradient_over_time(name: str, steps: int) -> None:
    torch.manual_seed(0)
    model = Last(LAYERS[name]())
    x = torch.randn(7, steps, 23)
    x = x if model.inner.batch_first else x.transpose(0, 1).contiguous()
    predicted, measured = both(model, x)
    assert predicted.value("forward.time_steps", 0) == steps
    growth, decay = (
        (record.value("forward.time_growth", 0), record.value("backward.time_decay", 0))
        for record in (predicted, measured)
    )
    assert growth == pytest.approx(decay, rel=0.1, abs=0.01)


def test_steps_count_for_as_many_as_they_stand_for() -> None:
    """A course with a gap in it has the slope of the whole."""
    energies = np.exp(2 * 0.05 * np.arange(200))
    at, weights = np.array([*range(60), 60, *range(140, 200)]), np.ones(121)
    weights[60] = 80
    field = Field(np.ones((2, 2, 2)), ((5,), (200,), (3,)), (1, 1, 1), np.ones((1, 1, 1)))
    middle = at + (weights - 1) / 2
    field.notes["over time"] = at, weights, np.interp(middle, np.arange(200), energies)
    found = time_numbers(field, 1, field)
    assert found["forward.time_growth"] == pytest.approx(0.05, rel=1e-3)
    assert found["backward.time_decay"] == pytest.approx(-0.05, rel=1e-3)
    assert found["forward.time_steps"] == 200
    assert set(time_numbers(field, None, field).values()) == {None}
