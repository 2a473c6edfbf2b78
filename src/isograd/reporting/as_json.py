"""The JSON form: everything, in the schema of `assets/report.schema.json`; and back."""

from isograd.errors import StorageError
from isograd.findings import Diagnosis
from isograd.reporting._summary import version
from isograd.storage import SCHEMA, dumps, from_plain, loads, to_plain


def tell(diagnosis: Diagnosis) -> str:
    """The whole diagnosis as strict JSON on one line."""
    severity = diagnosis.severity
    return dumps(
        {
            "schema": SCHEMA,
            "tool": {"name": "isograd", "version": version()},
            "healthy": diagnosis.healthy,
            "severity": None if severity is None else severity.value,
            **to_plain(diagnosis),
        }
    )


def read(text: str) -> Diagnosis:
    """The diagnosis that a report holds.

    Raises:
        StorageError: the text is not a JSON report, or is of another schema.
    """
    plain = loads(text)
    if not isinstance(plain, dict) or "schema" not in plain:
        raise StorageError('this is not a JSON report: it has no "schema"; give one of isograd')
    if plain["schema"] != SCHEMA:
        raise StorageError(
            f"found a report of schema {plain['schema']!r}, this version of isograd reads schema "
            f"{SCHEMA}; use the version that wrote it"
        )
    return from_plain(Diagnosis, plain)
