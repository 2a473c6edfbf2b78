"""Inputs whose scale changes while a network trains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import chain, run
from isograd.rules._numbers import counted, fact, show
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OF_TRAINING, OVER_TIME
from isograd.rules._watched import suffers


class _Look(NamedTuple):
    step: int
    mean: float
    std: float


class _Shift(NamedTuple):
    before: _Look
    after: _Look
    """The looks on both sides of the change."""
    scale: float
    """How many times as large or as small the standard deviation is, at the least."""
    offset: float
    """By how many of the standard deviations before the mean has moved, at the least."""


@dataclass(frozen=True)
class InputShift(Rule):
    """The inputs have changed their scale.

    Sees: mean and standard deviation of the first floating-point input at every look of a watched
        run. A change is one that all looks since agree on, beyond all that the looks just
        before it differ among themselves.

    Matters: what was learned so far was learned for inputs of another size: the first layer's
        output, and everything behind it, leaves the range that it was in. A loader that
        stops to normalize after an epoch, or a second data set in other units, does this; the
        loss shows a spike or a new plateau, and nothing says why.

    Wrong when: it was meant so: the next stage of a curriculum, other data on purpose. A change
        of less than ten times that the loss does not mind is information.

    Do: print mean and standard deviation of the inputs before and after that step; normalize all of
        them by the same numbers.
    """

    code: ClassVar[str] = "IG611"
    rank: ClassVar[int] = 2
    explains: ClassVar[tuple[str, ...]] = (*OF_TRAINING, *OVER_TIME)

    past: int = 3
    """Looks before the change, at the least."""
    near: int = 8
    """Of how many looks before it the extremes count: what came and went long ago is no news."""
    again: int = 2
    """Looks since, at the least: single odd batches come and go."""
    scale: float = 2.0
    """Times the standard deviation. A batch's varies by some percent; images in 0..1 in place of
    normalized ones differ three fold."""
    offset: float = 1.0
    """Standard deviations that the mean moves."""
    much: float = 10.0
    """Times, or standard deviations, from which it is a warning whatever the loss says: raw pixels,
    or other units."""

    def judge(self, reading: Reading) -> Outcome:
        """Looks for the step that parts the looks best."""
        seen = [look for record in (reading.seen, *reading.history) if (look := _look(record))]
        if len(seen) < self.past + self.again:
            return NotApplicable(
                f"the inputs are known of {counted(len(seen), 'look')}, {self.past + self.again} "
                "are needed (isograd.watch makes them, of inputs that are no ids)"
            )
        shifts = [
            _shift(seen[max(0, k - self.near) : k], seen[k:])
            for k in range(self.past, len(seen) - self.again + 1)
        ]
        worst = max(
            shifts, key=lambda shift: max(shift.scale / self.scale, shift.offset / self.offset)
        )
        if worst.scale < self.scale and worst.offset < self.offset:
            return Passed(f"standard deviation {show(seen[0].std)} to {show(seen[-1].std)}")
        before, after = worst.before, worst.after
        small = max(worst.scale, worst.offset) < self.much
        calm = small and suffers(reading) is False
        return Finding(
            self.code,
            Severity.INFO if calm else Severity.WARNING,
            "data-bug",
            f"Between steps {before.step} and {after.step} the inputs changed: their mean from "
            f"{show(before.mean)} to {show(after.mean)}, their standard deviation from "
            f"{show(before.std)} to {show(after.std)}.",
            evidence={
                "step": after.step,
                "batch.mean": [before.mean, after.mean],
                "batch.std": [before.std, after.std],
            },
            remedies=(
                "Print mean and standard deviation of the inputs before and after that step, and "
                "normalize all of them by the same numbers.",
            ),
            explains=() if calm else self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Normalized images, from the sixth look on as they are in the file."""
        return over_inputs([(0.0, 1.0)] * 5 + [(33.3, 78.6)] * 4)

    @staticmethod
    def well() -> Reading:
        """A batch is not the next."""
        return over_inputs([(0.0, 1.0)] * 5 + [(0.08, 1.15)] * 4)


def _look(record: Record) -> _Look | None:
    mean, std = fact(record, "batch.mean"), fact(record, "batch.std")
    return None if mean is None or std is None else _Look(record.step, mean, std)


def _shift(before: Sequence[_Look], after: Sequence[_Look]) -> _Shift:
    """What lies between the extremes of two stretches of looks."""
    old, new = [look.std for look in before], [look.std for look in after]
    grown, shrunk = _ratio(min(new), max(old)), _ratio(min(old), max(new))
    first, last = [look.mean for look in before], [look.mean for look in after]
    moved = max(min(last) - max(first), min(first) - max(last), 0.0)
    return _Shift(before[-1], after[0], max(grown, shrunk), _ratio(moved, max(old)))


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.inf if above > 0 else 0.0


def over_inputs(levels: Sequence[tuple[float, float]], *, worse: bool = True) -> Reading:
    """A watched run, with one (mean, standard deviation) per look; `worse`: its loss jumps."""
    looks = []
    for k, (mean, std) in enumerate(levels):
        facts = {"batch.mean": mean + 0.01 * (-1) ** k, "batch.std": std * 1.05 ** (-1) ** k}
        looks.append(chain(3, facts=facts, step=10 * k))
    losses = [2.3 * 0.97**k for k in range(90)]
    return run(*looks, losses=losses[:50] + [1.9] * 40 if worse else losses)
