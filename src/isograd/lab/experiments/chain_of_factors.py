"""Which number stands on every arrow of a network with one unit per layer?

The simplest deep network: one unit per layer. Every arrow multiplies, forward by a weight and an
activation, backward by a weight and a slope, so that the gradient of the first weight is the
product of what stands on the arrows. The figure draws the chain with both, and their running
product.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from isograd.lab import figures
from isograd.lab.expected import below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import ACTIVATIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ROUNDING = "rounding of a product of a dozen factors in float64"


@dataclass(frozen=True)
class ChainOfFactors(Experiment):
    code: ClassVar[str] = "chain-of-factors"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.5",
            "true",
            "The chain with the local factor on every arrow, and the running product.",
            (near("autograd", "product_theory", ROUNDING, rel=1e-12),),
        ),
        Answer(
            "S0.F1",
            "true",
            "",
            (near("autograd", "product_theory", ROUNDING, rel=1e-12),),
        ),
        Answer(
            "S1.14",
            "true",
            "The same drawing, with sigmoid units.",
            (below("largest_slope", 0.25, "s (1 - s) is at most 1/4"),),
        ),
    )

    activation: Literal["sigmoid", "tanh", "relu", "linear"] = "sigmoid"
    """Of every unit."""
    depth: int = 5
    """Units in the chain."""
    weight: float = 1.0
    """Standard deviation of the weights."""

    def run(self, bench: "Bench") -> Measured:
        stream = bench.generator()
        act = ACTIVATIONS[self.activation]()
        weights = self.weight * torch.randn(self.depth, generator=stream, dtype=torch.float64)
        weights.requires_grad_()
        a = torch.ones((), dtype=torch.float64)
        states, slopes = [a.item()], []
        for weight in weights:
            z = weight * a
            probe = z.detach().requires_grad_()
            slopes.append(torch.autograd.grad(act(probe), probe)[0].item())
            a = act(z)
            states.append(a.item())
        (gradient,) = torch.autograd.grad(a, weights)
        values = weights.tolist()
        factors = [w * s for w, s in zip(values, slopes, strict=True)]
        # d out / d w_1 = phi'(z_1) x times the factors of all later units
        product = slopes[0] * states[0] * math.prod(factors[1:])
        numbers: dict[str, Any] = {
            "autograd": gradient[0],
            "product_theory": product,
            "largest_slope": max(slopes),
        }
        series = {"weights": values, "slopes": slopes, "states": states, "gradient": gradient}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (chain, running) = figures.new(
            f"{self.depth} {self.activation} units in a row: their factors leave the first weight "
            f"a gradient of {abs(numbers['autograd']):.1e}",
            1,
            rows=2,
            width=8.0,
            height=2.9,
        )
        draw_chain(chain, told)
        left = list(range(1, self.depth + 1))
        figures.measured(running, left, [abs(g) for g in told["gradient"]], 0, label="autograd")
        behind = [
            abs(told["slopes"][i] * told["states"][i])
            * math.prod(
                abs(w * s)
                for w, s in zip(told["weights"][i + 1 :], told["slopes"][i + 1 :], strict=True)
            )
            for i in range(self.depth)
        ]
        figures.theory(running, left, behind, label="product of what is behind")
        running.set_title("their product, from the end to each weight")
        running.set(yscale="log", xlabel="weight", ylabel="gradient of the output")
        running.set_xticks(left)
        running.legend()
        return figure


def draw_chain(axes: "Axes", told: Mapping[str, Any]) -> None:
    """Units as circles, with the forward factor above and the backward one below every arrow."""
    axes.axis("off")
    depth = len(told["weights"])
    axes.set(xlim=(-0.5, depth + 0.5), ylim=(-1.5, 1.5))
    for place, state in enumerate(told["states"]):
        circle = {"boxstyle": "circle,pad=0.35", "facecolor": "#eef4fa", "edgecolor": "black"}
        axes.text(place, 0, f"{state:.2f}", ha="center", va="center", bbox=circle, fontsize=10)
    for place, (weight, slope) in enumerate(zip(told["weights"], told["slopes"], strict=True)):
        style = {"arrowstyle": "->", "lw": 1.6, "shrinkA": 18, "shrinkB": 18}
        axes.annotate("", (place + 1, 0.12), (place, 0.12), arrowprops=style)
        back = {**style, "color": figures.COLORS[1]}
        axes.annotate("", (place, -0.12), (place + 1, -0.12), arrowprops=back)
        axes.text(place + 0.5, 0.45, f"w = {weight:.2f}", ha="center", fontsize=10)
        axes.text(
            place + 0.5, -0.75, f"w·φ' = {weight * slope:.3f}", ha="center", fontsize=10,
            color=figures.COLORS[1],
        )  # fmt: skip
    axes.set_title("forward: the weight; backward: weight times slope")
