"""The well-known image networks, small, written from their papers and initialized as they say."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients import data
from patients.patient import Patient, adam, adamw, seeded, sgd


def he(model: nn.Module, mode: str = "fan_out") -> None:
    """He's normal initialization of every convolution, biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def conv_norm(
    fan_in: int, fan_out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution without bias, then batch norm."""
    return nn.Sequential(
        nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(fan_out),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 2)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        self.conv1 = conv_norm(fan_in, fan_out, 3, stride)
        self.relu, self.conv2 = nn.ReLU(inplace=True), conv_norm(fan_out, fan_out, 3)
        same = stride == 1 and fan_in == fan_out
        self.shortcut = nn.Identity() if same else conv_norm(fan_in, fan_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu(self.conv1(x)))
        out += self.shortcut(x)
        return self.relu(out)


@seeded
def resnet18() -> Patient:
    widths = (12, 16, 24, 32)
    layers: list[nn.Module] = [conv_norm(3, 12, 3), nn.ReLU(inplace=True)]
    for i, width in enumerate(widths):
        layers.append(BasicBlock(widths[max(i - 1, 0)], width, 1 if i == 0 else 2))
        layers.append(BasicBlock(width, width, 1))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    he(model)
    return Patient(model, data.images(32, 16), None, sgd(0.02))


class PreActivation(nn.Module):
    """Norm, ReLU, convolution, twice (He et al. 2016), with dropout between (Wide ResNet)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(fan_in), nn.BatchNorm2d(fan_out)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.shortcut = (
            nn.Conv2d(fan_in, fan_out, 1, stride, bias=False) if fan_in != fan_out else None
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(inner)
        out = F.dropout(F.relu(self.norm2(self.conv1(inner))), 0.1, self.training)
        return skip + self.conv2(out)


@seeded
def wide_resnet() -> Patient:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), PreActivation(8, 16, 1),
        PreActivation(16, 16, 1), PreActivation(16, 32, 2), PreActivation(32, 32, 1),
        nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    he(model)
    return Patient(model, data.images(32, 16), None, sgd(0.02))


class DenseLayer(nn.Module):
    """Bottleneck whose output is appended to its input (Huang et al. 2017)."""

    def __init__(self, fan_in: int, growth: int):
        super().__init__()
        self.new = nn.Sequential(
            nn.BatchNorm2d(fan_in), nn.ReLU(), nn.Conv2d(fan_in, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], 1)


@seeded
def densenet() -> Patient:
    width, growth = 16, 8
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    for block in range(3):
        for _ in range(3):
            layers.append(DenseLayer(width, growth))
            width += growth
        if block < 2:
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    he(model, "fan_in")
    nn.init.zeros_(model[-1].bias)
    return Patient(model, data.images(32, 16), None, sgd(0.02))


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project without activation (Sandler et al. 2018)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, expand: int = 4):
        super().__init__()
        inner = expand * fan_in
        self.branch = nn.Sequential(
            conv_norm(fan_in, inner, 1), nn.ReLU6(inplace=True),
            conv_norm(inner, inner, 3, stride, groups=inner), nn.ReLU6(inplace=True),
            conv_norm(inner, fan_out, 1),
        )  # fmt: skip
        self.skip = stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.skip else self.branch(x)


@seeded
def mobilenet_v2() -> Patient:
    model = nn.Sequential(
        conv_norm(3, 8, 3), nn.ReLU6(inplace=True), InvertedResidual(8, 12, 1),
        InvertedResidual(12, 12, 1), InvertedResidual(12, 16, 2), InvertedResidual(16, 16, 1),
        InvertedResidual(16, 24, 2), InvertedResidual(24, 24, 1), conv_norm(24, 64, 1),
        nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(64, 10),
    )  # fmt: skip
    he(model)
    nn.init.normal_(model[-1].weight, std=0.01)
    nn.init.zeros_(model[-1].bias)
    return Patient(model, data.images(32, 16), None, adam())


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate that sees all of them (Hu et al. 2018)."""

    def __init__(self, width: int, squeezed: int):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.silu(self.squeeze(x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(self.excite(gate))


class MBConv(nn.Module):
    """Inverted residual with SiLU and squeeze-and-excitation (Tan and Le 2019)."""

    def __init__(self, fan_in: int, fan_out: int, stride: int):
        super().__init__()
        inner = 4 * fan_in
        self.branch = nn.Sequential(
            conv_norm(fan_in, inner, 1), nn.SiLU(),
            conv_norm(inner, inner, 5, stride, groups=inner), nn.SiLU(),
            SqueezeExcite(inner, max(fan_in // 2, 4)), conv_norm(inner, fan_out, 1),
        )  # fmt: skip
        self.skip = stride == 1 and fan_in == fan_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.skip else self.branch(x)


@seeded
def efficientnet() -> Patient:
    model = nn.Sequential(
        conv_norm(3, 8, 3), nn.SiLU(), MBConv(8, 12, 1), MBConv(12, 12, 1), MBConv(12, 20, 2),
        MBConv(20, 20, 1), conv_norm(20, 64, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip
    he(model)
    return Patient(model, data.images(32, 16), None, adam())


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, layer norm, inverted bottleneck, layer scale (Liu et al. 2022)."""

    def __init__(self, width: int, scale: float = 1e-6):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        out = self.scale * self.project(F.gelu(self.expand(out)))
        return x + out.permute(0, 3, 1, 2)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of images."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@seeded
def convnext() -> Patient:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 2, 2), ChannelNorm(16), ConvNeXtBlock(16), ConvNeXtBlock(16),
        ChannelNorm(16), nn.Conv2d(16, 32, 2, 2), ConvNeXtBlock(32), ConvNeXtBlock(32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(32, eps=1e-6), nn.Linear(32, 10),
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return Patient(model, data.images(32, 16), None, adamw(1e-3))
