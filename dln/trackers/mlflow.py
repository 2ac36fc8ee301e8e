"""MLflow: a database here, `mlflow.db`, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import time
from typing import Any

from dln.history import History, Record
from dln.observers import ObservedRun, Observer, Status
from dln.trackers.tracker import ending, flat, library, register_tracker, scalars

AT_ONCE = 1000
"""Numbers that are sent at a time, the most that MLflow takes; of parameters a tenth."""

ENDS: dict[Status, str] = {"finished": "FINISHED", "diverged": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
"""What MLflow calls the ways in which a run may end."""


@register_tracker("mlflow")
class MLflow(Observer):
    """MLflow: runs go to `uri`, a database such as sqlite:///mlflow.db, which is the default, or a server."""

    def __init__(self, experiment: str = "dln", uri: str | None = None) -> None:
        """Take the experiment's name, and where it is."""
        self._mlflow = library("mlflow", "mlflow")
        self.experiment, self.uri = experiment, uri

    def on_start(self, run: ObservedRun) -> None:
        """Begin a run, with its config as parameters."""
        self.client = self._mlflow.MlflowClient(self.uri)
        known = self.client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else self.client.create_experiment(self.experiment)
        tags = {"group": run.group} if run.group else {}
        self.run_id = self.client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        self._waiting: list[Any] = []
        entity = self._mlflow.entities.Param
        params = [entity(key, str(value)) for key, value in flat(run.config).items()]
        for start in range(0, len(params), AT_ONCE // 10):
            self.client.log_batch(self.run_id, params=params[start : start + AT_ONCE // 10])

    def on_record(self, record: Record) -> None:
        """Take a record's scalars, which are sent many at a time."""
        self._take(scalars(record), record["step"])

    def on_end(self, status: Status, history: History) -> None:
        """Send what is left and how the run has ended, and close it."""
        events = {f"events/{name}": value for name, value in ending(history.events).items()}
        self._take(events, history.final.get("step", 0))
        self._send(len(self._waiting))
        self.client.set_tag(self.run_id, "status", status)
        self.client.set_terminated(self.run_id, ENDS[status])

    def _take(self, values: dict[str, float], step: int) -> None:
        now = int(1000 * time.time())
        self._waiting += [self._mlflow.entities.Metric(name, value, now, step) for name, value in values.items()]
        while len(self._waiting) >= AT_ONCE:
            self._send(AT_ONCE)

    def _send(self, count: int) -> None:
        now, self._waiting = self._waiting[:count], self._waiting[count:]
        if now:
            self.client.log_batch(self.run_id, metrics=now)
