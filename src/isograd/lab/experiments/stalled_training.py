"""A network does not learn: is its signal gone, or only its gradient?

Two networks that stay at chance under plain SGD. Twenty ReLU layers as nn.Linear initializes them:
every input gives the same output, so that nothing reaches the loss, whatever the optimizer. Five
sigmoid layers: the outputs differ well enough, only the gradient of the first layers is tiny, and
Adam, which divides by its size, trains them. The spread of the outputs over inputs tells the two
apart before the first step.
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
            "the gradient's size out of it and rescues a network whose gradient alone has "
            "vanished; none can rescue one whose outputs no longer depend on the input.",
            (
                below("accuracy_relu_sgd", 0.2, "one class for all: at most the largest class"),
                below("accuracy_relu_adam", 0.3, "likewise; Adam sees noise only"),
                below("accuracy_sigmoid_sgd", 0.3, "first layers move by 1e-4 of their size"),
                above("accuracy_sigmoid_adam", 0.8, "0.89; seeds scatter by 0.03", on=("mnist",)),
                above("accuracy_sigmoid_adam", 0.5, "fewer samples, fewer steps", on=("digits",)),
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
    scales: ClassVar = {"fast": {"steps": 120, "seeds": 1, "adam_lr": 0.003}}

    steps: int = 400
    """Of training, batches of 100."""
    sgd_lr: float = 0.1
    """Learning rate of SGD; momentum 0.9."""
    adam_lr: float = 0.001
    """Learning rate of Adam."""
    width: int = 100
    """Units of every layer."""
    seeds: int = 3
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
        path = descend(self.chain, steps=60)
        numbers["chain_loss_left"] = path[-1][1] / path[0][1]
        numbers["chain_moved"] = abs(path[-1][0] - path[0][0])
        return Measured(numbers, {"losses": losses, "profiles": profiles, "path": path})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (stall, course, spread) = figures.new(
            f"Adam rescues a vanished gradient ({numbers['accuracy_sigmoid_adam']:.0%} right), but "
            f"not a vanished signal ({numbers['accuracy_relu_adam']:.0%})",
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


def descend(depth: int, *, steps: int) -> list[tuple[float, float]]:
    """Weight and loss of a chain of weights of 0.5 for input and target 1, before every step."""
    weight, path = 0.5, []
    for _ in range(steps + 1):
        error = weight**depth - 1
        path.append((weight, error**2 / 2))
        weight -= 0.1 * error * weight ** (depth - 1)
    return path
