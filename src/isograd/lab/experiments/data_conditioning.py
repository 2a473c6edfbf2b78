"""How many steps do centering, scaling, decorrelating and whitening save?

Least squares with a bias on four real data sets, as they are and after each recipe of the lecture:
condition number of the second-moment matrix, and steps of gradient descent until 1 percent of the
excess loss is left, from the eigenvalues and, where that is short enough, step by step. Centering
and scaling save most. Decorrelating by a rotation changes nothing at all for gradient descent,
which does not know directions; it is the scaling after it, whitening, that makes one step enough.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from isograd.lab import figures, images
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.theory import activation
from isograd.theory.averages import averages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

SETS = ("digits", "wine", "iris", "breast-cancer")
FORMS = ("original", "centered", "normalized", "decorrelated", "whitened")
ENTRIES = "a property of the data set; rounding of eigenvalues in float64"


@dataclass(frozen=True)
class DataConditioning(Experiment):
    code: ClassVar[str] = "data-conditioning"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.43",
            "true",
            "And it is worth it: 44 times fewer steps on digits, a million times fewer on breast "
            "cancer, whose features differ in unit.",
            (
                near("steps_digits_original", 1643, ENTRIES, abs=2),
                near("steps_digits_centered", 297, ENTRIES, abs=1),
                near("steps_digits_normalized", 37, ENTRIES, abs=1),
                above("saved_breast-cancer", 1e6, "original over normalized"),
            ),
        ),
        Answer(
            "S3.44",
            "true",
            "PCA alone changes nothing for gradient descent, though: a rotation leaves the "
            "eigenvalues as they are. Whitening makes them equal, and one step is enough.",
            (
                below("off_diagonal", 1e-6, "correlations after PCA; rounding"),
                below("not_identity", 1e-6, "covariance after whitening, minus the identity"),
                below("rotation_changes", 1e-5, "relative change of steps; rounding"),
                exactly("steps_digits_whitened", 1.0, "all eigenvalues are 1"),
                near("condition_digits_original", 6.5e6, ENTRIES, rel=0.01),
                exactly("witness", 0.0, "steps by the eigenvalues minus steps actually taken"),
            ),
        ),
        Answer(
            "S3.F5",
            "true",
            "Two features of the breast cancer set.",
            (near("steps_digits_normalized", 37, ENTRIES, abs=1),),
        ),
        Answer(
            "S3.F6",
            "true",
            "The same two features.",
            (below("not_identity", 1e-6, "a round cloud"),),
        ),
        Answer(
            "H10",
            "true",
            "Standardized inputs divide the condition number by 10^2 to 10^6. The tanh of the "
            "paper is 1 at 1 and has a slope of 1.14 at 0; for normal inputs of variance 1 its "
            "outputs have a variance of 0.75, not 1: it is the fixed points +1 and -1 it keeps.",
            (
                near("lecun_at_1", 1.0, "1.7159 tanh(2/3); four digits are given", abs=1e-4),
                near("lecun_second", 0.7504, "quadrature at unit variance", abs=1e-3),
                near("lecun_slope", 1.1439, "1.7159 times 2/3", abs=1e-3),
                above("saved_wine", 1e6, "original over normalized"),
            ),
        ),
    )

    excess: float = 0.01
    """Share of the excess loss that may be left."""
    pair: tuple[int, ...] = (0, 20)
    """Two features of the breast cancer set for the picture."""

    def run(self, bench: "Bench") -> Measured:
        numbers: dict[str, Any] = {"off_diagonal": 0.0, "not_identity": 0.0}
        numbers["rotation_changes"] = numbers["witness"] = 0.0
        table, clouds = {}, {}
        for name in SETS:
            data = images.load(name)
            x = torch.cat([data.inputs, data.test_inputs]).flatten(1).double()
            y = torch.cat([data.labels, data.test_labels])
            targets = torch.nn.functional.one_hot(y).double()
            rows = []
            for form, z in recipes(x).items():
                values, energy, descend = least_squares(z, targets)
                taken = steps_to(values, energy, self.excess)
                rows.append([float(values[-1] / values[0]), float(taken)])
                numbers[f"condition_{name}_{form}"] = rows[-1][0]
                numbers[f"steps_{name}_{form}"] = taken
                if taken < 2000:
                    numbers["witness"] = max(
                        numbers["witness"], abs(descend(self.excess, 3000) - taken)
                    )
                covariance = z.T @ z / len(z)
                if form == "decorrelated":
                    scale = covariance.diagonal().sqrt()
                    corr = covariance / scale / scale[:, None] - torch.eye(len(scale))
                    numbers["off_diagonal"] = max(numbers["off_diagonal"], float(corr.abs().max()))
                if form == "whitened":
                    off = covariance - torch.eye(len(covariance))
                    numbers["not_identity"] = max(numbers["not_identity"], float(off.abs().max()))
            table[name] = rows
            numbers["rotation_changes"] = max(
                numbers["rotation_changes"], abs(rows[1][1] / rows[3][1] - 1)
            )
            numbers[f"saved_{name}"] = rows[0][1] / rows[2][1]
        two = images.load("breast-cancer").inputs[:250, list(self.pair)].double()
        clouds = {
            form: [[round(v, 4) for v in p] for p in z.tolist()] for form, z in recipes(two).items()
        }
        lecun = activation(lambda x: 1.7159 * np.tanh(2 * x / 3))
        of = averages(lecun, 1.0)
        numbers |= {
            "lecun_at_1": float(lecun.value(np.array([1.0]))[0]),
            "lecun_slope": float(lecun.slope(np.array([0.0]))[0]),
            "lecun_second": of.square,
        }
        return Measured(numbers, {"table": table, "clouds": clouds})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, panels = figures.new(
            f"Normalizing saves {numbers['saved_digits']:.0f}-fold on digits and a million-fold "
            "where units differ; a rotation saves nothing, whitening leaves one step",
            3,
            width=4.6,
            height=3.4,
            rows=2,
        )
        for axes, (form, points) in zip(panels, told["clouds"].items(), strict=False):
            x, y = zip(*points, strict=True)
            axes.plot(x, y, ".", color=figures.COLORS[0], markersize=4)
            axes.plot([0], [0], "+", color="black", markersize=12, markeredgewidth=2)
            axes.set_aspect("equal", adjustable="datalim")
            axes.set(xlabel="first feature", ylabel="second")
            axes.set_title(form)
        last = panels[-1]
        for index, (name, rows) in enumerate(told["table"].items()):
            figures.measured(
                last, range(len(FORMS)), [row[1] for row in rows], index, label=name, joined=True
            )
        last.set_xticks(range(len(FORMS)), [f[:6] + "." if len(f) > 8 else f for f in FORMS])
        last.set(yscale="log", ylabel="steps to 1 % excess", ylim=(0.5, 1e14))
        last.set_title("gradient descent")
        last.legend(loc="upper right", ncols=2)
        return figure


def recipes(x: Tensor) -> dict[str, Tensor]:
    """A data set after each recipe; features that never change are left out of the scaling."""
    centered = x - x.mean(0)
    std = centered.square().mean(0).sqrt()
    values, vectors = torch.linalg.eigh(centered.T @ centered / len(x))
    kept = values > values[-1] * 1e-14
    rotated = centered @ vectors[:, kept]
    return {
        "original": x,
        "centered": centered,
        "normalized": (centered / std.clamp_min(1e-300))[:, std > 0],
        "decorrelated": rotated,
        "whitened": rotated / values[kept].sqrt(),
    }


def least_squares(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Any]:
    """Eigenvalues with a bias, energy of the solution along each, and the descent itself."""
    z = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    moment, cross = z.T @ z / len(z), z.T @ targets / len(z)
    values, vectors = torch.linalg.eigh(moment)
    kept = values > values[-1] * 1e-14
    values, vectors = values[kept], vectors[:, kept]
    best = (vectors.T @ cross) / values[:, None]
    energy = best.square().sum(1)

    def descend(excess: float, limit: int) -> int:
        """Steps of w <- w - gradient / L in full until so much of the excess loss is left."""
        w, wanted = torch.zeros_like(cross), vectors @ best
        whole = float((values * energy).sum())
        for step in range(limit):
            away = w - wanted
            if float((away * (moment @ away)).sum()) <= excess * whole:
                return step
            w = w - (moment @ w - cross) / values[-1]
        return limit

    return values, energy, descend


def steps_to(values: Tensor, energy: Tensor, excess: float) -> int:
    """Steps of rate 1/L after which at most so much of the excess loss is left, by bisection."""

    def left(steps: int) -> float:
        return float((values * energy * (1 - values / values[-1]) ** (2 * steps)).sum())

    low, high, goal = 0, 1, excess * left(0)
    while left(high) > goal:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if left(middle) > goal else (low, middle)
    return high
