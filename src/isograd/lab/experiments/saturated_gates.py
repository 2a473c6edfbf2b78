"""Which units pass a gradient, and which are shut?

The local derivative of a sigmoid at -10, 0 and 10, the chain rule node by node, and then real
layers: how many units of a trained sigmoid network hardly pass anything, and how many units of ReLU
layers pass nothing at all before training. Sigmoid and tanh saturate on both sides. ReLU does so on
one side, and completely: half of all units are shut for any one sample.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

SHUT = 0.01
"""Derivative below which a unit counts as hardly passing anything."""
FORMULA = "s(1 - s), in float64"


@dataclass(frozen=True)
class SaturatedGates(Experiment):
    code: ClassVar[str] = "saturated-gates"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.4",
            "true",
            "At 10 the derivative is 4.5e-5. Before training hardly any unit is far out; a network "
            "that has learned its task (96 % right) has a fifth of its units where less than a "
            "hundredth passes, and has no need of more.",
            (
                near("sigmoid_at_10", 4.5395807735951673e-05, FORMULA, rel=1e-9),
                near("sigmoid_at_0", 0.25, FORMULA, rel=1e-12),
                below("shut_before", 1e-3, "pre-activations of Xavier's weights stay within 3"),
                above("shut_after", "shut_before", "training moves units outward"),
            ),
        ),
        Answer(
            "S3.5",
            "true",
            "At every node of a network, by autograd against the product.",
            (
                below("chain_error", 1e-6, "a product of two float32 numbers"),
                near("passed_at_10", "sigmoid_at_10", "what comes in is multiplied", rel=1e-4),
            ),
        ),
        Answer(
            "S3.14",
            "true",
            "Faster than the sigmoid: its tail falls as exp(-2x).",
            (near("tanh_at_10", 8.2446144e-09, "1 - tanh^2, in float64", rel=1e-6),),
        ),
        Answer(
            "S3.15",
            "wrong",
            "It does not saturate above 0. Below it the derivative is exactly 0: for half of the "
            "units of every layer, for any one sample.",
            (
                near("relu_zero", 0.5, "pre-activations are symmetric over draws; a layer of one "
                     "network strays by the means of its units", abs=0.06),
                exactly("sigmoid_zero", 0.0, "s (1 - s) is above 0 for every pre-activation here"),
            ),
        ),
        Answer(
            "S3.F2",
            "true",
            "The gate at -10, 0 and 10, and where real pre-activations lie.",
            (near("sigmoid_at_minus_10", 4.5395807735951673e-05, FORMULA, rel=1e-9),),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"steps": 150, "width": 64}}

    depth: int = 2
    """Hidden layers of the sigmoid network."""
    width: int = 128
    """Units of each."""
    steps: int = 1000
    """Of training, batches of 100."""
    lr: float = 0.1
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        numbers: dict[str, Any] = {}
        for name, function in {"sigmoid": torch.sigmoid, "tanh": torch.tanh}.items():
            for label, at in (("minus_10", -10.0), ("0", 0.0), ("10", 10.0)):
                numbers[f"{name}_at_{label}"] = derivative(function, torch.tensor([at]).double())
        net = mlp(
            data.size, self.width, self.depth, 10, activation="sigmoid", init="xavier",
            seed=bench.seed,
        )  # fmt: skip
        batch = data.inputs[:500], data.labels[:500]
        numbers["chain_error"], numbers["passed_at_10"] = chain_rule(net, *batch)
        trained = train([net], data, steps=self.steps, lr=self.lr, seed=bench.seed)
        found = {}
        for when, one in (("before", net), ("after", trained.models[0])):
            z = pre_activations(one, batch[0])
            slope = torch.sigmoid(z) * (1 - torch.sigmoid(z))
            numbers[f"shut_{when}"] = (slope < SHUT).double().mean()
            found[when] = torch.histc(z, 80, -16, 16) / z.numel()
            if when == "before":
                numbers["sigmoid_zero"] = (slope == 0).double().mean()
        numbers["accuracy"] = trained.accuracy[0]
        record = measure(mlp(data.size, self.width, 3, 10, seed=bench.seed), batch)
        shares = [
            float(record.value("forward.zero", i) or 0)
            for i, site in enumerate(record.sites)
            if site.kind == "relu"
        ]
        numbers["relu_zero"] = sum(shares) / len(shares)
        return Measured(numbers, {"histograms": found, "relu_zero": shares})

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (local, real, shut) = figures.new(
            f"At 10 a sigmoid passes 0.005 % of the gradient; half of all ReLU units "
            f"({numbers['relu_zero']:.0%}) pass none at all",
            3,
            width=4.7,
        )
        grid = torch.linspace(-12, 12, 241, dtype=torch.float64)
        for index, (label, curve) in enumerate(
            {
                "sigmoid": torch.sigmoid(grid) * torch.sigmoid(-grid),
                "tanh": 1 / torch.cosh(grid) ** 2,
                "ReLU (0 below 0)": (grid > 0).double(),
            }.items()
        ):
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            local.plot(grid, curve, label=label, **style)
        places = [-10, 0, 10]
        values = [numbers[f"sigmoid_at_{k}"] for k in ("minus_10", "0", "10")]
        figures.measured(local, places, values, 0)
        beside = (((-4, 8), "right"), ((9, -22), "left"), ((4, 8), "left"))
        for place, value, (offset, side) in zip(places, values, beside, strict=True):
            local.annotate(
                f"{value:.2g}", (place, value), xytext=offset, textcoords="offset points",
                ha=side, fontsize=10.5,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        local.set(yscale="log", ylim=(1e-9, 300), xlabel="x", xlim=(-15, 15), ylabel="derivative")
        local.set_title("what a unit passes back")
        local.legend(loc="upper left", ncols=1)
        centers = [-15.8 + 0.4 * k for k in range(80)]
        for index, (when, shares) in enumerate(told["histograms"].items()):
            label = f"{when} training: {numbers[f'shut_{when}']:.1%} below {SHUT}"
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            real.plot(centers, [s / 0.4 for s in shares], label=label, **style)
        edge = 4.595  # s (1 - s) = 0.01
        real.axvspan(-16, -edge, color="black", alpha=0.08)
        real.axvspan(edge, 16, color="black", alpha=0.08)
        real.set(xlabel="pre-activation", ylabel="density", xlim=(-16, 16))
        real.set_ylim(0, real.get_ylim()[1] * 1.3)
        real.set_title("sigmoid layers on data; gray: hardly open")
        real.legend(loc="upper left")
        layers = range(1, len(told["relu_zero"]) + 1)
        shut.bar(layers, told["relu_zero"], 0.5, color=figures.COLORS[0], label="ReLU")
        shut.bar([len(layers) + 1], [numbers["sigmoid_zero"]], 0.5)
        shut.axhline(0.5, color="black", linewidth=1.4, label="theory: 1/2")
        shut.set_xticks([*layers, len(layers) + 1], [*(f"ReLU {k}" for k in layers), "sigmoid"])
        shut.set(ylim=(0, 0.75), ylabel="derivative is exactly 0")
        shut.set_title("before training")
        shut.legend(loc="upper right", ncols=2)
        return figure


def derivative(function: Any, x: Tensor) -> float:
    """Its derivative by autograd."""
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    return float(slope)


def pre_activations(net: nn.Module, x: Tensor) -> Tensor:
    """Inputs of all activations of a plain stack, flat."""
    kept = []
    with torch.no_grad():
        for layer in net:  # type: ignore[attr-defined]  # an nn.Sequential
            if isinstance(layer, nn.Sigmoid):
                kept.append(x.flatten())
            x = layer(x)
    return torch.cat(kept)


def chain_rule(net: nn.Module, x: Tensor, labels: Tensor) -> tuple[float, float]:
    """Worst relative error of upstream times local at any node; what a unit at 10 passes of 1."""
    values, nodes = x, []
    for layer in net:  # type: ignore[attr-defined]  # an nn.Sequential
        before, values = values, layer(values)
        if isinstance(layer, nn.Sigmoid):
            nodes.append((before, values))
    loss = nn.functional.cross_entropy(values, labels)
    flat = [t for pair in nodes for t in pair]
    gradients = torch.autograd.grad(loss, flat)
    worst = 0.0
    for (_, out), down, up in zip(nodes, gradients[::2], gradients[1::2], strict=True):
        product = (up * out * (1 - out)).detach()
        worst = max(worst, float((down - product).abs().max() / product.abs().max()))
    ten = torch.full((1,), 10.0, dtype=torch.float64, requires_grad=True)
    (passed,) = torch.autograd.grad(torch.sigmoid(ten).sum(), ten)
    return worst, float(passed)
