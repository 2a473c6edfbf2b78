"""Image classifiers."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patients.architectures.family import NORMED, Family, gaussian, images
from patients.architectures.mobile import SqueezeExcite, conv_norm
from patients.architectures.resnets import ResNet, conv, he_fan_out


def lenet(*, width: int = 1) -> nn.Sequential:
    """Convolution, ReLU, pool (LeCun et al. 1998, with today's activation)."""
    return nn.Sequential(
        nn.Conv2d(1, 6 * width, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6 * width, 16 * width, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400 * width, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def alexnet(*, shrink: int = 1) -> nn.Sequential:
    """With overlapping pools, response norm and grouped kernels (Krizhevsky et al. 2012)."""
    a, b, c = 96 // shrink, 256 // shrink, 384 // shrink
    return nn.Sequential(
        nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.LocalResponseNorm(5, k=2.0), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2, groups=2), nn.ReLU(), nn.LocalResponseNorm(5, k=2.0),
        nn.MaxPool2d(3, 2), nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, c, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(c, b, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Dropout(), nn.Linear(4 * b, 1024), nn.ReLU(), nn.Dropout(), nn.Linear(1024, 100),
    )  # fmt: skip


class Branch(nn.Module):
    """Adds a branch to a shortcut, then ReLU, as ResNets do; the branch is given."""

    def __init__(self, branch: list[nn.Module], shortcut: list[nn.Module]):
        super().__init__()
        self.branch, self.shortcut = nn.Sequential(*branch), nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


def squeezed(fan_in: int, width: int, stride: int) -> Branch:
    """A basic block with squeeze-and-excitation (Hu et al. 2018)."""
    branch = conv_norm(fan_in, width, 3, stride=stride, act=nn.ReLU) + conv_norm(width, width, 3)
    branch.append(SqueezeExcite(width, max(1, width // 16), nn.ReLU))
    same = fan_in == width and stride == 1
    return Branch(branch, [] if same else conv_norm(fan_in, width, 1, stride=stride))


def grouped(fan_in: int, width: int, stride: int, groups: int = 32) -> Branch:
    """ResNeXt's bottleneck of 32 groups (Xie et al. 2017)."""
    inner, wide = 2 * width, 4 * width
    branch = conv_norm(fan_in, inner, 1, act=nn.ReLU)
    branch += conv_norm(inner, inner, 3, stride=stride, groups=min(groups, inner), act=nn.ReLU)
    branch += conv_norm(inner, wide, 1)
    same = fan_in == wide and stride == 1
    return Branch(branch, [] if same else conv_norm(fan_in, wide, 1, stride=stride))


def anti_aliased(fan_in: int, width: int, stride: int) -> Branch:
    """Strides by average pools, in branch and shortcut (He et al. 2019, ResNet-D)."""
    pool = [nn.AvgPool2d(stride)] if stride > 1 else []
    branch = conv_norm(fan_in, width, 3, act=nn.ReLU) + pool + conv_norm(width, width, 3)
    same = fan_in == width and stride == 1
    return Branch(branch, [] if same else [*pool, *conv_norm(fan_in, width, 1)])


def group_norm(fan_in: int, width: int, stride: int, groups: int = 8) -> Branch:
    """A basic block with group norm (Wu and He 2018)."""
    branch = [conv(fan_in, width, 3, stride), nn.GroupNorm(groups, width), nn.ReLU()]
    branch += [conv(width, width, 3), nn.GroupNorm(groups, width)]
    same = fan_in == width and stride == 1
    short = [] if same else [conv(fan_in, width, 1, stride), nn.GroupNorm(groups, width)]
    return Branch(branch, short)


class PreActivation(nn.Module):
    """Norm, ReLU, convolution, twice, dropout between (Zagoruyko and Komodakis 2016)."""

    def __init__(self, fan_in: int, width: int, stride: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(fan_in), conv(fan_in, width, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(width), conv(width, width, 3)
        self.dropout = nn.Dropout(0.3)
        same = fan_in == width and stride == 1
        self.shortcut = None if same else conv(fan_in, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(inner)
        return skip + self.conv2(self.dropout(F.relu(self.norm2(self.conv1(inner)))))


class StandardConv(nn.Conv2d):
    """Kernels standardized per output (Brock et al. 2021, equation 1), with a learned gain."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int, stride: int = 1):
        super().__init__(fan_in, fan_out, kernel, stride, kernel // 2)
        self.gain = nn.Parameter(torch.ones(fan_out, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        var = self.weight.var((1, 2, 3), keepdim=True)
        fan_in = self.weight[0].numel()
        weight = (self.weight - mean) * torch.rsqrt(var * fan_in + 1e-4) * self.gain
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class NormFree(nn.Module):
    """A residual block that keeps its variance by known factors (section 3)."""

    GAMMA = (2 / (1 - 1 / torch.pi)) ** 0.5  # unit variance after ReLU

    def __init__(self, width: int, *, beta: float, alpha: float = 0.2):
        super().__init__()
        self.beta, self.alpha = beta, alpha
        self.conv1, self.conv2 = StandardConv(width, width, 3), StandardConv(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.GAMMA * F.relu(x / self.beta))
        return x + self.alpha * self.conv2(self.GAMMA * F.relu(out))


def norm_free(*, width: int = 64, layers: int = 8) -> nn.Sequential:
    blocks = [NormFree(width, beta=(1 + 0.04 * i) ** 0.5) for i in range(layers)]
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(StandardConv(3, width, 3, 2), *blocks, *head)


class Shuffle(nn.Module):
    """Half of the channels is worked on, then all are interleaved (Ma et al. 2018)."""

    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            *conv_norm(half, half, 1, act=nn.ReLU), *conv_norm(half, half, 3, groups=half),
            *conv_norm(half, half, 1, act=nn.ReLU),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.chunk(2, 1)
        x = torch.cat([kept, self.branch(worked)], 1)
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class Inception(nn.Module):
    """Four branches side by side (Szegedy et al. 2015, figure 2b)."""

    def __init__(self, fan_in: int, width: int):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(fan_in, width, 1), nn.ReLU())
        self.three = nn.Sequential(
            nn.Conv2d(fan_in, width, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
        )  # fmt: skip
        self.five = nn.Sequential(
            nn.Conv2d(fan_in, width // 2, 1), nn.ReLU(),
            nn.Conv2d(width // 2, width, 5, padding=2), nn.ReLU(),
        )  # fmt: skip
        self.pool = nn.Sequential(
            nn.MaxPool2d(3, 1, 1), nn.Conv2d(fan_in, width // 2, 1), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


def inception(*, width: int = 48, layers: int = 5) -> nn.Sequential:
    stack: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    fan_in = width
    for _ in range(layers):
        stack.append(Inception(fan_in, width))
        fan_in = width + 2 * width + width + width // 2
    return nn.Sequential(*stack, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(fan_in, 10))


def classifier(stem: list[nn.Module], blocks: list[nn.Module], width: int) -> nn.Sequential:
    """Blocks between a stem and a mean over space; He's initialization by fan-out."""
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    model = nn.Sequential(*stem, *blocks, *head)
    he_fan_out(model)
    return model


def shuffle(*, width: int = 128, layers: int = 8) -> nn.Sequential:
    return classifier(
        conv_norm(3, width, 3, stride=2, act=nn.ReLU),
        [Shuffle(width) for _ in range(layers)],
        width,
    )


def wide(*, width: int = 96, layers: int = 6) -> nn.Sequential:
    blocks = [PreActivation(width, width, 1) for _ in range(layers)]
    blocks.insert(layers // 2, PreActivation(width, width, 2))
    return classifier([conv(3, width, 3)], [*blocks, nn.BatchNorm2d(width), nn.ReLU()], width)


class Mixing(nn.Module):
    """A depthwise residual and a pointwise convolution (ConvMixer, Trockman and Kolter 2022)."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width), nn.GELU(), nn.BatchNorm2d(width)
        )
        self.pointwise = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(x + self.depthwise(x))


def conv_mixer(*, width: int = 128, layers: int = 6) -> nn.Sequential:
    stem = [nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.BatchNorm2d(width)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*stem, *[Mixing(width) for _ in range(layers)], *head)


class Mixer(nn.Module):
    """Perceptrons over tokens and over channels (Tolstikhin et al. 2021)."""

    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(
            nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens)
        )
        self.channels = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class MLPMixer(nn.Module):
    def __init__(self, *, width: int = 256, layers: int = 8, size: int = 64, patch: int = 8):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        tokens = (size // patch) ** 2
        self.layers = nn.Sequential(*[Mixer(tokens, width) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.layers(x)).mean(1))


def volumes(*, width: int = 32) -> nn.Sequential:
    """Three-dimensional kernels."""
    return nn.Sequential(
        nn.Conv3d(1, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(width, 2 * width, 3, padding=1), nn.BatchNorm3d(2 * width), nn.ReLU(),
        nn.AvgPool3d(2), nn.Conv3d(2 * width, 4 * width, 3, padding=1), nn.ELU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4 * width, 10),
    )  # fmt: skip


SHRUNK = {"shrink": 8}


def _resnet(block, counts: tuple[int, ...], expansion: int, note: str, **settings) -> Family:
    build = partial(ResNet, block, counts, expansion, classes=100)
    settings = {"target": NORMED, "seeds": 32} | settings
    return Family(build, images(8, 64), SHRUNK, images(2, 64), note=note, held_out=True, **settings)


def _family(build, size: int, small: dict[str, int], **settings) -> Family:
    settings = {"seeds": 64} | settings
    return Family(build, images(8, size), small, images(2, size), held_out=True, **settings)


FAMILIES = {
    "lenet": Family(lenet, images(32, 28, 1), small_inputs=images(2, 28, 1), seeds=512,
                    note="6 and 16 channels", held_out=True),
    "lenet-wide": Family(partial(lenet, width=8), images(16, 28, 1), {"width": 1},
                         images(2, 28, 1), seeds=512, note="8 times as wide", held_out=True),
    "alexnet": _family(alexnet, 96, {"shrink": 16}, note="response norm, overlapping pools"),
    "se-resnet18": _resnet(squeezed, (2, 2, 2, 2), 1, "squeeze-and-excitation"),
    "resnext26": _resnet(grouped, (2, 2, 2, 2), 4, "32 groups"),
    "resnet18-d": _resnet(anti_aliased, (2, 2, 2, 2), 1, "strides by average pools"),
    "resnet18-group-norm": _resnet(partial(group_norm), (2, 2, 2, 2), 1, "group norm"),
    "wide-resnet": _family(wide, 32, {"width": 8}, seeds=24, target=NORMED,
                           note="pre-activation, dropout"),
    "nf-resnet": _family(norm_free, 32, {"width": 8}, note="no norm, standardized kernels"),
    "shufflenet": _family(shuffle, 32, {"width": 8}, target=NORMED, note="channel shuffle"),
    "inception": _family(inception, 64, {"width": 8}, note="branches side by side, no norm"),
    "convmixer": _family(conv_mixer, 64, {"width": 8}, target=NORMED),
    "mlp-mixer": _family(MLPMixer, 64, {"width": 16, "size": 64}, seeds=24),
    "volumes": Family(volumes, gaussian(8, 1, 16, 16, 16), {"width": 4},
                      gaussian(2, 1, 8, 8, 8), seeds=64, target=NORMED, held_out=True),
}  # fmt: skip
