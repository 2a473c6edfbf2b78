"""Do convolutional networks get better with depth, or worse, with and without skips?

The same convolutions at several depths, with skips and without, as in He et al.'s experiments on
CIFAR-10. Plain networks get worse with depth, on the training images too, so that it is no
overfitting; with skips they do not. Before the first step isograd's record tells why: without skips
the gradient of the first layers is the larger the deeper the network, by a constant factor per
layer. At the scale `full` it is ResNet and plain network of 20 to 56 layers on all of CIFAR-10.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from isograd.lab import figures
from isograd.lab.convolutional import fit, resnet, small
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

FORMS = {"with skips": True, "without skips": False}


@dataclass(frozen=True)
class PlainAgainstResidual(Experiment):
    code: ClassVar[str] = "plain-against-residual"
    data: ClassVar[tuple[str, ...]] = ("cifar10", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "H3",
            "true",
            "Of training error as well as of test error: plain networks get harder to train with "
            "depth, residual ones do not.",
            (
                above(
                    "train_plain_over_skip",
                    0.1,
                    "training error of the deepest: without skips minus with skips",
                ),
                below(
                    "train_skip_deeper",
                    0.1,
                    "with skips: deepest minus shallowest; one draw scatters by 0.03",
                ),
                above(
                    "growth_plain",
                    1.5,
                    "gradient of the first block over the last, deepest over shallowest",
                ),
                below("growth_skip", "growth_plain", "the same with skips"),
                below("test_skip_deep", 0.12, "He et al. have 7 to 9 %", at=("full",)),
            ),
        ),
    )
    scales: ClassVar = {
        "fast": {"depths": (8, 38), "width": 4, "images": 1000, "steps": 40, "batch": 64},
        "full": {
            "depths": (20, 32, 44, 56),
            "width": 16,
            "images": 50_000,
            "size": 32,
            "steps": 11_700,
            "batch": 128,
            "augment": True,
        },
    }

    depths: tuple[int, ...] = (20, 56)
    """Weight layers, 6 n + 2."""
    width: int = 8
    """Channels of the first stage."""
    images: int = 5000
    """Training images."""
    size: int = 16
    """Pixels across; larger images are averaged."""
    steps: int = 200
    """Of training."""
    batch: int = 64
    """Samples per step."""
    lr: float = 0.1
    """The largest learning rate of the cycle."""
    augment: bool = False
    """Whether images are shifted and mirrored."""

    def run(self, bench: "Bench") -> Measured:
        data = small(bench.data.take(self.images, 10_000), self.size).standardized()
        train: dict[str, list[float]] = {name: [] for name in FORMS}
        test: dict[str, list[float]] = {name: [] for name in FORMS}
        losses: dict[str, list[float]] = {}
        profiles: dict[str, list[float]] = {}
        growth: dict[str, list[float]] = {name: [] for name in FORMS}
        for name, skip in FORMS.items():
            for depth in self.depths:
                net = resnet(
                    data.inputs.shape[1], depth, width=self.width, skip=skip, seed=bench.seed
                )
                back = profile(net, (data.inputs[:64], data.labels[:64]))
                growth[name].append(back[0] / back[-1])
                fitted = fit(
                    net,
                    data,
                    steps=self.steps,
                    batch=self.batch,
                    lr=self.lr,
                    device=bench.device,
                    seed=bench.seed,
                    augment=self.augment,
                )
                train[name].append(fitted.train_error)
                test[name].append(fitted.test_error)
                losses[f"{depth} {name}"] = fitted.losses
                profiles[f"{depth} {name}"] = back
        plain, skip_ = train["without skips"], train["with skips"]
        numbers: dict[str, Any] = {
            "train_plain_over_skip": plain[-1] - skip_[-1],
            "train_plain_deeper": plain[-1] - plain[0],
            "train_skip_deeper": skip_[-1] - skip_[0],
            "test_skip_deep": test["with skips"][-1],
            "test_plain_deep": test["without skips"][-1],
            "growth_plain": growth["without skips"][-1] / growth["without skips"][0],
            "growth_skip": growth["with skips"][-1] / growth["with skips"][0],
        }
        series = {
            "depths": self.depths,
            "train": train,
            "test": test,
            "losses": losses,
            "profiles": profiles,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, _numbers = result.series, result.numbers
        deep = told["depths"][-1]
        figure, (errors, course, back) = figures.new(
            f"At {deep} layers the training error is {told['train']['without skips'][-1]:.0%} "
            f"without skips, {told['train']['with skips'][-1]:.0%} with them",
            3,
            width=4.9,
        )
        for index, name in enumerate(FORMS):
            figures.measured(
                errors,
                told["depths"],
                told["train"][name],
                index,
                label=f"{name}, train",
                joined=True,
            )
            errors.plot(
                told["depths"],
                told["test"][name],
                linestyle=":",
                marker=figures.MARKERS[index],
                color=figures.COLORS[index],
                markerfacecolor="white",
                label=f"{name}, test",
            )
        errors.set(xlabel="weight layers", ylabel="error", ylim=(0, 1))
        errors.set_xticks(told["depths"])
        errors.set_title("after training")
        errors.legend()
        deepest = {k: v for k, v in told["losses"].items() if k.startswith(f"{deep} ")}
        parts = len(next(iter(deepest.values())))
        steps = [result.settings["steps"] * (i + 0.5) / parts for i in range(parts)]
        figures.lines(course, steps, deepest)
        course.set(xlabel="step", ylabel="training loss")
        course.set_title(f"{deep} layers, in training")
        course.legend()
        for index, name in enumerate(FORMS):
            values = told["profiles"][f"{deep} {name}"]
            figures.measured(back, range(1, len(values) + 1), values, index, label=name)
        back.set(yscale="log", xlabel="convolution", ylabel="rms of the gradient")
        back.set_title(f"{deep} layers, before the first step")
        back.legend()
        return figure


def profile(net: nn.Module, batch: Any) -> list[float]:
    """Rms of dLoss/d(output) of the convolutions, first to last."""
    record = measure(net.train(), batch)
    return [float(record.value("backward.rms", i) or math.nan) for i in record.weight_sites()[1:-1]]
