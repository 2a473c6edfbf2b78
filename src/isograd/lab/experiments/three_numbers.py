"""Which three numbers tell of forward, backward and update, and does reading them change anything?

A network is trained twice, once under `isograd.watch`, which looks at every step and reads per
layer the rms of the activations, of the gradients, and of the update against the weights. All three
are compared with the same numbers taken by hand, and the two trainings with each other, bit by bit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.lab import figures
from isograd.lab.expected import below, exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import mlp
from isograd.watching import watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result
    from isograd.watching import Watch

WORDS = {
    "forward": "rms of the activations",
    "backward": "rms of the gradient at the output",
    "update": "update / weight, rms",
}
ROUNDING = "the same sums in another order: rounding of float32 signals"


@dataclass(frozen=True)
class ThreeNumbers(Experiment):
    code: ClassVar[str] = "three-numbers"
    data: ClassVar[tuple[str, ...]] = ("digits",)
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S0.4",
            "true",
            "The rms of the signal, of the gradient, and of the update against the weight tell of "
            "each of the three, at every layer and step. Reading them changes no bit.",
            (
                below("error_forward", 1e-5, ROUNDING),
                below("error_backward", 1e-5, ROUNDING),
                below(
                    "error_update",
                    0.15,
                    "updates are read from 1,024 of the weights, which strays by 3 %; the largest "
                    "of all layers and steps",
                ),
                exactly("looks", "steps", "every step is looked at"),
                exactly("changed", 0.0, "weights and losses with and without are equal"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 15}}

    steps: int = 60
    """Of training, batches of 100."""
    depth: int = 4
    """Hidden layers."""
    width: int = 64
    """Units of each."""
    lr: float = 0.05
    """Learning rate; momentum 0.9."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        alone, losses, by_hand, _ = self._train(data, bench.seed, look=False)
        watched, seen_losses, _, seen = self._train(data, bench.seed, look=True)
        numbers: dict[str, Any] = {"steps": self.steps, "looks": len(seen)}
        for word in WORDS:
            hand = torch.tensor([row[word] for row in by_hand], dtype=torch.float64)
            told = torch.tensor([row[word] for row in seen], dtype=torch.float64)
            numbers[f"error_{word}"] = ((told - hand).abs() / hand).max()
        equal = [
            torch.equal(a, b) for a, b in zip(alone.parameters(), watched.parameters(), strict=True)
        ]
        numbers["changed"] = float(not all(equal) or losses != seen_losses)
        series = {word: torch.tensor([row[word] for row in seen]).T for word in WORDS}
        return Measured(numbers, series)

    def _train(
        self, data: "Images", seed: int, *, look: bool
    ) -> tuple[nn.Module, list[float], list[dict[str, list[float]]], list[dict[str, list[float]]]]:
        net = mlp(
            data.size, self.width, self.depth, 10, activation="tanh", init="xavier", seed=seed
        )
        layers = [m for m in net if isinstance(m, nn.Linear)][: self.depth]
        optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9)
        session = watch(net, optimizer, every=1, sinks=(), on_finding=None) if look else None
        losses: list[float] = []
        hand, seen = [], []
        outputs: list[Tensor] = []
        if session is not None:
            session.open()
        else:
            for layer in layers:
                layer.register_forward_hook(lambda _module, _inputs, out: outputs.append(out))
        for x, y in data.batches(self.steps, 100, seed=seed):
            outputs.clear()
            before = [m.weight.detach().clone() for m in layers]
            optimizer.zero_grad()
            out = net(x)
            for one in outputs:
                one.retain_grad()
            loss = F.cross_entropy(out, y)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if session is None:
                moved = zip(layers, before, strict=True)
                hand.append(
                    {
                        "forward": [rms(z) for z in outputs],
                        "backward": [rms(z.grad) for z in outputs if z.grad is not None],
                        "update": [rms(m.weight.detach() - w) / rms(w) for m, w in moved],
                    }
                )
            else:
                seen.append(told(session))
        if session is not None:
            session.close()
        return net, losses, hand, seen

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, panels = figures.new(
            f"Three numbers per layer and step, read by isograd.watch at {numbers['looks']:.0f} "
            "steps without changing a bit of the training",
            3,
            width=4.9,
        )
        steps = list(range(1, len(told["forward"][0]) + 1))
        for axes, (word, label) in zip(panels, WORDS.items(), strict=True):
            rows = {f"layer {i}": row for i, row in enumerate(told[word], 1)}
            figures.lines(axes, steps, rows)
            axes.set(yscale="log", xlabel="step", ylabel=label)
            axes.set_title(word)
        panels[2].legend(ncols=2)
        return figure


def told(session: "Watch") -> dict[str, list[float]]:
    """The three numbers of the hidden layers at the latest look."""
    record = session.record
    assert record is not None
    sites = record.weight_sites()[:-1]
    weights = [
        p for s in sites for p in record.sites[s].parameters if record.parameters[p].is_weight
    ]
    return {
        "forward": [float(record.value("forward.rms", s) or 0) for s in sites],
        "backward": [float(record.value("backward.rms", s) or 0) for s in sites],
        "update": [float(record.value("weight.update_ratio", i) or 0) for i in weights],
    }


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.detach().double().square().mean().sqrt())
