"""Do the early layers of a convolutional network see higher-level features?

A small convolutional network, trained. A unit of its first layer sees a few pixels, one of its last
most of the image. How much of a channel's variance over images the class explains, and how well a
linear readout of each layer tells the classes, rise from layer to layer: early layers see low-level
features, edges and colors, whatever the class, and later ones what classes have in common.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.lab import figures
from isograd.lab.expected import above, exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import initialize, seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result


@dataclass(frozen=True)
class EarlyFeatures(Experiment):
    code: ClassVar[str] = "early-features"
    data: ClassVar[tuple[str, ...]] = ("cifar10", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.25",
            "wrong",
            "Lower-level ones. What a layer tells of the class rises with depth: the first "
            "layer's channels hardly depend on it, the last one's do. (The essay's original has "
            "'more fundamental', which is right.)",
            (
                above(
                    "class_share_ratio",
                    1.4,
                    "what the class explains of the last layer, over the first",
                ),
                exactly(
                    "seen_first", "kernel", "pixels across that a unit of the first layer sees"
                ),
                above("seen_last", "seen_first", "fields grow with depth"),
                above("readout_gain", 0.05, "linear readout of the last layer over the first"),
                above("accuracy", 0.4, "0.5 on 8,000 images of CIFAR-10, chance is 0.1"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 60}}

    steps: int = 800
    """Of training, batches of 100."""
    images: int = 8000
    """Training images."""
    lr: float = 0.05
    """Learning rate; momentum 0.9."""
    channels: tuple[int, ...] = (16, 32, 32, 64)
    """Of the convolutions; the image is halved after the first and the second."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.take(self.images, 2000).standardized()
        kernel = 5 if data.inputs.shape[-1] > 16 else 3
        with seeded(bench.seed):
            net = convnet(data.inputs.shape[1], self.channels, kernel)
            initialize(net, "he")
        trained = train([net], data, steps=self.steps, lr=self.lr, seed=bench.seed)
        layers = features(trained.models[0], data)
        shares = [class_share(test, data.test_labels) for _, test in layers]
        scores = [readout(fit, data.labels, test, data.test_labels) for fit, test in layers]
        fields = [seen(trained.models[0], data.inputs[:50], k + 1) for k in range(len(shares))]
        numbers: dict[str, Any] = {
            "accuracy": trained.accuracy[0],
            "class_share_ratio": shares[-1] / shares[0],
            "readout_gain": scores[-1] - scores[0],
            "kernel": kernel,
            "seen_first": fields[0],
            "seen_last": fields[-1],
        }
        series = {"shares": shares, "scores": scores, "fields": fields}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (field, explained, told_apart) = figures.new(
            f"The class explains {told['shares'][0]:.0%} of the first layer's variance and "
            f"{told['shares'][-1]:.0%} of the last one's: early features are low-level",
            3,
            width=4.9,
        )
        layers = list(range(1, len(told["shares"]) + 1))
        figures.measured(field, layers, told["fields"], 2, joined=True)
        field.set(xlabel="convolution", ylabel="pixels across", ylim=(0, None))
        field.set_xticks(layers)
        field.set_title("what one unit sees of the image")
        figures.measured(explained, layers, told["shares"], 0, joined=True)
        explained.set(xlabel="convolution", ylabel="share of variance over images", ylim=(0, None))
        explained.set_xticks(layers)
        explained.set_title("what the class explains of a channel")
        figures.measured(told_apart, layers, told["scores"], 1, joined=True)
        told_apart.axhline(
            numbers["accuracy"], color=figures.GRAY, linestyle=":", label="the network"
        )
        told_apart.set(xlabel="convolution", ylabel="right on the test set")
        told_apart.set_xticks(layers)
        told_apart.set_title("a linear readout of its channels")
        told_apart.legend(loc="lower right")
        return figure


def convnet(inputs: int, channels: tuple[int, ...], kernel: int) -> nn.Sequential:
    """Convolutions with batch norm and ReLU, two poolings, the mean over the map, a head."""
    layers: list[nn.Module] = []
    for index, width in enumerate(channels):
        layers += [
            nn.Conv2d(inputs, width, kernel if index == 0 else 3, padding="same"),
            nn.BatchNorm2d(width),
        ]
        layers += [nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if index in (0, 1) else []
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def seen(net: nn.Module, inputs: Tensor, count: int) -> int:
    """Pixels across that a middle unit of the count-th convolution depends on."""
    x = inputs.clone().requires_grad_()
    out = x
    for module in net.children():
        out = module(out)
        count -= isinstance(module, nn.Conv2d)
        if not count:
            break
    middle = out.shape[-1] // 2
    (gradient,) = torch.autograd.grad(out[..., middle, middle].abs().sum(), x)
    return int((gradient != 0).any(0).any(0).any(0).sum())


@torch.no_grad()
def features(net: nn.Module, data: "Images") -> list[tuple[Tensor, Tensor]]:
    """Mean of every channel over the map, of train and test images, after every ReLU."""
    found = []
    x, test = data.inputs[:2000], data.test_inputs
    for module in net.children():
        x, test = module(x), module(test)
        if isinstance(module, nn.ReLU):
            found.append((x.mean((2, 3)), test.mean((2, 3))))
    return found


def class_share(x: Tensor, labels: Tensor) -> float:
    """Variance of the class means over the variance, summed over channels of equal variance."""
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    return sum(
        float((labels == c).double().mean() * x[labels == c].mean(0).square().mean())
        for c in labels.unique()
    )


def readout(fit: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> float:
    """Accuracy of a linear least-squares readout."""
    mean, std = fit.mean(0), fit.std(0).clamp_min(1e-6)
    a = torch.cat([(fit - mean) / std, torch.ones(len(fit), 1)], 1).double()
    b = torch.cat([(test - mean) / std, torch.ones(len(test), 1)], 1).double()
    wanted = F.one_hot(labels[: len(fit)]).double()
    ridge = 1e-2 * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
    weights = torch.linalg.solve(a.T @ a + ridge, a.T @ wanted)
    return float(((b @ weights).argmax(1) == truth).double().mean())
