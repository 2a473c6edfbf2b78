"""Before, during and after training: which wrong choice can be seen when?

The lecture sorts choices into three groups. Here one thing is done wrong in each: an initialization
(before), a learning rate (during), the momentum of batch norm's statistics, which only the test
uses (after). isograd looks at every set-up three times: at the network alone, at the network with
its optimizer and a few steps on a copy, and at the trained network. Each fault is seen from its own
group's look on, and none before.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.checking import check
from isograd.lab import figures
from isograd.lab.expected import exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.findings import Diagnosis
    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

SETUPS = {
    "nothing wrong": ("relu", "he", 0.02, 0.1),
    "initialization: 20 sigmoids": ("sigmoid", "xavier", 0.02, 0.1),
    "learning rate: 20": ("relu", "he", 20.0, 0.1),
    "statistics: momentum 0.0001": ("relu", "he", 0.02, 0.0001),
}
"""By name: activation, initialization, learning rate, momentum of the norm."""
LOOKS = ("the network", "its first steps", "trained")


@dataclass(frozen=True)
class GroupsOfChoices(Experiment):
    code: ClassVar[str] = "groups-of-choices"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.1",
            "true",
            "And what is chosen in a group is seen from that group's look on: an initialization "
            "before the first step, a learning rate with the optimizer, statistics for the test "
            "after training.",
            (
                exactly("first_0", 3.0, "nothing wrong, nothing reported at any of three looks"),
                exactly("first_1", 0.0, "seen before training"),
                exactly("first_2", 1.0, "seen with the optimizer only"),
                exactly("first_3", 2.0, "seen on the trained network only"),
            ),
        ),
        Answer(
            "S3.F1",
            "true",
            "Drawn as what isograd reports at which look.",
            (exactly("first_0", 3.0, "nothing wrong, nothing reported at any of three looks"),),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 60}}

    width: int = 64
    """Units of every layer."""
    steps: int = 150
    """Of training before the last look, batches of 100."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        numbers: dict[str, Any] = {}
        table = []
        for index, (act, init, lr, momentum) in enumerate(SETUPS.values()):
            net = self._make(act, init, momentum, data, bench.seed)
            found = self._looks(net, lr, data, bench.seed)
            reported = [
                [f.code for f in one.findings if f.severity.value in ("warning", "error")]
                for one in found
            ]
            numbers[f"first_{index}"] = float(
                next((k for k, codes in enumerate(reported) if codes), len(LOOKS))
            )
            table.append([" ".join(codes[:2]) for codes in reported])
        return Measured(numbers, {"table": table})

    def _make(
        self, act: str, init: str, momentum: float, data: "Images", seed: int
    ) -> nn.Sequential:
        sick = act == "sigmoid"
        net = mlp(
            data.size, self.width, 20 if sick else 4, 10, activation=act, init=init,
            norm=not sick, seed=seed,
        )  # fmt: skip
        for layer in net:
            if isinstance(layer, nn.BatchNorm1d):
                layer.momentum = momentum
        return net

    def _looks(
        self, net: nn.Module, lr: float, data: "Images", seed: int
    ) -> "tuple[Diagnosis, ...]":
        batch = data.inputs[:256], data.labels[:256]
        alone = check(net, batch, predict=False)
        some = list(data.batches(8, 100, seed=seed))

        def sgd(parameters: Any) -> torch.optim.Optimizer:
            return torch.optim.SGD(parameters, lr, momentum=0.9)

        started = check(net, batch, predict=False, optimizer=sgd, data=some, steps=8)
        rate = min(lr, 0.02)  # what went wrong before is not to be seen again
        trained = train([net], data, steps=self.steps, lr=rate, seed=seed).models[0]
        return alone, started, check(trained.train(), batch, predict=False)

    def figure(self, result: "Result") -> "Figure":
        figure, (axes,) = figures.new(
            "A wrong initialization shows before training, a wrong rate in its first steps, wrong "
            "statistics for the test only after it",
            1,
            width=7.2,
            height=3.2,
        )
        table = result.series["table"]
        for row, codes in enumerate(table):
            for column, text in enumerate(codes):
                axes.add_patch(_cell(column, row, figures.COLORS[1] if text else "#e8e8e8"))
                axes.text(
                    column, row, text or "nothing", ha="center", va="center",
                    color="white" if text else figures.GRAY,
                    fontweight="bold" if text else "normal",
                )  # fmt: skip
        axes.set_xticks(range(3), LOOKS)
        axes.set_yticks(range(len(SETUPS)), list(SETUPS))
        axes.set(xlim=(-0.5, 2.5), ylim=(len(SETUPS) - 0.5, -0.5))
        axes.grid(visible=False)
        axes.set_xlabel("what isograd looks at, and what it reports")
        return figure


def _cell(column: int, row: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.47, row - 0.43), 0.94, 0.86, color=color)
