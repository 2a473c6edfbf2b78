"""How much deeper is ResNet-152 than VGG-19, and what does it pay for it?

Both networks on the meta device, where nothing is allocated: their parameters and multiplications
counted, and signal and gradient predicted by isograd at every layer. With eight times the depth the
residual network has half of the parameters and of the multiplications. The same 152 layers without
skips would begin with a gradient that explodes through their batch norms.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import initialize
from isograd.prediction.predicting import predict
from isograd.prediction.recording import recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

VGG = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
COUNTED = "counted from the architecture; no tolerance"


@dataclass(frozen=True)
class DepthOfClassics(Experiment):
    code: ClassVar[str] = "depth-of-classics"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.24",
            "true",
            "152 weight layers against 19, with 60 against 144 million parameters and 11.5 "
            "against 19.6 billion multiplications. He et al. report a top-5 error on ImageNet of "
            "4.49 % for it; that is not measured here. What depth would cost without skips is.",
            (
                exactly("layers_resnet", 152, COUNTED),
                exactly("layers_vgg", 19, COUNTED),
                exactly("parameters_resnet", 60_192_808, COUNTED),
                exactly("parameters_vgg", 143_667_240, COUNTED),
                near("multiplications_resnet", 11.5e9, "He et al. count 11.3e9", rel=0.02),
                near("multiplications_vgg", 19.6e9, "as the paper has it", rel=0.01),
                above(
                    "growth_plain",
                    1e6,
                    "batch norm and ReLU: 1.2 per layer, 150 layers",
                    at=("standard",),
                ),
                above("growth_plain", 20.0, "likewise, fewer blocks", at=("fast",)),
                below("growth_resnet", 1e3, "with skips, over its first to its last block"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"stages": (2, 2, 4, 2)}}

    stages: tuple[int, ...] = (3, 8, 36, 3)
    """Blocks of the residual network whose signal is predicted; three layers each."""

    def run(self, bench: "Bench") -> Measured:
        with torch.device("meta"):
            deep, vgg = resnet((3, 8, 36, 3)), vgg_net(VGG[19])
            x = torch.empty(1, 3, 224, 224)
        numbers: dict[str, Any] = {}
        for name, net in (("resnet", deep), ("vgg", vgg)):
            weights = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            # Projections of skips lie beside the depth, not in it.
            beside = sum("shortcut.0" in key for key, _ in net.named_modules())
            with FlopCounterMode(display=False) as counter:
                net(x)
            numbers |= {
                f"layers_{name}": len(weights) - beside,
                f"parameters_{name}": sum(p.numel() for p in net.parameters()),
                f"multiplications_{name}": counter.get_total_flops() / 2,
            }
        profiles = {}
        for name, skip in (("resnet", True), ("plain", False)):
            with recording():
                planned = initialize(resnet(self.stages, skip=skip), "he")
            stream = bench.generator()
            labels = torch.randint(1000, (16,), generator=stream)
            record = predict(planned, (torch.randn(16, 3, 64, 64, generator=stream), labels))
            sites = [i for i, one in enumerate(record.sites) if one.name.endswith(".c1")]
            profiles[name] = [float(record.value("backward.rms", i) or math.nan) for i in sites]
            numbers[f"growth_{name}"] = profiles[name][0] / profiles[name][-1]
        return Measured(numbers, {"profiles": profiles})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (sizes, back) = figures.new(
            "ResNet-152: eight times as deep as VGG-19, with "
            f"{numbers['parameters_resnet'] / numbers['parameters_vgg']:.0%} of its parameters; "
            f"without skips its gradient would grow {numbers['growth_plain']:.0e}-fold",
            2,
        )
        for index, (key, name) in enumerate((("resnet", "ResNet-152"), ("vgg", "VGG-19"))):
            heights = [
                numbers[f"layers_{key}"],
                numbers[f"parameters_{key}"] / 1e6,
                numbers[f"multiplications_{key}"] / 1e9,
            ]
            places = [i + 0.4 * index - 0.2 for i in range(3)]
            bars = sizes.bar(
                places,
                heights,
                0.38,
                color=figures.COLORS[index],
                label=name,
                hatch=("", "//")[index],
            )
            sizes.bar_label(bars, [f"{h:.3g}" for h in heights], padding=2)
        sizes.set_xticks(
            range(3), ["weight layers", "million\nparameters", "billion\nmultiplications"]
        )
        sizes.set(yscale="log", ylim=(5, 900), ylabel="count")
        sizes.set_title("counted on the meta device")
        sizes.legend(loc="upper right")
        blocks = list(range(1, len(told["profiles"]["plain"]) + 1))
        for index, (key, label) in enumerate(
            (("resnet", "with skips"), ("plain", "without skips"))
        ):
            look = {k: v for k, v in figures.look(index).items() if k != "marker"}
            back.plot(blocks, told["profiles"][key], label=label, **look)
        back.set(yscale="log", xlabel="block", ylabel="rms of the gradient, predicted")
        back.set_title("before anything is allocated")
        back.legend()
        return figure


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution with batch norm; ReLU after the addition."""

    def __init__(self, inputs: int, width: int, stride: int, *, skip: bool) -> None:
        super().__init__()
        outputs = 4 * width
        self.c1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.n1 = nn.BatchNorm2d(width)
        self.c2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.n2 = nn.BatchNorm2d(width)
        self.c3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.n3 = nn.BatchNorm2d(outputs)
        self.skip = skip
        self.shortcut = nn.Sequential()
        if skip and (stride != 1 or inputs != outputs):
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The map after this block."""
        y = self.n1(self.c1(x)).relu()
        y = self.n2(self.c2(y)).relu()
        y = self.n3(self.c3(y))
        summed: Tensor = y + self.shortcut(x) if self.skip else y
        return summed.relu()


def resnet(stages: tuple[int, ...], *, skip: bool = True) -> nn.Sequential:
    """He et al. 2015, table 1; (3, 8, 36, 3) blocks make the one of 152 layers."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for stage, blocks in enumerate(stages):
        width = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers.append(Bottleneck(inputs, width, stride, skip=skip))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def vgg_net(stages: tuple[int, ...]) -> nn.Sequential:
    """Simonyan and Zisserman 2014, table 1, configurations D (16) and E (19)."""
    layers: list[nn.Module] = []
    inputs = 3
    for stage, convolutions in enumerate(stages):
        width = min(512, 64 * 2**stage)
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    head: list[nn.Module] = [nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU()]
    return nn.Sequential(*layers, *head, nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))
