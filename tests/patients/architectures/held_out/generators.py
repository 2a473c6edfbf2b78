"""From image to image, or from noise to image."""

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from patients.architectures.family import NORMED, Family, gaussian, images
from patients.architectures.mobile import conv_norm


def double(fan_in: int, fan_out: int) -> nn.Sequential:
    """Two convolutions with batch norm."""
    first = conv_norm(fan_in, fan_out, 3, act=nn.ReLU)
    return nn.Sequential(*first, *conv_norm(fan_out, fan_out, 3, act=nn.ReLU))


class UNet(nn.Module):
    """Down, up by transposed kernels, skips by concatenation (Ronneberger et al. 2015)."""

    def __init__(self, *, width: int = 48, levels: int = 3):
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.stem, self.pool = double(3, width), nn.MaxPool2d(2)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(double(a, b) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.merge = nn.ModuleList(double(2 * a, a) for a, _ in reversed(pairs))
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.stem(x)]
        for down in self.down:
            skips.append(down(self.pool(skips[-1])))
        x = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


class Step(nn.Module):
    """A diffusion model's residual block: group norm, SiLU, and the time added between."""

    def __init__(self, fan_in: int, width: int, clock: int, groups: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, fan_in), nn.Conv2d(fan_in, width, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, width), nn.Conv2d(width, width, 3, 1, 1)
        self.time, self.dropout = nn.Linear(clock, width), nn.Dropout(0.1)
        self.shortcut = nn.Identity() if fan_in == width else nn.Conv2d(fan_in, width, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        out = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(self.norm2(out))))


class PixelAttention(nn.Module):
    """Single-head self-attention over pixels, by hand (Ho et al. 2020, appendix B)."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(groups, width), nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, 1)
        weights = (q.transpose(1, 2) @ k * x.shape[1] ** -0.5).softmax(-1)
        return x + self.out((v @ weights.transpose(1, 2)).unflatten(2, x.shape[2:]))


class Diffusion(nn.Module):
    """A small denoising U-Net with sinusoidal time (Ho et al. 2020)."""

    def __init__(self, *, width: int = 64, groups: int = 8):
        super().__init__()
        self.register_buffer("frequencies", torch.exp(-torch.arange(width // 2) * 0.3))
        clock = 4 * width
        self.clock = nn.Sequential(nn.Linear(width, clock), nn.SiLU(), nn.Linear(clock, clock))
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.down1 = Step(width, width, clock, groups)
        self.halve = nn.Conv2d(width, width, 3, 2, 1)
        self.down2 = Step(width, 2 * width, clock, groups)
        self.attention = PixelAttention(2 * width, groups)
        self.up1 = Step(4 * width, 2 * width, clock, groups)
        self.widen = nn.Conv2d(2 * width, width, 3, 1, 1)
        self.up2 = Step(2 * width, width, clock, groups)
        self.norm, self.head = nn.GroupNorm(groups, width), nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        angles = time[:, None] * self.frequencies
        time = self.clock(torch.cat([angles.sin(), angles.cos()], 1))
        high = self.down1(self.stem(x), time)
        low = self.down2(self.halve(high), time)
        x = self.up1(torch.cat([self.attention(low), low], 1), time)
        x = self.widen(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.up2(torch.cat([x, high], 1), time)
        return self.head(F.silu(self.norm(x)))


class InstanceResidual(nn.Module):
    """Reflection padding, instance norm, ReLU (Johnson et al. 2016)."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def translator(*, width: int = 32, layers: int = 4) -> nn.Sequential:
    """CycleGAN's generator (Zhu et al. 2017, appendix), normal initialization of std 0.02."""
    stack: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)]
    stack += [nn.InstanceNorm2d(width), nn.ReLU()]
    for a, b in ((width, 2 * width), (2 * width, 4 * width)):
        stack += [nn.Conv2d(a, b, 3, 2, 1), nn.InstanceNorm2d(b), nn.ReLU()]
    stack += [InstanceResidual(4 * width) for _ in range(layers)]
    for a, b in ((4 * width, 2 * width), (2 * width, width)):
        stack.append(nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1))
        stack += [nn.InstanceNorm2d(b), nn.ReLU()]
    return small_normal(
        nn.Sequential(*stack, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())
    )


def small_normal(model: nn.Sequential) -> nn.Sequential:
    """Every kernel normal with standard deviation 0.02."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.02)
    return model


def autoencoder(*, width: int = 48) -> nn.Sequential:
    """Strided kernels down, transposed ones up."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


def dcgan(*, width: int = 64) -> nn.Sequential:
    """Generator of 32-pixel images (Radford et al. 2016)."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(64, 4 * width, 4, bias=False)]
    layers += [nn.BatchNorm2d(4 * width), nn.ReLU()]
    for a, b in ((4 * width, 2 * width), (2 * width, width)):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    layers += [nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()]
    return small_normal(nn.Sequential(*layers))


def critic(*, width: int = 64) -> nn.Sequential:
    """DCGAN's discriminator: strides, leaky ReLU of slope 0.2."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for a, b in ((width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
    return small_normal(nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4), nn.Flatten()))


class Sharpener(nn.Module):
    """EDSR: no norm, branches times 0.1, sub-pixel kernels (Lim et al. 2017)."""

    def __init__(self, *, width: int = 64, layers: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(layers)
        )  # fmt: skip
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2))
        self.head = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        stem = x = self.stem(x)
        for block in self.blocks:
            x = x + block(x) * 0.1
        return self.head(self.up(stem + self.body(x)))


class Pyramid(nn.Module):
    """Feature pyramid: top-down additions, one output per level (Lin et al. 2017)."""

    def __init__(self, *, width: int = 48):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(*conv_norm(a, b, 3, stride=2, act=nn.ReLU))
            for a, b in ((3, width), (width, 2 * width), (2 * width, 4 * width))
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width * 2**i, width, 1) for i in range(3))
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = []
        for stage, lateral in zip(self.stages, self.lateral, strict=True):
            x = stage(x)
            levels.append(lateral(x))
        for low in (1, 0):
            above = F.interpolate(levels[low + 1], size=levels[low].shape[2:], mode="nearest")
            levels[low] = levels[low] + above
        return tuple(one(level) for one, level in zip(self.smooth, levels, strict=True))


class Segmenter(nn.Module):
    """Dilated kernels side by side and an image-wide mean, bilinear upsampling (DeepLab v3)."""

    def __init__(self, *, width: int = 64):
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(3, width, 3, stride=2, act=nn.ReLU))
        self.one = nn.Sequential(*conv_norm(width, width, 1, act=nn.ReLU))
        self.dilated = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=d, dilation=d, bias=False),
                nn.BatchNorm2d(width), nn.ReLU(),
            )
            for d in (2, 4, 6)
        )  # fmt: skip
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.ReLU())
        self.merge = nn.Sequential(*conv_norm(5 * width, width, 1, act=nn.ReLU))
        self.head = nn.Conv2d(width, 11, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        x = self.stem(x)
        pooled = self.pooled(x).expand(-1, -1, *x.shape[2:])
        x = self.merge(torch.cat([self.one(x), *(d(x) for d in self.dilated), pooled], 1))
        return F.interpolate(self.head(x), size=size, mode="bilinear", align_corners=False)


class Stylist(nn.Module):
    """A mapping network modulates instance-normed features, with noise (StyleGAN)."""

    def __init__(self, *, width: int = 64, layers: int = 4, latent: int = 64):
        super().__init__()
        mapping: list[nn.Module] = []
        for _ in range(4):
            mapping += [nn.Linear(latent, latent), nn.LeakyReLU(0.2)]
        self.mapping = nn.Sequential(*mapping)
        self.constant = nn.Parameter(torch.randn(1, width, 4, 4))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(layers))
        self.styles = nn.ModuleList(nn.Linear(latent, 2 * width) for _ in range(layers))
        self.norm, self.head = nn.InstanceNorm2d(width), nn.Conv2d(width, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        style = self.mapping(z)
        x = self.constant.expand(len(z), -1, -1, -1)
        for place, (conv, affine) in enumerate(zip(self.convs, self.styles, strict=True)):
            if place % 2:
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = F.leaky_relu(conv(x), 0.2)
            scale, shift = affine(style)[:, :, None, None].chunk(2, 1)
            x = self.norm(x) * (1 + scale) + shift
        return self.head(x)


def noisy(batch: int, size: int):
    """Images, and a time of each."""

    def draw(generator: Generator) -> dict[str, Tensor]:
        return {
            "x": torch.randn(batch, 3, size, size, generator=generator),
            "time": 1000 * torch.rand(batch, generator=generator),
        }

    return draw


_held_out = partial(Family, seeds=64, held_out=True)
THIN = {"width": 8}

FAMILIES = {
    "unet": _held_out(UNet, images(8, 48), THIN, images(2, 16), target=NORMED),
    "diffusion-unet": _held_out(Diffusion, noisy(8, 24), {"width": 16}, noisy(2, 8),
                                note="group norm, time, attention over pixels"),
    "cyclegan-generator": _held_out(translator, images(4, 48), THIN, images(2, 16)),
    "conv-autoencoder": _held_out(autoencoder, images(8, 48), THIN, images(2, 16)),
    "dcgan-generator": _held_out(dcgan, gaussian(16, 64, 1, 1), THIN, gaussian(3, 64, 1, 1),
                                 target=NORMED),
    "dcgan-critic": _held_out(critic, images(16, 32), THIN, images(3, 32), target=NORMED),
    "edsr": _held_out(Sharpener, images(8, 24), THIN, images(2, 8)),
    "feature-pyramid": _held_out(Pyramid, images(8, 48), THIN, images(2, 16), target=NORMED),
    "deeplab": _held_out(Segmenter, images(8, 32), THIN, images(2, 16), target=NORMED),
    "stylegan": _held_out(Stylist, gaussian(16, 64), THIN, gaussian(3, 64)),
}  # fmt: skip
