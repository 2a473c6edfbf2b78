"""The course of the loss: where it started, where it went, whether it still falls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, pstdev
from typing import Any

from isograd.records import Reading, Record
from isograd.rules._numbers import finite
from isograd.rules._remembering import remembered
from isograd.sites.chance import uninformed

_PORTIONS = 3
"""A stretch of losses is judged by comparing its first third with its last."""


@dataclass(frozen=True)
class Course:
    """Losses of a rehearsal, one per step, or of a watched run, the older ones thinned out."""

    losses: tuple[float, ...]
    """Finite losses, of a rehearsal up to the first one that is not."""
    broke_at: int | None = None
    """Step of the first non-finite loss that no finite one followed."""
    watched: tuple[int, ...] = ()
    """The steps of the losses of a watched run."""

    @property
    def steps(self) -> int:
        """Number of steps that the losses are of."""
        return self.watched[-1] - self.watched[0] + 1 if self.watched else len(self.losses)

    @property
    def start(self) -> float:
        """The first loss."""
        return self.losses[0]

    @property
    def second_half(self) -> tuple[float, ...]:
        """What is left when the first transient is over."""
        return self.losses[len(self.losses) // 2 :]

    @property
    def latest(self) -> int:
        """Number of steps that the second half is of."""
        half = len(self.losses) // 2
        return self.watched[-1] - self.watched[half] + 1 if self.watched else self.steps - half

    @property
    def level(self) -> float:
        """Mean loss of the second half."""
        return fmean(self.second_half)

    @property
    def noise(self) -> float:
        """Standard deviation of the losses around their course."""
        return noise(self.losses)

    def falls(self, *, errors: float, share: float) -> bool:
        """Whether the loss falls in the second half by more than its noise.

        Args:
            errors: standard errors by which the first third must exceed the last.
            share: share of the level by which it must exceed it.
        """
        half = self.second_half
        third = max(1, len(half) // _PORTIONS)
        before, after = half[:third], half[-third:]
        noise = math.hypot(pstdev(before), pstdev(after)) / math.sqrt(third)
        return fmean(before) - fmean(after) > max(errors * noise, share * abs(self.level))


def noise(losses: Sequence[float]) -> float:
    """Standard deviation of the losses around their course, from their second differences.

    These cancel any steady fall, and their median a steep one at the start, neither of which is
    noise; for independent noise their variance is six times its own.
    """
    bends = [abs(a - 2 * b + c) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)]
    return median(bends) / (_GAUSSIAN_MEDIAN * math.sqrt(6)) if bends else 0.0


_GAUSSIAN_MEDIAN = 0.6745
"""Median of |x| of a standard Gaussian."""

GONE = 3
"""Non-finite losses in a row, up to now, from which a watched run has broken: a single one is
left out by a GradScaler, or by the loop itself, and the next is finite again."""


@remembered
def course(reading: Reading) -> Course | None:
    """The losses of the rehearsal or of the watched run; `None` where there are none."""
    run = reading.last.fact("watch.losses")
    if run is not None:
        return _watched(run)
    given = reading.last.fact("rehearsal.losses")
    if not isinstance(given, (list, tuple)) or not given:
        return None
    losses: list[float] = []
    for step, value in enumerate(given):
        number = finite(value)
        if number is None:
            return Course(tuple(losses), step)
        losses.append(number)
    return Course(tuple(losses))


def _watched(given: Any) -> Course | None:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        return None
    if not all(isinstance(part, (list, tuple)) for part in given):
        return None
    pairs = [
        (int(when), finite(value))
        for step, value in zip(*given, strict=False)
        if (when := finite(step)) is not None
    ]
    if not pairs:
        return None
    broke: int | None = None
    last = next((k for k, (_, loss) in enumerate(reversed(pairs)) if loss is not None), len(pairs))
    if last >= GONE or last == len(pairs):
        broke = pairs[len(pairs) - last][0]
    kept = [(step, loss) for step, loss in pairs if loss is not None]
    return Course(tuple(loss for _, loss in kept), broke, tuple(step for step, _ in kept))


def known_chance(record: Record) -> float | None:
    """`uninformed`, where it is a level at all.

    Targets that are all the same, as those of a GAN, have a chance loss of 0 and are none.
    """
    chance = uninformed(record)
    return chance if chance is not None and math.isfinite(chance) and chance > 0 else None
