"""What do twenty factors of 1.5, or of 0.5, make of a signal and of its gradient?

A chain of linear layers without biases, every weight matrix `factor` times the identity. The
output is the input times factor^depth, and the gradient of the first weight is the input times
everything behind it. Nothing is random here, so that every number must come out to the last digit:
the value at depth 21, the depth at which each number format overflows or becomes zero, and how
much of a large gradient is a large error and how much is the product.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

DTYPES = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp64": torch.float64,
}
ROUNDING = "a product of at most 22 exact factors in float64 rounds at 1e-15"
FORMAT = "a property of the number format, counted; no tolerance"


@dataclass(frozen=True)
class ProductsOfFactors(Experiment):
    code: ClassVar[str] = "products-of-factors"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer("S0.10", "true", "", (near("growing_20", 3325.256730079651, ROUNDING, rel=1e-12),)),
        Answer(
            "S0.11",
            "true",
            "It does so in every number format; the depth is that of the format's range.",
            (
                near("output_growing", 4987.885095119476, ROUNDING, rel=1e-12),
                exactly("overflow_fp16", 28, FORMAT),
                exactly("overflow_bf16", 220, FORMAT),
                exactly("overflow_fp32", 219, FORMAT),
                exactly("overflow_fp64", 1751, FORMAT),
            ),
        ),
        Answer(
            "S0.12",
            "imprecise",
            "A gradient is an error times a product of Jacobians. With an error of exactly 1 it "
            "is as large: the product alone explodes. A squared error multiplies it by the "
            "exploded output again. And the learning rate times dE/dw is the update, not the "
            "gradient.",
            (
                near("gradient_unit_error", "growing_20", ROUNDING, rel=1e-12),
                near("gradient_square_error", "square_error_theory", ROUNDING, rel=1e-12),
            ),
        ),
        Answer(
            "S0.14",
            "true",
            "The name of it; a gradient of 3325 where 1 would do.",
            (near("gradient_unit_error", "growing_20", ROUNDING, rel=1e-12),),
        ),
        Answer(
            "S0.15",
            "true",
            "",
            (
                exactly("shrinking_20", 2.0**-20, "powers of two are exact"),
                exactly("zero_fp16", 25, FORMAT),
                exactly("zero_bf16", 134, FORMAT),
                exactly("zero_fp32", 150, FORMAT),
                exactly("zero_fp64", 1075, FORMAT),
            ),
        ),
        Answer(
            "S0.16",
            "true",
            "The update of the first layer is the learning rate times 1e-6.",
            (exactly("gradient_shrinking", 2.0**-20, "powers of two are exact"),),
        ),
    )

    depth: int = 21
    """Weight layers."""
    factor: float = 1.5
    """Every growing weight."""
    small: float = 0.5
    """Every shrinking weight."""

    def run(self, bench: "Bench") -> Measured:
        depths = list(range(self.depth + 1))
        unit = first_gradients(self.factor, self.depth, lambda y: y)
        square = first_gradients(self.factor, self.depth, lambda y: y**2 / 2)
        shrinking = first_gradients(self.small, self.depth, lambda y: y)
        numbers: dict[str, Any] = {
            "growing_20": power(self.factor, self.depth - 1),
            "shrinking_20": power(self.small, self.depth - 1),
            "output_growing": chain(self.factor, self.depth)[-1].item(),
            "gradient_unit_error": unit[0],
            "gradient_square_error": square[0],
            "square_error_theory": power(self.factor, 2 * self.depth - 1),
            "gradient_shrinking": shrinking[0],
        }
        for name, dtype in DTYPES.items():
            numbers[f"overflow_{name}"] = first_depth(1.5, dtype, torch.isinf)
            numbers[f"zero_{name}"] = first_depth(0.5, dtype, lambda x: x == 0)
        series: dict[str, Any] = {
            "depths": depths,
            "growing": chain(self.factor, self.depth),
            "level": chain(1.0, self.depth),
            "shrinking": chain(self.small, self.depth),
            "unit": unit,
            "square": square,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        depth, factor_up, factor_down = (
            result.settings[key] for key in ("depth", "factor", "small")
        )
        figure, (forward, backward, ends) = figures.new(
            f"{depth} layers of {factor_up:g} make {numbers['output_growing']:.4g} of 1; "
            f"of {factor_down:g} they leave {factor_down**depth:.1g}: depth multiplies",
            3,
            width=4.9,
        )
        for index, (key, factor) in enumerate(
            (("growing", factor_up), ("level", 1.0), ("shrinking", factor_down))
        ):
            figures.theory(
                forward,
                told["depths"],
                [power(factor, d) for d in told["depths"]],
                label=None if index else "factor$^L$",
            )
            figures.measured(forward, told["depths"], told[key], index, label=f"factor {factor:g}")
        forward.set(yscale="log", xlabel="layers $L$", ylabel="output for input 1")
        forward.set_title("forward")
        forward.legend()

        layers = list(range(1, depth + 1))
        behind = [power(factor_up, depth - 1)] * depth
        error = [b / a for a, b in zip(told["unit"], told["square"], strict=True)]
        backward.bar(layers, behind, color=figures.COLORS[0], label="Jacobians (error 1)")
        backward.bar(
            layers,
            [(e - 1) * b for e, b in zip(error, behind, strict=True)],
            bottom=behind,
            color=figures.COLORS[4],
            hatch="//",
            label="times a squared error",
        )
        top = max(told["square"])
        backward.set(yscale="log", xlabel="layer", ylabel="gradient of its weight")
        backward.set_ylim(1, top**1.45)
        backward.set_title("backward: two factors")
        backward.legend(loc="upper left")

        names = list(DTYPES)
        for index, (key, label) in enumerate(
            (("overflow", "1.5: overflows"), ("zero", "0.5: is 0"))
        ):
            places = [i + 0.4 * index - 0.2 for i in range(len(names))]
            heights = [numbers[f"{key}_{name}"] for name in names]
            bars = ends.bar(
                places,
                heights,
                0.38,
                color=figures.COLORS[index],
                label=label,
                hatch=("", "//")[index],
            )
            ends.bar_label(bars, [f"{h:.0f}" for h in heights], fontsize=9.5, padding=2)
        ends.set_xticks(range(len(names)), names)
        ends.set(yscale="log", ylabel="layers until then")
        ends.set_ylim(10, 6e3)
        ends.set_title("where each format ends")
        ends.legend(loc="upper left")
        return figure


def power(factor: float, depth: int) -> float:
    """Factor^depth, infinite where Python's own would raise."""
    return float(torch.tensor(factor, dtype=torch.float64) ** depth)


def chain(factor: float, depth: int) -> Tensor:
    """The signal of a chain after 0 … depth layers of factor times the identity, for input 1."""
    x = torch.ones((), dtype=torch.float64)
    passed = [x]
    for _ in range(depth):
        x = factor * x
        passed.append(x)
    return torch.stack(passed)


def first_gradients(factor: float, depth: int, loss: Any) -> list[float]:
    """Gradient of every weight of the chain, by autograd, layer 1 first."""
    weights = torch.full((depth,), factor, dtype=torch.float64, requires_grad=True)
    x = torch.ones((), dtype=torch.float64)
    for weight in weights:
        x = weight * x
    (gradient,) = torch.autograd.grad(loss(x), weights)
    return [float(g) for g in gradient]


def first_depth(factor: float, dtype: torch.dtype, reached: Any) -> int:
    """Layers after which the signal in a number format is infinite, or zero."""
    x, depth = torch.ones((), dtype=dtype), 0
    while not reached(x):
        x, depth = x * factor, depth + 1
    return depth
