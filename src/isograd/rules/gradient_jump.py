"""A gradient that jumps while a network trains."""

import math
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import over_steps
from isograd.rules._numbers import counted, show
from isograd.rules._remembering import remembered
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import cures, latest, looks, suffers


@dataclass(frozen=True)
class GradientJump(Rule):
    """The norm of the gradient has jumped.

    Sees: the norm of the whole gradient at every look of a watched run; the latest two looks beside
        the looks before, by the median and by how much these vary among themselves.

    Matters: a step is as large as the gradient it follows. A jump says that the weights have come
        where the loss is much steeper, or that a batch is broken; without clipping the steps that
        follow undo what was learned. It often shows some steps before the loss does.

    Wrong when: the network leaves the plateau on which it started, where the gradient grows by
        itself; as long as the loss is at its best a jump is information, and a single look never
        counts.

    Do: clip the gradient norm to what it was before; lower the learning rate; look at the batches
        of these steps.
    """

    code: ClassVar[str] = "IG105"
    rank: ClassVar[int] = 60
    explains: ClassVar[tuple[str, ...]] = ("IG610", "IG604", "IG609")

    past: int = 5
    """Looks before that make a usual size, and its variation."""
    jump: float = 10.0
    """Times the usual norm; over epochs and schedules it drifts by less."""
    errors: float = 6.0
    """Standard deviations of ln norm among the looks before that are no news."""
    again: int = 2
    """Latest looks all of which must show it."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the latest norms with those before."""
        norms = [(look.step, norm) for look in looks(reading) if (norm := _norm(look))]
        if len(norms) < self.past + self.again:
            return NotApplicable(
                f"a gradient is known of {counted(len(norms), 'look')}, {self.past + self.again} "
                "are needed (isograd.watch makes them)"
            )
        logs = [math.log(norm) for _, norm in norms[: -self.again]]
        usual = median(logs)
        spread = 1.4826 * median(abs(log - usual) for log in logs)  # of a Gaussian
        now = min(norm for _, norm in norms[-self.again :])
        rise = math.log(now) - usual
        told = f"the gradient norm is {show(now)}, usually {show(math.exp(usual))}"
        if rise < max(math.log(self.jump), self.errors * spread):
            return Passed(told)
        return Finding(
            self.code,
            Severity.WARNING if suffers(reading) else Severity.INFO,
            "lr-too-high",
            f"At step {norms[-1][0]} {told}: {show(math.exp(rise))} times as large for "
            f"{self.again} looks in a row.",
            _loudest(latest(reading, "weight.grad_rms")),
            {"norm": now, "usual": math.exp(usual), "step": norms[-1][0]},
            (f"Clip the gradient norm to {show(2 * math.exp(usual))}.", *cures(reading)[:1]),
            self.explains if suffers(reading) else (),
        )

    @staticmethod
    def sick() -> Reading:
        """Thirty times the usual norm, and a loss that rises."""
        return _example(30.0)

    @staticmethod
    def well() -> Reading:
        """Three times the usual norm."""
        return _example(3.0)


@remembered
def _norm(record: Record) -> float:
    """Norm of the gradient of all parameters; 0 where nothing is known of it."""
    squares = sum(
        rms**2 * math.prod(record.parameters[i].shape)
        for i, rms in record.pairs("weight.grad_rms")
        if rms < _HUGE
    )
    return math.sqrt(squares)


_HUGE = 1e150
"""Sizes whose squares are finite."""


def _loudest(record: Record) -> tuple[str, ...]:
    """The parameter with the largest gradient."""
    sizes = dict(record.pairs("weight.grad_rms"))
    return (record.parameters[max(sizes, key=lambda i: sizes[i])].name,) if sizes else ()


def _example(times: float) -> Reading:
    losses = [2.3 * 0.97**k for k in range(60)] + [1.9] * 40
    gradients = [1e-3 * 1.2 ** (-1) ** k for k in range(8)] + [1e-3 * times] * 2
    return over_steps({"weight.grad_rms": gradients}, losses, facts={"optimizer.lr": 0.1})
