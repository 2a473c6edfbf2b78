"""Networks of the experiments: plain and residual stacks, their initializations, seeds."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from isograd.lab.images import Images


class Sine(nn.Module):
    """sin x, which torch has as a function only."""

    def forward(self, x: Tensor) -> Tensor:
        """Entry by entry."""
        return torch.sin(x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "softsign": nn.Softsign,
    "prelu": nn.PReLU,
    "sin": Sine,
}
"""By the names that `isograd.theory` has for them."""

INITS = ("torch", "xavier", "he", "lecun", "orthogonal", "normal")
"""torch: as nn.Linear comes; xavier: gain 1, both fans; he: 2 / fan_in; lecun: 1 / fan_in;
orthogonal: isometry times `gain`; normal: N(0, gain^2), whatever the width. But for torch, biases
are 0."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from torch's global stream inside begin at `seed`; after it the stream is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def initialize(model: nn.Module, init: str, gain: float = 1.0) -> nn.Module:
    """Draws every nn.Linear and nn.Conv2d of a network again; `gain` multiplies the weights."""
    for module in model.modules():
        if not isinstance(module, nn.Linear | nn.Conv2d) or init == "torch":
            continue
        weight = module.weight
        fan_in = weight[0].numel()
        if init == "xavier":
            nn.init.xavier_normal_(weight, gain)
        elif init == "orthogonal":
            nn.init.orthogonal_(weight, gain)
        else:
            std = {"he": math.sqrt(2 / fan_in), "lecun": fan_in**-0.5, "normal": 1.0}[init]
            nn.init.normal_(weight, std=gain * std)
        if module.bias is not None:
            module.bias.zero_()
    return model


def classify(
    net: nn.Module,
    data: "Images",
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> tuple[list[float], float]:
    """Trains by cross entropy: the loss before every step (10 at most), then the test accuracy."""
    losses = []
    for x, y in batches:
        loss = nn.functional.cross_entropy(net(x), y)
        losses.append(round(min(10.0, float(loss.detach())), 4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = (net(data.test_inputs).argmax(1) == data.test_labels).float().mean()
    return losses, float(right)


def mlp(
    inputs: int,
    width: int,
    depth: int,
    outputs: int,
    *,
    activation: str = "relu",
    init: str = "he",
    gain: float = 1.0,
    norm: bool = False,
    seed: int = 0,
) -> nn.Sequential:
    """A plain stack: `depth` hidden layers of Linear, batch norm if asked for, activation; a head.

    Args:
        inputs: numbers per sample; inputs of more axes are flattened.
        width: units of every hidden layer.
        depth: hidden layers; the head is one more weight layer.
        outputs: of the head.
        activation: a key of ACTIVATIONS.
        init: one of INITS, for every layer.
        gain: factor on the weights.
        norm: batch norm between every hidden layer and its activation.
        seed: of the draw.
    """
    with seeded(seed):
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in in [inputs, *[width] * (depth - 1)][:depth]:
            layers.append(nn.Linear(fan_in, width))
            if norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(ACTIVATIONS[activation]())
        layers.append(nn.Linear(width if depth else inputs, outputs))
        model = nn.Sequential(*layers)
        initialize(model, init, gain)
    return model


class Branch(nn.Module):
    """x + scale * f(x), f = two layers, each (norm,) ReLU, Linear; without the skip, f(x) alone."""

    def __init__(self, width: int, *, norm: bool, skip: bool, scale: float = 1.0) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(2):
            parts += [nn.BatchNorm1d(width)] if norm else []
            parts += [nn.ReLU(), nn.Linear(width, width)]
        self.f = nn.Sequential(*parts)
        self.skip = skip
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """The stream after this block."""
        inner: Tensor = self.f(x)
        return x + self.scale * inner if self.skip else inner


def residual_mlp(
    inputs: int,
    width: int,
    blocks: int,
    outputs: int,
    *,
    norm: bool = True,
    skip: bool = True,
    scale: float = 1.0,
    zero_last: bool = False,
    seed: int = 0,
) -> nn.Sequential:
    """Stem, `blocks` pre-activation blocks of two layers, (norm,) ReLU, head; He's initialization.

    Args:
        inputs: numbers per sample; inputs of more axes are flattened.
        width: of the stream.
        blocks: the weight layers between stem and head are twice as many.
        outputs: of the head.
        norm: batch norm before every ReLU.
        skip: False for the same layers without skips.
        scale: of every branch.
        zero_last: the last layer of every branch begins at zero.
        seed: of the draw.
    """
    with seeded(seed):
        middle = [Branch(width, norm=norm, skip=skip, scale=scale) for _ in range(blocks)]
        end = [nn.BatchNorm1d(width)] if norm else []
        stem = [nn.Flatten(), nn.Linear(inputs, width)]
        model = nn.Sequential(*stem, *middle, *end, nn.ReLU(), nn.Linear(width, outputs))
        initialize(model, "he")
    if zero_last:
        for block in middle:
            nn.init.zeros_(block.f[-1].weight)  # type: ignore[arg-type]  # it is the Linear
    return model
