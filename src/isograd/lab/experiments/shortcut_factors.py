"""What if a shortcut multiplies by something other than 1?

A residual network whose shortcuts multiply by a factor, from 0 (no shortcut) to 1.1. The gradient
that takes shortcuts only is the factor to the power of the blocks, which is why He et al. wanted
exactly 1. Measured at the weights of zero branches, where that is all there is; then with branches,
before training and after it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import initialize, seeded
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


class Scaled(nn.Module):
    """factor * x + f(x), f = norm, ReLU, Linear."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The stream after this block."""
        inner: Tensor = self.f(x)
        return self.factor * x + inner


@dataclass(frozen=True)
class ShortcutFactors(Experiment):
    code: ClassVar[str] = "shortcut-factors"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "H4",
            "true",
            "Of a constant factor: the gradient through the shortcuts alone is its power, 6e-17 "
            "for 0.5 and 54 blocks, and 0.5 trains hardly better than none. The branches here "
            "hold a batch norm, which forgives a little: 0.9 is a bit worse than 1, and 1.1, whose "
            "stream grows, as good.",
            (
                near("power_0.5", "power_0.5_theory", "ln of the gradient; exact but for "
                     "rounding", abs=1e-3),
                near("power_0.9", "power_0.9_theory", "exact but for rounding", abs=1e-3),
                near("power_1.1", "power_1.1_theory", "exact but for rounding", abs=1e-3),
                above("right_1", 0.85, "the identity", on=("mnist",)),
                above("right_1", 0.7, "the identity; fewer steps", on=("digits",)),
                below("right_0", "less", "no shortcut; less: accuracy of the identity minus 0.1"),
                below("right_0.5", "less", "a shortcut of one half"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"blocks": 36, "steps": 60, "seeds": 1, "width": 40}}

    blocks: int = 54
    """Of one layer each."""
    width: int = 64
    """Of the stream."""
    factors: tuple[float, ...] = (0.0, 0.5, 0.9, 1.0, 1.1)
    """Of the shortcuts."""
    steps: int = 200
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    seeds: int = 2
    """Networks of each kind."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        nets = [
            self._make(factor, data.size, bench.seed + s)
            for factor in self.factors for s in range(self.seeds)
        ]  # fmt: skip
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        scores = trained.accuracy.view(-1, self.seeds)
        numbers: dict[str, Any] = {}
        profiles = {}
        batch = data.inputs[:128], data.labels[:128]
        for index, factor in enumerate(self.factors):
            numbers[f"right_{factor:g}"] = scores[index].mean()
            record = measure(nets[index * self.seeds].train(), batch)
            # The gradient of a branch's output is that of the stream behind its block.
            stream = record.weight_sites()[1:-1]
            profiles[f"{factor:g}"] = [float(record.value("backward.rms", i) or 0) for i in stream]
            if factor:
                numbers[f"power_{factor:g}"] = alone(self.blocks, factor, bench)
                numbers[f"power_{factor:g}_theory"] = self.blocks * math.log(factor)
        numbers["less"] = numbers["right_1"] - 0.1
        spread = (scores.amax(1) - scores.amin(1)) / 2
        return Measured(numbers, {"profiles": profiles, "scores": scores.mean(1), "spread": spread})

    def _make(self, factor: float, size: int, seed: int) -> nn.Sequential:
        with seeded(seed):
            middle = [Scaled(self.width, factor) for _ in range(self.blocks)]
            net = nn.Sequential(
                nn.Flatten(), nn.Linear(size, self.width), *middle,
                nn.BatchNorm1d(self.width), nn.ReLU(), nn.Linear(self.width, 10),
            )  # fmt: skip
            initialize(net, "he")
        return net

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (alone_, back, scores) = figures.new(
            f"A shortcut of 0.5 leaves {math.exp(numbers['power_0.5']):.0e} of the gradient after "
            f"{self.blocks} blocks and trains to {numbers['right_0.5']:.0%}, one of 1 to "
            f"{numbers['right_1']:.0%}",
            3,
            width=4.7,
            height=4.0,
        )
        fine = [0.4 + 0.01 * k for k in range(81)]
        law = [self.blocks * math.log10(f) for f in fine]
        figures.theory(alone_, fine, law, label=f"theory: factor$^{{{self.blocks}}}$")
        some = [f for f in result.settings["factors"] if f]
        values = [numbers[f"power_{f:g}"] / math.log(10) for f in some]
        figures.measured(alone_, some, values, 0, label="measured")
        alone_.set(xlabel="factor", ylabel="log10 of the gradient")
        alone_.set_title("through shortcuts alone")
        alone_.legend(loc="lower right")
        for index, (factor, row) in enumerate(told["profiles"].items()):
            if not row:
                continue
            places = list(range(1, len(row) + 1))[::4]
            figures.measured(back, places, row[::4], index, label=factor)
        back.set(yscale="log", xlabel="block", ylabel="rms of the gradient")
        back.set_title("with branches, before training")
        back.legend(loc="upper right", title="factor", ncols=2)
        names = [f"{f:g}" for f in result.settings["factors"]]
        bars = scores.bar(
            range(len(names)), told["scores"], 0.6, yerr=told["spread"], capsize=3,
            color=figures.COLORS[: len(names)],
        )  # fmt: skip
        scores.bar_label(bars, [f"{s:.2f}" for s in told["scores"]], padding=2)
        scores.set_xticks(range(len(names)), names)
        scores.set(xlabel="factor", ylabel="right", ylim=(0, 1.1))
        scores.set_title(f"after {result.settings['steps']} steps")
        return figure


def alone(blocks: int, factor: float, bench: "Bench") -> float:
    """Ln of the gradient's rms at the input over that at the output, branches of zero weight."""
    x = torch.randn(4, 16, generator=bench.generator(), dtype=torch.float64).requires_grad_()
    net = nn.Sequential(*(Scaled(16, factor) for _ in range(blocks))).double()
    for block in net:
        nn.init.zeros_(block.f[-1].weight)  # type: ignore[index, union-attr]  # a Linear
    probe = torch.randn(4, 16, generator=bench.generator(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((net(x) * probe).sum(), x)
    return 0.5 * math.log(float(gradient.square().mean() / probe.square().mean()))
