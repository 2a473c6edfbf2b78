"""What happens if all weights begin at zero, or at one constant?

Two hidden layers of 64 units whose weights are all zero, and networks whose units are all equal,
trained like any other. Which tensors get a gradient, how far the loss falls, and how many
independent units there are afterwards. ReLU and tanh networks learn nothing but how frequent the
classes are. A sigmoid network of zeros does learn: its hidden outputs are 1/2, so that the head has
a gradient; but its units stay equal for ever, and it is a network of width 1.
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
from isograd.lab.fleet import train
from isograd.lab.networks import mlp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

NETS = {
    "ReLU, zeros": ("relu", "zero"),
    "tanh, zeros": ("tanh", "zero"),
    "sigmoid, zeros": ("sigmoid", "zero"),
    "tanh, one constant": ("tanh", "constant"),
    "tanh, equal units": ("tanh", "equal"),
    "tanh, random": ("tanh", "random"),
}
TENSORS = ("$W_1$", "$b_1$", "$W_2$", "$b_2$", "$W_3$", "$b_3$")
PRIOR = "the entropy of the labels, as far as so many steps come; batches add noise"


@dataclass(frozen=True)
class ZeroInitialization(Experiment):
    code: ClassVar[str] = "zero-initialization"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S3.50",
            "imprecise",
            "True of ReLU and tanh but for the bias of the head, which learns how frequent the "
            "classes are. With sigmoids the hidden outputs are 1/2, the head's weights have a "
            "gradient, and the network learns, as one of width 1.",
            (
                exactly("relu_weight_gradient", 0.0, "zero times anything"),
                exactly("tanh_weight_gradient", 0.0, "zero times anything"),
                above("relu_bias_gradient", 1e-3, "class frequencies differ from 1/10"),
                near("relu_loss", "prior", PRIOR, abs=0.03),
                near("tanh_loss", "prior", PRIOR, abs=0.03),
                above("sigmoid_weight_gradient", 1e-3, "hidden outputs are 1/2"),
                below("sigmoid_loss", "relu_loss", "it learns more than the frequencies"),
            ),
        ),
        Answer(
            "S3.51",
            "imprecise",
            "Equal units have equal gradients and stay equal but for rounding, yet they learn: as "
            "one unit. Only if the head is one constant too does nothing reach the hidden layers, "
            "since the errors of a softmax sum to 0.",
            (
                below("equal_spread", 1e-6, "equal numbers; a CPU may add them in another order"),
                exactly("equal_rank", 1.0, "all rows are one"),
                below("equal_loss", "below_prior", "a network of width 1 learns"),
                below("constant_gradient", 1e-6, "rounding of a sum that is 0"),
                exactly("isograd_equal", 1.0, "isograd reports IG301, equal units"),
            ),
        ),
        Answer(
            "X14",
            "true",
            "It ends where a network of width 1 can end.",
            (
                above("sigmoid_accuracy", 0.15, "more than the largest class"),
                below("sigmoid_accuracy", 0.5, "one number per sample cannot tell ten classes"),
                exactly("sigmoid_rank", 1.0, "all rows are one"),
                below("sigmoid_spread", 1e-6, "equal numbers; a CPU may add them in another order"),
            ),
        ),
        Answer(
            "S3.F8",
            "true",
            "The question, and its answer by activation.",
            (above("random_accuracy", "sigmoid_accuracy", "units that differ"),),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 250, "lr": 0.2}}

    width: int = 64
    """Units of both hidden layers."""
    steps: int = 470
    """Of training, batches of 100."""
    lr: float = 0.1
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        nets = [self._make(*kind, data, bench.seed) for kind in NETS.values()]
        batch = data.inputs[:500], data.labels[:500]
        gradients = {name: rms_gradients(n, *batch) for name, n in zip(NETS, nets, strict=True)}
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        share = torch.bincount(data.labels).double() / len(data.labels)
        prior = -float((share * share.log()).sum())
        numbers: dict[str, Any] = {"prior": prior, "below_prior": prior - 0.1}
        for index, (name, (act, kind)) in enumerate(NETS.items()):
            key = act if kind == "zero" else kind
            after = trained.models[index]
            second = list(after.parameters())[2].detach().double()
            with torch.no_grad():
                loss = nn.functional.cross_entropy(after(data.inputs[:5000]), data.labels[:5000])
            numbers |= {
                f"{key}_loss": loss,
                f"{key}_accuracy": trained.accuracy[index],
                f"{key}_rank": torch.linalg.matrix_rank(second),
                f"{key}_spread": (second - second[0]).abs().max(),
                f"{key}_weight_gradient": max(gradients[name][::2]),
                f"{key}_bias_gradient": gradients[name][-1],
            }
        numbers["constant_gradient"] = max(gradients["tanh, one constant"][:4])
        found = check(nets[list(NETS).index("tanh, equal units")], batch)
        numbers["isograd_equal"] = float(any(f.code == "IG301" for f in found.findings))
        return Measured(numbers, {"gradients": gradients, "losses": smooth(trained.losses)})

    def _make(self, act: str, kind: str, data: "Images", seed: int) -> nn.Module:
        net = mlp(data.size, self.width, 2, 10, activation=act, init="xavier", seed=seed)
        if kind == "random":
            return net
        with torch.no_grad():
            for index, parameter in enumerate(net.parameters()):
                if kind == "equal" and index == 4:
                    # A small one that differs by class only.
                    parameter.copy_(0.2 * parameter[:, :1].expand_as(parameter))
                else:
                    parameter.fill_(0.0 if kind == "zero" or index % 2 else 0.02)
        return net

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (bars, course) = figures.new(
            f"Zeros: ReLU and tanh learn class frequencies only ({numbers['relu_accuracy']:.0%} "
            f"right), sigmoid learns as a network of width 1 ({numbers['sigmoid_accuracy']:.0%})",
            2,
            width=6.0,
        )
        shown = [name for name in NETS if NETS[name][1] != "random"]
        least = 1e-12
        for index, name in enumerate(shown):
            heights = [max(g, least) for g in told["gradients"][name]]
            places = [k + 0.16 * (index - 2) for k in range(6)]
            bars.bar(
                places, heights, 0.15, color=figures.COLORS[index], label=name,
                hatch=("", "//", "..", "xx", "")[index],
            )  # fmt: skip
        bars.set_xticks(range(6), TENSORS)
        bars.set(yscale="log", ylim=(least, 1e5), ylabel="rms of the gradient")
        bars.set_title("before the first step; no bar: exactly 0")
        bars.legend(loc="upper left", ncols=2)
        for index, name in enumerate(NETS):
            style = {k: v for k, v in figures.look(index).items() if k != "marker"}
            values = told["losses"][index]
            steps = [10 * k + 5 for k in range(len(values))]
            course.plot(steps, values, label=name, **style)
        course.axhline(numbers["prior"], color="black", linewidth=1.2, linestyle=":")
        course.set(xlabel="step", ylabel="training loss", ylim=(0, 3.4))
        course.set_title("dotted: class frequencies only")
        course.legend(loc="upper right", ncols=2)
        return figure


def rms_gradients(net: nn.Module, x: Tensor, labels: Tensor) -> list[float]:
    """Rms of the gradient of every parameter."""
    loss = nn.functional.cross_entropy(net(x), labels)
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    return [math.sqrt(float(g.double().square().mean())) for g in gradients]


def smooth(losses: Tensor, over: int = 10) -> list[list[float]]:
    """Means over so many steps, one row per network."""
    rows = losses[: len(losses) // over * over].T.reshape(losses.shape[1], -1, over).mean(2)
    return [[round(float(v), 4) for v in row] for row in rows]
