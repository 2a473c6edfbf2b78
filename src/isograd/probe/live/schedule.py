"""Schedule: at which steps to look, so that looking stays within its share of the time."""

import math

DENSE = (1, 2, 4, 8, 16, 32)
"""Steps after the first that are looked at whatever it costs: most of what goes wrong does so
early. What they cost over the budget is paid back before the next look."""

SPARSE = 0.01
"""Looks are at least this share of the steps so far apart: the hundredth of a step number is time
enough between two looks, and a run of a million steps has some thousand looks."""

TROUBLE = 4
"""Looks in a row after a sign of trouble."""


class Schedule:
    """Decides when the next look is due.

    Args:
        every: steps between two looks; None: as the budget allows.
        budget: share of the time of training that looks may cost.
    """

    def __init__(self, every: int | None, budget: float) -> None:
        self.every = every
        self.budget = budget
        self.spent = 0.0
        """Seconds that looks, judging and writing have cost."""
        self.first: int | None = None
        """The step at which watching began."""
        self._looks = 0
        self._trouble = 0

    def alarm(self) -> None:
        """Something looks bad: the next steps are looked at."""
        if self.every is None and self._trouble == 0:
            self._trouble = TROUBLE

    @property
    def urgent(self) -> bool:
        """Whether the very next step is due because of trouble."""
        return self._trouble > 0

    def after(self, step: int, elapsed: float, per_step: float) -> int:
        """The step of the next look.

        Args:
            step: of the look that has just ended.
            elapsed: seconds since watching began.
            per_step: seconds of a step that is not looked at.
        """
        if self.first is None:
            self.first = step
        self._looks += 1
        if self.every is not None:
            return step + self.every
        if self._trouble:
            self._trouble -= 1
            return step + 1
        done = step - self.first
        early = next((self.first + s for s in DENSE if s > done), None)
        if early is not None:
            return early
        # The first look, which reads the most, counts for what one more will cost, too.
        due = (self.spent * (1 + 1 / self._looks) / self.budget - elapsed) / max(per_step, 1e-9)
        return step + max(1, math.ceil(due), math.ceil(done * SPARSE))
