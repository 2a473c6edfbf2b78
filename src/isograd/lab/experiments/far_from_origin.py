"""Why is a linear classifier on data far from the origin so fragile?

Logistic regression on breast cancer data. The same decision boundary is written for three versions
of the data: as collected, shifted by 100 standard deviations, and standardized. Then its weights
are turned about the origin by a few degrees, or changed by 1 percent. A boundary at a distance R
from the origin moves by R times the angle where the data are: farther than the cloud is wide.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures, images
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

PLACES = {"raw": "as collected", "shifted": "shifted by 100 sd", "standardized": "standardized"}


@dataclass(frozen=True)
class FarFromOrigin(Experiment):
    code: ClassVar[str] = "far-from-origin"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.46",
            "true",
            "One degree is enough where the cloud is 100 of its widths away.",
            (
                near("right_raw_0", "right_standardized_0", "the same boundary", abs=0.005),
                below("right_shifted_1", 0.65, "one degree at 140 sd moves the boundary 2.4 sd"),
                below("right_raw_10", 0.8, "ten degrees on the data as collected"),
                below("noise_shifted", 0.975, "1 percent on each weight; 0.99 without"),
            ),
        ),
        Answer(
            "S3.47",
            "true",
            "Ten degrees cost less than two points.",
            (
                above("right_standardized_10", 0.86, "against 0.89 unturned"),
                above("noise_standardized", 0.97, "1 percent on each of 30 weights, 20 draws"),
                near("distance_shifted", "distance_shifted_theory", "R sin(angle), of one "
                     "degree, in standard deviations", rel=0.05),
            ),
        ),
    )  # fmt: skip

    shift: float = 100.0
    """Of the far version, in standard deviations of every feature."""
    angles: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 10.0)
    """Turns of the weights about the origin, degrees."""
    draws: int = 20
    """Random changes of all weights by 1 percent."""

    def run(self, bench: "Bench") -> Measured:
        data = images.load("breast-cancer")
        x = torch.cat([data.inputs, data.test_inputs]).double()
        y = torch.cat([data.labels, data.test_labels]).double()
        numbers: dict[str, Any] = {}
        series: dict[str, Any] = {"right": {}, "lines": {}, "clouds": {}}
        two = x[:, :2]
        for name, z in versions(two, self.shift).items():
            w, b = boundary(two, y, z)
            series["right"][name] = [right(z, y, turn(w, a), b) for a in self.angles]
            for angle, score in zip(self.angles, series["right"][name], strict=True):
                numbers[f"right_{name}_{angle:g}"] = score
            series["lines"][name] = [[turn(w, a).tolist(), float(b)] for a in (0.0, 1.0, 5.0)]
            picked = z[:200]
            series["clouds"][name] = [
                [round(v, 3) for v in [*p.tolist(), float(t)]]
                for p, t in zip(picked, y[:200], strict=True)
            ]
            if name == "shifted":
                # Where the boundary passes closest to the cloud, before and after one degree.
                foot = z.mean(0) - (w @ z.mean(0) + b) / (w @ w) * w
                turned = turn(w, 1.0)
                numbers["distance_shifted"] = abs(turned @ foot + b) / turned.norm()
                along = foot - (foot @ w) / (w @ w) * w
                numbers["distance_shifted_theory"] = abs(
                    math.sin(math.radians(1.0)) * float(along.norm())
                    + (1 - math.cos(math.radians(1.0))) * float(b / w.norm())
                )
        stream = bench.generator()
        for name, z in versions(x, self.shift).items():
            w, b = boundary(x, y, z)
            noise = 1 + 0.01 * torch.randn(self.draws, len(w), generator=stream).double()
            scores = [right(z, y, w * n, b) for n in noise]
            numbers[f"noise_{name}"] = sum(scores) / len(scores)
            numbers[f"noise_{name}_0"] = right(z, y, w, b)
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (near_, far, scores) = figures.new(
            "One degree of turn leaves a classifier of standardized data "
            f"{numbers['right_standardized_1']:.0%} right, one of data far away "
            f"{numbers['right_shifted_1']:.0%}",
            3,
            width=4.7,
        )
        for axes, name in ((near_, "standardized"), (far, "shifted")):
            x, y, label = zip(*told["clouds"][name], strict=True)
            for kind in (0.0, 1.0):
                chosen = [i for i, t in enumerate(label) if t == kind]
                axes.plot(
                    [x[i] for i in chosen], [y[i] for i in chosen],
                    color=figures.COLORS[int(kind)], markersize=5,
                    marker=figures.MARKERS[int(kind)], linestyle="none", alpha=0.6,
                )  # fmt: skip
            left, top = min(x) - 1, max(y) + 1
            ends = [left, max(x) + 1]
            for dash, ((w, b), angle) in enumerate(
                zip(told["lines"][name], (0, 1, 5), strict=True)
            ):
                axes.plot(
                    ends, [-(b + w[0] * e) / w[1] for e in ends], color="black",
                    linestyle=figures.DASHES[dash], label=f"turned {angle}°",
                )  # fmt: skip
            axes.set(xlim=(left, max(x) + 1), ylim=(min(y) - 1, top + 1.5))
            axes.set(xlabel="radius", ylabel="texture")
            axes.set_title(PLACES[name])
            axes.legend(loc="upper right")
        for index, (name, values) in enumerate(told["right"].items()):
            figures.measured(
                scores, result.settings["angles"], values, index, label=PLACES[name], joined=True
            )
        scores.set(xlabel="turn of the weights, degrees", ylabel="right", ylim=(0.3, 1.0))
        scores.set_title("the same boundary, turned about 0")
        scores.legend(loc="center right", bbox_to_anchor=(1.0, 0.6))
        return figure


def versions(x: Tensor, shift: float) -> dict[str, Tensor]:
    """The data as collected, shifted, and standardized."""
    z = (x - x.mean(0)) / x.std(0)
    return {"raw": x, "shifted": z + shift, "standardized": z}


def boundary(x: Tensor, y: Tensor, version: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and bias in a version's coordinates, of the fit on standardized data."""
    z = (x - x.mean(0)) / x.std(0)
    w, b = logistic(z, y)
    # A version is an affine map of z by feature: version = scale z + offset.
    scale = version.std(0)
    offset = version.mean(0)
    return w / scale, b - (w / scale) @ offset


def logistic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logistic regression by Newton's method, with a ridge of 1 as is usual."""
    z = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    w = torch.zeros(z.shape[1], dtype=x.dtype)
    ridge = torch.ones_like(w)
    ridge[-1] = 0
    for _ in range(30):
        p = torch.sigmoid(z @ w)
        gradient = z.T @ (p - y) + ridge * w
        hessian = z.T @ (z * (p * (1 - p))[:, None]) + torch.diag(ridge)
        w = w - torch.linalg.solve(hessian, gradient)
    return w[:-1], w[-1]


def turn(w: Tensor, degrees: float) -> Tensor:
    """Two weights turned by an angle."""
    a = math.radians(degrees)
    turned = [
        [math.cos(a), -math.sin(a)],
        [math.sin(a), math.cos(a)],
    ]
    return torch.tensor(turned, dtype=w.dtype) @ w


def right(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> float:
    """Share on the right side of the boundary."""
    return float((((x @ w + b) > 0) == (y > 0.5)).double().mean())
