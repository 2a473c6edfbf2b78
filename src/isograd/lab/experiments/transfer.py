"""Frozen, slower, or from scratch: what does a new task take from an old network?

A network is trained on five of ten classes; then the other five are to be learned from few samples.
From scratch, with frozen features and a new head, with all layers at the old rate and at a tenth of
it. And the loss with which each begins: a new head starts at chance, the old one far above it, as
it is sure of the wrong classes.
"""

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.images import Images
from isograd.lab.networks import mlp, seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

WAYS = ("from scratch", "frozen, new head", "all layers, a tenth of the rate", "all layers")


@dataclass(frozen=True)
class Transfer(Experiment):
    code: ClassVar[str] = "transfer"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "E18",
            "imprecise",
            "A new head starts at chance, the old one far above it. With few samples and few steps "
            "old features help on MNIST, and not on small digits. Freezing them or learning ten "
            "times slower is no law: here, where the tasks are alike, moving all layers fully "
            "is as good or better.",
            (
                near("loss_new", "chance", "ln 5; a new head's logits have a spread of their own",
                     abs=0.8),
                above("loss_old", "loss_twice", "twice that of a new head"),
                above("best_old", "from_scratch", "best of three ways with old features, few "
                      "steps", on=("mnist",)),
                near("best_old", "from_scratch", "old digits of 8 x 8 teach nothing that is new",
                     abs=0.08, on=("digits",)),
                above("all_over_frozen", -0.02, "accuracy of all layers minus frozen ones"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"old_steps": 150, "seeds": 3}}

    samples: int = 50
    """Of the new task."""
    width: int = 100
    """Units of the two hidden layers."""
    old_steps: int = 500
    """Of training on the old classes, batches of 100."""
    steps: int = 12
    """Of training on the new ones, batches of 25."""
    lr: float = 0.05
    """Learning rate; momentum 0.9."""
    seeds: int = 5
    """Old networks."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        old, new = part(data, 0, 5, None), part(data, 5, 10, self.samples)
        nets = [mlp(data.size, self.width, 2, 5, seed=bench.seed + s) for s in range(self.seeds)]
        trained = train(nets, old, steps=self.old_steps, lr=self.lr, seed=bench.seed).models
        scores, losses = {}, {}
        for way in WAYS:
            starts = [
                self._start(way, net, fresh, bench.seed + 50 + s)
                for s, (net, fresh) in enumerate(zip(trained, nets, strict=True))
            ]
            rate = self.lr / 10 if "tenth" in way else self.lr
            done = train(starts, new, steps=self.steps, batch=25, lr=rate, seed=bench.seed)
            scores[way] = done.accuracy
            losses[way] = done.losses.mean(1)
        mean = {way: float(score.mean()) for way, score in scores.items()}
        x, y = new.inputs, new.labels
        with torch.no_grad():
            loss_old = sum(float(nn.functional.cross_entropy(net(x), y)) for net in trained)
            heads = [self._start(WAYS[1], net, net, bench.seed + 50) for net in trained]
            loss_new = sum(float(nn.functional.cross_entropy(net(x), y)) for net in heads)
        numbers: dict[str, Any] = {
            "chance": math.log(5),
            "loss_old": loss_old / self.seeds,
            "loss_new": loss_new / self.seeds,
            "loss_twice": 2 * loss_new / self.seeds,
            "from_scratch": mean[WAYS[0]],
            "frozen": mean[WAYS[1]],
            "slow": mean[WAYS[2]],
            "all": mean[WAYS[3]],
            "best_old": max(mean[way] for way in WAYS[1:]),
            "all_over_frozen": mean[WAYS[3]] - mean[WAYS[1]],
        }
        spread = {way: (s.max() - s.min()) / 2 for way, s in scores.items()}
        return Measured(numbers, {"scores": mean, "spread": spread, "losses": losses})

    def _start(self, way: str, old: nn.Module, fresh: nn.Module, seed: int) -> nn.Module:
        if way == WAYS[0]:
            return fresh
        net = copy.deepcopy(old)
        head = list(net.modules())[-1]
        assert isinstance(head, nn.Linear)
        with seeded(seed), torch.no_grad():
            head.weight.normal_(std=head.in_features**-0.5)
            head.bias.zero_()
        if "frozen" in way:
            for parameter in net.parameters():
                parameter.requires_grad_(any(parameter is p for p in head.parameters()))
        return net

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (course, bars) = figures.new(
            f"From {result.settings['samples']} samples of new classes: "
            f"{numbers['from_scratch']:.0%} from scratch, {numbers['frozen']:.0%} with frozen "
            f"features, {numbers['all']:.0%} with all layers",
            2,
        )
        for index, (way, values) in enumerate(told["losses"].items()):
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            course.plot(values, label=way, **style)
        course.axhline(numbers["chance"], color="black", linewidth=1, linestyle=":")
        course.set(xlabel="step", ylabel="training loss", ylim=(0, None))
        course.set_title(f"dotted: chance; the old head has {numbers['loss_old']:.1f}")
        course.legend(loc="upper right")
        scores = list(told["scores"].values())
        for index, way in enumerate(WAYS):
            bars.errorbar(
                [scores[index]], [index], xerr=[told["spread"][way]], capsize=3, markersize=8,
                **figures.look(index) | {"linestyle": "none"},
            )  # fmt: skip
        bars.set_yticks(range(4), ["scratch", "frozen", "rate / 10", "all layers"])
        bars.set(xlabel="right on the test set", ylim=(3.5, -0.5))
        bars.set_title("bars: half the range of seeds")
        return figure


def part(data: Images, first: int, last: int, samples: int | None) -> Images:
    """The samples of some classes, counted from 0."""
    kept = (data.labels >= first) & (data.labels < last)
    test = (data.test_labels >= first) & (data.test_labels < last)
    return Images(
        data.name, data.inputs[kept][:samples], data.labels[kept][:samples] - first,
        data.test_inputs[test], data.test_labels[test] - first, data.largest,
    )  # fmt: skip
