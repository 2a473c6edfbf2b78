"""Is batch normalization a centering of the input features?

Sigmoid networks of five and ten layers on inputs as they are, on centered and standardized inputs,
and with batch norm in every layer. Standardized inputs do not help: what is lost is lost in the
hidden layers. With batch norm, which standardizes those for every batch and then scales and shifts
them by learned numbers, both depths train; and theory says what it does to the gradient of a layer.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

FORMS = ("inputs from 0 to 1", "inputs standardized", "batch norm")


@dataclass(frozen=True)
class Centering(Experiment):
    code: ClassVar[str] = "centering"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.50",
            "imprecise",
            "Batch norm is no centering of inputs: it standardizes hidden pre-activations, batch "
            "by batch, and scales and shifts them by numbers that it learns. Standardized inputs "
            "do nothing for five sigmoid layers; batch norm trains ten.",
            (
                below("accuracy_standardized", 0.25, "one class for all"),
                above("accuracy_norm", 0.85, "0.93, seeds scatter by 0.01"),
                above("accuracy_norm_deep", 0.8, "0.93, seeds scatter by 0.01"),
                near(
                    "hidden_mean", 0.0, "batch norm's output: mean over batch and units", abs=1e-5
                ),
                near(
                    "hidden_std", 1.0, "eps against a small variance of pre-activations", abs=0.02
                ),
                near(
                    "factor_norm",
                    "factor_norm_theory",
                    "wide layers, batch of 128; width 100 loses a few percent",
                    rel=0.08,
                ),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 120, "seeds": 1}}

    depths: tuple[int, ...] = (5, 10)
    """Hidden layers."""
    width: int = 100
    """Units of every layer."""
    steps: int = 470
    """Of training, batches of 100."""
    lr: float = 0.1
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of every kind."""

    def run(self, bench: "Bench") -> Measured:
        flat = bench.data.flat()
        numbers: dict[str, Any] = {}
        curves, scores = {}, {}
        for form in FORMS:
            data = flat.scaled() if form == FORMS[0] else flat.standardized()
            nets = [
                self._make(data, depth, bench.seed + s, norm=form == "batch norm")
                for depth in self.depths
                for s in range(self.seeds)
            ]
            trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
            scores[form] = trained.accuracy.view(len(self.depths), -1).mean(1).tolist()
            curves[form] = trained.losses[:, : self.seeds].mean(1).unfold(0, 10, 10).mean(-1)
        data = flat.standardized()
        profiles = {}
        batch = data.inputs[:128], data.labels[:128]
        for norm in (False, True):
            net = self._make(data, self.depths[-1], bench.seed, norm=norm).train()
            record = measure(net, batch)
            profiles[FORMS[1 + norm]] = [
                float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[:-1]
            ]
            if norm:
                normed = [i for i, site in enumerate(record.sites) if site.kind == "batch_norm"]
                numbers["hidden_mean"] = float(record.value("forward.mean", normed[2]) or 0)
                numbers["hidden_std"] = float(record.value("forward.rms", normed[2]) or 0)
        inner = profiles["batch norm"]
        numbers |= {
            "accuracy_raw": scores[FORMS[0]][0],
            "accuracy_standardized": scores[FORMS[1]][0],
            "accuracy_norm": scores[FORMS[2]][0],
            "accuracy_norm_deep": scores[FORMS[2]][-1],
            "factor_norm": (inner[1] / inner[-2]) ** (1 / (len(inner) - 3)),
            "factor_norm_theory": math.sqrt(
                theory.norm_growth("sigmoid", "batch", batch=128).growth or math.nan
            ),
        }
        series = {"depths": self.depths, "scores": scores, "curves": curves, "profiles": profiles}
        return Measured(numbers, series)

    def _make(self, data: "Images", depth: int, seed: int, *, norm: bool) -> nn.Sequential:
        return mlp(
            data.size,
            self.width,
            depth,
            10,
            activation="sigmoid",
            init="xavier",
            norm=norm,
            seed=seed,
        )

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (course, back) = figures.new(
            f"Five sigmoid layers: {numbers['accuracy_standardized']:.0%} right on standardized "
            f"inputs, {numbers['accuracy_norm']:.0%} with batch norm inside",
            2,
        )
        steps = [10 * i + 5 for i in range(len(told["curves"]["batch norm"]))]
        figures.lines(course, steps, told["curves"])
        course.set(xlabel="step", ylabel="training loss", ylim=(0, 2.6))
        course.set_title(f"{told['depths'][0]} layers, in training")
        course.legend(loc="center right")
        for index, (form, values) in enumerate(told["profiles"].items(), 1):
            layers = list(range(1, len(values) + 1))
            figures.measured(back, layers, values, index, label=form)
            if form == "batch norm":
                law = [
                    values[-2] * numbers["factor_norm_theory"] ** (len(values) - 1 - k)
                    for k in layers
                ]
                figures.theory(
                    back,
                    layers,
                    law,
                    label=f"theory: × {numbers['factor_norm_theory']:.2f} per layer",
                )
        back.set(yscale="log", xlabel="layer", ylabel="rms of the gradient")
        back.set_title(f"{told['depths'][-1]} layers, before the first step")
        back.legend(loc="best")
        return figure
