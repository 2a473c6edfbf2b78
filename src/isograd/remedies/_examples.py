"""Small networks for the sick and healthy examples of remedies; seeded, measured, not judged."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from isograd.remedies._applying import case_of
from isograd.remedies._remedy import Case


def classes(samples: int = 48, features: int = 20, of: int = 7) -> tuple[Tensor, Tensor]:
    """Standard normal features, with labels that a linear map of them decides."""
    x = torch.randn(samples, features)
    return x, (x @ torch.randn(features, of)).argmax(1)


def plain(
    depth: int = 12,
    act: type[nn.Module] = nn.ReLU,
    gain: float | None = None,
    *,
    width: int = 32,
    features: int = 20,
    out: int = 7,
) -> nn.Sequential:
    """A stack of linear layers and activations; torch's default initialization without a gain."""
    sizes = [features, *[width] * depth]
    body = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), act())]
    model = nn.Sequential(*body, nn.Linear(width, out))
    if gain is not None:
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
                nn.init.zeros_(layer.bias)
    return model


def example(
    make: Callable[[], nn.Module],
    batch: Callable[[], Any] = classes,
    loss: Callable[[Any, Any], Any] | None = None,
    **more: Any,
) -> Case:
    """A case of a network and a batch, drawn from a seed of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return case_of(make(), batch(), loss, **more)


class _Block(nn.Module):
    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.first, self.last, self.act = nn.Linear(width, 31), nn.Linear(31, width), nn.ReLU()
        nn.init.kaiming_normal_(self.first.weight)
        nn.init.normal_(self.last.weight, std=scale * 31**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.last(self.act(self.first(x)))
        return out


class _Stack(nn.Module):
    def __init__(self, depth: int, scale: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(20, scale) for _ in range(depth))
        self.head = nn.Linear(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x)
        return out


def residual(depth: int, scale: float) -> nn.Module:
    """Residual blocks without norms, and a head.

    Args:
        depth: number of blocks.
        scale: of a branch; 1 makes it as large as its stream.
    """
    return _Stack(depth, scale)


class _Encoder(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 2, 20, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(x).mean(1))
        return out


def encoder(depth: int) -> nn.Module:
    """Torch's transformer layers, post-norm, and a head."""
    return _Encoder(depth)


def sequences() -> tuple[Tensor, Tensor]:
    """What they read."""
    return torch.randn(6, 7, 12), torch.randint(5, (6,))
