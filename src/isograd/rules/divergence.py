"""A loss that diverges."""

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._course import Course, course
from isograd.rules._examples import chain, with_history
from isograd.rules._numbers import fact, show
from isograd.rules._rates import lower
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OVER_TIME
from isograd.rules._watched import FEW, RECENT
from isograd.sites.chance import uninformed

SHOWN = 100
"""Losses that are handed on as evidence."""


@dataclass(frozen=True)
class Divergence(Rule):
    """The loss diverges.

    Sees: the losses of a rehearsal or of a watched run: one that is no longer finite, or that has
        risen to a multiple of its start and stays there.

    Matters: an update that overshoots raises the loss, the next gradient is larger and the next
        update overshoots more. It happens when the learning rate exceeds 2 over the largest
        curvature. What is left is a network of NaNs, or one whose units are dead or
        saturated, standing at a worse loss than an untrained one.

    Wrong when: the loss started near zero, as that of a trained network does, or has a schedule
        of its own. In a watched run, a loss without a known chance level (of a GAN, of
        reinforcement learning) may wander and must rise further.

    Do: divide the learning rate by ten; warm it up; clip the gradient norm. Where another finding
        names a reason for steep curvature (inputs, initialization), remove that first.
    """

    code: ClassVar[str] = "IG609"
    rank: ClassVar[int] = 60
    explains: ClassVar[tuple[str, ...]] = ("IG502", "IG604", *OVER_TIME)

    rise: float = 3.0
    """Multiple of the larger of start and chance; noise between batches stays below."""
    unknown: float = 30.0
    """The same in a watched run whose chance level nobody knows: adversarial losses rise tenfold
    while all is well."""
    steps: int = 4
    """Losses needed to tell a jump from a rise: the last quarter is then one of them."""

    def judge(self, reading: Reading) -> Outcome:
        """Compares the last quarter with the start."""
        path = course(reading)
        if path is None or not path.losses:
            return NotApplicable(
                "no rehearsal or run from a finite loss (check(..., optimizer=, steps=) makes one)"
            )
        chance = uninformed(reading.seen)
        reference = max(abs(path.start), chance or 0.0)
        rise = self.rise if chance or not path.watched else self.unknown
        if path.broke_at is not None:
            return self._finding(
                reading,
                path,
                f"The loss starts at {show(path.start)} and is no longer finite at step "
                f"{path.broke_at}; the largest before was {show(max(path.losses))}.",
            )
        end = median(path.losses[-max(1, _latest(path)) :])
        fewest = FEW if path.watched else self.steps
        if path.steps < fewest or end <= rise * reference:
            return Passed(f"the loss goes from {show(path.start)} to {show(end)}")
        return self._finding(
            reading,
            path,
            f"The loss rises from {show(path.start)} to {show(end)} over {path.steps} steps and "
            "stays there.",
        )

    def _finding(self, reading: Reading, path: Course, message: str) -> Finding:
        rate = fact(reading.last, "optimizer.lr") or fact(reading.seen, "optimizer.lr")
        return Finding(
            self.code,
            Severity.ERROR,
            "lr-too-high",
            message,
            evidence={"losses": list(path.losses[-SHOWN:]), "lr": rate},
            remedies=(
                f"{lower(reading)}, or warm it up over the first steps.",
                "Clip the gradient norm to 1.",
            ),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Rises thirtyfold."""
        losses = [2.3 * 1.5**k for k in range(12)]
        return with_history(chain(3), chain(3, step=12), losses=losses)

    @staticmethod
    def well() -> Reading:
        """Falls."""
        losses = [2.3 * 0.9**k for k in range(12)]
        return with_history(chain(3), chain(3, step=12), losses=losses)


def _latest(path: Course) -> int:
    """Losses that are now: a quarter of a rehearsal, of a watched run not more than a few."""
    count = len(path.losses) // 4
    # The first steps of a healthy run may overshoot: it is the typical one of some that counts.
    return min(max(count, FEW), RECENT) if path.watched else count
