"""Records and findings as plain JSON values, and as one SQLite file per run.

Two numbers live here: SCHEMA, of the form in which `records.py` and `findings.py` are written, and
TABLES, of the run file. Raise the one that changes.
"""

from isograd.storage._diagnoses import Stored, load, save
from isograd.storage._files import TABLES
from isograd.storage._plain import SCHEMA, dumps, free, from_plain, loads, to_plain
from isograd.storage._reader import Mark, News, Progress, Run, open_run
from isograd.storage._sessions import Session, sessions
from isograd.storage._writer import RunWriter

__all__ = [
    "SCHEMA",
    "TABLES",
    "Mark",
    "News",
    "Progress",
    "Run",
    "RunWriter",
    "Session",
    "Stored",
    "dumps",
    "free",
    "from_plain",
    "load",
    "loads",
    "open_run",
    "save",
    "sessions",
    "to_plain",
]
