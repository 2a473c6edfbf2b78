"""Further ill networks of our own, unlike those of ill_networks: other data, losses and causes.

    python benchmarks/repairs.py benchmarks/more_ill_networks

Autoencoders, tokens, multi-label, contrastive and divergence losses, attention, long memories;
faults of the optimizer's settings. What they showed at first sight is in LOG.md.
"""

import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_spec = importlib.util.spec_from_file_location(
    "first_setups", Path(__file__).parents[1] / "ill_networks" / "setups.py"
)
first: Any = importlib.util.module_from_spec(_spec)  # type: ignore[arg-type]  # the file exists
sys.modules["first_setups"] = first
_spec.loader.exec_module(first)  # type: ignore[union-attr]  # a file has a loader

Config = dict[str, Any]
Setup, train, mlp, drawn, he, ended = (
    first.Setup, first.train, first.mlp, first.drawn, first.he, first.ended
)  # fmt: skip
sgd, adam, CE, MSE, BCE = first.sgd, first.adam, first.CE, first.MSE, first.BCE


@functools.cache
def data(name: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets."""
    g = torch.Generator().manual_seed(2)
    kind, _, how = name.partition("-")
    if kind == "bits":  # the digit in binary, four labels at once
        x, y = first.data("digits-raw")
        x = x / 16 if how == "unit" else x * 255 / 16
        return x, ((y[:, None] >> torch.arange(4)) & 1).float()
    if kind == "itself":
        x, _ = first.data("digits")
        return x, x
    if kind == "waves":
        x, y = first.data("waves")
        return x * (1e-4 if how == "small" else 1), y * (1e4 if how == "large" else 1)
    if kind == "tokens":  # which of two marks comes more often
        x = torch.randint(2, 60, (2000, 24), generator=g)
        y = torch.randint(2, (2000,), generator=g)
        marks = torch.rand(2000, 24, generator=g) < 0.25
        rare = torch.rand(2000, 24, generator=g) < 0.2
        return torch.where(marks, torch.where(rare, 1 - y[:, None], y[:, None]), x), y
    if kind == "pairs":  # two noisy views of one digit image
        x, y = first.data("digits")
        views = x[:, None] + 0.5 * torch.randn(len(x), 2, 64, generator=g)
        return views, y
    if kind == "shares":  # a distribution over 5 outcomes
        x = torch.randn(1500, 12, generator=g)
        hidden = torch.randn(12, 5, generator=g)
        return x, torch.softmax(x @ hidden, 1)
    if kind == "shapes":  # 3 x 12 x 12: a cross, a bar or a frame in some color, in noise
        y = torch.randint(3, (1200,), generator=g)
        x = 0.5 * torch.randn(1200, 3, 12, 12, generator=g)
        for i, label in enumerate(y.tolist()):
            r, c, color = *torch.randint(0, 7, (2,), generator=g).tolist(), i % 3
            patch = torch.zeros(5, 5)
            if label == 0:
                patch[2] = patch[:, 2] = 2
            elif label == 1:
                patch[2] = 3
            else:
                patch[0] = patch[-1] = patch[:, 0] = patch[:, -1] = 1.5
            x[i, color, r : r + 5, c : c + 5] += patch
        return x, y
    if kind == "recall":
        x = 0.3 * torch.randn(1500, 30, 6, generator=g)
        y = torch.randint(4, (1500,), generator=g)
        x[torch.arange(1500), 22, y] += 2
        return x, y
    return first.data(name)  # type: ignore[no-any-return]  # loaded by path


class Mean(nn.Module):
    """Mean over the axis of positions."""

    def forward(self, x: Tensor) -> Tensor:
        """[samples, positions, width] to [samples, width]"""
        return x.mean(1)


class Attending(nn.Module):
    """Tokens, one layer of attention without a norm, and a mean."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(60, 32)
        self.query, self.key, self.value = (nn.Linear(32, 32, bias=False) for _ in range(3))
        self.head = nn.Linear(32, 2)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=gain / math.sqrt(32))

    def forward(self, x: Tensor) -> Tensor:
        """[samples, positions] to [samples, 2]"""
        x = self.tokens(x)
        x = x + F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.head(x.mean(1))


class Gated(nn.Module):
    """An LSTM that is read at its last step."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(6, 32, batch_first=True), nn.Linear(32, 4)
        if std:
            for name, p in self.body.named_parameters():
                nn.init.normal_(p, std=std) if "weight" in name else nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, steps, 6] to [samples, 4]"""
        return self.head(self.body(x)[0][:, -1])


def bag(std: float) -> nn.Module:
    """A mean of embeddings that is classified."""
    model = nn.Sequential(nn.Embedding(60, 24), Mean(), *mlp(24, *[40] * 5, 2, act=nn.Tanh))
    nn.init.normal_(model[0].weight, std=std)  # type: ignore[arg-type]  # an embedding's
    return model


def coder(*, end: bool) -> nn.Sequential:
    """An autoencoder of 64 numbers in 24."""
    body = mlp(64, 48, 24, 48, 64)
    return ended(body, nn.Sigmoid()) if end else body  # type: ignore[no-any-return]


def pictures(fill: float | None, last: float = 0.0) -> nn.Sequential:
    """A convolutional network on 12 x 12 pictures."""
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 20, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(180, 3),
    )  # fmt: skip
    if fill is not None:
        for p in model.parameters():
            nn.init.constant_(p, fill)
    if last:
        nn.init.constant_(model[-1].bias, last)  # type: ignore[arg-type]  # a linear layer's
    return model


def normed(norm: Callable[[int], nn.Module]) -> nn.Module:
    """A classifier with a norm of our choice."""
    return nn.Sequential(
        nn.Linear(64, 48), norm(48), nn.ReLU(), nn.Linear(48, 40), norm(40), nn.ReLU(),
        nn.Linear(40, 10),
    )  # fmt: skip


def dropped(share: float) -> nn.Module:
    """A classifier with dropout after each hidden layer."""
    return nn.Sequential(
        nn.Linear(64, 80), nn.ReLU(), nn.Dropout(share), nn.Linear(80, 60), nn.ReLU(),
        nn.Dropout(share), nn.Linear(60, 10),
    )  # fmt: skip


def biased(size: float) -> nn.Module:
    """A classifier whose last bias starts far away."""
    model = mlp(64, 50, 30, 10)
    nn.init.normal_(model[-1].bias, std=size)
    return model  # type: ignore[no-any-return]


def contrast(out: Tensor, _: Tensor) -> Tensor:
    """InfoNCE of two views; [samples, 2, width]."""
    a, b = F.normalize(out, dim=2).unbind(1)
    return F.cross_entropy(a @ b.T / 0.2, torch.arange(len(a)))


def divergence(out: Tensor, y: Tensor) -> Tensor:
    """torch's KL divergence, which takes logarithms of the prediction."""
    return F.kl_div(out, y, reduction="batchmean")


def of_logits(out: Tensor, y: Tensor) -> Tensor:
    """The same of logits."""
    return divergence(out.log_softmax(1), y)


def summed(out: Tensor, y: Tensor) -> Tensor:
    """Squared errors, summed."""
    return F.mse_loss(out, y, reduction="sum")


def last_only(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    """SGD that was handed the last layer alone."""

    def make(p: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(list(p)[-2:], lr, momentum=0.9)

    return make


def decayed(lr: float, decay: float) -> Callable[[Any], torch.optim.Optimizer]:
    """SGD with weight decay."""
    return lambda p: torch.optim.SGD(p, lr, momentum=0.9, weight_decay=decay)


def plain() -> nn.Module:
    """A usual classifier of digits."""
    return he(mlp(64, 70, 50, 10))  # type: ignore[no-any-return]


VIEWS = (64, *[50] * 14, 16)

CASES: dict[str, tuple[str, Config, dict[str, Config]]] = {
    "bytes as inputs of a multi-label network": (
        "INPUT_SCALE", {"opt": sgd(0.1), "loss": BCE, "steps": 200,
                        "net": lambda: mlp(64, 60, 40, 4, act=nn.Tanh)},
        {"broken": {"data": "bits-bytes"}, "fixed": {"data": "bits-unit"}},
    ),
    "an autoencoder that ends in a sigmoid": (
        "LOSS_MISMATCH", {"data": "itself", "opt": adam(2e-3), "loss": MSE, "steps": 250},
        {"broken": {"net": lambda: coder(end=True)}, "fixed": {"net": lambda: coder(end=False)}},
    ),
    "targets in the ten thousands": (
        "TARGET_SCALE", {"opt": adam(3e-3), "loss": MSE, "steps": 300,
                         "net": lambda: mlp(3, 40, 30, 1, act=nn.GELU)},
        {"broken": {"data": "waves-large"}, "fixed": {"data": "waves"}},
    ),
    "inputs in ten thousandths": (
        "INPUT_SCALE", {"opt": sgd(0.05), "loss": MSE, "steps": 250,
                        "net": lambda: mlp(3, 45, 35, 1, act=nn.Tanh)},
        {"broken": {"data": "waves-small"}, "fixed": {"data": "waves"}},
    ),
    "embeddings of standard deviation 50": (
        "SATURATION", {"data": "tokens", "opt": sgd(0.05), "steps": 250},
        {"broken": {"net": lambda: bag(50.0)}, "fixed": {"net": lambda: bag(1.0)}},
    ),
    "attention that sees one token": (
        "SATURATION", {"data": "tokens", "opt": adam(2e-3), "steps": 200},
        {"broken": {"net": lambda: Attending(12.0)}, "fixed": {"net": lambda: Attending(0.6)}},
    ),
    "convolutions of one constant": (
        "SYMMETRY", {"data": "shapes", "opt": adam(3e-3), "steps": 150, "batch": 48},
        {"broken": {"net": lambda: pictures(0.02)}, "fixed": {"net": lambda: pictures(None)}},
    ),
    "probabilities for the negative log-likelihood": (
        "LOSS_MISMATCH", {"data": "digits", "opt": sgd(0.05), "loss": F.nll_loss, "steps": 200},
        {"broken": {"net": lambda: ended(plain(), nn.Softmax(1))},
         "fixed": {"net": plain, "loss": CE}},
    ),
    "probabilities for a divergence": (
        "LOSS_MISMATCH", {"data": "shares", "opt": adam(3e-3), "loss": divergence, "steps": 250},
        {"broken": {"net": lambda: ended(mlp(12, 40, 5), nn.Softmax(1))},
         "fixed": {"net": lambda: mlp(12, 40, 5), "loss": of_logits}},
    ),
    "a ReLU on the logits": (
        "DEAD_OUTPUT", {"data": "shapes", "opt": adam(3e-3), "steps": 150},
        {"broken": {"net": lambda: ended(pictures(None, -0.5), nn.ReLU())},
         "fixed": {"net": lambda: pictures(None, -0.5)}},
    ),
    "last biases of size 60": (
        "OFFSET", {"data": "digits", "opt": adam(2e-3), "steps": 150},
        {"broken": {"net": lambda: biased(60.0)}, "fixed": {"net": lambda: biased(0.01)}},
    ),
    "a contrastive loss on fifteen layers": (
        "GAIN_MISMATCH", {"data": "pairs", "opt": adam(1e-3), "loss": contrast, "steps": 200},
        {"broken": {"net": lambda: mlp(*VIEWS)}, "fixed": {"net": lambda: he(mlp(*VIEWS))}},
    ),
    "an LSTM of shut gates": (
        "RECURRENT_CHI", {"data": "recall", "opt": adam(5e-3), "steps": 250},
        {"broken": {"net": lambda: Gated(3.0)}, "fixed": {"net": lambda: Gated(0.0)}},
    ),
    "a sum of squares": (
        "LR_TOO_HIGH", {"data": "waves", "opt": sgd(0.02), "steps": 250,
                        "net": lambda: mlp(3, 50, 40, 1, act=nn.Tanh)},
        {"broken": {"loss": summed}, "fixed": {"loss": MSE}},
    ),
    "a momentum of 0.999": (
        "SETTINGS", {"data": "digits", "net": plain, "steps": 200},
        {"broken": {"opt": sgd(0.05, 0.999)}, "fixed": {"opt": sgd(0.05, 0.9)}},
    ),
    "a weight decay of 0.5": (
        "SETTINGS", {"data": "digits", "net": plain, "steps": 200},
        {"broken": {"opt": decayed(0.03, 0.5)}, "fixed": {"opt": decayed(0.03, 5e-4)}},
    ),
    "Adam with a thousandth of its rate": (
        "LR_TOO_LOW", {"data": "waves", "loss": MSE, "steps": 300,
                       "net": lambda: mlp(3, 60, 60, 1, act=nn.SiLU)},
        {"broken": {"opt": adam(3e-6)}, "fixed": {"opt": adam(3e-3)}},
    ),
    "dropout of 0.95": (
        "DROPOUT", {"data": "digits", "opt": sgd(0.05), "steps": 250},
        {"broken": {"net": lambda: dropped(0.95)}, "fixed": {"net": lambda: dropped(0.1)}},
    ),
    "batch norms of two samples": (
        "NORM_MODE", {"data": "digits", "opt": sgd(0.01), "steps": 300, "batch": 2},
        {"broken": {"net": lambda: normed(nn.BatchNorm1d)},
         "fixed": {"net": lambda: normed(nn.LayerNorm)}},
    ),
    "an optimizer of the last layer": (
        "COVERAGE", {"data": "shapes", "steps": 150, "net": lambda: pictures(None)},
        {"broken": {"opt": last_only(0.03)}, "fixed": {"opt": sgd(0.03)}},
    ),
}  # fmt: skip
"""Name: (diagnosis, base, variants)."""


def load() -> list[Config]:
    """All cases."""
    return [{"id": name, "diagnosis": [case[0]]} for name, case in CASES.items()]


def variants(case: Config) -> dict[str, Config]:
    """Settings of the variants of a case."""
    _, base, own = CASES[case["id"]]
    return {name: {"batch": 64, "loss": CE, **base, **its} for name, its in own.items()}


def build(config: Config, seed: int = 0) -> Any:
    """A variant, drawn from a seed."""
    torch.manual_seed(seed)
    x, y = data(config["data"])
    return Setup(config["net"](), config["loss"], config["opt"], x, y, config["batch"], seed)
