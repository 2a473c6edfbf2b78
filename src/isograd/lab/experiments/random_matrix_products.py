"""Is a gain of 1 on average enough, or must every direction keep its length?

Products of square matrices whose mean square gain is exactly 1: independent Gaussian entries of
variance 1 / width, against random orthogonal ones. On average both keep the length of a vector.
But a Gaussian product stretches a few directions and forgets the others, more with every layer,
where an orthogonal one keeps all.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from isograd.lab import figures
from isograd.lab.expected import above, below, between, near
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class RandomMatrixProducts(Experiment):
    code: ClassVar[str] = "random-matrix-products"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.9",
            "wrong",
            "1.5 times the identity is a scalar matrix, not the identity. And no general matrix "
            "has one factor: its singular values say what it does to each direction. A mean gain "
            "of 1 over Gaussian matrices leaves a handful of directions after 20 layers.",
            (
                above(
                    "gaussian_spread",
                    1e14,
                    "about 1e17, and the smallest singular value is noise of float64 from there on",
                ),
                between(
                    "gaussian_rank",
                    3.0,
                    7.0,
                    "exp of the entropy of the energy over directions, median of the draws; single "
                    "ones scatter from 3 to 7",
                ),
                below("orthogonal_spread", 1 + 1e-12, "rounding of 20 products in float64"),
                near(
                    "square_growth",
                    1.0,
                    "mean of s^2 over directions and draws; its relative standard error is about "
                    "sqrt((exp(2 L / n) - 1) / draws) = 0.11 at 20 x 64",
                    abs=0.4,
                ),
            ),
        ),
    )

    depth: int = 20
    """Matrices in the product."""
    width: int = 64
    """Rows and columns of each."""
    draws: int = 80
    """Products of each kind."""

    def run(self, bench: "Bench") -> Measured:
        stream = bench.generator()
        shape = (self.draws, self.width, self.width)
        at = sorted({1, 2, 5, 10, self.depth})
        kept: dict[str, list[list[float]]] = {"gaussian": [], "orthogonal": []}
        products = {name: torch.eye(self.width, dtype=torch.float64).expand(shape) for name in kept}
        for layer in range(1, self.depth + 1):
            draw = torch.randn(shape, generator=stream, dtype=torch.float64)
            orthogonal, triangle = torch.linalg.qr(draw)
            orthogonal = orthogonal * triangle.diagonal(dim1=1, dim2=2).sign()[:, None]
            products["gaussian"] = draw / self.width**0.5 @ products["gaussian"]
            products["orthogonal"] = orthogonal @ products["orthogonal"]
            if layer in at:
                for name, product in products.items():
                    kept[name].append(torch.linalg.svdvals(product).median(0).values.tolist())
        values = torch.linalg.svdvals(products["gaussian"])
        share = values**2 / (values**2).sum(1, keepdim=True)
        straight = torch.linalg.svdvals(products["orthogonal"])
        numbers = {
            "gaussian_spread": (values[:, 0] / values[:, -1]).median(),
            # Exponential of the entropy of the energy over directions.
            "gaussian_rank": (-(share * share.clamp_min(1e-300).log()).sum(1)).exp().median(),
            "orthogonal_spread": (straight[:, 0] / straight[:, -1]).max(),
            "square_growth": (values**2).mean(),
        }
        return Measured(numbers, {"at": at, **kept})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, panels = figures.new(
            f"{result.settings['depth']} Gaussian matrices of gain 1 leave about "
            f"{numbers['gaussian_rank']:.0f} of {result.settings['width']} directions; "
            "orthogonal ones keep all",
            2,
        )
        for axes, name in zip(panels, ("gaussian", "orthogonal"), strict=True):
            for index, (depth, values) in enumerate(zip(told["at"], told[name], strict=True)):
                style = figures.look(index) | {"marker": "", "label": f"{depth} layers"}
                axes.plot(range(1, len(values) + 1), values, **style)
            axes.set(yscale="log", xlabel="direction, strongest first", ylim=(1e-17, 1e4))
            axes.set_title(f"{name} weights")
        panels[0].set_ylabel("singular value (median of draws)")
        panels[0].legend(loc="lower left")
        panels[1].legend(loc="lower left")
        return figure
