"""The sink `tensorboard`: curves per kind of layer, and how the layers spread, over the steps."""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from isograd.errors import InputError
from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo
from isograd.sinks import _view as view
from isograd.sinks._sink import Sink


class TensorBoard(Sink):
    """Writes event files: `tensorboard --logdir FOLDER` shows them.

    Args:
        folder: where; beside the run file, with the suffix `.tensorboard`, where left out.
    """

    code = "tensorboard"
    package = "tensorboard"

    def __init__(self, folder: str | PathLike[str] | None = None) -> None:
        self._folder = folder
        self._standing: view.Alarms = {}

    def where(self, run: str) -> str:
        """The command that shows it."""
        return f"tensorboard --logdir {self._place(run)}"

    def _place(self, run: str) -> Path:
        return Path(self._folder or Path(run).with_suffix(".tensorboard"))

    def open(self, info: RunInfo) -> None:
        """Makes the folder and the event file."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("needs TensorBoard: pip install 'isograd[tensorboard]'") from error
        self._writer = SummaryWriter(str(self._place(info.path)), flush_secs=10)
        facts = "\n".join(f"- {key}: {value}" for key, value in info.facts.items())
        self._writer.add_text("run", f"{info.name}, {info.started}\n\n{facts}", 0)

    def record(self, record: Record) -> None:
        """Writes the scalars, and one histogram per series: layers by the log of their number."""
        for name, number in view.scalars(record).items():
            self._writer.add_scalar(name, number, record.step)
        for key in (*view.SIGNALS, *view.WEIGHTS):
            logs = [
                math.log10(x) for *_, x in view.column(record, key) if x > 0 and math.isfinite(x)
            ]
            if len(logs) > 1:
                self._writer.add_histogram(f"layers/log10 {key}", _array(logs), record.step)
        self._writer.add_scalar("alarms", len(self._standing), record.step)

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Writes the loss of every step."""
        for step, value in pairs:
            self._writer.add_scalar("loss", value, step)

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Writes alarms as text, at the step at which they were seen last."""
        view.update(self._standing, changes)
        for alarm in changes:
            finding = alarm.finding
            text = f"**{finding.code}** {alarm.state}, {finding.cause}: {finding.message}"
            self._writer.add_text("alarms", text, alarm.last_step)

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Writes how it ended, and ends the thread that writes."""
        findings = [] if diagnosis is None else diagnosis.findings
        lines = [f"- {finding.code} {finding.cause}: {finding.message}" for finding in findings]
        self._writer.add_text("end", "\n".join([outcome, "", *lines]), 0)
        self._writer.close()


def _array(numbers: list[float]) -> object:
    import numpy as np

    return np.array(numbers)
