"""What does a leak on the negative side cure, and how large should it be?

Networks of twenty layers with slopes from 0 to 0.3 on the negative side, each with the gain that
keeps its signal; networks whose biases begin at -3, at which every ReLU of the last layer is dead;
and steps so large that training diverges. The leak revives what is dead, makes deep networks a
little better, and does not help against divergence. How many activations are exactly zero, and
whether that is of use, is counted beside it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below, between, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import Fleet, train
from isograd.lab.networks import initialize, seeded
from isograd.theory import activation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class LeakySlopes(Experiment):
    code: ClassVar[str] = "leaky-slopes"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.39",
            "true",
            "Half of all activations are exactly 0 at the start, and about as many after "
            "training: work that could be saved. The accuracy of three layers is the same with "
            "and without a leak, so that neither harm nor benefit is seen at this size.",
            (
                between("sparsity_start", 0.4, 0.6, "half, by symmetry; units correlate"),
                between("sparsity_end", 0.35, 0.85, "0.5 to 0.7 after training"),
                near("accuracy_sparse", "accuracy_dense", "seeds scatter by 0.005", abs=0.02),
            ),
        ),
        Answer(
            "S1.40",
            "imprecise",
            "It does not die: a network that begins with every ReLU of a layer dead learns "
            "with a leak of 0.2 and not with 0. But it is no cure of divergence: with steps that "
            "are too large the loss is not finite either way.",
            (
                below("accuracy_dead_0", 0.25, "one class for all"),
                above("accuracy_dead_leak", 0.6, "0.8; seeds scatter by 0.05", on=("mnist",)),
                above("accuracy_dead_leak", 0.25, "fewer samples and steps", on=("digits",)),
                exactly("finite_shock", 0.0, "learning rate 2: the loss of every network is NaN"),
            ),
        ),
        Answer(
            "S1.41",
            "imprecise",
            "0.01 is torch's default, not a best value; in deep networks larger ones do better.",
            (
                above("best_minus_0.01", 0.0, "the best of all cannot be worse"),
                exactly("torch_default", 0.01, "read from nn.LeakyReLU"),
            ),
        ),
        Answer(
            "S1.42",
            "true",
            "Where depth is large: twenty layers are best at 0.2 to 0.3. The nearer to linear, the "
            "slower two inputs become alike, and theory orders the slopes in the same way.",
            (
                above("best_slope", 0.1, "0.2 or 0.3; neighbors differ by less than their spread"),
                above("gain_of_leak", 0.0, "0.2 against 0, in the mean over seeds"),
                near(
                    "correlation_0.2",
                    "correlation_0.2_theory",
                    "two inputs at right angles, twenty layers; narrow networks stray by 0.04",
                    abs=0.06,
                ),
                below("correlation_0.2_theory", "correlation_0_theory", "theory alone"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 70, "seeds": 2, "slopes": (0.0, 0.01, 0.2), "width": 50}}

    slopes: tuple[float, ...] = (0.0, 0.01, 0.1, 0.2, 0.3)
    """On the negative side; 0, 0.01 and 0.2 have to be among them."""
    depth: int = 20
    """Hidden layers of the deep networks."""
    width: int = 100
    """Units of every layer."""
    steps: int = 470
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    seeds: int = 4
    """Networks of every kind."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()

        def make(slope: float, depth: int, bias: float = 0.0) -> list[nn.Sequential]:
            return [
                leaky(data.size, self.width, depth, slope, bias, bench.seed + s)
                for s in range(self.seeds)
            ]

        deep = [net for slope in self.slopes for net in make(slope, self.depth)]
        trained = train(deep, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        scores = trained.accuracy.view(len(self.slopes), -1)
        mean = scores.mean(1)
        numbers: dict[str, Any] = {
            f"accuracy_{slope:g}": value for slope, value in zip(self.slopes, mean, strict=True)
        }
        best = int(mean.argmax())
        numbers["best_slope"] = self.slopes[best]
        numbers["best_minus_0.01"] = mean[best] - mean[self.slopes.index(0.01)]
        numbers["gain_of_leak"] = mean[self.slopes.index(0.2)] - mean[0]
        numbers["torch_default"] = nn.LeakyReLU().negative_slope
        alike = [far(slope, self.depth) for slope in self.slopes]
        seen = [
            torch.tensor([angle(net, bench.generator()) for net in deep[i : i + self.seeds]])
            for i in range(0, len(deep), self.seeds)
        ]
        for slope, c, found in zip(self.slopes, alike, seen, strict=True):
            numbers[f"correlation_{slope:g}_theory"] = c
            numbers[f"correlation_{slope:g}"] = found.mean()

        begun = [net for slope in (0.0, 0.2) for net in make(slope, 3, bias=-3.0)]
        revived = train(begun, data, steps=2 * self.steps, lr=2 * self.lr, seed=bench.seed)
        numbers["accuracy_dead_0"], numbers["accuracy_dead_leak"] = revived.accuracy.view(
            2, -1
        ).mean(1)
        shallow = [net for slope in (0.0, 0.01) for net in make(slope, 3)]
        shock = Fleet(shallow[self.seeds :], lr=2.0)
        for x, y in data.batches(30, 100, seed=bench.seed):
            losses = shock.step(x, y)
        numbers["finite_shock"] = losses.isfinite().float().mean()
        calm = train(shallow, data, steps=2 * self.steps, lr=self.lr, seed=bench.seed)
        sparse, dense = calm.accuracy.view(2, -1).mean(1)
        numbers |= {
            "accuracy_sparse": sparse,
            "accuracy_dense": dense,
            "sparsity_start": sparsity(shallow[0], data.inputs[:1000]),
            "sparsity_end": sparsity(calm.models[0], data.inputs[:1000]),
        }
        series = {
            "slopes": self.slopes,
            "mean": mean,
            "spread": (scores.amax(1) - scores.amin(1)) / 2,
            "alike": alike,
            "seen": [c.mean() for c in seen],
            "seen_spread": [(c.amax() - c.amin()) / 2 for c in seen],
            "dead": revived.losses.view(2 * self.steps, 2, -1)
            .mean(-1)
            .T.unfold(1, 10, 10)
            .mean(-1),
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (slopes, alike, dead) = figures.new(
            f"A leak of 0.2 brings {numbers['gain_of_leak']:+.1%} in twenty layers, and revives a "
            f"network of dead units ({numbers['accuracy_dead_leak']:.0%} against "
            f"{numbers['accuracy_dead_0']:.0%})",
            3,
            width=4.9,
        )
        figures.measured(
            slopes, told["slopes"], told["mean"], 0, spread=told["spread"], joined=True
        )
        slopes.set(xlabel="slope on the negative side", ylabel="right on the test set")
        slopes.set_title(f"{result.settings['depth']} layers; bars: range over seeds")
        figures.theory(alike, told["slopes"], told["alike"], label="theory")
        figures.measured(
            alike, told["slopes"], told["seen"], 1, spread=told["seen_spread"], label="measured"
        )
        alike.set(xlabel="slope on the negative side", ylabel="correlation")
        alike.set_title("two inputs at right angles, at the end")
        alike.legend()
        steps = [10 * i + 5 for i in range(len(told["dead"][0]))]
        rows = dict(zip(("slope 0", "slope 0.2"), told["dead"], strict=True))
        figures.lines(dead, steps, rows)
        dead.set(xlabel="step", ylabel="training loss", ylim=(0, 2.6))
        dead.set_title("three layers, biases of -3")
        dead.legend(loc="center right")
        return figure


def leaky(
    inputs: int, width: int, depth: int, slope: float, bias: float, seed: int
) -> nn.Sequential:
    """A plain stack of leaky ReLUs with the gain that keeps their signal; 10 outputs."""
    with seeded(seed):
        layers: list[nn.Module] = []
        for fan_in in (inputs, *[width] * (depth - 1)):
            layers += [nn.Linear(fan_in, width), nn.LeakyReLU(slope) if slope else nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(width, 10))
        initialize(model, "he", 1 / math.sqrt(1 + slope**2))
    for module in list(model)[:-1]:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, bias)
    return model


def far(slope: float, depth: int) -> float:
    """Correlation that theory expects at the end, of two inputs at right angles."""
    act = activation("leaky_relu", negative_slope=slope)
    followed = theory.trajectory(act, depth, weight_var=2 / (1 + slope**2), q0=1.0, c0=0.0)
    assert followed.c is not None
    return float(followed.c[-1])


@torch.no_grad()
def angle(net: nn.Sequential, stream: torch.Generator) -> float:
    """Mean cosine, in the last hidden layer, of eight pairs of inputs at right angles."""
    inputs = net[0].in_features
    assert isinstance(inputs, int)
    x = torch.randn(8, 2, inputs, generator=stream)
    x[:, 1] -= (
        (x[:, 0] * x[:, 1]).sum(-1, keepdim=True) / x[:, 0].square().sum(-1, keepdim=True) * x[:, 0]
    )
    x *= math.sqrt(inputs / 2) / x.norm(dim=-1, keepdim=True)  # pre-activations of about 1
    z = net[:-2](x)
    return float(torch.nn.functional.cosine_similarity(z[:, 0], z[:, 1], dim=-1).mean())


@torch.no_grad()
def sparsity(net: nn.Module, x: Tensor) -> float:
    """Share of the activations of all layers that are exactly 0."""
    zeros = []
    for module in net.children():
        x = module(x)
        if isinstance(module, nn.ReLU):
            zeros.append(float((x == 0).double().mean()))
    return sum(zeros) / len(zeros)
