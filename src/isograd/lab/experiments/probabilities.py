"""What turns outputs into probabilities, and what can go wrong there?

ReLU outputs have no bound; a sigmoid or a softmax at the end makes probabilities of them. Two traps
on the way, on real data: a softmax over a single output, which is 1 whatever comes in and has no
gradient at all, and a sigmoid with a squared error, which cannot leave a wrong and saturated start,
while with cross-entropy it does, since there the sigmoid's slope cancels out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.checking import check
from isograd.lab import figures
from isograd.lab.expected import above, below, exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp, seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result


@dataclass(frozen=True)
class Probabilities(Experiment):
    code: ClassVar[str] = "probabilities"
    data: ClassVar[tuple[str, ...]] = ("breast-cancer",)
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.49",
            "true",
            "With two traps: a softmax over one output is 1 and learns nothing, and a sigmoid "
            "wants cross-entropy, not a squared error.",
            (
                below("sum_error", 1e-6, "float32 rounding of ten terms"),
                exactly("single_softmax", 1.0, "e^x / e^x is 1 exactly"),
                below("single_gradient", 1e-7, "the derivative is s (1 - s) = 0"),
                exactly("single_found", 1.0, "isograd's check names it, IG605"),
                below("accuracy_square", 0.75, "it has hardly left the wrong class"),
                above("accuracy_cross", 0.85, "0.90 after 300 steps, on its way to 0.97"),
                below(
                    "gradient_ratio",
                    1e-3,
                    "the slope at a pre-activation of 10 is 4.5e-5, which "
                    "cross-entropy does not multiply by",
                ),
            ),
        ),
    )

    start: float = 10.0
    """Bias at which the output begins, on the side of the smaller class."""
    steps: int = 300
    """Full-batch steps of gradient descent."""
    lr: float = 0.1
    """Learning rate."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data
        mean, std = data.inputs.mean(0), data.inputs.std(0)
        x, y = (data.inputs - mean) / std, data.labels.float()
        wrong = 1.0 if float(y.mean()) < 0.5 else 0.0
        target = y if wrong else 1 - y  # the rarer class is 1
        losses: dict[str, list[float]] = {}
        numbers: dict[str, Any] = {}
        kinds: dict[str, Callable[[Tensor], Tensor]] = {
            "square": lambda z: (torch.sigmoid(z) - target).square().mean(),
            "cross": lambda z: F.binary_cross_entropy_with_logits(z, target),
        }
        test = (data.test_inputs - mean) / std
        truth = data.test_labels.float() if wrong else 1 - data.test_labels.float()
        first = {}
        for name, loss in kinds.items():
            with seeded(bench.seed):
                net = nn.Linear(data.size, 1)
            nn.init.constant_(net.bias, self.start)
            optimizer = torch.optim.SGD(net.parameters(), self.lr)
            course = []
            for step in range(self.steps):
                optimizer.zero_grad()
                value = loss(net(x)[:, 0])
                value.backward()
                if step == 0:
                    assert net.bias.grad is not None
                    first[name] = float(net.bias.grad.abs())
                optimizer.step()
                with torch.no_grad():
                    course.append(float(((net(test)[:, 0] > 0) == (truth > 0.5)).double().mean()))
            losses[name] = course
            numbers[f"accuracy_{name}"] = course[-1]
            numbers[f"gradient_{name}"] = first[name]
        numbers["gradient_ratio"] = first["square"] / first["cross"]

        logits = 5 * torch.randn(100, 10, generator=bench.generator())
        numbers["sum_error"] = (logits.softmax(1).sum(1) - 1).abs().max()
        single = nn.Sequential(mlp(data.size, 32, 1, 1, seed=bench.seed), nn.Softmax(dim=1))
        outputs = single(x)
        numbers["single_softmax"] = outputs.min()
        gradients = torch.autograd.grad(
            F.binary_cross_entropy(outputs, y[:, None]), list(single.parameters())
        )
        numbers["single_gradient"] = torch.stack([g.abs().max() for g in gradients]).max()
        diagnosis = check(single, (x, y[:, None]), loss=F.binary_cross_entropy)
        names = [one.code for one in diagnosis.findings]
        numbers["single_found"] = float("IG605" in names)
        z = torch.linspace(-15, 15, 61)
        series = {"accuracy": losses, "findings": names, "z": z}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (slope, course) = figures.new(
            "A sigmoid leaves a wrong start with cross-entropy "
            f"({numbers['accuracy_cross']:.0%} right), not with a squared error "
            f"({numbers['accuracy_square']:.0%})",
            2,
        )
        z = torch.tensor(told["z"], dtype=torch.float64)
        s = torch.sigmoid(z)
        figures.theory(
            slope, told["z"], (2 * s * s * (1 - s)).tolist(), label="squared error: $2s^2(1-s)$"
        )
        figures.theory(slope, told["z"], s.tolist(), label="cross-entropy: $s$", linestyle="--")
        for index, name in enumerate(("square", "cross")):
            full = numbers[f"gradient_{name}"]
            figures.measured(
                slope, [result.settings["start"]], [full], index, label=f"measured, {name}"
            )
        slope.set(
            yscale="log", xlabel="pre-activation, target 0", ylabel="gradient", ylim=(1e-13, 1e2)
        )
        slope.set_title("what is left of the error")
        slope.legend(loc="lower right", fontsize=9.5)
        rows = {
            "squared error": told["accuracy"]["square"],
            "cross-entropy": told["accuracy"]["cross"],
        }
        figures.lines(course, list(range(1, 1 + len(rows["squared error"]))), rows)
        course.set(xlabel="step", ylabel="right on the test set", ylim=(0, 1.02))
        course.set_title(f"from a bias of {result.settings['start']:g}, on breast-cancer")
        course.legend(loc="center right")
        return figure
