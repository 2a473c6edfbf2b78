"""How much does the choice of an activation matter?

The same small network with eleven activations, each at the best of several learning rates and with
several seeds, and once with none, which makes it a linear model however many layers it has. Modern
activations lie within a point or two of each other, and tanh among them; sigmoid is last. This is
the lecture's bar chart at a scale at which error bars can be drawn.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ACTS = (
    "linear", "sigmoid", "tanh", "softplus", "sin", "relu", "leaky_relu", "elu", "selu", "gelu",
    "silu", "mish",
)  # fmt: skip
MODERN = ACTS[5:]


@dataclass(frozen=True)
class ChoiceOfActivation(Experiment):
    code: ClassVar[str] = "choice-of-activation"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.34",
            "true",
            "Seven modern ones, each at its best learning rate, three seeds.",
            (below("modern_spread", 0.03, "best minus worst; seeds scatter by 0.005 to 0.01"),),
        ),
        Answer(
            "S3.35",
            "imprecise",
            "Sigmoid is last, by a point if its weights are as large as it needs (a gain of 4). "
            "tanh is not: at this depth it is as good as the modern ones are.",
            (
                above("sigmoid_behind", 0.005, "median of the modern ones minus sigmoid; seeds "
                      "scatter by 0.005", at=("standard",)),
                above("sigmoid_behind", 0.0, "360 test images: one is 0.003", at=("fast",)),
                below("tanh_behind", 0.015, "median of the modern ones minus tanh"),
            ),
        ),
        Answer(
            "S3.37",
            "true",
            "Without one, four layers are a linear model, and are as good as one.",
            (
                above("linear_behind", 0.02, "median of the modern ones minus none",
                      on=("mnist",)),
                below("linear", "best", "no hidden layer's worth of help"),
            ),
        ),
        Answer(
            "H2",
            "true",
            "In the small: the order within the modern ones is not settled by their differences, "
            "here as in the paper's table, whose columns do not agree on it.",
            (below("modern_spread", 0.03, "best minus worst; seeds scatter by 0.005 to 0.01"),),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 100, "width": 48, "seeds": 1, "rates": (0.02, 0.1)}}

    width: int = 128
    """Units of the three hidden layers."""
    steps: int = 300
    """Of training, batches of 100."""
    rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """Learning rates; momentum 0.9."""
    seeds: int = 3
    """Networks of each kind and rate."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        numbers: dict[str, Any] = {}
        bars: dict[str, Any] = {}
        for act in ACTS:
            gain = 1.0 if act == "linear" else min(4.0, theory.gains(act).std)
            nets = [
                mlp(data.size, self.width, 3, 10, activation=act, init="lecun", gain=gain,
                    seed=bench.seed + s)
                for s in range(self.seeds)
            ]  # fmt: skip
            trained = train(
                nets * len(self.rates), data, steps=self.steps,
                lr=[rate for rate in self.rates for _ in nets], seed=bench.seed,
            )  # fmt: skip
            scores = trained.accuracy.view(len(self.rates), -1)
            best = int(scores.mean(1).argmax())
            numbers[act] = scores[best].mean()
            spread = (scores[best].max() - scores[best].min()) / 2
            bars[act] = [scores[best].mean(), spread, self.rates[best]]
        modern = sorted(float(numbers[act]) for act in MODERN)
        median = modern[len(modern) // 2]
        numbers |= {
            "median": median,
            "best": modern[-1],
            "modern_spread": modern[-1] - modern[0],
            "sigmoid_behind": median - numbers["sigmoid"],
            "tanh_behind": median - numbers["tanh"],
            "linear_behind": median - numbers["linear"],
        }
        return Measured(numbers, {"bars": bars})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series["bars"], result.numbers
        figure, (axes,) = figures.new(
            f"Seven modern activations lie within {100 * numbers['modern_spread']:.1f} points; "
            f"tanh ({numbers['tanh']:.1%}) is as good, sigmoid ({numbers['sigmoid']:.1%}) is last",
            1,
            width=6.6,
        )
        order = sorted(told, key=lambda act: told[act][0])
        for place, act in enumerate(order):
            group = 2 if act in MODERN else 1 if act in ("sigmoid", "linear") else 0
            score, spread, rate = told[act]
            axes.errorbar(
                [score], [place], xerr=[spread], capsize=3, markersize=8,
                **figures.look(group) | {"linestyle": "none"},
            )  # fmt: skip
            axes.annotate(
                f"{score:.1%}, rate {rate:g}", (score + spread, place), xytext=(8, 0),
                textcoords="offset points", va="center", fontsize=10.5,
            )  # fmt: skip
        axes.set_yticks(range(len(order)), ["none" if a == "linear" else a for a in order])
        low, high = told[order[0]][0], told[order[-1]][0]
        axes.set_xlim(low - 0.1 * (high - low), high + 0.35 * (high - low))
        axes.set(xlabel=f"right on the test set, at the best rate ({result.data})")
        return figure
