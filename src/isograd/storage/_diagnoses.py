"""Diagnoses in a run file: each `save` adds one, whole or not at all."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path

from isograd.findings import Diagnosis, Finding, Verdict
from isograd.records import Reading, Record
from isograd.storage._files import open_to_read, open_to_write, transaction, troubles
from isograd.storage._plain import dumps, from_plain, loads, to_plain


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
    with (
        troubles(file, "written"),
        closing(open_to_write(file, durable=True)) as run,
        transaction(run),
    ):
        key = run.execute(
            "INSERT INTO diagnoses (name, saved, findings, verdicts) VALUES (?, ?, ?, ?)",
            (name, saved, findings, verdicts),
        ).lastrowid
        run.executemany(
            "INSERT INTO records (role, step, document, diagnosis) VALUES (?, ?, ?, ?)",
            [(*document, key) for document in documents],
        )


def load(path: str | PathLike[str]) -> list[Stored]:
    """All diagnoses of a run file, in the order in which they were saved.

    Raises:
        StorageError: there is no such file, it is no run file, it is of another schema, or it
            cannot be read.
    """
    file = Path(path)
    with troubles(file, "read"), closing(open_to_read(file)) as run:
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
