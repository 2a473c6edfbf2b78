"""Budget: the steps that all trials may take together."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from isograd.errors import InputError
from isograd.repairs.racing import Runner
from isograd.repairs.supply import Supply

TRAINING = 0.8
"""Part of a time that goes into training steps rather than into judging."""
MOST_STEPS = 20_000
"""However much time there is: a short trial is what it is meant to be."""

Progress = Callable[[int, int], None]


@dataclass
class Budget:
    """Steps that may be taken, and those that were."""

    steps: int
    until: float = math.inf
    """When to stop, by `time.perf_counter`."""
    spent: int = 0
    progress: Progress | None = None

    def spend(self, steps: int) -> None:
        """Counts steps, and tells."""
        self.spent += steps
        if self.progress is not None:
            self.progress(min(self.spent, self.steps), self.steps)

    @property
    def left(self) -> int:
        """Steps that are left; none when the time is up."""
        return max(0, self.steps - self.spent) if time.perf_counter() < self.until else 0


def steps_until(until: float, runner: Runner, supply: Supply) -> int:
    """How many steps fit into the time until a moment, by taking two of them."""
    began = time.perf_counter()
    runner.advance(supply, 2)
    now = time.perf_counter()
    each = (now - began) / 2
    return max(1, min(int((until - now) / each * TRAINING), MOST_STEPS))


def asked_for(budget: int | str) -> tuple[int, float | None]:
    """(steps, seconds) of a budget; seconds are None where steps were given.

    Raises:
        InputError: it is neither steps nor a time.
    """
    if isinstance(budget, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min)?", budget.strip())
        if match and match[2] and float(match[1]) > 0:
            return 0, float(match[1]) * (60 if match[2] == "min" else 1)
        budget = int(match[1]) if match and match[1].isdigit() else budget
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise InputError(
            f"repair: budget={budget!r}; give a whole number of optimizer steps, or a time such "
            "as '30s' or '2min'"
        )
    return budget, None
