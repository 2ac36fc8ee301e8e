"""Weights & Biases; nothing leaves this machine unless `mode: online` is set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dln.base.files import from_home
from dln.history import History, Record
from dln.observers import ObservedRun, Observer, Status
from dln.trackers.tracker import ending, library, register_tracker, scalars


@register_tracker("wandb")
class Wandb(Observer):
    """Weights & Biases: offline, runs are written to `directory`/wandb, and `wandb sync` sends them later."""

    def __init__(
        self,
        project: str = "dln",
        entity: str | None = None,
        mode: Literal["offline", "online"] = "offline",
        directory: str = ".",
    ) -> None:
        """Take what `wandb.init` is to be told."""
        self._wandb = library("wandb", "wandb")
        self.told = {"project": project, "entity": entity, "mode": mode}
        self.directory = str(from_home(directory))

    def on_start(self, run: ObservedRun) -> None:
        """Begin a run of its own, whichever others there are."""
        quiet = self._wandb.Settings(console="off", silent=True)
        Path(self.directory).mkdir(parents=True, exist_ok=True)
        named = {"name": run.name[:128], "group": run.group, "config": run.config, "dir": self.directory}
        self.run = self._wandb.init(**self.told, **named, reinit="create_new", settings=quiet)

    def on_record(self, record: Record) -> None:
        """Log a record's scalars at its step."""
        self.run.log(scalars(record), step=record["step"])

    def on_end(self, status: Status, history: History) -> None:
        """Log how the run has ended, and close it."""
        self.run.summary.update({"status": status, **{f"events/{k}": v for k, v in ending(history.events).items()}})
        self.run.finish(exit_code=int(status in ("interrupted", "failed")))
