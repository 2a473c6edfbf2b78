"""What do the factors of a one-unit network with weights of N(0, 1) multiply to?

Ten thousand networks of one sigmoid unit per layer, in float64. The gradient of the output by the
formula, slope times weight layer after layer, against autograd; how large two slopes can be
together; how many weights of N(0, 1) lie between -1 and 1; and what a layer multiplies the gradient
by. All of it holds for one unit per layer; `sigmoid-and-width` is about more.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ROUNDING = "the same product in another order: float64 rounding"
LOG_WEIGHT = -(0.5772156649015329 + math.log(2)) / 2
"""E ln|w| of w from N(0, 1): -(Euler's constant + ln 2) / 2."""


@dataclass(frozen=True)
class FourFactors(Experiment):
    code: ClassVar[str] = "four-factors"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer("S1.15", "true", "", (below("product_error", 1e-12, ROUNDING),)),
        Answer("S1.16", "true", "", (below("local_error", 1e-12, ROUNDING),)),
        Answer(
            "S1.17",
            "true",
            "And a product of two thirds is a ninth.",
            (
                exactly("largest_two_slopes", 1 / 16, "both at 0; powers of two are exact"),
                near("two_thirds", 1 / 9, "float64 rounding", rel=1e-12),
            ),
        ),
        Answer(
            "S1.18",
            "imprecise",
            "Only 68 % of them lie between -1 and 1. And N(0, 1) is no usual initialization of a "
            "layer wider than one: those divide the variance by the number of inputs.",
            (
                near(
                    "share_inside",
                    "share_inside_theory",
                    "four standard errors of 1e5 draws, sqrt(0.68 x 0.32 / 1e5)",
                    abs=0.006,
                ),
                near(
                    "torch_std_256",
                    1 / math.sqrt(3 * 256),
                    "nn.Linear draws uniformly with variance 1 / (3 inputs); 65,536 draws scatter "
                    "by 0.2 %",
                    rel=0.01,
                ),
            ),
        ),
        Answer(
            "S1.19",
            "imprecise",
            "True of one unit per layer: a layer multiplies the gradient by about 0.12 in the "
            "median. It is wrong of wide layers, where n such products add up.",
            (
                near(
                    "log_weight",
                    "log_weight_theory",
                    "four standard errors of 30,000 draws of ln|w|, whose std is 1.11",
                    abs=0.026,
                ),
                below("factor_per_layer", 0.2, "exp(-0.635) times a slope below 1/4 is 0.132"),
                above("factor_per_layer", 0.08, "slopes of small pre-activations are near 1/4"),
            ),
        ),
        Answer(
            "S1.F4",
            "true",
            "The network of the drawing, its formula beside autograd.",
            (below("product_error", 1e-12, ROUNDING),),
        ),
    )

    chains: int = 10_000
    """Networks."""
    depths: tuple[int, ...] = (3, 6, 12)
    """Units in a row."""

    def run(self, bench: "Bench") -> Measured:
        stream = bench.generator()
        numbers: dict[str, Any] = {}
        logs: dict[str, Tensor] = {}
        per_layer = []
        for depth in self.depths:
            weights = torch.randn(depth, self.chains, generator=stream, dtype=torch.float64)
            found = derive(weights)
            numbers.setdefault("product_error", found["product_error"])
            numbers.setdefault("local_error", found["local_error"])
            numbers.setdefault("log_weight", weights.abs().log().mean())
            logs[str(depth)] = found["log10"]
            per_layer.append(10 ** float(found["log10"].median() / depth))
        slopes = torch.arange(-1000, 1001, dtype=torch.float64) / 100
        bell = torch.sigmoid(slopes) * torch.sigmoid(-slopes)
        draws = torch.randn(100_000, generator=stream)
        layer = torch.nn.Linear(256, 256)
        edges = [-4 + 0.25 * i for i in range(33)]
        numbers |= {
            "log_weight_theory": LOG_WEIGHT,
            "factor_per_layer": per_layer[0],
            "largest_two_slopes": (bell[:, None] * bell).max(),
            "two_thirds": (1 / 3) ** 2,
            "share_inside": (draws.abs() < 1).double().mean(),
            "share_inside_theory": math.erf(1 / math.sqrt(2)),
            "torch_std_256": layer.weight.detach().std(),
        }
        bins = [-16 + 0.25 * i for i in range(69)]
        series = {
            "edges": edges,
            "weights": torch.histogram(draws, torch.tensor(edges), density=True).hist,
            "bins": bins,
            "logs": {
                name: torch.histogram(x, torch.tensor(bins, dtype=x.dtype), density=True).hist
                for name, x in logs.items()
            },
            "medians": {name: x.median() for name, x in logs.items()},
            "per_layer": per_layer,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (weights, product) = figures.new(
            "One unit per layer, weights of N(0, 1): a layer leaves "
            f"{numbers['factor_per_layer']:.2f} of the gradient",
            2,
        )
        edges = told["edges"]
        middles = [(a + b) / 2 for a, b in pairwise(edges)]
        inside = [figures.COLORS[0] if abs(m) < 1 else "#c8d8e4" for m in middles]
        weights.bar(middles, told["weights"], 0.25, color=inside, edgecolor="white", linewidth=0.5)
        figures.theory(
            weights,
            edges,
            [math.exp(-x * x / 2) / math.sqrt(math.tau) for x in edges],
            label="N(0, 1)",
        )
        weights.set(xlabel="weight", ylabel="density", ylim=(0, 0.52))
        weights.set_title(f"{numbers['share_inside']:.1%} between -1 and 1, not all")
        weights.legend(loc="upper left")
        bins = told["bins"]
        for index, (depth, heights) in enumerate(told["logs"].items()):
            color = figures.COLORS[index]
            product.stairs(
                heights, bins, color=color, linestyle=figures.DASHES[index], linewidth=2,
                label=f"{depth} layers: median {10 ** told['medians'][depth]:.0e}",
            )  # fmt: skip
        product.axvline(-1.0 * math.log10(4) * 3, color="black", linewidth=1, linestyle=":")
        product.text(-1.65, 0.35, "$4^{-3}$", ha="left")
        product.set(xlabel="log10 |d output / d input|", ylabel="density", xlim=(-16, 1))
        product.set_title("10,000 networks each")
        product.legend(loc="upper left")
        return figure


def derive(weights: Tensor) -> dict[str, Tensor]:
    """Derivatives of chains h = s(w h) for weights [depth, chains], by formula and autograd."""
    x = torch.ones(weights.shape[1], dtype=weights.dtype, requires_grad=True)
    states, factors, pres = [x], [], []
    for w in weights:
        z = w * states[-1]
        pres.append(z)
        states.append(torch.sigmoid(z))
        s = states[-1].detach()
        factors.append(s * (1 - s) * w)
    (gradient,) = torch.autograd.grad(states[-1].sum(), x, retain_graph=True)
    (local,) = torch.autograd.grad(states[-1].sum(), states[-2])
    product = torch.stack(factors).prod(0)
    return {
        "product_error": ((gradient - product) / product).abs().max(),
        "local_error": ((local - factors[-1]) / factors[-1]).abs().max(),
        "log10": gradient.abs().log10(),
    }
