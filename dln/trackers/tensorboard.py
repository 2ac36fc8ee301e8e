"""TensorBoard: event files beside what else is stored of a run."""

from __future__ import annotations

import json
from pathlib import Path

from dln.base.files import from_home
from dln.history import History, Record
from dln.observers import ObservedRun, Observer, Status
from dln.trackers.tracker import ending, library, register_tracker, scalars

LONGEST = 150
"""Characters of a folder's name."""


@register_tracker("tensorboard")
class TensorBoard(Observer):
    """TensorBoard: event files in the run's directory or, if `directory` is given, in a folder there, SWEEP/RUN."""

    def __init__(self, directory: str | None = None) -> None:
        """Write to the run's own directory, if it has one and none is given."""
        self._writer = library("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self.directory = None if directory is None else from_home(directory)

    def on_start(self, run: ObservedRun) -> None:
        """Begin a file with the config as a text; what an earlier run has written here no longer counts."""
        self.events = self._writer(str(self._place(run)), purge_step=0)
        self.events.add_text("config", f"```json\n{json.dumps(run.config, indent=1, default=str)}\n```", 0)

    def on_record(self, record: Record) -> None:
        """Write a record's scalars at its step."""
        for name, value in scalars(record).items():
            self.events.add_scalar(name, value, record["step"])

    def on_end(self, status: Status, history: History) -> None:
        """Write how the run has ended, and close the file."""
        last = history.final.get("step", 0)
        self.events.add_text("status", status, last)
        for name, value in ending(history.events).items():
            self.events.add_scalar(f"events/{name}", value, last)
        self.events.close()

    def _place(self, run: ObservedRun) -> Path:
        if self.directory is None and run.directory is not None:
            return run.directory
        name = run.name.replace("/", "_")[:LONGEST]
        if self.directory is None and run.sweep is not None:
            return run.sweep / "tensorboard" / name
        return Path(self.directory or "tensorboard", run.group or "", name)
