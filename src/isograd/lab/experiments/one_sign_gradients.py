"""What do inputs that are all positive do to the gradient of a neuron?

The gradient of weight i is the upstream gradient times input i. All inputs positive: all weights
move up together or down together, one sample at a time. Counted on sigmoid and tanh features, on
raw and on centered pixels, and for batches of growing size; then a path to an optimum that lies
where one sign cannot lead. With batches the constraint is gone, yet the harm is not: features with
a common mean are badly conditioned, more so with every dimension.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below, exactly, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

BATCHES = (1, 4, 16, 64)
COSINE = 0.25 / 0.29338
"""Of two sigmoid features: squared mean over second moment."""
DIMENSIONS = (2, 8, 32, 128, 512)


@dataclass(frozen=True)
class OneSignGradients(Experiment):
    code: ClassVar[str] = "one-sign-gradients"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.7",
            "true",
            "nn.Linear and an activation, against the sum written out.",
            (below("neuron_error", 1e-6, "rounding of a float32 sum"),),
        ),
        Answer(
            "S3.8",
            "true",
            "For every single sample. Mean gradients of batches may differ in sign, yet features "
            "with a common mean agree still: with random errors two of them do in 82 % of all "
            "batches, 1 - arccos(rho) / pi, rho the cosine of the features.",
            (
                exactly("one_sign_sigmoid", 1.0, "all inputs are above 0: no exception"),
                near("one_sign_tanh", "one_sign_tanh_theory", "2^(1 - d) over signs that are "
                     "independent; four standard errors", abs=0.013),
                near("one_sign_batch", "one_sign_batch_theory", "three standard errors of 125 "
                     "batches, the fewest", abs=0.11),
                near("isograd_raw", 1.0, "isograd's weight.grad_sign on one raw sample", abs=0.02),
                below("isograd_centered", 0.9, "the same on a centered one: both signs are there"),
            ),
        ),
        Answer(
            "S3.9",
            "imprecise",
            "Two of four quadrants, and two of 2^d orthants, one sample at a time. What is x_i is "
            "the derivative of the pre-activation, dz/dw_i; the loss's is that times dL/dz.",
            (
                exactly("quadrants", 2.0, "signs (+, +) and (-, -)"),
                below("local_error", 1e-6, "dL/dw_i against x_i dL/dz; rounding"),
            ),
        ),
        Answer(
            "S3.10",
            "imprecise",
            "With single samples, yes: three times the straight line. With full batches the path "
            "is straight, and slow all the same: the condition number is what is left of it.",
            (
                above("path_single", 2.0, "over the straight line; 2.4 to 4 over seeds"),
                below("path_full", 1.15, "no zig-zag: 1 is a straight line"),
                exactly("same_sign_steps", 1.0, "every single-sample step, by construction"),
                above("steps_full", "steps_centered", "conditioning costs steps"),
                above("condition_full", 5.0, "sigmoid features of two dimensions: about 12"),
                below("condition_centered", 1.5, "centered features of 200 samples"),
            ),
        ),
        Answer(
            "S3.11",
            "true",
            "As a condition number: it grows in proportion to the dimension, as the mean's "
            "direction takes d times the energy of any other.",
            (
                near("condition_slope", 1.0, "log-log slope; sampling noise of the smallest "
                     "eigenvalue adds to it", abs=0.15),
                near("condition_512", "condition_512_theory",
                     "1 + d m^2/v, times the spread of a sample covariance (Marchenko-Pastur), "
                     "whose extreme values fluctuate by a tenth", rel=0.15),
            ),
        ),
        Answer(
            "S3.42",
            "true",
            "Shares of single samples and first-layer units whose weight gradients have one sign.",
            (
                exactly("raw_one_sign", 1.0, "no pixel is below 0"),
                below("centered_one_sign", 0.01, "hundreds of pixels of both signs"),
            ),
        ),
        Answer(
            "S3.F3",
            "true",
            "Redrawn; the full batch beside it goes straight.",
            (exactly("quadrants", 2.0, "drawn from the gradients that were counted"),),
        ),
    )  # fmt: skip
    scales: ClassVar = {"fast": {"samples": 8000}}

    samples: int = 20_000
    """Random samples of the counts."""
    lr: float = 0.8
    """Of the path's steps, over the largest eigenvalue of the second-moment matrix."""

    def run(self, bench: "Bench") -> Measured:
        stream = bench.generator()
        z = torch.randn(self.samples, 8, generator=stream)
        error = torch.randn(self.samples, 1, generator=stream)
        numbers: dict[str, Any] = {
            "one_sign_sigmoid": one_sign(torch.sigmoid(z) * error),
            "one_sign_tanh": one_sign(torch.tanh(z[:, :6]) * error),
            "one_sign_tanh_theory": 2.0**-5,
        }
        pair = torch.sigmoid(z[:, :2]) * error
        numbers["quadrants"] = float(len({tuple(row) for row in pair.sign().tolist()}))
        by_batch = [one_sign(pair[: self.samples // b * b].view(-1, b, 2).mean(1)) for b in BATCHES]
        numbers["one_sign_batch"] = by_batch[-1]
        numbers["one_sign_batch_theory"] = 1 - math.acos(COSINE) / math.pi
        numbers |= neuron(bench)
        numbers |= pixels(bench)
        paths, more = zigzag(bench.generator(1), self.lr)
        numbers |= more
        rows: dict[str, list[float]] = {"sigmoid": [], "centered": [], "theory": []}
        for d in DIMENSIONS:
            x = torch.sigmoid(torch.randn(4000, d, generator=stream, dtype=torch.float64))
            rows["sigmoid"].append(condition(x))
            rows["centered"].append(condition(x - x.mean(0)))
            # Variance of sigmoid(z) is 0.208^2, its mean 1/2; eigenvalues of a sample covariance
            # spread over (1 +- sqrt(d/n))^2 (Marchenko and Pastur 1967).
            least = (1 - math.sqrt(d / 4000)) ** 2
            rows["theory"].append((1 + d * 0.25 / 0.04338) / least)
        numbers["condition_512"] = rows["sigmoid"][-1]
        numbers["condition_512_theory"] = rows["theory"][-1]
        corrected = [
            c * (1 - math.sqrt(d / 4000)) ** 2
            for c, d in zip(rows["sigmoid"], DIMENSIONS, strict=True)
        ]
        numbers["condition_slope"] = math.log(corrected[-1] / corrected[1]) / math.log(
            DIMENSIONS[-1] / DIMENSIONS[1]
        )
        series = {"by_batch": by_batch, "paths": paths, "conditions": rows, "pairs": pair[:300]}
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (quadrants, batches, path, grown) = figures.new(
            "Positive inputs leave a neuron two quadrants per sample; batches lift that, not "
            f"the bad conditioning ({numbers['condition_512']:.0f} at 512 inputs)",
            4,
            width=3.9,
            height=4.0,
        )
        x, y = zip(*told["pairs"], strict=True)
        figures.measured(quadrants, x, y, 0)
        quadrants.axhline(0, color="black", lw=1)
        quadrants.axvline(0, color="black", lw=1)
        for place in ((0.25, 0.75), (0.75, 0.25)):
            quadrants.text(*place, "never", transform=quadrants.transAxes, ha="center")
        quadrants.set(xlabel="gradient of $w_1$", ylabel="gradient of $w_2$")
        quadrants.set(xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
        quadrants.set_title("one dot, one sample")
        figures.measured(batches, BATCHES, told["by_batch"], 0, joined=True)
        limit = numbers["one_sign_batch_theory"]
        figures.theory(batches, BATCHES, [limit] * len(BATCHES), label="theory, large batches")
        batches.legend(loc="lower left")
        batches.set(xscale="log", xlabel="batch size", ylabel="share of one sign", ylim=(0, 1.05))
        batches.set_title("mean gradients of batches")
        labels = {"single": "single samples", "full": "full batch", "centered": "centered, full"}
        for index, (name, label) in enumerate(labels.items()):
            a, b = zip(*told["paths"][name], strict=True)
            style = figures.look(index) | {"markersize": 3.5, "linewidth": 1.2}
            path.plot(a, b, label=label, **style)
        path.plot([1], [-1], "*", color="black", markersize=13)
        path.set(xlabel="$w_1$", ylabel="$w_2$", ylim=(-1.5, 1.25))
        path.set_title("to the optimum (star)")
        path.legend(loc="upper right")
        figures.theory(grown, DIMENSIONS, told["conditions"]["theory"])
        figures.measured(grown, DIMENSIONS, told["conditions"]["sigmoid"], 0, label="sigmoid")
        figures.measured(grown, DIMENSIONS, told["conditions"]["centered"], 2, label="centered")
        grown.set(xscale="log", yscale="log", xlabel="inputs", ylabel="condition number")
        grown.set_title("worse with dimension")
        grown.legend(loc="upper left")
        return figure


def one_sign(gradients: Tensor) -> float:
    """Share of rows whose entries that are not 0 have one sign."""
    return float(((gradients >= 0).all(1) | (gradients <= 0).all(1)).double().mean())


def condition(x: Tensor) -> float:
    """Of the second-moment matrix of the rows."""
    values = torch.linalg.eigvalsh(x.T @ x / len(x))
    return float(values[-1] / values[0])


def neuron(bench: "Bench") -> dict[str, float]:
    """One neuron against its formula, and its weight gradients against x_i dL/dz."""
    stream = bench.generator(2)
    x, w = torch.randn(7, generator=stream), torch.randn(7, generator=stream, requires_grad=True)
    layer = nn.Linear(7, 1)
    with torch.no_grad():
        layer.weight.copy_(w[None])
        layer.bias.fill_(0.3)
    out = torch.sigmoid(layer(x)).detach()
    by_hand = 1 / (1 + math.exp(-float((x.double() * w.detach().double()).sum()) - 0.3))
    z = layer(x)
    upstream, gradient = torch.autograd.grad(-torch.log(torch.sigmoid(z)).sum(), [z, layer.weight])
    return {
        "neuron_error": abs(float(out) - by_hand),
        "local_error": float((gradient[0] - upstream * x).abs().max()),
    }


def pixels(bench: "Bench") -> dict[str, float]:
    """First-layer weight gradients of single images, raw and centered."""
    data = bench.data.flat().scaled().take(100)
    numbers = {}
    for name, inputs in (("raw", data.inputs), ("centered", data.inputs - data.inputs.mean(0))):
        net = mlp(data.size, 32, 1, 10, activation="tanh", init="lecun", seed=bench.seed)
        signs = []
        for x, y in zip(inputs[:50], data.labels[:50], strict=True):
            loss = nn.functional.cross_entropy(net(x[None]), y[None])
            (gradient,) = torch.autograd.grad(loss, next(net.parameters()))
            signs.append(one_sign(gradient))
        numbers[f"{name}_one_sign"] = sum(signs) / len(signs)
        # Pixels of 0 have no gradient; isograd counts the signs of the others.
        kept = inputs[0] != 0
        small = mlp(int(kept.sum()), 32, 1, 10, activation="tanh", init="lecun", seed=bench.seed)
        record = measure(small, (inputs[:1, kept], data.labels[:1]))
        numbers[f"isograd_{name}"] = float(record.value("weight.grad_sign", 0) or 0)
    return numbers


def zigzag(stream: torch.Generator, lr: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Least squares on two features, optimum (1, -1): paths, and what is to be said of them."""
    features = torch.sigmoid(1.4 * torch.randn(200, 2, generator=stream, dtype=torch.float64))
    best = torch.tensor([1.0, -1.0], dtype=torch.float64)
    paths: dict[str, Any] = {}
    numbers: dict[str, float] = {}
    for name in ("single", "full", "centered"):
        x = features - features.mean(0) if name == "centered" else features
        moment = x.T @ x / len(x)
        rate = lr / float(torch.linalg.eigvalsh(moment)[-1])
        w, path, same = torch.zeros(2, dtype=torch.float64), [], []
        for step in range(400):
            path.append(w.tolist())
            if float((w - best).norm()) < 0.1:
                break
            if name == "single":
                row = x[step % len(x)]
                gradient = row * (row @ (w - best))
                same.append(bool(gradient[0] * gradient[1] >= 0))
            else:
                gradient = moment @ (w - best)
            w = w - rate * gradient
        paths[name] = [[round(v, 4) for v in point] for point in path]
        points = torch.tensor(path)
        numbers[f"steps_{name}"] = len(path) - 1
        numbers[f"path_{name}"] = float((points[1:] - points[:-1]).norm(dim=1).sum()) / float(
            points[-1].norm()
        )
        numbers[f"condition_{name}"] = condition(x)
        if same:
            numbers["same_sign_steps"] = sum(same) / len(same)
    return paths, numbers
