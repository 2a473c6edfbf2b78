"""Do positive weights and inputs keep ReLUs alive?

Weights of the size of He's, all made positive, and pixels from 0 to 1. No unit is ever off, and
nothing else is left either: every unit computes nearly the same sum, the mean grows by n E|w| per
layer, and the loss is astronomic before the first step. After one step weights are negative again.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.prediction.predicting import predict
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

LAW = "n E|w| = sqrt(4 n / pi); the mean of 65,536 weights strays by 0.3 %"


@dataclass(frozen=True)
class PositiveWeights(Experiment):
    code: ClassVar[str] = "positive-weights"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.38",
            "wrong",
            "They keep sums from being negative and destroy all else: units are all alike, the "
            "signal grows by sqrt(4 n / pi) per layer, 18 at a width of 256, and the loss is "
            "astronomic. After the first step weights are negative anyway.",
            (
                near("growth", "growth_theory", LAW, rel=0.01),
                near(
                    "mean_last",
                    "mean_last_predicted",
                    "isograd's prediction from the weights' mean and variance, without running "
                    "the network",
                    rel=0.03,
                ),
                exactly("off", 0.0, "sums of positive numbers"),
                below("distinct", 0.1, "spread over the units against their mean, last layer"),
                above("loss", 1e8, "18^10 times the input"),
                above("negative_after", 0.02, "share of negative weights after one small step"),
                exactly("classes", 1.0, "distinct predictions: all alike"),
            ),
        ),
        Answer(
            "X8",
            "imprecise",
            "It is sqrt(4 n / pi), 18.05 at width 256; 17.6 was the first layers' factor in one "
            "draw.",
            (near("growth", 18.05, LAW, rel=0.01),),
        ),
    )

    width: int = 256
    """Units of every layer."""
    depth: int = 10
    """Hidden layers."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().scaled()
        batch = data.inputs[:128], data.labels[:128]
        numbers: dict[str, Any] = {"growth_theory": math.sqrt(4 * self.width / math.pi)}
        rms, means, expected = {}, {}, []
        for name in ("positive", "he"):
            net = mlp(data.size, self.width, self.depth, 10, init="he", seed=bench.seed)
            if name == "positive":
                with torch.no_grad():
                    for module in net.modules():
                        if isinstance(module, nn.Linear):
                            module.weight.abs_()
            record = measure(net, batch)
            units = [i for i, site in enumerate(record.sites) if site.kind == "relu"]
            rms[name] = [float(record.value("forward.rms", i) or 0) for i in units]
            means[name] = [float(record.value("forward.mean", i) or 0) for i in units]
            if name == "positive":
                foretold = predict(net, batch)
                expected = [float(foretold.value("forward.mean", i) or 0) for i in units]
                numbers["mean_last"] = means[name][-1]
                numbers["mean_last_predicted"] = expected[-1]
                last = units[-1]
                numbers["off"] = max(float(record.value("forward.zero", i) or 0) for i in units[1:])
                numbers["loss"] = float(record.fact("loss.value"))
                numbers["growth"] = (means[name][-1] / means[name][0]) ** (1 / (self.depth - 1))
                outputs = net[: last + 2](batch[0]).double()
                numbers["distinct"] = (outputs.std(1) / outputs.mean(1)).mean()
                numbers["classes"] = len(net(batch[0]).argmax(1).unique())
                numbers["negative_after"] = step_negative(net, batch)
        series = {
            "layers": list(range(1, self.depth + 1)),
            "rms": rms,
            "means": means,
            "expected": expected,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        layers = told["layers"]
        figure, (axes,) = figures.new(
            f"All-positive weights: × {numbers['growth']:.1f} per layer, a loss of "
            f"{numbers['loss']:.0e}, and one answer for every input",
        )
        figures.theory(
            axes, layers, told["expected"], label="predicted: × $\\sqrt{4n/\\pi}$ per layer"
        )
        figures.measured(axes, layers, told["means"]["positive"], 1, label="all positive, mean")
        figures.measured(axes, layers, told["means"]["he"], 0, label="He, mean")
        axes.set(yscale="log", xlabel="layer", ylabel="mean activation")
        axes.set_title(f"width {result.settings['width']}, inputs from 0 to 1")
        axes.legend(loc="upper left")
        return figure


def step_negative(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Share of negative weights after one step of Adam with learning rate 0.1 of their size."""
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Linear)]
    optimizer = torch.optim.Adam(weights, 0.1 * float(weights[1].detach().std()))
    nn.functional.cross_entropy(net(batch[0]), batch[1]).backward()
    optimizer.step()
    return float(torch.cat([w.flatten() < 0 for w in weights]).double().mean())
