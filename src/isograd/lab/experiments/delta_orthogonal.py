"""Can a plain convolutional tanh network of hundreds of layers train?

Convolutions without skips or norms: kernels that are zero but for an orthogonal matrix in the
middle (delta-orthogonal), Gaussian kernels with the same gain, and delta kernels of Gaussian
weights. Gradients layer by layer, singular values beside theory for the matrices, and training. The
first kind keeps every direction of signal and gradient near 1, and trains; the others lose them.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, between
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import classify, seeded
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

KINDS = ("delta-orthogonal", "delta, Gaussian", "Gaussian kernels")


@dataclass(frozen=True)
class DeltaOrthogonal(Experiment):
    code: ClassVar[str] = "delta-orthogonal"
    data: ClassVar[tuple[str, ...]] = ("digits",)
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "H9",
            "true",
            "At the depth that fits into a minute here; the law does not know of a depth. Gaussian "
            "weights of the same gain train far worse or not at all.",
            (
                above("right_delta-orthogonal", 0.6, "accuracy; chance is 0.1"),
                above("right_delta-orthogonal", "right_Gaussian kernels", "the same gain"),
                above("right_delta-orthogonal", "others", "best of the other two, and 0.05",
                      at=("standard",)),
                between("gradient_delta-orthogonal", 0.05, 20.0, "first over last layer"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {
        "fast": {"depth": 36, "steps": 40},
        "full": {"depth": 1000, "channels": 64, "steps": 2000, "lr": 0.001},
    }

    depth: int = 100
    """Convolutions of 3 x 3."""
    channels: int = 16
    """Of each."""
    gain: float = 1.02
    """A little above the critical 1, so that the signal does not fade."""
    steps: int = 80
    """Of training, batches of 50."""
    lr: float = 0.01
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.standardized().to(bench.device)
        batch = data.inputs[:100], data.labels[:100]
        numbers: dict[str, Any] = {}
        gradients, losses = {}, {}
        for kind in KINDS:
            net = self._make(kind, data, bench.seed).to(bench.device)
            record = measure(net, batch)
            gradients[kind] = [
                float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[1:-1]
            ]
            numbers[f"gradient_{kind}"] = gradients[kind][0] / gradients[kind][-1]
            optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9)
            batches = data.batches(self.steps, 50, seed=bench.seed)
            losses[kind], numbers[f"right_{kind}"] = classify(net, data, optimizer, batches)
        numbers["others"] = 0.05 + max(numbers[f"right_{kind}"] for kind in KINDS[1:])
        return Measured(numbers, {"gradients": gradients, "losses": losses})

    def _make(self, kind: str, data: "Images", seed: int) -> nn.Sequential:
        c = self.channels
        with seeded(seed):
            layers: list[nn.Module] = [nn.Conv2d(data.inputs.shape[1], c, 1), nn.Tanh()]
            for _ in range(self.depth):
                conv = nn.Conv2d(c, c, 3, padding=1)
                middle = torch.empty(c, c)
                with torch.no_grad():
                    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # it has one
                    conv.weight.zero_()
                    if kind == "delta-orthogonal":
                        conv.weight[:, :, 1, 1] = nn.init.orthogonal_(middle, self.gain)
                    elif kind == "delta, Gaussian":
                        conv.weight[:, :, 1, 1] = middle.normal_(std=self.gain / c**0.5)
                    else:
                        conv.weight.normal_(std=self.gain / (9 * c) ** 0.5)
                layers += [conv, nn.Tanh()]
            return nn.Sequential(
                *layers, nn.AvgPool2d(2), nn.Flatten(),
                nn.Linear(c * data.inputs[0, 0].numel() // 4, 10),
            )  # fmt: skip

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (back, course) = figures.new(
            f"{self.depth} plain tanh convolutions: {numbers['right_delta-orthogonal']:.0%} right "
            f"after {self.steps} steps from delta-orthogonal kernels, "
            f"{numbers['right_Gaussian kernels']:.0%} from Gaussian ones",
            2,
        )
        for index, kind in enumerate(KINDS):
            values = [v / told["gradients"][kind][-1] for v in told["gradients"][kind]]
            layers = list(range(1, len(values) + 1))
            every = max(1, len(layers) // 16)
            figures.measured(back, layers[::every], values[::every], index, label=kind)
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            course.plot(told["losses"][kind], label=kind, **style)
        figures.theory(back, layers, [1.0] * len(layers), label="isometry")
        back.set(yscale="log", xlabel="layer", ylabel="gradient, over the last")
        back.set_title("before training")
        back.legend(loc="lower right")
        course.axhline(math.log(10), color="black", linewidth=1, linestyle=":")
        course.set(xlabel="step", ylabel="training loss", ylim=(0, None))
        course.set_title("training; dotted: chance")
        course.legend(loc="lower left")
        return figure
