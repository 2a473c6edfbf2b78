"""ResNet-18 and ResNet-50 (He et al. 2015, table 1)."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from patients.architectures.family import NORMED, Family, images

WIDTHS = (64, 128, 256, 512)


def conv(fan_in: int, fan_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, or halves it, without bias."""
    return nn.Conv2d(fan_in, fan_out, kernel, stride, kernel // 2, groups=groups, bias=False)


def he_fan_out(model: nn.Module) -> None:
    """He's normal initialization of every convolution by its fan-out."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Basic(nn.Module):
    """Two 3x3 convolutions around a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(self, fan_in: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = conv(fan_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.relu, self.shortcut = nn.ReLU(inplace=True), shortcut(fan_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += x if self.shortcut is None else self.shortcut(x)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut (figure 5, right); strides in the 3x3."""

    expansion = 4

    def __init__(self, fan_in: int, width: int, stride: int):
        super().__init__()
        wide = self.expansion * width
        self.conv1, self.norm1 = conv(fan_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.norm3 = conv(width, wide, 1), nn.BatchNorm2d(wide)
        self.relu, self.shortcut = nn.ReLU(inplace=True), shortcut(fan_in, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.relu(self.norm2(self.conv2(out)))
        out = self.norm3(self.conv3(out))
        out += x if self.shortcut is None else self.shortcut(x)
        return self.relu(out)


def shortcut(fan_in: int, fan_out: int, stride: int) -> nn.Sequential | None:
    """A projection where shapes differ (option B)."""
    if stride == 1 and fan_in == fan_out:
        return None
    return nn.Sequential(conv(fan_in, fan_out, 1, stride), nn.BatchNorm2d(fan_out))


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, mean over space, linear head."""

    def __init__(
        self,
        block: Callable[[int, int, int], nn.Module],
        counts: tuple[int, ...],
        expansion: int,
        *,
        shrink: int = 1,
        classes: int = 1000,
    ):
        super().__init__()
        fan_in = 64 // shrink
        self.conv1, self.norm1 = conv(3, fan_in, 7, 2), nn.BatchNorm2d(fan_in)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        stages = []
        for place, (width, count) in enumerate(zip(WIDTHS, counts, strict=True)):
            blocks = []
            for index in range(count):
                stride = 2 if index == 0 and place > 0 else 1
                blocks.append(block(fan_in, width // shrink, stride))
                fan_in = expansion * width // shrink
            stages.append(nn.Sequential(*blocks))
        self.stages, self.avgpool = nn.Sequential(*stages), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(fan_in, classes)
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.norm1(self.conv1(x))))
        return self.head(self.avgpool(self.stages(x)).flatten(1))


resnet18 = partial(ResNet, Basic, (2, 2, 2, 2), 1)
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3), 4)

FAMILIES = {
    "resnet18": Family(
        resnet18, images(8, 64), {"shrink": 8}, images(2, 64), seeds=32, target=NORMED,
        note="64 px, batch 8",
    ),
    "resnet18-batch32": Family(
        resnet18, images(32, 64), {"shrink": 8}, images(3, 64), seeds=16, target=NORMED,
        note="64 px, batch 32",
    ),
    "resnet50": Family(
        resnet50, images(8, 64), {"shrink": 8}, images(2, 64), seeds=16, target=NORMED,
        note="64 px, batch 8",
    ),
    "resnet50-batch4": Family(
        resnet50, images(4, 64), {"shrink": 8}, images(2, 64), seeds=16, target=NORMED,
        note="64 px, batch 4: 16 values per channel at the end",
    ),
}  # fmt: skip
