"""DenseNet-121 (Huang et al. 2017, table 1): every layer reads all earlier outputs of its block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients.architectures.family import DENSE, Family, images


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1 bottleneck, norm, ReLU, 3x3; appended to what came in."""

    def __init__(self, fan_in: int, growth: int):
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(fan_in), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(fan_in, 4 * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(4 * growth), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(new)))], 1)


class DenseNet(nn.Module):
    """Stem, dense blocks with halving transitions between, norm, mean over space, linear head."""

    def __init__(
        self, counts: tuple[int, ...] = (6, 12, 24, 16), growth: int = 32, *, classes: int = 1000
    ):
        super().__init__()
        width = 2 * growth
        stem = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)]
        layers: list[nn.Module] = [*stem, nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        for place, count in enumerate(counts):
            for _ in range(count):
                layers.append(DenseLayer(width, growth))
                width += growth
            if place < len(counts) - 1:
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
                width //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(width))
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.relu(self.features(x), inplace=True), 1)
        return self.head(x.flatten(1))


FAMILIES = {
    "densenet121": Family(
        DenseNet, images(8, 64), {"counts": (2, 1, 2, 1), "growth": 6}, images(2, 64), seeds=12,
        target=DENSE, note="64 px, growth 32",
    ),
}  # fmt: skip
