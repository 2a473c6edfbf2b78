"""What does an exploding gradient look like on the loss curve?

A linear chain of ten layers with all weights at 1.5, one squared error, plain gradient descent: all
weights move alike, so that the whole descent happens on one curve, the loss over the common
weight, and can be drawn. Then a real network whose weights are much too large.
"""

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class Divergence(Experiment):
    code: ClassVar[str] = "divergence"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.13",
            "true",
            "Each step lands further up the other wall than the one before. From weights of 1 the "
            "same chain, target and learning rate converge.",
            (
                above("worst_loss", 1e6, "the second step is a hundred times too long already"),
                exactly("other_side", 1.0, "share of the steps that change the weight's sign"),
                below("level_loss", 1e-6, "a contraction near the target; 200 steps"),
                above("net_first_loss", 1e3, "128 x 0.5^2 / 2 = 16 per layer in energy, 8 layers"),
                below("net_finite_steps", 20, "1 to 3; float32 ends at 3e38"),
            ),
        ),
        Answer(
            "S0.F2",
            "true",
            "Drawn from the run itself.",
            (above("worst_loss", 1e6, "as above: the figure is this descent"),),
        ),
    )

    depth: int = 10
    """Layers of the chain."""
    factor: float = 1.5
    """Every weight at the start."""
    lr: float = 0.01
    """Of the chain."""
    target: float = 2.0
    """Output wanted for an input of 1."""
    std: float = 0.5
    """Of the real network's weights, 8 ReLU layers of 128."""

    def run(self, bench: "Bench") -> Measured:
        steep = descend(self.factor, self.depth, self.target, self.lr, 10)
        level = descend(1.0, self.depth, self.target, self.lr, 200)
        data = bench.data.flat().standardized()
        net = mlp(data.size, 128, 8, 10, init="normal", gain=self.std, seed=bench.seed)
        trained = train([net], data, steps=20, lr=0.1, optimizer="plain-sgd", seed=bench.seed)
        losses = trained.losses[:, 0].double()
        places = [weight for weight, _ in steep if math.isfinite(weight)]
        numbers: dict[str, Any] = {
            "worst_loss": max((loss for _, loss in steep), key=lambda v: math.inf if v != v else v),
            "level_loss": level[-1][1],
            "other_side": sum(a * b < 0 for a, b in itertools.pairwise(places)) / (len(places) - 1),
            "net_first_loss": losses[0],
            "net_finite_steps": losses.isfinite().double().cumprod(0).sum(),
        }
        series = {
            "steep": steep,
            "level": level,
            "net": losses,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told = result.series
        figure, (cost, course) = figures.new(
            f"From weights of {self.factor:g} every step climbs the other wall, to a loss of "
            f"{told['steep'][1][1]:.0e} in one; from 1 the same descent converges",
            2,
            width=5.8,
        )
        shown = [(w, v) for w, v in told["steep"][:3] if math.isfinite(v)]
        wide = max(abs(w) for w, _ in shown[:2]) * 1.15
        curve = [wide * (i / 300 - 1) for i in range(601)]
        cost.plot(curve, [loss(w, self.depth, self.target) for w in curve], color="black", lw=1.3)
        for start, end in itertools.pairwise(shown[:2]):
            cost.annotate(
                "", end, start,
                arrowprops={"arrowstyle": "->", "color": figures.COLORS[1], "lw": 2},
            )  # fmt: skip
        cost.plot(*zip(*shown[:2], strict=True), "o", color=figures.COLORS[1], label="from 1.5")
        path = told["level"][:40]
        cost.plot(*zip(*path, strict=True), "s", color=figures.COLORS[0], ms=4, label="from 1")
        cost.set(yscale="log", xlabel="common weight", ylabel="loss", ylim=(1e-4, None))
        cost.set_title("on the loss over the weight")
        cost.legend(loc="upper center")
        shown_courses = {
            "from 1": [v for _, v in told["level"]][:12],
            "from 1.5": [v for _, v in told["steep"]],
            f"8 ReLU layers, weights of std {self.std:g}": told["net"],
        }
        top = 1e37
        for index, (label, values) in enumerate(shown_courses.items()):
            finite = list(itertools.takewhile(lambda v: math.isfinite(v) and v < top, values))
            figures.measured(course, range(len(finite)), finite, index, label=label, joined=True)
            if len(finite) < len(values):
                course.plot(
                    [len(finite) - 1, len(finite)], [finite[-1], top], "x:", ms=10, mew=2.5,
                    color=figures.COLORS[index], markevery=[1],
                )  # fmt: skip
        course.set(yscale="log", xlabel="step", ylabel="loss", ylim=(1e-3, 1e40))
        course.set_title("step by step; crosses: not finite any more")
        course.legend(loc="center right")
        return figure


def loss(weight: float, depth: int, target: float) -> float:
    """Half the squared error of the chain for an input of 1."""
    return (weight**depth - target) ** 2 / 2


def descend(
    start: float, depth: int, target: float, lr: float, steps: int
) -> list[tuple[float, float]]:
    """Weight and loss before every step; all weights of the chain stay alike."""
    weights: Tensor = torch.full((depth,), start, dtype=torch.float64)
    path = []
    for _ in range(steps + 1):
        weights.requires_grad_()
        value = (weights.prod() - target) ** 2 / 2
        path.append((weights[0].item(), value.item()))
        (gradient,) = torch.autograd.grad(value, weights)
        weights = (weights - lr * gradient).detach()
    return path
