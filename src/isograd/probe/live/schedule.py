"""Schedule: at which steps to look, so that looking stays within its share of the time."""

import math
from collections import deque
from statistics import median

DENSE = (1, 2, 4, 8, 16, 32)
"""Steps after the first that are looked at whatever it costs: most of what goes wrong does so
early. What they cost over the budget is paid back before the next look."""

SPARSE = 0.01
"""Looks are at least this share of the steps so far apart: the hundredth of a step number is time
enough between two looks, and a run of a million steps has some thousand looks."""

SELDOM = 0.5
"""Looks are at most this share of the steps so far apart, whatever they cost: there are few enough
of them, and without any a long run of short steps would never be seen again."""

PAUSE = 2.0
"""A step that takes this many times as long as usual had a pause in it, which pays for no look."""

AROUND = 1.25
"""What a look costs over the time inside of hooks: calling them, and caches that they empty."""

TROUBLE = 4
"""Looks in a row after a sign of trouble."""

FREE, OVER = 4, 4.0
"""Times of trouble that are looked at whatever it costs, and one more each time that the steps so
far have doubled; others, of a loss that spikes again and again, as long as looking stays below this
many times the budget."""


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
        self.trained = 0.0
        """Seconds of training so far, pauses between steps (evaluation, saving) left out."""
        self._pace: deque[float] = deque(maxlen=16)
        self.first: int | None = None
        """The step at which watching began."""
        self._looks = 0
        self._trouble = self._times = self._steps = 0

    def took(self, seconds: float, cost: float, *, looked: bool) -> None:
        """A step is over.

        Args:
            seconds: since the end of the step before.
            cost: how many of them were spent on watching.
            looked: whether the step was looked at.
        """
        self._steps += 1
        self.spent += cost
        own = seconds - cost
        if self._pace:  # nobody knows when the first step began
            self.trained += min(own, PAUSE * median(self._pace))
        if not looked or len(self._pace) < 2:
            self._pace.append(own)

    @property
    def overhead(self) -> float:
        """Share of the time of training that watching has cost."""
        return AROUND * self.spent / max(self.trained, 1e-9)

    def alarm(self) -> None:
        """Something looks bad: the next steps are looked at."""
        if self.every is not None or self._trouble:
            return
        free = FREE + max(0, (self._steps // DENSE[-1]).bit_length() - 1)
        if self._times < free or self.overhead < OVER * self.budget:
            self._trouble = TROUBLE
            self._times += 1

    @property
    def urgent(self) -> bool:
        """Whether the very next step is due because of trouble."""
        return self._trouble > 0

    def after(self, step: int) -> int:
        """The step of the next look, after one at `step` has ended."""
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
        due = AROUND * self.spent * (1 + 1 / self._looks) / self.budget - self.trained
        due /= max(median(self._pace), 1e-9)
        latest = math.ceil(done * SELDOM)
        return step + max(1, min(math.ceil(due), latest), math.ceil(done * SPARSE))
