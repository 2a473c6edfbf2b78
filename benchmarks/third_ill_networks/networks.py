"""Networks of the third set of ill networks; `mlp`, `ended` and `Setup` are those of the first."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ill_networks.setups import mlp


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """What the function gives."""
        return self.function(x)


class Sine(nn.Module):
    """Activation of a SIREN: sin(30 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sin(30.0 * x)


class Sign(nn.Module):
    """-1, 0 or 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.sign(x)


class Clamp(nn.Module):
    """Into 0 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return torch.clamp(x, 0, 1)


class Soft(nn.Module):
    """A softmax between layers."""

    def forward(self, x: Tensor) -> Tensor:
        """[samples, width], over the width"""
        return torch.softmax(x, 1)


class Rms(nn.Module):
    """An RMS norm that squares in the format of its input, or in float32 where `up`."""

    def __init__(self, width: int, *, up: bool) -> None:
        super().__init__()
        self.weight, self.up = nn.Parameter(torch.ones(width)), up

    def forward(self, x: Tensor) -> Tensor:
        """[samples, width]"""
        z = x.float() if self.up else x
        return (z / (z.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()).to(x.dtype) * self.weight


class Last(nn.Module):
    """A recurrent body whose last state is read."""

    def __init__(self, body: nn.RNNBase, width: int, out: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, steps, features] to [samples, out]"""
        out: Tensor = self.head(self.body(x)[0][:, -1])
        return out


class Chars(nn.Module):
    """What comes next, of twelve characters; matrices of one standard deviation where given."""

    def __init__(self, std: float = 0.0, kind: Callable[..., nn.RNNBase] = nn.RNN) -> None:
        super().__init__()
        self.body, self.head = kind(12, 64, batch_first=True), nn.Linear(64, 12)
        for p in self.parameters() if std else ():
            nn.init.normal_(p, 0, std) if p.dim() > 1 else nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, steps] to [samples, steps, 12]"""
        out: Tensor = self.head(self.body(F.one_hot(x, 12).float())[0])
        return out


class Words(nn.Module):
    """A GRU of words, the mean of which is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(80, 24)
        self.body, self.head = nn.GRU(24, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, steps] to [samples, 4]"""
        out: Tensor = self.head(self.body(self.embed(x))[0].mean(1))
        return out


class Conv1(nn.Module):
    """Convolutions along a signal of 64 values."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 16, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(4),
            nn.Flatten(), nn.Linear(128, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[samples, 1, 64] to [samples, 3]"""
        out: Tensor = self.layers(x)
        return out


class Block(nn.Module):
    """Attention and an MLP behind layer norms, with or without what goes around them."""

    def __init__(self, width: int, *, skip: bool) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp, self.skip = mlp(width, 2 * width, width, act=nn.GELU), skip

    def forward(self, x: Tensor) -> Tensor:
        """[samples, positions, width]"""
        h = self.before_attention(x)
        h = self.attention(h, h, h, need_weights=False)[0]
        x = x + h if self.skip else h
        out: Tensor = self.mlp(self.before_mlp(x))
        return x + out if self.skip else out


class Vit(nn.Module):
    """A vision transformer that takes the rows of an image of 8 x 8 as patches."""

    def __init__(self, depth: int, *, skip: bool = True) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(0.02 * torch.randn(1, 8, 32))
        self.blocks = nn.Sequential(*(Block(32, skip=skip) for _ in range(depth)))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, 8, 8] to [samples, 10]"""
        out: Tensor = self.head(self.blocks(self.embed(x) + self.place).mean(1))
        return out


class Tied(nn.Module):
    """One layer, called again and again."""

    def __init__(self, times: int, *, skip: bool = False) -> None:
        super().__init__()
        self.embed, self.layer, self.head = nn.Linear(64, 48), nn.Linear(48, 48), nn.Linear(48, 10)
        self.times, self.skip = times, skip

    def forward(self, x: Tensor) -> Tensor:
        """[samples, 64] to [samples, 10]"""
        x = F.relu(self.embed(x))
        for _ in range(self.times):
            h = F.relu(self.layer(x))
            x = x + 0.1 * h if self.skip else h
        out: Tensor = self.head(x)
        return out


class Res(nn.Module):
    """x + f(norm(x))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), mlp(width, width, width, act=nn.GELU)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, width]"""
        out: Tensor = x + self.mlp(self.norm(x))
        return out


class Plain(nn.Module):
    """x + f(x), with no norm, where f begins at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = mlp(width, width, width)
        for p in self.mlp[-1].parameters():
            nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, width]"""
        out: Tensor = x + self.mlp(x)
        return out


def affine(offset: float, factor: float) -> Fn:
    """offset + factor * x"""
    return Fn(lambda x: offset + factor * x)


def convnet(head: nn.Module | None = None, *, norm: bool = False, out: int = 10) -> nn.Sequential:
    """Two convolutions on 8 x 8; with a head module behind a global pooling, where given."""
    norms = [nn.BatchNorm2d(16), nn.BatchNorm2d(32)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), *norms[:1], nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), *norms[1:], nn.ReLU(),
        *([nn.AdaptiveAvgPool2d(1), head] if head else [nn.MaxPool2d(2)]),
        nn.Flatten(), nn.Linear(32 if head else 128, out),
    )  # fmt: skip


def halved(*, up: bool) -> nn.Sequential:
    """A classifier of bytes in half precision, behind an RMS norm."""
    body = he(nn.Sequential(Rms(64, up=up), *mlp(64, 48, 10)))
    return nn.Sequential(Fn(lambda x: (4 * x).half()), body.half())


def gamma(model: nn.Sequential, value: float) -> nn.Sequential:
    """A model whose batch norms have this weight."""
    for m in model.modules():
        if isinstance(m, _BatchNorm):
            nn.init.constant_(m.weight, value)
    return model


def xavier(model: nn.Sequential) -> nn.Sequential:
    """Glorot's initialization, without biases."""
    for m in _matrices(model):
        nn.init.xavier_uniform_(m.weight)
        nn.init.zeros_(m.bias)
    return model


def he(model: nn.Sequential) -> nn.Sequential:
    """He's initialization, without biases."""
    for m in _matrices(model):
        nn.init.kaiming_normal_(m.weight)
        nn.init.zeros_(m.bias)
    return model


def normal(model: nn.Sequential, *, bias: float = 0.0) -> nn.Sequential:
    """Weights of variance 1, and biases of that standard deviation."""
    for m in _matrices(model):
        nn.init.normal_(m.weight)
        nn.init.normal_(m.bias, 0, bias) if bias else nn.init.zeros_(m.bias)
    return model


def siren(model: nn.Sequential) -> nn.Sequential:
    """The initialization of Sitzmann et al. (2020) for sin(30 x)."""
    for place, m in enumerate(_matrices(model)):
        n = m.weight.shape[1]
        bound = (6 / n) ** 0.5 / 30.0 if place else 1 / n
        nn.init.uniform_(m.weight, -bound, bound)
    return model


def _matrices(model: nn.Module) -> list[nn.Linear]:
    return [m for m in model.modules() if isinstance(m, nn.Linear)]
