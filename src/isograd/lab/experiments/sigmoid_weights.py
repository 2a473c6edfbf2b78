"""Can larger weights save a sigmoid network, or do their slopes take it back?

A unit passes its gradient on undiminished where |w s'(w a + b)| is at least 1: only for |w| of at
least 4, and then only for a in a window that is never wider than 0.45. For one unit per layer that
settles it. In a layer of many units gradients add up, and theory names the weights that keep them:
three networks of ten layers, by Xavier, by N(0, 1), and by a gain of 4 over 1 / sqrt(inputs), are
measured and trained.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

FORMS: dict[str, tuple[str, float]] = {
    "Xavier": ("xavier", 1.0),
    "gain 4": ("lecun", 4.0),
    "N(0, 1)": ("normal", 1.0),
}
KEYS = {"Xavier": "xavier", "gain 4": "gain", "N(0, 1)": "normal"}


@dataclass(frozen=True)
class SigmoidWeights(Experiment):
    code: ClassVar[str] = "sigmoid-weights"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.20",
            "imprecise",
            "Right for one unit per layer: the window in which a unit passes its gradient on is "
            "never wider than 0.4477. Wrong for wide layers: weights of four times "
            "1 / sqrt(inputs), or of N(0, 1) at a width of 100, bring ten sigmoid layers to learn, "
            "and Xavier's, which are smaller, make it worse, not better.",
            (
                near("widest_window", 0.4477, "closed form on a grid of 0.001", abs=1e-4),
                near("widest_at", 6.894, "flat at its top: the grid finds it to 0.01", abs=0.01),
                near(
                    "window_counted",
                    "widest_window",
                    "autograd on a grid of 1e-4, twice the spacing",
                    abs=3e-4,
                ),
                near("factor_xavier", "factor_xavier_theory", "width 100, 10 layers", rel=0.1),
                near("factor_normal", "factor_normal_theory", "width 100, 10 layers", rel=0.15),
                below("accuracy_xavier", 0.25, "one class for all"),
                above("accuracy_gain", 0.85, "0.92, seeds scatter by 0.01", on=("mnist",)),
                above(
                    "accuracy_normal", 0.5, "0.71 to 0.79, by chi of 0.99; seeds scatter by 0.03"
                ),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 150, "seeds": 2}}

    depth: int = 10
    """Hidden layers."""
    width: int = 100
    """Units of every layer."""
    steps: int = 600
    """Of training, batches of 100."""
    lr: float = 0.05
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of every kind."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        weights = [4 + 0.001 * i for i in range(1, 26_000)]
        windows = [window(w) for w in weights]
        widest = max(range(len(windows)), key=windows.__getitem__)
        numbers: dict[str, Any] = {
            "widest_window": windows[widest],
            "widest_at": weights[widest],
            "window_counted": counted(weights[widest]),
        }
        made, variances = {}, {"Xavier": 1.0, "gain 4": 16.0, "N(0, 1)": float(self.width)}
        batch = data.inputs[:64], data.labels[:64]
        profiles = {}
        for form, (init, gain) in FORMS.items():
            made[form] = [
                mlp(
                    data.size, self.width, self.depth, 10, activation="sigmoid", init=init,
                    gain=gain, seed=bench.seed + s,
                )
                for s in range(self.seeds)
            ]  # fmt: skip
            record = measure(made[form][0], batch)
            energy = [
                float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[:-1]
            ]
            profiles[form] = energy
            numbers[f"factor_{KEYS[form]}"] = (energy[1] / energy[-1]) ** (1 / (self.depth - 2))
            chi = theory.phase("sigmoid", weight_var=variances[form]).chi_1 or math.nan
            numbers[f"factor_{KEYS[form]}_theory"] = math.sqrt(chi)
        networks = [net for nets in made.values() for net in nets]
        trained = train(networks, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        losses = {}
        for index, form in enumerate(FORMS):
            part = slice(index * self.seeds, (index + 1) * self.seeds)
            numbers[f"accuracy_{KEYS[form]}"] = trained.accuracy[part].mean()
            losses[form] = trained.losses[:, part].mean(1).unfold(0, 10, 10).mean(-1)
        series = {
            "weights": weights[::500],
            "windows": windows[::500],
            "profiles": profiles,
            "losses": losses,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (narrow, back, course) = figures.new(
            f"One unit passes its gradient on in a window of {numbers['widest_window']:.2f} at "
            f"most; wide layers learn at a gain of 4 ({numbers['accuracy_gain']:.0%} right)",
            3,
            width=4.9,
        )
        figures.theory(narrow, told["weights"], told["windows"], label="closed form")
        figures.measured(
            narrow, [numbers["widest_at"]], [numbers["window_counted"]], 1, label="autograd"
        )
        narrow.set(xlabel="|w|", ylabel="width of the window in a", ylim=(0, 0.55))
        narrow.set_title("where |w s'(wa + b)| ≥ 1")
        narrow.legend()
        layers = list(range(1, result.settings["depth"] + 1))
        for index, (form, energy) in enumerate(told["profiles"].items()):
            end = energy[-1]
            law = [end * numbers[f"factor_{KEYS[form]}_theory"] ** (layers[-1] - k) for k in layers]
            figures.theory(back, layers, law, label=None if index else "theory")
            figures.measured(back, layers, energy, index, label=form)
        back.set(yscale="log", xlabel="layer", ylabel="rms of the gradient")
        back.set_title("before the first step")
        back.legend(loc="lower right")
        steps = [10 * i + 5 for i in range(len(told["losses"]["Xavier"]))]
        figures.lines(course, steps, told["losses"])
        course.set(xlabel="step", ylabel="training loss", ylim=(0, 2.9))
        course.set_title("in training")
        course.legend(loc="lower left")
        return figure


def window(weight: float) -> float:
    """Width in a of |w s'(w a + b)| >= 1: s' is at least 1/w between s = 1/2 +- sqrt(1/4 - 1/w)."""
    top = 0.5 + math.sqrt(0.25 - 1 / weight)
    return 2 * math.log(top / (1 - top)) / weight


def counted(weight: float) -> float:
    """The same by autograd on a grid."""
    a = torch.arange(-1, 1, 1e-4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(torch.sigmoid(weight * a).sum(), a)
    return float((slope.abs() >= 1).sum()) * 1e-4
