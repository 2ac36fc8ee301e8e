"""One run's directory: what is written there, when, and how it is read back.

history.jsonl    the records, one a line, written as they are taken
summary.json     how the run ended: status, engine, steps, seconds, events; what it was made with; checksums of all
                 records; written last
checkpoints/     weights, if asked for
.hydra/          the resolved config (written by Hydra), and the command as it was typed (`commands.txt`)
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from pathlib import Path
from typing import Any

from dln.base.files import from_home, sync
from dln.base.provenance import provenance
from dln.base.sealed import content, read_document, write_document
from dln.errors import DamagedError, StorageError
from dln.history import History, Record
from dln.utils import checksums_of, load_history, to_json

log = logging.getLogger("dln")

HISTORY = "history.jsonl"
SUMMARY = "summary.json"
CHECKPOINTS = "checkpoints"
HYDRA, CONFIG = ".hydra", "config.yaml"
"""Where a run's config lies."""
COMMANDS = "commands.txt"
MULTIRUN = "multirun.yaml"
"""What Hydra's own sweeper writes first."""

_MARKERS = {HISTORY: "run", MULTIRUN: "sweep", "sweep.json": "sweep"}
"""Files by which a directory is known to be taken, and what it then holds."""


class RunWriter:
    """Writes a run's records as they come, then how it ended. Use as a context manager."""

    def __init__(self, directory: str | Path, claimed: bool = False) -> None:
        """Open `directory` for one run, making it if need be.

        Args:
            directory: Where to write.
            claimed: This process has made it its own by `claim_named`.

        Raises:
            StorageError: It holds a run already, or cannot be written to.
        """
        self.directory = from_home(directory)
        if not claimed:
            refuse_occupied(self.directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Line buffering: every record reaches the file whole, whatever happens to the process after.
            mode = "w" if claimed else "x"
            self._file = open(self.directory / HISTORY, mode, encoding="utf-8", buffering=1)  # noqa: SIM115
        except OSError as error:
            raise StorageError(f"cannot write results to {self.directory}: {error.strerror or error}") from error
        self.count = 0
        """How many records are written."""
        self._provenance = provenance()

    def append(self, record: Record) -> None:
        """Write one record.

        Raises:
            StorageError: It cannot be written.
        """
        try:
            self._file.write(to_json(record) + "\n")
        except OSError as error:
            raise StorageError(
                f"cannot write {self.directory / HISTORY}: {error.strerror or error}; "
                f"the {self.count} records before this one are safe"
            ) from error
        self.count += 1

    def finish(self, summary: dict[str, Any]) -> None:
        """Write how the run ended and what it was made with, once its records are on the disk.

        Raises:
            StorageError: It cannot be written.
        """
        path = self.directory / SUMMARY
        try:
            sync(self.directory / HISTORY)
            # Of the file itself: a signal may have come between writing a record and counting it.
            checksums = " ".join(checksums_of(_lines(self.directory)))
            write_document(path, {**summary, "provenance": self._provenance, "checksums": checksums})
        except OSError as error:
            gone = not (self.directory / HISTORY).exists()
            records = "something has removed the records" if gone else "the records are safe"
            raise StorageError(f"cannot write {path}: {error.strerror or error}; {records}") from error

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

    Of a damaged one, the records before the damage, and a warning.

    Raises:
        StorageError: There is none, or it cannot be read.
        DamagedError: Its first record is damaged already.
    """
    directory = from_home(directory)
    told = load_summary(directory) or {}
    checksums = told.get("checksums")
    try:
        records = load_history(directory / HISTORY, None if checksums is None else checksums.split())
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(f"no run in {directory}: there is no {HISTORY}") from None
    return History(records, told.get("events", {}), str(directory), load_config_of(directory))


def load_config_of(directory: Path) -> dict[str, Any] | None:
    """Return the resolved config of a run, None if it was not stored."""
    told = load_yaml(directory / HYDRA / CONFIG)
    return told if isinstance(told, dict) else None


def load_yaml(path: Path) -> Any:
    """Return what a file that Hydra or a sweep wrote says; None where it cannot be read: a run is told without it."""
    import yaml  # heavy

    try:
        return yaml.load(content(path), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        return None


def is_whole(directory: Path) -> bool:
    """Whether a run that has ended can be read back as it was written; without checksums, whether it can be read."""
    try:
        told = read_document(directory / SUMMARY)
        lines = _lines(directory)
    except OSError:
        return False
    return told is not None and told.get("checksums") in (None, " ".join(checksums_of(lines)))


def _lines(directory: Path) -> list[bytes]:
    """Return the lines of a run's history; one cut short is left out."""
    return content(directory / HISTORY).split(b"\n")[:-1]


def load_summary(directory: Path) -> dict[str, Any] | None:
    """Return what a run's summary says, None if there is none, or one that is damaged: then a warning says so.

    Raises:
        StorageError: It may not be read.
    """
    try:
        return read_summary(directory)
    except DamagedError as error:
        log.warning("%s is damaged: %s; how the run ended, and its events, are not known", error.path, error.fault)
        return None


def read_summary(directory: Path) -> dict[str, Any] | None:
    """Return what a run's summary says, None if there is none.

    Raises:
        DamagedError: It is not what was written.
        StorageError: It may not be read.
    """
    told = read_document(directory / SUMMARY)
    if told is not None and not isinstance(told.get("events"), dict):
        raise DamagedError(directory / SUMMARY, "it is no summary of a run")
    return told


def refuse_occupied(directory: Path) -> None:
    """Raise StorageError where `directory` holds a run or a sweep already, or cannot be a directory."""
    for place in (directory, *directory.parents):
        if os.path.exists(place) and not place.is_dir():
            raise StorageError(f"cannot write results to {directory}: {place} is a file")
    for name, what in _MARKERS.items():
        if os.path.exists(directory / name):
            raise StorageError(f"{directory} holds a {what} already; choose another directory, or remove it")


def claim_named(directory: Path, marker: str) -> None:
    """Make a directory that the user has named this process's own: of several that want it, one makes the marker.

    Args:
        directory: Made if need be.
        marker: The file that says, once it is there, that the directory is taken: `history.jsonl` or `multirun.yaml`.

    Raises:
        StorageError: It is taken, or cannot be made.
    """
    refuse_occupied(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / marker).touch(exist_ok=False)
    except FileExistsError:
        raise StorageError(
            f"another process has just begun to write to {directory}; choose another directory, or wait"
        ) from None
    except OSError as error:
        raise StorageError(f"cannot write results to {directory}: {error.strerror or error}") from error


def release(directory: Path, marker: str) -> None:
    """Give up a claim that was not used: its marker is empty and there is no summary; or a sweep has no job yet."""
    with contextlib.suppress(OSError):
        empty = (directory / marker).stat().st_size == 0 and not (directory / SUMMARY).exists()
        if empty or (marker == MULTIRUN and os.listdir(directory) == [marker]):
            (directory / marker).unlink()


def claim_directory(wanted: Path) -> Path:
    """Make a fresh directory called `wanted`, or `wanted-2`, `wanted-3`, ... where that exists, and return its path.

    Making a directory is atomic: two processes that want the same name at the same moment get two.

    Raises:
        StorageError: It cannot be made.
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
