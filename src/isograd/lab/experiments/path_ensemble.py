"""Is a residual network an ensemble of short paths?

A trained residual network of `blocks` blocks, taken apart as Veit et al. did. Gradients of single
paths of every length, sampled in float64, fall by a constant factor per block, so that together
with the binomial number of paths nearly all of the gradient is on short ones. Deleting blocks or
swapping them hurts a little more with every one; a plain network loses everything with any single
block. And a network of which only some blocks get a gradient at every step learns as well.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from isograd.lab import figures
from isograd.lab.convolutional import ConvBranch, fit, resnet
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.lesions import alike, along_paths, blocks_of, carry, error
from isograd.lab.networks import Branch, residual_mlp
from isograd.theory import paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.lesions import Block
    from isograd.lab.result import Result

EXACT = "a sum of binomials, exact"


@dataclass(frozen=True)
class PathEnsemble(Experiment):
    code: ClassVar[str] = "path-ensemble"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.26",
            "imprecise",
            "It has 2^blocks paths of binomially many lengths, and the gradient of one falls by a "
            "factor of about five per block, so that short ones carry it. But they share all "
            "their weights and were trained together: an ensemble by its tolerance of deletions, "
            "not of separate networks. And plain networks break at a deletion partly since their "
            "batch norms have other statistics; taken again, they still break.",
            (
                near("share_5_17", 0.0045367, EXACT, rel=1e-3),
                near("share_19_35", 0.980, EXACT, abs=5e-4),
                below("fall_per_block", 0.6, "0.14 to 0.3 from block to block"),
                near(
                    "mean_length",
                    "mean_length_theory",
                    "a binomial at the fall per block; it is not quite constant",
                    rel=0.35,
                ),
                below("mean_length", "half_blocks", "the gradient is on shorter paths than most"),
                below("lesion_mean", 0.03, "what deleting one block adds to the error"),
                above("lesion_plain", 0.3, "a plain network, any single block"),
                above("lesion_plain_again", 0.1, "with the norms' statistics taken again"),
            ),
        ),
        Answer(
            "H5",
            "true",
            "At this size: a residual MLP in place of ResNet-110.",
            (
                near("share_5_17", 0.0045367, EXACT, rel=1e-3),
                below("lesion_mean", 0.03, "what deleting one block adds to the error"),
                above("deletions_many", "deletions_few", "it grows with the number of deletions"),
                below("swap_few", 0.1, "error added by one swap of two blocks, in the mean"),
                near(
                    "accuracy_effective",
                    "accuracy_whole",
                    "only 43 % of the blocks learn at each step; seeds scatter by 0.01",
                    abs=0.05,
                ),
            ),
        ),
    )
    scales: ClassVar = {
        "fast": {"blocks": 16, "steps": 100, "samples": 4, "draws": 3},
        "full": {"network": "resnet", "width": 16, "steps": 10_000, "lr": 0.1},
    }

    network: Literal["mlp", "resnet"] = "mlp"
    """An MLP, or a convolutional ResNet, whose number of blocks is a multiple of 3."""
    blocks: int = 54
    """Residual blocks of two layers each."""
    width: int = 64
    """Of the stream; of a ResNet, channels of the first stage."""
    steps: int = 900
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    samples: int = 16
    """Paths of each length whose gradient is taken."""
    draws: int = 10
    """Random choices of blocks to delete or to swap."""

    def run(self, bench: "Bench") -> Measured:
        flat = bench.data.flat() if self.network == "mlp" else bench.data
        data = flat.standardized().to(bench.device)
        whole, plain = self._trained(data, bench)
        wrong, wrong_plain = error(whole, data, set()), error(plain, data, set())
        stream = bench.generator()

        lengths = sorted({max(1, round(self.blocks * i / 12)) for i in range(13)})
        falls = along_paths(whole, data, lengths, self.samples, stream)
        near_end = [(k, g) for k, g in zip(lengths, falls, strict=True) if k <= self.blocks / 2]
        factor = math.exp(
            math.log(near_end[-1][1] / near_end[0][1]) / (near_end[-1][0] - near_end[0][0])
        )
        fine = [interpolate(lengths, falls, k) for k in range(1, self.blocks + 1)]
        weights = [math.comb(self.blocks, k) * g for k, g in enumerate(fine, 1)]
        total = sum(weights)
        mean = sum(k * w for k, w in enumerate(weights, 1)) / total

        single = [error(whole, data, {b}) - wrong for b in range(self.blocks)]
        counts = sorted({1, *(max(1, self.blocks * i // 8) for i in range(1, 7))})
        deleted = [self._mean(whole, data, n, stream, swap=False) - wrong for n in counts]
        swapped = [self._mean(whole, data, n, stream, swap=True) - wrong for n in counts]
        few = range(len(blocks_of(plain)))
        alone = [error(plain, data, {b}) for b in few]
        again = [error(plain, data, {b}, renew=True) for b in few]
        numbers: dict[str, Any] = {
            "share_5_17": paths(54).between(5, 17),
            "share_19_35": paths(54).between(19, 35),
            "fall_per_block": factor,
            "mean_length": mean,
            "mean_length_theory": paths(self.blocks, branch=factor).mean,
            "half_blocks": self.blocks / 2,
            "lesion_mean": sum(single) / len(single),
            "lesion_max": max(single),
            "lesion_plain": min(alone) - wrong_plain,
            "lesion_plain_again": min(again) - wrong_plain,
            "deletions_few": deleted[0],
            "deletions_many": deleted[-1],
            "swap_few": swapped[0],
            "accuracy_whole": 1 - wrong,
            "accuracy_plain": 1 - wrong_plain,
            "accuracy_effective": self._effective(data, bench),
        }
        series = {
            "lengths": lengths,
            "falls": falls,
            "weights": [w / total for w in weights],
            "binomial": paths(self.blocks).weight[1:],
            "single": [wrong + s for s in single],
            "alone": alone,
            "again": again,
            "counts": counts,
            "deleted": [wrong + d for d in deleted],
            "swapped": [wrong + s for s in swapped],
        }
        return Measured(numbers, series)

    def _mean(
        self, net: nn.Sequential, data: "Images", count: int, stream: torch.Generator, *, swap: bool
    ) -> float:
        """Mean error with so many random blocks deleted, or so many swaps of two blocks."""
        errors = []
        for _ in range(self.draws):
            if swap:
                order = list(range(self.blocks))
                for _ in range(count):
                    a, b = self._pair(blocks_of(net), stream)
                    order[a], order[b] = order[b], order[a]
                errors.append(error(net, data, set(), order=order))
            else:
                gone = torch.randperm(self.blocks, generator=stream)[:count].tolist()
                errors.append(error(net, data, set(gone)))
        return sum(errors) / len(errors)

    def _pair(self, blocks: "list[Block]", stream: torch.Generator) -> tuple[int, int]:
        """Two random blocks that can change places."""
        while True:
            a, b = torch.randint(self.blocks, (2,), generator=stream).tolist()
            if alike(blocks[a], blocks[b]):
                return a, b

    def _trained(self, data: "Images", bench: "Bench") -> tuple[nn.Sequential, nn.Sequential]:
        """The residual network and the plain one, trained."""
        if self.network == "mlp":
            made = [
                self._made(data, bench.seed),
                residual_mlp(data.size, self.width, 5, 10, skip=False, seed=bench.seed),
            ]
            nets = [net.to(bench.device) for net in made]
            trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
            whole, plain = (m for m in trained.models if isinstance(m, nn.Sequential))
            return whole, plain
        whole = self._made(data, bench.seed)
        plain = resnet(data.inputs.shape[1], 14, width=self.width, skip=False, seed=bench.seed)
        for net in (whole, plain):
            fit(
                net,
                data,
                steps=self.steps,
                batch=100,
                lr=self.lr,
                device=bench.device,
                seed=bench.seed,
                augment=True,
            )
        return whole, plain

    def _made(self, data: "Images", seed: int) -> nn.Sequential:
        """The residual network before training."""
        if self.network == "mlp":
            return residual_mlp(data.size, self.width, self.blocks, 10, seed=seed)
        return resnet(data.inputs.shape[1], 2 * self.blocks + 2, width=self.width, seed=seed)

    def _effective(self, data: "Images", bench: "Bench") -> float:
        """Accuracy of a network of which 23 of 54 blocks get a gradient at every step."""
        net = self._made(data, bench.seed).to(bench.device).train()
        optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9)
        stream = torch.Generator().manual_seed(bench.seed)
        learning = round(self.blocks * 23 / 54)
        for x, y in data.batches(self.steps, 100, seed=bench.seed):
            chosen = set(torch.randperm(self.blocks, generator=stream)[:learning].tolist())
            block = 0
            for module in net:
                if isinstance(module, Branch | ConvBranch):
                    branch = module.f(x)
                    x = carry(module, x) + (branch if block in chosen else branch.detach())
                    block += 1
                else:
                    x = module(x)
            optimizer.zero_grad()
            F.cross_entropy(x, y).backward()
            optimizer.step()
        return 1 - error(net, data, set())

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (path, lesion, many) = figures.new(
            f"The gradient is on paths of {numbers['mean_length']:.0f} of "
            f"{result.settings['blocks']} blocks; without one, the error is higher by "
            f"{numbers['lesion_mean']:.1%}, and a plain network's by {numbers['lesion_plain']:.0%}",
            3,
            width=5.0,
        )
        lengths = list(range(1, len(told["weights"]) + 1))
        theory = paths(result.settings["blocks"], branch=numbers["fall_per_block"]).weight[1:]
        path.plot(
            lengths, told["binomial"], color=figures.GRAY, linestyle="--", label="number of paths"
        )
        figures.theory(path, lengths, list(theory), label="theory: binomial at the fall per block")
        figures.measured(path, lengths, told["weights"], 0, label="gradient, measured")
        path.set(xlabel="length of the path, in blocks", ylabel="share")
        path.set_ylim(0, 1.45 * max(*told["weights"], *theory))
        path.set_title(f"one path: × {numbers['fall_per_block']:.2f} per block")
        path.legend(loc="upper right", fontsize=9.5)
        lesion.plot(told["single"], "o", color=figures.COLORS[0], markersize=4, label="residual")
        count = len(told["alone"])
        places = [i * (len(told["single"]) - 1) / max(1, count - 1) for i in range(count)]
        lesion.plot(
            places, told["alone"], "s", color=figures.COLORS[1], label=f"plain, {count} blocks"
        )
        lesion.plot(
            places, told["again"], "D", color=figures.COLORS[3], label="plain, norms taken again"
        )
        lesion.set(xlabel="deleted block", ylabel="test error", ylim=(0, 1.02))
        lesion.set_title("one block less")
        lesion.legend(loc="center right")
        figures.measured(many, told["counts"], told["deleted"], 0, label="deleted", joined=True)
        figures.measured(many, told["counts"], told["swapped"], 2, label="swapped", joined=True)
        many.set(xlabel="blocks", ylabel="test error", ylim=(0, 1.02))
        many.set_title("many blocks, mean over draws")
        many.legend(loc="upper left")
        return figure


def interpolate(x: list[int], y: list[float], at: int) -> float:
    """Logarithmically between two neighbors."""
    right = next(i for i, value in enumerate(x) if value >= at)
    if x[right] == at or right == 0:
        return y[right]
    part = (at - x[right - 1]) / (x[right] - x[right - 1])
    return math.exp((1 - part) * math.log(y[right - 1]) + part * math.log(y[right]))
