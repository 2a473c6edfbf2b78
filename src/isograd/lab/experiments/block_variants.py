"""Where in a residual block does the activation belong: behind the addition, or before the branch?

Five orders of norm, ReLU, weights and addition, as compared by He et al. in 2016, in networks of
many blocks. With a ReLU or a norm on the skip itself the stream is reset at every block; with a
ReLU at the end of the branch the branch can only add, and the stream's mean grows by 1/sqrt(2 pi)
per block; with both in front of the branch the skip is free, and the variance grows by 1 per block.
All five are measured at the start, compared with these, and trained.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import initialize, seeded
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

Order = Literal["original", "norm-after", "relu-before", "relu-only", "full"]
NAMES: dict[Order, str] = {
    "original": "ReLU after addition",
    "norm-after": "norm after addition",
    "relu-before": "ReLU before addition",
    "relu-only": "ReLU-only pre-activation",
    "full": "full pre-activation",
}
ERRORS: dict[Order, tuple[float, float]] = {
    "original": (6.61, 5.93),
    "norm-after": (8.17, 6.50),
    "relu-before": (7.84, 6.14),
    "relu-only": (6.71, 5.91),
    "full": (6.37, 5.46),
}
"""Percent on CIFAR-10, ResNet-110 and -164 (He et al., Identity mappings, 2016, table 2)."""
CLOSED = "Gaussian closed form; width 64 and correlated blocks stray by a tenth"


@dataclass(frozen=True)
class BlockVariants(Experiment):
    code: ClassVar[str] = "block-variants"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.22",
            "imprecise",
            "So does the first ResNet only. Pre-activation networks and transformers leave the "
            "sum alone, and He et al. found it best: 6.37 % error on CIFAR-10 against 6.61 % with "
            "ReLU after the addition, 7.84 % with ReLU at the end of the branch, 8.17 % with a "
            "norm after the addition (ResNet-110). Here the full pre-activation is among the best "
            "as well.",
            (
                near("variance_full", 1.0, CLOSED, abs=0.3),
                near("mean_relu-before", 1 / math.sqrt(math.tau), CLOSED, rel=0.1),
                near("variance_norm-after", 0.0, "the norm resets it to 1: no growth", abs=0.02),
                above("accuracy_full", 0.92, "0.95, seeds scatter by 0.01", on=("mnist",)),
                above("accuracy_full", 0.85, "fewer steps and samples", on=("digits",)),
                below(
                    "full_behind_best",
                    0.03,
                    "the best of five draws has a head start of two standard errors",
                ),
                above("gradient_norm-after", "gradient_full", "what is lost on the way back"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"blocks": 16, "steps": 50, "seeds": 1}}

    blocks: int = 54
    """Residual blocks of two layers each."""
    width: int = 64
    """Of the stream."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of each order."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        batch = data.inputs[:128], data.labels[:128]
        nets = {
            order: [
                network(data.size, self.width, self.blocks, order, bench.seed + s)
                for s in range(self.seeds)
            ]
            for order in NAMES
        }
        flat = [net for group in nets.values() for net in group]
        trained = train(flat, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        scores = trained.accuracy.view(len(NAMES), -1)
        numbers: dict[str, Any] = {}
        streams: dict[str, list[float]] = {}
        means: dict[str, list[float]] = {}
        for index, (order, group) in enumerate(nets.items()):
            record = measure(group[0].train(), batch)
            # The addition, or what follows it in the block.
            last = {
                one.name.split(":")[0].split(".")[0]: i
                for i, one in enumerate(record.sites)
                if one.kind == "add" or ".after" in one.name
            }
            ends = list(last.values())
            rms = [float(record.value("forward.rms", i) or 0) for i in ends]
            means[order] = [float(record.value("forward.mean", i) or 0) for i in ends]
            streams[order] = [r * r - m * m for r, m in zip(rms, means[order], strict=True)]
            back = [float(record.value("backward.rms", i) or 0) for i in ends]
            steps = len(ends) - 1
            numbers |= {
                f"variance_{order}": (streams[order][-1] - streams[order][0]) / steps,
                f"mean_{order}": (means[order][-1] - means[order][0]) / steps,
                f"gradient_{order}": back[0] / back[-1],
                f"accuracy_{order}": scores[index].mean(),
            }
        numbers["full_behind_best"] = scores.mean(1).max() - numbers["accuracy_full"]
        series = {
            "variance": streams,
            "mean": means,
            "accuracy": scores.mean(1),
            "spread": (scores.amax(1) - scores.amin(1)) / 2,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (mean, variance, score) = figures.new(
            "Before the branch: the stream is free and grows by "
            f"{numbers['variance_full']:.1f} per block; at the branch's end, ReLU pushes its mean "
            f"up by {numbers['mean_relu-before']:.2f} per block",
            3,
            width=5.0,
        )
        blocks = list(range(1, len(told["mean"]["full"]) + 1))
        every = max(1, len(blocks) // 12)
        slope = 1 / math.sqrt(math.tau)
        start = told["mean"]["relu-before"][0]
        figures.theory(mean, blocks, [start + slope * (b - 1) for b in blocks], label="theory")
        start = told["variance"]["full"][0]
        figures.theory(
            variance, blocks, [start + b - 1 for b in blocks], label="theory: 1 per block"
        )
        for index, (order, name) in enumerate(NAMES.items()):
            figures.measured(mean, blocks[::every], told["mean"][order][::every], index)
            figures.measured(
                variance, blocks[::every], told["variance"][order][::every], index, label=name
            )
        mean.set(xlabel="block", ylabel="mean of the stream")
        mean.set_title("before training")
        mean.legend()
        variance.set(xlabel="block", ylabel="variance of the stream", yscale="log")
        top, bottom = variance.get_ylim()[1], variance.get_ylim()[0]
        variance.set_ylim(bottom, top * (top / bottom) ** 0.9)
        variance.set_title("before training")
        variance.legend(loc="upper left", fontsize=9.5)
        score.barh(
            range(len(NAMES)),
            told["accuracy"],
            xerr=told["spread"],
            height=0.6,
            color=figures.COLORS[: len(NAMES)],
            capsize=3,
        )
        labels = [f"{name}\npaper: {ERRORS[order][0]} % error" for order, name in NAMES.items()]
        score.set_yticks(range(len(NAMES)), labels, fontsize=9.5)
        score.invert_yaxis()
        score.set(xlabel="right on the test set", xlim=(0, 1.05))
        score.set_title(f"after {result.settings['steps']} steps")
        return figure


class Ordered(nn.Module):
    """A block of two layers in one of the five orders."""

    def __init__(self, width: int, order: Order) -> None:
        super().__init__()
        a, b = nn.Linear(width, width), nn.Linear(width, width)
        m, n = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        inner: dict[Order, list[nn.Module]] = {
            "original": [a, m, nn.ReLU(), b, n],
            "norm-after": [a, m, nn.ReLU(), b],
            "relu-before": [a, m, nn.ReLU(), b, n, nn.ReLU()],
            "relu-only": [nn.ReLU(), a, m, nn.ReLU(), b, n],
            "full": [m, nn.ReLU(), a, n, nn.ReLU(), b],
        }
        outer: dict[Order, list[nn.Module]] = {
            "original": [nn.ReLU()],
            "norm-after": [n, nn.ReLU()],
        }
        self.branch = nn.Sequential(*inner[order])
        self.after = nn.Sequential(*outer.get(order, []))

    def forward(self, x: Tensor) -> Tensor:
        """The stream after this block."""
        y: Tensor = self.after(x + self.branch(x))
        return y


def network(inputs: int, width: int, blocks: int, order: Order, seed: int) -> nn.Sequential:
    """Stem, blocks, norm, ReLU, head; He's initialization."""
    with seeded(seed):
        middle = [Ordered(width, order) for _ in range(blocks)]
        end = [nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10)]
        model = nn.Sequential(nn.Linear(inputs, width), *middle, *end)
        initialize(model, "he")
    return model
