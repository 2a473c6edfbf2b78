"""How large may the first learning rate be, and what do warm-up, schedules and batch size change?

The curvature of the loss at the start, as isograd measures it, bounds the first rate: below
2/lambda_max the loss falls, above it it rises. Then trainings of one network under five schedules,
with and without warm-up at a rate far above the bound, and at several batch sizes, with the rate in
proportion to the batch and without. Beside each the size of an update over the weight.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, between, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure
from isograd.probe.rehearsal import rehearse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "step": lambda t: 0.1 ** sum(t >= edge for edge in (1 / 3, 2 / 3)),
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
    "linear": lambda t: 1 - t,
    "inverse root": lambda t: (1 + 30 * t) ** -0.5,
}
"""Factor on the rate by share of the steps done."""
SHORT = 150
"""Steps of the trainings with a warm-up and without."""
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Rates over 2/lambda_max."""


@dataclass(frozen=True)
class StepsAndRates(Experiment):
    code: ClassVar[str] = "steps-and-rates"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "E12",
            "true",
            "Schedules that end at zero end lower where the noise of batches is what is left of "
            "the loss (MNIST), and higher where a network fits all samples (digits). What a "
            "warm-up is for is the curvature at the start: it allows a rate that is many times "
            "above 2/lambda_max then (MNIST; on digits most networks survive that rate at once).",
            (
                below("loss_linear", "loss_constant", "noise of batches", on=("mnist",)),
                below("loss_constant", "loss_linear_more", "all samples are fitted; 1.5 times it",
                      on=("digits",)),
                above("warm", 0.5, "mean of five networks after a warm-up", on=("mnist",)),
                below("cold", 0.5, "and at once: most are at chance", on=("mnist",)),
                above("hot_over_bound", 2.0, "that rate, over 2/lambda_max"),
                below("bound_below", 1e-3, "largest rise of the loss in a full-batch step at half "
                      "of 2/lambda_max"),
                above("bound_above", 0.1, "and at 8 times it"),
            ),
        ),
        Answer(
            "E16",
            "imprecise",
            "At a rate that trains this network well they begin and end near a hundredth, with "
            "batches of 64 and no momentum: ten times the rule. It is a rule of thumb to an order "
            "of magnitude or two.",
            (
                between("update_first", 1e-3, 0.2, "median over weights of the first update"),
                between("update_last", 1e-4, 0.2, "of the last one, constant rate"),
            ),
        ),
        Answer(
            "E19",
            "true",
            "With equal numbers of samples seen. In proportion, batches 8 times larger end where "
            "small ones do; at one rate for all they lag.",
            (
                near("big_scaled", "small", "loss after the same samples, in ln", abs=0.4),
                above("big_unscaled", "big_scaled", "ln of the loss at the small batch's rate"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 200}}

    width: int = 64
    """Units of the four hidden layers."""
    steps: int = 300
    """Of every training, batches of 64."""
    lr: float = 0.2
    """Of the schedules; no momentum."""
    hot: float = 0.5
    """Rate with a warm-up and without."""
    base: float = 0.006
    """Rate of the small batches."""
    small: int = 16
    """Samples of the small batches."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized().take(4000, 2000)
        net = mlp(data.size, self.width, 4, 10, seed=bench.seed)
        batch = data.inputs[:512], data.labels[:512]
        seen = measure(net, batch)
        first = rehearse(
            net, batch, None, seen, optimizer=lambda p: torch.optim.SGD(p, self.lr), data=None,
            steps=0, seed=bench.seed,
        ).seen  # fmt: skip
        sharpest = float(first.fact("sharpness.lambda_max") or math.nan)
        ratios = [value for _, value in first.pairs("weight.update_ratio") if value > 0]
        bound = 2 / sharpest
        changes = [worst_rise(net, batch, factor * bound) for factor in FACTORS]
        numbers: dict[str, Any] = {
            "lambda_max": sharpest,
            "bound": bound,
            "bound_below": changes[1],
            "bound_above": changes[-1],
            "update_first": sorted(ratios)[len(ratios) // 2],
        }
        losses = {}
        for name, factor in SCHEDULES.items():
            course, _, last = descend(
                net,
                data,
                [self.lr * factor(k / self.steps) for k in range(self.steps)],
                64,
                bench.seed,
            )
            losses[name] = course
            numbers[f"loss_{name}"] = math.exp(sum(map(math.log, course[-20:])) / 20)
            if name == "constant":
                numbers["update_last"] = last
        rate = self.hot
        numbers["hot_over_bound"] = rate / bound
        ramp = [rate * min(1.0, 2 * (k + 1) / SHORT) for k in range(SHORT)]
        starts = [mlp(data.size, self.width, 4, 10, seed=bench.seed + s) for s in range(5)]
        right: dict[str, list[float]] = {}
        for name, rates in (("cold", [rate] * SHORT), ("warm", ramp)):
            right[name] = [descend(one, data, rates, 64, bench.seed)[1] for one in starts]
            numbers[name] = sum(right[name]) / len(starts)
            numbers[f"worst_{name}"] = min(right[name])
        numbers["loss_linear_more"] = 1.5 * numbers["loss_linear"]
        series: dict[str, Any] = {
            "changes": changes, "losses": losses, "right": right, "batches": {},
        }  # fmt: skip
        count, base = 320, self.base
        for key, (size, small_rate) in {
            "small": (self.small, base),
            "big_scaled": (8 * self.small, 8 * base),
            "big_unscaled": (8 * self.small, base),
        }.items():
            steps = count if key == "small" else count // 8
            course, _, _ = descend(net, data, [small_rate] * steps, size, bench.seed)
            tail = max(1, steps // 5)
            numbers[key] = math.log(sum(course[-tail:]) / tail)
            every = max(1, steps // 40)
            series["batches"][key] = [
                [k * size, sum(course[k : k + every]) / len(course[k : k + every])]
                for k in range(0, steps, every)
            ]
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        hot = result.settings["hot"]
        figure, (bound, course, warm, batches) = figures.new(
            f"2/lambda_max is {numbers['bound']:.2g} at the start; five networks at a rate of "
            f"{hot:g} come to {numbers['warm']:.0%} with a warm-up, to {numbers['cold']:.0%} "
            "without one",
            4,
            width=3.8,
            height=3.9,
        )
        figures.measured(bound, FACTORS, told["changes"], 0, joined=True)
        bound.axhline(0, color="black", linewidth=1)
        bound.axvline(1, color="black", linewidth=1.2, linestyle="--")
        bound.set(xscale="log", xlabel="rate over 2/lambda_max", ylabel="worst rise of the loss")
        bound.set_xticks(FACTORS, [f"{f:g}" for f in FACTORS])
        bound.minorticks_off()
        bound.set_yscale("symlog", linthresh=0.1)
        bound.set_title("20 full-batch steps")
        for index, (name, values) in enumerate(told["losses"].items()):
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            course.plot(smooth(values), label=name, **style | {"linewidth": 1.4})
        course.set(yscale="log", xlabel="step", ylabel="training loss")
        course.set_title("schedules")
        course.legend(loc="lower left", fontsize=9)
        for index, (key, label) in enumerate((("cold", "at once"), ("warm", "warm-up"))):
            values = sorted(told["right"][key])
            figures.measured(warm, range(1, 6), values, index, label=label, joined=True)
        warm.set(xlabel="network, worst first", ylabel="right on the test set", ylim=(0, 1.25))
        warm.set_title(f"a rate of {hot:g}")
        warm.legend(loc="upper left", ncols=2)
        names = {
            "small": f"{self.small}", "big_scaled": f"{8 * self.small}, rate × 8",
            "big_unscaled": f"{8 * self.small}, same rate",
        }  # fmt: skip
        for index, (key, label) in enumerate(names.items()):
            x, y = zip(*told["batches"][key], strict=True)
            style = figures.look(index) | {"markersize": 3.5}
            batches.plot(x, y, label=f"batch {label}", **style)
        batches.set(yscale="log", xlabel="samples seen", ylabel="training loss")
        batches.set_title("batch size")
        batches.legend(loc="lower left", fontsize=9)
        return figure


def worst_rise(net: nn.Module, batch: Any, rate: float, steps: int = 20) -> float:
    """Largest rise of the loss in one of some full-batch steps; at most 100."""
    twin = copy.deepcopy(net)
    parameters = list(twin.parameters())
    losses: list[float] = []
    for _ in range(steps + 1):
        loss = nn.functional.cross_entropy(twin(batch[0]), batch[1])
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(rate * gradient)
    rises = [b - a for a, b in itertools.pairwise(losses)]
    return min(100.0, max(rises)) if all(map(math.isfinite, losses)) else 100.0


def descend(
    net: nn.Module, data: "Images", rates: list[float], size: int, seed: int
) -> tuple[list[float], float, float]:
    """SGD with one rate per step: losses, accuracy at the end, median last update over weight."""
    twin = copy.deepcopy(net)
    parameters = list(twin.parameters())
    losses, last = [], []
    for rate, (x, y) in zip(rates, data.batches(len(rates), size, seed=seed), strict=True):
        loss = nn.functional.cross_entropy(twin(x), y)
        value = float(loss.detach())
        losses.append(float(f"{value:.4g}") if 1e-8 < value < 1e8 else 1e8)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            last = [
                rate * float(g.norm() / p.norm())
                for p, g in zip(parameters, gradients, strict=True) if p.ndim == 2
            ]  # fmt: skip
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(rate * gradient)
    with torch.no_grad():
        right = (twin(data.test_inputs).argmax(1) == data.test_labels).float().mean()
    return losses, float(right), sorted(last)[len(last) // 2]


def smooth(values: list[float], over: int = 7) -> list[float]:
    """Geometric means of neighbors."""
    logs = [math.log(v) for v in values]
    return [math.exp(sum(logs[k : k + over]) / len(logs[k : k + over])) for k in range(len(logs))]
