"""A sink: one place where the readings of a watched run go."""

from collections.abc import Sequence
from typing import ClassVar

from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo


class Sink:
    """Is opened once, told what is read while the training runs, and closed once.

    A subclass works when it is made without arguments, and imports what it needs in `open`: its
    package may be missing. Whatever it raises is told once, and it is told nothing more; the
    training goes on. Nothing it does may touch the training: no random numbers, no signals.
    """

    code: ClassVar[str]
    """The word by which `watch(sinks=...)` finds it."""

    package: ClassVar[str] = ""
    """The package of others that it cannot do without, as it is imported; the extra is `code`."""

    def where(self, run: str) -> str:  # noqa: ARG002  # of those that it does not depend on
        """What to look at afterwards: a file, a command or a service; empty: nothing is kept.

        Args:
            run: path of the run file, beside which a sink may write.
        """
        return ""

    def open(self, info: RunInfo) -> None:
        """Gets ready, before the first step."""
        raise NotImplementedError

    def record(self, record: Record) -> None:
        """Takes what was read at one sampled step, `record.step`."""
        raise NotImplementedError

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Takes losses as (step, value), those of steps that were not sampled among them."""

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Takes alarms that were raised, got worse or were withdrawn."""

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Lets go of everything.

        Args:
            diagnosis: the last judgement, where there is one.
            outcome: how the run ended: `finished`, or what stopped it.
        """
