"""Networks of the fourth set of ill networks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ill_networks.setups import mlp
from third_ill_networks.networks import Fn


class Rounded(nn.Module):
    """Whole numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.round(x)


class Rows(nn.Module):
    """A recurrent body over rows of 28 pixels, whose last state is read.

    Args:
        body: of 28 inputs, batch first.
        gain: of orthogonal recurrent weights; torch's own where none is given.
    """

    def __init__(self, body: nn.RNNBase, gain: float = 0.0) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(body.hidden_size, 10)
        if gain:
            nn.init.orthogonal_(body.get_parameter("weight_hh_l0"), gain)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, rows, 28] to [samples, 10]"""
        out: Tensor = self.head(self.body(x)[0][:, -1])
        return out


class Skip(nn.Module):
    """x + f(x), pre-activated; with batch norms or without."""

    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width) if norm else nn.Identity() for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[samples, width]"""
        h = self.first(F.relu(self.norms[0](x)))
        out: Tensor = x + self.second(F.relu(self.norms[1](h)))
        return out


def skips(*, norm: bool) -> nn.Sequential:
    """Forty of them, by Glorot."""
    body = (Skip(64, norm=norm) for _ in range(40))
    return glorot(nn.Sequential(nn.Linear(784, 64), *body, nn.Linear(64, 10)))


def convs(
    *plan: int, act: type[nn.Module] = nn.ReLU, norm: bool = False, head: nn.Module | None = None
) -> nn.Sequential:
    """Convolutions of 3 x 3 with as many channels, a pooling for each 0, and a head.

    Args:
        plan: channels, or 0.
        act: behind each of them.
        norm: whether a batch norm stands in between.
        head: behind a mean over the map; the map itself goes into a layer of 10 where it is None.
    """
    layers: list[nn.Module] = []
    last, side = 1, 28
    for width in plan:
        if not width:
            layers.append(nn.MaxPool2d(2))
            side //= 2
            continue
        norms = [nn.BatchNorm2d(width)] if norm else []
        layers += [nn.Conv2d(last, width, 3, padding=1), *norms, act()]
        last = width
    if head is not None:
        return nn.Sequential(*layers, Fn(lambda x: x.mean((2, 3))), head)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last * side * side, 10))


def topped(model: nn.Sequential, width: int) -> nn.Sequential:
    """One more rectified layer in front of the last."""
    *body, head = model
    into = nn.Linear(head.in_features, width)
    return nn.Sequential(*body, into, nn.ReLU(), nn.Linear(width, 10))


def dropped() -> nn.Sequential:
    """Two wide layers with a dropout of a half behind each."""
    *body, head = mlp(784, 256, 256, 10)
    layers = [part for k in (0, 2) for part in (*body[k : k + 2], nn.Dropout(0.5))]
    return nn.Sequential(*layers, head)


def glorot(model: nn.Sequential) -> nn.Sequential:
    """Keras' initialization."""
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)
    return model


def constant(model: nn.Sequential, value: float) -> nn.Sequential:
    """All weights alike."""
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            nn.init.constant_(m.weight, value)
            nn.init.zeros_(m.bias)
    return model


def unit_normal(model: nn.Sequential) -> nn.Sequential:
    """Weights and biases of variance 1."""
    for p in model.parameters():
        nn.init.normal_(p)
    return model
