"""Do hundreds of layers train with skips, and only with skips?

The same pre-activation MLP of two-layer blocks at several depths, with skips and without, with
batch norm and without, and a plain tanh network of orthogonal weights, all trained alike. Then the
gradient's rms at every layer before training. Skips make any depth train here. Orthogonal tanh at
its critical point trains without a skip or a norm, so skips are sufficient, not necessary. And
batch norm without skips does not vanish but explodes backward, by a factor that theory gives.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp, residual_mlp
from isograd.probe.measuring import measure
from isograd.theory import norm_growth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

FORMS = ("skips + norm", "norm, no skips", "neither", "orthogonal tanh")


@dataclass(frozen=True)
class HundredsOfLayers(Experiment):
    code: ClassVar[str] = "hundreds-of-layers"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.1",
            "true",
            "Shown for perceptrons: the same 108 layers with skips and without.",
            (
                above("deep_skips", 0.92, "0.95; seeds scatter by 0.01", on=("mnist",)),
                above("deep_skips", 0.8, "fewer samples than MNIST", on=("digits",)),
                below("deep_norm", 0.5, "between chance and 0.2; the gradient is 1e8 too large"),
            ),
        ),
        Answer(
            "S0.23",
            "imprecise",
            "With skips, and batch norm in the branches, yes. But skips are sufficient, not "
            "necessary: a plain tanh network of orthogonal weights trains too. And what stops "
            "plain networks with batch norm is no vanishing gradient: it explodes backward.",
            (
                above("deep_skips", 0.92, "0.95; seeds scatter by 0.01", on=("mnist",)),
                below("deep_neither", 0.3, "chance is 0.1; the signal is one constant"),
                above(
                    "deep_tanh", 0.75, "0.91 in the mean, and seeds scatter by 0.01", on=("mnist",)
                ),
                above("deep_tanh", 0.5, "fewer steps and samples", on=("digits",)),
                near(
                    "norm_factor",
                    "norm_factor_theory",
                    "theory is for width and batch without end; width 64 and batches of 128 lose "
                    "a few percent",
                    rel=0.05,
                ),
            ),
        ),
        Answer(
            "H3",
            "true",
            "In the small, with layers in place of convolutions: a hundred layers do as well as "
            "eight with skips, and nothing without.",
            (
                above("deep_skips", 0.92, "0.95; seeds scatter by 0.01", on=("mnist",)),
                above("deep_skips", 0.8, "fewer samples than MNIST", on=("digits",)),
                below("deep_norm", 0.5, "between chance and 0.2; the gradient is 1e8 too large"),
                below("deep_neither", 0.3, "chance is 0.1; the signal is one constant"),
            ),
        ),
        Answer(
            "S0.25",
            "true",
            "Plain networks fail here by a forward signal that is constant (no norm) or a backward "
            "one that explodes (batch norm); both are seen before the first step.",
            (
                above("gradient_ratio_norm", 1e3, "1.2 per layer over the depth"),
                below("gradient_ratio_skips", 100.0, "theory's blocks^1.47, as an rms its root"),
            ),
        ),
    )
    scales: ClassVar = {
        "fast": {"depths": (8, 50), "steps": 40, "seeds": 1},
    }

    depths: tuple[int, ...] = (8, 54, 108)
    """Weight layers between stem and head; even."""
    width: int = 64
    """Units of every layer."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    tanh_lr: float = 0.005
    """Learning rate of the tanh networks; theirs diverge at the others' rate."""
    seeds: int = 3
    """Networks of every kind and depth."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        made = {
            (form, depth): [
                self._make(form, depth, data, bench.seed + s) for s in range(self.seeds)
            ]
            for form in FORMS
            for depth in self.depths
        }
        rates = [
            self.tanh_lr if form == "orthogonal tanh" else self.lr
            for (form, _), nets in made.items()
            for _ in nets
        ]
        networks = [net for nets in made.values() for net in nets]
        trained = train(networks, data, steps=self.steps, lr=rates, seed=bench.seed)
        scores = dict(zip(made, trained.accuracy.view(-1, self.seeds), strict=True))
        deep = self.depths[-1]
        batch = data.inputs[:128], data.labels[:128]
        profiles = {form: profile(made[form, deep][0], batch) for form in FORMS}
        inner = profiles["norm, no skips"]
        quarter = len(inner) // 4  # away from the ends, where the norm has not settled
        factor = (inner[quarter] / inner[-quarter]) ** (1 / (len(inner) - 2 * quarter))
        skips = profiles["skips + norm"]
        numbers: dict[str, Any] = {
            "norm_factor": factor,
            "norm_factor_theory": math.sqrt(
                norm_growth("relu", "batch", batch=128).growth or math.nan
            ),
            "gradient_ratio_norm": inner[0] / inner[-1],
            "gradient_ratio_skips": skips[0] / skips[-1],
        }
        short = {"skips + norm": "skips", "norm, no skips": "norm", "neither": "neither"}
        for form in FORMS:
            numbers[f"deep_{short.get(form, 'tanh')}"] = scores[form, deep].mean()
        series: dict[str, Any] = {
            "depths": self.depths,
            "accuracy": {f: [scores[f, d].mean() for d in self.depths] for f in FORMS},
            "spread": {
                f: [(scores[f, d].max() - scores[f, d].min()) / 2 for d in self.depths]
                for f in FORMS
            },
            "profiles": profiles,
        }
        return Measured(numbers, series)

    def _make(self, form: str, depth: int, data: "Images", seed: int) -> nn.Sequential:
        if form == "orthogonal tanh":
            # A little above the critical gain of 1, so that the signal does not fade as 1 / (2 l).
            return mlp(
                data.size, self.width, depth, 10, activation="tanh", init="orthogonal", gain=1.02,
                seed=seed,
            )  # fmt: skip
        skip, norm = form == "skips + norm", form != "neither"
        return residual_mlp(data.size, self.width, depth // 2, 10, norm=norm, skip=skip, seed=seed)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        deep = told["depths"][-1]
        figure, (score, back) = figures.new(
            f"{deep} layers: {numbers['deep_skips']:.0%} right with skips, "
            f"{numbers['deep_norm']:.0%} with batch norm alone; "
            f"orthogonal tanh needs neither ({numbers['deep_tanh']:.0%})",
            2,
            width=5.8,
        )
        for index, form in enumerate(FORMS):
            figures.measured(
                score, told["depths"], told["accuracy"][form], index, label=form,
                spread=told["spread"][form], joined=True,
            )  # fmt: skip
            values = told["profiles"][form]
            layers = list(range(1, len(values) + 1))
            every = max(1, len(layers) // 20)
            figures.measured(back, layers[::every], values[::every], index, label=form)
            if form == "norm, no skips":
                end = values[-1]
                law = [end * numbers["norm_factor_theory"] ** (len(layers) - k) for k in layers]
                figures.theory(
                    back,
                    layers,
                    law,
                    label=f"theory: × {numbers['norm_factor_theory']:.2f} per layer",
                )
        score.set(xlabel="layers", ylabel="right on the test set", ylim=(0, 1.02))
        score.set_title(f"after {result.settings['steps']} steps")
        score.legend(loc="center right", bbox_to_anchor=(1.0, 0.58))
        back.set(yscale="log", xlabel="layer", ylabel="rms of the gradient")
        back.set_title("before the first step")
        back.legend(loc="best")
        return figure


def profile(net: nn.Sequential, batch: tuple[torch.Tensor, torch.Tensor]) -> list[float]:
    """Rms of dLoss/d(output) of every hidden weight layer, first layer first."""
    record = measure(net.train(), batch)
    return [float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[:-1]]
