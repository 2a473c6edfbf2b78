"""Is a network that no longer moves in a local minimum?

Six sigmoid layers by Xavier's weights, trained by SGD until the loss no longer falls. It sits at
the entropy of the labels, as high as a constant answer; the gradient of the first layers is tiny,
and the smallest eigenvalue of the Hessian is negative, so that no minimum holds it. Adam goes on
from the very same point and leaves it. Beside it three layers, which learn in a few hundred steps.
"""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import Fleet
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result


@dataclass(frozen=True)
class Plateau(Experiment):
    code: ClassVar[str] = "plateau"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.3",
            "true",
            "Three sigmoid layers are at chance after a tenth of the steps that train them.",
            (
                above("accuracy_end", 0.85, "0.93, seeds scatter by 0.01"),
                below("accuracy_early", 0.7, "after a tenth of the steps"),
            ),
        ),
        Answer(
            "S1.4",
            "true",
            "What counts is the gradient against the weight: in six layers it is 1e-4 in the "
            "first against 1e-1 in the last, and 400 steps change nothing.",
            (
                below("relative_first", 1e-2, "0.236 per layer over five layers is 7e-4"),
                below("accuracy_stuck", 0.2, "one class for all"),
                below("moved_first", 0.05, "change of the first layer's weights over their norm"),
            ),
        ),
        Answer(
            "S1.26",
            "imprecise",
            "It stops on a plateau: the loss is that of a constant answer, the gradient is small "
            "and so is the curvature, with directions that go down. No minimum is needed to stop, "
            "and Adam goes on from the same point.",
            (
                near("loss_stuck", "entropy", "a constant answer; SGD jitters around it", abs=0.03),
                below("curvature_least", -1e-4, "a direction that goes down; rounding is 1e-15"),
                above("accuracy_adam", 0.6, "seeds lie between 0.7 and 0.9", on=("mnist",)),
                above("accuracy_adam", 0.3, "fewer samples and steps", on=("digits",)),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 200, "adam_steps": 250, "adam_lr": 0.003}}

    width: int = 50
    """Units of every layer."""
    steps: int = 470
    """Of SGD, batches of 100."""
    lr: float = 0.1
    """Its learning rate; momentum 0.9."""
    adam_steps: int = 1000
    """Of Adam afterwards."""
    adam_lr: float = 0.002
    """Its learning rate."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        short, deep = (
            mlp(
                data.size,
                self.width,
                depth,
                10,
                activation="sigmoid",
                init="xavier",
                seed=bench.seed,
            )
            for depth in (3, 6)
        )
        batch = data.inputs[:500], data.labels[:500]
        record = measure(deep, batch)
        relative = [
            float(record.value("weight.grad_rms", i) or 0)
            / float(record.value("weight.rms", i) or 1)
            for i, one in enumerate(record.parameters)
            if one.name.endswith("weight")
        ]
        early = max(1, self.steps // 10)
        learns = course(short, data, self.steps, self.lr, "sgd", bench.seed, early)
        stalls = course(deep, data, self.steps, self.lr, "sgd", bench.seed, early)
        stuck = stalls["model"]
        rescued = course(
            stuck,
            data,
            self.adam_steps,
            self.adam_lr,
            "adam",
            bench.seed + 1,
            self.adam_steps // 10,
        )
        shares = torch.bincount(data.labels).double() / len(data.labels)
        least = least_curvature(stuck, data.inputs[:1000], data.labels[:1000], bench.generator())
        first = next(iter(deep.parameters()))
        moved = (next(iter(stuck.parameters())) - first).norm() / first.norm()
        numbers: dict[str, Any] = {
            "accuracy_early": learns["accuracy"][0],
            "accuracy_end": learns["accuracy"][-1],
            "relative_first": relative[0],
            "relative_last": relative[-1],
            "accuracy_stuck": stalls["accuracy"][-1],
            "moved_first": moved,
            "loss_stuck": stalls["losses"][-100:].mean(),
            "entropy": -(shares * shares.log()).sum(),
            "curvature_least": least,
            "accuracy_adam": rescued["accuracy"][-1],
        }
        series = {
            "relative": relative,
            "at": learns["at"],
            "accuracy": learns["accuracy"],
            "stuck": stalls["losses"].unfold(0, 10, 10).mean(-1),
            "adam": rescued["losses"].unfold(0, 10, 10).mean(-1),
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (learns, relative, stuck) = figures.new(
            "Six sigmoid layers stop on a plateau, not in a minimum: the least curvature is "
            f"{numbers['curvature_least']:.0e}, and Adam goes on to {numbers['accuracy_adam']:.0%}",
            3,
            width=4.9,
        )
        figures.measured(learns, told["at"], told["accuracy"], 0, joined=True)
        learns.set(xlabel="step", ylabel="right on the test set", ylim=(0, 1))
        learns.set_title("three layers: steps matter")
        layers = list(range(1, len(told["relative"]) + 1))
        figures.measured(relative, layers, told["relative"], 1)
        relative.set(yscale="log", xlabel="layer", ylabel="gradient / weight, rms")
        relative.set_title("six layers, before the first step")
        first = [10 * i + 5 for i in range(len(told["stuck"]))]
        then = [first[-1] + 10 * (i + 1) for i in range(len(told["adam"]))]
        stuck.plot(first, told["stuck"], color=figures.COLORS[0], label="SGD")
        stuck.plot(
            then, told["adam"], color=figures.COLORS[1], linestyle="--", label="Adam, from there"
        )
        stuck.axhline(
            numbers["entropy"],
            color="black",
            linewidth=1.2,
            linestyle=":",
            label="entropy of the labels",
        )
        stuck.set(xlabel="step", ylabel="training loss", ylim=(0, 2.7))
        stuck.set_title("six layers, in training")
        stuck.legend(loc="lower left")
        return figure


def course(
    net: nn.Module, data: "Images", steps: int, lr: float, optimizer: str, seed: int, every: int
) -> dict[str, Any]:
    """Trains a copy: losses of every step, accuracy after every `every` steps, the copy."""
    fleet = Fleet([copy.deepcopy(net)], lr=lr, optimizer=optimizer)
    losses, at, accuracy = [], [], []
    for step, (x, y) in enumerate(data.batches(steps, 100, seed=seed), 1):
        losses.append(fleet.step(x, y)[0])
        if step % every == 0:
            at.append(step)
            accuracy.append(float(fleet.accuracy(data.test_inputs, data.test_labels)[0]))
    return {
        "losses": torch.stack(losses),
        "at": at,
        "accuracy": accuracy,
        "model": fleet.models()[0],
    }


def least_curvature(net: nn.Module, x: Tensor, y: Tensor, stream: torch.Generator) -> float:
    """Least eigenvalue of the loss's Hessian, by thirty steps of Lanczos: an upper bound."""
    net = copy.deepcopy(net).double()
    parameters = list(net.parameters())
    loss = F.cross_entropy(net(x.double()), y)
    flat = torch.cat(
        [g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)]
    )
    q = torch.randn(len(flat), generator=stream, dtype=torch.float64)
    basis = [q / q.norm()]
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    for _ in range(30):
        images = torch.autograd.grad(flat @ basis[-1], parameters, retain_graph=True)
        w = torch.cat([i.flatten() for i in images])
        alphas.append(w @ basis[-1])
        for _ in range(2):  # once is not enough to keep thirty vectors orthogonal
            w = w - torch.stack(basis).T @ (torch.stack(basis) @ w)
        betas.append(w.norm())
        if betas[-1] < 1e-14:
            break
        basis.append(w / betas[-1])
    off = torch.stack(betas[: len(alphas) - 1])
    ritz = torch.linalg.eigvalsh(
        torch.diag(torch.stack(alphas)) + torch.diag(off, 1) + torch.diag(off, -1)
    )
    return float(ritz[0])
