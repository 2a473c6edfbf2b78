"""ConvNeXt-T (Liu et al. 2022, section 2 and table 9): a convolutional network like a Swin."""

import torch
from torch import Tensor, nn

from patients.architectures.family import Family, images
from patients.architectures.mobile import StochasticDepth


class Permute(nn.Module):
    """Reorders the axes."""

    def __init__(self, *order: int):
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Depthwise 7x7, norm, inverted bottleneck, layer scale (figure 4)."""

    def __init__(self, width: int, *, scale: float, rate: float):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width), Permute(0, 2, 3, 1),
            nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width), Permute(0, 3, 1, 2),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.full((width, 1, 1), scale))
        self.depth = StochasticDepth(rate)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.depth(self.scale * self.branch(x))


class ConvNeXt(nn.Module):
    def __init__(
        self,
        counts: tuple[int, ...] = (3, 3, 9, 3),
        width: int = 96,
        *,
        scale: float = 1e-6,
        rate: float = 0.1,
    ):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 4), ChannelNorm(width, eps=1e-6)]
        block, total = 0, sum(counts)
        for place, count in enumerate(counts):
            for _ in range(count):
                layers.append(Block(width, scale=scale, rate=rate * block / (total - 1)))
                block += 1
            if place < len(counts) - 1:
                layers += [ChannelNorm(width, eps=1e-6), nn.Conv2d(width, 2 * width, 2, 2)]
                width *= 2
        head = [ChannelNorm(width, eps=1e-6), nn.Flatten(), nn.Linear(width, 1000)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


SMALL = {"counts": (1, 2, 1, 1), "width": 6}

FAMILIES = {
    "convnext-t": Family(
        ConvNeXt, images(8, 96), SMALL, images(2, 64), seeds=16, note="96 px, layer scale 1e-6"
    ),
}
