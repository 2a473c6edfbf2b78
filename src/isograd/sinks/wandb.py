"""The sink `wandb`: Weights & Biases, into the run that is open or one of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from isograd.errors import InputError
from isograd.findings import Alarm, Diagnosis, Severity
from isograd.records import Record, RunInfo
from isograd.sinks import _view as view
from isograd.sinks._sink import Sink

PREFIX = "isograd/"
"""Before every name: in a run that is open stand the training's own."""


class Wandb(Sink):
    """Logs to the run that `wandb.init` has opened; where there is none, opens one and ends it.

    Alarms are sent as W&B's alerts. Steps have an axis of their own, `isograd/step`, so that W&B's
    counter, which goes on with each of the training's own calls, stays the training's.

    Args:
        options: of `wandb.init`, such as `project` or `mode`, where a run has to be opened.
    """

    code = "wandb"
    package = "wandb"

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._standing: view.Alarms = {}

    def where(self, run: str) -> str:  # noqa: ARG002
        """The service, and where in it."""
        return f"W&B, project {self._options.get('project', 'isograd')}, or the run that was open"

    def open(self, info: RunInfo) -> None:
        """Finds the run that is open, or opens one."""
        try:
            import wandb
        except ImportError as error:
            raise InputError("needs W&B: pip install 'isograd[wandb]'") from error
        self._own = wandb.run is None
        if wandb.run is not None:
            self._run: Any = wandb.run
        else:
            folder = Path(info.path).absolute().parent
            folder.mkdir(parents=True, exist_ok=True)
            chosen: dict[str, Any] = {"project": "isograd", "name": info.name, "dir": str(folder)}
            # W&B would else put itself between the training and its standard output.
            chosen["settings"] = wandb.Settings(console="off")
            self._run = wandb.init(**{**chosen, **self._options})
        self._run.config.update({"isograd": dict(info.facts)}, allow_val_change=True)
        self._run.define_metric(f"{PREFIX}step")
        self._run.define_metric(f"{PREFIX}*", step_metric=f"{PREFIX}step")

    def record(self, record: Record) -> None:
        """Logs the scalars."""
        self._log(record.step, {**view.scalars(record), "alarms": len(self._standing)})

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Logs the loss of every step."""
        for step, value in pairs:
            self._log(step, {"loss": value})

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Sends an alert for each that is raised."""
        new = [a for a in changes if view.key(a) not in self._standing]
        view.update(self._standing, changes)
        for alarm in new:
            if alarm.state != "withdrawn":
                finding = alarm.finding
                level = {Severity.ERROR: "ERROR", Severity.WARNING: "WARN"}
                self._run.alert(
                    title=f"{finding.code} {finding.cause}",
                    text=f"step {alarm.first_step}: {finding.message}",
                    level=level.get(finding.severity, "INFO"),
                )

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Keeps how it ended; ends the run if it was opened here."""
        self._run.summary[f"{PREFIX}outcome"] = outcome
        if diagnosis is not None:
            found = [f"{finding.code} {finding.cause}" for finding in diagnosis.findings]
            self._run.summary[f"{PREFIX}findings"] = found
        if self._own:
            self._run.finish(exit_code=0 if outcome == "finished" else 1)

    def _log(self, step: int, numbers: dict[str, float]) -> None:
        named = {f"{PREFIX}{name}": number for name, number in numbers.items()}
        self._run.log({f"{PREFIX}step": step, **named})
