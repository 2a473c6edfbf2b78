"""Does GELU regularize?

Its curve has a minimum below zero, so that it is not monotone; some read that as a slight
regularization. Pairs of networks from the same seeds, one with GELU and one with ReLU, trained on
few digits until they are fitted: the gap between training and test accuracy of each, and a paired
t-test of the difference.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, between, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import Fleet
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ACTS = ("relu", "gelu")


@dataclass(frozen=True)
class GeluAndOverfitting(Experiment):
    code: ClassVar[str] = "gelu-and-overfitting"
    data: ClassVar[tuple[str, ...]] = ("digits",)
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.39",
            "imprecise",
            "It is not monotone: it has a minimum of -0.17 at -0.75. Of a regularization nothing "
            "is to be seen here: both fit all training samples, and the gaps differ by a point.",
            (
                near("lowest", -0.16997, "minimum of x Phi(x)", abs=1e-4),
                near("lowest_at", -0.7518, "where Phi(x) = -x pdf(x)", abs=1e-3),
                above("fitted", 0.99, "training accuracy of both"),
                between("difference", -0.03, 0.03, "of the gaps, mean over seeds; its standard "
                        "error is 0.003 to 0.006"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"seeds": 8, "steps": 120}}

    seeds: int = 20
    """Pairs of networks."""
    samples: int = 300
    """To train on."""
    steps: int = 300
    """Of training, batches of 50."""
    width: int = 64
    """Units of the two hidden layers."""
    lr: float = 0.05
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        whole = bench.data.flat().standardized()
        data = whole.take(self.samples)
        gaps = {}
        numbers: dict[str, Any] = {}
        fitted = 1.0
        for act in ACTS:
            nets = [
                mlp(data.size, self.width, 2, 10, activation=act, init="lecun",
                    gain=theory.gains(act).second_moment, seed=bench.seed + s)
                for s in range(self.seeds)
            ]  # fmt: skip
            fleet = Fleet(nets, lr=self.lr)
            for x, y in data.batches(self.steps, 50, seed=bench.seed):
                fleet.step(x, y)
            train = fleet.accuracy(data.inputs, data.labels)
            test = fleet.accuracy(
                torch.cat([whole.test_inputs, whole.inputs[self.samples :]]),
                torch.cat([whole.test_labels, whole.labels[self.samples :]]),
            )
            gaps[act] = (train - test).double()
            fitted = min(fitted, float(train.mean()))
            numbers[f"test_{act}"] = test.mean()
        difference = gaps["gelu"] - gaps["relu"]
        error = float(difference.std()) / math.sqrt(self.seeds)
        grid = torch.linspace(-2, 1, 30_001, dtype=torch.float64)
        curve = torch.nn.functional.gelu(grid)
        numbers |= {
            "fitted": fitted,
            "lowest": curve.min(),
            "lowest_at": grid[curve.argmin()],
            "difference": difference.mean(),
            "standard_error": error,
            "t": float(difference.mean()) / error,
        }
        return Measured(numbers, {"gaps": gaps})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series["gaps"], result.numbers
        figure, (curve, gaps) = figures.new(
            f"GELU dips to {numbers['lowest']:.2f}, but overfits as ReLU does: gaps differ by "
            f"{100 * numbers['difference']:+.1f} ± {100 * numbers['standard_error']:.1f} points",
            2,
        )
        grid = torch.linspace(-3, 1.5, 200)
        curve.plot(grid, torch.nn.functional.gelu(grid), color=figures.COLORS[1], label="GELU")
        curve.plot(grid, torch.relu(grid), "--", color=figures.COLORS[0], label="ReLU")
        curve.plot([numbers["lowest_at"]], [numbers["lowest"]], "o", color="black")
        curve.annotate(
            f"{numbers['lowest']:.3f} at {numbers['lowest_at']:.2f}",
            (numbers["lowest_at"], numbers["lowest"]), xytext=(-10, -18),
            textcoords="offset points", ha="right",
        )  # fmt: skip
        curve.set(xlabel="x", ylabel="φ(x)", ylim=(-0.45, 1.5))
        curve.set_title("not monotone")
        curve.legend(loc="upper left")
        low = min(min(told["relu"]), min(told["gelu"])) - 0.005
        high = max(max(told["relu"]), max(told["gelu"])) + 0.005
        gaps.plot([low, high], [low, high], color="black", linewidth=1.2)
        figures.measured(gaps, told["relu"], told["gelu"], 0)
        gaps.set(xlabel="gap of ReLU", ylabel="gap of GELU", xlim=(low, high), ylim=(low, high))
        gaps.set_title("training minus test accuracy, a dot per seed")
        return figure
