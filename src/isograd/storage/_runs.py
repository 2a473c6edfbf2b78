"""A run: one SQLite file to which diagnoses are added, and from which they are read again.

Each `save` is one transaction in write-ahead mode: a writer that dies in the middle leaves
everything committed before it, and nothing of its own.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path

from isograd.errors import StorageError
from isograd.findings import Diagnosis, Finding, Verdict
from isograd.records import Reading, Record
from isograd.storage._plain import SCHEMA, dumps, from_plain, loads, to_plain

LOCK_SECONDS = 5.0
"""How long a writer waits for another one; a save takes well under a second."""

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE diagnoses (id INTEGER PRIMARY KEY, name TEXT, saved TEXT NOT NULL,
    findings TEXT NOT NULL, verdicts TEXT NOT NULL);
CREATE TABLE records (id INTEGER PRIMARY KEY, role TEXT NOT NULL, step INTEGER NOT NULL,
    document TEXT NOT NULL, diagnosis INTEGER NOT NULL REFERENCES diagnoses(id));
CREATE INDEX records_of ON records (diagnosis);
"""


@dataclass(frozen=True)
class Stored:
    """One diagnosis of a run file."""

    name: str | None
    """What the caller called it, such as the TARGET."""
    saved: str
    """When it was saved: ISO 8601, UTC."""
    diagnosis: Diagnosis


def save(path: str | PathLike[str], diagnosis: Diagnosis, name: str | None = None) -> None:
    """Adds a diagnosis, with all its records, to a run file; makes the file where there is none.

    Args:
        path: the run file, by custom `*.isograd`.
        diagnosis: what to keep.
        name: what to call it.

    Raises:
        StorageError: the file is no run file, is of another schema, is locked, or cannot be
            written; or a fact is no plain value. The file is then as it was before.
    """
    file = Path(path)
    reading = diagnosis.reading
    looks = [("seen", reading.seen), *(("history", record) for record in reading.history)]
    if reading.expected is not None:
        looks.append(("expected", reading.expected))
    documents = [(role, look.step, dumps(to_plain(look))) for role, look in looks]
    findings, verdicts = (
        dumps({"all": [to_plain(item) for item in items]})
        for items in (diagnosis.findings, diagnosis.verdicts)
    )
    saved = datetime.now(UTC).isoformat(timespec="seconds")
    with _troubles(file, "written"), closing(_connect(file, "rwc")) as run:
        _prepare(run, file)
        run.execute("BEGIN IMMEDIATE")
        key = run.execute(
            "INSERT INTO diagnoses (name, saved, findings, verdicts) VALUES (?, ?, ?, ?)",
            (name, saved, findings, verdicts),
        ).lastrowid
        run.executemany(
            "INSERT INTO records (role, step, document, diagnosis) VALUES (?, ?, ?, ?)",
            [(*document, key) for document in documents],
        )
        run.execute("COMMIT")


def load(path: str | PathLike[str]) -> list[Stored]:
    """All diagnoses of a run file, in the order in which they were saved.

    Raises:
        StorageError: there is no such file, it is no run file, it is of another schema, or it
            cannot be read.
    """
    file = Path(path)
    if not os.path.isfile(file):  # False, too, where Path.is_file() raises
        raise StorageError(f"{file}: there is no such file; save(path, diagnosis) makes one")
    with _troubles(file, "read"), closing(_open_to_read(file)) as run:
        _check(run, file)
        run.execute("BEGIN")  # one snapshot, whatever a writer adds meanwhile
        rows = run.execute("SELECT id, name, saved, findings, verdicts FROM diagnoses ORDER BY id")
        return [
            Stored(name, saved, _diagnosis(run, key, findings, verdicts))
            for key, name, saved, findings, verdicts in rows.fetchall()
        ]


def _diagnosis(run: sqlite3.Connection, key: int, findings: str, verdicts: str) -> Diagnosis:
    looks: dict[str, list[Record]] = {"seen": [], "expected": [], "history": []}
    rows = run.execute("SELECT role, document FROM records WHERE diagnosis = ? ORDER BY id", (key,))
    for role, document in rows:
        looks[role].append(from_plain(Record, loads(document)))
    (seen,) = looks["seen"]
    (expected,) = looks["expected"] or (None,)
    return Diagnosis(
        findings=tuple(from_plain(Finding, plain) for plain in loads(findings)["all"]),
        verdicts=tuple(from_plain(Verdict, plain) for plain in loads(verdicts)["all"]),
        reading=Reading(seen, expected, tuple(looks["history"])),
    )


def _connect(file: Path, options: str) -> sqlite3.Connection:
    """A connection in which transactions begin and end only where this file says so."""
    uri = f"{file.absolute().as_uri()}?mode={options}"
    return sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None)


def _open_to_read(file: Path) -> sqlite3.Connection:
    run = _connect(file, "ro")
    try:
        run.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        run.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        # Write-ahead mode wants to put two files beside the run, which a read-only folder
        # refuses; nobody can be writing there either, so the file may count as frozen.
        return _connect(file, "ro&immutable=1")
    return run


def _prepare(run: sqlite3.Connection, file: Path) -> None:
    """Makes the tables in an empty file; checks those of any other."""
    run.execute("PRAGMA foreign_keys = ON")
    if run.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        _check(run, file)
    run.execute("PRAGMA journal_mode = WAL")
    # The default of many builds, NORMAL, may lose the last commit at a power cut.
    run.execute("PRAGMA synchronous = FULL")
    run.execute("BEGIN IMMEDIATE")  # two writers may both have seen an empty file
    if not run.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in filter(str.strip, _TABLES.split(";")):
            run.execute(statement)
        run.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
    run.execute("COMMIT")


def _check(run: sqlite3.Connection, file: Path) -> None:
    tables = {name for (name,) in run.execute("SELECT name FROM sqlite_master")}
    if not {"meta", "diagnoses", "records"} <= tables:
        raise StorageError(
            f"{file}: a SQLite file, but not a run of isograd; give a file that save() made"
        )
    row = run.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if row is None or row[0] != str(SCHEMA):
        found = "no schema number" if row is None else f"schema {row[0]}"
        raise StorageError(
            f"{file}: found {found}, this version of isograd reads and writes schema {SCHEMA}; "
            "use the version that wrote the file, or save to a new file"
        )


@contextmanager
def _troubles(file: Path, done: str) -> Iterator[None]:
    """Says what SQLite met in our words; `done` is read or written."""
    try:
        yield
    except StorageError as error:
        if str(file) in str(error):
            raise
        raise StorageError(f"{file}: {error}") from error
    except (sqlite3.Error, OSError, ValueError, KeyError) as error:
        raise StorageError(f"{file}: cannot be {done}: {_advice(file, error)}") from error


def _advice(file: Path, error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process has it locked; wait for it, or give each process its own file"
    if code == sqlite3.SQLITE_NOTADB:
        return "it is not a SQLite file; give a file that save() made, or a new name"
    if code == sqlite3.SQLITE_CORRUPT:
        return f"it is damaged ({error}); restore it from a copy"
    if code == sqlite3.SQLITE_FULL:
        return "the disk is full; free some space"
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        if not file.parent.is_dir():
            return f"there is no folder {file.parent}; make it first"
        return f"{error}; give a place where this user may write"
    return f"{type(error).__name__}: {error}; is it a run file that save() made?"
