"""What does each activation make of a standard normal input?

Mean, spread, energy and slope of twelve activations, by theory's quadrature and by pushing random
numbers through torch's own functions and their derivatives. The table decides much of what follows:
how large weights must be, whether signal and gradient can be kept by one gain, and how far outputs
lie from zero. Leaky ReLU and ELU are closer to zero than ReLU, not centered; SELU keeps the signal
at exactly 1 and lets the gradient grow.
"""

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import ACTIVATIONS
from isograd.theory import activation
from isograd.theory.averages import averages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

ZOO = {
    "sigmoid": ("sigmoid", {}),
    "tanh": ("tanh", {}),
    "ReLU": ("relu", {}),
    "leaky 0.01": ("leaky_relu", {"negative_slope": 0.01}),
    "leaky 0.2": ("leaky_relu", {"negative_slope": 0.2}),
    "ELU": ("elu", {}),
    "SELU": ("selu", {}),
    "GELU": ("gelu", {}),
    "SiLU": ("silu", {}),
    "softplus": ("softplus", {}),
    "Mish": ("mish", {}),
    "sin": ("sin", {}),
}
"""By the name in the figure: name in theory, parameters."""
QUADRATURE = "theory's quadrature, right to ten digits; the value is given to five"
DRAWN = "a million draws: three standard errors, 3 / sqrt(n) times a spread below 1.2"


@dataclass(frozen=True)
class ActivationZoo(Experiment):
    code: ClassVar[str] = "activation-zoo"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.2",
            "true",
            "Twelve activations, their derivatives, and four averages of each.",
            (
                below("worst", 5.0, "standard errors; 48 averages lie within 3.5 of theory's"),
                near("second_gelu", 0.42522, QUADRATURE, abs=1e-5),
                near("slope_tanh", 0.46440, QUADRATURE, abs=1e-5),
                near("slope_silu", 0.37948, QUADRATURE, abs=1e-5),
            ),
        ),
        Answer(
            "S3.3",
            "true",
            "Between 0 and 1 as a formula; float32 rounds it to exactly 1 from 16.6 on.",
            (
                above("lowest_sigmoid", 0.0, "e^-87 is still a number in float32"),
                exactly("highest_sigmoid", 1.0, "rounding of 1 - e^-20"),
            ),
        ),
        Answer(
            "S3.6",
            "true",
            "Its mean is 2.4 of its own standard deviations away from zero.",
            (near("offset_sigmoid", 2.4006, QUADRATURE, abs=1e-3),),
        ),
        Answer(
            "S3.13",
            "true",
            "",
            (
                near("mean_tanh", 0.0, "odd: exact but for rounding", abs=1e-12),
                exactly("highest_tanh", 1.0, "float32 rounds it to 1 from 9 on"),
            ),
        ),
        Answer("S3.18", "true", "", (near("mean_relu", 0.398942, QUADRATURE, abs=1e-5),)),
        Answer(
            "S3.23",
            "wrong",
            "A leak of 0.01 moves the mean from 0.399 to 0.395 and so centers nothing: the offset "
            "stays at 0.67 standard deviations. A leak of 0.2 leaves 0.49. It does keep a gradient "
            "everywhere.",
            (
                near("offset_leaky_0.01", 0.67332, QUADRATURE, abs=1e-4),
                near("offset_relu", 0.68333, QUADRATURE, abs=1e-4),
                near("offset_leaky_0.2", 0.49355, QUADRATURE, abs=1e-4),
            ),
        ),
        Answer(
            "S3.24",
            "true",
            "",
            (
                near("leak", 0.01, "float32 rounds 0.01", abs=1e-9),
                exactly("leaky_right", 1.0, "the identity"),
            ),
        ),
        Answer(
            "S3.31",
            "true",
            "The two constants are those at which zero mean and unit variance are a fixed point.",
            (
                near("selu_scale", 1.0507009873554805, "root of two equations", abs=1e-6),
                near("selu_alpha", 1.6732632423543772, "root of two equations", abs=1e-6),
                near("second_selu", 1.0, QUADRATURE, abs=1e-9),
                near("mean_selu", 0.0, QUADRATURE, abs=1e-9),
            ),
        ),
        Answer(
            "X5",
            "true",
            "ELU's mean is 0.16, a fifth of its spread; leaky ReLU's 0.39, two thirds of it.",
            (
                near("offset_elu", 0.20399, QUADRATURE, abs=1e-4),
                near("offset_leaky_0.01", 0.67332, QUADRATURE, abs=1e-4),
            ),
        ),
        Answer(
            "S3.F4",
            "true",
            "Redrawn, with the derivatives.",
            (below("worst", 5.0, "the curves are those that were averaged"),),
        ),
    )
    scales: ClassVar = {"fast": {"draws": 100_000}}

    draws: int = 1_000_000
    """Random inputs."""

    def run(self, bench: "Bench") -> Measured:
        z = torch.randn(self.draws, generator=bench.generator(), dtype=torch.float64)
        numbers: dict[str, Any] = {}
        rows, worst = [], 0.0
        for label, (name, params) in ZOO.items():
            of = averages(activation(name, **params), 1.0)
            std = sqrt(of.square - of.mean**2)
            key = label.lower().replace(" ", "_")
            numbers[f"mean_{key}"], numbers[f"offset_{key}"] = of.mean, of.mean / std
            numbers[f"second_{key}"], numbers[f"slope_{key}"] = of.square, of.slope_square
            x = z.clone().requires_grad_()
            y = ACTIVATIONS[name](**params)(x)
            (slope,) = torch.autograd.grad(y.sum(), x)
            y = y.detach()
            for drawn, wanted in (
                (y, of.mean),
                (y.square(), of.square),
                (slope.square(), of.slope_square),
            ):
                error = float(drawn.std()) / sqrt(self.draws)
                worst = max(worst, abs(float(drawn.mean()) - wanted) / max(error, 1e-12))
            rows.append([label, of.mean, std, of.square, of.slope_square, float(y.mean())])
        ends = torch.tensor([-80.0, 20.0])
        numbers |= {
            "worst": worst,
            "lowest_sigmoid": torch.sigmoid(ends)[0],
            "highest_sigmoid": torch.sigmoid(ends)[1],
            "highest_tanh": torch.tanh(ends)[1],
            "leak": nn.functional.leaky_relu(torch.tensor(-1.0)).neg(),
            "leaky_right": nn.functional.leaky_relu(torch.tensor(1.0)),
        }
        numbers["selu_scale"], numbers["selu_alpha"] = selu_constants()
        grid = [k / 20 for k in range(-80, 81)]
        curves = {}
        for label, (name, params) in ZOO.items():
            x = torch.tensor(grid, requires_grad=True)
            y = ACTIVATIONS[name](**params)(x)
            (slope,) = torch.autograd.grad(y.sum(), x)
            curves[label] = [y.detach(), slope]
        rounded = {k: [[round(float(v), 4) for v in line] for line in c] for k, c in curves.items()}
        return Measured(numbers, {"rows": rows, "grid": grid, "curves": rounded})

    def figure(self, result: "Result") -> "Figure":
        told = result.series
        figure, panels = figures.new(
            "Of twelve activations only tanh, sin and SELU are centered at zero, and only SELU "
            "keeps a signal of size 1",
            4,
            width=3.2,
            height=2.6,
            rows=3,
        )
        for axes, (label, mean, _, second, slope, _) in zip(panels, told["rows"], strict=True):
            value, derivative = told["curves"][label]
            axes.plot(told["grid"], value, color=figures.COLORS[0], label="φ")
            axes.plot(told["grid"], derivative, color=figures.COLORS[1], linestyle="--", label="φ′")
            axes.set_ylim(-1.9, 2.6)
            axes.set_title(label, fontweight="bold")
            axes.text(
                0.03, 0.97, f"Eφ {mean + 0:.3f}\nEφ² {second:.3f}\nEφ′² {slope:.3f}",
                transform=axes.transAxes, va="top", fontsize=10.5,
            )  # fmt: skip
            axes.set_xlabel("x")
        panels[0].legend(loc="lower right")
        return figure


def selu_constants() -> tuple[float, float]:
    """Scale and alpha at which mean 0 and variance 1 are kept, by Newton's method.

    E phi = 0 gives alpha; E phi^2 = 1 then gives the scale (Klambauer et al. 2017, section 2).
    """
    from scipy.special import ndtr

    # For z standard normal: E max(z, 0) = 1/sqrt(2 pi), E[exp(k z); z < 0] = e^(k k / 2) Phi(-k).
    first = 1.6487212707001282 * ndtr(-1.0)
    second = 7.38905609893065 * ndtr(-2.0)
    alpha = 0.3989422804014327 / (0.5 - first)
    square = 0.5 + alpha**2 * (second - 2 * first + 0.5)
    return float(square**-0.5), float(alpha)
