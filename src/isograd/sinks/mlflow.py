"""The sink `mlflow`: metrics of the MLflow run that is active, or of one of its own."""

import math
import time
import warnings
from collections.abc import Mapping, Sequence

from isograd.errors import InputError
from isograd.findings import Alarm, Diagnosis
from isograd.records import Record, RunInfo
from isograd.sinks import _view as view
from isograd.sinks._sink import Sink

BATCH = 1000
"""Metrics in one call: MLflow takes no more."""

SECONDS = 5.0
"""Between two calls: each takes a store tens of milliseconds of the training's time."""

LONGEST = 500
"""Characters of a tag: what every store of MLflow takes."""


class Mlflow(Sink):
    """Logs to the active run of MLflow; where there is none, begins one and ends it.

    Metrics are handed over every few seconds, at an alarm, and at the end.

    Args:
        tracking_uri: of the store, such as `sqlite:///mlflow.db`; MLflow's own where left out.
        experiment: where a run has to be begun; made where there is none of that name.
    """

    code = "mlflow"
    package = "mlflow"

    def __init__(self, *, tracking_uri: str | None = None, experiment: str = "isograd") -> None:
        self._uri = tracking_uri
        self._experiment = experiment
        self._standing: view.Alarms = {}
        self._waiting: list[tuple[str, float, int, int]] = []
        """Name, value, step, and when: milliseconds."""
        self._handed = -math.inf

    def where(self, run: str) -> str:  # noqa: ARG002
        """The service, and where in it."""
        return f"MLflow, experiment {self._experiment}, or the run that was active"

    def open(self, info: RunInfo) -> None:
        """Finds the active run, or begins one."""
        try:
            import mlflow
        except ImportError as error:
            raise InputError("needs MLflow: pip install 'isograd[mlflow]'") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow about the packages that it uses
            active = None if self._uri else mlflow.active_run()
            self._own = active is None
            self._client = mlflow.MlflowClient(self._uri)
            if active is not None:
                self._run = active.info.run_id
            else:
                found = self._client.get_experiment_by_name(self._experiment)
                place = (
                    found.experiment_id
                    if found
                    else self._client.create_experiment(self._experiment)
                )
                self._run = self._client.create_run(place, run_name=info.name).info.run_id
            self._tag({key: str(value) for key, value in info.facts.items()})

    def record(self, record: Record) -> None:
        """Logs the scalars."""
        numbers = {**view.scalars(record), "alarms": len(self._standing)}
        self._log([(name, number, record.step) for name, number in numbers.items()])

    def losses(self, pairs: Sequence[tuple[int, float]]) -> None:
        """Logs the loss of every step."""
        self._log([("loss", value, step) for step, value in pairs])

    def alarms(self, changes: Sequence[Alarm]) -> None:
        """Keeps each alarm as a tag, by its code."""
        view.update(self._standing, changes)
        for alarm in changes:
            text = f"{alarm.state} at step {alarm.last_step}: {alarm.finding.message}"
            self._tag({alarm.finding.code: text})
        self._hand_over()

    def close(self, diagnosis: Diagnosis | None, outcome: str) -> None:
        """Keeps how it ended; ends the run if it was begun here."""
        self._hand_over()
        self._tag({"outcome": outcome})
        if diagnosis is not None:
            found = [f"{finding.code} {finding.cause}" for finding in diagnosis.findings]
            self._tag({"findings": ", ".join(found) or "none"})
        if self._own:
            status = "FINISHED" if outcome == "finished" else "FAILED"
            self._client.set_terminated(self._run, status)

    def _log(self, rows: Sequence[tuple[str, float, int]]) -> None:
        now = int(1000 * time.time())
        self._waiting += [(name, float(number), step, now) for name, number, step in rows]
        if len(self._waiting) >= BATCH or time.monotonic() > self._handed + SECONDS:
            self._hand_over()

    def _hand_over(self) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(self._waiting), BATCH):
            metrics = [
                Metric(f"isograd/{name}", number, when, step)
                for name, number, step, when in self._waiting[start : start + BATCH]
            ]
            self._client.log_batch(self._run, metrics)
        self._waiting.clear()
        self._handed = time.monotonic()

    def _tag(self, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            self._client.set_tag(self._run, f"isograd.{name}", text[:LONGEST])
