"""What does an untrained deep network forget of its input?

Features of every layer before training, judged twice: by how alike two different inputs have
become, against theory's correlation map, and by what a linear readout still tells of the class. An
ordered network makes all inputs the same, a chaotic one tears neighbors apart; near the critical
point, or with skips, the input is still there after fifty layers.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import Branch, mlp, residual_mlp, seeded
from isograd.theory import residual, trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

TANH = {"tanh, ordered": (1.0, 0.3), "tanh, critical": (1.7610, 0.05), "tanh, chaotic": (4.0, 0.05)}
"""Weight and bias variance of each."""
NAMES = ("ReLU, torch's init", *TANH, "residual ReLU")


@dataclass(frozen=True)
class WhatDepthForgets(Experiment):
    code: ClassVar[str] = "what-depth-forgets"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.2",
            "imprecise",
            "Information is lost in both directions: forward, two inputs become alike; backward, "
            "the gradient does not arrive. Skips help with both, and so does an initialization at "
            "the critical point.",
            (
                below("probe_relu", 0.3, "all inputs give one output, to float32's last digits"),
                below("spread_relu", 1e-8, "sqrt(1/6) per layer"),
                above("probe_residual", 0.8, "a linear readout of the pixels has 0.9 or less"),
                near("correlation_ordered", 1.0, "the fixed point of ordered networks", abs=0.01),
                near(
                    "correlation_chaotic",
                    "correlation_chaotic_theory",
                    "the fixed point c*; width 200 and 200 pairs scatter by 0.05",
                    abs=0.15,
                ),
                near(
                    "correlation_critical_10",
                    "correlation_critical_10_theory",
                    "theory is for infinite width; correlations of 10 layers stray by sqrt(10 / n)",
                    abs=0.15,
                ),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"depth": 30, "width": 150}}

    depth: int = 50
    """Layers; the residual network has as many in blocks of two."""
    width: int = 200
    """Units of every layer."""
    train: int = 1000
    """Samples that the linear readout is fitted on; half as many test it."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized().take(self.train, self.train // 2)
        pairs = data.test_inputs[: 2 * (len(data.test_inputs) // 2)]
        cosines, probes = {}, {}
        theories: dict[str, Any] = {}
        numbers: dict[str, Any] = {}
        for name in NAMES:
            net = self._make(name, data, bench.seed)
            train, test, both = (features(net, x) for x in (data.inputs, data.test_inputs, pairs))
            cosines[name] = [cosine(x[::2], x[1::2]) for x in both]
            every = range(0, len(train), 1 if name.startswith("residual") else 3)
            probes[name] = [
                [k * self.depth / (len(train) - 1), readout(train[k], test[k], data)] for k in every
            ]
            if name == NAMES[0]:
                numbers["spread_relu"] = both[-1].std(0).mean()
            q, c = float(both[0].square().mean()), cosines[name][0]
            if name in TANH:
                weight_var, bias_var = TANH[name]
                told = trajectory(
                    "tanh", self.depth - 1, weight_var=weight_var, bias_var=bias_var, q0=q, c0=c
                )
                theories[name] = told.c
            elif name == NAMES[0]:
                theories[name] = trajectory(
                    "relu",
                    self.depth - 1,
                    weight_var=1 / 3,
                    bias_var=1 / (3 * self.width),
                    q0=q,
                    c0=c,
                ).c
            else:
                scale = (self.depth // 2) ** -0.5
                theories[name] = residual(
                    "relu", self.depth // 2, branch_scale=scale, layers_per_branch=2, q0=q, c0=c
                ).c
        chaotic, critical = "tanh, chaotic", "tanh, critical"
        numbers |= {
            "probe_relu": probes[NAMES[0]][-1][1],
            "probe_residual": probes["residual ReLU"][-1][1],
            "correlation_ordered": cosines["tanh, ordered"][-1],
            "correlation_chaotic": cosines[chaotic][-1],
            "correlation_chaotic_theory": float(theories[chaotic][-1]),
            "correlation_critical_10": cosines[critical][10],
            "correlation_critical_10_theory": float(theories[critical][10]),
        }
        return Measured(numbers, {"cosines": cosines, "probes": probes, "theories": theories})

    def _make(self, name: str, data: "Images", seed: int) -> nn.Sequential:
        if name == "residual ReLU":
            blocks = self.depth // 2
            return residual_mlp(
                data.size, self.width, blocks, 10, norm=False, scale=blocks**-0.5, seed=seed
            )
        if name not in TANH:
            return mlp(data.size, self.width, self.depth, 10, init="torch", seed=seed)
        weight_var, bias_var = TANH[name]
        net = mlp(
            data.size, self.width, self.depth, 10, activation="tanh", init="lecun",
            gain=weight_var**0.5, seed=seed,
        )  # fmt: skip
        with seeded(seed + 1), torch.no_grad():
            for layer in net:
                if isinstance(layer, nn.Linear):
                    layer.bias.normal_(std=bias_var**0.5)
        return net

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (alike, probe) = figures.new(
            f"After {self.depth} layers torch's ReLU network tells {numbers['probe_relu']:.0%} of "
            f"the classes, a residual one {numbers['probe_residual']:.0%}: what depth forgets is "
            "decided before training",
            2,
            width=5.8,
        )
        for index, name in enumerate(NAMES):
            values = told["cosines"][name]
            step = self.depth / len(values)
            depths = [1 + k * step for k in range(len(values))]
            figures.theory(
                alike, depths, told["theories"][name][: len(depths)],
                label=None if index else "theory",
            )  # fmt: skip
            every = max(1, len(values) // 13)
            figures.measured(alike, depths[::every], values[::every], index, label=name)
            layers, right = zip(*told["probes"][name], strict=True)
            figures.measured(probe, layers, right, index, joined=True)
        alike.set(xlabel="layer", ylabel="correlation of two inputs", ylim=(-0.6, 1.05))
        alike.set_title("how alike two inputs have become")
        alike.legend(loc="lower center", ncols=2)
        probe.set(xlabel="layer", ylabel="right, by a linear readout", ylim=(0, 1))
        probe.axhline(0.1, color="black", linewidth=1, linestyle=":")
        probe.set_title("what can still be read; dotted: chance")
        return figure


@torch.no_grad()
def features(net: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Pre-activations of every layer, [samples, width]; of a residual network its stream."""
    kept: list[Tensor] = []
    blocks = any(isinstance(layer, Branch) for layer in net)
    for layer in list(net)[:-1]:
        x = layer(x)
        if isinstance(layer, Branch) or (isinstance(layer, nn.Linear) and not (blocks and kept)):
            kept.append(x.double())
    return kept


def cosine(a: Tensor, b: Tensor) -> float:
    """Mean product of two inputs' pre-activations over the mean square, over pairs."""
    return float((a * b).mean() / ((a.square().mean() + b.square().mean()) / 2))


def readout(train: Tensor, test: Tensor, data: "Images") -> float:
    """Share of test samples that ridge regression on the training samples puts right."""
    scale = train.square().mean().sqrt()
    train, test = (torch.cat([x / scale, torch.ones(len(x), 1)], 1) for x in (train, test))
    wanted = nn.functional.one_hot(data.labels, data.classes).double()
    gram = (
        train.T @ train + 1e-1 * len(train) * torch.eye(train.shape[1], dtype=torch.float64) / 100
    )
    guess = test @ torch.linalg.solve(gram, train.T @ wanted)
    return float((guess.argmax(1) == data.test_labels).double().mean())
