"""trackio: a database on this machine, in the directory that the environment variable TRACKIO_DIR names."""

from __future__ import annotations

import contextlib
import io

from dln.history import History, Record
from dln.observers import ObservedRun, Observer, Status
from dln.trackers.tracker import ending, flat, library, register_tracker, scalars


@register_tracker("trackio")
class Trackio(Observer):
    """trackio: runs are kept on this machine, under TRACKIO_DIR, and `trackio show` draws them."""

    def __init__(self, project: str = "dln") -> None:
        """Take the name of the project."""
        self._trackio = library("trackio", "trackio")
        self.project = project

    def on_start(self, run: ObservedRun) -> None:
        """Begin a run; what trackio prints of it is dropped."""
        config = flat(run.config)
        options = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        with contextlib.redirect_stdout(io.StringIO()):
            self.run = self._trackio.init(self.project, run.name, run.group, config=config, **options)

    def on_record(self, record: Record) -> None:
        """Log a record's scalars at its step."""
        self.run.log(scalars(record), step=record["step"])

    def on_end(self, status: Status, history: History) -> None:
        """Log how the run has ended, and wait until all is stored."""
        events = {f"events/{name}": value for name, value in ending(history.events).items()}
        self.run.log({"status": status, **events}, step=history.final.get("step", 0))
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()  # of the run, which would else be closed once more when Python ends
