"""Numbers about parameters against torch.nn.init, closed forms and plain arithmetic."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from isograd.probe.measuring import measure
from isograd.records import Record

GENERATOR = torch.Generator().manual_seed(5)
torch.manual_seed(0)  # the parameters of the networks below


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def column(record: Record, key: str) -> dict[str, float | None]:
    """One column by the parameters' names."""
    values = record.series[f"weight.{key}"]
    return {p.name: value for p, value in zip(record.parameters, values, strict=True)}


class Functional(nn.Module):
    """One weight and what is done with it."""

    def __init__(self, shape: tuple[int, ...], use: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape, generator=GENERATOR))
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(x, self.weight)


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Linear(7, 11), (5, 7), (7, 11)),
        (nn.Conv1d(3, 5, 4), (2, 3, 19), (12, 20)),
        (nn.Conv2d(3, 5, (2, 7)), (2, 3, 11, 13), (42, 70)),
        (nn.Conv3d(3, 5, 2), (2, 3, 4, 5, 6), (24, 40)),
        (nn.Conv2d(6, 10, 3, groups=2), (2, 6, 11, 13), (27, 45)),
        (nn.Conv2d(6, 12, 3, groups=6), (2, 6, 11, 13), (9, 18)),
        (nn.Conv2d(6, 10, 3, groups=2, padding=1, padding_mode="circular"), (2, 6, 8, 9), (27, 45)),
        (nn.ConvTranspose1d(3, 5, 4), (2, 3, 19), (12, 20)),
        (nn.ConvTranspose2d(3, 5, (2, 7)), (2, 3, 11, 13), (42, 70)),
        (nn.ConvTranspose2d(6, 10, 3, groups=2), (2, 6, 11, 13), (27, 45)),
        (Conv1D(11, 7), (5, 7), (7, 11)),
        (Functional((7, 11), lambda x, w: x @ w), (5, 7), (7, 11)),
        (Functional((11, 7), lambda x, w: x @ w.T), (5, 7), (7, 11)),
        (Functional((11, 7), lambda x, w: torch.mm(x, w.t())), (5, 7), (7, 11)),
        (Functional((11, 7), F.linear), (5, 7), (7, 11)),
        (Functional((7, 11), lambda x, w: F.linear(x, w.mT)), (5, 7), (7, 11)),
        (Functional((10, 3, 3, 2), lambda x, w: F.conv2d(x, w, groups=2)), (2, 6, 8, 9), (18, 30)),
        (
            Functional((6, 5, 3, 2), lambda x, w: F.conv_transpose2d(x, w, groups=2)),
            (2, 6, 8, 9),
            (18, 30),
        ),
    ],
    ids=lambda value: repr(value).replace("\n", " ")[:60],
)
def test_fans(module: nn.Module, shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Counted: a unit's inputs with their taps, and the outputs that one input reaches."""
    record = measure(module, normal(*shape))
    index = next(i for i, p in enumerate(record.parameters) if len(p.shape) > 1)
    assert record.parameters[index].is_weight
    fan_in, fan_out = record.value("weight.fan_in", index), record.value("weight.fan_out", index)
    assert (fan_in, fan_out) == expected


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(6, 10, (3, 2), groups=2, bias=False),
        nn.ConvTranspose2d(6, 10, (3, 2), groups=2, bias=False),
        nn.Conv1d(4, 12, 5, groups=4, bias=False),
        nn.ConvTranspose1d(4, 12, 5, groups=4, bias=False),
    ],
    ids=repr,
)
def test_fans_are_the_non_zeros_of_the_jacobian(module: nn.Module) -> None:
    taps = len(module.kernel_size)
    x = normal(1, module.in_channels, *[12] * taps)
    jacobian = torch.autograd.functional.jacobian(module, x)
    outputs = math.prod(module(x).shape)
    table = jacobian.reshape(outputs, -1) != 0
    record = measure(module, x)
    assert record.value("weight.fan_in", 0) == table.sum(1).max()
    assert record.value("weight.fan_out", 0) == table.sum(0).max()


def test_kinds() -> None:
    class Everything(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(17, 6)
            self.norm = nn.LayerNorm(6)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.rnn = nn.GRU(6, 5, batch_first=True)
            self.conv = nn.Conv1d(5, 4, 2)
            self.batch = nn.BatchNorm1d(4)
            self.slope = nn.PReLU(4)
            self.scale = nn.Parameter(torch.ones(4, 1))
            self.fc = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))

        def forward(self, ids: Tensor) -> Tensor:
            x = self.norm(self.table(ids))
            x, _ = self.attention(x, x, x)
            x, _ = self.rnn(x)
            x = self.slope(self.batch(self.conv(x.transpose(1, 2)))) * self.scale
            return self.fc(x.mean(2))

    record = measure(Everything(), torch.arange(14).reshape(2, 7))
    assert {p.name: p.kind for p in record.parameters} == {
        "scale": "other",
        "table.weight": "embedding",
        "norm.weight": "norm",
        "norm.bias": "norm",
        "attention.in_proj_weight": "linear",
        "attention.in_proj_bias": "bias",
        "attention.out_proj.weight": "linear",
        "attention.out_proj.bias": "bias",
        "rnn.weight_ih_l0": "linear",
        "rnn.weight_hh_l0": "recurrent",
        "rnn.bias_ih_l0": "bias",
        "rnn.bias_hh_l0": "bias",
        "conv.weight": "conv",
        "conv.bias": "bias",
        "batch.weight": "norm",
        "batch.bias": "norm",
        "slope.weight": "other",
        "fc.bias": "bias",
        "fc.parametrizations.weight.original0": "other",
        "fc.parametrizations.weight.original1": "other",
    }
    gains = column(record, "gain")
    assert {name for name, gain in gains.items() if gain is not None} == {
        p.name for p in record.parameters if p.is_weight
    }
    assert column(record, "fan_in")["table.weight"] is None
    assert column(record, "fan_in")["rnn.weight_hh_l0"] == 5
    assert column(record, "fan_out")["rnn.weight_hh_l0"] == 15  # three gates
    assert column(record, "fan_in")["attention.in_proj_weight"] == 6


def test_a_shared_parameter_stands_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(17, 6), nn.Linear(6, 17, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.table(ids))

    record = measure(Tied(), torch.arange(6).reshape(2, 3))
    assert [(p.name, p.kind) for p in record.parameters] == [("table.weight", "embedding")]


@pytest.mark.parametrize(
    ("draw", "gain"),
    [
        (lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"), math.sqrt(2)),
        (lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)), math.sqrt(1 / 3)),
        (lambda w: nn.init.kaiming_normal_(w, nonlinearity="tanh"), 5 / 3),
        (lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"), 1.0),
        (nn.init.xavier_normal_, math.sqrt(2 * 640 / (640 + 480))),
        (lambda w: nn.init.xavier_uniform_(w, gain=4.0), 4 * math.sqrt(2 * 640 / (640 + 480))),
        (lambda w: nn.init.normal_(w, std=0.02), 0.02 * math.sqrt(640)),
        (lambda w: nn.init.constant_(w, -0.01), 0.01 * math.sqrt(640)),
    ],
)
def test_the_gain_of_an_initializer(draw: Any, gain: float) -> None:
    """640 x 480 weights: the rms of a Gaussian is known to 1 / sqrt(2 n), 0.13 percent."""
    layer = nn.Linear(640, 480)
    torch.manual_seed(0)
    draw(layer.weight)
    record = measure(layer, normal(3, 640))
    assert record.value("weight.gain", 0) == pytest.approx(gain, rel=5 / math.sqrt(2 * 640 * 480))
    assert record.value("weight.gain", 1) is None  # the bias


@pytest.mark.parametrize(
    ("layers", "fit", "slope"),
    [
        ([nn.ReLU()], math.sqrt(2), math.sqrt(2)),
        ([nn.Identity()], 1.0, 1.0),
        ([nn.LeakyReLU()], math.sqrt(2 / (1 + 1e-4)), math.sqrt(2 / (1 + 1e-4))),
        # E tanh^2 = 0.394294, E (1 - tanh^2)^2 = 0.464403, by quadrature elsewhere.
        ([nn.Tanh()], 1 / math.sqrt(0.394294), 1 / math.sqrt(0.464403)),
        ([nn.BatchNorm1d(11), nn.ReLU()], math.sqrt(2), math.sqrt(2)),
        ([nn.LayerNorm(11), nn.Dropout(0.1), nn.ReLU()], math.sqrt(2), math.sqrt(2)),
        ([nn.Linear(11, 11), nn.ReLU()], 1.0, 1.0),
    ],
)
def test_the_gain_that_fits(layers: list[nn.Module], fit: float, slope: float) -> None:
    record = measure(nn.Sequential(nn.Linear(7, 11), *layers), normal(5, 7))
    assert record.value("weight.gain_fit", 0) == pytest.approx(fit, rel=1e-5)
    assert record.value("weight.gain_slope", 0) == pytest.approx(slope, rel=1e-5)
    assert record.value("weight.gain_fit", 1) is None


def test_sizes() -> None:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 2.0], [0.0, 4.0, -5.0]]))
        layer.bias.zero_()
    record = measure(layer, normal(5, 3))
    assert column(record, "mean") == {"weight": 0.0, "bias": 0.0}
    assert column(record, "rms")["weight"] == pytest.approx(math.sqrt(50 / 6))
    assert column(record, "max") == {"weight": 5.0, "bias": 0.0}
    assert column(record, "gain")["weight"] == pytest.approx(5.0)
    assert column(record, "fan_in") == {"weight": 3.0, "bias": None}


def spread(table: Tensor) -> float:
    """Rms distance of the rows from their mean, over the rms of all."""
    table = table.detach().double()
    return float((table - table.mean(0)).square().mean().sqrt() / table.square().mean().sqrt())


@pytest.mark.parametrize(
    ("module", "shape", "units"),
    [
        (nn.Linear(7, 11), (5, 7), lambda w: w),
        (nn.Conv2d(3, 5, 2), (2, 3, 8, 9), lambda w: w.flatten(1)),
        (nn.ConvTranspose2d(3, 5, 2), (2, 3, 8, 9), lambda w: w.transpose(0, 1).flatten(1)),
        (Conv1D(11, 7), (5, 7), lambda w: w.T),
        (Functional((7, 11), lambda x, w: x @ w), (5, 7), lambda w: w.T),
        (Functional((11, 7), lambda x, w: x @ w.T), (5, 7), lambda w: w),
    ],
)
def test_symmetry_is_between_units(module: Any, shape: tuple[int, ...], units: Any) -> None:
    """Units far apart, inputs alike: the two ways to read the matrix differ."""
    weight = module.weight
    with torch.no_grad():
        table = units(weight)
        level = torch.arange(1.0, len(table) + 1).reshape(-1, 1)
        drawn = level + 0.3 * normal(*table.shape)
        parts = drawn.reshape(len(table), -1)
        turned = isinstance(module, nn.ConvTranspose2d)
        for place, value in enumerate(parts):
            unit = weight[:, place] if turned else units(weight)[place]
            unit.copy_(value.reshape(unit.shape))
    record = measure(module, normal(*shape))
    index = next(i for i, p in enumerate(record.parameters) if p.name.endswith("weight"))
    expected = spread(units(weight))
    assert abs(expected - spread(units(weight).T)) > 0.01
    assert record.value("weight.row_spread", index) == pytest.approx(expected, rel=1e-4)


def test_equal_units_have_no_spread() -> None:
    layer = nn.Linear(7, 11)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[0].clone().expand(11, 7))
    assert measure(layer, normal(5, 7)).value("weight.row_spread", 0) == 0
    nn.init.zeros_(layer.weight)
    assert measure(layer, normal(5, 7)).value("weight.row_spread", 0) == 0


def test_units_that_read_one_direction() -> None:
    """Of rank one, the squared cosine is 1; of independent draws, one over the fan-in."""
    layer = nn.Linear(97, 89)
    assert measure(layer, normal(5, 97)).value("weight.row_cosine", 0) == pytest.approx(
        1 / 97, rel=0.2
    )
    with torch.no_grad():
        layer.weight.copy_(torch.outer(normal(89), normal(97)))
    assert measure(layer, normal(5, 97)).value("weight.row_cosine", 0) == pytest.approx(1.0)
    nn.init.zeros_(layer.weight)
    assert measure(layer, normal(5, 97)).value("weight.row_cosine", 0) is None


def agreement(gradient: Tensor) -> float:
    return float(gradient.sign().sum(1).abs().mean() / gradient.shape[1])


@pytest.mark.parametrize("turned", [False, True])
def test_gradients_and_their_signs(turned: bool) -> None:
    model: Any = Conv1D(11, 7) if turned else nn.Linear(7, 11)
    x, y = normal(5, 7).abs() + 0.3 * normal(5, 7), normal(5, 11)
    record = measure(model, (x, y), F.mse_loss)
    F.mse_loss(model(x), y).backward()
    index = [p.name for p in record.parameters].index("weight")
    gradient = model.weight.grad.T if turned else model.weight.grad
    assert agreement(gradient) != pytest.approx(agreement(gradient.T), abs=1e-3)
    assert record.value("weight.grad_sign", index) == pytest.approx(agreement(gradient))
    assert record.value("weight.grad_sign", 1 - index) is None
    for place, parameter in enumerate(model.parameters()):
        rms = float(parameter.grad.double().square().mean().sqrt())
        assert record.value("weight.grad_rms", place) == pytest.approx(rms, rel=1e-5)
        assert record.value("weight.grad_nonfinite", place) == 0


def test_a_sparse_gradient_is_read() -> None:
    table = nn.Embedding(17, 6, sparse=True)
    ids, y = torch.tensor([3, 3, 5]), normal(3, 6)
    record = measure(table, (ids, y), F.mse_loss)
    F.mse_loss(table(ids), y).backward()
    gradient = table.weight.grad.to_dense().double()
    assert record.value("weight.grad_rms", 0) == pytest.approx(
        float(gradient.square().mean().sqrt())
    )


def test_without_a_gradient_there_are_no_numbers_of_one() -> None:
    model = nn.Sequential(nn.Linear(7, 11), nn.Linear(11, 5))
    model[0].requires_grad_(False)
    record = measure(model, normal(3, 7))
    assert column(record, "grad_rms")["0.weight"] is None
    assert column(record, "grad_sign")["0.weight"] is None
    assert column(record, "grad_rms")["1.weight"] is not None
    assert [p.trainable for p in record.parameters] == [False, False, True, True]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex64])
def test_other_types(dtype: torch.dtype) -> None:
    layer = nn.Linear(7, 11, dtype=dtype)
    record = measure(layer, normal(5, 7).to(dtype))
    rms = float(layer.weight.detach().to(torch.complex128).abs().square().mean().sqrt())
    expected = None if dtype.is_complex else rms
    found = record.value("weight.rms", 0)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-5))
