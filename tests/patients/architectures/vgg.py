"""VGG-16 (Simonyan and Zisserman 2015, table 1, column D), with and without batch norm."""

from functools import partial

from torch import Tensor, nn

from patients.architectures.family import NORMED, Family, images

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG(nn.Module):
    """13 convolutions in five stages, a pool after each, and three linear layers."""

    def __init__(self, *, norm: bool = False, shrink: int = 1):
        super().__init__()
        layers: list[nn.Module] = []
        fan_in = 3
        for width, count in STAGES:
            width //= shrink
            for _ in range(count):
                layers.append(nn.Conv2d(fan_in, width, 3, padding=1))
                if norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                fan_in = width
            layers.append(nn.MaxPool2d(2))
        hidden = 4096 // shrink
        self.features, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(49 * fan_in, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(),
            nn.Linear(hidden, 1000 // shrink),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


FAMILIES = {
    "vgg16": Family(
        VGG, images(8, 64), {"shrink": 16}, images(2, 32), seeds=2048, note="64 px, widths 64-512"
    ),
    "vgg16bn": Family(
        partial(VGG, norm=True), images(8, 64), {"shrink": 16}, images(2, 64), seeds=16,
        target=NORMED, note="64 px, widths 64-512",
    ),
}  # fmt: skip
