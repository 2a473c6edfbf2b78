"""How steep is a sigmoid, and where does it end?

The sigmoid and its derivative by autograd against s (1 - s), the height and width of the bell, and
what floating-point numbers make of "between 0 and 1": from 24 ln 2 on, a float32 sigmoid is exactly
1. The derivative that is at most 1/4 is the activation's; that of a cost need not be.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

BITS = {"fp16": 12, "bf16": 9, "fp32": 24, "fp64": 53}
"""1 - e^-x rounds to 1 where e^-x is at most 2^-bits."""
DTYPES = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp64": torch.float64,
}
FIVE = "closed form, five digits are given"


@dataclass(frozen=True)
class SigmoidCurve(Experiment):
    code: ClassVar[str] = "sigmoid-curve"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.10",
            "imprecise",
            "Open on paper only. In float32 it is exactly 1 from 24 ln 2 = 16.64 on, in fp16 from "
            "8.32, in bf16 from 6.25: there 1 - s, and with it the derivative, is exactly 0.",
            (
                near("one_fp32", 24 * math.log(2), "1 + e^-x rounds to 1; grid of 1/256", abs=0.01),
                near("one_fp16", 12 * math.log(2), "fp16 is spaced by 1/128 there", abs=0.01),
                near("one_bf16", 9 * math.log(2), "bf16 is spaced by 1/32 there", abs=0.035),
                near("one_fp64", 53 * math.log(2), "as float32; grid of 1/256", abs=0.01),
            ),
        ),
        Answer(
            "S1.12",
            "true",
            "",
            (below("formula_error", 1e-7, "autograd in float32 against s (1 - s): one rounding"),),
        ),
        Answer(
            "S1.13",
            "imprecise",
            "The bell is right: 1/4 at 0, half of it at 1.763, 0.0066 at 5. But it is the "
            "derivative of the activation. That of the cost is multiplied by weights and error, "
            "and has no such bounds.",
            (
                exactly("slope_0", 0.25, "s (1 - s) at s = 1/2, no rounding"),
                near("slope_2", 0.104994, FIVE, rel=1e-5),
                near("slope_5", 0.0066481, FIVE, rel=1e-5),
                near("slope_10", 4.5396e-5, FIVE, rel=1e-5),
                near("half_width", math.log(3 + 2 * math.sqrt(2)), "grid of 1/256", abs=0.005),
                above("cost_slope", 1.0, "(1/2 - 5) / 4 for a target of 5: no bound of 1/4"),
            ),
        ),
        Answer(
            "S1.F3",
            "true",
            "Redrawn, with autograd's own numbers on it.",
            (below("formula_error", 1e-7, "autograd in float32 against s (1 - s): one rounding"),),
        ),
    )

    def run(self, bench: "Bench") -> Measured:
        grid = torch.arange(0, 40, 1 / 256, dtype=torch.float64)
        numbers: dict[str, Any] = {}
        for name, dtype in DTYPES.items():
            ones = torch.sigmoid(grid.to(dtype)) == 1
            numbers[f"one_{name}"] = grid[ones][0]
        x = torch.linspace(-12, 12, 4801, requires_grad=True)
        s = torch.sigmoid(x)
        (slope,) = torch.autograd.grad(s.sum(), x)
        numbers["formula_error"] = (slope - (s * (1 - s))).abs().max()
        fine = grid.clone().requires_grad_()
        (bell,) = torch.autograd.grad(torch.sigmoid(fine).sum(), fine)
        for at in (0, 2, 5, 10):
            numbers[f"slope_{at}"] = bell[256 * at]
        numbers["half_width"] = grid[bell >= 0.125][-1]
        w = torch.zeros((), requires_grad=True)
        (cost,) = torch.autograd.grad((torch.sigmoid(w) - 5) ** 2 / 2, w)
        numbers["cost_slope"] = cost.abs()
        places = slice(0, None, 100)
        series = {
            "x": x.detach()[places],
            "value": s.detach()[places],
            "slope": slope[places],
            "tail": grid[256::512],
            "tails": {
                name: torch.autograd.grad(
                    torch.sigmoid(t := grid[256::512].to(dtype).requires_grad_()).sum(), t
                )[0].double()
                for name, dtype in DTYPES.items()
                if name != "fp64"
            },
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (curve, tail) = figures.new(
            f"A sigmoid is at most 1/4 steep, {numbers['slope_5']:.4f} at 5, and in float32 flat "
            f"from {numbers['one_fp32']:.1f} on",
            2,
        )
        fine = [-12 + i / 20 for i in range(481)]
        figures.theory(curve, fine, [sigmoid(x) for x in fine], label="$s = 1/(1 + e^{-x})$")
        figures.theory(
            curve,
            fine,
            [sigmoid(x) * sigmoid(-x) for x in fine],
            label="$s (1 - s)$",
            linestyle="--",
        )
        figures.measured(curve, told["x"], told["value"], 0, label="torch")
        figures.measured(curve, told["x"], told["slope"], 1, label="autograd")
        curve.axhline(0.25, color=figures.GRAY, linewidth=1, linestyle=":")
        curve.set(xlabel="$x$", xlim=(-12, 12))
        curve.set_title("value and derivative")
        curve.legend(loc="upper left")
        figures.theory(
            tail,
            told["tail"],
            [sigmoid(x) * sigmoid(-x) for x in told["tail"]],
            label="$s (1 - s)$",
        )
        for index, (name, values) in enumerate(told["tails"].items()):
            shown = [max(v, 3e-19) for v in values]
            figures.measured(tail, told["tail"], shown, index, label=name)
        tail.axhline(3e-19, color=figures.GRAY, linewidth=1, linestyle=":")
        tail.text(1, 4e-19, "exactly 0", va="bottom", color=figures.GRAY)
        tail.set(yscale="log", xlabel="$x$", ylabel="derivative")
        tail.set_title("number formats: it ends at bits × ln 2")
        tail.legend(loc="upper right")
        return figure


def sigmoid(x: float) -> float:
    """By the standard library."""
    return 1 / (1 + math.exp(-x))
