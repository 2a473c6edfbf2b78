"""The choice: the least invasive of those that do as well as the best."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isograd.repairs.racing import Runner

ENOUGH = 0.8
"""Part of the best candidate's gain that counts as just as good: after a few steps, gains of
networks that end alike differ by as much."""


def ranked(runners: Sequence["Runner"], untrained: float) -> list["Runner"]:
    """Runners, the one to keep first.

    Those whose gain over the untrained network is at least ENOUGH of the best one's come first,
    the least invasive of them first, the best where they are equally invasive. Where nobody gained
    anything, they stay in the order in which they were planned.

    Args:
        runners: in the order in which they were planned.
        untrained: score of the user's network before any training.
    """
    best = max((untrained - r.score for r in runners), default=0.0)

    def key(place: int) -> tuple[bool, int, float]:
        runner = runners[place]
        gain = untrained - runner.score
        equal = gain >= ENOUGH * best
        return (not equal, runner.treatment.invasive if equal else 0, runner.score)

    if best <= 0:
        return list(runners)
    return [runners[i] for i in sorted(range(len(runners)), key=key)]
