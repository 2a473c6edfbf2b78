"""Why do round contours train faster than elongated ones?

Gradient descent on parabolas of two curvatures, kappa times apart, from points of equal loss, with
the best learning rate for each: the steps to a millionth of the loss follow from kappa alone. The
second half multiplies one and the same cost by 1000, which makes every gradient 1000 times as large
and changes nothing once the learning rate is adapted: not the size of the gradient counts, but how
differently curved the directions are.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from isograd.lab import figures
from isograd.lab.expected import above, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

STEP = "theory's number is a real one, steps are whole: at most one more"


@dataclass(frozen=True)
class Contours(Experiment):
    code: ClassVar[str] = "contours"
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.6",
            "true",
            "Many updates, that is: about kappa of them. Flat is only one of the two directions.",
            (
                near("steps_10", "steps_10_theory", STEP, abs=1.0),
                near("steps_100", "steps_100_theory", STEP, abs=1.0),
                near("steps_1000", "steps_1000_theory", STEP, abs=1.0),
            ),
        ),
        Answer(
            "S1.7",
            "wrong",
            "Round contours are faster since one learning rate fits all directions, not since "
            "their gradients are larger: a cost multiplied by 1000 has gradients 1000 times as "
            "large and needs exactly as many steps. What counts is the condition number kappa.",
            (
                exactly("steps_1", 1, "one step of 1 / curvature lands in the minimum"),
                exactly("steps_scaled", "steps_100", "a rate 1000 times smaller; the same path"),
                near("gradient_scaled", 1000.0, "float64 rounding", rel=1e-12),
                above(
                    "gradient_long_over_round",
                    1.0,
                    "at equal loss the steep direction of the long one has the larger gradient",
                ),
            ),
        ),
        Answer(
            "X13",
            "true",
            "",
            (exactly("steps_scaled", "steps_100", "a rate 1000 times smaller; the same path"),),
        ),
        Answer(
            "S1.F2",
            "true",
            "Redrawn, with the real paths.",
            (near("steps_10", "steps_10_theory", STEP, abs=1.0),),
        ),
    )

    kappas: tuple[int, ...] = (1, 2, 10, 100, 1000)
    """Larger curvature over the smaller one."""
    target: float = 1e-6
    """Share of the loss at which a path ends."""

    def run(self, bench: "Bench") -> Measured:
        numbers: dict[str, Any] = {}
        best, plain, theory = [], [], []
        for kappa in self.kappas:
            best.append(len(descend(kappa, 2 / (1 + kappa), self.target)) - 1)
            plain.append(len(descend(kappa, 1 / kappa, self.target)) - 1)
            theory.append(self._theory(kappa))
            numbers |= {f"steps_{kappa}": best[-1], f"steps_{kappa}_theory": theory[-1]}
            numbers[f"steps_{kappa}_plain"] = plain[-1]
        paths = {str(k): descend(k, 2 / (1 + k), self.target) for k in (1, 10)}
        scaled = descend(100, 2 / 101 / 1000, self.target, scale=1000.0)
        numbers["steps_scaled"] = len(scaled) - 1
        long, short = gradient(10, paths["10"][0]), gradient(1, paths["1"][0])
        numbers["gradient_long_over_round"] = long / short
        numbers["gradient_scaled"] = gradient(100, scaled[0], 1000.0) / gradient(100, scaled[0])
        series = {"paths": paths, "best": best, "plain": plain, "theory": theory}
        return Measured(numbers, series)

    def _theory(self, kappa: float) -> float:
        """Every step multiplies both coordinates by +-(kappa - 1) / (kappa + 1)."""
        if kappa == 1:
            return 1.0
        return math.log(self.target) / 2 / math.log((kappa - 1) / (kappa + 1))

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        kappas = result.settings["kappas"]
        figure, (long, round_, steps) = figures.new(
            f"Round contours need 1 step, elongated ones {numbers['steps_10']:.0f} "
            f"(kappa 10) or {numbers['steps_1000']:.0f} (kappa 1000): "
            "it is the ratio of the curvatures, not the size of the gradient",
            3,
            width=4.9,
        )
        _contours(long, 10, told["paths"]["10"])
        long.set_title(f"kappa 10: {numbers['steps_10']:.0f} steps")
        _contours(round_, 1, told["paths"]["1"])
        round_.set_title("kappa 1: 1 step")
        figures.theory(steps, kappas[1:], told["theory"][1:], label="theory")
        figures.measured(steps, kappas, told["best"], 0, label="best rate, 2 / (1 + kappa)")
        figures.measured(steps, kappas, told["plain"], 1, label="rate 1 / kappa")
        figures.measured(steps, [100], [numbers["steps_scaled"]], 4, label="cost × 1000")
        steps.set(
            xscale="log", yscale="log", xlabel="kappa", ylabel="steps to a millionth of the loss"
        )
        steps.set_title("steps grow as kappa")
        steps.legend(loc="upper left")
        return figure


def descend(
    kappa: float, lr: float, target: float, scale: float = 1.0
) -> list[tuple[float, float]]:
    """The path on scale (x^2 + kappa y^2) / 2 from a point of loss `scale`, to target times it."""
    point = (1.0, kappa**-0.5)
    path = [point]
    while (point[0] ** 2 + kappa * point[1] ** 2) / 2 > target:
        x, y = point
        point = (x - lr * scale * x, y - lr * scale * kappa * y)
        path.append(point)
    return path


def gradient(kappa: float, point: tuple[float, float], scale: float = 1.0) -> float:
    """Length of the gradient there."""
    return scale * math.hypot(point[0], kappa * point[1])


def _contours(axes: "Axes", kappa: float, path: list[list[float]]) -> None:
    angles = [math.tau * i / 200 for i in range(201)]
    for level in (0.05, 0.2, 0.5, 1.0, 1.6):
        r = math.sqrt(2 * level)
        axes.plot(
            [r * math.cos(a) for a in angles],
            [r * math.sin(a) / math.sqrt(kappa) for a in angles],
            color="#b8b8b8",
            linewidth=1,
        )
    axes.plot(*zip(*path, strict=True), "-o", color=figures.COLORS[1], markersize=4, linewidth=1.4)
    axes.set(
        xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), xlabel="weight 1", ylabel="weight 2", aspect="equal"
    )
