"""How long does a unit that is far off take to come back?

One unit whose pre-activation lies at -B, and whose loss wants it at 0: gradient descent on its
bias, step by step, against the closed form, the integral of 1/derivative over the way. A sigmoid
takes exp(B) steps, ELU too, a leak of 0.01 a hundred times B, ReLU for ever; and GELU and SiLU,
whose slope is negative out there, drift the wrong way. A second look is at a cloud of real data: a
ReLU unit is dead if its half-plane holds none of it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.probe.measuring import measure
from isograd.theory import activation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

UNITS = {
    "sigmoid": ("sigmoid", {}),
    "ELU": ("elu", {}),
    "leaky 0.01": ("leaky_relu", {"negative_slope": 0.01}),
    "leaky 0.2": ("leaky_relu", {"negative_slope": 0.2}),
    "ReLU": ("relu", {}),
    "GELU": ("gelu", {}),
}
"""By name in the figure: name in theory, parameters."""
EULER = "a finite learning rate: the last steps are of a finite size"


@dataclass(frozen=True)
class AsleepOrDead(Experiment):
    code: ClassVar[str] = "asleep-or-dead"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.19",
            "true",
            "Exactly 0, so that a unit that is off for every sample never moves again by its own "
            "gradient.",
            (
                exactly("steps_relu", math.inf, "a gradient of 0 moves nothing"),
                exactly("dead_gradient", 0.0, "no sample lies on its side"),
            ),
        ),
        Answer(
            "S3.20",
            "imprecise",
            "A sigmoid at -7 is asleep, not dead: it needs about 2 sinh 7 = 1100 times as long. In "
            "float16 it too has a gradient of exactly 0, from -17.4 on. And GELU is worse than "
            "either: below -0.75 its slope is negative, and the unit drifts away.",
            (
                near("steps_sigmoid", "steps_sigmoid_theory", EULER, rel=0.03),
                near("steps_elu", "steps_elu_theory", EULER, rel=0.03),
                exactly("steps_gelu", math.inf, "it moves away from 0"),
                near("fp16_zero", 17.35, "where s(1 - s) rounds below half of 2^-24", abs=0.1),
            ),
        ),
        Answer(
            "S3.21",
            "true",
            "Two units on the first two principal components of real images; isograd calls the "
            "one dead whose half-plane misses the cloud.",
            (
                exactly("dead_cutting", 0.0, "its half-plane holds samples"),
                exactly("dead_missing", 1.0, "it holds none"),
                exactly("dead_units", 0.5, "isograd: one of the two units"),
            ),
        ),
        Answer(
            "S3.26",
            "imprecise",
            "It always comes back, in 1/slope times the steps. The sigmoid does not die either: it "
            "falls asleep, and exponentially deep.",
            (
                near("steps_leaky_0.01", "steps_leaky_0.01_theory", EULER, rel=0.03),
                above("steps_sigmoid", "steps_leaky_0.01", "exp(7) beats 700"),
            ),
        ),
    )
    far: float = 7.0
    """Farthest start, the one that numbers are told of."""
    lr: float = 0.25
    """Of the steps; numbers are given for a rate of 1."""

    def run(self, bench: "Bench") -> Measured:
        starts = [self.far * k / 7 for k in range(1, 8)]
        steps, theories = {}, {}
        numbers: dict[str, Any] = {}
        for label, (name, params) in UNITS.items():
            phi = activation(name, **params)
            steps[label] = recover(phi, starts, self.lr)
            theories[label] = [way(phi, b) for b in starts]
            key = label.lower().replace(" ", "_")
            numbers[f"steps_{key}"] = steps[label][-1]
            numbers[f"steps_{key}_theory"] = theories[label][-1]
        x = torch.arange(10, 20, 0.01)
        half = (-x).half().requires_grad_()
        (slope,) = torch.autograd.grad(torch.sigmoid(half).sum(), half)
        numbers["fp16_zero"] = x[slope == 0][0]
        cloud, series = self._cloud(bench)
        numbers |= cloud
        series |= {"starts": starts, "steps": steps, "theories": theories}
        return Measured(numbers, series)

    def _cloud(self, bench: "Bench") -> tuple[dict[str, Any], dict[str, Any]]:
        data = bench.data.flat().scaled().take(1000)
        x = data.inputs - data.inputs.mean(0)
        plane = x @ torch.linalg.svd(x, full_matrices=False)[2][:2].T
        plane = plane / plane.std(0)
        first = nn.Linear(2, 2)
        net = nn.Sequential(first, nn.ReLU(), nn.Linear(2, 10))
        with torch.no_grad():
            first.weight.copy_(torch.tensor([[1.0, 0.6], [0.5, -1.0]]))
            first.bias.copy_(torch.tensor([-0.2, -4.5]))
            shares = (first(plane) > 0).double().mean(0)
        record = measure(net, (plane, data.labels))
        loss = nn.functional.cross_entropy(net(plane), data.labels)
        (gradient,) = torch.autograd.grad(loss, first.weight)
        numbers = {
            "active_cutting": shares[0],
            "dead_cutting": float(shares[0] == 0),
            "dead_missing": float(shares[1] == 0),
            "dead_units": record.value("forward.dead", 1),
            "dead_gradient": gradient[1].abs().max(),
        }
        dots = [[round(v, 3) for v in row] for row in plane[:300].tolist()]
        return numbers, {"dots": dots}

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        far = result.settings["far"]
        figure, (steps, cloud) = figures.new(
            f"From -{far:g} a leaky unit is back after {numbers['steps_leaky_0.01']:.0f} steps, a "
            f"sigmoid after {numbers['steps_sigmoid']:.0f}, ReLU and GELU never",
            2,
            width=5.8,
        )
        finite = [k for k in UNITS if math.isfinite(told["steps"][k][-1])]
        for index, label in enumerate(finite):
            figures.theory(
                steps, told["starts"], told["theories"][label], label=None if index else "theory"
            )
            figures.measured(steps, told["starts"], told["steps"][label], index, label=label)
        steps.set(yscale="log", xlabel="how far below 0", ylabel="steps, at a rate of 1")
        steps.set_ylim(1, 3e4)
        steps.set_title("never: ReLU; GELU beyond 0.75")
        steps.legend(loc="upper left", ncols=2)
        x, y = zip(*told["dots"], strict=True)
        cloud.plot(x, y, ".", color=figures.GRAY, markersize=4)
        line = [-4.0, 4.0]
        cloud.plot(
            line, [(0.2 - v) / 0.6 for v in line], color=figures.COLORS[0],
            label=f"active for {numbers['active_cutting']:.0%} of the images",
        )  # fmt: skip
        edge = [0.5 * v - 4.5 for v in line]
        cloud.plot(line, edge, "--", color=figures.COLORS[1], label="dead: active below this line")
        cloud.fill_between(line, edge, -7, color=figures.COLORS[1], alpha=0.15, linewidth=0)
        cloud.set(xlim=(-4, 4), ylim=(-6.5, 5))
        cloud.set(xlabel="first principal component", ylabel="second")
        cloud.set_title("two ReLU units and the data")
        cloud.legend(loc="upper right")
        return figure


def recover(phi: Any, starts: list[float], lr: float, limit: int = 40_000) -> list[float]:
    """Steps of gradient descent on -phi(z) until z >= 0, times the rate; infinite where never."""
    z = -torch.tensor(starts, dtype=torch.float64)
    taken = torch.full_like(z, math.inf)
    for step in range(limit):
        back = (z >= -1e-9) & taken.isinf()
        taken[back] = step * lr
        slope = torch.from_numpy(phi.slope(z.numpy())) * (z < 0)
        open_ = taken.isinf() & (slope > 0)
        if not open_.any():
            break
        z = z + lr * slope
    return [float(t) for t in taken]


def way(phi: Any, far: float) -> float:
    """Integral of 1/phi' from -far to 0: time of gradient flow; infinite across a zero of phi'."""
    import numpy as np

    edges = np.linspace(-far, 0, 4001)
    slope: Any = phi.slope((edges[1:] + edges[:-1]) / 2)
    return math.inf if bool((slope <= 0).any()) else float((far / 4000 / slope).sum())
