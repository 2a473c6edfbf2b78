"""Ill networks of our own and what mends them, in the form that repairs.py and cases.py read.

    python benchmarks/repairs.py benchmarks/ill_networks

Other data, sizes, losses and optimizers than the practitioners' cases have. They were unseen once,
and reasons of misses were mended since: LOG.md says which, and what is to be unseen now has to be
written anew. Variants are settings over a base; `broken` ones fail, `fixed` ones are what a
textbook does against the cause that is named.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Config = dict[str, Any]


@functools.cache
def data(name: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one of scikit-learn's own sets, or of a made one."""
    from sklearn import datasets

    if name == "memory":  # what the first row says has to be kept over 39 rows of noise
        generator = torch.Generator().manual_seed(0)
        x = 0.1 * torch.randn(1500, 40, 8, generator=generator)
        y = torch.randint(6, (1500,), generator=generator)
        x[torch.arange(1500), 0, y] += 2
        return x, y
    if name == "waves":
        x = torch.rand(1200, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
        return x, (torch.sin(3 * x[:, :1]) + x[:, 1:2] * x[:, 2:])
    kind = name.split("-")[0]
    found = getattr(datasets, f"load_{kind}")()
    x = torch.tensor(found.data, dtype=torch.float32)
    y = torch.tensor(found.target)
    if kind == "diabetes":
        x, y = 21 * x, y.float()[:, None]
        y = (y - y.mean()) / y.std() if "unit" in name else y
        return x, y.flatten() if name.endswith("flat") else y
    if not name.endswith("raw"):
        x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    if name == "digits-image":
        return x.view(-1, 1, 8, 8), y
    if name == "digits-rows":
        return x.view(-1, 8, 8), y
    return x, y.float()[:, None] if kind == "breast_cancer" else y


class Block(nn.Module):
    """x + f(x), with no norm."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        for layer in (self.inner, self.outer):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / width))
        nn.init.normal_(self.outer.weight, std=scale * math.sqrt(2 / width))

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        return x + self.outer(F.relu(self.inner(F.relu(x))))


class Last(nn.Module):
    """A recurrent network's last state."""

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        self.body = nn.RNN(8, width, batch_first=True)
        nn.init.orthogonal_(self.body.weight_hh_l0, gain)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, steps, 8] to [samples, width]"""
        return self.body(x)[0][:, -1]


class Encoder(nn.Module):
    """A stack of transformer layers over the rows of an image."""

    def __init__(
        self,
        depth: int,
        *,
        norm_first: bool = False,
        rows: int = 8,
        width: int = 24,
        heads: int = 3,
    ) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(rows, width), nn.Linear(width, 10)
        self.place = nn.Parameter(0.02 * torch.randn(rows, width))
        layer = functools.partial(
            nn.TransformerEncoderLayer, width, heads, 2 * width, 0.0, batch_first=True
        )
        self.layers = nn.ModuleList(layer(norm_first=norm_first) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """[samples, rows, rows] to [samples, 10]"""
        x = self.embed(x) + self.place
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


def mlp(*widths: int, act: type[nn.Module] = nn.ReLU, norm: float = 0.0) -> nn.Sequential:
    """Linear layers with an activation, and a batch norm of that momentum, between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b, momentum=norm)] if norm else []), act()]
    return nn.Sequential(*layers[: -2 if norm else -1])


def conv(depth: int) -> nn.Sequential:
    """Convolutions of 3 x 3 on 8 x 8 images."""
    layers: list[nn.Module] = []
    for place in range(depth):
        layers += [nn.Conv2d(16 if place else 1, 16, 3, padding=1), nn.ReLU()]
    head = nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16 * 16, 10)
    return nn.Sequential(*layers, *head)


def ended(model: nn.Sequential, end: nn.Module) -> nn.Sequential:
    """A model with one more module."""
    return nn.Sequential(*model, end)


def blocks(scale: float) -> nn.Sequential:
    """Twenty-four residual blocks."""
    return nn.Sequential(
        nn.Linear(64, 40), *(Block(40, scale) for _ in range(24)), nn.Linear(40, 10)
    )


def recurrent(gain: float) -> nn.Sequential:
    """A recurrent network with a head."""
    return nn.Sequential(Last(48, gain), nn.Linear(48, 6))


def drawn(model: nn.Module, std: Callable[[int], float], bias: float = 0.0) -> nn.Module:
    """A model with normal weights of a standard deviation that depends on fan_in."""
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            nn.init.normal_(m.weight, std=std(m.weight[0].numel()))
            nn.init.zeros_(m.bias)
    hidden = [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]
    for m in hidden:
        nn.init.constant_(m.bias, bias)
    return model


def he(model: nn.Module) -> nn.Module:
    """He's initialization."""
    return drawn(model, lambda n: math.sqrt(2 / n))


def lecun(model: nn.Module) -> nn.Module:
    """LeCun's initialization."""
    return drawn(model, lambda n: n**-0.5)


def sgd(lr: float, momentum: float = 0.9) -> Callable[[Any], torch.optim.Optimizer]:
    """Stochastic gradient descent."""
    return lambda p: torch.optim.SGD(p, lr, momentum=momentum)


def adam(lr: float) -> Callable[[Any], torch.optim.Optimizer]:
    """Adam."""
    return lambda p: torch.optim.Adam(p, lr)


CE, MSE, BCE = F.cross_entropy, F.mse_loss, F.binary_cross_entropy_with_logits
TANH20 = (64, *[48] * 20, 10)
GELU24 = (64, *[56] * 24, 10)
WIDE = (64, 200, 160, 120, 10)

CASES: dict[str, tuple[str, Config, dict[str, Config]]] = {
    "convolutions at torch's default": (
        "GAIN_MISMATCH", {"data": "digits-image", "opt": sgd(0.02), "steps": 200},
        {"broken": {"net": lambda: conv(14)}, "fixed": {"net": lambda: he(conv(14))}},
    ),
    "tiny weights in a deep tanh network": (
        "FWD_COLLAPSE", {"data": "digits", "opt": sgd(0.05), "steps": 250},
        {"broken": {"net": lambda: drawn(mlp(*TANH20, act=nn.Tanh), lambda _: 0.02)},
         "fixed": {"net": lambda: lecun(mlp(*TANH20, act=nn.Tanh))}},
    ),
    "GELU at torch's default": (
        "GAIN_MISMATCH", {"data": "digits", "opt": sgd(0.01), "steps": 250},
        {"broken": {"net": lambda: mlp(*GELU24, act=nn.GELU)},
         "fixed": {"net": lambda: drawn(mlp(*GELU24, act=nn.GELU), lambda n: 1.5 * n**-0.5)}},
    ),
    "weights twice as large as He's": (
        "EXPLODE_DEPTH", {"data": "digits", "opt": sgd(0.01), "steps": 200},
        {"broken": {"net": lambda: drawn(mlp(64, *[50] * 12, 10), lambda n: math.sqrt(8 / n))},
         "fixed": {"net": lambda: he(mlp(64, *[50] * 12, 10))}},
    ),
    "saturated tanh": (
        "SATURATION", {"data": "digits", "opt": sgd(0.02), "steps": 200},
        {"broken": {"net": lambda: drawn(mlp(*WIDE, act=nn.Tanh), lambda _: 1.0)},
         "fixed": {"net": lambda: lecun(mlp(*WIDE, act=nn.Tanh))}},
    ),
    "five sigmoid layers": (
        "VANISH_DEPTH", {"data": "digits", "opt": sgd(0.05), "steps": 300},
        {"broken": {"net": lambda: lecun(mlp(64, *[80] * 5, 10, act=nn.Sigmoid))},
         "fixed": {"net": lambda: he(mlp(64, *[80] * 5, 10))}},
    ),
    "biases of -4": (
        "DEAD_UNITS", {"data": "digits", "opt": sgd(0.02), "steps": 200},
        {"broken": {"net": lambda: drawn(mlp(*WIDE), lambda n: math.sqrt(2 / n), -4.0)},
         "fixed": {"net": lambda: he(mlp(*WIDE))}},
    ),
    "zero weights": (
        "SYMMETRY", {"data": "wine", "opt": adam(3e-3), "steps": 150, "batch": 32},
        {"broken": {"net": lambda: drawn(mlp(13, 30, 20, 3), lambda _: 0.0)},
         "fixed": {"net": lambda: mlp(13, 30, 20, 3)}},
    ),
    "raw features": (
        "INPUT_SCALE", {"opt": sgd(0.02), "steps": 200, "batch": 32, "net": lambda: mlp(13, 40, 3)},
        {"broken": {"data": "wine-raw"}, "fixed": {"data": "wine"}},
    ),
    "raw targets": (
        "TARGET_SCALE", {"opt": sgd(0.02), "steps": 200, "loss": MSE, "batch": 48},
        {"broken": {"data": "diabetes", "net": lambda: mlp(10, 60, 40, 1, act=nn.Tanh)},
         "fixed": {"data": "diabetes-unit", "net": lambda: mlp(10, 60, 40, 1, act=nn.Tanh)}},
    ),
    "a sigmoid before the logits' loss": (
        "LOSS_MISMATCH", {"data": "breast_cancer", "opt": sgd(0.05), "loss": BCE, "steps": 150},
        {"broken": {"net": lambda: ended(mlp(30, 24, 1), nn.Sigmoid())},
         "fixed": {"net": lambda: mlp(30, 24, 1)}},
    ),
    "a softmax before cross entropy": (
        "LOSS_MISMATCH", {"data": "digits", "opt": sgd(0.05), "steps": 200},
        {"broken": {"net": lambda: ended(mlp(64, 90, 10), nn.Softmax(1))},
         "fixed": {"net": lambda: mlp(64, 90, 10)}},
    ),
    "a ReLU at the end": (
        "DEAD_OUTPUT", {"data": "waves", "opt": adam(3e-3), "loss": MSE, "steps": 300},
        {"broken": {"net": lambda: ended(mlp(3, 50, 50, 1), nn.ReLU())},
         "fixed": {"net": lambda: mlp(3, 50, 50, 1)}},
    ),
    "targets of another shape": (
        "SHAPE_BROADCAST", {"opt": adam(3e-3), "loss": MSE, "steps": 200, "batch": 48,
                            "net": lambda: mlp(10, 32, 1)},
        {"broken": {"data": "diabetes-unit-flat"}, "fixed": {"data": "diabetes-unit"}},
    ),
    "a learning rate of 0.3 for Adam": (
        "LR_TOO_HIGH", {"data": "digits", "net": lambda: mlp(64, 100, 80, 10), "steps": 200},
        {"broken": {"opt": adam(0.3)}, "fixed": {"opt": adam(3e-3)}},
    ),
    "a learning rate of 0.5 for SGD": (
        "LR_TOO_HIGH", {"data": "digits-image", "net": lambda: he(conv(3)), "steps": 150},
        {"broken": {"opt": sgd(0.5)}, "fixed": {"opt": sgd(0.02)}},
    ),
    "a learning rate of 1e-6": (
        "LR_TOO_LOW", {"data": "digits", "net": lambda: he(mlp(64, 70, 70, 10)), "steps": 200},
        {"broken": {"opt": sgd(1e-6)}, "fixed": {"opt": sgd(0.02)}},
    ),
    "residual branches as large as the stream": (
        "RES_VARIANCE", {"data": "digits", "opt": sgd(0.01), "steps": 200},
        {"broken": {"net": lambda: blocks(1.0)}, "fixed": {"net": lambda: blocks(0.0)}},
    ),
    "post-norm of twelve layers": (
        "NORM_PLACEMENT", {"data": "digits-rows", "opt": adam(3e-3), "steps": 120, "batch": 32},
        {"broken": {"net": lambda: Encoder(12, norm_first=False)},
         "fixed": {"net": lambda: Encoder(12, norm_first=True)}},
    ),
    "a state that fades": (
        "RECURRENT_CHI", {"data": "memory", "opt": adam(2e-3), "steps": 300},
        {"broken": {"net": lambda: recurrent(0.3)}, "fixed": {"net": lambda: recurrent(1.0)}},
    ),
    "running statistics that stand still": (
        "NORM_MODE", {"data": "digits", "opt": sgd(0.05), "steps": 120},
        {"broken": {"net": lambda: mlp(64, 70, 60, 10, norm=0.002)},
         "fixed": {"net": lambda: mlp(64, 70, 60, 10, norm=0.1)}},
    ),
}  # fmt: skip
"""Name: (diagnosis, base, variants)."""


@dataclass
class Setup:
    """One network, ready to be trained."""

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    make_optimizer: Callable[[Any], torch.optim.Optimizer]
    x: Tensor
    y: Tensor
    batch: int
    seed: int

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Random batches without end."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            rows = torch.randint(len(self.x), (self.batch,), generator=generator)
            yield self.x[rows], self.y[rows]


def load() -> list[Config]:
    """All cases."""
    return [{"id": name, "diagnosis": [case[0]]} for name, case in CASES.items()]


def variants(case: Config) -> dict[str, Config]:
    """Settings of the variants of a case."""
    _, base, own = CASES[case["id"]]
    return {name: {"batch": 64, "loss": CE, **base, **its} for name, its in own.items()}


def titled(
    cases: dict[str, Any], **usual: Any
) -> tuple[Callable[[], list[Config]], Callable[[Config], dict[str, Config]]]:
    """`load` and `variants` of a set whose questions begin with their name, such as `X12`.

    Args:
        cases: (diagnoses, base, variants) of every question.
        usual: settings of all.
    """

    def load() -> list[Config]:
        return [
            {"id": title.split()[0], "title": title, "diagnosis": case[0].split()}
            for title, case in cases.items()
        ]

    def variants(case: Config) -> dict[str, Config]:
        _, base, own = cases[case["title"]]
        given = {"batch": 64, "loss": CE, **usual, **base}
        return {name: {**given, **its} for name, its in own.items()}

    return load, variants


def build(config: Config, seed: int = 0) -> Setup:
    """A variant, drawn from a seed."""
    torch.manual_seed(seed)
    x, y = data(config["data"])
    return Setup(config["net"](), config["loss"], config["opt"], x, y, config["batch"], seed)


def train(setup: Setup, config: Config) -> list[float]:
    """Trains it; ends at a loss that is no number."""
    optimizer = setup.make_optimizer(setup.model.parameters())
    losses: list[float] = []
    for _, (x, y) in zip(range(config["steps"]), setup.batches(), strict=False):
        loss = setup.loss(setup.model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
    return losses
