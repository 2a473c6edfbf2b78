"""Small patients that look at images and volumes: every kind of kernel, norm and pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients import data
from patients.patient import Patient, adam, seeded, sgd


@seeded
def lenet() -> Patient:
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 10),
    )  # fmt: skip
    return Patient(model, data.digit_images(96), None, adam())


@seeded
def conv_batch_norm() -> Patient:
    layers: list[nn.Module] = []
    for fan_in, fan_out, stride in ((3, 16, 1), (16, 24, 2), (24, 32, 1), (32, 48, 2)):
        layers += [
            nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(inplace=True),
        ]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10))
    return Patient(model, data.images(48, 16), None, sgd(0.02))


@seeded
def conv_group_norm() -> Patient:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(),
        nn.Conv2d(16, 24, 3, padding=1, groups=4), nn.GroupNorm(6, 24), nn.SiLU(),
        nn.LPPool2d(2, 2), nn.Dropout2d(0.1), nn.Conv2d(24, 32, 3, padding=2, dilation=2),
        nn.GroupNorm(8, 32), nn.SiLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    return Patient(model, data.images(32, 16), F.cross_entropy, adam())


@seeded
def style_net() -> Patient:
    """Image to image with instance norm and reflection padding."""
    x, _ = data.images(24, 16)
    target = data.standardized(F.avg_pool2d(x, 3, 1, 1), (0, 1, 2, 3))
    model = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 16, 3), nn.InstanceNorm2d(16, affine=True),
        nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 3, 2, 1), nn.InstanceNorm2d(32, affine=True),
        nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(32, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.LeakyReLU(0.2),
        nn.Conv2d(16, 3, 3, padding=1),
    )  # fmt: skip
    return Patient(model, (x, target), None, adam())


@seeded
def conv_autoencoder() -> Patient:
    x, _ = data.images(32, 16)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ELU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ELU(), nn.ConvTranspose2d(16, 3, 4, 2, 1),
    )  # fmt: skip
    return Patient(model, (x, x), nn.MSELoss(), adam())


@seeded
def super_resolution() -> Patient:
    fine, _ = data.images(24, 16)
    coarse = F.avg_pool2d(fine, 2)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2), nn.PReLU(32), nn.Conv2d(32, 32, 3, padding=1), nn.PReLU(32),
        nn.Conv2d(32, 12, 3, padding=1), nn.PixelShuffle(2),
    )  # fmt: skip
    return Patient(model, (data.standardized(coarse, (0, 2, 3)), fine), F.l1_loss, adam())


@seeded
def volumes() -> Patient:
    labels = torch.arange(24) % 3
    x = F.interpolate(torch.randn(3, 1, 3, 3, 3), size=8, mode="trilinear")[labels]
    x = data.standardized(x + 0.5 * torch.randn(24, 1, 8, 8, 8), (0, 1, 2, 3, 4))
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU6(), nn.MaxPool3d(2),
        nn.Conv3d(8, 16, 3, padding=1), nn.BatchNorm3d(16), nn.ReLU6(), nn.AdaptiveAvgPool3d(2),
        nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 3),
    )  # fmt: skip
    return Patient(model, (x, labels), None, adam())


class UNet(nn.Module):
    """Ronneberger et al. 2015, with padding, two levels, and He's initialization as they ask."""

    def __init__(self, width: int = 12, classes: int = 3):
        super().__init__()
        self.down1, self.down2 = self._pair(3, width), self._pair(width, 2 * width)
        self.bottom = self._pair(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.merge2, self.merge1 = self._pair(4 * width, 2 * width), self._pair(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    @staticmethod
    def _pair(fan_in: int, fan_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(fan_out, fan_out, 3, padding=1), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(F.max_pool2d(fine, 2))
        coarse = self.bottom(F.max_pool2d(middle, 2))
        middle = self.merge2(torch.cat([middle, self.up2(coarse)], 1))
        return self.head(self.merge1(torch.cat([fine, self.up1(middle)], 1)))


@seeded
def unet() -> Patient:
    x, _ = data.images(16, 16)
    brightness = F.avg_pool2d(x.mean(1, keepdim=True), 3, 1, 1).squeeze(1)
    labels = torch.bucketize(brightness, torch.tensor([-0.3, 0.3]))
    return Patient(UNet(), (x, labels), F.cross_entropy, adam())


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021): one MLP over patches, one over channels, pre-norm."""

    def __init__(self, patches: int = 16, width: int = 32, depth: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.tokens = nn.ModuleList(self._mlp(patches, 24) for _ in range(depth))
        self.channels = nn.ModuleList(self._mlp(width, 96) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    @staticmethod
    def _mlp(width: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        for i, (tokens, channels) in enumerate(zip(self.tokens, self.channels, strict=True)):
            x = x + tokens(self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(self.norms[2 * i + 1](x))
        return self.head(self.norm(x).mean(1))


@seeded
def mlp_mixer() -> Patient:
    return Patient(Mixer(), data.images(32, 16), None, adam())
