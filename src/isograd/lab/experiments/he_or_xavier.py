"""Do thirty rectified layers train from Xavier's weights?

The experiment of He et al.'s paper on rectifiers, with plain layers: 22 and 30 of them, weights of
Xavier and of He, training curves. Xavier's weights lose half of the energy in each rectified layer,
1/sqrt(2) of the size. That stops training at 30 layers for as long as one cares to look; in the few
hundred steps here at 22 too, where the paper saw a delay.
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
from isograd.theory.finite_width import band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

INITS = {"he": 2**0.5, "xavier": 1.0}
"""Gain of the weights, rms(w) sqrt(fan_in)."""


@dataclass(frozen=True)
class HeOrXavier(Experiment):
    code: ClassVar[str] = "he-or-xavier"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "H7",
            "true",
            "He's weights train both, Xavier's stall at 30, and in the time given here at 22. "
            "Sizes of signals fall by 1/sqrt(2) per layer, as theory says.",
            (
                above("right_he_30", 0.65, "accuracy after training", on=("mnist",)),
                above("right_he_30", 0.6, "accuracy; fewer steps, smaller ones", on=("digits",)),
                below("right_xavier_30", 0.3, "chance is 0.1"),
                above("right_he_22", 0.8, "accuracy after training", on=("mnist",)),
                near("factor_xavier", "factor_xavier_theory", "rms per layer; one network of this "
                     "width and depth strays by a tenth of it, see the band", abs=0.05),
                near("lost_xavier_30", "lost_xavier_30_theory", "ln of first gradient over last",
                     abs=2.5),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"depths": (30,), "steps": 170, "lr": 0.002}}

    depths: tuple[int, ...] = (22, 30)
    """Hidden layers."""
    width: int = 100
    """Units of each."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.005
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        kinds = [(depth, init) for depth in self.depths for init in INITS]
        nets = [
            mlp(data.size, self.width, depth, 10, init="lecun", gain=INITS[init], seed=bench.seed)
            for depth, init in kinds
        ]
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        numbers: dict[str, Any] = {}
        losses, profiles = {}, {}
        batch = data.inputs[:128], data.labels[:128]
        for index, (depth, init) in enumerate(kinds):
            key = f"{init}_{depth}"
            numbers[f"right_{key}"] = trained.accuracy[index]
            losses[key] = smooth(trained.losses[:, index])
            record = measure(nets[index], batch)
            hidden = record.weight_sites()[:-1]
            signal = [float(record.value("forward.rms", i) or 0) for i in hidden]
            gradient = [float(record.value("backward.rms", i) or 0) for i in hidden]
            profiles[key] = signal
            chi = theory.phase("relu", weight_var=INITS[init] ** 2).chi_1 or math.nan
            numbers[f"lost_{key}"] = math.log(gradient[0] / gradient[-1])
            numbers[f"lost_{key}_theory"] = 0.5 * (depth - 1) * math.log(chi)
            if depth == self.depths[-1]:
                span = depth - 1
                numbers[f"factor_{init}"] = (signal[-1] / signal[0]) ** (1 / span)
                numbers[f"factor_{init}_theory"] = math.sqrt(INITS[init] ** 2 / 2)
        strays = [0.0, *band([(self.width, "relu")] * (self.depths[-1] - 1))]
        return Measured(numbers, {"losses": losses, "profiles": profiles, "strays": strays})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        deep = self.depths[-1]
        figure, (signal, course) = figures.new(
            f"{deep} rectified layers: {numbers[f'right_he_{deep}']:.0%} right from He's weights, "
            f"{numbers[f'right_xavier_{deep}']:.0%} from Xavier's, whose signal falls by "
            f"{numbers['factor_xavier']:.2f} per layer",
            2,
        )
        layers = list(range(1, deep + 1))
        for index, init in enumerate(INITS):
            values = told["profiles"][f"{init}_{deep}"]
            law = [values[0] * numbers[f"factor_{init}_theory"] ** (k - 1) for k in layers]
            low = [v * math.exp(-2 * s) for v, s in zip(law, told["strays"], strict=True)]
            high = [v * math.exp(2 * s) for v, s in zip(law, told["strays"], strict=True)]
            figures.theory(
                signal, layers, law, band=(low, high), label=None if index else "theory ± 2 sd"
            )
            figures.measured(signal, layers[::2], values[::2], index, label=init)
        signal.set(yscale="log", xlabel="layer", ylabel="rms of the signal")
        signal.set_title("before training")
        signal.legend(loc="lower left")
        for index, (key, values) in enumerate(told["losses"].items()):
            init, depth = key.split("_")
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            steps = [5 * k for k in range(len(values))]
            course.plot(steps, values, label=f"{init}, {depth} layers", **style)
        course.axhline(math.log(10), color="black", linewidth=1, linestyle=":")
        course.set(xlabel="step", ylabel="training loss", ylim=(0, 3.2))
        course.set_title("training; dotted: chance")
        course.legend(loc="upper right", ncols=2)
        return figure


def smooth(losses: torch.Tensor) -> list[float]:
    """Means over five steps; at most 10."""
    rows = losses[: len(losses) // 5 * 5].view(-1, 5).mean(1)
    return [round(min(10.0, float(v)), 4) if math.isfinite(float(v)) else 10.0 for v in rows]
