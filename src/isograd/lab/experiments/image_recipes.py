"""Which of the three usual recipes for images is best?

Subtract the mean image (AlexNet), subtract a mean per channel (VGG), or divide by a deviation per
channel too (ResNet): the same network on the same color images after each, at the best of several
learning rates, and on pixels as they are. The recipes come to the same within what seeds do, once
the rate fits: they differ in the size of the inputs more than in anything else.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from isograd.lab import figures
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.images import Images
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

RECIPES = ("as they are", "minus mean image", "minus channel mean", "standardized by channel")


@dataclass(frozen=True)
class ImageRecipes(Experiment):
    code: ClassVar[str] = "image-recipes"
    data: ClassVar[tuple[str, ...]] = ("cifar10", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.F7",
            "true",
            "All three are in use, and come to the same here.",
            (
                below("spread", 0.04, "best minus worst of the three; seeds scatter by 0.01"),
                above("standardized", 0.28, "of ten classes, plain layers", on=("cifar10",)),
                above("standardized", 0.9, "of ten classes, plain layers", on=("digits",)),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 80, "rates": (0.003, 0.03), "seeds": 1}}

    images: int = 5000
    """Training images used; as many for the test, at most."""
    width: int = 64
    """Units of the two hidden layers."""
    steps: int = 150
    """Of training, batches of 100."""
    rates: tuple[float, ...] = (0.001, 0.01, 0.05)
    """Learning rates; momentum 0.9. Pixels from 0 to 1."""
    seeds: int = 2
    """Networks of each kind."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.scaled().take(self.images, self.images)
        numbers: dict[str, Any] = {}
        curves = {}
        for name in RECIPES:
            made = recipe(data, name).flat()
            nets = [mlp(made.size, self.width, 2, 10, seed=bench.seed + s)
                    for s in range(self.seeds)]  # fmt: skip
            trained = train(
                nets * len(self.rates), made, steps=self.steps,
                lr=[rate for rate in self.rates for _ in nets], seed=bench.seed,
            )  # fmt: skip
            scores = trained.accuracy.view(len(self.rates), -1).mean(1)
            curves[name] = scores
            numbers[name] = scores.max()
        three = [float(numbers[name]) for name in RECIPES[1:]]
        numbers["spread"] = max(three) - min(three)
        numbers["standardized"] = three[-1]
        pictures = [shown(recipe(data, name).inputs[:1]) for name in RECIPES]
        return Measured(numbers, {"curves": curves, "pictures": pictures})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, panels = figures.new(
            f"Three recipes for images lie within {100 * numbers['spread']:.1f} points at their "
            f"best rates; pixels as they are at {numbers['as they are']:.0%}",
            2,
        )
        rows = [torch.cat(list(torch.tensor(p)), 2) for p in told["pictures"]]
        sheet = torch.cat(rows, 1).permute(1, 2, 0).numpy()
        panels[0].imshow(sheet if sheet.shape[2] == 3 else sheet[:, :, 0], cmap="gray", aspect=0.5)
        panels[0].set_xticks([])
        side = sheet.shape[0] / len(RECIPES)
        panels[0].set_yticks([side * (k + 0.5) for k in range(len(RECIPES))], RECIPES)
        panels[0].grid(visible=False)
        panels[0].set_title("an image after each; gray is zero")
        for index, name in enumerate(RECIPES):
            figures.measured(
                panels[1], result.settings["rates"], told["curves"][name], index, label=name,
                joined=True,
            )  # fmt: skip
        panels[1].set(xscale="log", xlabel="learning rate", ylabel="right on the test set")
        low, high = panels[1].get_ylim()
        panels[1].set_ylim(low, high + 0.5 * (high - low))
        panels[1].legend(loc="upper left")
        panels[1].set_title("trained")
        return figure


def recipe(data: Images, name: str) -> Images:
    """The data set after a recipe; statistics are of the training images."""
    x = data.inputs
    offset: Tensor = torch.zeros(())
    scale: Tensor = torch.ones(())
    if name == "minus mean image":
        offset = x.mean(0)
    elif name != "as they are":
        offset = x.mean((0, 2, 3), keepdim=True)[0]
        if name.startswith("standardized"):
            scale = x.std((0, 2, 3), keepdim=True)[0]
    return Images(
        data.name, (x - offset) / scale, data.labels, (data.test_inputs - offset) / scale,
        data.test_labels, data.largest,
    )  # fmt: skip


def shown(x: Tensor) -> Any:
    """Images as whole numbers to 255, with zero in the middle."""
    return (127.5 + 127.5 * x / x.abs().max()).round().int().tolist()
