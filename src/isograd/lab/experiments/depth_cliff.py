"""How deep can a plain network be, for each activation and initialization?

Plain networks of growing depth, six kinds of them, all trained alike, each at the better of two
learning rates. Every kind has a depth from which on it stays at chance: a handful of layers for
sigmoids, ten for ReLU as nn.Linear draws it, tens for He's, and none here for orthogonal tanh.
Theory orders them: by the layers over which two inputs become alike, or by which the gradient
falls.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

FORMS: dict[str, tuple[str, str, float]] = {
    "sigmoid, Xavier": ("sigmoid", "xavier", 1.0),
    "ReLU, nn.Linear's": ("relu", "torch", 1.0),
    "ReLU, Xavier": ("relu", "xavier", 1.0),
    "tanh, Xavier": ("tanh", "xavier", 1.0),
    "ReLU, He": ("relu", "he", 1.0),
    "tanh, orthogonal": ("tanh", "orthogonal", 1.02),
}
KEYS = ("sigmoid", "relu_torch", "relu_xavier", "tanh", "relu_he", "orthogonal")
VARIANCES = (1.0, 1 / 3, 1.0, 1.0, 2.0, 1.02**2)
RATES = (0.1, 0.01)
CHANCE = "one class for all: the largest has little more than a tenth"
QUADRATURE = "closed-form or quadrature value, five digits"


@dataclass(frozen=True)
class DepthCliff(Experiment):
    code: ClassVar[str] = "depth-cliff"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.5",
            "true",
            "Sigmoids by Xavier learn up to a handful of layers; the next one stays at chance. It "
            "is a cliff, not a slope.",
            (
                above("sigmoid_2", 0.85, "0.93, seeds scatter by 0.01"),
                below("sigmoid_10", 0.2, CHANCE),
                below("usable_sigmoid", 6.0, "4 or 5; it trains slower with every layer"),
            ),
        ),
        Answer(
            "S1.11",
            "true",
            "Of sigmoids. Tanh has lost nothing at these depths that a right initialization "
            "does not give back.",
            (above("usable_over_sigmoid", 2.0, "tanh by Xavier against sigmoid by Xavier"),),
        ),
        Answer(
            "S1.28",
            "imprecise",
            "It is the sigmoid's; tanh has a slope of 1 at 0, and ten times the sigmoid's energy: "
            "E tanh'^2 is 0.464 at unit variance, E s'^2 0.045. By Xavier it trains twenty layers "
            "where sigmoids fail at five.",
            (
                near("energy_tanh", 0.46440, QUADRATURE, abs=1e-5),
                near("energy_sigmoid", 0.04484, QUADRATURE, abs=1e-5),
                above("tanh_10", 0.8, "0.93, seeds scatter by 0.01"),
            ),
        ),
        Answer(
            "S1.32",
            "wrong",
            "Half of ReLU's slopes are 0, so that it halves the gradient's energy unless the "
            "weights have variance 2 / n. As nn.Linear draws them, with 1 / (3 n), five sixths "
            "are lost per layer, and ten layers do not train; by He's rule they do.",
            (
                below("relu_torch_20", 0.2, CHANCE),
                above("relu_he_10", 0.8, "0.94, seeds scatter by 0.01"),
                near("chi_relu_torch", 1 / 6, "half of a third, closed form", rel=1e-6),
            ),
        ),
        Answer(
            "S1.48",
            "true",
            "The depth that still trains depends on the two together: a table of activations "
            "alone says little.",
            (
                below("usable_relu_torch", 15.0, "5 to 10 layers"),
                above("usable_relu_he", 10.0, "20 or 30 layers"),
                above("usable_orthogonal", 20.0, "the deepest that was tried"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"depths": (2, 5, 10, 20), "steps": 100, "width": 64}}

    depths: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
    """Hidden layers; 2, 10 and 20 have to be among them."""
    width: int = 100
    """Units of every layer."""
    steps: int = 470
    """Of training, batches of 100."""
    enough: float = 0.8
    """Share of right answers from which on a network counts as trained."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        nets: list[nn.Module] = []
        for index, depth in enumerate(self.depths):
            for act, init, gain in FORMS.values():
                nets.append(
                    mlp(
                        data.size,
                        self.width,
                        depth,
                        10,
                        activation=act,
                        init=init,
                        gain=gain,
                        seed=bench.seed + index,
                    )
                )
        rates = [rate for rate in RATES for _ in nets]
        trained = train(nets * len(RATES), data, steps=self.steps, lr=rates, seed=bench.seed)
        best = trained.accuracy.view(len(RATES), len(self.depths), len(FORMS)).amax(0)
        numbers: dict[str, Any] = {}
        usable, laws = [], []
        for index, (key, variance) in enumerate(zip(KEYS, VARIANCES, strict=True)):
            scores = best[:, index].tolist()
            numbers |= {f"{key}_{d}": a for d, a in zip(self.depths, scores, strict=True)}
            good = [d for d, a in zip(self.depths, scores, strict=True) if a >= self.enough]
            usable.append(max(good, default=0))
            numbers[f"usable_{key}"] = usable[-1]
            act = list(FORMS.values())[index][0]
            chi = theory.phase(act, weight_var=variance).chi_1 or math.nan
            numbers[f"chi_{key}"] = chi
            laws.append(chi)
        numbers["usable_over_sigmoid"] = numbers["usable_tanh"] / max(1, numbers["usable_sigmoid"])
        numbers["energy_tanh"] = theory.gains("tanh").slope_moment
        numbers["energy_sigmoid"] = theory.gains("sigmoid").slope_moment
        series = {"depths": self.depths, "accuracy": best.T, "usable": usable, "chi": laws}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        depths = told["depths"]
        figure, (cliff, bars) = figures.new(
            f"Sigmoids stop at {numbers['usable_sigmoid']:.0f} layers, ReLU as nn.Linear comes at "
            f"{numbers['usable_relu_torch']:.0f}, He's at {numbers['usable_relu_he']:.0f}; "
            f"orthogonal tanh trains all {depths[-1]}",
            2,
            width=6.2,
        )
        for index, form in enumerate(FORMS):
            figures.measured(cliff, depths, told["accuracy"][index], index, label=form, joined=True)
        cliff.axhline(result.settings["enough"], color=figures.GRAY, linewidth=1, linestyle=":")
        cliff.set(xscale="log", xlabel="hidden layers", ylabel="right on the test set")
        cliff.set_ylim(0, 1.02)
        cliff.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        cliff.minorticks_off()
        cliff.set_title(f"after {result.settings['steps']} steps, the better of two rates")
        cliff.legend(loc="lower left", fontsize=9.5)
        names = [
            f"{form}\n$\\chi$ = {chi:.2f}" for form, chi in zip(FORMS, told["chi"], strict=True)
        ]
        colors = figures.COLORS[: len(names)]
        drawn = bars.barh(range(len(names)), told["usable"], color=colors, height=0.65)
        labels = [f"{d}+" if d == depths[-1] else str(d) for d in told["usable"]]
        bars.bar_label(drawn, labels, padding=3)
        bars.set_yticks(range(len(names)), names, fontsize=10)
        bars.invert_yaxis()
        bars.set(
            xlabel=f"deepest with {result.settings['enough']:.0%} right", xlim=(0, depths[-1] * 1.1)
        )
        bars.set_title("usable depth; χ is theory's factor on the energy")
        return figure
