"""What do raw pixels cost, and does batch norm make normalization needless?

The same rectified network on pixels from 0 to 255, from 0 to 1, and standardized, each at its best
of several learning rates and at all of them, then with batch norm after every layer or in front
only. Raw pixels are 100 times too large for He's weights: outputs, errors and the steps that fit
are off by that. Batch norm makes nearly up for it. And statistics for the test are those of the
training set.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.checking import check
from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

INPUTS = {"raw": "0 to the top", "unit": "0 to 1", "standardized": "standardized"}
NETS = {"plain": "no norm", "norm": "batch norm after each layer", "front": "batch norm in front"}


@dataclass(frozen=True)
class RawPixels(Experiment):
    code: ClassVar[str] = "raw-pixels"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.41",
            "true",
            "At learning rates at which standardized pixels train, raw ones do not: outputs are "
            "as many times too large. At a rate a hundred times smaller they do, and not as well.",
            (
                below("raw_plain_high", 0.3, "0 to 255 at the rate that suits standardized ones",
                      on=("mnist",)),
                above("standardized_plain_high", 0.85, "the same network and rate"),
                above("times_best", 20.0, "best rate of standardized over best rate of raw",
                      on=("mnist",)),
                exactly("isograd_raw", 1.0, "isograd reports IG601, inputs not normalized",
                        on=("mnist",)),
                exactly("isograd_standardized", 0.0, "and does not for standardized ones"),
            ),
        ),
        Answer(
            "S3.48",
            "true",
            "Statistics of the training set and of the test set come to the same here, since both "
            "are drawn from one source; raw pixels in the test do harm.",
            (
                near("test_own", "test_train", "statistics of 360 images and more", abs=0.02),
                below("test_raw", "test_train", "a network that never saw such inputs"),
            ),
        ),
        Answer(
            "S3.49",
            "true",
            "Both work. With batch norm, raw pixels lose little against standardized ones; without "
            "it they lose everything at this rate.",
            (
                above("raw_norm_high", 0.85, "batch norm after every layer"),
                above("raw_front_high", 0.85, "batch norm as the very first layer"),
                near("raw_norm_high", "standardized_norm_high", "two runs of one kind", abs=0.03),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 60, "rates": (0.003, 0.03), "seeds": 1}}

    width: int = 100
    """Units of the three hidden layers."""
    steps: int = 235
    """Of training, batches of 100."""
    rates: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1)
    """Learning rates; the last but one, or the last of two, is the one that is told of."""
    seeds: int = 2
    """Networks of each kind."""

    def run(self, bench: "Bench") -> Measured:
        raw = bench.data.flat()
        sets = {"raw": raw, "unit": raw.scaled(), "standardized": raw.standardized()}
        high = len(self.rates) - (2 if len(self.rates) > 2 else 1)
        numbers: dict[str, Any] = {}
        curves: dict[str, Any] = {}
        for inputs, data in sets.items():
            for kind in NETS:
                if inputs == "unit" and kind != "plain":
                    continue
                nets = [self._make(kind, data, bench.seed + s) for s in range(self.seeds)]
                trained = train(
                    nets * len(self.rates), data, steps=self.steps,
                    lr=[rate for rate in self.rates for _ in nets], seed=bench.seed,
                )  # fmt: skip
                scores = trained.accuracy.view(len(self.rates), -1).mean(1)
                curves[f"{inputs}_{kind}"] = scores
                numbers[f"{inputs}_{kind}_high"] = scores[high]
                numbers[f"{inputs}_{kind}_best"] = scores.max()
                numbers[f"{inputs}_{kind}_rate"] = self.rates[int(scores.argmax())]
                if (inputs, kind) == ("standardized", "plain"):
                    numbers |= testing(trained.models[high * self.seeds], raw)
        numbers["times_best"] = numbers["standardized_plain_rate"] / numbers["raw_plain_rate"]
        for inputs in ("raw", "standardized"):
            data = sets[inputs]
            found = check(
                self._make("plain", data, bench.seed), (data.inputs[:256], data.labels[:256])
            )
            numbers[f"isograd_{inputs}"] = float("IG601" in {f.code for f in found.findings})
        return Measured(numbers, {"curves": curves, "high": self.rates[high]})

    def _make(self, kind: str, data: "Images", seed: int) -> nn.Module:
        net = mlp(data.size, self.width, 3, 10, norm=kind == "norm", seed=seed)
        if kind != "front":
            return net
        return nn.Sequential(nn.BatchNorm1d(data.size), *list(net)[1:])

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (plain, norm, test) = figures.new(
            f"At a rate of {told['high']:g} raw pixels give {numbers['raw_plain_high']:.0%}, "
            f"standardized {numbers['standardized_plain_high']:.0%}; with batch norm raw ones give "
            f"{numbers['raw_norm_high']:.0%}",
            3,
            width=4.6,
        )
        rates = result.settings["rates"]
        for index, (inputs, label) in enumerate(INPUTS.items()):
            values = told["curves"][f"{inputs}_plain"]
            figures.measured(plain, rates, values, index, label=label, joined=True)
        for index, key in enumerate(("raw_norm", "raw_front", "standardized_norm"), 3):
            inputs, kind = key.split("_")
            label = f"{'raw' if inputs == 'raw' else inputs}, {NETS[kind]}"
            figures.measured(norm, rates, told["curves"][key], index, label=label, joined=True)
        for axes, title in ((plain, "no norm"), (norm, "batch norm")):
            axes.set(xscale="log", ylim=(0, 1.35), xlabel="learning rate", ylabel="right")
            axes.set_title(title)
            axes.legend(loc="upper left")
            axes.axvline(told["high"], color="black", linewidth=1, linestyle=":")
        kinds = {"train": "training set's", "own": "test set's", "image": "each image's",
                 "raw": "none: raw"}  # fmt: skip
        heights = [numbers[f"test_{key}"] for key in kinds]
        bars = test.bar(range(4), heights, 0.6, color=figures.COLORS[:4])
        test.bar_label(bars, [f"{h:.3f}" for h in heights])
        test.set_xticks(range(4), list(kinds.values()), rotation=15)
        test.set(ylim=(0, 1.1), ylabel="right")
        test.set_title("statistics used for the test")
        return figure


@torch.no_grad()
def testing(net: nn.Module, raw: "Images") -> dict[str, float]:
    """Accuracy of a network of standardized inputs, by where the test's statistics come from."""
    x, y = raw.test_inputs, raw.test_labels
    forms = {
        "train": raw.standardized().test_inputs,
        "own": (x - x.mean()) / x.std(),
        "image": (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True),
        "raw": x,
    }
    return {
        f"test_{key}": float((net(z).argmax(1) == y).float().mean()) for key, z in forms.items()
    }
