"""When is a ReLU dead, and can it come back?

Networks of three ReLU layers, He's weights, biases of 0, -1 and -3, trained by SGD. A unit that is
off for one sample is not dead; a dead one is off for every sample of the data. With biases of -1
most units of the deeper layers begin dead and the network learns all the same: those of the first
layer stay dead, for their inputs never change, those of deeper layers come back as the layers below
them move. With biases of -3 nothing passes, and nothing comes back.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from isograd.lab import figures
from isograd.lab.expected import above, below, between, exactly
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import Fleet
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

BIASES = (0.0, -1.0, -3.0)
REVIVED = (
    "a deeper layer's inputs move with the weights below it; over seeds 5 to 60 of 100 come back"
)


@dataclass(frozen=True)
class DeadUnits(Experiment):
    code: ClassVar[str] = "dead-units"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.33",
            "imprecise",
            "One negative input silences the unit for that sample only. At He's initialization "
            "half of all pairs of unit and sample are off, and no unit is dead: dead is off for "
            "all of the data.",
            (
                between("off_share", 0.4, 0.6, "half, by symmetry; units of one layer correlate"),
                below("dead_0_start", 3.0, "of 300: off for each of 2000 samples by chance"),
                exactly("dead_by_isograd", "dead_by_hand", "the same units, counted by the probe"),
            ),
        ),
        Answer(
            "S1.34",
            "true",
            "Biases of -3 kill nearly all units of three layers, and the network never learns; "
            "with -1 enough of them are left.",
            (
                above("dead_3_last", 90.0, "of 100 units; their inputs are 0"),
                below("accuracy_3", 0.25, "one class for all"),
                above("accuracy_1", 0.85, "0.92, seeds scatter by 0.01", on=("mnist",)),
                above("accuracy_1", 0.35, "fewer samples and steps", on=("digits",)),
            ),
        ),
        Answer(
            "S1.35",
            "true",
            "Where all inputs are positive and all weights negative, every unit is dead.",
            (exactly("dead_negative_weights", 100.0, "a sum of negative numbers is negative"),),
        ),
        Answer(
            "S1.36",
            "true",
            "And where a whole layer is dead, the network gives one output for everything.",
            (exactly("spread_3", 0.0, "the last layer is dead: its outputs are 0, not nearly 0"),),
        ),
        Answer(
            "S1.37",
            "wrong",
            "Only of the first layer, whose inputs never change (and there weight decay or a "
            "norm can bring units back). In deeper layers dead units revive while the layers "
            "below them move.",
            (
                exactly("revived_first", 0.0, "no gradient, no momentum, no decay: it cannot move"),
                above("revived_last", 5.0, REVIVED),
            ),
        ),
        Answer(
            "X7",
            "true",
            "",
            (above("revived_last", 5.0, REVIVED),),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 200, "every": 5, "seeds": 2}}

    width: int = 100
    """Units of each of the three layers."""
    steps: int = 470
    """Of training, batches of 100."""
    every: int = 10
    """Steps between two counts of dead units."""
    lr: float = 0.1
    """Learning rate of SGD, without momentum: a dead unit's velocity would move it on."""
    seeds: int = 3
    """Networks per bias."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        shown = data.inputs[:2000]
        nets = []
        for bias in BIASES:
            for seed in range(self.seeds):
                net = mlp(data.size, self.width, 3, 10, init="he", seed=bench.seed + seed)
                for module in list(net)[:-1]:
                    if isinstance(module, nn.Linear):
                        nn.init.constant_(module.bias, bias)
                nets.append(net)
        fleet = Fleet(nets, lr=self.lr, optimizer="plain-sgd")
        counts = [dead(fleet, shown)]  # [networks, layers, units] each
        for step, (x, y) in enumerate(data.batches(self.steps, 100, seed=bench.seed), 1):
            fleet.step(x, y)
            if step % self.every == 0:
                counts.append(dead(fleet, shown))
        course = torch.stack(counts)
        accuracy = fleet.accuracy(data.test_inputs, data.test_labels).view(len(BIASES), -1)
        by_layer = course.sum(-1).double().view(len(course), len(BIASES), self.seeds, 3).mean(2)
        begun = course[0]
        revived = (begun & ~course).any(0).sum(-1).double().view(len(BIASES), self.seeds, 3)
        record = measure(nets[self.seeds], (shown, data.labels[: len(shown)]))
        units = [i for i, site in enumerate(record.sites) if site.kind == "relu"]
        rates = active(nets[0], shown)
        outputs = nets[-1](shown)
        numbers: dict[str, Any] = {
            "off_share": 1 - rates.mean(),
            "dead_0_start": by_layer[0, 0].sum(),
            "dead_by_isograd": self.width * float(record.value("forward.dead", units[-1]) or 0),
            "dead_by_hand": begun[self.seeds, -1].sum(),
            "dead_3_last": by_layer[0, 2, 2],
            "accuracy_0": accuracy[0].mean(),
            "accuracy_1": accuracy[1].mean(),
            "accuracy_3": accuracy[2].mean(),
            "spread_3": outputs.double().std(0).max(),
            "dead_negative_weights": negative(self.width, data.scaled().inputs[:2000]),
            "revived_first": revived[1, :, 0].max(),
            "revived_last": revived[1, :, 2].mean(),
        }
        for layer in range(3):
            numbers[f"dead_1_layer{layer + 1}_start"] = by_layer[0, 1, layer]
            numbers[f"dead_1_layer{layer + 1}_end"] = by_layer[-1, 1, layer]
        series = {
            "steps": [self.every * i for i in range(len(course))],
            "dead": by_layer[:, 1].T,
            "rates": [torch.histogram(r, 10, range=(0.0, 1.0)).hist for r in rates],
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (rate, course) = figures.new(
            f"Dead ReLUs come back: {numbers['revived_last']:.0f} of the third layer did, "
            f"{numbers['revived_first']:.0f} of the first",
            2,
        )
        middles = [0.05 + 0.1 * i for i in range(10)]
        rows = {f"layer {i + 1}": row for i, row in enumerate(told["rates"])}
        for index, (name, row) in enumerate(rows.items()):
            look = {k: v for k, v in figures.look(index).items() if k != "marker"}
            rate.plot(middles, row, drawstyle="steps-mid", label=name, **look)
        rate.set(xlabel="share of samples for which a unit is on", ylabel="units", xlim=(0, 1))
        rate.set_title("bias 0: half are off, hardly any is dead")
        rate.legend()
        rows = {f"layer {i + 1}": row for i, row in enumerate(told["dead"])}
        figures.lines(course, told["steps"], rows)
        course.set(xlabel="step", ylabel="dead units of 100", ylim=(0, None))
        course.set_title(f"bias -1: learns to {numbers['accuracy_1']:.0%}, while units revive")
        course.legend()
        return figure


@torch.no_grad()
def active(net: nn.Module, inputs: Tensor) -> Tensor:
    """Share of samples for which each unit is on, [layers, units]."""
    rates, x = [], inputs
    for module in net.children():
        x = module(x)
        if isinstance(module, nn.ReLU):
            rates.append((x > 0).float().mean(0))
    return torch.stack(rates)


@torch.no_grad()
def dead(fleet: Fleet, inputs: Tensor) -> Tensor:
    """Which units are off for every sample, [networks, layers, units]."""
    found, x = [], inputs.expand(len(fleet), *inputs.shape)
    for name in ("1", "3", "5"):
        weight, bias = (fleet.parameters[f"{name}.{part}"] for part in ("weight", "bias"))
        x = torch.baddbmm(bias[:, None], x, weight.mT).relu_()
        found.append((x == 0).all(1))
    return torch.stack(found, 1)


def negative(width: int, inputs: Tensor) -> float:
    """Dead units of a layer of negative weights, for inputs of 0 to 1."""
    layer = nn.Linear(inputs.shape[1], width, bias=False)
    with torch.no_grad():
        layer.weight.copy_(-layer.weight.abs())
        return float(((inputs - inputs.min()) @ layer.weight.T <= 0).all(0).sum())
