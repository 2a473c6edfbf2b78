"""Weights that grow without end."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import over_steps
from isograd.rules._numbers import finite, show
from isograd.rules._rates import steps_to_blame
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import NOW, Over, cures, over, suffers


@dataclass(frozen=True)
class WeightGrowth(Rule):
    """The weights grow without end.

    Sees: the rms of every weight at every look of a watched run: how many times it has grown over
        the first looks, beyond the size that fits where it started smaller, and whether it still
        grows.

    Matters: every layer multiplies the signal by its weights, so that ten layers which have grown
        threefold have it grown 60,000 fold: activations saturate or overflow and the loss becomes
        steep. Behind a norm the size is taken out again, and growth slows learning down.

    Wrong when: weights start near zero on purpose; what they need to fit is allowed for. Logits of
        a network that is always right grow for ever, slowly: as long as the loss is at its best
        only growth that no learning explains counts.

    Do: decay the weights (weight_decay of 1e-4 to 1e-1, AdamW rather than Adam); lower the learning
        rate; look for a sign error where a penalty is added to the loss.
    """

    code: ClassVar[str] = "IG307"
    rank: ClassVar[int] = 62
    explains: ClassVar[tuple[str, ...]] = ("IG105", "IG209", "IG610")

    looks: int = 4
    """Looks needed: the median of three, and something to compare it with."""
    times: float = 10.0
    """Growth of a weight; those of healthy networks grow up to fivefold over long training."""
    beyond: float = 30.0
    """Growth that no learning explains, whatever the loss does."""
    still: float = 1.02
    """Growth over the latest looks by which it still goes on."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the size of now with that of the start."""
        column = over(reading, "weight.rms", fewest=self.looks)
        if isinstance(column, NotApplicable):
            return column
        seen = reading.seen
        times = {
            i: growth
            for i, p in enumerate(seen.parameters)
            if p.is_weight and (growth := _growth(reading, column, i)) is not None
        }
        if not times:
            return NotApplicable("no weight has a size to compare with (they start at zero)")
        worst = max(times, key=lambda i: times[i])
        told = f"{seen.parameters[worst].name} has grown {show(times[worst])} fold"
        grown = [i for i in times if times[i] > self.times and self._goes_on(column, i)]
        if worst not in grown:
            return Passed(f"{told} at most")
        senseless = times[worst] > self.beyond
        ill = suffers(reading)
        return Finding(
            self.code,
            Severity.WARNING if senseless or ill else Severity.INFO,
            "lr-too-high",
            f"{told} by step {column.steps[-1]} and still grows ({len(grown)} of {len(times)} "
            f"weights have grown more than {show(self.times)} fold).",
            tuple(seen.parameters[i].name for i in sorted(grown, key=lambda i: -times[i])),
            {"growth": times[worst], "weights": len(grown), "step": column.steps[-1]},
            cures(reading) if steps_to_blame(reading) else (DECAY, *cures(reading)[:1]),
            self.explains if ill else (),
        )

    def _goes_on(self, column: Over, row: int) -> bool:
        latest = [v for v in column.rows[row][-2 * NOW :] if v]
        return len(latest) > 1 and latest[-1] > self.still * latest[0]

    @staticmethod
    def sick() -> Reading:
        """Doubles every ten steps, while the loss gets worse."""
        return _example(2.0)

    @staticmethod
    def well() -> Reading:
        """Grows by five percent every ten steps."""
        return _example(1.05)


DECAY = "Decay the weights: AdamW with weight_decay=0.01."


def _growth(reading: Reading, column: Over, row: int) -> float | None:
    """How many times larger than at the start, or than fits if it started smaller."""
    seen, now = reading.seen, column.now(row)
    start = finite(column.rows[row][0])
    if now is None or not start:
        return None
    gain, fit = seen.value("weight.gain", row), seen.value("weight.gain_fit", row)
    small = max(1.0, fit / gain) if gain and fit and gain > 0 else 1.0
    return now / (start * small)


def _example(factor: float) -> Reading:
    losses = [2.3 * 0.97**k for k in range(60)] + [1.9] * 40
    sizes = [0.1 * factor**k for k in range(10)]
    return over_steps({"weight.rms": sizes}, losses, facts={"optimizer.lr": 0.1})
