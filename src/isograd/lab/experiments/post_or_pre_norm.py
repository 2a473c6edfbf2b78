"""Norm after the sum or before the branch: what does a deep transformer's gradient do?

Encoders whose blocks normalize after every addition (post) or inside every branch (pre), reading
the rows of an image as tokens. The gradient at every block before training, as isograd measures it,
then training at a rate that suits the second kind. Post-norm encoders have larger gradients near
the output and come to a standstill when deep; pre-norm ones train.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.checking import check
from isograd.lab import figures
from isograd.lab.expected import above, below, exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import classify, seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

KINDS = ("post", "pre")


class Rows(nn.Module):
    """An encoder over the rows of an image; the mean over rows decides."""

    def __init__(self, rows: int, columns: int, width: int, depth: int, *, first: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(columns, width)
        self.place = nn.Parameter(0.5 * torch.randn(rows, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=first
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width) if first else nn.Identity()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, 10] of images [batch, 1, rows, columns]."""
        x = self.embed(x.squeeze(1)) + self.place
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


@dataclass(frozen=True)
class PostOrPreNorm(Experiment):
    code: ClassVar[str] = "post-or-pre-norm"
    data: ClassVar[tuple[str, ...]] = ("digits",)
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "H13",
            "true",
            "Near the output the gradient of the weights is larger, here by a factor of 1.9; at "
            "this rate the deep post-norm encoder gives one output for all inputs, and the "
            "pre-norm one trains.",
            (
                above(
                    "last_over_pre",
                    1.1,
                    "gradient of the last block's weights, post over pre; "
                    "geometric mean of three networks",
                ),
                above("right_pre", "ahead", "accuracy; ahead: that of post-norm and 0.2"),
                below("right_post", 0.45, "accuracy; chance is 0.1", at=("standard",)),
                exactly(
                    "isograd_post",
                    1.0,
                    "isograd reports IG503, norms on the main path",
                    at=("standard",),
                ),
                exactly("isograd_pre", 0.0, "and not for pre-norm"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"depth": 10, "steps": 40, "lr": 0.006}}

    depth: int = 24
    """Blocks of attention and feed-forward layers."""
    width: int = 32
    """Of the stream."""
    steps: int = 60
    """Of training with Adam, batches of 64."""
    lr: float = 0.003
    """Learning rate, no warm-up."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.standardized()
        batch = data.inputs[:64], data.labels[:64]
        numbers: dict[str, Any] = {}
        series: dict[str, Any] = {"gradients": {}, "losses": {}}
        logs: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for kind in KINDS:
            with seeded(bench.seed):
                rows, columns = data.inputs.shape[-2:]
                net = Rows(rows, columns, self.width, self.depth, first=kind == "pre")
            found = check(net, batch, predict=False)
            numbers[f"isograd_{kind}"] = float(any(f.code == "IG503" for f in found.findings))
            series["gradients"][kind] = weight_gradient(net, batch)
            for s in range(3):
                with seeded(bench.seed + s):
                    other = Rows(rows, columns, self.width, self.depth, first=kind == "pre")
                logs[kind].append(math.log(weight_gradient(other, batch)[-1]))
            optimizer = torch.optim.Adam(net.parameters(), self.lr)
            batches = data.batches(self.steps, 64, seed=bench.seed)
            losses, right = classify(net, data, optimizer, batches)
            series["losses"][kind] = losses
            numbers[f"right_{kind}"] = right
        numbers["last_over_pre"] = math.exp(sum(logs["post"]) / 3 - sum(logs["pre"]) / 3)
        numbers["ahead"] = numbers["right_post"] + 0.2
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (back, course) = figures.new(
            f"{result.settings['depth']} blocks: pre-norm trains to {numbers['right_pre']:.0%}, "
            f"post-norm to {numbers['right_post']:.0%}; its last gradients are "
            f"{numbers['last_over_pre']:.1f} times as large",
            2,
        )
        for index, kind in enumerate(KINDS):
            values = told["gradients"][kind]
            blocks = range(1, len(values) + 1)
            figures.measured(back, blocks, values, index, label=f"{kind}-norm", joined=True)
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            course.plot(told["losses"][kind], label=f"{kind}-norm", **style)
        back.set(yscale="log", xlabel="block", ylabel="rms gradient of its weights")
        back.set_title("before training")
        back.legend(loc="best")
        course.axhline(math.log(10), color="black", linewidth=1, linestyle=":")
        course.set(xlabel="step", ylabel="training loss")
        course.set_title("training; dotted: chance")
        course.legend(loc="lower left")
        return figure


def weight_gradient(net: Rows, batch: tuple[Tensor, Tensor]) -> list[float]:
    """Rms of the gradient of every block's second feed-forward matrix."""
    loss = nn.functional.cross_entropy(net(batch[0]), batch[1])
    names = [f"blocks.{k}.linear2.weight" for k in range(len(net.blocks))]
    weights = [net.get_parameter(name) for name in names]
    return [float(g.double().square().mean().sqrt()) for g in torch.autograd.grad(loss, weights)]
