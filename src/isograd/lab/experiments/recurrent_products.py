"""What do many time steps do to a recurrent network, and what can clipping repair?

Recurrent networks with orthogonal recurrent weights times a gain, measured by isograd on random
sequences: state and gradient change by a constant factor per step, for tanh the one that theory
gives. ReLU's states have no bound, and grow with the gain. Then the same networks learn images read
a few pixels per step, with gradients clipped to norm 1 and without: a gain of 1.5 needs the clip, a
gain of 2.5 is beyond it, for what explodes there is the output itself.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd import theory
from isograd.lab import figures
from isograd.lab.expected import above, below, near
from isograd.lab.experiment import Answer, Experiment, Measured
from isograd.lab.networks import seeded
from isograd.probe.measuring import measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.images import Images
    from isograd.lab.result import Result

STEPS = (("tanh", (0.5, 0.7, 0.9, 1.0, 1.2, 1.5, 2.0)), ("relu", (0.5, 0.7, 0.9, 1.0, 1.2, 1.4)))
"""Gains that are measured."""
RUNS = (
    ("gain 1, clipped", 1.0, 1.0),
    ("gain 1.5", 1.5, math.inf),
    ("gain 1.5, clipped", 1.5, 1.0),
    ("gain 2.5, clipped", 2.5, 1.0),
)
"""Name, gain, and norm that gradients are clipped to, of the networks that are trained."""
RATE = "theory is for independent weights at every step; width 64 and shared ones stray by 2 %"


@dataclass(frozen=True)
class RecurrentProducts(Experiment):
    code: ClassVar[str] = "recurrent-products"
    data: ClassVar[tuple[str, ...]] = ("mnist", "digits")
    answers: ClassVar[tuple[Answer, ...]] = (
        Answer(
            "S1.45",
            "true",
            "At a gain of 2.5 the loss is astronomic before the first step, and clipping the "
            "gradient does not bring it down: what explodes is the output. A bounded activation "
            "keeps the state, and its gradient explodes alone.",
            (
                above("loss_start", 1e6, "2.5 / sqrt(2) per step over 64 steps is 6e15"),
                above("loss_clipped", 1e3, "steps of norm 1 against it"),
                above("growth_relu", 1.2, "2 / sqrt(2) per step; draws scatter by 0.1"),
                near("growth_tanh", 1.0, "bounded: its state is level at a gain of 2", abs=0.01),
                above("gradient_tanh_2", 1.01, "theory's 1.047"),
            ),
        ),
        Answer(
            "H12",
            "true",
            "The factor per step is sqrt(gain^2 E phi'^2), at the size that state and input lead "
            "to. Clipping trains networks that end as NaN without it.",
            (
                near("gradient_tanh_0.9", "gradient_tanh_0.9_theory", RATE, rel=0.04),
                near("gradient_tanh_1.5", "gradient_tanh_1.5_theory", RATE, rel=0.04),
                near("gradient_relu_1", "gradient_relu_1_theory", "draws scatter by 3 %", rel=0.08),
                above("finite_clipped", 0.99, "share of networks with a finite loss at the end"),
                below("finite_free", 0.7, "most draws of gain 1.5 end as NaN without the clip"),
                below("loss_moderate", 2.25, "below chance, ln 10, after the first steps"),
            ),
        ),
    )
    scales: ClassVar = {"fast": {"time": 64, "steps": 30, "seeds": 3}}

    time: int = 112
    """Steps over an image; it divides the number of pixels."""
    width: int = 64
    """Units of the state."""
    steps: int = 60
    """Of training, batches of 100."""
    lr: float = 0.05
    """Learning rate; momentum 0.9."""
    seeds: int = 3
    """Networks of every kind."""

    def run(self, bench: "Bench") -> Measured:
        numbers: dict[str, Any] = {}
        stream = bench.generator()
        batch = (
            torch.randn(64, 64, 8, generator=stream),
            torch.randint(10, (64,), generator=stream),
        )
        rates: dict[str, list[float]] = {}
        laws: dict[str, list[float]] = {}
        for act, gains in STEPS:
            rates[act], laws[act] = [], []
            for gain in gains:
                found = [
                    self._rates(act, gain, bench.seed + s, batch)[1] for s in range(self.seeds)
                ]
                rates[act].append(math.exp(sum(found) / len(found)))
                laws[act].append(factor(act, gain))
                numbers[f"gradient_{act}_{gain:g}"] = rates[act][-1]
                numbers[f"gradient_{act}_{gain:g}_theory"] = laws[act][-1]
        for act in ("tanh", "relu"):
            found = [self._rates(act, 2.0, bench.seed + s, batch)[0] for s in range(self.seeds)]
            numbers[f"growth_{act}"] = math.exp(sum(found) / len(found))

        data = bench.data.flat().standardized()
        losses = {}
        for name, gain, clip in RUNS:
            runs = [self._train(data, gain, clip, bench.seed + s) for s in range(self.seeds)]
            losses[name] = torch.tensor(runs)
        ends = {name: rows[:, -5:].mean(1) for name, rows in losses.items()}
        numbers |= {
            "loss_start": losses["gain 2.5, clipped"][:, 0].median(),
            "loss_clipped": ends["gain 2.5, clipped"].median(),
            "finite_free": ends["gain 1.5"].isfinite().float().mean(),
            "finite_clipped": ends["gain 1.5, clipped"].isfinite().float().mean(),
            "loss_moderate": ends["gain 1.5, clipped"].median(),
        }
        series = {
            "gains": dict(STEPS),
            "rates": rates,
            "theory": laws,
            "losses": {
                name: rows.nan_to_num(1e38, 1e38).median(0).values for name, rows in losses.items()
            },
        }
        return Measured(numbers, series)

    def _rates(
        self, act: str, gain: float, seed: int, batch: tuple[Tensor, Tensor]
    ) -> tuple[float, float]:
        """Change of ln rms of the state per step, and of the gradient per step back."""
        record = measure(Reader(batch[0].shape[-1], self.width, act, gain, seed), batch)
        site = next(i for i, one in enumerate(record.sites) if one.kind == "recurrent")
        return (
            float(record.value("forward.time_growth", site) or 0),
            float(record.value("backward.time_decay", site) or 0),
        )

    def _train(self, data: "Images", gain: float, clip: float, seed: int) -> list[float]:
        """Loss before every step."""
        net = Reader(data.size // self.time, self.width, "relu", gain, seed)
        optimizer = torch.optim.SGD(net.parameters(), self.lr, momentum=0.9)
        losses = []
        for x, y in data.batches(self.steps, 100, seed=seed):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x.view(len(x), self.time, -1)), y)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    def figure(self, result: "Result") -> "Figure":
        told, numbers = result.series, result.numbers
        figure, (rate, course) = figures.new(
            "Clipping trains a recurrent ReLU network of gain 1.5; at 2.5 its loss begins at "
            f"{numbers['loss_start']:.0e} and stays",
            2,
            width=5.8,
        )
        for index, act in enumerate(told["gains"]):
            label = None if index else "theory"
            figures.theory(rate, told["gains"][act], told["theory"][act], label=label)
            figures.measured(rate, told["gains"][act], told["rates"][act], index, label=act)
        rate.axhline(1, color=figures.GRAY, linewidth=1, linestyle=":")
        rate.set(xlabel="gain of the recurrent weights", ylabel="gradient, factor per step back")
        rate.set_title("before training, random sequences")
        rate.legend()
        shown = {
            name: [min(max(v, 1e-1), 1e38) for v in values]
            for name, values in told["losses"].items()
        }
        figures.lines(course, list(range(result.settings["steps"])), shown)
        course.set(yscale="log", xlabel="step", ylabel="training loss, median", ylim=(0.5, 1e39))
        course.set_title(f"ReLU, {result.settings['time']} steps per image; at the top: NaN")
        course.legend(loc="center right")
        return figure


class Reader(nn.Module):
    """A recurrent layer, orthogonal weights times a gain, and a head on its last state."""

    def __init__(self, inputs: int, width: int, act: str, gain: float, seed: int) -> None:
        super().__init__()
        with seeded(seed):
            self.rnn = nn.RNN(inputs, width, nonlinearity=act, batch_first=True)
            self.head = nn.Linear(width, 10)
            for name, parameter in self.rnn.named_parameters():
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(parameter, gain)
                elif name.startswith("weight_ih"):
                    nn.init.normal_(parameter, std=inputs**-0.5)
                else:
                    nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of sequences [batch, time, inputs]."""
        states, _ = self.rnn(x)
        logits: Tensor = self.head(states[:, -1])
        return logits


def factor(act: str, gain: float) -> float:
    """Theory's factor on the gradient's rms per step back."""
    there = theory.recurrence(act, weight_var=gain**2, input_var=1.0, input_correlation=0.0)
    # Without a fixed point, as ReLU has none from sqrt(2) on, its slopes are still those of 1/2.
    return math.sqrt(there.chi_1) if there.chi_1 is not None else gain / math.sqrt(2)
