"""Does batch norm train faster, and does it keep a unit's inputs where they are?

Figure 1 of the paper on batch norm: a network of three sigmoid layers of 100 units, with the norm
and without, batches of 60. The 15th, 50th and 85th percentile of one unit's pre-activation over the
course of training, and the accuracy. With the norm the network is far ahead at once, and the
percentiles stay; without it they wander.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

KINDS = ("without", "with")
QUANTILES = (0.15, 0.5, 0.85)


@dataclass(frozen=True)
class BatchNormQuantiles(Experiment):
    code: ClassVar[str] = "batch-norm-quantiles"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "H11",
            "true",
            "Faster by far for sigmoids. The percentiles of what enters the activation stay within "
            "the range of the norm; those without it move several times as far over their own "
            "width.",
            (
                above("ahead", 0.05, "accuracy with the norm minus without, at a sixth of the "
                      "steps"),
                above("right_with", "right_without", "accuracy at the end"),
                below("wander_with", "wander_without", "median's range over the course, over the "
                      "median width from 15 to 85 percent; mean of all units of the layer"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 240}}

    steps: int = 900
    """Of training, batches of 60."""
    lr: float = 0.1
    """Learning rate, no momentum."""
    looks: int = 30
    """Times that the pre-activations are looked at."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        numbers: dict[str, Any] = {}
        series: dict[str, Any] = {"steps": [], "right": {}, "unit": {}}
        for kind in KINDS:
            net = mlp(
                data.size, 100, 3, 10, activation="sigmoid", init="xavier", norm=kind == "with",
                seed=bench.seed,
            )  # fmt: skip
            steps, right, levels = self._course(net, data, bench.seed)
            series["steps"] = steps
            series["right"][kind] = right
            series["unit"][kind] = levels[:, :, 0].round(decimals=4)
            median = levels[:, 1]
            width = (levels[:, 2] - levels[:, 0]).median(0).values
            numbers[f"wander_{kind}"] = ((median.amax(0) - median.amin(0)) / width).mean()
            numbers[f"right_{kind}"] = right[-1]
        early = min(range(len(series["steps"])), key=lambda k: abs(
            series["steps"][k] - self.steps / 6))  # fmt: skip
        numbers["ahead"] = series["right"]["with"][early] - series["right"]["without"][early]
        return Measured(numbers, series)

    def _course(
        self, net: nn.Sequential, data: "Images", seed: int
    ) -> tuple[list[int], list[float], Tensor]:
        """Steps, accuracy, and quantiles of the last layer's units, [looks, 3, units]."""
        optimizer = torch.optim.SGD(net.parameters(), self.lr)
        every = max(1, self.steps // self.looks)
        steps, right, levels = [], [], []
        for step, (x, y) in enumerate(data.batches(self.steps, 60, seed=seed)):
            if step % every == 0:
                net.eval()
                with torch.no_grad():
                    z = data.test_inputs[:300]
                    for layer in list(net)[:-2]:
                        z = layer(z)
                    scores = net(data.test_inputs[:1000]).argmax(1) == data.test_labels[:1000]
                steps.append(step)
                right.append(float(scores.float().mean()))
                levels.append(torch.quantile(z.double(), torch.tensor(QUANTILES).double(), dim=0))
                net.train()
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        return steps, right, torch.stack(levels)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (score, without, with_) = figures.new(
            f"Batch norm: {numbers['right_with']:.0%} against {numbers['right_without']:.0%} "
            f"right, and medians that wander {numbers['wander_with']:.1f} of their width, not "
            f"{numbers['wander_without']:.1f}",
            3,
            width=4.7,
            height=4.0,
        )
        for index, kind in enumerate(KINDS):
            figures.measured(
                score, told["steps"], told["right"][kind], index, label=f"{kind} batch norm",
                joined=True,
            )  # fmt: skip
        score.set(xlabel="step", ylabel="right on the test set", ylim=(0, 1))
        score.set_title("three sigmoid layers")
        score.legend(loc="lower right")
        for index, (axes, kind) in enumerate(((without, "without"), (with_, "with"))):
            low, median, high = zip(*told["unit"][kind], strict=True)
            axes.fill_between(told["steps"], low, high, color=figures.COLORS[index], alpha=0.25)
            axes.plot(told["steps"], median, color=figures.COLORS[index], label="median")
            axes.set(xlabel="step", ylabel="pre-activation")
            axes.set_title(f"one unit, {kind} (15 to 85 %)")
            axes.legend(loc="upper left")
        return figure
