"""Does a ReLU ever meet an input of exactly zero?

The pre-activations of a first convolution with zero biases on images: from 0 to 1 as they come, and
standardized. Then what frameworks take for the derivative at exactly 0. Black borders are exactly
0, and so is what a convolution without bias makes of them: more than half of all pre-activations of
MNIST. The derivative there is a convention, 0 for ReLU and 1 for ELU, and no small number.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import initialize, seeded
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

AT_ZERO = {
    "relu": nn.ReLU(),
    "leaky": nn.LeakyReLU(),
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "hardtanh": nn.Hardtanh(0.0, 1.0),
}


@dataclass(frozen=True)
class ExactZeros(Experiment):
    code: ClassVar[str] = "exact-zeros"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.28",
            "wrong",
            "At 0 frameworks take one of the one-sided derivatives: 0 for ReLU, 0.01 for a leaky "
            "one, 1 for ELU. And zeros are common wherever images have black borders and layers no "
            "bias.",
            (
                exactly("slope_relu", 0.0, "torch's convention"),
                near("slope_leaky", 0.01, "torch's convention", abs=1e-8),
                exactly("slope_elu", 1.0, "torch's convention"),
                near("zeros_unit", 0.605, "He's convolution of 3 x 3 on MNIST; a property of "
                     "its borders", abs=0.03, on=("mnist",)),
                above("zeros_unit", 0.01, "digits fill nearly all of 8 x 8", on=("digits",)),
                below("zeros_standardized", 1e-3, "zero pixels become -0.42"),
            ),
        ),
        Answer(
            "X12",
            "true",
            "Six in ten; none once the images are standardized.",
            (
                above("zeros_unit", 0.5, "more than half", on=("mnist",)),
                above("zeros_unit", 0.01, "digits fill nearly all of 8 x 8", on=("digits",)),
                above("isograd_zero", "zeros_unit", "isograd's forward.zero after the ReLU counts "
                      "them and the negative half"),
            ),
        ),
    )  # fmt: skip

    channels: int = 16
    """Of the convolution."""
    images: int = 500
    """Looked at."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.take(self.images)
        numbers: dict[str, Any] = {}
        for name, one in AT_ZERO.items():
            x = torch.zeros(1, requires_grad=True)
            (slope,) = torch.autograd.grad(one(x).sum(), x)
            numbers[f"slope_{name}"] = slope[0]
        with seeded(bench.seed):
            conv = nn.Conv2d(data.inputs.shape[1], self.channels, 3)
            initialize(conv, "he")
            head = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
            net = nn.Sequential(conv, nn.ReLU(), head)
            net(data.inputs[:2])
        maps = {}
        for name, made in (("unit", data.scaled()), ("standardized", bench.data.standardized())):
            images = made.inputs[: self.images]
            with torch.no_grad():
                zero = conv(images) == 0
            numbers[f"zeros_{name}"] = zero.double().mean()
            maps[name] = zero.double().mean((0, 1))
            if name == "unit":
                record = measure(net, (images, data.labels))
                numbers["isograd_zero"] = record.value("forward.zero", 1)
        rounded = {k: (100 * m).round().int() for k, m in maps.items()}
        return Measured(numbers, {"maps": rounded, "image": data.scaled().inputs[0, 0]})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (image, where, bars) = figures.new(
            f"{numbers['zeros_unit']:.0%} of a first convolution's pre-activations are exactly 0; "
            f"standardized, {numbers['zeros_standardized']:.0%}",
            3,
            width=4.2,
            height=4.0,
        )
        image.imshow(told["image"], cmap="gray")
        image.axis("off")
        image.set_title("an image: black is exactly 0")
        shown = where.imshow(told["maps"]["unit"], cmap="cividis", vmin=0, vmax=100)
        where.axis("off")
        where.set_title("where pre-activations are 0, %")
        figure.colorbar(shown, ax=where, shrink=0.8)
        keys = ("unit", "standardized")
        heights = [numbers[f"zeros_{k}"] for k in keys]
        made = bars.bar(range(2), heights, 0.5, color=figures.COLORS[:2])
        bars.bar_label(made, [f"{h:.1%}" for h in heights])
        bars.set_xticks(range(2), ["0 to 1", "standardized"])
        bars.set(ylim=(0, 1), ylabel="exactly 0")
        bars.set_title("pre-activations")
        return figure
