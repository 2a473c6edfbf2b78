"""What are the slopes of ReLU and its leaky relatives, and what is assigned at 0?

Values and derivatives by autograd against the formulas, and the derivative at exactly 0, where
there is none: every framework assigns one. Then a chain of ten leaky units that are all negative:
the gradient is the slope to the power of ten, as small as any sigmoid's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.theory import activation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

AT_ZERO = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.01),
    "elu": nn.ELU(),
    "hardtanh": nn.Hardtanh(),
    "prelu": nn.PReLU(),
}
ASSIGNED = "a convention of torch; no tolerance"
FORMULA = "no arithmetic but a product with the slope: one rounding at most"


@dataclass(frozen=True)
class ReluCurves(Experiment):
    code: ClassVar[str] = "relu-curves"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer("S1.29", "true", "", (exactly("value_error", 0.0, "max(0, x) is not rounded"),)),
        Answer(
            "S1.31",
            "imprecise",
            "At 0 it has none, but one is assigned: 0 for ReLU in torch, 0.01 for leaky ReLU, 1 "
            "for ELU, 0.25 for PReLU. That is no rare case where inputs or biases are exactly 0.",
            (
                exactly("slope_error", 0.0, FORMULA),
                exactly("zero_relu", 0.0, ASSIGNED),
                near("zero_leaky_relu", 0.01, "float32's 0.01", rel=1e-6),
                exactly("zero_elu", 1.0, ASSIGNED),
                exactly("zero_hardtanh", 1.0, ASSIGNED),
                exactly("zero_prelu", 0.25, ASSIGNED),
            ),
        ),
        Answer(
            "S1.43",
            "true",
            "A straight line on either side.",
            (below("leaky_error", 1e-7, FORMULA),),
        ),
        Answer(
            "S1.44",
            "true",
            "Through ten negative units a slope of 0.01 leaves 1e-20. In a layer of many units "
            "half of them are positive, and the leak hardly changes the gradient: its energy "
            "is (1 + 0.01^2) / 2 per layer, in place of 1/2.",
            (
                near("negative_chain", 1e-20, "ten factors in float64", rel=1e-12),
                near("energy_leaky", "energy_leaky_theory", "closed form and quadrature", rel=1e-9),
            ),
        ),
        Answer(
            "S1.F6",
            "true",
            "Redrawn with torch's own numbers.",
            (exactly("slope_error", 0.0, FORMULA),),
        ),
        Answer(
            "S1.F7",
            "true",
            "Redrawn with torch's own numbers.",
            (below("leaky_error", 1e-7, FORMULA),),
        ),
    )

    slope: float = 0.01
    """Of the leaky units."""
    depth: int = 10
    """Units in the chain."""

    def run(self, bench: "Bench") -> Measured:
        x = torch.linspace(-3, 3, 121)
        x = x[x.abs() > 1e-6].requires_grad_()
        numbers: dict[str, Any] = {}
        curves: dict[str, Any] = {}
        for name, module in (("relu", nn.ReLU()), ("leaky", nn.LeakyReLU(self.slope))):
            value = module(x)
            (slope,) = torch.autograd.grad(value.sum(), x)
            curves[name] = {"value": value.detach(), "slope": slope}
        plain = x.detach()
        positive = plain > 0
        leaky = torch.where(positive, plain, self.slope * plain)
        numbers["value_error"] = (curves["relu"]["value"] - plain.clamp(min=0)).abs().max()
        numbers["slope_error"] = (curves["relu"]["slope"] - positive.float()).abs().max()
        numbers["leaky_error"] = (curves["leaky"]["value"] - leaky).abs().max()
        for name, unit in AT_ZERO.items():
            at = torch.zeros(1, requires_grad=True)
            (slope,) = torch.autograd.grad(unit(at).sum(), at)
            numbers[f"zero_{name}"] = slope[0]
        start = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
        h, units = start, nn.LeakyReLU(self.slope)
        running = []
        for _ in range(self.depth):
            h = units(h)
            running.append(torch.autograd.grad(h, start, retain_graph=True)[0])
        numbers["negative_chain"] = running[-1]
        numbers["energy_leaky"] = theory.gains(
            activation("leaky_relu", negative_slope=self.slope)
        ).slope_moment
        numbers["energy_leaky_theory"] = (1 + self.slope**2) / 2
        series = {"x": plain, "curves": curves, "running": running}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        slope, depth = result.settings["slope"], result.settings["depth"]
        figure, (value, derivative, chain) = figures.new(
            f"ReLU's derivative is a step, with 0 assigned at 0; a leak of {slope:g} leaves "
            f"{numbers['negative_chain']:.0e} after {depth} negative units",
            3,
            width=4.9,
        )
        x = told["x"]
        figures.theory(value, x, [max(v, 0.0) for v in x], label="max(0, x)")
        figures.theory(
            value,
            x,
            [v if v > 0 else slope * v for v in x],
            label=f"leaky, {slope:g}",
            linestyle="--",
        )
        for index, (name, label) in enumerate((("relu", "ReLU"), ("leaky", "leaky ReLU"))):
            part = slice(6 * index, None, 12)
            curve = told["curves"][name]
            figures.measured(value, x[part], curve["value"][part], index, label=f"torch, {label}")
            figures.measured(derivative, x[part], curve["slope"][part], index, label=label)
        value.set(xlabel="$x$")
        value.set_title("value")
        value.legend(loc="upper left")
        derivative.plot([-3, 0], [0, 0], color="black", linewidth=1.4, label="step")
        derivative.plot([0, 3], [1, 1], color="black", linewidth=1.4)
        for index, name in enumerate(AT_ZERO, 2):
            look = {**figures.look(index), "linestyle": "none"}
            derivative.plot([0], [numbers[f"zero_{name}"]], label=f"at 0: {name}", **look)
        derivative.set(xlabel="$x$", ylim=(-0.1, 1.75))
        derivative.set_title("derivative, by autograd")
        derivative.legend(loc="upper left", ncols=2)
        layers = list(range(1, depth + 1))
        figures.theory(chain, layers, [slope**k for k in layers], label="slope$^k$")
        figures.measured(chain, layers, told["running"], 1, label="all negative")
        figures.theory(
            chain, layers, [0.25**k for k in layers], label="sigmoid at its steepest", linestyle=":"
        )
        chain.set(yscale="log", xlabel="units in a row", ylabel="gradient")
        chain.set_title("a chain of leaky units")
        chain.legend(loc="lower left")
        return figure
