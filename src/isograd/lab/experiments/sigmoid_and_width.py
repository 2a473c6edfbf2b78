"""Do weights of N(0, 1) make the gradient of a sigmoid network vanish?

Only of a narrow one. A unit's gradient is a sum over all n units behind it, so that a layer
multiplies its energy by chi = n E s'^2, at the size of the pre-activations that weights of N(0, 1)
lead to. Theory says that chi is 1 at a width of 103: below, gradients vanish, above, they explode.
Networks of ten layers are measured by isograd at widths from 4 to 1000.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below, between, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

BAND = (
    "theory is for wide layers; ln of the factor strays by the backward band of theory for this "
    "depth, per layer, four standard errors over the seeds"
)
SWITCHES = "vanishing below, exploding above: chi crosses 1 at 103"


@dataclass(frozen=True)
class SigmoidAndWidth(Experiment):
    code: ClassVar[str] = "sigmoid-and-width"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.19",
            "imprecise",
            "True of one unit per layer. With n units per layer n products add up, chi = n E s'^2 "
            "in energy, and N(0, 1) weights make gradients explode from a width of 103 on.",
            (
                near("crossing", 103.0, "theory's crossing; the layer widths are whole", abs=5.0),
                below("factor_30", 0.9, SWITCHES),
                between("factor_100", 0.9, 1.12, "theory's 0.99, at the crossing"),
                above("factor_300", 1.1, SWITCHES),
                near("factor_300", "factor_300_theory", BAND, rel=0.1),
            ),
        ),
        Answer(
            "S1.22",
            "true",
            "Of sigmoids too, once they are wide: by 1.7 per layer at a width of 1000.",
            (above("factor_300", 1.1, SWITCHES),),
        ),
        Answer(
            "X1",
            "true",
            "",
            (near("crossing", 103.0, "theory's crossing; the layer widths are whole", abs=5.0),),
        ),
    )
    scales: ClassVar = {"fast": {"widths": (4, 10, 30, 100, 300), "seeds": 3}}

    widths: tuple[int, ...] = (4, 10, 30, 100, 300, 1000)
    """Of every layer."""
    depth: int = 10
    """Hidden layers."""
    seeds: int = 8
    """Networks per width."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        batch = data.inputs[:64], data.labels[:64]
        numbers: dict[str, Any] = {"crossing": crossing()}
        factors, spread = [], []
        for width in self.widths:
            logs = []
            for seed in range(self.seeds):
                net = mlp(
                    data.size, width, self.depth, 10, activation="sigmoid", init="normal",
                    seed=bench.seed + seed,
                )  # fmt: skip
                record = measure(net, batch)
                gradient = [
                    float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[1:-1]
                ]
                logs.append(math.log(gradient[0] / gradient[-1]) / (len(gradient) - 1))
            mean = sum(logs) / len(logs)
            factors.append(math.exp(mean))
            spread.append(math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1)))
            numbers[f"factor_{width}"] = factors[-1]
            numbers[f"factor_{width}_theory"] = math.sqrt(chi(width))
        fine = [round(4 * 1.15**i) for i in range(41)]
        series = {
            "widths": self.widths,
            "factors": factors,
            "spread": [f * s for f, s in zip(factors, spread, strict=True)],
            "fine": fine,
            "theory": [math.sqrt(chi(n)) for n in fine],
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        widest = told["widths"][-1]
        figure, (axes,) = figures.new(
            f"Sigmoids with weights of N(0, 1): gradients vanish below a width of "
            f"{numbers['crossing']:.0f} and explode above it",
        )
        figures.theory(axes, told["fine"], told["theory"], label="theory, sqrt(n E s'²)")
        figures.measured(
            axes, told["widths"], told["factors"], 0, spread=told["spread"],
            label=f"{result.settings['depth']} layers, {result.settings['seeds']} networks each",
        )  # fmt: skip
        axes.axhline(1, color=figures.GRAY, linewidth=1, linestyle=":")
        axes.axvline(numbers["crossing"], color=figures.GRAY, linewidth=1, linestyle=":")
        axes.fill_between([3, numbers["crossing"]], 0.1, 1, color=figures.COLORS[0], alpha=0.08)
        axes.fill_between([numbers["crossing"], 1500], 1, 3, color=figures.COLORS[1], alpha=0.1)
        axes.text(4, 0.86, "vanishes", color=figures.COLORS[0])
        axes.text(1300, 1.08, "explodes", color=figures.COLORS[1], ha="right")
        axes.set(xscale="log", yscale="log", xlabel="width $n$", xlim=(3, 1500), ylim=(0.15, 2.5))
        axes.set_ylabel("gradient, factor per layer")
        axes.set_title(f"× {told['factors'][-1]:.2f} per layer at {widest}")
        axes.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
        axes.minorticks_off()
        axes.legend(loc="upper left")
        return figure


def chi(width: float) -> float:
    """Factor on the gradient's energy per layer, of weights of N(0, 1) at this width."""
    return theory.phase("sigmoid", weight_var=float(width)).chi_1 or math.nan


def crossing() -> float:
    """The width at which it is 1."""
    low, high = 10.0, 1000.0
    while high - low > 0.01:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if chi(middle) < 1 else (low, middle)
    return low
