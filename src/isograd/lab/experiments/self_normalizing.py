"""Do ELU and SELU keep a deep network normalized, forward and backward?

Mean and spread of the activations layer by layer, from several starts, beside theory's fixed point;
then gradients through hundreds of layers, and training. SELU draws mean 0 and variance 1 to itself,
as its authors proved. The gradient is another matter: E phi'^2 is 1.0716, so that it grows by 3.5 %
per layer and a thousandfold in 200. ELU has no such fixed point at a gain of 1: its signal fades,
and its mean with it.
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
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure
from isograd.theory import activation, gains
from isograd.theory.averages import averages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

STARTS = ((0.0, 1.0), (1.0, 0.5), (-0.5, 2.0))
"""Mean and standard deviation of the inputs."""
KINDS = {
    "SELU": ("selu", 1.0, "lecun"),
    "ReLU, He": ("relu", 2**0.5, "lecun"),
    "tanh, orthogonal": ("tanh", 1.02, "orthogonal"),
}
TRAINED = {
    "SELU": ("selu", "lecun", 0.0),
    "SELU, nn.Linear's weights": ("selu", "torch", 0.0),
    "SELU, dropout": ("selu", "lecun", 0.1),
    "SELU, alpha dropout": ("selu", "lecun", 0.1),
}


@dataclass(frozen=True)
class SelfNormalizing(Experiment):
    code: ClassVar[str] = "self-normalizing"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.29",
            "wrong",
            "Its mean is 0.16 for a standard normal input, closer to zero than ReLU's 0.40. In "
            "depth, at a gain of 1, the mean does go to zero: because the whole signal does. At a "
            "gain of 1.25, which keeps the signal, the mean stays.",
            (
                near("elu_mean", 0.16052, "theory, by quadrature", abs=1e-4),
                near("elu_std_16", "elu_std_16_theory", "length map; width 500 strays by 0.1 in "
                     "ln over 16 layers", rel=0.3),
                below("elu_std_64", 0.08, "0.79 in the first layer; theory 0.04"),
                above("elu_kept_mean_64", 0.1, "at a gain of 1.25"),
            ),
        ),
        Answer(
            "S3.32",
            "imprecise",
            "Forward, yes: mean 0 and variance 1 attract. Backward, no: gradients grow by 1.035 "
            "per layer, a thousandfold in 200 layers. And the weights must have variance 1/fan_in "
            "(as nn.Linear draws them it fails). Dropout in every layer ruins 24 layers, and "
            "AlphaDropout too: it keeps the moments, but not the signal.",
            (
                below("forward_off", 0.3, "worst |mean| or |std - 1| after 32 layers from three "
                      "starts; one draw of width 500 strays by 0.1"),
                near("selu_growth", "selu_growth_theory", "per layer; the product of a few "
                     "hundred layers of finite width", abs=0.012),
                above("trained_SELU", 0.8, "of 24 layers", on=("mnist",)),
                above("trained_SELU", 0.7, "fewer steps and samples", on=("digits",)),
                below("trained_SELU, dropout", "trained_SELU", "10 % in each of 24 layers"),
                below("trained_SELU, alpha dropout", "trained_SELU", "10 % in each of 24 layers"),
                below("trained_SELU, nn.Linear's weights", 0.5, "24 layers; chance is 0.1"),
            ),
        ),
        Answer(
            "X4",
            "true",
            "E phi'^2 = 1.0716 at the fixed point: 1.035 per layer.",
            (
                near("selu_chi", 1.07157, "theory, by quadrature", abs=1e-4),
                above("selu_gradient_ratio", 20.0, "first over last layer; theory exp(0.0346 L)"),
                between("tanh_gradient_ratio", 0.05, 20.0, "orthogonal tanh beside it"),
            ),
        ),
        Answer(
            "H8",
            "true",
            "As far as depth goes: networks of 24 SELU layers train without a norm.",
            (
                above("trained_SELU", 0.8, "of 24 layers", on=("mnist",)),
                above("trained_SELU", 0.7, "fewer steps and samples", on=("digits",)),
                below("forward_off", 0.3, "moments stay in the basin of (0, 1)"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {
        "fast": {"back_depth": 120, "steps": 60, "width": 300, "narrow": 64, "lr": 0.005},
    }

    depth: int = 64
    """Layers through which the moments are followed."""
    width: int = 500
    """Units of each."""
    back_depth: int = 200
    """Layers through which the gradient is followed, of width 100."""
    trained_depth: int = 24
    """Hidden layers of the trained networks."""
    narrow: int = 100
    """Units of each."""
    steps: int = 300
    """Of training, batches of 100."""
    lr: float = 0.005
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        numbers: dict[str, Any] = {
            "selu_chi": averages(activation("selu"), 1.0).slope_square,
            "elu_mean": averages(activation("elu"), 1.0).mean,
            "selu_growth_theory": math.sqrt(averages(activation("selu"), 1.0).slope_square),
        }
        paths = {
            f"{mean:g}, {std:g}": moments("selu", 1.0, mean, std, self, bench)
            for mean, std in STARTS
        }
        at = min(32, self.depth) - 1
        numbers["forward_off"] = max(max(abs(p[at][0]), abs(p[at][1] - 1)) for p in paths.values())
        faded = moments("elu", 1.0, 0.0, 1.0, self, bench)
        kept = moments("elu", gains("elu").second_moment, 0.0, 1.0, self, bench)
        theory, q = [], 1.0
        for _ in range(self.depth):
            of = averages(activation("elu"), q)
            theory.append(math.sqrt(of.square - of.mean**2))
            q = of.square
        numbers |= {
            "elu_std_16": faded[15][1],
            "elu_std_16_theory": theory[15],
            "elu_std_64": faded[63][1],
            "elu_kept_mean_64": kept[63][0],
        }
        data = bench.data.flat().standardized()
        batch = data.inputs[:128], data.labels[:128]
        back = {}
        for label, (act, gain, init) in KINDS.items():
            net = mlp(
                data.size, 100, self.back_depth, 10, activation=act, init=init, gain=gain,
                seed=bench.seed,
            )  # fmt: skip
            record = measure(net, batch)
            back[label] = [
                float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[:-1]
            ]
        selu, span = back["SELU"], self.back_depth - 1
        numbers["selu_growth"] = (selu[0] / selu[-1]) ** (1 / span)
        numbers["selu_gradient_ratio"] = selu[0] / selu[-1]
        numbers["tanh_gradient_ratio"] = back["tanh, orthogonal"][0] / back["tanh, orthogonal"][-1]
        nets = [self._make(label, data.size, bench.seed) for label in TRAINED]
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        for label, score in zip(TRAINED, trained.accuracy, strict=True):
            numbers[f"trained_{label}"] = score
        series = {"paths": paths, "elu": faded, "elu_kept": kept, "theory": theory, "back": back}
        return Measured(numbers, series)

    def _make(self, label: str, size: int, seed: int) -> nn.Module:
        act, init, drop = TRAINED[label]
        net = mlp(size, self.narrow, self.trained_depth, 10, activation=act, init=init, seed=seed)
        if not drop:
            return net
        parts: list[nn.Module] = []
        for layer in net:
            parts.append(layer)
            if isinstance(layer, nn.SELU):
                parts.append(nn.AlphaDropout(drop) if "alpha" in label else nn.Dropout(drop))
        return nn.Sequential(*parts)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (forward, elu, back, bars) = figures.new(
            "SELU draws every start to variance 1, but its gradient grows by "
            f"{numbers['selu_growth']:.3f} per layer (theory {numbers['selu_growth_theory']:.3f})",
            4,
            width=3.9,
            height=4.0,
        )
        layers = list(range(1, result.settings["depth"] + 1))
        for index, (start, path) in enumerate(told["paths"].items()):
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            forward.plot(layers, [p[1] for p in path], label=f"std, start {start}", **style)
            forward.plot(layers, [p[0] for p in path], **style | {"alpha": 0.45})
        forward.axhline(1, color="black", linewidth=1)
        forward.axhline(0, color="black", linewidth=1)
        forward.set(xlabel="layer", ylabel="std, mean (pale)", xlim=(0, 40), ylim=(-0.7, 2.6))
        forward.set_title("SELU, forward")
        forward.legend(loc="upper right")
        every = layers[::4]
        figures.theory(elu, layers, told["theory"], label="theory")
        for index, (key, label) in enumerate((("elu", "gain 1"), ("elu_kept", "gain 1.25"))):
            stds = [told[key][k - 1][1] for k in every]
            means = [told[key][k - 1][0] for k in every]
            figures.measured(elu, every, stds, index, label=f"std, {label}")
            figures.measured(elu, every, means, index + 2, label=f"mean, {label}")
        elu.set(xlabel="layer", ylabel="of the activations", ylim=(-0.05, 1.35))
        elu.set_title("ELU, forward")
        elu.legend(loc="upper right", ncols=2, fontsize=9)
        for index, (label, values) in enumerate(told["back"].items()):
            count = len(values)
            places = list(range(1, count + 1))[:: max(1, count // 16)]
            shown = [values[k - 1] / values[-1] for k in places]
            figures.measured(back, places, shown, index, label=label)
        law = [numbers["selu_growth_theory"] ** (count - k) for k in places]
        figures.theory(back, places, law, label="theory, SELU")
        back.set(yscale="log", xlabel="layer", ylabel="gradient, over the last")
        back.set_ylim(back.get_ylim()[0], back.get_ylim()[1] * 100)
        back.set_title("backward")
        back.legend(loc="upper right")
        scores = [numbers[f"trained_{label}"] for label in TRAINED]
        names = ["LeCun's\nweights", "nn.Linear's\nweights", "dropout", "alpha\ndropout"]
        made = bars.bar(range(4), scores, 0.6, color=figures.COLORS[:4])
        bars.bar_label(made, [f"{s:.2f}" for s in scores])
        bars.set_xticks(range(4), names, fontsize=10)
        bars.set(ylim=(0, 1.1), ylabel="right")
        bars.set_title(f"{result.settings['trained_depth']} SELU layers, trained")
        return figure


@torch.no_grad()
def moments(
    act: str, gain: float, mean: float, std: float, of: SelfNormalizing, bench: "Bench"
) -> list[list[float]]:
    """Mean and standard deviation of the activations of every layer, over units and inputs."""
    stream = bench.generator(3)
    function = torch.nn.functional.selu if act == "selu" else torch.nn.functional.elu
    x: Tensor = mean + std * torch.randn(200, of.width, generator=stream)
    told = []
    for _ in range(of.depth):
        w = torch.randn(of.width, of.width, generator=stream) * gain / of.width**0.5
        x = function(x @ w)
        told.append([float(x.mean()), float(x.std())])
    return told
