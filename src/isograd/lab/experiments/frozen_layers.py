"""Do untrained early layers ruin a network?

Networks of three hidden layers whose first layers are frozen as they were drawn, so that only the
later ones learn. Random ReLU layers cost a few percent each: they lose little of the signal. Random
sigmoid layers by Xavier's weights cost as much as the whole network: not since they are inaccurate,
but since they leave nearly the same output for every input, as isograd's record says.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from isograd.lab import figures
from isograd.lab.expected import above, below
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.fleet import train
from isograd.lab.networks import mlp
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

FORMS = {"relu": "he", "sigmoid": "xavier"}


@dataclass(frozen=True)
class FrozenLayers(Experiment):
    code: ClassVar[str] = "frozen-layers"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.24",
            "imprecise",
            "Random early layers are a fair basis, as long as they keep inputs apart: three "
            "frozen ReLU layers cost a tenth, of which a linear readout of the same features "
            "makes the rest. Sigmoid layers that collapse the signal cost far more.",
            (
                below("cost_relu_1", 0.06, "0.02 on MNIST; seeds scatter by 0.01"),
                below("cost_relu_3", 0.25, "0.11 on MNIST"),
                above("accuracy_relu_3", 0.7, "a linear readout of three random layers"),
                above("sigmoid_over_relu", 1.5, "what three frozen layers cost, sigmoid over ReLU"),
                above("spread_ratio", 5.0, "spread over inputs against rms: sigmoids are alike"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"steps": 200, "seeds": 1, "width": 128}}

    width: int = 256
    """Units of every layer."""
    steps: int = 470
    """Of training, batches of 100."""
    lr: float = 0.1
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of every kind."""

    def run(self, bench: "Bench") -> Measured:
        data = bench.data.flat().standardized()
        nets: list[nn.Module] = []
        for act, init in FORMS.items():
            for frozen in range(4):
                for seed in range(self.seeds):
                    net = mlp(
                        data.size,
                        self.width,
                        3,
                        10,
                        activation=act,
                        init=init,
                        seed=bench.seed + seed,
                    )
                    for layer in [m for m in net if isinstance(m, nn.Linear)][:frozen]:
                        layer.requires_grad_(requires_grad=False)
                    nets.append(net)
        trained = train(nets, data, steps=self.steps, lr=self.lr, seed=bench.seed)
        scores = trained.accuracy.view(len(FORMS), 4, self.seeds)
        numbers: dict[str, Any] = {}
        spreads = {}
        batch = data.inputs[:200], data.labels[:200]
        for index, act in enumerate(FORMS):
            for frozen in range(4):
                numbers[f"accuracy_{act}_{frozen}"] = scores[index, frozen].mean()
                numbers[f"cost_{act}_{frozen}"] = (
                    scores[index, 0].mean() - scores[index, frozen].mean()
                )
            record = measure(nets[index * 4 * self.seeds], batch)
            spreads[act] = [
                float(record.value("forward.spread", i) or 0)
                / float(record.value("forward.rms", i) or 1)
                for i in record.weight_sites()[:-1]
            ]
        numbers["sigmoid_over_relu"] = numbers["cost_sigmoid_3"] / max(0.01, numbers["cost_relu_3"])
        numbers["spread_ratio"] = spreads["relu"][-1] / spreads["sigmoid"][-1]
        series = {
            "accuracy": {act: scores[i].mean(1) for i, act in enumerate(FORMS)},
            "range": {
                act: (scores[i].amax(1) - scores[i].amin(1)) / 2 for i, act in enumerate(FORMS)
            },
            "spreads": spreads,
        }
        return Measured(numbers, series)

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (score, spread) = figures.new(
            f"Three frozen random ReLU layers cost {numbers['cost_relu_3']:.0%}, sigmoid ones "
            f"{numbers['cost_sigmoid_3']:.0%}: it is the signal that they keep",
            2,
        )
        names = {"relu": "ReLU, He", "sigmoid": "sigmoid, Xavier"}
        for index, act in enumerate(FORMS):
            figures.measured(
                score,
                range(4),
                told["accuracy"][act],
                index,
                label=names[act],
                spread=told["range"][act],
                joined=True,
            )
            figures.measured(
                spread, range(1, 4), told["spreads"][act], index, label=names[act], joined=True
            )
        score.set(xlabel="frozen layers of three", ylabel="right on the test set", ylim=(0, 1.02))
        score.set_xticks(range(4))
        score.set_title("what freezing costs")
        score.legend(loc="lower left")
        spread.set(yscale="log", xlabel="layer", ylabel="spread over inputs / rms")
        spread.set_xticks(range(1, 4))
        spread.set_title("how far inputs are kept apart, at the start")
        spread.legend()
        return figure
