"""A sink of one's own: a class that is told what a watched run reads, and a test of it.

pytest examples/own_sink.py

Once the package that holds it is installed with

    [project.entry-points."isograd.sinks"]
    csv = "yourpackage.own_sink:Csv"

in its pyproject.toml, `isograd.watch(..., sinks=("sqlite", "csv"))` finds it by its code. Without
an installation, hand in an instance: `sinks=("sqlite", Csv("curves.csv"))`.
"""

import csv
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import ClassVar

from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo
from isograd.sinks import Sink
from isograd.testing import check_sink


class Csv(Sink):
    """Writes one row per number that a spreadsheet may want: step, what, value.

    Args:
        path: the file; that of the run with the suffix `.csv` where left out.
    """

    code: ClassVar[str] = "csv"

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self._path = path

    def open(self, info: RunInfo) -> None:
        """Begins the file."""
        path = Path(self._path or Path(info.path).with_suffix(".csv"))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file)
        self._rows.writerow(("step", "what", "value"))

    def record(self, record: Record) -> None:
        """The range of the gradient over the layers."""
        gradients = [number for _, number in record.pairs("backward.rms")]
        if gradients:
            self._rows.writerow((record.step, "smallest gradient", min(gradients)))
            self._rows.writerow((record.step, "largest gradient", max(gradients)))

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """The loss of every step."""
        self._rows.writerows((step, "loss", value) for step, value in pairs)

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """The code of an alarm, where it was raised or withdrawn; the file is safe from here on."""
        for alarm in changes:
            self._rows.writerow((alarm.last_step, f"alarm {alarm.state}", alarm.finding.code))
        self._file.flush()

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Ends the file with what was found last."""
        for finding in diagnosis.findings if diagnosis else ():
            self._rows.writerow(("", finding.code, finding.cause))
        self._rows.writerow(("", "outcome", outcome))
        self._file.close()


def test_the_sink_keeps_the_contract() -> None:
    check_sink(Csv())
