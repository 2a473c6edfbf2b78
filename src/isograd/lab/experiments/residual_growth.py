"""Does a skip around every block solve growth and shrinkage, or trade one for the other?

A residual MLP of `blocks` pre-activation blocks, He-initialized, in five forms: as it is; with its
branches scaled by 1 / sqrt(blocks); with the last layer of every branch at zero; with batch norm in
the branch; and the same layers without skips. The variance of the stream is measured after every
block and compared with theory, then all five are trained. The identity keeps the gradient from
vanishing, but by itself doubles the variance with every block.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below, between, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import Branch, residual_mlp
from isograd.theory import residual

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

FORMS: dict[str, dict[str, Any]] = {
    "plain skip": {"norm": False},
    "1/sqrt(blocks)": {"norm": False, "scale": "root"},
    "last layer zero": {"norm": False, "zero_last": True},
    "batch norm": {"norm": True},
}
BAND = "ln variance is a random walk over blocks; three standard deviations at this width"


@dataclass(frozen=True)
class ResidualGrowth(Experiment):
    code: ClassVar[str] = "residual-growth"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.18",
            "imprecise",
            "The identity path keeps a gradient of at least the output's, so nothing vanishes. "
            "But every He-initialized branch adds its input's variance once more, and the stream "
            "grows as 2^blocks, until the loss is not finite. Branches that begin small (zero "
            "last layer, 1 / sqrt(blocks)) or a norm inside the branch are what makes deep "
            "residual networks train.",
            (
                between("ln_growth_plain", "ln_plain_low", "ln_plain_high", BAND),
                near(
                    "growth_scaled",
                    "growth_scaled_theory",
                    "(1 + 1/blocks)^blocks, nearly e; x f / |x|^2 scatters by sqrt(4 / width), a "
                    "quarter, from network to network",
                    rel=0.6,
                ),
                near("growth_zero", 1.0, "branches add nothing at all: float32 rounding", rel=1e-5),
                near(
                    "growth_norm_per_block",
                    1.0,
                    "a normalized He branch adds a variance of 1 in the mean; x f scatters by "
                    "sqrt(2 / width) of it, 0.18, from network to network",
                    abs=0.5,
                ),
                above(
                    "steps_finite_scaled", "steps", "trained to the last step without a loss of NaN"
                ),
                below(
                    "steps_finite_plain", 5, "2 in most draws; the update is as large as the stream"
                ),
                above(
                    "accuracy_scaled",
                    0.92,
                    "0.94 in the mean; seeds scatter by 0.01",
                    on=("mnist",),
                ),
                above(
                    "accuracy_zero", 0.92, "0.94 in the mean; seeds scatter by 0.01", on=("mnist",)
                ),
                above(
                    "accuracy_norm", 0.93, "0.95 in the mean; seeds scatter by 0.01", on=("mnist",)
                ),
                above("accuracy_zero", 0.8, "a few hundred samples per class less", on=("digits",)),
                above("accuracy_norm", 0.8, "a few hundred samples per class less", on=("digits",)),
            ),
        ),
        Answer(
            "E5",
            "true",
            "It does, and zero in the last layer of every branch cures it: the variance stays "
            "exactly, and the network trains. 1 / sqrt(blocks) and a norm in the branch do too.",
            (
                between("ln_growth_plain", "ln_plain_low", "ln_plain_high", BAND),
                near("growth_zero", 1.0, "branches add nothing at all: float32 rounding", rel=1e-5),
                above(
                    "accuracy_zero", 0.92, "0.94 in the mean; seeds scatter by 0.01", on=("mnist",)
                ),
                above("accuracy_zero", 0.8, "a few hundred samples per class less", on=("digits",)),
            ),
        ),
        Answer(
            "X11",
            "true",
            "In the mean over draws; ln of it strays by half of one over 54 blocks of width 64.",
            (between("ln_growth_plain", "ln_plain_low", "ln_plain_high", BAND),),
        ),
    )
    scales: ClassVar = {"fast": {"blocks": 16, "steps": 50, "seeds": 1}}

    blocks: int = 54
    """Residual blocks of two layers each."""
    width: int = 64
    """Of the stream."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of each form that are trained."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        batch = data.inputs[:128]
        root = self.blocks**-0.5
        made: dict[str, list[nn.Sequential]] = {}
        for name, options in FORMS.items():
            given = {**options, "scale": root if options.get("scale") else 1.0}
            made[name] = [
                residual_mlp(data.size, self.width, self.blocks, 10, seed=bench.seed + s, **given)
                for s in range(self.seeds)
            ]
        streams = {
            name: [stream_variance(net, batch) for net in nets] for name, nets in made.items()
        }
        growth = {
            name: torch.tensor([s[-1] / s[0] for s in rows]) for name, rows in streams.items()
        }
        trained = {
            name: train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
            for name, nets in made.items()
        }
        finite = {
            name: one.losses.isfinite().float().cumprod(0).sum(0) for name, one in trained.items()
        }
        expected = self.blocks * math.log(2)
        # A block multiplies the energy by 1 + (|f|^2 + 2 x f) / |x|^2. |f|^2 varies by 5 / width
        # for each of its two rectified layers, 2 x f by 4 / width, all relative to a mean of 2;
        # typical networks lie half the variance of the logarithm below the mean.
        walk = self.blocks * 14 / self.width / 4
        numbers: dict[str, Any] = {
            "ln_growth_plain": growth["plain skip"].log().median(),
            "ln_plain_theory": expected,
            "ln_plain_low": expected - walk / 2 - 3 * math.sqrt(walk),
            "ln_plain_high": expected - walk / 2 + 3 * math.sqrt(walk),
            "growth_scaled": growth["1/sqrt(blocks)"].median(),
            "growth_scaled_theory": (1 + 1 / self.blocks) ** self.blocks,
            "growth_zero": growth["last layer zero"].median(),
            "growth_norm_per_block": torch.tensor(
                [(s[-1] - s[0]) / self.blocks for s in streams["batch norm"]]
            ).median(),
            "steps": self.steps,
            "steps_finite_plain": finite["plain skip"].max(),
            "steps_finite_scaled": finite["1/sqrt(blocks)"].min(),
        }
        for key, name in (
            ("scaled", "1/sqrt(blocks)"),
            ("zero", "last layer zero"),
            ("norm", "batch norm"),
        ):
            numbers[f"accuracy_{key}"] = trained[name].accuracy.mean()
            numbers[f"accuracy_{key}_spread"] = (
                trained[name].accuracy.max() - trained[name].accuracy.min()
            )
        start = streams["plain skip"][0][0]
        doubled = residual("relu", self.blocks).q
        gentle = residual("relu", self.blocks, branch_scale=root).q
        series = {
            "blocks": list(range(self.blocks + 1)),
            "streams": {name: rows[0] for name, rows in streams.items()},
            "theory": {
                "plain skip": start * doubled,
                "1/sqrt(blocks)": start * gentle,
                "last layer zero": [start] * (self.blocks + 1),
                "batch norm": [streams["batch norm"][0][0] + b for b in range(self.blocks + 1)],
            },
            "losses": {name: one.losses.mean(1) for name, one in trained.items()},
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        blocks = result.settings["blocks"]
        figure, (stream, course) = figures.new(
            "A skip alone doubles the stream with every block, "
            f"{math.exp(numbers['ln_growth_plain']):.0e}-fold over {blocks}; "
            "a small or a normalized branch cures it",
            2,
            width=5.8,
        )
        for index, (name, values) in enumerate(told["streams"].items()):
            figures.theory(
                stream, told["blocks"], told["theory"][name], label=None if index else "theory"
            )
            every = max(1, blocks // 12)
            figures.measured(stream, told["blocks"][::every], values[::every], index, label=name)
        stream.set(yscale="log", xlabel="block", ylabel="variance of the stream, at the start")
        stream.set_title("before training")
        stream.legend(loc="upper left")
        shown = {name: smooth(values) for name, values in told["losses"].items()}
        figures.lines(course, list(range(len(shown["batch norm"]))), shown)
        course.set(yscale="log", xlabel="step", ylabel="training loss (mean of 10 steps)")
        course.set_ylim(0.05, 30)
        course.set_title("in training")
        course.annotate(
            f"plain skip: not finite\nfrom step {numbers['steps_finite_plain']:.0f} on",
            (0.04, 0.9),
            xycoords="axes fraction",
            color=figures.COLORS[0],
            va="top",
        )
        return figure


@torch.no_grad()
def stream_variance(net: nn.Sequential, x: Tensor) -> list[float]:
    """Mean square of the stream before the first block and after each one, in training mode."""
    values = []
    net.train()
    layers = list(net)
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        x = layer(x)
        if isinstance(layer, Branch) or isinstance(following, Branch):
            values.append(float(x.double().square().mean()))
    return values


def smooth(values: list[float], over: int = 10) -> list[float]:
    """Running mean of the last `over` values."""
    parts = [values[max(0, i - over + 1) : i + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]
