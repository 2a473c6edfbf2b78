"""The SQLite file of a run: how it is opened, which tables it has, and what can go wrong.

Write-ahead mode: readers never wait for a writer nor a writer for them, and a process that dies in
the middle leaves everything committed before it.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isograd.errors import StorageError

TABLES = 2
"""Number of the form of the tables. Files of form 1 hold diagnoses alone, in the same tables; they
are read as they are, and get the other tables when something is written to them."""

LOCK_SECONDS = 5.0
"""How long a writer waits for another one; a save takes well under a second."""

_READABLE = ("1", str(TABLES))

_FIRST = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE diagnoses (id INTEGER PRIMARY KEY, name TEXT, saved TEXT NOT NULL,
    findings TEXT NOT NULL, verdicts TEXT NOT NULL);
CREATE TABLE records (id INTEGER PRIMARY KEY, role TEXT NOT NULL, step INTEGER NOT NULL,
    document TEXT NOT NULL, diagnosis INTEGER NOT NULL REFERENCES diagnoses(id));
CREATE INDEX records_of ON records (diagnosis);
"""

_SECOND = """
CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT NOT NULL, started TEXT NOT NULL,
    ended TEXT, outcome TEXT, host TEXT NOT NULL, pid INTEGER NOT NULL, birth TEXT NOT NULL,
    facts TEXT NOT NULL, diagnosis TEXT);
CREATE TABLE layouts (id INTEGER PRIMARY KEY, keys TEXT NOT NULL, document TEXT NOT NULL);
CREATE TABLE readings (id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions(id),
    step INTEGER NOT NULL, time REAL NOT NULL, layout INTEGER NOT NULL REFERENCES layouts(id),
    forms TEXT NOT NULL, facts TEXT NOT NULL, histograms BLOB, data BLOB NOT NULL);
CREATE TABLE losses (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, step INTEGER NOT NULL,
    value REAL);
CREATE TABLE alarms (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, time REAL NOT NULL,
    code TEXT NOT NULL, state TEXT NOT NULL, first INTEGER NOT NULL, worst INTEGER NOT NULL,
    last INTEGER NOT NULL, finding TEXT NOT NULL);
"""


def connect(file: Path, options: str, *, patience: float | None = None) -> sqlite3.Connection:
    """A connection in which transactions begin and end only where this file says so.

    Args:
        file: the run file.
        options: of SQLite's address, such as `ro` or `rwc`.
        patience: seconds to wait for another writer; LOCK_SECONDS where left out.
    """
    uri = f"{file.absolute().as_uri()}?mode={options}"
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=LOCK_SECONDS if patience is None else patience,
        isolation_level=None,
        check_same_thread=False,  # whoever trains may step in one thread and end in another
    )


def open_to_read(file: Path) -> sqlite3.Connection:
    """A connection that only reads, whatever the folder allows.

    Raises:
        StorageError: there is no such file, it is no run file, or it is of another schema.
    """
    if not os.path.isfile(file):  # False, too, where Path.is_file() raises
        raise StorageError(f"{file}: there is no such file; give a file that isograd wrote")
    run = connect(file, "ro")
    try:
        run.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        run.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        # Write-ahead mode wants to put two files beside the run, which a read-only folder
        # refuses; nobody can be writing there either, so the file may count as frozen.
        run = connect(file, "ro&immutable=1")
    _check(run, file)
    return run


def open_to_write(
    file: Path, *, durable: bool, patience: float | None = None
) -> sqlite3.Connection:
    """A connection to a run file, which is made or brought up to date.

    Args:
        file: the run file.
        durable: whether a commit waits for the disk; one that does not survives the death of its
            process all the same, and may be lost at a power cut.
        patience: as in `connect`.

    Raises:
        StorageError: it is no run file, or it is of another schema.
    """
    run = connect(file, "rwc", patience=patience)
    try:
        run.execute("PRAGMA foreign_keys = ON")
        if run.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            _check(run, file)
        _log_ahead(run, patience)
        run.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        with transaction(run):  # two writers may both have seen an empty file
            if not _tables(run):
                _make(run, _FIRST)
            if "sessions" not in _tables(run):
                _make(run, _SECOND)
                run.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(TABLES),))
    except BaseException:
        run.close()
        raise
    return run


def _log_ahead(run: sqlite3.Connection, patience: float | None) -> None:
    """Turns the write-ahead log on; two that do so at once do not wait for each other in SQLite."""
    last = time.monotonic() + (LOCK_SECONDS if patience is None else patience)
    while True:
        try:
            run.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > last:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def transaction(run: sqlite3.Connection) -> Iterator[None]:
    """Everything in it is written, or nothing."""
    run.execute("BEGIN IMMEDIATE")
    try:
        yield
        run.execute("COMMIT")
    except BaseException:
        if run.in_transaction:  # some errors have rolled it back already
            run.execute("ROLLBACK")
        raise


def _tables(run: sqlite3.Connection) -> set[str]:
    return {name for (name,) in run.execute("SELECT name FROM sqlite_master")}


def _make(run: sqlite3.Connection, tables: str) -> None:
    for statement in filter(str.strip, tables.split(";")):
        run.execute(statement)


def _check(run: sqlite3.Connection, file: Path) -> None:
    if not {"meta", "diagnoses", "records"} <= _tables(run):
        raise StorageError(
            f"{file}: a SQLite file, but not a run of isograd; give a file that isograd made"
        )
    row = run.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if row is None or row[0] not in _READABLE:
        found = "no schema number" if row is None else f"schema {row[0]}"
        raise StorageError(
            f"{file}: found {found}, this version of isograd reads schema {', '.join(_READABLE)} "
            f"and writes {TABLES}; use the version that wrote the file, or save to a new file"
        )


@contextmanager
def troubles(file: Path, done: str) -> Iterator[None]:
    """Says what SQLite met in our words; `done` is read or written."""
    try:
        yield
    except StorageError as error:
        if str(file) in str(error):
            raise
        raise StorageError(f"{file}: {error}") from error
    except (sqlite3.Error, OSError, ValueError, KeyError) as error:
        raise StorageError(f"{file}: cannot be {done}: {advice(file, error)}") from error


def advice(file: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process has it locked; wait for it, or give each process its own file"
    if code == sqlite3.SQLITE_NOTADB:
        return "it is not a SQLite file; give a file that isograd made, or a new name"
    if code == sqlite3.SQLITE_CORRUPT:
        return f"it is damaged ({error}); restore it from a copy"
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full; free some space"
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        if not file.parent.is_dir():
            return f"there is no folder {file.parent}; make it first"
        return f"{error}; give a place where this user may write"
    return f"{type(error).__name__}: {error}; is it a run file that isograd made?"
