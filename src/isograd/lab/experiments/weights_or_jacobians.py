"""Is it the weights that become very small, or the product of the layers?

One plain ReLU network, drawn once as nn.Linear comes and once by He's rule, measured by isograd
before the first step: rms of every weight matrix, and of the gradient at every layer. The weights
of all layers are alike; the gradients are not. Theory predicts both: nn.Linear's weights have
variance 1 / (3 fan_in), which leaves a sixth of the energy per ReLU layer.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import below, between, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure
from isograd.theory.finite_width import band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class WeightsOrJacobians(Experiment):
    code: ClassVar[str] = "weights-or-jacobians"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.3",
            "wrong",
            "The weights of all layers are of one size and need not change at all. What grows or "
            "shrinks is the product of the layers' Jacobians, chi per layer in energy.",
            (
                below(
                    "weight_spread", 1.05, "rms over width^2 draws scatters by 1 / (width sqrt 2)"
                ),
                between(
                    "torch_log10",
                    "torch_low",
                    "torch_high",
                    "theory's sqrt(1/6) per layer, within three standard deviations of a network "
                    "this narrow",
                ),
                between("he_log10", "he_low", "he_high", "theory's 1 per layer, likewise"),
                near(
                    "torch_log10",
                    "torch_theory",
                    "the same within a factor of thirty, where 19 orders of magnitude are lost",
                    abs=1.5,
                    at=("standard",),
                ),
            ),
        ),
        Answer(
            "X15",
            "true",
            "`products-of-factors` and `random-matrix-products` show the other half.",
            (
                below(
                    "weight_spread", 1.05, "rms over width^2 draws scatters by 1 / (width sqrt 2)"
                ),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"depth": 30}}

    depth: int = 50
    """Hidden layers."""
    width: int = 100
    """Units of each."""
    batch: int = 128
    """Samples that the gradients are measured on."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        batch = data.inputs[: self.batch], data.labels[: self.batch]
        numbers: dict[str, Any] = {}
        series: dict[str, Any] = {"layers": list(range(1, self.depth + 1))}
        # ln of the gradient's rms strays by this, and lies by its square below the mean-field
        # value: energies are log-normal, and a typical one is smaller than the mean.
        strays = [0.0, *band([(self.width, "relu")] * (self.depth - 1))][::-1]
        for init, weight_var in (("torch", 1 / 3), ("he", 2.0)):
            net = mlp(data.size, self.width, self.depth, 10, init=init, seed=bench.seed)
            record = measure(net, batch)
            hidden = record.weight_sites()[:-1]
            gradient = [float(record.value("backward.rms", i) or 0) for i in hidden]
            weight = [
                float(record.value("weight.rms", record.sites[i].parameters[0]) or 0)
                for i in hidden
            ]
            chi = theory.phase("relu", weight_var=weight_var).chi_1 or math.nan
            log10 = math.log10(gradient[0] / gradient[-1])
            typical = [
                (self.depth - layer) * math.log(chi) / 2 - stray**2
                for layer, stray in zip(series["layers"], strays, strict=True)
            ]
            expected, slack = typical[0] / math.log(10), 3 * strays[0] / math.log(10)
            numbers |= {
                f"{init}_log10": log10,
                f"{init}_theory": expected,
                f"{init}_low": expected - slack,
                f"{init}_high": expected + slack,
            }
            if init == "torch":
                numbers["weight_spread"] = max(weight[1:]) / min(weight[1:])
            series |= {f"{init}_gradient": gradient, f"{init}_weight": weight}
            series[f"{init}_theory"] = [gradient[-1] * math.exp(t) for t in typical]
        series["strays"] = strays
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        lost = -numbers["torch_log10"]
        figure, panels = figures.new(
            f"All weights are alike, yet {lost:.0f} orders of magnitude of the gradient are gone: "
            "it is the product that vanishes",
            2,
        )
        titles = {"torch": "nn.Linear as it comes", "he": "He's initialization"}
        for axes, (init, title) in zip(panels, titles.items(), strict=True):
            predicted = told[f"{init}_theory"]
            stray = [math.exp(2 * s) for s in told["strays"]]
            low = [p / s for p, s in zip(predicted, stray, strict=True)]
            high = [p * s for p, s in zip(predicted, stray, strict=True)]
            figures.theory(
                axes, told["layers"], predicted, band=(low, high), label="gradient, theory ± 2 sd"
            )
            figures.measured(
                axes, told["layers"], told[f"{init}_gradient"], 0, label="gradient, measured"
            )
            figures.measured(axes, told["layers"], told[f"{init}_weight"], 1, label="weights, rms")
            axes.set(yscale="log", xlabel="layer")
            axes.set_title(title)
            axes.legend(loc="best")
        panels[0].set_ylabel("rms")
        lowest = min(told["torch_gradient"])
        for axes in panels:
            axes.set_ylim(lowest / 30, 30)
        return figure
