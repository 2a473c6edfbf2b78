"""What does weight decay do to the size of activations, and does it revive dead units?

Networks trained with several strengths of decay: size of the last hidden layer before the head, of
weights and outputs, dead units. Then first-layer units that are dead for all samples, left to decay
alone: of weights and biases together, and of biases only. Decay shrinks activations. It does not
revive a unit by itself: shrinking weights and bias alike never changes the sign of their sum.
"""

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

MODES = ("weights and biases", "biases only", "weights only")


@dataclass(frozen=True)
class WeightDecay(Experiment):
    code: ClassVar[str] = "weight-decay"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "E7",
            "imprecise",
            "It shrinks weights, activations and outputs. A dead unit of the first layer it "
            "revives only if biases decay faster than weights: as much decay on both scales the "
            "pre-activation and leaves its sign.",
            (
                below("signal_most", "signal_none", "rms of the last hidden layer, decay 0.01"),
                below("weights_most", "weights_none", "rms of the weights"),
                exactly("revived_both", 0.0, "a positive factor changes no sign"),
                above("revived_biases", 0.95, "the bias goes to 0, and without one hardly a "
                      "unit is dead"),
                exactly("revived_weights", 0.0, "the bias stays, what could outweigh it shrinks"),
                near("steps_biases", "steps_biases_theory", "steps until half are back: ln of bias "
                     "over reach, over the rate of decay", rel=0.05),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 120}}

    decays: tuple[float, ...] = (0.0, 1e-3, 3e-3, 1e-2)
    """Strength, added to the gradient as decay times weight."""
    width: int = 64
    """Units of the four hidden layers."""
    steps: int = 400
    """Of training, batches of 100."""
    lr: float = 0.05
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        batch = data.inputs[:500], data.labels[:500]
        start = mlp(data.size, self.width, 4, 10, seed=bench.seed)
        rows = []
        for decay in self.decays:
            net = copy.deepcopy(start)
            optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9, weight_decay=decay)
            for x, y in data.batches(self.steps, 100, seed=bench.seed):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x), y).backward()
                optimizer.step()
            record = measure(net, batch)
            relus = [i for i, site in enumerate(record.sites) if site.kind == "relu"]
            weights = [p for p in net.parameters() if p.ndim == 2]
            rows.append(
                [
                    float(record.value("forward.rms", relus[-1]) or 0),
                    math.sqrt(sum(float(w.detach().square().mean()) for w in weights) / 5),
                    sum(float(record.value("forward.dead", i) or 0) for i in relus) / len(relus),
                    float(record.fact("output.rms") or 0),
                ]
            )
        numbers: dict[str, Any] = {}
        for name, row in (("none", rows[0]), ("most", rows[-1])):
            numbers |= {f"signal_{name}": row[0], f"weights_{name}": row[1]}
            numbers |= {f"dead_{name}": row[2], f"outputs_{name}": row[3]}
        courses, more = revival(start, data.inputs[:500])
        return Measured(numbers | more, {"rows": rows, "courses": courses})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (size, revived) = figures.new(
            f"Decay takes the last layer's signal from {numbers['signal_none']:.1f} to "
            f"{numbers['signal_most']:.2f}; dead units come back only where biases decay faster "
            "than weights",
            2,
        )
        names = [f"{d:g}" for d in result.settings["decays"]]
        for index, label in enumerate(("last hidden layer", "weights", "", "outputs")):
            if label:
                values = [row[index] for row in told["rows"]]
                figures.measured(size, range(len(names)), values, index, label=label, joined=True)
        size.set_xticks(range(len(names)), names)
        size.set(yscale="log", xlabel="decay", ylabel="rms")
        size.set_title("after training")
        size.legend(loc="best")
        for index, mode in enumerate(MODES):
            steps = [10 * k for k in range(len(told["courses"][mode]))]
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            revived.plot(steps, told["courses"][mode], label=mode, **style)
        revived.axvline(numbers["steps_biases_theory"], color="black", linewidth=1.2, linestyle=":")
        revived.set(xlabel="steps of decay alone", ylabel="share that is back", ylim=(-0.05, 1.4))
        revived.set_title("dead units of the first layer; dotted: theory")
        revived.legend(loc="upper left")
        return figure


@torch.no_grad()
def revival(
    net: nn.Sequential, x: torch.Tensor, *, rate: float = 0.002, steps: int = 2000
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Share of dead first-layer units that come back while nothing but decay acts on them."""
    first = next(layer for layer in net if isinstance(layer, nn.Linear))
    projection = x @ first.weight.T  # [samples, units]
    reach = projection.amax(0)  # above -bias: alive
    bias = torch.full_like(reach, -1.5) * reach.max()
    courses: dict[str, list[float]] = {}
    numbers: dict[str, float] = {}
    for mode, key in zip(MODES, ("both", "biases", "weights"), strict=True):
        course = []
        half = math.inf
        for step in range(0, steps, 10):
            kept = (1 - rate) ** step
            w = kept if mode != "biases only" else 1.0
            b = kept if mode != "weights only" else 1.0
            share = float((w * reach + b * bias > 0).double().mean())
            course.append(share)
            half = step if share >= 0.5 and math.isinf(half) else half
        courses[mode] = course
        numbers[f"revived_{key}"] = course[-1]
        numbers[f"steps_{key}"] = half
    middle = float(reach.sort().values[len(reach) // 2])
    numbers["steps_biases_theory"] = math.log(1.5 * float(reach.max()) / middle) / rate
    return courses, numbers
