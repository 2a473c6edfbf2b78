"""Where does PReLU put its slope, and what does a slope on the left buy?

Five PReLU layers, one learned slope each, beginning at 0.25, trained with several seeds; beside
them the same network with fixed slopes. The learned slopes move, differ by layer, and stay
moderate. Accuracy hardly depends on the slope, so that learning it is no remedy but one setting
less to choose.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class LearnedSlopes(Experiment):
    code: ClassVar[str] = "learned-slopes"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.25",
            "true",
            "One that matters little here: from 0 to 0.5 accuracy stays within two points.",
            (below("fixed_spread", 0.03, "best minus worst of the fixed slopes up to 0.5"),),
        ),
        Answer(
            "S3.27",
            "true",
            "PReLU's slopes leave 0.25, and differ from layer to layer.",
            (
                above("moved", 0.01, "largest change of a slope; the smallest step is 1e-4"),
                above("lowest", -0.5, "a slope that stays a slope"),
                below("highest", 1.0, "beyond 1 it would be no kink but a mirror"),
                below("behind", 0.02, "best fixed slope minus the learned ones; seeds scatter"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 80, "seeds": 1, "width": 64}}

    width: int = 100
    """Units of the five hidden layers."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.03
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of each kind."""
    slopes: tuple[float, ...] = (0.0, 0.01, 0.25, 0.5)
    """Fixed ones."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        nets = []
        for slope in (*self.slopes, None):
            for s in range(self.seeds):
                net = mlp(data.size, self.width, 5, 10, activation="prelu", seed=bench.seed + s)
                for layer in net:
                    if isinstance(layer, nn.PReLU) and slope is not None:
                        nn.init.constant_(layer.weight, slope)
                        layer.weight.requires_grad_(False)
                nets.append(net)
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        scores = trained.accuracy.view(-1, self.seeds)
        learned = torch.tensor(
            [
                [
                    float(layer.weight.detach())
                    for layer in net.modules()
                    if isinstance(layer, nn.PReLU)
                ]
                for net in trained.models[-self.seeds :]
            ]
        )
        fixed = scores[:-1].mean(1)
        numbers: dict[str, Any] = {
            "learned": scores[-1].mean(),
            "fixed_spread": fixed.max() - fixed.min(),
            "behind": fixed.max() - scores[-1].mean(),
            "moved": (learned - 0.25).abs().max(),
            "lowest": learned.min(),
            "highest": learned.max(),
        }
        spread = (scores.max(1).values - scores.min(1).values) / 2
        series = {"learned": learned, "scores": scores.mean(1), "spread": spread}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (slopes, scores) = figures.new(
            f"Learned slopes go from 0.25 to {numbers['lowest']:.2f} … {numbers['highest']:.2f}; "
            f"accuracy differs by {100 * numbers['fixed_spread']:.1f} points over fixed ones",
            2,
        )
        for index, row in enumerate(told["learned"]):
            layers = range(1, len(row) + 1)
            figures.measured(slopes, layers, row, index, label=f"seed {index}", joined=True)
        slopes.axhline(0.25, color="black", linewidth=1.2, linestyle=":")
        slopes.annotate("start", (4.6, 0.26))
        slopes.set(xlabel="layer", ylabel="slope on the left")
        slopes.set_ylim(min(0.0, numbers["lowest"]) - 0.02, max(0.3, numbers["highest"] + 0.1))
        slopes.set_xticks(range(1, 6))
        slopes.set_title("PReLU, after training")
        slopes.legend(loc="best")
        names = [*(f"{s:g}" for s in result.settings["slopes"]), "learned"]
        for index, name in enumerate(names):
            scores.errorbar(
                [index], [told["scores"][index]], yerr=[told["spread"][index]], capsize=3,
                **figures.look(1 if name == "learned" else 0) | {"linestyle": "none"},
            )  # fmt: skip
        scores.set_xticks(range(len(names)), names)
        scores.set(xlabel="slope", ylabel="right on the test set")
        low, high = scores.get_ylim()
        scores.set_ylim(low - 0.02, min(1.0, high + 0.02))
        scores.set_title("accuracy; bars: half the range of seeds")
        return figure
