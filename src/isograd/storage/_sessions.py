"""Sessions: the watched trainings of a run file, each from its beginning to its end."""

import sqlite3
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from isograd.records import RunInfo
from isograd.storage._files import open_to_read, troubles
from isograd.storage._owners import Owner
from isograd.storage._plain import as_free, loads


@dataclass(frozen=True)
class Session:
    """One watched training of a run file: from its beginning to its end, or to its death."""

    number: int
    """From 1, in the order in which they were begun."""
    info: RunInfo
    ended: str | None
    """When, ISO 8601, UTC; `None` while it runs, and for one that died."""
    outcome: str | None
    """How it ended: `finished`, or what stopped it; `None` while it runs."""
    host: str
    pid: int
    alive: bool | None
    """Whether it is being written; `None` where that cannot be told: on another machine."""
    key: int
    """Its id in the tables."""

    @property
    def state(self) -> str:
        """`running`, `died`, `unknown` (on another machine), or its outcome."""
        if self.outcome is not None:
            return self.outcome
        return {True: "running", False: "died", None: "unknown"}[self.alive]


def sessions(path: str | PathLike[str]) -> list[Session]:
    """The watched trainings of a run file; a file of diagnoses alone has none.

    Raises:
        StorageError: there is no such file, or it is no run file.
    """
    file = Path(path)
    with troubles(file, "read"):
        run = open_to_read(file)
        try:
            return read_sessions(run, file)
        finally:
            run.close()


def read_sessions(run: sqlite3.Connection, file: Path) -> list[Session]:
    """The same of a file that is open."""
    if not run.execute("SELECT 1 FROM sqlite_master WHERE name = 'sessions'").fetchone():
        return []
    rows = run.execute(
        "SELECT id, name, started, facts, ended, outcome, host, pid, birth FROM sessions "
        "ORDER BY id"
    )
    found = []
    for number, row in enumerate(rows.fetchall(), start=1):
        key, name, started, facts, ended, outcome, *owner = row
        info = RunInfo(name, str(file), started, {k: as_free(v) for k, v in loads(facts).items()})
        alive = False if outcome is not None else Owner(*owner).alive()
        host, pid, _ = owner
        found.append(Session(number, info, ended, outcome, host, pid, alive, key))
    return found
