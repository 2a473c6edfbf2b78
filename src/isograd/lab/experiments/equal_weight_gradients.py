"""Can all weights have equal gradients in a network whose signal is gone?

A plain ReLU network of 50 layers with weights of the size that nn.Linear gives them, biases 0. The
gradient of a weight is the signal that comes in times the error that comes back. One falls with
depth, the other rises to the output, so that first and last layer have gradients of one size, and
all of them are 1e-20 of what they should be. A check that compares the weight gradients of layers
sees nothing. isograd compares signals and errors, and names the initialization.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from isograd.checking import check
from isograd.lab import figures
from isograd.lab.expected import above, below, between, exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

NETS = {"small": "weights of nn.Linear's size", "he": "weights of He's size"}
GAINS = {"small": (1 / 3) ** 0.5, "he": 2**0.5}


@dataclass(frozen=True)
class EqualWeightGradients(Experiment):
    code: ClassVar[str] = "equal-weight-gradients"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "X3",
            "true",
            "Compare signals and errors, and the spread of the outputs over inputs, not weight "
            "gradients with each other.",
            (
                between(
                    "ratio_small", 0.1, 10.0,
                    "first over last hidden layer; a factor six per layer would be 1e19",
                ),
                below("size_small", 1e-9, "of a weight gradient, relative to He's network"),
                below("spread_small", 1e-8, "of the outputs over inputs: float32 sees one output"),
                above("spread_he", 1e-2, "the same network with He's weights"),
                exactly("isograd_small", 1.0, "isograd reports IG302, too small weights"),
                exactly("isograd_he", 0.0, "and nothing of the kind for He's"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"depth": 40}}

    depth: int = 50
    """Hidden layers."""
    width: int = 100
    """Units of each."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        batch = data.inputs[:128], data.labels[:128]
        numbers: dict[str, Any] = {}
        series: dict[str, Any] = {}
        for name in NETS:
            net = mlp(
                data.size, self.width, self.depth, 10, init="lecun", gain=GAINS[name],
                seed=bench.seed,
            )  # fmt: skip
            diagnosis = check(net, batch, predict=False)
            assert diagnosis.reading is not None
            record = diagnosis.reading.seen
            sites = record.weight_sites()[:-1]
            weights = [record.sites[i].parameters[0] for i in sites]
            told = {
                "signal": [float(record.value("forward.spread", i) or 0) for i in sites],
                "error": [float(record.value("backward.rms", i) or 0) for i in sites],
                "weight": [float(record.value("weight.grad_rms", p) or 0) for p in weights],
            }
            codes = {f.code for f in diagnosis.findings}
            numbers |= {
                f"ratio_{name}": told["weight"][1] / told["weight"][-1],
                f"middle_{name}": told["weight"][self.depth // 2],
                f"spread_{name}": float(record.fact("output.spread") or 0),
                f"isograd_{name}": float("IG302" in codes),
            }
            series[name] = told
        numbers["size_small"] = numbers["middle_small"] / numbers["middle_he"]
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        numbers = result.numbers
        figure, panels = figures.new(
            f"First and last weight gradient differ by a factor {numbers['ratio_small']:.1f} only, "
            f"yet all of them are {numbers['size_small']:.0e} of what they should be",
            2,
        )
        labels = {
            "weight": "gradient of the weights",
            "signal": "signal: spread over inputs",
            "error": "error: gradient of outputs",
        }
        lowest = 1.0
        for axes, (name, title) in zip(panels, NETS.items(), strict=True):
            for index, (key, label) in enumerate(labels.items()):
                values = result.series[name][key]
                layers = list(range(1, len(values) + 1))
                figures.measured(axes, layers[1::2], values[1::2], index, label=label)
                lowest = min([lowest, *(v for v in values if v > 0)])
            axes.set(yscale="log", xlabel="layer")
            axes.set_title(title)
        panels[0].set_ylabel("rms")
        for axes in panels:
            axes.set_ylim(10 ** math.floor(math.log10(lowest)), 1e6)
        panels[0].legend(loc="upper right")
        return figure
