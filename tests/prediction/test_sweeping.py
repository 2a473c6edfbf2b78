"""sweep(): each point is what predict() says of it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.errors import InputError, ModelError
from isograd.prediction.changes import Change, inits
from isograd.prediction.sweeping import sweep

IN, SAMPLES = 11, 13
TEXT = f"float32[{SAMPLES},{IN}]"


def stack(depth: int = 2, width: int = 37, act: type[nn.Module] = nn.ReLU) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(IN, width), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), act()]
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.ModuleList(nn.Linear(IN, IN) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        for fc in self.fc:
            x = x + torch.relu(fc(x))
        return x


def test_a_point_is_what_predict_says() -> None:
    found = sweep(stack, TEXT, "depth", [2, 5], records=True)
    assert found.name == "depth"
    for point in found.points:
        record = isograd.predict(lambda p=point: stack(p.value), TEXT)  # type: ignore[misc]
        assert point.record is not None
        assert point.record.series == record.series
        weights = record.weight_sites()
        first, last = weights[0], weights[-1]
        rms = [record.value("forward.rms", i) or 0.0 for i in weights]
        assert point.layers == point.value
        assert point.parameters == record.fact("model.parameters")
        assert (point.signal_first, point.signal_last) == (rms[0], rms[-1])
        assert (point.signal_least, point.signal_most) == (min(rms), max(rms))
        ends = [
            (record.value("backward.rms", i) or 0.0) * math.sqrt(math.prod(record.sites[i].shape))
            for i in (first, last)
        ]
        assert point.gradient == pytest.approx(ends[0] / ends[1])
        assert point.gradient_band == record.value("backward.band", first)
        assert point.cosine == record.value("forward.correlation", last)
        assert point.condition == record.fact("prediction.condition")


def test_what_is_no_number_can_be_swept() -> None:
    points = sweep(stack, TEXT, "act", [nn.ReLU, nn.Tanh]).points
    assert points[0].gradient != points[1].gradient
    assert all(point.record is None for point in points)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("init", ["kaiming_normal", "normal:0.02"]),
        ("activation", ["gelu", "tanh"]),
    ],
)
def test_a_change_is_swept(name: str, values: list[Any]) -> None:
    points = sweep(stack, TEXT, name, values).points
    assert [point.value for point in points] == values
    assert points[0].gradient != points[1].gradient


def test_residual_scales() -> None:
    last = [p.signal_last or 0.0 for p in sweep(Residual, TEXT, "residual_scale", [0, 1]).points]
    assert last[0] < last[1]
    with pytest.raises(InputError, match="residual_scale='x' is no number"):
        sweep(Residual, TEXT, "residual_scale", ["x"])


def test_a_change_of_all_points() -> None:
    change = Change(init=inits(["kaiming_normal"]))
    point = sweep(stack, TEXT, "depth", [7], change=change).points[0]
    assert point.signal_first == pytest.approx(math.sqrt(2 + 1 / (3 * IN)))
    with_both = sweep(stack, TEXT, "init", ["0=zeros"], change=change)
    assert with_both.points[0].signal_most == pytest.approx(
        sweep(stack, TEXT, "init", ["0=zeros"], change=change).points[0].signal_most
    )


def test_inputs_may_depend_on_the_value() -> None:
    def of_width(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, 5))

    found = sweep(of_width, lambda value: f"float32[3,{value}]", "width", [7, 19])
    assert [point.parameters for point in found.points] == [7 * 5 + 5, 19 * 5 + 5]


def test_a_value_that_cannot_be_predicted_does_not_hide_the_others() -> None:
    def even(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(IN if width % 2 == 0 else IN + 1, width))

    good, bad = sweep(even, TEXT, "width", [4, 5]).points
    assert not good.error
    assert "linear of 13×11 by 5×12 in '0' would fail" in bad.error
    assert bad.gradient is bad.layers is None
    with pytest.raises(ModelError, match="by 7×12 in '0'"):
        sweep(even, TEXT, "width", [7, 5])


def test_a_network_without_weight_layers() -> None:
    point = sweep(lambda p: nn.Dropout(p), TEXT, "p", [0.5]).points[0]
    assert point.layers == 0
    assert point.gradient is None


def test_what_cannot_be_swept() -> None:
    with pytest.raises(InputError, match="the factory takes no argument 'dpeth'"):
        sweep(stack, TEXT, "dpeth", [3])
    with pytest.raises(InputError, match="no values of depth"):
        sweep(stack, TEXT, "depth", [])
    with pytest.raises(InputError, match="takes no argument 'depth'"):
        sweep(stack(), TEXT, "depth", [3])


def test_nothing_is_allocated() -> None:
    points = sweep(stack, TEXT, "width", [10**6, 10**7]).points  # up to 400 TB
    assert points[1].parameters == 10**14 + 13 * 10**7


class Cast(nn.Module):
    """Residual layers under autocast, or not."""

    def __init__(self, depth: int, cast: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = nn.Linear(IN, 32, dtype=dtype)
        self.layers = nn.ModuleList(nn.Linear(32, 32, dtype=dtype) for _ in range(depth))
        self.norm = nn.LayerNorm(32, dtype=dtype)
        self.cast = cast

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.cast):
            x = self.first(x)
            for layer in self.layers:
                x = x + nn.functional.gelu(layer(self.norm(x)))
            return x


@pytest.mark.parametrize(
    ("cast", "dtype"), [(True, torch.float32), (False, torch.bfloat16), (False, torch.float16)]
)
def test_points_do_not_depend_on_the_number_format(cast: bool, dtype: torch.dtype) -> None:
    text = f"{str(dtype).removeprefix('torch.')}[{SAMPLES},{IN}]"
    found = sweep(lambda depth=2: Cast(depth, cast, dtype), text, "depth", [2, 6])
    known = sweep(lambda depth=2: Cast(depth, False, torch.float32), TEXT, "depth", [2, 6])
    for one, other in zip(found.points, known.points, strict=True):
        assert one.signal_last == pytest.approx(other.signal_last, rel=1e-6)
        assert one.gradient == pytest.approx(other.gradient, rel=1e-6)
