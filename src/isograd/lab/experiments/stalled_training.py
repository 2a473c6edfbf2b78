"""A network does not learn: is its signal gone, or only its gradient?

Two networks that stay at chance under plain SGD. Twenty ReLU layers as nn.Linear initializes them:
every input gives the same output, so that a gradient tells nothing of the inputs. Five sigmoid
layers: the outputs differ well enough, only the gradient of the first layers is tiny, and Adam,
which divides by its size, trains them. The spread of the outputs over inputs tells the two apart
before the first step. Adam's steps in a collapsed network are noise of full size; most draws wander
out of the collapse in the end, after a plateau several times as long, and some do not.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from isograd.lab import figures
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

NETS = {"relu": "20 ReLU layers, torch's init", "sigmoid": "5 sigmoid layers, Xavier"}
OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}


@dataclass(frozen=True)
class StalledTraining(Experiment):
    code: ClassVar[str] = "stalled-training"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.17",
            "imprecise",
            "What counts is the update against the weight, not the learning rate alone. Adam takes "
            "the gradient's size out of it, and a network whose gradient alone has vanished starts "
            "to learn within tens of steps. One whose outputs no longer depend on the input waits "
            "several times as long, until steps of noise have made its weights large enough, or "
            "for ever.",
            (
                below("accuracy_relu_sgd", 0.2, "one class for all: at most the largest class"),
                below("accuracy_sigmoid_sgd", 0.3, "first layers move by 1e-4 of their size"),
                above("accuracy_sigmoid_adam", 0.75, "0.85; seeds scatter by 0.03", on=("mnist",)),
                above("accuracy_sigmoid_adam", 0.5, "fewer samples, fewer steps", on=("digits",)),
                above(
                    "plateau_ratio",
                    1.5,
                    "3 to 5 in the mean; draws scatter from 1.3 to no end at all",
                ),
                below("spread_relu", 1e-6, "sqrt(1/6) per layer over 20 layers, times 0.05"),
                above("spread_sigmoid", 1e-4, "a signal that float32 tells from 1 a thousandfold"),
            ),
        ),
        Answer(
            "S0.F3",
            "true",
            "Steps that end before the minimum, on the loss of a chain of weights of 0.5.",
            (
                above("chain_loss_left", 0.99, "a gradient of 0.5^(depth - 1) moves nothing"),
                below("chain_moved", 1e-2, "that gradient, 60 steps of it"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 150, "seeds": 2, "adam_lr": 0.003}}

    steps: int = 400
    """Of training, batches of 100."""
    sgd_lr: float = 0.1
    """Learning rate of SGD; momentum 0.9."""
    adam_lr: float = 0.001
    """Learning rate of Adam."""
    width: int = 100
    """Units of every layer."""
    seeds: int = 6
    """Networks of each kind."""
    chain: int = 12
    """Weights in the chain of the figure."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        numbers: dict[str, Any] = {}
        losses, profiles = {}, {}
        for name, (act, depth, init) in {
            "relu": ("relu", 20, "torch"),
            "sigmoid": ("sigmoid", 5, "xavier"),
        }.items():
            nets = [
                mlp(
                    data.size, self.width, depth, 10, activation=act, init=init, seed=bench.seed + s
                )
                for s in range(self.seeds)
            ]
            with torch.no_grad():
                spreads = torch.stack(
                    [net(data.inputs[:500]).double().std(0).mean() for net in nets]
                )
            numbers[f"spread_{name}"] = spreads.median()
            batch = data.inputs[:128], data.labels[:128]
            record = measure(nets[0], batch)
            profiles[name] = [
                float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[:-1]
            ]
            for optimizer, lr in (("sgd", self.sgd_lr), ("adam", self.adam_lr)):
                trained = train(
                    nets, data, steps=self.steps, lr=lr, optimizer=optimizer, seed=bench.seed
                )
                numbers[f"accuracy_{name}_{optimizer}"] = trained.accuracy.mean()
                losses[f"{name}_{optimizer}"] = trained.losses.mean(1)
                numbers[f"plateau_{name}_{optimizer}"] = plateau(trained.losses).mean()
        numbers["plateau_ratio"] = numbers["plateau_relu_adam"] / numbers["plateau_sigmoid_adam"]
        path = descend(self.chain, steps=60)
        numbers["chain_loss_left"] = path[-1][1] / path[0][1]
        numbers["chain_moved"] = abs(path[-1][0] - path[0][0])
        return Measured(numbers, {"losses": losses, "profiles": profiles, "path": path})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (stall, course, spread) = figures.new(
            "Adam gets a network without gradient going after "
            f"{numbers['plateau_sigmoid_adam']:.0f} steps; one without signal after "
            f"{numbers['plateau_relu_adam']:.0f}, or never",
            3,
            width=4.9,
        )
        curve = [0.3 + i / 400 for i in range(321)]
        stall.plot(curve, [(w**self.chain - 1) ** 2 / 2 for w in curve], color="black", lw=1.3)
        stall.plot(
            *zip(*told["path"], strict=True), "o", color=figures.COLORS[1], label="60 steps of SGD"
        )
        stall.set(xlabel="common weight of the chain", ylabel="loss", ylim=(0, 0.6))
        stall.set_title(f"{self.chain} weights of 0.5: it stalls")
        stall.legend(loc="lower left")
        for index, (key, values) in enumerate(told["losses"].items()):
            name, optimizer = key.split("_")
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            course.plot(values, label=f"{name}, {OPTIMIZERS[optimizer]}", **style)
        course.axhline(math.log(10), color="black", linewidth=1, linestyle=":")
        course.set(xlabel="step", ylabel="training loss", ylim=(0, 2.8))
        course.set_title("chance is ln 10")
        course.legend(loc="lower left")
        for index, (name, values) in enumerate(told["profiles"].items()):
            label = f"{NETS[name]}\noutputs differ by {numbers[f'spread_{name}']:.0e}"
            figures.measured(spread, range(1, len(values) + 1), values, 2 * index, label=label)
        spread.set(yscale="log", xlabel="layer", ylabel="rms of the gradient")
        top, bottom = spread.get_ylim()[1], spread.get_ylim()[0]
        spread.set_ylim(bottom, top * (top / bottom) ** 0.45)
        spread.set_title("before the first step")
        spread.legend(loc="upper left")
        return figure


def plateau(losses: torch.Tensor) -> torch.Tensor:
    """Steps until the mean loss of ten is below ln 10 by a tenth, [n], of losses [steps, n]."""
    means = losses.unfold(0, 10, 1).mean(-1)
    above_chance = means > math.log(10) - 0.1
    return above_chance.float().cumprod(0).sum(0) + 10


def descend(depth: int, *, steps: int) -> list[tuple[float, float]]:
    """Weight and loss of a chain of weights of 0.5 for input and target 1, before every step."""
    weight, path = 0.5, []
    for _ in range(steps + 1):
        error = weight**depth - 1
        path.append((weight, error**2 / 2))
        weight -= 0.1 * error * weight ** (depth - 1)
    return path
