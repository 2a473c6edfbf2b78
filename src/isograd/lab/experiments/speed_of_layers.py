"""Which layer learns slowest, and what is the right number to tell it by?

Four sigmoid layers of 30 units by Xavier's weights, measured by isograd before the first step and
while they are trained. By the gradient at the layers' outputs the first layer is slowest, a hundred
times slower than the last, as theory says. By the norm of the weights' gradients it can be the
fastest of all, since these are multiplied by the layer's input, and pixels are larger than
activations.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.prediction.predicting import predict
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result
    from isograd.records import Record


@dataclass(frozen=True)
class SpeedOfLayers(Experiment):
    code: ClassVar[str] = "speed-of-layers"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.23",
            "imprecise",
            "Slowest by the gradient at its output, and by its update against its weights. The "
            "norm of its weights' gradient says otherwise, for it is multiplied by an input that "
            "is larger than any activation: a comparison of layers wants the former two.",
            (
                above("ratio_start", 20.0, "0.236 per layer over three layers is 76"),
                near(
                    "factor",
                    "factor_theory",
                    "theory's sqrt(chi) per layer; 30 units stray by a tenth",
                    rel=0.25,
                ),
                near(
                    "first_measured",
                    "first_predicted",
                    "isograd's prediction of the first layer's gradient without running it, at "
                    "30 units per layer",
                    rel=0.5,
                ),
                above("ratio_trained", 1.5, "the mean over training; it evens out as it learns"),
                above(
                    "weight_gradient_ratio",
                    0.5,
                    "the first layer's inputs are large: its weights' gradient is no smaller than "
                    "the next layer's",
                    on=("mnist",),
                ),
            ),
        ),
        Answer(
            "S1.F5",
            "true",
            "The network of the drawing, with the number of every layer in it.",
            (above("ratio_start", 20.0, "0.236 per layer over three layers is 76"),),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 100}}

    width: int = 30
    """Units of every layer."""
    depth: int = 4
    """Hidden layers."""
    steps: int = 400
    """Of training, batches of 100."""
    lr: float = 0.1
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        net = mlp(
            data.size,
            self.width,
            self.depth,
            10,
            activation="sigmoid",
            init="xavier",
            seed=bench.seed,
        )
        batch = data.inputs[:500], data.labels[:500]
        record = measure(net, batch)
        foretold = predict(net, batch)
        start, expected = gradients(record), gradients(foretold)
        weights = [i for i, p in enumerate(record.parameters) if p.name.endswith("weight")][:-1]
        norms = [
            float(record.value("weight.grad_rms", i) or 0)
            * math.sqrt(math.prod(record.parameters[i].shape))
            for i in weights
        ]
        optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9)
        course, every = [], max(1, self.steps // 40)
        for step, (x, y) in enumerate(data.batches(self.steps, 100, seed=bench.seed)):
            if step % every == 0:
                course.append(gradients(measure(net, batch)))
            optimizer.zero_grad()
            loss: Tensor = torch.nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
        means = torch.tensor(course).mean(0)
        chi = theory.phase("sigmoid", weight_var=1.0).chi_1 or math.nan
        numbers: dict[str, Any] = {
            "ratio_start": start[-1] / start[0],
            "factor": (start[0] / start[-1]) ** (1 / (self.depth - 1)),
            "factor_theory": math.sqrt(chi),
            "first_measured": start[0],
            "first_predicted": expected[0],
            "ratio_trained": means[-1] / means[0],
            "weight_gradient_ratio": norms[0] / norms[1],
        }
        series = {
            "steps": [every * i for i in range(len(course))],
            "course": torch.tensor(course).T,
            "start": start,
            "predicted": expected,
            "norms": norms,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        layers = list(range(1, result.settings["depth"] + 1))
        figure, (before, course) = figures.new(
            f"The first layer learns {numbers['ratio_start']:.0f} times slower than the last; the "
            "norm of its weights' gradient hides it",
            2,
        )
        figures.theory(before, layers, told["predicted"], label="predicted by isograd")
        figures.measured(before, layers, told["start"], 0, label="at the outputs, rms")
        figures.measured(before, layers, told["norms"], 1, label="of the weights, norm")
        before.set(yscale="log", xlabel="layer", ylabel="gradient")
        before.set_xticks(layers)
        before.set_title("before the first step")
        top, bottom = before.get_ylim()[1], before.get_ylim()[0]
        before.set_ylim(bottom, top * (top / bottom) ** 0.4)
        before.legend(loc="upper left")
        rows = {f"layer {k}": row for k, row in zip(layers, told["course"], strict=True)}
        figures.lines(course, told["steps"], rows)
        course.set(yscale="log", xlabel="step", ylabel="rms of the gradient at the output")
        course.set_title("in training")
        course.legend(ncols=2)
        return figure


def gradients(record: "Record") -> list[float]:
    """Rms of dLoss/d(output) of the hidden layers."""
    return [float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[:-1]]
