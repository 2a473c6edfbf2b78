"""The sink `sqlite`: the run file, which `isograd runs`, `tail` and `report` read."""

from collections.abc import Sequence
from itertools import count
from os import PathLike
from pathlib import Path

from isograd.errors import RunTakenError, warn
from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo
from isograd.sinks._sink import Sink
from isograd.storage import RunWriter


class Sqlite(Sink):
    """Writes the run file.

    Args:
        path: the file; that of the run where left out.
    """

    code = "sqlite"

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self._path = path

    def where(self, run: str) -> str:
        """The command that shows it."""
        return f"isograd report {run if self._path is None else self._path}"

    def open(self, info: RunInfo) -> None:
        """Makes the file and its folder; beside it where another process is writing it."""
        first = path = Path(info.path if self._path is None else self._path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in count(2):
            try:
                self._writer = RunWriter(path, info)
                break
            except RunTakenError as error:
                taken, path = error, first.with_stem(f"{first.stem}-{number}")
        if path != first:
            warn(f"{taken}; this run goes to {path}")

    def record(self, record: Record) -> None:
        """Adds a record."""
        self._writer.add(record)

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Adds losses."""
        self._writer.losses(pairs)

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Adds alarms."""
        self._writer.alarms(changes)

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Ends the session."""
        self._writer.close(diagnosis, outcome)
