"""Can one slightly wrong step blow the activations up?

He-initialized ReLU networks whose weights are moved by a few percent of their size: at random, and
all in one direction, as a step along a common gradient may do. At random the signal grows as (1 +
e^2)^(L/2), which is little; along the weights themselves as (1 + e)^L, which over a hundred layers
is a factor of ten thousand for a tenth. Then the factor per layer taken apart, from isograd's own
record: weights times slopes, for ReLU and others, against what the gradient really does.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

KINDS: dict[str, tuple[str, str]] = {
    "ReLU, He": ("relu", "he"),
    "ReLU, Xavier": ("relu", "xavier"),
    "ReLU, nn.Linear's": ("relu", "torch"),
    "tanh, Xavier": ("tanh", "xavier"),
    "sigmoid, Xavier": ("sigmoid", "xavier"),
}
KEYS = ("he", "xavier", "torch", "tanh", "sigmoid")


@dataclass(frozen=True)
class OneStepAway(Experiment):
    code: ClassVar[str] = "one-step-away"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.46",
            "imprecise",
            "If the step goes along the weights: (1 + e)^L, 13,800 for a tenth over a hundred "
            "layers. A change at random, as large, only makes (1 + e^2)^(L/2) of it, 1.6.",
            (
                near("scaled_100", 1.1**100, "ReLU is homogeneous; float32 rounding", rel=1e-3),
                near("scaled_20", 1.1**20, "ReLU is homogeneous; float32 rounding", rel=1e-4),
                near(
                    "random_20",
                    "random_20_theory",
                    "E ln of the ratio is L ln(1 + e^2) / 2 exactly; three standard errors, of "
                    "0.2 / sqrt(24)",
                    rel=0.13,
                ),
                near(
                    "random_100",
                    "random_100_theory",
                    "likewise; a hundred layers of 100 units stray by 0.5 each",
                    rel=0.35,
                ),
            ),
        ),
        Answer(
            "S1.47",
            "true",
            "The factor on the gradient's rms is sqrt(n Var w) times the rms of the slopes. He's "
            "weights make up for ReLU's slopes; those of nn.Linear are a sixth of He's in energy.",
            (
                near(
                    "product_he",
                    "measured_he",
                    "per layer, a geometric mean over the layers; "
                    "weights and slopes are not quite independent",
                    rel=0.05,
                ),
                near(
                    "product_torch", "measured_torch", "likewise, not quite independent", rel=0.05
                ),
                near("product_tanh", "measured_tanh", "likewise, not quite independent", rel=0.05),
                near(
                    "product_sigmoid",
                    "measured_sigmoid",
                    "likewise, not quite independent",
                    rel=0.08,
                ),
                near("weights_he", math.sqrt(2), "10,000 draws per layer", rel=0.01),
                above("weights_he", "weights_torch", "2 against 1/3 in energy"),
            ),
        ),
    )
    shares: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Size of the change against that of the weights; 0.1 and 0.2 have to be among them."""
    depths: tuple[int, ...] = (5, 10, 20, 50, 100)
    """Hidden layers; 20 and 100 have to be among them."""
    width: int = 100
    """Units of every layer."""
    draws: int = 24
    """Networks of every depth."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        x, labels = data.inputs[:50], data.labels[:50]
        stream = bench.generator()
        random: dict[str, list[Tensor]] = {f"{e:g}": [] for e in self.shares}
        scaled: dict[str, list[float]] = {f"{e:g}": [] for e in self.shares}
        numbers: dict[str, Any] = {}
        for depth in self.depths:
            logs = {key: torch.empty(self.draws) for key in random}
            for draw in range(self.draws):
                weights = draws(data.size, self.width, depth, stream)
                noise = draws(data.size, self.width, depth, stream)
                plain = energy(weights, x)
                for e in self.shares:
                    moved = energy([w + e * n for w, n in zip(weights, noise, strict=True)], x)
                    logs[f"{e:g}"][draw] = (moved / plain).log() / 2
                    if draw == 0:
                        along = energy([(1 + e) * w for w in weights], x)
                        scaled[f"{e:g}"].append(float((along / plain).sqrt()))
            for key, values in logs.items():
                # Draws of one law but for the factor: the means of their logs differ by it.
                random[key].append(values.mean().exp())
            if depth in (20, 100):
                numbers[f"random_{depth}"] = random["0.2"][-1]
                numbers[f"random_{depth}_theory"] = 1.04 ** (depth / 2)
                numbers[f"scaled_{depth}"] = scaled["0.1"][-1]
        parts = {}
        for key, (act, init) in zip(KEYS, KINDS.values(), strict=True):
            net = mlp(data.size, self.width, 10, 10, activation=act, init=init, seed=bench.seed)
            parts[key] = take_apart(net, (x, labels))
            numbers |= {f"{word}_{key}": value for word, value in parts[key].items()}
        series = {"depths": self.depths, "random": random, "scaled": scaled, "parts": parts}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        depths = told["depths"]
        figure, (growth, parts) = figures.new(
            f"A tenth along the weights makes {numbers['scaled_100']:.0f} of 1 in a hundred "
            f"layers; a fifth at random makes {numbers['random_100']:.0f}",
            2,
            width=5.8,
        )
        for index, key in enumerate(told["random"]):
            e = float(key)
            label = "theory" if index == 0 else None
            figures.theory(growth, depths, [(1 + e) ** d for d in depths], label=label)
            figures.theory(growth, depths, [(1 + e * e) ** (d / 2) for d in depths], label=None)
            figures.measured(
                growth, depths, told["scaled"][key], index, label=f"{e:.0%} along the weights"
            )
            look = {**figures.look(index), "linestyle": "none", "markerfacecolor": "white"}
            growth.plot(depths, told["random"][key], label=f"{e:.0%} at random", **look)
        growth.set(yscale="log", xlabel="layers", ylabel="growth of the output")
        growth.set_title("all weights moved by a share of their size")
        growth.legend(fontsize=9)
        for index, word in enumerate(("weights", "slopes", "product", "measured")):
            places = [i + 0.2 * index - 0.3 for i in range(len(KINDS))]
            heights = [told["parts"][key][word] for key in KEYS]
            color = "#000000" if word == "product" else figures.COLORS[index]
            names = {
                "weights": "weights, sqrt(n Var w)",
                "slopes": "slopes, rms φ'",
                "product": "their product",
                "measured": "the gradient, measured",
            }
            parts.bar(
                places,
                heights,
                0.19,
                color=color,
                label=names[word],
                hatch=("", "//", "", "..")[index],
            )
        parts.axhline(1, color=figures.GRAY, linewidth=1, linestyle=":")
        parts.set_xticks(range(len(KINDS)), [k.replace(", ", "\n") for k in KINDS], fontsize=10)
        parts.set(ylabel="factor per layer", ylim=(0, 2.4))
        parts.set_title("the factor of a layer, taken apart")
        parts.legend(loc="upper right", fontsize=9.5)
        return figure


def draws(inputs: int, width: int, depth: int, stream: torch.Generator) -> list[Tensor]:
    """He-initialized weights of a ReLU network."""
    return [
        torch.randn(width, fan_in, generator=stream) * math.sqrt(2 / fan_in)
        for fan_in in (inputs, *[width] * (depth - 1))
    ]


def energy(weights: list[Tensor], x: Tensor) -> Tensor:
    """Mean square of the last layer's pre-activations."""
    z = x
    for index, weight in enumerate(weights):
        z = (z.relu() if index else z) @ weight.T
    return z.double().square().mean()


def take_apart(net: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Geometric means over the inner layers: of weights, slopes, both, and the gradient itself."""
    record = measure(net, batch)
    hidden = record.weight_sites()[:-1]
    gains, slopes = [], []
    for layer in hidden[1:]:
        parameter = next(
            i for i in record.sites[layer].parameters if record.parameters[i].is_weight
        )
        gains.append(float(record.value("weight.gain", parameter) or 0))
        slopes.append(float(record.value("forward.slope", record.sites[layer].inputs[0]) or 0))
    gradient = [float(record.value("backward.rms", i) or 0) for i in hidden]

    def mean(values: list[float]) -> float:
        return math.exp(sum(map(math.log, values)) / len(values))

    return {
        "weights": mean(gains),
        "slopes": mean(slopes),
        "product": mean(gains) * mean(slopes),
        "measured": (gradient[0] / gradient[-1]) ** (1 / (len(gradient) - 1)),
    }
