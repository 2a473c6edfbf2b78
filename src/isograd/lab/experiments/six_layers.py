"""Six layers, five initializations: what do the activations of each look like, and what trains?

The lecture's experiment: wide tanh and ReLU layers on random inputs, weights of std 0.01 and 0.05
at a width of 4096, Xavier's and He's, at the width chosen here with the same gain. Theory's length
map beside every measured standard deviation, gradients going back, and networks of the same gains
trained on data. With 0.01 the signal shrinks and gradients of weights are equal all the same; with
0.05 a third of the units saturate and gradients do not vanish but explode. Both train.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.checking import check
from isograd.lab import figures
from isograd.lab.expected import above, below, between, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp, seeded
from isograd.prediction.predicting import predict
from isograd.probe.measuring import measure
from isograd.theory import activation, length_map, trajectory
from isograd.theory.averages import averages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

LAYERS = 6
WIDTH = 4096
"""Of the lecture's layers, at which 0.01 is a gain of 0.64."""
INITS = {
    "tanh, 0.01": ("tanh", 0.01 * WIDTH**0.5),
    "tanh, 0.05": ("tanh", 0.05 * WIDTH**0.5),
    "tanh, Xavier": ("tanh", 1.0),
    "ReLU, Xavier": ("relu", 1.0),
    "ReLU, He": ("relu", 2**0.5),
}
"""By name: activation, gain sqrt(fan_in) rms(w)."""
BAND = "theory is for infinite width; six layers stray by sqrt(6 / width) or less"


@dataclass(frozen=True)
class SixLayers(Experiment):
    code: ClassVar[str] = "six-layers"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.52",
            "imprecise",
            "The std alone says nothing: 0.01 is a gain of 0.64 at a width of 4096 and of 0.23 at "
            "512. At 512 six layers leave a 10,000th of the signal, at 4096 a 20th.",
            (
                near("std_6_tanh_0.01", "theory_6_tanh_0.01", BAND, rel=0.08),
                below("theory_6_narrow", 1e-3, "length map at a gain of 0.226"),
            ),
        ),
        Answer(
            "S3.53",
            "wrong",
            "With 0.01 activations shrink to 0.05, but the gradients of all six weights are equal, "
            "since what shrinks forward meets what shrinks backward; it trains. With 0.05 a third "
            "of the units saturate, the mean derivative is 0.28, and the gradient explodes "
            "backward by 1.4 per layer; it trains too, a little worse.",
            (
                near("worst_std", 1.0, "largest ratio of a layer's std to theory's, or its "
                     "inverse; " + BAND, abs=0.2),
                near("weights_tanh_0.01", 1.0, "first over last; one seed strays", abs=0.3),
                above("weights_tanh_0.05", 3.0, "1.4 per layer over five layers is 5.6"),
                between("saturated_tanh_0.05", 0.28, 0.4, "share of |a| > 0.99 in layer 6"),
                near("slope_tanh_0.05", 0.279, "mean of 1 - a^2 in layer 6", abs=0.02),
                above("accuracy_tanh_0.01", 0.85, "trained at the same gain"),
                above("accuracy_tanh_0.05", 0.7, "trained at the same gain"),
            ),
        ),
        Answer(
            "X2",
            "true",
            "By 1.4 per layer, as chi = gain^2 E phi'^2 says.",
            (
                near("back_tanh_0.05", "back_theory_tanh_0.05", "per layer; " + BAND, rel=0.08),
                above("back_tanh_0.05", 1.2, "it grows going back"),
            ),
        ),
        Answer(
            "E1",
            "imprecise",
            "A third of the units lie beyond 0.99, and two thirds do not.",
            (between("saturated_tanh_0.05", 0.28, 0.4, "share of |a| > 0.99 in layer 6"),),
        ),
        Answer(
            "E2",
            "true",
            "For weights of zero mean, whatever the mean of the inputs; k^2 C for a convolution.",
            (
                near("linear_variance", 1.0, "measured over fan_in E x^2 E w^2; 3e5 outputs that "
                     "share weights", abs=0.1),
                near("conv_variance", 1.0, "the same with fan_in = 9 x 5", abs=0.06),
            ),
        ),
        Answer(
            "E3",
            "true",
            "By 1/sqrt(2), half of the energy.",
            (near("factor_relu_xavier", 0.5**0.5, BAND, rel=0.05),),
        ),
        Answer(
            "E4",
            "true",
            "And it is a rule about the fan: dividing by sqrt(2 / fan_in), as some notes have it, "
            "makes each layer fan_in / 2 times larger; isograd names it.",
            (
                near("factor_relu_he", 1.0, BAND, rel=0.05),
                below(
                    "predicted_off", 5.0, "rms of every layer of five networks, isograd's "
                    "prediction against its measurement, in standard deviations of the band",
                ),
                exactly("isograd_inverted", 1.0, "isograd reports IG302, a gain that does not fit"),
            ),
        ),
    )  # fmt: skip
    scales: ClassVar = {
        "fast": {"width": 768, "batch": 16, "steps": 100, "seeds": 1, "narrow": 96},
    }

    width: int = 2048
    """Units of the layers whose activations are looked at."""
    batch: int = 16
    """Random inputs, as in the lecture."""
    narrow: int = 256
    """Units of the networks that are trained."""
    steps: int = 235
    """Of training, batches of 100."""
    lr: float = 0.02
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Trained networks of each kind."""

    def run(self, bench: "Bench") -> Measured:
        numbers: dict[str, Any] = {"worst_std": 1.0}
        series: dict[str, Any] = {"std": {}, "theory": {}, "back": {}, "histogram": {}}
        for name, (act, gain) in INITS.items():
            key = name.replace(", ", "_").lower()
            found = self._layers(act, gain, bench)
            q, theory = gain**2, []
            for _ in range(LAYERS):
                of = averages(activation(act), q)
                # Over units and inputs, as the lecture takes it: the mean is taken off.
                theory.append(math.sqrt(of.square - of.mean**2))
                q = length_map(act, q, weight_var=gain**2)
            std, slope, back, weights, last = found
            for a, b in zip(std, theory, strict=True):
                numbers["worst_std"] = max(numbers["worst_std"], a / b, b / a)
            chi = averages(activation(act), q).slope_square * gain**2
            rms = std if act == "tanh" else [s / math.sqrt(1 - 1 / math.pi) for s in std]
            numbers |= {
                f"std_6_{key}": std[-1],
                f"theory_6_{key}": theory[-1],
                f"saturated_{key}": (last.abs() > 0.99).double().mean(),
                f"slope_{key}": slope,
                f"weights_{key}": weights[0] / weights[-1],
                # Between the second and the last layer: at the first, q is still on its way.
                f"back_{key}": (back[1] / back[-1]) ** (1 / (LAYERS - 2)),
                f"back_theory_{key}": math.sqrt(chi),
                f"factor_{key}": (rms[-1] / rms[0]) ** (1 / (LAYERS - 1)),
            }
            series["std"][name], series["theory"][name] = std, theory
            series["back"][name] = [b / back[-1] for b in back]
            top = 1.0 if act == "tanh" else 3.0
            counts = torch.histc(last, 40, -top if act == "tanh" else 0.0, top)
            series["histogram"][name] = [round(float(c) / last.numel(), 5) for c in counts]
        q = trajectory("tanh", LAYERS, weight_var=(0.01 * 512**0.5) ** 2, q0=0.0512).q
        numbers["theory_6_narrow"] = math.sqrt(float(q[LAYERS - 1]))
        numbers |= variances(bench.generator(5))
        data = bench.data.flat().standardized()
        nets = [
            mlp(data.size, self.narrow, LAYERS, 10, activation=act, init="lecun", gain=gain,
                seed=bench.seed + s)
            for act, gain in INITS.values() for s in range(self.seeds)
        ]  # fmt: skip
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        scores = trained.accuracy.view(-1, self.seeds)
        for name, score in zip(INITS, scores, strict=True):
            numbers[f"accuracy_{name.replace(', ', '_').lower()}"] = score.mean()
        batch = data.inputs[:256], data.labels[:256]
        numbers["predicted_off"] = max(prediction_off(net, batch) for net in nets[:: self.seeds])
        inverted = mlp(64, 128, LAYERS, 10, init="he", seed=bench.seed)
        with torch.no_grad():
            for layer in inverted:
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(layer.in_features / 2)
        x = torch.randn(64, 64, generator=bench.generator(6))
        codes = {f.code for f in check(inverted, (x, torch.arange(64) % 10)).findings}
        numbers["isograd_inverted"] = float("IG302" in codes)
        return Measured(numbers, series)

    def _layers(
        self, act: str, gain: float, bench: "Bench"
    ) -> tuple[list[float], float, list[float], list[float], Tensor]:
        """Std by layer, mean derivative of the last, gradients of activations and weights."""
        function = torch.tanh if act == "tanh" else torch.relu
        with seeded(bench.seed + 1):
            x = torch.randn(self.batch, self.width)
            outs: list[Tensor] = []
            weights = []
            for _ in range(LAYERS):
                w = (gain / self.width**0.5 * torch.randn(self.width, self.width)).requires_grad_()
                x = function(x @ w)
                x.retain_grad()
                weights.append(w)
                outs.append(x)
            (x * torch.randn_like(x)).sum().backward()
        last = outs[-1].detach()
        slope = float((1 - last**2).mean()) if act == "tanh" else float((last > 0).float().mean())
        back = [rms(out.grad) for out in outs]
        return (
            [float(out.detach().std()) for out in outs],
            slope,
            back,
            [rms(w.grad) for w in weights],
            last.flatten(),
        )

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, panels = figures.new(
            "At 0.01 tanh layers fade and still train "
            f"({numbers['accuracy_tanh_0.01']:.0%}); at 0.05 a third of the units saturate and "
            f"gradients explode, ×{numbers['back_tanh_0.05']:.1f} per layer",
            4,
            width=3.7,
            height=3.3,
            rows=2,
        )
        layers = list(range(1, LAYERS + 1))
        forward, backward, *rest = panels
        for index, name in enumerate(INITS):
            figures.theory(forward, layers, told["theory"][name], label=None if index else "theory")
            figures.measured(forward, layers, told["std"][name], index, label=name)
            figures.measured(backward, layers, told["back"][name], index, joined=True)
        forward.set(yscale="log", ylim=(0.03, 9), xlabel="layer", ylabel="std of activations")
        forward.set_title("forward")
        forward.legend(loc="upper left", ncols=2, fontsize=9)
        backward.set(yscale="log", xlabel="layer", ylabel="gradient, over the last")
        backward.set_title("backward")
        for axes, name in zip(rest, INITS, strict=False):
            counts = told["histogram"][name]
            low, high = (-1.0, 1.0) if name.startswith("tanh") else (0.0, 3.0)
            step = (high - low) / len(counts)
            places = [low + step * (k + 0.5) for k in range(len(counts))]
            index = list(INITS).index(name)
            axes.bar(places, counts, step, color=figures.COLORS[index])
            axes.set(xlabel="activation of layer 6", yscale="log", ylim=(1e-4, 1.5))
            axes.set_title(name)
        keys = [name.replace(", ", "_").lower() for name in INITS]
        scores = [numbers[f"accuracy_{key}"] for key in keys]
        rest[-1].barh(range(len(INITS)), scores, color=figures.COLORS[: len(INITS)])
        rest[-1].set_yticks(range(len(INITS)), list(INITS))
        rest[-1].invert_yaxis()
        rest[-1].set(xlim=(0, 1.0), xlabel="right on the test set")
        rest[-1].set_title(f"after {result.settings['steps']} steps")
        return figure


def rms(x: Tensor | None) -> float:
    """Root of the mean square."""
    return 0.0 if x is None else math.sqrt(float(x.double().square().mean()))


def prediction_off(net: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
    """Worst |ln(measured rms / predicted rms)| of a weight layer's output, over its band."""
    seen, expected = measure(net, batch), predict(net, batch)
    worst = 0.0
    for a, b in zip(seen.weight_sites(), expected.weight_sites(), strict=True):
        off = math.log(float(seen.value("forward.rms", a) or 0))
        off -= math.log(float(expected.value("forward.rms", b) or 0))
        worst = max(worst, abs(off) / float(expected.value("forward.band", b) or math.inf))
    return worst


def variances(stream: torch.Generator) -> dict[str, float]:
    """Variance of outputs over fan_in E x^2 E w^2, inputs of a mean of their own."""
    x = 0.7 + torch.randn(1000, 5, 12, 12, generator=stream)
    w = 0.1 * torch.randn(300, 5, 3, 3, generator=stream)
    conv = nn.functional.conv2d(x[:200], w)
    flat = x.flatten(1)
    dense = 0.1 * torch.randn(flat.shape[1], 300, generator=stream)
    linear = flat @ dense
    return {
        "linear_variance": rms(linear) ** 2 / (len(dense) * rms(flat) ** 2 * rms(dense) ** 2),
        "conv_variance": rms(conv) ** 2 / (w[0].numel() * rms(x[:200]) ** 2 * rms(w) ** 2),
    }
