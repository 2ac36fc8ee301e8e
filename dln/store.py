"""One run's directory: what is written there, when, and how it is read back.

history.jsonl    the records, one a line, written as they are taken
summary.json     how the run ended: status, engine, steps, seconds, events, what it was made with; written last
checkpoints/     weights, if asked for
.hydra/          the resolved config (written by Hydra)
"""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

from dln.errors import StorageError
from dln.files import placing
from dln.history import History, Record
from dln.provenance import provenance
from dln.utils import load_history, to_json

HISTORY = "history.jsonl"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"


class RunWriter:
    """Writes a run's records as they come, then how it ended. Use as a context manager."""

    def __init__(self, directory: str | Path) -> None:
        """Open `directory` for one run, making it if need be.

        Raises:
            StorageError: It holds a run already, or cannot be written to.
        """
        self.directory = Path(directory)
        refuse_occupied(self.directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Line buffering: every record reaches the file whole, whatever happens to the process after.
            self._file = open(self.directory / HISTORY, "x", encoding="utf-8", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise StorageError(f"cannot write results to {self.directory}: {error.strerror or error}") from error
        self.count = 0
        self._provenance = provenance()

    def append(self, record: Record) -> None:
        """Write one record."""
        try:
            self._file.write(to_json(record) + "\n")
        except OSError as error:
            raise StorageError(
                f"cannot write {self.directory / HISTORY}: {error.strerror or error}; "
                f"the {self.count} records before this one are safe"
            ) from error
        self.count += 1

    def finish(self, summary: dict[str, Any]) -> None:
        """Write how the run ended and what it was made with, beside and renamed into place."""
        path = self.directory / SUMMARY
        summary = {**summary, "provenance": self._provenance}
        try:
            with placing(path) as beside:
                beside.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}; the records are safe") from error

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk, reported by `append` already
            self._file.close()


def run_summary(
    status: str, engine: str, steps: int, max_steps: int, seconds: float, events: dict[str, Any]
) -> dict[str, Any]:
    """Return what `summary.json` says of a run."""
    return {
        "status": status,
        "engine": engine,
        "steps": steps,
        "max_steps": max_steps,
        "seconds": round(seconds, 3),
        "events": events,
    }


def load_run(directory: str | Path) -> History:
    """Return the history stored in a run's directory, finished or not.

    Raises:
        StorageError: There is none.
    """
    directory = Path(directory)
    try:
        records = load_history(directory / HISTORY)
    except FileNotFoundError:
        raise StorageError(f"no run in {directory}: there is no {HISTORY}") from None
    summary = directory / SUMMARY
    events = json.loads(summary.read_text(encoding="utf-8"))["events"] if summary.exists() else {}
    return History(records, events, str(directory))


def refuse_occupied(directory: Path) -> None:
    """Raise StorageError where `directory` holds a run or a sweep already, or cannot be a directory."""
    for place in (directory, *directory.parents):
        if place.exists() and not place.is_dir():
            raise StorageError(f"cannot write results to {directory}: {place} is a file")
    for name, what in ((HISTORY, "run"), ("multirun.yaml", "sweep")):
        if (directory / name).exists():
            raise StorageError(f"{directory} holds a {what} already; choose another directory, or remove it")


def claim_directory(wanted: Path) -> Path:
    """Make a fresh directory called `wanted`, or `wanted-2`, `wanted-3`, ... where that exists, and return its path.

    Making a directory is atomic: two processes that want the same name at the same moment get two.
    """
    names = itertools.chain([wanted.name], (f"{wanted.name}-{number}" for number in itertools.count(2)))
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for path in map(wanted.with_name, names):
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise StorageError(f"cannot make {wanted}: {error.strerror or error}") from error
    raise AssertionError("names have no end")
