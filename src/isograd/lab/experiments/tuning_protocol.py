"""Which step of the lecture's protocol catches which fault, and why is random search better?

The protocol: look at the initial loss, overfit a few batches, find a rate at which the loss drops.
Here on five set-ups, four of them with one fault, and what isograd's check says to each. Then the
search: accuracy as a function of the learning rate, measured at many rates at once, and from it the
best that nine trials find on average: a grid of three rates by three values of something that does
not matter, nine rates drawn evenly, nine drawn evenly on a logarithmic scale.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
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

SETUPS = {
    "nothing wrong": ("he", 1.0, 0.05),
    "weights too large": ("he", 3.0, 0.05),
    "weights too small": ("he", 0.05, 0.05),
    "rate too low": ("he", 1.0, 1e-5),
    "rate too high": ("he", 1.0, 20.0),
}
"""By name: initialization, gain on it, learning rate."""
STEPS = ("initial loss", "overfit 5 batches", "loss drops in 100 steps")


@dataclass(frozen=True)
class TuningProtocol(Experiment):
    code: ClassVar[str] = "tuning-protocol"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "E14",
            "true",
            "Each of four faults fails a step of it, and a sound set-up none. isograd's check with "
            "ten steps of a rehearsal reports all four.",
            (
                near("initial_0", "chance", "ln 10; the head begins at a tenth", abs=0.1),
                above("initial_1", 6.0, "logits as large as 3^5 over 10"),
                above("fitted_0", 0.99, "accuracy on five batches"),
                below("fitted_2", 0.8, "hardly any signal reaches the head"),
                below("fitted_3", 0.6, "far too slow"),
                exactly("failed_0", 0.0, "no step of the protocol fails"),
                above("failed_least", 1.0, "every other set-up fails one or more"),
                exactly("isograd_0", 0.0, "no finding at all"),
                exactly("isograd_sum", 4.0, "of four faulty set-ups, those with a finding"),
            ),
        ),
        Answer(
            "E15",
            "true",
            "For rates. On a logarithmic scale nine random rates do better than a grid of three "
            "by three, and than nine drawn evenly; the rest is a matter of how wide the good "
            "range is.",
            (
                above("best_log", "best_grid", "mean best accuracy of nine trials"),
                above("best_log", "best_even", "mean best accuracy of nine trials"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"rates": 16, "steps": 60}}

    width: int = 64
    """Units of the four hidden layers."""
    steps: int = 200
    """Of the trainings at many rates, batches of 50."""
    rates: int = 32
    """Rates from 1e-5 to 10, evenly on a logarithmic scale."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        numbers: dict[str, Any] = {"chance": math.log(10)}
        table, failures, reported = [], [], []
        some = data.take(250)
        batch = data.inputs[:250], data.labels[:250]
        for index, (init, gain, lr) in enumerate(SETUPS.values()):
            net = mlp(data.size, self.width, 4, 10, init=init, gain=gain, seed=bench.seed)
            with torch.no_grad():
                list(net.parameters())[-2].mul_(0.1)  # a head that begins near chance
                initial = float(nn.functional.cross_entropy(net(batch[0]), batch[1]))
            short = train([net], some, steps=100, batch=50, lr=lr, seed=bench.seed)
            fitted = self._fit(net, some, lr, bench.seed)
            drop = float(short.losses[-10:].mean())
            failed = [
                abs(initial - math.log(10)) > 1.0,
                not fitted > 0.99,
                not drop < 0.8 * min(initial, math.log(10)),
            ]
            found = check(
                net, batch, predict=False, optimizer=_sgd(lr), steps=10,
                data=list(some.batches(10, 50, seed=bench.seed)),
            )  # fmt: skip
            codes = [f.code for f in found.findings if f.severity.value in ("warning", "error")]
            table.append([bool(f) for f in failed] + [" ".join(codes[:2])])
            failures.append(sum(failed))
            reported.append(bool(codes))
            numbers |= {f"initial_{index}": initial, f"fitted_{index}": fitted}
            numbers[f"failed_{index}"] = float(sum(failed))
            numbers[f"isograd_{index}"] = float(bool(codes))
        numbers["failed_least"] = float(min(failures[1:]))
        numbers["isograd_sum"] = float(sum(reported[1:]))
        logs = np.linspace(-5, 1, self.rates)
        nets = [mlp(data.size, self.width, 4, 10, seed=bench.seed)] * self.rates
        trained = train(
            nets, data, steps=self.steps, batch=50, lr=[float(10**v) for v in logs],
            seed=bench.seed,
        )  # fmt: skip
        curve = np.asarray(trained.accuracy.double())
        numbers |= search(logs, curve, bench.seed)
        return Measured(numbers, {"table": table, "logs": logs, "curve": curve})

    def _fit(self, net: nn.Module, some: "Images", lr: float, seed: int) -> float:
        """Training accuracy on five batches after 40 passes over them."""
        after = train([net], some, steps=200, batch=50, lr=lr, seed=seed).models[0]
        with torch.no_grad():
            return float((after(some.inputs).argmax(1) == some.labels).float().mean())

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (table, curve) = figures.new(
            "Each of four faults fails a step of the protocol; nine random rates on a log scale "
            f"find {numbers['best_log']:.1%}, a 3 x 3 grid {numbers['best_grid']:.1%}",
            2,
            width=6.6,
            height=3.9,
        )
        from matplotlib.patches import Rectangle

        for row, cells in enumerate(told["table"]):
            for column, cell in enumerate(cells):
                bad = bool(cell)
                text = cell if isinstance(cell, str) and cell else "fails" if bad else "passes"
                table.add_patch(
                    Rectangle((column - 0.47, row - 0.43), 0.94, 0.86,
                              color=figures.COLORS[1] if bad else "#e8e8e8")
                )  # fmt: skip
                table.text(
                    column, row, text, ha="center", va="center", fontsize=9.5,
                    color="white" if bad else figures.GRAY,
                )  # fmt: skip
        heads = ("initial\nloss", "overfit\n5 batches", "drops in\n100 steps", "isograd")
        table.set_xticks(range(4), heads)
        table.set_yticks(range(len(SETUPS)), list(SETUPS))
        table.set(xlim=(-0.5, 3.5), ylim=(len(SETUPS) - 0.5, -0.5))
        table.grid(visible=False)
        table.set_xlabel("step of the protocol")
        curve.plot(
            [10**v for v in told["logs"]], told["curve"], "-o", color=figures.COLORS[0],
            markersize=4, label="accuracy",
        )  # fmt: skip
        names = {"best_grid": "3 x 3 grid", "best_even": "9 even", "best_log": "9 log-even"}
        for index, (key, label) in enumerate(names.items(), 1):
            curve.axhline(
                numbers[key], label=f"best of {label}: {numbers[key]:.3f}",
                color=figures.COLORS[index], linestyle=figures.DASHES[index],
            )  # fmt: skip
        curve.set(xscale="log", xlabel="learning rate", ylabel="right on the test set")
        curve.set_ylim(0, 1.55)
        curve.set_title("nine trials, on average")
        curve.legend(loc="upper left")
        return figure


def _sgd(lr: float) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, lr, momentum=0.9)


def search(logs: Any, curve: Any, seed: int, times: int = 4000) -> dict[str, float]:
    """Mean best of nine trials of three kinds of search over the curve."""
    random = np.random.default_rng(seed)
    low, high = float(logs[0]), float(logs[-1])

    def score(points: Any) -> float:
        return float(np.interp(points, logs, curve).max(1).mean())

    third = (high - low) / 3
    # A grid laid without knowing where the good rates are: its offset is random.
    grid = low + third * (np.arange(3) + random.random((times, 1)))
    even = np.log10(random.uniform(10**low, 10**high, (times, 9)))
    return {
        "best_grid": score(grid),
        "best_even": score(even),
        "best_log": score(random.uniform(low, high, (times, 9))),
    }
