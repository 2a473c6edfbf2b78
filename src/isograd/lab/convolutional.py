"""Convolutional networks of the headline experiments, and their training on any device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.lab.images import Images
from isograd.lab.networks import ACTIVATIONS, initialize, seeded


class ConvBranch(nn.Module):
    """carry(x) + f(x): norm, activation, convolution, twice; without the skip, f(x) alone.

    The carry is the identity, or, where the map shrinks, its mean over 2 x 2 with channels of zeros
    added (He et al. 2015, option A), so that no skip has weights.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, act: Callable[[], nn.Module], *, skip: bool
    ) -> None:
        super().__init__()
        self.f = nn.Sequential(
            nn.BatchNorm2d(inputs),
            act(),
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            act(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        )
        self.carry = Carry(outputs - inputs, stride)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        """The stream after this block."""
        inner: Tensor = self.f(x)
        return self.carry(x) + inner if self.skip else inner


class Carry(nn.Module):
    """The skip of a block: no weights, channels of zeros where there are more of them behind it."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more = more
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """What of the stream passes beside the branch."""
        x = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        return F.pad(x, (0, 0, 0, 0, 0, self.more)) if self.more else x


def resnet(
    channels: int,
    depth: int,
    *,
    width: int = 16,
    activation: str = "relu",
    skip: bool = True,
    seed: int = 0,
) -> nn.Sequential:
    """A pre-activation network for small images (He et al. 2016): 6 n + 2 weight layers.

    Args:
        channels: of the images.
        depth: weight layers, 6 n + 2.
        width: channels of the first of three stages; it doubles twice.
        activation: a key of ACTIVATIONS.
        skip: False for the same layers without skips.
        seed: of the draw.
    """
    act = ACTIVATIONS[activation]
    with seeded(seed):
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        inputs = width
        for stage in range(3):
            outputs = width * 2**stage
            for block in range((depth - 2) // 6):
                stride = 2 if stage and not block else 1
                layers.append(ConvBranch(inputs, outputs, stride, act, skip=skip))
                inputs = outputs
        end = [nn.BatchNorm2d(inputs), act(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        model = nn.Sequential(*layers, *end, nn.Linear(inputs, 10))
        initialize(model, "he")
    return model


@dataclass(frozen=True)
class Fitted:
    """What a training did; the network itself was trained in place."""

    losses: list[float]
    """Training loss, mean of every tenth of the steps."""
    train_error: float
    """Share of wrong answers on training samples, in eval mode."""
    test_error: float
    """The same on test samples."""


def fit(
    net: nn.Module,
    data: Images,
    *,
    steps: int,
    batch: int,
    lr: float,
    device: torch.device,
    seed: int,
    augment: bool = False,
) -> Fitted:
    """Trains a network by SGD with momentum 0.9, weight decay 1e-4, and a one-cycle schedule.

    Args:
        net: put on the device and left there.
        data: images.
        steps: of training.
        batch: samples per step.
        lr: the largest learning rate.
        device: where; on a GPU in bfloat16 with channels last.
        seed: of the order of the samples and of the shifts.
        augment: whether images are shifted by up to an eighth and mirrored, batch by batch.
    """
    fast = device.type == "cuda"
    data = data.to(device)
    net.to(device).train()
    if fast:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.2)
    stream = torch.Generator().manual_seed(seed)
    losses = []
    for x, y in data.batches(steps, batch, seed=seed):
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            loss = F.cross_entropy(net(shifted(x, stream) if augment else x), y)
        loss.backward()
        optimizer.step()
        cycle.step()
        losses.append(loss.detach())
    rows = torch.stack(losses).float().cpu()
    parts = [float(part.mean()) for part in rows.chunk(10)]
    seen = slice(0, 10_000)
    return Fitted(
        parts,
        wrong(net, data.inputs[seen], data.labels[seen]),
        wrong(net, data.test_inputs, data.test_labels),
    )


@torch.no_grad()
def wrong(net: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of wrong answers in eval mode."""
    net.eval()
    misses = [
        int((net(x).argmax(1) != y).sum())
        for x, y in zip(inputs.split(500), labels.split(500), strict=True)
    ]
    return sum(misses) / len(labels)


def shifted(x: Tensor, stream: torch.Generator) -> Tensor:
    """A batch of images shifted together, and mirrored or not."""
    reach = max(1, x.shape[-1] // 8)
    down, right = torch.randint(-reach, reach + 1, (2,), generator=stream).tolist()
    padded = F.pad(x, (reach,) * 4)
    moved = padded[..., reach + down :, reach + right :][..., : x.shape[-2], : x.shape[-1]]
    return moved.flip(-1) if torch.rand((), generator=stream) < 0.5 else moved


def small(data: Images, size: int) -> Images:
    """The images at another size, by averaging; as they are where they are no larger."""
    if data.inputs.shape[-1] <= size:
        return data
    return Images(
        data.name,
        F.adaptive_avg_pool2d(data.inputs, size),
        data.labels,
        F.adaptive_avg_pool2d(data.test_inputs, size),
        data.test_labels,
        data.largest,
    )
