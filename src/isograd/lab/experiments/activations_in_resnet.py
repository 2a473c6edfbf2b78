"""How much does the choice of the activation matter in a residual convolutional network?

The same ResNet with nine activations, as in the table of the Swish paper. With norms in every block
and skips around them the modern ones differ by little more than the seeds do. At the scale `full`
it is ResNet-20 on all of CIFAR-10.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from isograd.lab import figures
from isograd.lab.convolutional import fit, resnet, small
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class ActivationsInResnet(Experiment):
    code: ClassVar[str] = "activations-in-resnet"
    data: ClassVar[tuple[str, ...]] = ("cifar10", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "H2",
            "true",
            "In a residual network with norms: the paper's nine lie within 2 points of each other "
            "at 94 to 95 %.",
            (
                below("spread", 0.2, "few steps and one or two seeds", at=("fast",)),
                below("spread", 0.12, "few steps and two seeds", at=("standard",)),
                below("spread", 0.03, "1.7 points in the paper's table", at=("full",)),
                above("worst", 0.25, "all of them learn; chance is 0.1"),
            ),
        ),
    )
    scales: ClassVar = {
        "fast": {
            "activations": ("relu", "gelu", "elu"),
            "width": 4,
            "images": 1000,
            "steps": 60,
            "seeds": 1,
        },
        "full": {
            "depth": 20,
            "width": 16,
            "images": 50_000,
            "size": 32,
            "steps": 4700,
            "batch": 128,
            "augment": True,
        },
    }

    activations: tuple[str, ...] = (
        "relu",
        "leaky_relu",
        "elu",
        "selu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "tanh",
    )
    """Of all blocks."""
    depth: int = 8
    """Weight layers, 6 n + 2."""
    width: int = 8
    """Channels of the first stage."""
    images: int = 5000
    """Training images."""
    size: int = 16
    """Pixels across; larger images are averaged."""
    steps: int = 250
    """Of training."""
    batch: int = 64
    """Samples per step."""
    lr: float = 0.1
    """The largest learning rate of the cycle."""
    augment: bool = False
    """Whether images are shifted and mirrored."""
    seeds: int = 2
    """Networks per activation."""

    def run(self, bench: "Bench") -> Measured:
        data = small(bench.data.take(self.images, 10_000), self.size).standardized()
        rows: list[list[float]] = []
        for activation in self.activations:
            rows.append([])
            for seed in range(self.seeds):
                net = resnet(
                    data.inputs.shape[1],
                    self.depth,
                    width=self.width,
                    activation=activation,
                    seed=bench.seed + seed,
                )
                fitted = fit(
                    net,
                    data,
                    steps=self.steps,
                    batch=self.batch,
                    lr=self.lr,
                    device=bench.device,
                    seed=bench.seed + seed,
                    augment=self.augment,
                )
                rows[-1].append(1 - fitted.test_error)
        scores = torch.tensor(rows)
        mean = scores.mean(1)
        numbers: dict[str, Any] = {
            f"accuracy_{name}": value for name, value in zip(self.activations, mean, strict=True)
        }
        numbers |= {
            "best": mean.max(),
            "worst": mean.min(),
            "spread": mean.max() - mean.min(),
            "spread_of_seeds": (scores.amax(1) - scores.amin(1)).mean(),
        }
        return Measured(numbers, {"scores": scores})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        names = list(result.settings["activations"])
        order = sorted(range(len(names)), key=lambda i: numbers[f"accuracy_{names[i]}"])
        figure, (axes,) = figures.new(
            f"ResNet-{result.settings['depth']}: {len(names)} activations lie within "
            f"{100 * numbers['spread']:.1f} points, two seeds of one within "
            f"{100 * numbers['spread_of_seeds']:.1f}",
        )
        for place, index in enumerate(order):
            scores = told["scores"][index]
            axes.plot([min(scores), max(scores)], [place, place], color=figures.GRAY, linewidth=1.5)
            figures.measured(axes, scores, [place] * len(scores), 0)
        axes.set_yticks(range(len(order)), [names[i] for i in order])
        axes.set(xlabel="right on the test set")
        axes.set_title(f"{result.data}, {result.settings['images']} images")
        return figure
