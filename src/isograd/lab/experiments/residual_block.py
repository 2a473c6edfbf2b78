"""What does a skip do to the Jacobian of a block?

A block F of two layers, as F(x) and as F(x) + x. The Jacobian of the second is the identity plus
that of the first: no direction can vanish unless the branch cancels it. Autograd against the
formula, and the singular values of both.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ROUNDING = "rounding of two matrix products in float64"


@dataclass(frozen=True)
class ResidualBlock(Experiment):
    code: ClassVar[str] = "residual-block"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.19",
            "true",
            "Its Jacobian is that of F: half of the directions are lost at a ReLU.",
            (
                below("plain_difference", 1e-12, ROUNDING),
                below("plain_smallest", 1e-6, "ReLU turns off about half of 64 units; rank 32"),
            ),
        ),
        Answer(
            "S0.20",
            "true",
            "Its Jacobian is I + F'; with F = 0 it is I.",
            (
                below("skip_difference", 1e-12, ROUNDING),
                exactly("zero_difference", 0.0, "no arithmetic is left"),
                above("skip_smallest", 0.3, "a branch scaled by 0.3 moves singular values by less"),
            ),
        ),
        Answer(
            "S0.F4",
            "true",
            "Drawn with the Jacobians of its two ways.",
            (below("skip_difference", 1e-12, ROUNDING),),
        ),
    )

    width: int = 64
    """Of the stream."""
    scale: float = 0.3
    """Of the branch, in the network with a skip."""

    def run(self, bench: "Bench") -> Measured:
        stream = bench.generator()
        shape = (2, self.width, self.width)
        inner, outer = torch.randn(shape, generator=stream, dtype=torch.float64) * (
            (2 / self.width) ** 0.5
        )
        x = torch.randn(self.width, generator=stream, dtype=torch.float64)

        def branch(x: Tensor) -> Tensor:
            signal: Tensor = outer @ (inner @ x).relu()
            return signal

        formula = outer @ torch.diag((inner @ x > 0).double()) @ inner
        eye = torch.eye(self.width, dtype=torch.float64)
        plain = torch.func.jacrev(branch)(x)
        skip = torch.func.jacrev(lambda x: x + self.scale * branch(x))(x)
        zero = torch.func.jacrev(lambda x: x + 0 * branch(x))(x)
        values = {
            "F(x)": torch.linalg.svdvals(plain),
            f"x + {self.scale:g} F(x)": torch.linalg.svdvals(skip),
        }
        numbers: dict[str, Any] = {
            "plain_difference": (plain - formula).abs().max(),
            "skip_difference": (skip - eye - self.scale * formula).abs().max(),
            "zero_difference": (zero - eye).abs().max(),
            "plain_smallest": values["F(x)"][-1],
            "skip_smallest": torch.linalg.svdvals(skip)[-1],
        }
        return Measured(numbers, {"values": values})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (drawing, spectrum) = figures.new(
            "The Jacobian of F(x) + x is I + F': no direction is lost, "
            f"{numbers['skip_smallest']:.2f} is left of the weakest",
            2,
        )
        draw_block(drawing)
        for index, (label, values) in enumerate(told["values"].items()):
            figures.measured(
                spectrum,
                range(1, len(values) + 1),
                [max(v, 1e-3) for v in values],
                index,
                label=label,
            )
        spectrum.axhline(1, color="black", linewidth=1)
        spectrum.set(yscale="log", xlabel="direction, strongest first", ylabel="singular value")
        spectrum.set_title("what a block does to directions (below 0.001: at the rim)")
        spectrum.legend(loc="lower left")
        return figure


def draw_block(axes: "Axes") -> None:
    """The block as boxes and arrows."""
    axes.axis("off")
    axes.set(xlim=(0, 10), ylim=(0, 10))
    box = {"boxstyle": "round,pad=0.5", "facecolor": "#eef4fa", "edgecolor": figures.COLORS[0]}
    places = {"x": (1, 5), "layer": (3.6, 5), "ReLU, layer": (6.2, 5), "+": (8.4, 5)}
    for text, (x, y) in places.items():
        axes.text(x, y, text, ha="center", va="center", bbox=box, fontsize=12)
    arrow = {"arrowstyle": "->", "lw": 1.8, "color": "black", "zorder": 0}
    for start, end in ((1.4, 2.75), (4.45, 4.95), (7.45, 8.0), (8.8, 10)):
        axes.annotate("", (end, 5), (start, 5), arrowprops=arrow)
    skip = {**arrow, "color": figures.COLORS[1], "connectionstyle": "arc3,rad=-0.4", "lw": 2.4}
    axes.annotate("", (8.4, 5.6), (1, 5.6), arrowprops=skip)
    axes.text(4.7, 8.6, "identity: Jacobian I", color=figures.COLORS[1], ha="center")
    axes.text(4.9, 3.4, "branch F: Jacobian F'", color=figures.COLORS[0], ha="center")
    axes.set_title("a residual block")
