"""What rules read of a prediction, beside a measurement of a wide network."""

import math

import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.prediction.judging import row_spread
from isograd.prediction.recording import Law
from isograd.records import Parameter

IN, WIDTH, OUT, SAMPLES = 97, 1999, 7, 61


class Capped(nn.Module):
    """cap tanh(x / cap), as in attention logits that must stay small."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap, self.fc = cap, nn.Linear(IN, WIDTH)
        nn.init.normal_(self.fc.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.cap * torch.tanh(self.fc(x) / self.cap)


@pytest.mark.parametrize("cap", [1.0, 5.0, 50.0])
def test_slope_and_saturation_are_the_activations_own(cap: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(SAMPLES, IN)
    predicted, measured = isograd.predict(lambda: Capped(cap), x), isograd.measure(Capped(cap), x)
    assert predicted.sites[1].kind == "tanh"
    for key, near in (("forward.slope", 0.02), ("forward.saturated", 0.02)):
        assert predicted.value(key, 1) == pytest.approx(measured.value(key, 1), abs=near)


def test_spread_is_what_differs_between_samples() -> None:
    torch.manual_seed(0)
    x = torch.randn(SAMPLES, IN) + 2.0
    net = nn.Sequential(nn.Linear(IN, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    predicted, measured = isograd.predict(net, x), isograd.measure(net, x)
    for site in (0, 2):
        spread = measured.value("forward.spread", site)
        assert predicted.value("forward.spread", site) == pytest.approx(spread, rel=0.05)
        for key in ("forward.count", "backward.count"):
            assert predicted.value(key, site) == measured.value(key, site)
    assert predicted.value("forward.spread", 1) is measured.value("forward.spread", 1) is None


def test_units_that_are_all_alike() -> None:
    weight = Parameter("fc.weight", (WIDTH, IN), "linear")
    assert row_spread(Law(0.0, 0.3), weight) == pytest.approx(math.sqrt(1 - 1 / WIDTH))
    assert row_spread(Law(0.2, 0.0), weight) == 0
    assert row_spread(Law(0.0, 0.0), weight) == 0
    assert row_spread(Law(0.3, 0.09), weight) == pytest.approx(math.sqrt(0.5), rel=1e-3)
    assert row_spread(Law(0.0, 1.0), Parameter("fc.bias", (WIDTH,), "bias")) is None
    constant = nn.Sequential(nn.Linear(IN, WIDTH), nn.ReLU(), nn.Linear(WIDTH, OUT))
    for layer in (constant[0], constant[2]):
        nn.init.constant_(layer.weight, 0.01)
    predicted, measured = (
        look(constant, torch.randn(SAMPLES, IN)) for look in (isograd.predict, isograd.measure)
    )
    for record in (predicted, measured):
        assert record.value("weight.row_spread", 0) == 0
        verdict = next(v for v in isograd.diagnose(record).verdicts if v.code == "IG301")
        assert verdict.state == "finding"


LOSSES = {
    "cross_entropy": torch.randint(OUT, (SAMPLES,)),
    "binary_cross_entropy_with_logits": torch.randint(2, (SAMPLES, OUT)).float(),
    "mse_loss": 2 * torch.randn(SAMPLES, OUT),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_expected_loss_and_what_enters_it(name: str) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(IN, WIDTH), nn.ReLU(), nn.Linear(WIDTH, OUT))

    torch.manual_seed(0)
    batch = (torch.randn(SAMPLES, IN), LOSSES[name])
    predicted = isograd.predict(make, batch)
    measured = [isograd.measure(make(), batch) for _ in range(8)]
    for key in ("loss.name", "loss.kind", "loss.input_site", "loss.input_ops", "loss.chance"):
        assert predicted.fact(key) == measured[0].fact(key), key
    mean = sum(one.fact("loss.value") for one in measured) / len(measured)
    assert predicted.fact("loss.value") == pytest.approx(mean, rel=0.02)


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.idle = nn.Linear(IN, 23), nn.Linear(23, OUT), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x).detach())
        return out


def test_parameters_without_a_gradient() -> None:
    batch = (torch.randn(SAMPLES, IN), torch.randint(OUT, (SAMPLES,)))
    for record in (isograd.predict(Detached, batch), isograd.measure(Detached(), batch)):
        assert record.fact("model.unreached") == ["body.weight", "body.bias"]
        assert record.fact("model.unused") == ["idle.weight", "idle.bias"]
        assert [cut["op"] for cut in record.fact("graph.cuts")] == ["detach"]
        assert isograd.diagnose(record).findings[0].code == "IG103"


@pytest.mark.parametrize("training", [True, False])
def test_batch_norms(training: bool) -> None:
    def make() -> nn.Module:
        layers = (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(245, 2))
        return nn.Sequential(*layers).train(training)

    x = torch.randn(11, 3, 9, 9)
    predicted, measured = isograd.predict(make, x), isograd.measure(make(), x)
    for key in ("norm.tracked", "norm.momentum", "norm.min_values", "model.training"):
        assert predicted.fact(key) == measured.fact(key), key
    assert (predicted.fact("norm.min_values") == 11 * 49) is training
