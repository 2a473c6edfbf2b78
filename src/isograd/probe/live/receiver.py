"""Receiver: who takes what a watcher sees."""

from typing import Protocol

from isograd.records import Record


class Receiver(Protocol):
    """Takes what is seen, on the process of rank 0."""

    raised: BaseException | None
    """What is raised into the training on purpose."""

    def looked(self, record: Record) -> None:
        """Takes a look, in order of steps; the first one has everything."""

    def lost(self, step: int, value: float) -> bool:
        """Takes the loss of a step; says whether it looks like trouble."""

    def stepped(self, steps: int) -> None:
        """So many steps are done, on every process; may raise `raised`."""

    def idle(self, steps: int, backwards: int) -> None:
        """Half of every step is missing: so many steps or backwards without any of the other."""

    def failed(self, error: Exception) -> None:
        """Watching has ended because of a fault of its own."""
