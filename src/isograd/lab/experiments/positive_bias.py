"""Does a slightly positive bias keep ReLU units alive?

Rectified networks whose biases begin at 0, 0.01, 0.1, 0.3 and 1: how many units are on for a sample
before training, how many are off for every sample after it, as isograd counts them, and how well
the networks do. A bias of 0.01 changes none of it beyond what seeds do; one of 1 opens units at
first, and kills more of them later.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class PositiveBias(Experiment):
    code: ClassVar[str] = "positive-bias"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.22",
            "imprecise",
            "With He's weights hardly a unit is dead with a bias of 0, and 0.01 changes neither "
            "that nor the accuracy. A bias of 1 opens more units before training and leaves more "
            "dead ones after it.",
            (
                near("active_0.01", "active_0", "share of samples for which a unit is on, before "
                     "training: 0.01 moves it by 0.004", abs=0.02),
                near("dead_0.01", "dead_0", "share of units after training; seeds scatter by 0.02",
                     abs=0.04),
                near("right_0.01", "right_0", "accuracy; seeds scatter by 0.01", abs=0.02),
                above("active_1", "opened", "before training"),
                above("dead_1", "dead_0", "after training", at=("standard",)),
                below("right_1", "right_more", "accuracy, at most that of 0 and 0.02"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 80, "seeds": 1}}

    biases: tuple[float, ...] = (0.0, 0.01, 0.1, 0.3, 1.0)
    """At the start, of every hidden unit."""
    width: int = 100
    """Units of the five hidden layers."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of each kind."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        nets = []
        for bias in self.biases:
            for s in range(self.seeds):
                net = mlp(data.size, self.width, 5, 10, seed=bench.seed + s)
                for layer in list(net)[:-1]:
                    if isinstance(layer, nn.Linear):
                        nn.init.constant_(layer.bias, bias)
                nets.append(net)
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        batch = data.inputs[:1000], data.labels[:1000]
        before = torch.tensor([look(net, batch) for net in nets[:: self.seeds]])
        after = torch.tensor([look(net, batch) for net in trained.models])
        after = after.view(len(self.biases), self.seeds, 2)
        scores = trained.accuracy.view(-1, self.seeds)
        numbers: dict[str, Any] = {}
        for index, bias in enumerate(self.biases):
            numbers |= {
                f"active_{bias:g}": before[index, 0],
                f"dead_before_{bias:g}": before[index, 1],
                f"dead_{bias:g}": after[index, :, 1].mean(),
                f"right_{bias:g}": scores[index].mean(),
            }
        numbers["opened"] = numbers["active_0"] + 0.05
        numbers["right_more"] = numbers["right_0"] + 0.02
        series = {
            "active": before[:, 0],
            "dead": after[:, :, 1].mean(1),
            "dead_spread": (after[:, :, 1].amax(1) - after[:, :, 1].amin(1)) / 2,
            "right": scores.mean(1),
            "right_spread": (scores.amax(1) - scores.amin(1)) / 2,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, panels = figures.new(
            f"A bias of 0.01 changes nothing: {numbers['dead_0.01']:.1%} dead units against "
            f"{numbers['dead_0']:.1%}; a bias of 1 leaves {numbers['dead_1']:.1%}",
            3,
            width=4.5,
            height=4.0,
        )
        names = [f"{b:g}" for b in result.settings["biases"]]
        labels = ("share of samples a unit is on for", "dead units", "right on the test set")
        titles = ("before training", "after training", "after training")
        for index, (axes, key) in enumerate(zip(panels, ("active", "dead", "right"), strict=True)):
            spread = told.get(f"{key}_spread")
            figures.measured(axes, range(len(names)), told[key], index, spread=spread, joined=True)
            axes.set_xticks(range(len(names)), names)
            axes.set(xlabel="bias at the start", ylabel=labels[index])
            axes.set_title(titles[index])
        panels[0].set_ylim(0, 1)
        panels[1].set_ylim(0, None)
        return figure


def look(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> list[float]:
    """Mean share of positive outputs, and of dead units, over the ReLU layers."""
    record = measure(net, batch)
    sites = [i for i, site in enumerate(record.sites) if site.kind == "relu"]
    active = [1 - float(record.value("forward.zero", i) or 0) for i in sites]
    dead = [float(record.value("forward.dead", i) or 0) for i in sites]
    return [sum(active) / len(sites), sum(dead) / len(sites)]
