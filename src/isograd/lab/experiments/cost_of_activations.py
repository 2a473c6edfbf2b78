"""What does an activation cost, beside the matrix product that feeds it?

Time of nine activations on a million numbers, and of the product that makes those numbers, on one
core; the fastest of several rounds. An exponential costs a few times what a maximum does, and all
of them together little beside the product. Times are those of the machine that ran this; what
holds elsewhere are the proportions, within wide bounds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.nn import functional as F

from isograd.lab import figures
from isograd.lab.expected import below, between
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

SHOWN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "ReLU": torch.relu,
    "leaky": F.leaky_relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "ELU": F.elu,
    "SELU": F.selu,
    "softplus": F.softplus,
}
WIDE = "the fastest of several rounds on one core; memory and vector units decide, so wide bounds"


@dataclass(frozen=True)
class CostOfActivations(Experiment):
    code: ClassVar[str] = "cost-of-activations"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.12",
            "imprecise",
            "A few times a maximum, if the numbers lie in the cache at all; beside the product "
            "that makes them it is a small share.",
            (
                between("sigmoid_over_relu", 0.8, 30.0, WIDE),
                below("share_sigmoid", 0.35, "of product and activation; " + WIDE),
                below("share_elu", 0.5, "of product and activation; " + WIDE),
            ),
        ),
        Answer(
            "S3.16",
            "true",
            "It costs about what reading and writing the numbers costs.",
            (
                between("relu_over_copy", 0.2, 5.0, WIDE),
                below("share_relu", 0.2, "of product and activation; " + WIDE),
            ),
        ),
        Answer(
            "S1.30",
            "true",
            "The fastest of nine, or within noise of it.",
            (below("relu_over_fastest", 2.0, WIDE),),
        ),
    )
    scales: ClassVar = {"fast": {"rounds": 7, "rows": 512}}

    rows: int = 1024
    """Samples; 1024 units are computed from as many inputs for each."""
    rounds: int = 15
    """Of which the fastest counts."""

    def run(self, bench: "Bench") -> Measured:
        x = torch.randn(self.rows, 1024, generator=bench.generator())
        w = torch.randn(1024, 1024, generator=bench.generator(1)) / 32
        z = x @ w
        work: dict[str, Callable[[], Any]] = {"product": lambda: x @ w, "copy": z.clone}
        for name, function in SHOWN.items():
            work[name] = partial(function, z)
        times = dict.fromkeys(work, float("inf"))
        for _ in range(self.rounds):  # round by round, so that a busy moment hits all alike
            for name, do in work.items():
                start = time.perf_counter()
                do()
                times[name] = min(times[name], time.perf_counter() - start)
        numbers: dict[str, Any] = {
            "sigmoid_over_relu": times["sigmoid"] / times["ReLU"],
            "relu_over_copy": times["ReLU"] / times["copy"],
            "relu_over_fastest": times["ReLU"] / min(times[name] for name in SHOWN),
        }
        for name in SHOWN:
            share = times[name] / (times[name] + times["product"])
            numbers[f"share_{name.lower()}"] = share
        return Measured(numbers, {"milliseconds": {k: 1000 * v for k, v in times.items()}})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series["milliseconds"], result.numbers
        figure, (axes,) = figures.new(
            f"The exponential of a sigmoid is {numbers['share_sigmoid']:.0%} of a layer's time, "
            f"ReLU's maximum {numbers['share_relu']:.0%}",
            1,
            width=6.2,
        )
        names = [*SHOWN, "product"]
        values = [told[name] for name in names]
        colors = [figures.COLORS[0]] * len(SHOWN) + [figures.COLORS[1]]
        bars = axes.barh(range(len(names)), values, 0.65, color=colors)
        labels = axes.bar_label(bars, [f"{v:.2f} ms" for v in values], padding=3)
        for label in labels:
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        axes.axvline(told["copy"], color="black", linestyle=":", linewidth=1.2)
        axes.annotate(
            "a copy", (told["copy"], -0.75), xytext=(4, 0), textcoords="offset points",
            fontsize=10.5,
        )  # fmt: skip
        axes.set_yticks(range(len(names)), [*SHOWN, "matrix product"])
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="milliseconds, one core, float32")
        axes.set_xlim(min(values) / 2, max(values) * 4)
        axes.set_ylim(len(names) - 0.4, -1.1)
        return figure
