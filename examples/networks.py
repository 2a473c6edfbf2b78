"""Networks to try isograd on, ill and well.

isograd check examples/networks.py:sigmoid --data digits
isograd check examples/networks.py:relu --data digits
isograd check examples/networks.py:residual --data digits --optimizer adam --lr 1e-3 --steps 50
"""

import itertools

import torch
from torch import nn

WIDTH = 128


def sigmoid() -> nn.Module:
    """Twenty sigmoid layers: the gradient is multiplied by at most 1/4 at each."""
    return _plain(20, nn.Sigmoid)


def relu() -> nn.Module:
    """Fifty ReLU layers with torch's default initialization: a gain of 0.58 where 1.41 fits."""
    return _plain(50, nn.ReLU)


def residual() -> nn.Module:
    """Twenty layers, each of which adds to the sum of those before."""
    blocks = [Residual() for _ in range(18)]
    head = (nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10))
    return nn.Sequential(nn.Linear(64, WIDTH), *blocks, *head)


class Residual(nn.Module):
    """x + Linear(GELU(LayerNorm(x)))."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.linear(nn.functional.gelu(self.norm(x)))


def _plain(depth: int, activation: type[nn.Module]) -> nn.Module:
    widths = [64, *[WIDTH] * (depth - 1), 10]
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), activation()]
    return nn.Sequential(*layers[:-1])  # the last layer gives logits, without an activation
