"""When does a small gradient become exactly zero?

Products of 1/4 in every number format, counted. Then sigmoid networks by Xavier at several depths,
run in fp16, bf16 and fp32: the share of the first layer's gradient entries that are exactly zero,
without and with loss scaling, and by how much a layer shrinks the gradient, against theory's
sqrt(chi) per layer. At last the norm: in fp32 it is zero long before its entries are, since it adds
up their squares.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
FORMAT = "a property of the number format, counted; no tolerance"


@dataclass(frozen=True)
class Underflow(Experiment):
    code: ClassVar[str] = "underflow"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.8",
            "true",
            "In fp16 after 13 factors of 1/4, in fp32 after 75. Loss scaling buys fp16 "
            "log4(scale) factors more. And a norm underflows first: squares of entries below "
            "1e-23 are 0 in fp32, so that norms want float64 or a rescaling.",
            (
                exactly("zero_fp16", 13, FORMAT),
                exactly("zero_bf16", 67, FORMAT),
                exactly("zero_fp32", 75, FORMAT),
                exactly("zero_fp64", 538, FORMAT),
                exactly("share_fp16_12", 1.0, "every entry, 12 sigmoid layers deep"),
                exactly("share_fp32_12", 0.0, "fp32 has seven more decades twice over"),
                below("share_scaled_12", 0.9, "loss times 2^16 brings entries back"),
                exactly("norm_naive", 0.0, "every square is below 1.4e-45"),
                above("norm_float64", 1e-45, "the same entries, squared in float64"),
            ),
        ),
        Answer(
            "S1.21",
            "true",
            "By Xavier's weights a sigmoid layer leaves 0.236 of it, as theory says.",
            (
                near(
                    "slope",
                    "slope_theory",
                    "the first layers have not come to the fixed point, and width 100 strays by a "
                    "few percent per layer",
                    rel=0.1,
                ),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"depths": (2, 4, 8, 12, 20, 40)}}

    depths: tuple[int, ...] = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30, 40)
    """Hidden layers; 12, 20 and 40 have to be among them."""
    width: int = 100
    """Units of every layer."""
    scale: float = 65536.0
    """Factor on the loss, where it is scaled."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        inputs, labels = data.inputs[:64], data.labels[:64]
        numbers: dict[str, Any] = {
            f"zero_{name}": factors_to_zero(dtype)
            for name, dtype in {**DTYPES, "fp64": torch.float64}.items()
        }
        shares: dict[str, list[float]] = {name: [] for name in (*DTYPES, "scaled")}
        ratios = []
        for depth in self.depths:
            net = mlp(
                data.size, self.width, depth, 10, activation="sigmoid", init="xavier",
                seed=bench.seed,
            )  # fmt: skip
            for name, dtype in DTYPES.items():
                gradient = first_gradient(net, inputs, labels, dtype)
                shares[name].append(float((gradient == 0).double().mean()))
            scaled = first_gradient(net, inputs, labels, torch.float16, self.scale)
            shares["scaled"].append(float((scaled == 0).double().mean()))
            record = measure(net.double(), (inputs.double(), labels))
            energy = [
                float(record.value("backward.rms", i) or 0) for i in record.weight_sites()[:-1]
            ]
            ratios.append(energy[0] / energy[-1])
            net.float()
            if depth == 12:
                numbers |= {f"share_{name}_12": values[-1] for name, values in shares.items()}
            if depth == self.depths[-1]:
                gradient = first_gradient(net, inputs, labels, torch.float32)
                numbers["norm_naive"] = gradient.square().sum().sqrt()
                numbers["norm_float64"] = gradient.double().norm()
                numbers["share_fp32_deepest"] = shares["fp32"][-1]
        deep = [(d, math.log(r)) for d, r in zip(self.depths, ratios, strict=True) if 4 <= d <= 20]
        chi = theory.phase("sigmoid", weight_var=1.0).chi_1 or math.nan
        numbers["slope"] = math.exp((deep[-1][1] - deep[0][1]) / (deep[-1][0] - deep[0][0]))
        numbers["slope_theory"] = math.sqrt(chi)
        series = {"depths": self.depths, "shares": shares, "ratios": ratios}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        depths = told["depths"]
        figure, (zero, decay) = figures.new(
            f"Each sigmoid layer leaves {numbers['slope']:.2f} of the gradient; in fp16 "
            "12 of them leave exactly 0",
            2,
        )
        names = {
            "fp16": "fp16",
            "bf16": "bf16",
            "fp32": "fp32",
            "scaled": f"fp16, loss × {result.settings['scale']:.0f}",
        }
        for index, (name, label) in enumerate(names.items()):
            figures.measured(zero, depths, told["shares"][name], index, label=label, joined=True)
        zero.set(xlabel="hidden layers", ylabel="share of entries that are exactly 0")
        zero.set_ylim(-0.03, 1.35)
        zero.set_title("gradient of the first layer's weights")
        zero.legend(loc="upper left", ncols=2)
        law = [numbers["slope_theory"] ** (d - 1) for d in depths]
        figures.theory(decay, depths, law, label=f"theory: {numbers['slope_theory']:.3f} per layer")
        figures.measured(decay, depths, told["ratios"], 0, label="first layer over last, float64")
        decay.axhline(1e-23, color=figures.GRAY, linewidth=1, linestyle=":")
        decay.text(1, 2e-23, "below: the fp32 norm is 0", va="bottom", color=figures.GRAY)
        decay.set(yscale="log", xlabel="hidden layers", ylabel="gradient, first over last layer")
        decay.set_title("deeper is smaller")
        decay.legend(loc="upper right")
        return figure


def factors_to_zero(dtype: torch.dtype) -> int:
    """Factors of 1/4 after which a product is exactly 0."""
    x, count = torch.ones((), dtype=dtype), 0
    while x != 0:
        x, count = x / 4, count + 1
    return count


def first_gradient(
    net: nn.Module, inputs: Tensor, labels: Tensor, dtype: torch.dtype, scale: float = 1.0
) -> Tensor:
    """Gradient of the first layer's weights, with weights and signals of one number format."""
    parameters = {name: p.detach().to(dtype) for name, p in net.named_parameters()}
    first = next(iter(parameters))
    parameters[first].requires_grad_()
    outputs = torch.func.functional_call(net, parameters, (inputs.to(dtype),))
    loss = F.cross_entropy(outputs.float(), labels) * scale
    (gradient,) = torch.autograd.grad(loss, parameters[first])
    return gradient
