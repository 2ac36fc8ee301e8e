"""One run's directory: what is written there, when, and how it is read back.

history.jsonl    the records, one a line, written as they are taken
summary.json     how the run ended: status, engine, steps, seconds, events; what it was made with; checksums of all
                 records; written last
checkpoints/     weights, if asked for
.hydra/          the resolved config (written by Hydra)
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from pathlib import Path
from typing import Any

from dln.errors import DamagedError, StorageError
from dln.files import sync
from dln.history import History, Record
from dln.provenance import provenance
from dln.sealed import content, read_document, write_document
from dln.utils import checksum, load_history, to_json

log = logging.getLogger("dln")

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
        self._checksums: list[str] = []
        self._provenance = provenance()

    @property
    def count(self) -> int:
        """How many records are written."""
        return len(self._checksums)

    def append(self, record: Record) -> None:
        """Write one record."""
        line = to_json(record)
        try:
            self._file.write(line + "\n")
        except OSError as error:
            raise StorageError(
                f"cannot write {self.directory / HISTORY}: {error.strerror or error}; "
                f"the {self.count} records before this one are safe"
            ) from error
        self._checksums.append(checksum(line.encode()))

    def finish(self, summary: dict[str, Any]) -> None:
        """Write how the run ended and what it was made with, once its records are on the disk."""
        path = self.directory / SUMMARY
        try:
            sync(self.directory / HISTORY)
            checksums = " ".join(self._checksums)
            write_document(path, {**summary, "provenance": self._provenance, "checksums": checksums})
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

    Of one that is damaged, the records before that, and a warning.

    Raises:
        StorageError: There is none, or it cannot be read.
        DamagedError: Its first record is damaged already.
    """
    directory = Path(directory)
    told = load_summary(directory) or {}
    checksums = told.get("checksums")
    try:
        records = load_history(directory / HISTORY, None if checksums is None else checksums.split())
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(f"no run in {directory}: there is no {HISTORY}") from None
    return History(records, told.get("events", {}), str(directory))


def is_whole(directory: Path) -> bool:
    """Whether a run that has ended can be read back as it was written; of earlier versions, whether it seems so."""
    try:
        told = read_document(directory / SUMMARY)
        lines = content(directory / HISTORY).split(b"\n")[:-1]
    except OSError:
        return False
    return told is not None and told.get("checksums") in (None, " ".join(map(checksum, lines)))


def load_summary(directory: Path) -> dict[str, Any] | None:
    """Return what a run's summary says, None if there is none, or one that is damaged: then a warning says so.

    Raises:
        StorageError: It may not be read.
    """
    path = directory / SUMMARY
    try:
        told = read_document(path)
        if told is not None and not isinstance(told.get("events"), dict):
            raise DamagedError(path, "it is no summary of a run")
        return told
    except DamagedError as error:
        log.warning("%s is damaged: %s; how the run ended, and its events, are not known", error.path, error.fault)
        return None


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
