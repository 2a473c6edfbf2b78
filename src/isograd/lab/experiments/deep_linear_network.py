"""Is a deep linear network one matrix, and do biases change its gradients?

Twenty layers without activation against the product of their weights. Then the same layers with
biases: these add a constant to the output and nothing to its derivative, so that the
mechanism may be studied without them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ROUNDING = "rounding of 20 products of 64 terms in float64, about 1e-15 each"


@dataclass(frozen=True)
class DeepLinearNetwork(Experiment):
    code: ClassVar[str] = "deep-linear-network"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.6",
            "true",
            "Biases move the output by a constant; its derivative in the input, and the gradient "
            "of the first weights for a given error, are the same to the last digits.",
            (
                below("jacobian_difference", 1e-12, ROUNDING),
                below("first_gradient_difference", 1e-12, ROUNDING),
                above("output_difference", 0.1, "biases of standard deviation 0.1 do move it"),
            ),
        ),
        Answer("S0.7", "true", "", (below("two_layers_difference", 1e-12, ROUNDING),)),
        Answer(
            "S0.8",
            "true",
            "As a matrix product: rank and singular values of the product are what counts, not "
            "those of one layer.",
            (
                below("product_difference", 1e-12, ROUNDING),
                exactly("rank", 64, "a product of invertible matrices is invertible"),
            ),
        ),
    )

    depth: int = 20
    """Layers."""
    width: int = 64
    """Units of each."""

    def run(self, bench: "Bench") -> Measured:
        stream = bench.generator()
        shape = (self.depth, self.width, self.width)
        weights = torch.randn(shape, generator=stream, dtype=torch.float64) / self.width**0.5
        biases = 0.1 * torch.randn(shape[:2], generator=stream, dtype=torch.float64)
        x = torch.randn(self.width, generator=stream, dtype=torch.float64)
        plain, biased = layers(weights, None, x), layers(weights, biases, x)
        products = [weights[0]]
        for weight in weights[1:]:
            products.append(weight @ products[-1])
        differences = [
            float((signal - product @ x).abs().max())
            for signal, product in zip(plain, products, strict=True)
        ]
        jacobians = [
            torch.func.jacrev(lambda x, b=b: layers(weights, b, x)[-1])(x) for b in (None, biases)
        ]
        gradients = [first_gradient(weights, b, x) for b in (None, biases)]
        numbers: dict[str, Any] = {
            "two_layers_difference": differences[1],
            "product_difference": differences[-1],
            "rank": int(torch.linalg.matrix_rank(products[-1], rtol=1e-20)),
            "jacobian_difference": (jacobians[0] - jacobians[1]).abs().max(),
            "first_gradient_difference": (gradients[0] - gradients[1]).abs().max(),
            "output_difference": (plain[-1] - biased[-1]).abs().max(),
        }
        series = {
            "layers": list(range(1, self.depth + 1)),
            "differences": differences,
            "signal": [one.square().mean().sqrt() for one in plain],
            "biased": [one.square().mean().sqrt() for one in biased],
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (signal, difference) = figures.new(
            f"{self.depth} linear layers are one matrix, to {numbers['product_difference']:.0e}; "
            "biases do not change a single derivative",
            2,
        )
        figures.measured(signal, told["layers"], told["signal"], 0, label="without biases")
        figures.measured(signal, told["layers"], told["biased"], 1, label="with biases")
        signal.set(xlabel="layer", ylabel="rms of the signal", ylim=(0, 1.25 * max(told["biased"])))
        signal.set_title("the signal moves")
        signal.legend()
        floor = 1e-18
        named = {
            "layers or\ntheir product": numbers["product_difference"],
            "Jacobian with\nor without biases": numbers["jacobian_difference"],
            "gradient with\nor without biases": numbers["first_gradient_difference"],
        }
        places = range(len(named))
        difference.bar(places, [max(v, floor) for v in named.values()], color=figures.COLORS[:3])
        difference.axhline(2.2e-16, color="black", linewidth=1.2, linestyle="--")
        difference.annotate("rounding unit of float64", (0.5, 2.8e-16), fontsize=10)
        difference.set_xticks(places, named, fontsize=10)
        difference.set(yscale="log", ylabel="largest difference", ylim=(floor, 1e-10))
        difference.set_title("the derivatives do not: exactly 0")
        return figure


def layers(weights: Tensor, biases: Tensor | None, x: Tensor) -> list[Tensor]:
    """The signal after every layer."""
    passed = []
    for index, weight in enumerate(weights):
        x = weight @ x if biases is None else weight @ x + biases[index]
        passed.append(x)
    return passed


def first_gradient(weights: Tensor, biases: Tensor | None, x: Tensor) -> Tensor:
    """Gradient of the first weights where every output has an error of 1."""
    first = weights[0].clone().requires_grad_()
    stacked = torch.cat([first[None], weights[1:]])
    (gradient,) = torch.autograd.grad(layers(stacked, biases, x)[-1].sum(), first)
    return gradient
