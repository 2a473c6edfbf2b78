"""Does an activation that is not monotone lose information, and can it be trained?

How much of a pre-activation can be told from what the activation makes of it (the share of its
variance that the best guess explains), at several sizes of the input; then networks of sines
trained at several gains, with batch norm and without. ReLU, monotone, loses a fifth at every size.
Sine loses nothing as long as inputs are small, and everything when they are large: it is the size
that decides, and the gain of the weights sets the size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

STDS = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
SHOWN = {
    "ReLU": torch.relu,
    "tanh": torch.tanh,
    "GELU": torch.nn.functional.gelu,
    "sin": torch.sin,
    "cos": torch.cos,
}
BINS = "binning and a million draws; a thousandth"


@dataclass(frozen=True)
class NonMonotone(Experiment):
    code: ClassVar[str] = "non-monotone"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.36",
            "wrong",
            "GELU, SiLU and Mish are not monotone either. ReLU, monotone, loses 18 % of the "
            "variance at any size. Sine loses 0.1 % at a std of 0.5 and 99 % at 3, and it trains "
            "as well as ReLU where the gain is small.",
            (
                near("known_relu_1", "known_relu_theory", BINS, abs=0.003),
                near("known_sin_0.5", 0.998, BINS, abs=0.003),
                near("known_sin_3", 0.011, BINS, abs=0.01),
                near("known_gelu_1", 0.822, BINS, abs=0.01),
                below("known_cos_1", 0.01, "cos is even: the sign is gone, and with it the mean"),
                near(
                    "sin_best",
                    "relu_he",
                    "trained at the best gain up to 1; seeds scatter",
                    abs=0.03,
                ),
            ),
        ),
        Answer(
            "X9",
            "true",
            "ReLU tells one half of its inputs exactly and of the other that they are negative: "
            "what is left is half the variance of a half-normal, (1 - 2 / pi) / 2 = 0.18.",
            (
                near("known_relu_1", "known_relu_theory", BINS, abs=0.003),
                near("known_relu_10", "known_relu_theory", "whatever the size", abs=0.003),
                below("known_sin_10", 0.02, "many turns of the sine"),
            ),
        ),
        Answer(
            "S3.38",
            "imprecise",
            "Without batch norm sine trains at a gain of 1 and fails at 3 and above. With batch "
            "norm it trains at any gain, since the norm sets the size.",
            (
                above("sin_1", 0.85, "no norm at all"),
                below("sin_10", 0.4, "more turns than it can follow"),
                above("norm_10", 0.75, "the same weights with batch norm"),
            ),
        ),
    )
    scales: ClassVar = {
        "fast": {"steps": 100, "gains": (1.0, 10.0), "width": 64, "draws": 300_000, "seeds": 1},
    }

    gains: tuple[float, ...] = (0.5, 1.0, 1.5, 3.0, 10.0)
    """Of the weights of sine networks: rms(w) sqrt(fan_in)."""
    width: int = 128
    """Units of the three hidden layers."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.03
    """Learning rate; momentum 0.9."""
    seeds: int = 2
    """Networks of each kind."""
    draws: int = 1_000_000
    """Random pre-activations."""

    def run(self, bench: "Bench") -> Measured:
        z = torch.randn(self.draws, generator=bench.generator(), dtype=torch.float64)
        numbers: dict[str, Any] = {"known_relu_theory": relu_known()}
        curves: dict[str, list[float]] = {}
        for label, function in SHOWN.items():
            curves[label] = [known(z * std, function(z * std)) for std in STDS]
            for std, value in zip(STDS, curves[label], strict=True):
                numbers[f"known_{label.lower()}_{std:g}"] = value
        data = bench.data.flat().standardized()
        nets = []
        for norm in (False, True):
            for gain in self.gains:
                nets += [
                    mlp(data.size, self.width, 3, 10, activation="sin", init="lecun", gain=gain,
                        norm=norm, seed=bench.seed + s)
                    for s in range(self.seeds)
                ]  # fmt: skip
        nets += [mlp(data.size, self.width, 3, 10, seed=bench.seed + s) for s in range(self.seeds)]
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        scores = trained.accuracy.view(-1, self.seeds).mean(1)
        count = len(self.gains)
        for index, gain in enumerate(self.gains):
            numbers[f"sin_{gain:g}"], numbers[f"norm_{gain:g}"] = (
                scores[index], scores[count + index],
            )  # fmt: skip
        numbers["relu_he"] = scores[-1]
        numbers["sin_best"] = max(
            float(s) for g, s in zip(self.gains, scores[:count], strict=True) if g <= 1
        )
        series = {"known": curves, "sin": scores[:count], "norm": scores[count : 2 * count]}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (lost, trained) = figures.new(
            f"Sine keeps {numbers['known_sin_0.5']:.1%} of small inputs and "
            f"{numbers['known_sin_3']:.0%} of large ones, ReLU {numbers['known_relu_1']:.0%} of "
            "any: size decides, not monotony",
            2,
            width=5.8,
        )
        for index, (label, values) in enumerate(told["known"].items()):
            figures.measured(lost, STDS, values, index, label=label, joined=True)
        lost.axhline(numbers["known_relu_theory"], color="black", linewidth=1.2)
        lost.annotate("ReLU, theory", (3.2, numbers["known_relu_theory"] + 0.02))
        lost.set(xscale="log", ylim=(-0.03, 1.08), xlabel="std of the pre-activation")
        lost.set(ylabel="share of its variance told")
        lost.set_xticks(STDS, [f"{s:g}" for s in STDS])
        lost.set_title("how much of z is known from φ(z)")
        lost.legend(loc="center left")
        gains = result.settings["gains"]
        figures.measured(trained, gains, told["sin"], 3, label="sin, no norm", joined=True)
        figures.measured(trained, gains, told["norm"], 1, label="sin, batch norm", joined=True)
        trained.axhline(numbers["relu_he"], color="black", linewidth=1.2, linestyle="--")
        trained.annotate("ReLU, He", (gains[-1], numbers["relu_he"] + 0.015), ha="right")
        trained.set(xscale="log", ylim=(0, 1.08), xlabel="gain of the weights", ylabel="right")
        trained.set_xticks(gains, [f"{g:g}" for g in gains])
        trained.minorticks_off()
        lost.minorticks_off()
        trained.set_title("trained")
        trained.legend(loc="lower left")
        return figure


def known(z: Tensor, value: Tensor, bins: int = 2000) -> float:
    """Share of the variance of z that the mean of z given its value explains.

    Values are sorted into bins of equal count; equal values, as ReLU's zeros, share one.
    """
    order = value.argsort()
    z, value = z[order], value[order]
    edges = value[:: max(1, len(value) // bins)].contiguous()
    place = torch.bucketize(value, edges.unique())
    count = torch.bincount(place).clamp_min(1)
    sums = torch.zeros(len(count), dtype=z.dtype).index_add_(0, place, z)
    means = sums / count
    left = float((z - means[place]).square().mean())
    return 1 - left / float(z.square().mean())


def relu_known() -> float:
    """Of ReLU: the positive half is known, the other guessed by its mean, -sqrt(2/pi).

    What is left is half the variance of a half-normal, (1 - 2/pi) / 2.
    """
    return 1 - (1 - 2 / 3.141592653589793) / 2
