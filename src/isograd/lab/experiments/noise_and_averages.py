"""What do dropout, stochastic depth and batch norm do to a signal, in training and at the test?

Second moments before and after inverted dropout, against theory, and the same of AlphaDropout on
SELU outputs. Then the pattern of the lecture, random in training and averaged in the test: how far
the output in evaluation mode is from the mean of many random ones, and how batch norm's running
statistics miss their goal after too few steps. And stochastic depth, which thins a residual network
out to a binomial number of blocks.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.checking import check
from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp, seeded
from isograd.theory import activation, dropout_moments
from isograd.theory.averages import averages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

KEEPS = (0.95, 0.9, 0.8, 0.7, 0.5)
DRAWN = "a million draws"


@dataclass(frozen=True)
class NoiseAndAverages(Experiment):
    code: ClassVar[str] = "noise-and-averages"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "E8",
            "true",
            "By 1/keep exactly. AlphaDropout keeps mean and variance of SELU's outputs; ordinary "
            "dropout multiplies the variance by 1.25 at keep = 0.8.",
            (
                near("second_0.8", "second_0.8_theory", DRAWN, rel=0.02),
                near("mean_0.8", "mean_relu", DRAWN, abs=0.005),
                exactly("identity_off", 0.0, "in evaluation mode it is the identity"),
                near("selu_dropout", 1.25, DRAWN, rel=0.01),
                near("selu_alpha", 1.0, DRAWN, rel=0.01),
            ),
        ),
        Answer(
            "E9",
            "imprecise",
            "The test uses the average of the noise, not the average of the outputs: through "
            "nonlinear layers the two differ, here by a few percent to a third of the noise. Batch "
            "norm's test statistics are a running mean, and wrong until enough steps have passed.",
            (
                below("average_gap", 0.5, "evaluation output minus the mean of random ones, over "
                      "the noise of one"),
                above("average_gap", 0.01, "not the same"),
                above("norm_gap_3", "norm_gap_200", "after 3 steps against after 200"),
                exactly("isograd_slow", 1.0, "isograd reports IG502: momentum 0.001, 200 steps"),
                exactly("isograd_usual", 0.0, "and not with the usual momentum of 0.1"),
            ),
        ),
        Answer(
            "E11",
            "true",
            "As regularizers, yes; of signal and gradient only stochastic depth is a matter. "
            "With a survival of p the number of blocks is binomial, and the gradient of the "
            "stream grows by 1 + p chi instead of 1 + chi per block.",
            (
                near("blocks", "blocks_theory", "mean of some hundred draws", abs=0.9),
                near("blocks_spread", "blocks_spread_theory", "draws; error 4 percent", rel=0.15),
                near("energy_log", "energy_log_theory", "log of the mean gradient energy per "
                     "block over draws, width 200", rel=0.2),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"draws": 300_000, "passes": 60, "samples": 150}}

    draws: int = 1_000_000
    """Random inputs of the moments."""
    passes: int = 300
    """Random outputs that are averaged."""
    blocks: int = 30
    """Of the residual network."""
    survival: float = 0.7
    """Probability that a block is kept."""
    samples: int = 400
    """Draws of which blocks are kept."""

    def run(self, bench: "Bench") -> Measured:
        numbers: dict[str, Any] = {}
        z = torch.randn(self.draws, generator=bench.generator())
        relu, selu = torch.relu(z), torch.nn.functional.selu(z)
        of = averages(activation("relu"), 1.0)
        numbers["mean_relu"] = of.mean
        second, theory = [], []
        for keep in KEEPS:
            dropped = nn.Dropout(1 - keep)(relu)
            mean, variance = dropout_moments(of.mean, of.square - of.mean**2, keep=keep)
            second.append(float(dropped.double().square().mean()) / of.square)
            theory.append((variance + mean**2) / of.square)
            numbers[f"second_{keep:g}"] = second[-1]
            numbers[f"second_{keep:g}_theory"] = theory[-1]
            numbers[f"mean_{keep:g}"] = dropped.double().mean()
        off = nn.Dropout(0.5).eval()
        numbers["identity_off"] = (off(relu) - relu).abs().max()
        numbers["selu_dropout"] = nn.Dropout(0.2)(selu).double().var()
        numbers["selu_alpha"] = nn.AlphaDropout(0.2)(selu).double().var()
        data = bench.data.flat().standardized()
        keeps = (0.9, 0.8, 0.5)
        some = data.inputs[:200]
        gaps = [average_gap(data.size, k, some, self.passes, bench.seed) for k in keeps]
        numbers["average_gap"] = gaps[1]
        courses = running(data, bench.seed)
        numbers |= {"norm_gap_3": courses["gap"][0], "norm_gap_200": courses["gap"][-1]}
        numbers["isograd_usual"] = courses["found"][-1]
        numbers["isograd_slow"] = running(data, bench.seed, momentum=0.001)["found"][-1]
        kept, logs = stochastic_depth(self, bench)
        counts = torch.tensor(kept, dtype=torch.float64)
        p, n = self.survival, self.blocks
        numbers |= {
            "blocks": counts.mean(),
            "blocks_theory": p * n,
            "blocks_spread": counts.std(),
            "blocks_spread_theory": math.sqrt(n * p * (1 - p)),
            "energy_log": logs,
            "energy_log_theory": math.log(1 + p * 1.0),
        }
        histogram = torch.bincount(counts.long(), minlength=n + 1).double() / len(counts)
        series = {
            "second": second, "second_theory": theory, "gaps": gaps, "keeps": keeps,
            "steps": courses["steps"], "norm_gap": courses["gap"], "kept": histogram,
        }  # fmt: skip
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        p, n = result.settings["survival"], result.settings["blocks"]
        figure, (moment, gap, norm, depth) = figures.new(
            f"Dropout multiplies the second moment by 1/keep; {n} blocks of stochastic depth are "
            f"{numbers['blocks']:.1f} on average (theory {numbers['blocks_theory']:.1f})",
            4,
            width=3.8,
            height=3.9,
        )
        figures.theory(moment, KEEPS, told["second_theory"], label="theory: 1/keep")
        figures.measured(moment, KEEPS, told["second"], 0, label="measured, ReLU")
        moment.set(xlabel="share kept", ylabel="second moment, over before", ylim=(0.9, 2.3))
        moment.set_title("dropout")
        moment.legend(loc="upper right")
        figures.measured(gap, told["keeps"], told["gaps"], 1, joined=True)
        gap.set(xlabel="share kept", ylabel="gap over the noise of one", ylim=(0, None))
        gap.set_title("test output, mean of random ones")
        figures.measured(norm, told["steps"], told["norm_gap"], 2, joined=True)
        norm.set(xscale="log", xlabel="steps seen", ylabel="train minus eval, relative")
        norm.set(ylim=(0, None))
        norm.set_title("batch norm's running statistics")
        ks = list(range(n + 1))
        law = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in ks]
        depth.bar(ks, told["kept"], 0.8, color=figures.COLORS[3])
        figures.theory(depth, ks, law, label=f"binomial({n}, {p:g})")
        depth.set(xlabel="blocks kept", ylabel="share of draws")
        depth.set_ylim(0, depth.get_ylim()[1] * 1.25)
        depth.set_title("stochastic depth")
        depth.legend(loc="upper left")
        return figure


@torch.no_grad()
def average_gap(size: int, keep: float, x: Tensor, passes: int, seed: int) -> float:
    """Evaluation output minus mean of random outputs, rms, over the noise of one output."""
    plain = mlp(size, 100, 3, 10, seed=seed)
    parts: list[nn.Module] = []
    for layer in plain:
        parts += [layer, nn.Dropout(1 - keep)] if isinstance(layer, nn.ReLU) else [layer]
    net = nn.Sequential(*parts)
    with seeded(seed):
        outs = torch.stack([net.train()(x) for _ in range(passes)]).double()
    sure = net.eval()(x).double()
    noise = float(outs.std(0).square().mean())
    gap = float((outs.mean(0) - sure).square().mean()) - noise / passes  # what is left of the noise
    return math.sqrt(max(gap, 0.0) / noise)


def running(data: Any, seed: int, momentum: float = 0.1) -> dict[str, Any]:
    """Train against evaluation output of a fresh batch-norm network that has seen some batches."""
    told: dict[str, Any] = {"steps": [3, 10, 30, 100, 200], "gap": [], "found": []}
    net = mlp(data.size, 64, 4, 10, norm=True, seed=seed).train()
    for layer in net:
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = momentum
    seen = 0
    batch = data.inputs[:200], data.labels[:200]
    batches = data.batches(200, 100, seed=seed)
    for steps in told["steps"]:
        with torch.no_grad():
            for _ in range(steps - seen):
                net(next(batches)[0])
        seen = steps
        diagnosis = check(net, batch, predict=False, select=["IG502"])
        told["gap"].append(float(diagnosis.reading.seen.fact("norm.eval_gap") or 0))
        told["found"].append(float(any(f.code == "IG502" for f in diagnosis.findings)))
    return told


def stochastic_depth(of: NoiseAndAverages, bench: "Bench") -> tuple[list[int], float]:
    """Blocks kept in every draw; log of the mean gradient energy through the stream, per block."""
    width, stream = 200, bench.generator(4)
    kept, energies = [], []
    for _ in range(of.samples):
        mask = torch.rand(of.blocks, generator=stream) < of.survival
        kept.append(int(mask.sum()))
    for _ in range(max(20, of.samples // 10)):
        mask = torch.rand(of.blocks, generator=stream) < of.survival
        start = torch.randn(8, width, generator=stream).requires_grad_()
        x = start
        for keep in mask.tolist():
            w = torch.randn(width, width, generator=stream) * (2 / width) ** 0.5
            x = x + torch.relu(x) @ w if keep else x
        probe = torch.randn(8, width, generator=stream)
        (gradient,) = torch.autograd.grad((x * probe).sum(), start)
        energies.append(float(gradient.double().square().mean()))
    # Energies are log-normal over draws; their mean is what theory gives.
    return kept, math.log(sum(energies) / len(energies)) / of.blocks
