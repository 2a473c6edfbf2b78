"""RunWriter: the readings of a training, each safe in its run file when the call returns."""

import os
import sqlite3
import time
import weakref
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from isograd.errors import RunTakenError, warn
from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo
from isograd.storage._columns import pack, pack_histograms
from isograd.storage._files import advice, open_to_write, transaction, troubles
from isograd.storage._owners import Owner, me
from isograd.storage._plain import dumps, free, to_plain

PATIENCE = 0.05
"""Seconds a training waits for another writer of its file before it goes on."""

RETRY_SECONDS = 5.0
"""After a failure, how long rows are kept in memory before the next try."""

MOST_PENDING = 32 * 2**20
"""Bytes kept in memory while the file cannot be written; beyond it the oldest are dropped."""

CHECKPOINT_PAGES = 8192
"""Pages of 4 KiB after which the log is moved into the file: the only wait for the disk on the
way, once in 32 MB of readings."""

FRESH_SECONDS = 60.0
"""A run of another machine that wrote more recently than this counts as alive."""

APART = frozenset({"watch.losses"})
"""Facts that are not stored with every record: the file has a table of them."""

_LAYOUT = "INSERT INTO layouts (id, keys, document) VALUES (?, ?, ?)"
_READING = (
    "INSERT INTO readings (session, step, time, layout, forms, facts, histograms, data) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_LOSS = "INSERT INTO losses (session, step, value) VALUES (?, ?, ?)"
_ALARM = (
    "INSERT INTO alarms (session, time, code, state, first, worst, last, finding) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)

_Row = tuple[str, tuple[Any, ...]]


class RunWriter:
    """One session of a run file: from here on it grows, until `close`.

    Each call is one commit. The death of the process does not undo it; it does not wait for the
    disk. Where the file cannot be written (a full disk), one warning says so, what comes is kept in
    memory and tried again every few seconds; `dropped` counts what could not be kept. A process
    that was forked from the writing one writes nothing.

    Args:
        path: the run file; it is made where there is none. A file with earlier sessions keeps
            them and gets one more.
        info: what is known of the run.

    Raises:
        RunTakenError: a process that is alive writes the file.
        StorageError: the file cannot be made or written, is no run file, or a fact is no plain
            value.
    """

    def __init__(self, path: str | PathLike[str], info: RunInfo) -> None:
        self.path = Path(path)
        self.dropped = 0
        """Readings, losses and alarms that were lost because the file could not be written."""
        self._owner = me()
        self._pending: deque[_Row] = deque()
        self._waiting = 0
        self._retry_at = 0.0
        self._warned = False
        self._layouts: list[tuple[int, Record, tuple[str, ...]]] = []
        facts = dumps({key: free(value, f"fact {key}") for key, value in info.facts.items()})
        with troubles(self.path, "written"):
            self._run = open_to_write(self.path, durable=False, patience=PATIENCE)
            try:
                self._begin(info, facts)
            except BaseException:
                self._run.close()
                raise
        self._closed = False
        _WRITERS.add(self)

    def _begin(self, info: RunInfo, facts: str) -> None:
        run = self._run
        run.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        with transaction(run):
            _refuse_taken(run, self.path)
            run.execute("UPDATE sessions SET outcome = 'died' WHERE outcome IS NULL")
            owner = self._owner
            self._session = run.execute(
                "INSERT INTO sessions (name, started, host, pid, birth, facts) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (info.name, info.started, owner.host, owner.pid, owner.birth, facts),
            ).lastrowid
            # Numbered here: what waits in memory must know the numbers of its layouts.
            (self._last_layout,) = run.execute("SELECT ifnull(max(id), 0) FROM layouts").fetchone()

    def add(self, record: Record) -> None:
        """Adds what was read at one step.

        Raises:
            StorageError: a fact is no plain value.
        """
        number, base, keys = self._layout(record)
        forms, parts = [], []
        for key in keys:
            form, data = pack(record.series[key])
            forms.append(form)
            parts.append(data)
        self._write(
            (
                _READING,
                (
                    self._session,
                    record.step,
                    time.time(),
                    number,
                    "".join(forms),
                    dumps(_news(record, base)),
                    pack_histograms(record.histograms),
                    b"".join(parts),
                ),
            )
        )

    def losses(self, pairs: Iterable[tuple[int, float]]) -> None:
        """Adds losses as (step, value) pairs."""
        # SQLite has no NaN: it becomes NULL, and NaN again when it is read.
        rows = [(_LOSS, (self._session, int(step), float(value))) for step, value in pairs]
        if rows:
            self._write(*rows)

    def alarms(self, changes: Iterable[Alarm]) -> None:
        """Adds alarms that were raised, got worse or were withdrawn."""
        now = time.time()
        rows = [
            (
                _ALARM,
                (
                    self._session,
                    now,
                    alarm.finding.code,
                    alarm.state,
                    alarm.first_step,
                    alarm.worst_step,
                    alarm.last_step,
                    dumps(to_plain(alarm.finding)),
                ),
            )
            for alarm in changes
        ]
        if rows:
            self._write(*rows)

    def close(self, diagnosis: Diagnosis | None = None, outcome: str = "finished") -> None:
        """Ends the session; the file is then complete without any other beside it.

        Args:
            diagnosis: the last judgement; its findings, verdicts and prediction are kept.
            outcome: how it ended: `finished`, or what stopped it.
        """
        if self._closed or os.getpid() != self._owner.pid:
            return
        self._retry_at = 0.0
        ended = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        last = None if diagnosis is None else dumps(_judgement(diagnosis))
        self._write(
            (
                "UPDATE sessions SET ended = ?, outcome = ?, diagnosis = ? WHERE id = ?",
                (ended, outcome, last, self._session),
            )
        )
        self._closed = True
        self.dropped += sum(sql is not _LAYOUT for sql, _ in self._pending)
        self._pending.clear()
        # On a full disk this fails, and the log beside the file holds what it would have moved.
        with suppress(sqlite3.Error):
            self._run.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # Nobody writes from here on, and a reader would put two files beside it again. Refused
            # where somebody is reading, which is no harm.
            self._run.execute("PRAGMA journal_mode = DELETE")
        self._run.close()
        if self.dropped:
            warn(
                f"{self.path}: could not be written for a while; {self.dropped:,} readings, losses "
                "and alarms are not in it"
            )

    def _layout(self, record: Record) -> tuple[int, Record, tuple[str, ...]]:
        keys = tuple(record.series)
        for known in self._layouts:
            base = known[1]
            if (
                keys == known[2]
                and record.sites == base.sites
                and record.parameters == base.parameters
                and record.source == base.source
            ):
                return known
        facts = {key: value for key, value in record.facts.items() if key not in APART}
        base = Record(
            record.sites, record.parameters, facts=facts, notes=record.notes, source=record.source
        )
        document = dumps(to_plain(base))  # before the number is taken: a fact may be no plain value
        self._last_layout += 1
        self._pending.append((_LAYOUT, (self._last_layout, dumps({"keys": keys}), document)))
        found = (self._last_layout, base, keys)
        self._layouts.insert(0, found)
        return found

    def _write(self, *rows: _Row) -> None:
        if self._closed or os.getpid() != self._owner.pid:
            return
        self._pending.extend(rows)
        self._waiting += sum(map(_bytes, rows))
        if time.monotonic() < self._retry_at:
            self._thin()
            return
        try:
            with transaction(self._run):
                for statement, values in self._pending:
                    self._run.execute(statement, values)
        except sqlite3.Error as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._thin()
            self._tell(error)
        else:
            self._pending.clear()
            self._waiting = 0
            self._retry_at = 0.0

    def _thin(self) -> None:
        """Drops the oldest rows in memory, but no layout: what follows could not be read."""
        layouts = []
        while self._waiting > MOST_PENDING and self._pending:
            row = self._pending.popleft()
            if row[0] is _LAYOUT:
                layouts.append(row)
                continue
            self._waiting -= _bytes(row)
            self.dropped += 1
        self._pending.extendleft(reversed(layouts))

    def _tell(self, error: sqlite3.Error) -> None:
        if not self._warned:
            self._warned = True
            warn(
                f"{self.path}: cannot be written: {advice(self.path, error)}; readings are "
                f"kept in memory and tried again every {RETRY_SECONDS:g} seconds"
            )


_WRITERS: "weakref.WeakSet[RunWriter]" = weakref.WeakSet()
"""Those of this process that are open."""


def _refuse_taken(run: sqlite3.Connection, path: Path) -> None:
    rows = run.execute("SELECT host, pid, birth FROM sessions WHERE outcome IS NULL").fetchall()
    for owner in (Owner(*row) for row in rows):
        alive = owner.alive()
        if owner == me():
            alive = any(w.path.absolute() == path.absolute() and not w._closed for w in _WRITERS)
        if alive is None:
            logs = (path, path.with_name(f"{path.name}-wal"))
            touched = max(log.stat().st_mtime for log in logs if log.exists())
            alive = time.time() - touched < FRESH_SECONDS
        if alive:
            raise RunTakenError(
                f"{path}: process {owner.pid} on {owner.host} is writing it; give each process "
                "its own file"
            )


def _news(record: Record, base: Record) -> list[Any]:
    """What differs from the layout's own: facts, facts that are gone, notes."""
    changed = {
        key: free(value, f"fact {key}")
        for key, value in record.facts.items()
        if key not in APART and not _same(value, base.facts.get(key, base))
    }
    gone = [key for key in base.facts if key not in record.facts]
    return [changed, gone, None if record.notes == base.notes else list(record.notes)]


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))


def _judgement(diagnosis: Diagnosis) -> dict[str, Any]:
    expected = diagnosis.reading.expected
    return {
        "findings": [to_plain(finding) for finding in diagnosis.findings],
        "verdicts": [to_plain(verdict) for verdict in diagnosis.verdicts],
        "expected": None if expected is None else to_plain(expected),
    }


def _bytes(row: _Row) -> int:
    """About what a row takes in memory."""
    return 100 + sum(len(value) for value in row[1] if isinstance(value, (str, bytes)))
