"""MobileNetV2 (Sandler et al. 2018, table 2) and EfficientNet-B0 (Tan and Le 2019, table 1)."""

import torch
from torch import Tensor, nn

from patients.architectures.family import NORMED, Family, images
from patients.architectures.resnets import he_fan_out


class StochasticDepth(nn.Module):
    """Drops a branch for whole samples (Huang et al. 2016), scaled to keep its mean."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.empty([len(x)] + [1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * kept.bernoulli_(1 - self.rate).div_(1 - self.rate)


def conv_norm(
    fan_in: int,
    fan_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    act: type[nn.Module] | None = None,
) -> list[nn.Module]:
    """A convolution without bias, batch norm, and an activation if there is one."""
    conv = nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(fan_out), *([act()] if act else [])]


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project without activation (figure 3)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, expand: int):
        super().__init__()
        inner = expand * fan_in
        layers = conv_norm(fan_in, inner, 1, act=nn.ReLU6) if expand != 1 else []
        layers += conv_norm(inner, inner, 3, stride=stride, groups=inner, act=nn.ReLU6)
        self.branch = nn.Sequential(*layers, *conv_norm(inner, fan_out, 1))
        self.skip = stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.skip else self.branch(x)


MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
          (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
"""Expansion, width, blocks, stride of the first, per stage."""


class MobileNetV2(nn.Module):
    def __init__(self, *, shrink: int = 1):
        super().__init__()
        fan_in = 32 // shrink
        layers = conv_norm(3, fan_in, 3, stride=2, act=nn.ReLU6)
        for expand, width, count, stride in MOBILE:
            for index in range(count):
                step = stride if index == 0 else 1
                layers.append(InvertedResidual(fan_in, width // shrink, step, expand))
                fan_in = width // shrink
        last = 1280 // shrink
        layers += [*conv_norm(fan_in, last, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1)]
        head = [nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, 1000 // shrink)]
        self.layers, self.head = nn.Sequential(*layers), nn.Sequential(*head)
        he_fan_out(self)
        nn.init.normal_(self.head[2].weight, std=0.01)
        nn.init.zeros_(self.head[2].bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that sees all of them (Hu et al. 2018)."""

    def __init__(self, width: int, squeezed: int, act: type[nn.Module] = nn.SiLU):
        super().__init__()
        self.pool, self.squeeze = nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, squeezed, 1)
        self.act, self.excite, self.gate = act(), nn.Conv2d(squeezed, width, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.excite(self.act(self.squeeze(self.pool(x)))))


class MBConv(nn.Module):
    """Inverted residual with SiLU and squeeze-and-excitation, its branch dropped at random."""

    def __init__(
        self, fan_in: int, fan_out: int, *, kernel: int, stride: int, expand: int, rate: float
    ):
        super().__init__()
        inner = expand * fan_in
        layers = conv_norm(fan_in, inner, 1, act=nn.SiLU) if expand != 1 else []
        layers += conv_norm(inner, inner, kernel, stride=stride, groups=inner, act=nn.SiLU)
        layers += [SqueezeExcite(inner, max(1, fan_in // 4)), *conv_norm(inner, fan_out, 1)]
        self.branch = nn.Sequential(*layers)
        skip = stride == 1 and fan_in == fan_out
        self.depth = StochasticDepth(rate) if skip else None

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) if self.depth is None else x + self.depth(self.branch(x))


EFFICIENT = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2),
             (6, 5, 112, 3, 1), (6, 5, 192, 4, 2), (6, 3, 320, 1, 1))  # fmt: skip
"""Expansion, kernel, width, blocks, stride of the first, per stage."""


class EfficientNet(nn.Module):
    def __init__(self, *, shrink: int = 1, rate: float = 0.2):
        super().__init__()
        fan_in = 32 // shrink
        layers = conv_norm(3, fan_in, 3, stride=2, act=nn.SiLU)
        total = sum(count for _, _, _, count, _ in EFFICIENT)
        block = 0
        for expand, kernel, width, count, stride in EFFICIENT:
            for index in range(count):
                layers.append(
                    MBConv(
                        fan_in, width // shrink, kernel=kernel,
                        stride=stride if index == 0 else 1, expand=expand,
                        rate=rate * block / total,
                    )
                )  # fmt: skip
                fan_in, block = width // shrink, block + 1
        last = 1280 // shrink
        layers += [*conv_norm(fan_in, last, 1, act=nn.SiLU), nn.AdaptiveAvgPool2d(1)]
        self.layers, self.dropout = nn.Sequential(*layers), nn.Dropout(rate)
        self.head = nn.Linear(last, 1000 // shrink)
        he_fan_out(self)
        bound = self.head.out_features**-0.5
        nn.init.uniform_(self.head.weight, -bound, bound)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.layers(x).flatten(1)))


FAMILIES = {
    "mobilenetv2": Family(
        MobileNetV2, images(8, 96), {"shrink": 8}, images(2, 64), seeds=16, target=NORMED,
        note="96 px",
    ),
    "efficientnet-b0": Family(
        EfficientNet, images(8, 96), {"shrink": 8}, images(2, 64), seeds=48, target=NORMED,
        note="96 px; squeeze layers of 8 units, stochastic depth",
    ),
}  # fmt: skip
