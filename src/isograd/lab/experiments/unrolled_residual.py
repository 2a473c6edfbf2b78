"""Is a residual network the sum of its paths?

Three blocks x + F(x) unroll into eight paths, each of which goes through a branch or around it.
For linear branches the outputs of the paths add up to the network's. For branches with a ReLU they
do not, since a branch of a sum is no sum of branches; but the Jacobian is the sum over paths,
always.
"""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ROUNDING = "rounding of eight paths of at most three products in float64"
BLOCKS = 3


@dataclass(frozen=True)
class UnrolledResidual(Experiment):
    code: ClassVar[str] = "unrolled-residual"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.21",
            "true",
            "Of the outputs for linear branches only; for others it is an approximation. Of the "
            "Jacobian it is exact, for a product of (I + F') multiplied out is a sum over paths.",
            (
                below("linear_gap", 1e-12, ROUNDING),
                above("relu_gap", 0.02, "branches of a sum; tenths of the output at this scale"),
                below("jacobian_gap", 1e-12, ROUNDING),
            ),
        ),
        Answer(
            "S0.F5",
            "true",
            "Each path drawn with the norm of its part of the Jacobian.",
            (below("jacobian_gap", 1e-12, ROUNDING),),
        ),
    )

    width: int = 32
    """Of the stream."""
    scale: float = 0.5
    """Of every branch; He-initialized weights."""

    def run(self, bench: "Bench") -> Measured:
        stream = bench.generator()
        weights = torch.randn(
            (BLOCKS, self.width, self.width), generator=stream, dtype=torch.float64
        ) * (self.scale * (2 / self.width) ** 0.5)
        x = torch.randn(self.width, generator=stream, dtype=torch.float64)
        gaps = {}
        for name in ("linear", "relu"):
            whole, parts = x, torch.zeros_like(x)
            for weight in weights:
                whole = whole + branch(weight, whole, name)
            for way in itertools.product((False, True), repeat=BLOCKS):
                part = x
                for through, weight in zip(way, weights, strict=True):
                    part = branch(weight, part, name) if through else part
                parts = parts + part
            gaps[name] = float((whole - parts).norm() / whole.norm())

        def network(x: Tensor) -> Tensor:
            for weight in weights:
                x = x + branch(weight, x, "relu")
            return x

        slopes, at = [], x
        for weight in weights:
            slopes.append(torch.func.jacrev(lambda x, w=weight: branch(w, x, "relu"))(at))
            at = at + branch(weight, at, "relu")
        eye = torch.eye(self.width, dtype=torch.float64)
        norms, total = {}, torch.zeros_like(eye)
        for way in itertools.product((False, True), repeat=BLOCKS):
            part = eye
            for through, slope in zip(way, slopes, strict=True):
                part = slope @ part if through else part
            total = total + part
            norms["".join(str(int(t)) for t in way)] = float(part.norm() / self.width**0.5)
        whole = torch.func.jacrev(network)(x)
        numbers: dict[str, Any] = {
            "linear_gap": gaps["linear"],
            "relu_gap": gaps["relu"],
            "jacobian_gap": (whole - total).abs().max(),
        }
        return Measured(numbers, {"norms": norms})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (graph, bars) = figures.new(
            "Eight paths add up to the Jacobian; to the output only if branches are linear: "
            f"with ReLU they miss it by {numbers['relu_gap']:.0%}",
            2,
            width=5.8,
        )
        draw_paths(graph, told["norms"])
        ordered = sorted(told["norms"].items(), key=lambda item: (item[0].count("1"), item[0]))
        colors = [figures.COLORS[way.count("1")] for way, _ in ordered]
        bars.barh(range(len(ordered)), [norm for _, norm in ordered], color=colors)
        bars.set_yticks(range(len(ordered)), [name_of(way) for way, _ in ordered])
        bars.invert_yaxis()
        bars.set(xlabel="rms singular value of its part of the Jacobian")
        bars.set_title("by path: longer ones carry less")
        return figure


def branch(weight: Tensor, x: Tensor, name: str) -> Tensor:
    """A layer, of x itself or of its positive part."""
    return weight @ (x if name == "linear" else x.relu())


def name_of(way: str) -> str:
    """The branches that a path goes through, such as F3 F1."""
    through = [f"F{i + 1}" for i, bit in enumerate(way) if bit == "1"]
    return " ".join(reversed(through)) or "identity"


def draw_paths(axes: "Axes", norms: dict[str, float]) -> None:
    """The unrolled graph: a line per path, as wide as what it carries."""
    axes.axis("off")
    axes.set(xlim=(-0.3, BLOCKS + 0.3), ylim=(-0.8, len(norms) - 0.2))
    for row, (way, norm) in enumerate(sorted(norms.items(), key=lambda i: i[0].count("1"))):
        y, color = len(norms) - 1 - row, figures.COLORS[way.count("1")]
        axes.plot([0, BLOCKS], [y, y], color=color, lw=1 + 4 * norm, solid_capstyle="round")
        for block, bit in enumerate(way):
            if bit == "1":
                axes.text(
                    block + 0.5, y, f"F{block + 1}", ha="center", va="center", fontsize=10.5,
                    bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": color},
                )  # fmt: skip
    axes.text(0, -0.7, "x", ha="center")
    axes.text(BLOCKS, -0.7, "sum", ha="center")
    axes.set_title("three blocks, unrolled; width: what a path carries")
