"""The sink `jsonl`: one JSON object per line, for `tail -f`, `jq` and other people's tools."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo
from isograd.sinks._sink import Sink
from isograd.storage import dumps, to_plain


class Jsonl(Sink):
    """Appends lines to a file: each has a `kind`, which is run, record, loss, alarm or end.

    A line of kind `record` names its sites and parameters only where they are new; the columns of
    later lines are in the same order.

    Args:
        path: the file; that of the run with the suffix `.jsonl` where left out.
    """

    code = "jsonl"

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self._path = path
        self._known: Record | None = None

    def where(self, run: str) -> str:
        """The file."""
        return str(Path(run).with_suffix(".jsonl") if self._path is None else Path(self._path))

    def open(self, info: RunInfo) -> None:
        """Opens the file at its end, and makes its folder."""
        path = Path(self.where(info.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        facts = to_plain(Record((), facts=info.facts))["facts"]
        self._line("run", {"name": info.name, "started": info.started, "facts": facts})

    def record(self, record: Record) -> None:
        """Writes a record; sites and parameters only where they have changed."""
        plain = to_plain(record)
        known = self._known
        if known and record.sites == known.sites and record.parameters == known.parameters:
            del plain["sites"], plain["parameters"]
        self._known = record
        if not plain["histograms"]:
            del plain["histograms"]
        self._line("record", plain)

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Writes a line per loss."""
        for step, value in pairs:
            (number,) = to_plain(Record((), facts={"value": float(value)}))["facts"].values()
            self._line("loss", {"step": step, "value": number})

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Writes a line per alarm."""
        for alarm in changes:
            self._line("alarm", to_plain(alarm))

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Writes how it ended, and closes the file."""
        findings = [] if diagnosis is None else [to_plain(f) for f in diagnosis.findings]
        self._line("end", {"outcome": outcome, "findings": findings})
        self._file.close()

    def _line(self, kind: str, plain: Mapping[str, Any]) -> None:
        self._file.write(f"{dumps({'kind': kind, **plain})}\n")
        self._file.flush()
