"""Ending: how a finding ends the loop, of several processes all after the same step."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from isograd.errors import StopTraining, UntrainableError

if TYPE_CHECKING:
    from isograd.probe.live.ranks import Ranks

AHEAD = 2
"""Steps until all processes end: who takes part in one step more has heard of it."""


class Ending:
    """Takes the error that is to end the loop, and gives it back when it is time.

    Only the process of rank 0 judges. One that left the loop alone would have the others wait for
    its gradients for ever.

    Args:
        ranks: the processes, as far as they are known.
    """

    def __init__(self, ranks: "Callable[[], Ranks | None]") -> None:
        self._ranks = ranks
        self._error: BaseException | None = None
        self._at: int | None = None

    def ask(self, error: BaseException, step: int) -> None:
        """This error is to end the loop; only the first one does.

        Args:
            error: what is raised in this process.
            step: the step that is under way.
        """
        if self._error is not None:
            return
        ranks = self._ranks()
        self._error, self._at = error, step
        if ranks is not None and ranks.several:
            self._at = step + AHEAD
            stops = isinstance(error, StopTraining)
            ranks.announce(json.dumps({"at": self._at, "stops": stops, "text": str(error)}))

    def due(self, steps: int) -> BaseException | None:
        """The error that ends the loop now, after this many steps."""
        ranks = self._ranks()
        if self._error is None and ranks is not None and ranks.several and ranks.rank:
            told = ranks.announced()
            if told is not None:
                word = json.loads(told)
                kind = StopTraining if word["stops"] else UntrainableError
                self._error, self._at = kind(word["text"]), word["at"]
        return self._error if self._at is not None and steps >= self._at else None
