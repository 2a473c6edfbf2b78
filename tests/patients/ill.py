"""Ill patients: one real network per rule, each with the one fault that the rule must name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients import data
from patients.dense import mlp
from patients.hidden import HIDDEN
from patients.patient import Build, Loss, OptimizerFactory, Patient, adam, seeded, sgd


@dataclass(frozen=True)
class Ill:
    """A patient and what the diagnosis must say first."""

    build: Build
    code: str
    cause: str
    severity: str = "error"
    optimizer: OptimizerFactory | None = None
    steps: int = 0


class Then(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Skip(nn.Module):
    """x + body(x)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class LastStep(nn.Module):
    """A recurrent layer read at its last step."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


def he(model: nn.Module, gain: float = 2**0.5) -> nn.Module:
    """Gaussian weights of the given gain, zero biases."""
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(layer.weight, std=gain / layer.weight[0].numel() ** 0.5)
            nn.init.zeros_(layer.bias)
    return model


def ill(
    make: Callable[[], nn.Module], batch: Callable[[], object], loss: Loss | None = None
) -> Build:
    """A build of a model and a batch."""

    def patient() -> Patient:
        return Patient(make(), batch(), loss)

    patient.__name__ = getattr(make, "__name__", "patient")
    return seeded(patient)


def digits() -> tuple[Tensor, Tensor]:
    return data.digits(128)


def raw_digits() -> tuple[Tensor, Tensor]:
    x, y = data.digits(128)
    return (x * 40 + 128).clamp(0, 255).round(), y


def shifted_targets() -> tuple[Tensor, Tensor]:
    x, y = data.regression(128, 20)
    return x, y * 900 + 250_000


def one_way() -> nn.Module:
    """Every path of the input to the output is multiplied by almost zero, and biases stay."""
    model = he(mlp(64, 100, 90, 10))
    with torch.no_grad():
        model[2].weight.mul_(1e-8)
        model[2].bias.fill_(1.0)
    return model


def negative_biases() -> nn.Module:
    model = he(mlp(64, 100, 90, 80, 10))
    for layer in (model[2], model[4]):
        nn.init.constant_(layer.bias, -6.0)
    return model


def saturated() -> nn.Module:
    return he(mlp(64, 100, 90, 10, act=nn.Tanh), gain=12.0)


def constant_weights() -> nn.Module:
    model = mlp(64, 100, 90, 10)
    for layer in (model[0], model[2]):
        nn.init.constant_(layer.weight, 0.01)
    return model


def zeros_into_one_unit() -> nn.Module:
    model = mlp(20, 50, 1)
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def detached() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 50), nn.ReLU(), Then(lambda x: x.detach()), nn.Linear(50, 10)
    )


def square_root() -> nn.Module:
    masked = Then(lambda x: torch.where(x > 0, torch.sqrt(x), torch.zeros_like(x)))
    return nn.Sequential(nn.Linear(64, 50), masked, nn.Linear(50, 10))


def stale_statistics() -> nn.Module:
    layers: list[nn.Module] = []
    for fan_in in (64, 100):
        layers += [nn.Linear(fan_in, 100), nn.BatchNorm1d(100, momentum=0.001), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(100, 10))
    with torch.no_grad():
        model[0].weight.mul_(30)
    return model


def post_norm() -> nn.Module:
    layers = [
        nn.TransformerEncoderLayer(24, 2, 48, dropout=0.0, batch_first=True) for _ in range(24)
    ]
    return nn.Sequential(*layers, Then(lambda x: x.mean(1)), nn.Linear(24, 10))


def recurrent() -> nn.Module:
    layer = nn.RNN(4, 40, nonlinearity="relu", batch_first=True)
    nn.init.orthogonal_(layer.weight_hh_l0, 1.5)
    return nn.Sequential(LastStep(layer), nn.Linear(40, 10))


def sequences() -> tuple[Tensor, Tensor]:
    x, y = data.digits(32)
    return x.view(32, 16, 4).repeat(1, 6, 1), y


def flat_loss(out: Tensor, targets: Tensor) -> Tensor:
    return ((out - targets) ** 2).mean()


def flat_targets() -> tuple[Tensor, Tensor]:
    x, y = data.regression(128, 20)
    return x, y.squeeze(1)


def one_label() -> tuple[Tensor, Tensor]:
    x, y = data.digits(128)
    return x, torch.zeros_like(y)


def positive_features() -> tuple[Tensor, Tensor]:
    x, y = data.digits(128)
    return x + 4.0, y


def stack(depth: int, act: type[nn.Module], width: int = 64) -> nn.Module:
    return mlp(64, *[width] * depth, 10, act=act)


ILL: dict[str, Ill] = {
    "sigmoids": Ill(ill(lambda: stack(20, nn.Sigmoid), digits), "IG101", "saturating-activation"),
    "torch default, deep": Ill(ill(lambda: stack(20, nn.ReLU), digits), "IG101", "gain-mismatch"),
    "tiny weights": Ill(ill(lambda: he(stack(8, nn.ReLU), 0.1), digits), "IG101", "init-too-small"),
    "softmax between layers": Ill(
        ill(
            lambda: mlp(64, 60, 50, 40, 10, act=lambda: nn.Softmax(1)),
            digits,
        ),
        "IG101",
        "saturating-activation",
    ),
    "huge weights": Ill(
        ill(lambda: he(stack(8, nn.ReLU), 6.0), digits), "IG102", "init-too-large", "warning"
    ),
    "cut graph": Ill(ill(detached, digits), "IG103", "graph-cut"),
    "one way": Ill(ill(one_way, digits), "IG203", "init-too-small"),
    "saturated": Ill(ill(saturated, digits), "IG204", "init-too-large", "warning"),
    "dead units": Ill(ill(negative_biases, digits), "IG205", "dead-units"),
    "dead output": Ill(
        ill(
            lambda: nn.Sequential(*he(mlp(20, 50, 1)), Then(lambda x: F.relu(x - 50))),
            lambda: data.regression(128, 20),
        ),
        "IG206",
        "dead-output",
    ),
    "constant weights": Ill(ill(constant_weights, digits), "IG301", "init-constant"),
    "zeros into one unit": Ill(
        ill(zeros_into_one_unit, lambda: data.regression(128, 20)), "IG301", "init-constant"
    ),
    "residuals": Ill(
        ill(
            lambda: nn.Sequential(
                *(he(Skip(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))) for _ in range(30)),
                nn.Linear(64, 10),
            ),
            digits,
        ),
        "IG303",
        "unscaled-residual",
    ),
    "learning rate": Ill(
        ill(lambda: mlp(64, 100, 90, 10), digits),
        "IG304",
        "lr-too-high",
        "error",
        optimizer=adam(1.0),
        steps=30,
    ),
    "slow": Ill(
        ill(lambda: mlp(64, 100, 90, 10), digits),
        "IG304",
        "lr-too-low",
        "error",
        optimizer=sgd(1e-8, 0.0),
        steps=30,
    ),
    "momentum": Ill(
        ill(lambda: mlp(64, 100, 90, 10), digits),
        "IG306",
        "optimizer-hyperparameter",
        "warning",
        optimizer=sgd(1e-3, 0.9999),
    ),
    "square root": Ill(ill(square_root, digits), "IG401", "local-nan"),
    "batch of one": Ill(
        ill(
            lambda: nn.Sequential(
                nn.Linear(64, 50), nn.BatchNorm1d(50), nn.ReLU(), nn.Linear(50, 10)
            ),
            lambda: data.digits(2),
        ),
        "IG501",
        "norm-mode",
        "warning",
    ),
    "dropout": Ill(
        ill(
            lambda: nn.Sequential(
                nn.Linear(64, 50), nn.ReLU(), nn.Dropout(0.95), nn.Linear(50, 10)
            ),
            digits,
        ),
        "IG211",
        "dropout-too-high",
        "warning",
    ),
    "dropouts in a row": Ill(
        ill(
            lambda: nn.Sequential(
                *(m for n in (64, 32, 32) for m in (nn.Linear(n, 32), nn.ReLU(), nn.Dropout(0.8))),
                nn.Linear(32, 10),
            ),
            digits,
        ),
        "IG211",
        "dropout-too-high",
        "warning",
    ),
    "wrong backward": Ill(
        HIDDEN["wrong backward"].build, "IG701", "other-than-predicted", "warning"
    ),
    "stale statistics": Ill(
        ill(stale_statistics, digits),
        "IG502",
        "norm-mode",
        "warning",
        optimizer=sgd(0.05),
        steps=60,
    ),
    "post-norm": Ill(
        ill(post_norm, lambda: (torch.randn(8, 12, 24), torch.arange(8))),
        "IG503",
        "norm-placement",
        "warning",
    ),
    "recurrent": Ill(ill(recurrent, sequences), "IG504", "recurrent-jacobian"),
    "raw pixels": Ill(
        ill(lambda: he(mlp(64, 100, 90, 10)), raw_digits), "IG601", "input-not-normalized"
    ),
    "raw targets": Ill(
        ill(lambda: mlp(20, 50, 40, 1), shifted_targets, F.mse_loss),
        "IG602",
        "target-not-normalized",
    ),
    "double softmax": Ill(
        ill(lambda: nn.Sequential(*mlp(64, 100, 90, 10), nn.Softmax(1)), digits, F.cross_entropy),
        "IG605",
        "loss-mismatch",
    ),
    "softmax over one unit": Ill(
        ill(
            lambda: nn.Sequential(*mlp(20, 50, 1), nn.Softmax(1)),
            lambda: data.regression(128, 20),
            F.mse_loss,
        ),
        "IG605",
        "loss-mismatch",
    ),
    "bounded output": Ill(
        ill(
            lambda: nn.Sequential(*mlp(20, 50, 1), nn.Sigmoid()),
            lambda: data.regression(128, 20),
            F.mse_loss,
        ),
        "IG606",
        "output-activation",
    ),
    "broadcast": Ill(
        ill(lambda: mlp(20, 50, 1), flat_targets, flat_loss), "IG607", "shape-broadcast"
    ),
    "one label": Ill(ill(lambda: mlp(64, 100, 10), one_label), "IG608", "data-bug", "warning"),
}
