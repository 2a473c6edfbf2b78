"""How large may a step be: between 0 and 1, or as large as the curvature allows?

Gradient descent on parabolas of curvature 0.01, 1 and that of real, raw features; the learning rate
from which on it diverges is found by bisection, and is 2 / curvature each time. Then a small
network on digits by full batches, with steps below and above 2 / lambda_max, the largest eigenvalue
of its loss's Hessian as isograd measures it: below, every step lowers the loss.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.lab import figures, images
from isograd.lab.expected import above, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import Fleet
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure
from isograd.probe.sharpness import lambda_max
from isograd.sites.batches import as_batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

CURVES = {"flat": 0.01, "round": 1.0}
"""Curvatures of the parabolas that are made up; `raw` is that of real features."""
SHARES = (0.25, 0.5, 0.95, 4.0)
"""Learning rates of the network, times lambda_max / 2."""
BISECTED = "found by bisection to 1e-4; just above it 500 steps need a rounding's time to grow"


@dataclass(frozen=True)
class StepSize(Experiment):
    code: ClassVar[str] = "step-size"
    data: ClassVar[tuple[str, ...]] = ("digits",)
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.1",
            "true",
            "For steps that are small against the curvature: every one of them lowers the loss. "
            "Where it ends need not be an optimum.",
            (
                exactly("share_down", 1.0, "every full-batch step below half of the bound"),
                above("share_up_beyond", 1e-9, "at twice the bound some steps raise the loss"),
            ),
        ),
        Answer(
            "S1.2",
            "imprecise",
            "The bound is 2 / lambda_max, not 1. Raw features of the breast-cancer set ask for "
            "less than 1.2e-6; a parabola of curvature 0.01 takes any rate up to 200.",
            (
                near("bound_flat", 200.0, BISECTED, rel=1e-3),
                near("bound_round", 2.0, BISECTED, rel=1e-3),
                near("bound_raw", "bound_raw_theory", BISECTED, rel=1e-3),
                near(
                    "lambda_measured",
                    "lambda_raw",
                    "power iteration that stops at changes of 2 %; one eigenvalue is far larger "
                    "than all others",
                    rel=0.01,
                ),
            ),
        ),
        Answer(
            "S1.F1",
            "true",
            "The update is minus learning rate times gradient.",
            (near("update_error", 0.0, "float32 rounding of a step of size 1", abs=1e-6),),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 60}}

    steps: int = 200
    """Full-batch steps of the network."""
    width: int = 32
    """Of its one hidden layer."""

    def run(self, bench: "Bench") -> Measured:
        table = images.load("breast-cancer")
        features = torch.cat([table.inputs, table.test_inputs]).double()
        hessian = features.T @ features / len(features)
        raw = float(torch.linalg.eigvalsh(hessian)[-1])
        numbers: dict[str, Any] = {"lambda_raw": raw, "bound_raw_theory": 2 / raw}
        for name, curvature in {**CURVES, "raw": raw}.items():
            numbers[f"bound_{name}"] = bound(curvature)
        linear = nn.Linear(features.shape[1], 1, bias=False).double()
        rows = as_batch((features, torch.zeros(len(features), 1, dtype=torch.float64)))
        numbers["lambda_measured"] = lambda_max(linear, rows, half_square, seed=bench.seed)

        data = bench.data.flat().standardized()
        net = mlp(data.size, self.width, 1, 10, activation="tanh", init="lecun", seed=bench.seed)
        batch = as_batch((data.inputs, data.labels))
        sharpness = lambda_max(net, batch, F.cross_entropy, seed=bench.seed) or math.nan
        rates = [2 * share / sharpness for share in SHARES]
        fleet = Fleet([net] * len(rates), lr=rates, optimizer="plain-sgd")
        before = fleet.parameters["1.weight"][0].detach().clone()
        losses = [fleet.step(data.inputs, data.labels)]
        moved = fleet.parameters["1.weight"][0].detach() - before
        losses += [fleet.step(data.inputs, data.labels) for _ in range(self.steps)]
        course = torch.stack(losses)
        falls = (course[1:] < course[:-1]).float().mean(0)
        net.zero_grad()
        F.cross_entropy(net(data.inputs), data.labels).backward()
        gradient = net[1].weight.grad
        assert isinstance(gradient, Tensor)
        numbers |= {
            "lambda_network": sharpness,
            "share_down": falls[0],
            "share_down_near": falls[2],
            "share_up_beyond": 1 - falls[3],
            "update_error": (moved + rates[0] * gradient).abs().max(),
            "loss_end": course[-1, 0],
        }
        record = measure(net, (data.inputs, data.labels))
        numbers["loss_start"] = float(record.facts["loss.value"])
        ratios = [2.2 * i / 44 for i in range(1, 45)]
        series = {
            "ratios": ratios,
            "left": {
                name: [left(c, r / c) for r in ratios] for name, c in {**CURVES, "raw": raw}.items()
            },
            "losses": course.T[:, :: max(1, self.steps // 100)],
            "every": max(1, self.steps // 100),
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (parabola, network) = figures.new(
            "A step may be as large as 2 / curvature: 200 on a flat parabola, "
            f"{numbers['bound_raw']:.1e} on raw data",
            2,
        )
        figures.theory(
            parabola, told["ratios"], [(1 - r) ** 20 for r in told["ratios"]],
            label="(1 - rate × curvature)$^{20}$",
        )  # fmt: skip
        names = {
            "flat": "curvature 0.01",
            "round": "curvature 1",
            "raw": f"{numbers['lambda_raw']:.2e}, raw features",
        }
        for index, (name, values) in enumerate(told["left"].items()):
            shift = slice(index, None, 3)
            figures.measured(
                parabola, told["ratios"][shift], values[shift], index, label=names[name]
            )
        parabola.axvline(2, color=figures.GRAY, linestyle=":")
        parabola.set(
            yscale="log", xlabel="learning rate × curvature", ylabel="loss after 10 steps / before"
        )
        parabola.set_ylim(1e-8, 1e3)
        parabola.set_title("parabolas: it diverges at 2")
        parabola.legend(loc="upper center")
        steps = [told["every"] * i for i in range(len(told["losses"][0]))]
        rows = {
            f"{2 * share:g} / $\\lambda_{{max}}$": values
            for share, values in zip(SHARES, told["losses"], strict=True)
        }
        figures.lines(network, steps, rows)
        network.set(yscale="log", xlabel="full-batch step", ylabel="training loss")
        network.set_title(
            f"a network, $\\lambda_{{max}}$ = {numbers['lambda_network']:.1f} at the start"
        )
        network.legend(title="learning rate")
        return figure


def half_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the mean squared error: its Hessian is the features' second-moment matrix."""
    return (outputs - targets).square().mean() / 2


def left(curvature: float, lr: float, steps: int = 10) -> float:
    """Share of the loss of a parabola that is left after some steps."""
    w = 1.0
    for _ in range(steps):
        w -= lr * curvature * w
    return w * w


def bound(curvature: float) -> float:
    """The learning rate from which on gradient descent on a parabola diverges, by bisection."""
    low, high = 0.0, 10.0 / curvature
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if left(curvature, middle, 500) <= 1 else (low, middle)
    return (low + high) / 2
