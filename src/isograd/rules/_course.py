"""The course of a rehearsal's loss: where it started, where it went, whether it still falls."""

import math
from dataclasses import dataclass
from statistics import fmean, pstdev

from isograd.records import Reading, Record
from isograd.rules._numbers import fact, finite, sizes

_OF_LABELS = ("cross_entropy", "nll", "bce", "bce_logits")

_PORTIONS = 3
"""A stretch of losses is judged by comparing its first third with its last."""


@dataclass(frozen=True)
class Course:
    """Losses of a rehearsal, one per step."""

    losses: tuple[float, ...]
    """Finite losses, up to the first one that is not."""
    broke_at: int | None = None
    """Step of the first non-finite loss."""

    @property
    def steps(self) -> int:
        """Number of finite losses."""
        return len(self.losses)

    @property
    def start(self) -> float:
        """The first loss."""
        return self.losses[0]

    @property
    def second_half(self) -> tuple[float, ...]:
        """What is left when the first transient is over."""
        return self.losses[self.steps // 2 :]

    @property
    def level(self) -> float:
        """Mean loss of the second half."""
        return fmean(self.second_half)

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


def course(reading: Reading) -> Course | None:
    """The loss of the rehearsal; `None` where nothing was rehearsed."""
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


def uninformed(record: Record) -> float | None:
    """The loss of the best constant prediction: chance, or the entropy of unequal labels.

    For squared and absolute errors this is the spread of the targets. A loss that is summed over
    the batch is that many times as large.
    """
    chance = fact(record, "loss.chance")
    entropy = fact(record, "target.entropy")
    if record.fact("loss.kind") in _OF_LABELS and entropy is not None:
        chance = entropy if chance is None else min(chance, entropy)
    return None if chance is None else chance * terms(record)


def terms(record: Record) -> float:
    """Over how many samples, or entries of the output, the loss is summed; 1 of a mean."""
    elementwise = record.fact("loss.kind") in ("mse", "l1", "bce", "bce_logits")
    entries = float(math.prod(sizes(record.fact("output.shape")) or (1,)))
    samples = fact(record, "batch.size") or 1.0
    if not record.fact("loss.summed"):
        # Summed over the features of a sample, averaged over samples, as autoencoders have it.
        value, chance = fact(record, "loss.value"), fact(record, "loss.chance")
        features = entries / samples
        if not elementwise or features <= 1 or not value or not chance:
            return 1.0
        near = abs(math.log(abs(value) / chance / features)) < abs(math.log(abs(value) / chance))
        return features if near and abs(value) > chance else 1.0
    return entries if elementwise else samples
