"""Fan in or fan out: which of the two do weights follow, and what does their mean do?

A layer that is not square cannot keep the signal going forward and the gradient going back: the two
want weights of 1/fan_in and 1/fan_out. Measured on one layer of 784 to 100. Then Glorot and
Bengio's experiment: singular values of the layers' Jacobians with their standard and normalized
initialization, beside theory, and the top layer of a sigmoid network in its first steps, which
pushes its outputs to zero.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp, seeded
from isograd.theory import activation, length_map
from isograd.theory.averages import averages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

RULES = ("1 / fan_in", "2 / (fan_in + fan_out)", "1 / fan_out")


@dataclass(frozen=True)
class TwoFans(Experiment):
    code: ClassVar[str] = "two-fans"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "E6",
            "true",
            "The two optimal deviations differ by sqrt(fan_in/fan_out), 2.8 for 784 to 100; the "
            "mean of the fans misses both.",
            (
                near("forward_0", 1.0, "variance kept; 500 x 100 outputs share weights", abs=0.05),
                near("backward_0", "ratio_theory", "variance going back", rel=0.05),
                near("backward_2", 1.0, "variance kept", abs=0.05),
                near("std_ratio", 2.8, "sqrt(784/100)", abs=1e-9),
            ),
        ),
        Answer(
            "H6",
            "true",
            "A square random matrix has a mean singular value of 8/(3 pi) = 0.85 times its gain: "
            "0.49 for their standard weights, 0.85 for normalized ones, less what tanh's slope "
            "takes. "
            "The outputs of the top sigmoid layer fall first, and those of the others do not.",
            (
                near("singular_standard", "singular_standard_theory", "fifth layer; its slopes are "
                     "taken as one number", rel=0.06),
                near("singular_normalized", "singular_normalized_theory", "fifth layer; its slopes "
                     "are taken as one number", rel=0.06),
                below("top", "others", "mean output of the top layer against the lowest of the "
                      "others, where it is lowest"),
                below("top", 0.3, "0.5 at the start"),
                above("others", 0.38, "0.5 at the start"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 150, "width": 200}}

    width: int = 400
    """Units of the tanh layers whose singular values are looked at."""
    steps: int = 300
    """Of the sigmoid network's training, batches of 10."""
    lr: float = 1.0
    """Its learning rate, no momentum."""

    def run(self, bench: "Bench") -> Measured:
        numbers: dict[str, Any] = {"std_ratio": math.sqrt(784 / 100), "ratio_theory": 100 / 784}
        stream = bench.generator()
        forward, backward = [], []
        for index, variance in enumerate((1 / 784, 2 / 884, 1 / 100)):
            w = torch.randn(100, 784, generator=stream) * variance**0.5
            x = torch.randn(500, 784, generator=stream)
            g = torch.randn(500, 100, generator=stream)
            forward.append(float((x @ w.T).square().mean()))
            backward.append(float((g @ w).square().mean()))
            numbers[f"forward_{index}"], numbers[f"backward_{index}"] = forward[-1], backward[-1]
        values = {}
        for name, gain in (("standard", 3**-0.5), ("normalized", 1.0)):
            values[name] = self._singular(gain, bench)
            numbers[f"singular_{name}"] = values[name][-1]
            q: Any = gain**2
            for _ in range(4):
                q = length_map("tanh", q, weight_var=gain**2)
            slope = math.sqrt(averages(activation("tanh"), q).slope_square)
            # 8 / (3 pi): mean of the quarter circle law of radius 2.
            numbers[f"singular_{name}_theory"] = gain * slope * 8 / (3 * math.pi)
        course = self._top(bench.data.flat().standardized(), bench.seed)
        at = min(range(len(course)), key=lambda k: course[k][-1])
        numbers["top"], numbers["others"] = course[at][-1], min(course[at][:-1])
        numbers["top_step"] = float(at * 5)
        series = {"forward": forward, "backward": backward, "values": values, "course": course}
        return Measured(numbers, series)

    def _singular(self, gain: float, bench: "Bench") -> list[float]:
        """Mean singular value of the Jacobian of each of five tanh layers."""
        stream = bench.generator(3)
        x = torch.randn(self.width, generator=stream, dtype=torch.float64)
        means = []
        for _ in range(5):
            bound = gain * math.sqrt(3 / self.width)
            w = (2 * torch.rand(self.width, self.width, generator=stream) - 1).double() * bound
            x = torch.tanh(w @ x)
            jacobian = (1 - x**2)[:, None] * w
            means.append(float(torch.linalg.svdvals(jacobian).mean()))
        return means

    def _top(self, data: "Images", seed: int) -> list[list[float]]:
        """Mean output of each of four sigmoid layers, every five steps."""
        net = mlp(data.size, 100, 4, 10, activation="sigmoid", init="lecun", gain=3**-0.5,
                  seed=seed)  # fmt: skip
        optimizer = torch.optim.SGD(net.parameters(), self.lr)
        layers = [layer for layer in net if isinstance(layer, nn.Sigmoid)]
        outputs: dict[int, float] = {}
        for k, layer in enumerate(layers):
            layer.register_forward_hook(
                lambda _module, _args, out, k=k: outputs.__setitem__(k, float(out.detach().mean()))
            )
        course = []
        with seeded(seed):
            for step, (x, y) in enumerate(data.batches(self.steps, 10, seed=seed)):
                loss = nn.functional.cross_entropy(net(x), y)
                if step % 5 == 0:
                    course.append([round(outputs[k], 4) for k in range(len(layers))])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return course

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (fans, singular, top) = figures.new(
            "No one deviation suits 784 → 100 both ways; Glorot's weights take Jacobians from "
            f"{numbers['singular_standard']:.2f} to {numbers['singular_normalized']:.2f}; the top "
            "sigmoid layer falls first",
            3,
            width=4.7,
            height=4.0,
        )
        for index, key in enumerate(("forward", "backward")):
            figures.measured(fans, range(3), told[key], index, label=f"variance {key}", joined=True)
        fans.axhline(1, color="black", linewidth=1.2)
        fans.set_xticks(range(3), RULES, fontsize=9)
        fans.set(yscale="log", xlabel="variance of the weights", ylabel="out over in")
        fans.set_title("784 to 100")
        fans.legend(loc="upper left")
        for index, (name, values) in enumerate(told["values"].items()):
            figures.measured(singular, range(1, 6), values, index, label=name)
            singular.axhline(
                numbers[f"singular_{name}_theory"], color="black", linewidth=1.3,
                label=None if index else "theory, fifth layer",
            )  # fmt: skip
        singular.set(xlabel="tanh layer", ylabel="mean singular value", ylim=(0, 1.2))
        singular.set_title("Jacobians")
        singular.legend(loc="upper right", ncols=2)
        steps = [5 * k for k in range(len(told["course"]))]
        for index in range(4):
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            values = [row[index] for row in told["course"]]
            top.plot(steps, values, label=f"layer {index + 1}", **style)
        top.set(xlabel="step", ylabel="mean output", ylim=(0, 0.8))
        top.set_title("sigmoid network in training")
        top.legend(loc="lower right", ncols=2)
        return figure
