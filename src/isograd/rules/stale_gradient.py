"""Gradients that are never cleared."""

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading
from isograd.rules._examples import chain, run
from isograd.rules._numbers import counted, fact, show
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._symptoms import OVER_TIME
from isograd.rules._watched import suffers


@dataclass(frozen=True)
class StaleGradient(Rule):
    """Gradients are not cleared between steps.

    Sees: whether parameters have a gradient already when the first backward of a step begins, at
        every look of a watched run after the first, and how large it is beside what the optimizer
        gets in the end.

    Matters: `backward()` adds to what is there. Without `optimizer.zero_grad()` every step follows
        the sum of all gradients so far, most of which were taken at other weights: plain SGD then
        circles around its minimum in ever larger swings, as with a momentum of 1, and Adam goes on
        in old directions. It looks like a learning rate that is too large.

    Wrong when: the old gradient is kept on purpose, scaled down by hand as a momentum. Several
        backwards of one step (gradient accumulation) add up as they should and are not meant.

    Do: call `optimizer.zero_grad()` once per step, before its first backward.
    """

    code: ClassVar[str] = "IG309"
    rank: ClassVar[int] = 50
    explains: ClassVar[tuple[str, ...]] = ("IG304", "IG401", "IG604", "IG609", *OVER_TIME)

    looks: int = 2
    """Looks that must show it: a single step may follow one that a loop has left out."""
    share: float = 0.5
    """Share of the looks that must: in a loop that clears every few steps, most steps are wrong."""
    rounding: float = 1e-3
    """Size of the old gradient over the new one below which it does no harm."""

    def judge(self, reading: Reading) -> Outcome:
        """Counts the looks at which an old gradient was there."""
        found = [fact(look, "gradient.carried") for look in reading.history]
        known = [size for size in found if size is not None]
        if len(known) < self.looks:
            return NotApplicable(
                f"what gradients a step begins with is known of {counted(len(known), 'look')}, "
                f"{self.looks} are needed (isograd.watch makes them)"
            )
        old = [size for size in known if size > self.rounding]
        if len(old) < max(self.looks, self.share * len(known)):
            return Passed(
                f"gradients are cleared before {len(known) - len(old)} of {len(known)} "
                "steps that were looked at"
            )
        step = reading.last.step
        return Finding(
            self.code,
            Severity.ERROR if suffers(reading) else Severity.WARNING,
            "stale-gradient",
            f"Before {len(old)} of {len(known)} steps that were looked at, the gradients of the "
            f"steps before were still there, {show(median(old))} times as large as what the "
            "optimizer got: every backward adds to them.",
            evidence={"carried": median(old), "looks": len(known), "step": step},
            remedies=(
                "Call optimizer.zero_grad() once per step, before loss.backward().",
                "If several batches are to add up, call optimizer.step() and optimizer.zero_grad() "
                "once for all of them.",
            ),
            explains=self.explains,
        )

    @staticmethod
    def sick() -> Reading:
        """Nearly all of every gradient is old."""
        return _example(0.97)

    @staticmethod
    def well() -> Reading:
        """Nothing is there when a step begins."""
        return _example(0.0)


def _example(carried: float) -> Reading:
    looks = [chain(3, facts={"gradient.carried": carried}, step=step) for step in (1, 2, 4)]
    return run(chain(3), *looks, losses=[2.3 * 0.99**k for k in range(5)])
