"""Records and findings as plain JSON values, and as one SQLite file per run.

The schema number lives here: raise it whenever what `records.py` or `findings.py` hold changes.
"""

from isograd.storage._plain import SCHEMA, dumps, from_plain, loads, to_plain
from isograd.storage._runs import Stored, load, save

__all__ = ["SCHEMA", "Stored", "dumps", "from_plain", "load", "loads", "save", "to_plain"]
