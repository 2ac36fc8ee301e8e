"""What lies in a folder of results: the runs and sweeps in it, at any depth, and the state that each is in.

Of a run all is checked that has a checksum; of a sweep its `sweep.json` and what its tables say of themselves, but not
their rows, which can be gigabytes: those are checked when the sweep is read.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from dln.base.sealed import content, reading
from dln.errors import DamagedError, StorageError
from dln.history import ENDS, Record
from dln.results import tables
from dln.results.piece_store import AGGREGATES
from dln.results.run import COMMANDS, HISTORY, HYDRA, SUMMARY, load_config_of, load_yaml, read_summary
from dln.results.sweep import PARTS, RESULTS, SWEEP, SweepStore
from dln.utils import parsed_record, whole_lines

log = logging.getLogger("dln")

OVERRIDES, ABOUT = "overrides.yaml", "hydra.yaml"
"""What a run's config was composed from."""

_DATE = re.compile(r"^# .*\n", re.MULTILINE)
"""The line above each command in a `commands.txt`."""

_CONFIG_NAME = re.compile(r"^    config_name: (\S+)$", re.MULTILINE)
"""A line of `hydra.yaml`, which as YAML takes ten times as long to read as all else."""

State = Literal["complete", "unfinished", "damaged"]


def look(directory: Path) -> StoredRun | StoredSweep | None:
    """Return the run or sweep whose directory this is, None if it is of neither.

    Raises:
        StorageError: It may not be read.
    """
    with reading(directory):
        try:
            return _as_stored(directory, os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            return None


def _as_stored(directory: Path, names: Sequence[str]) -> StoredRun | StoredSweep | None:
    """Return what lies in a directory that holds files and folders of these names."""
    if {SWEEP, RESULTS, AGGREGATES}.intersection(names) or (
        PARTS in names and any((directory / PARTS).glob("*.parquet"))
    ):
        return StoredSweep(directory)
    return StoredRun(directory) if {HISTORY, SUMMARY, HYDRA}.intersection(names) else None


def listed(folder: Path) -> list[StoredRun | StoredSweep]:
    """Return all runs and sweeps in a folder, the newest last; runs of a sweep are not listed beside it.

    Folders in it that may not be read are passed over, with a warning.

    Raises:
        StorageError: The folder itself may not be read, or there is none.
    """
    found = []

    def unread(error: OSError) -> None:
        if error.filename == str(folder):
            raise StorageError(f"cannot read {folder}: {error.strerror}") from error
        log.warning("cannot read %s: %s", error.filename, error.strerror)

    for at, folders, files in os.walk(folder, onerror=unread):
        stored = _as_stored(Path(at), [*folders, *files])
        found += [] if stored is None else [stored]
        folders[:] = [name for name in folders if stored is None and not name.startswith(".")]
    return sorted(found, key=lambda stored: (stored.when, str(stored.directory)))


@dataclass(frozen=True)
class StoredRun:
    """A run's directory; each file in it is read once, when it is first asked for."""

    directory: Path
    runs: ClassVar[int] = 1

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """How it ended, as `summary.json` has it; empty if there is none, or one that is damaged."""
        return self._told[0]

    @property
    def faults(self) -> list[str]:
        """What is wrong with its files."""
        return [*self._told[1], *self._records[1]]

    @functools.cached_property
    def final(self) -> Record:
        """The last of its records; empty if there is none."""
        return parsed_record(self._records[0][-1]) if self._records[0] else {}

    @property
    def values(self) -> dict[str, Any]:
        """What it ended with: its last record, and the events found in it."""
        return {**self.final, **self.summary.get("events", {})}

    @property
    def ends(self) -> dict[str, int]:
        """The steps at which it, or a lane of it, ended early."""
        ends = {name: step for name, step in self.summary.get("events", {}).items() if name.startswith(ENDS)}
        status = self.summary.get("status")
        return ends | ({f"{status}_at": self.summary["steps"]} if status in ("interrupted", "failed") else {})

    @property
    def state(self) -> State:
        """Whether it ran to its end, and what was written is there."""
        if self.faults:
            return "damaged"
        return "complete" if self.summary.get("status") in ("finished", "diverged") else "unfinished"

    @property
    def what(self) -> str:
        """Whether it is a run or a comparison."""
        pair = "train_loss_a" in self.final if self.final else "model_a" in (self.config or {})
        return "comparison" if pair else "run"

    @functools.cached_property
    def when(self) -> float:
        """When it ended or, if it has not, last wrote, in seconds since 1970."""
        return _written(*(self.directory / name for name in (SUMMARY, HISTORY, HYDRA)), self.directory)

    @functools.cached_property
    def command(self) -> str:
        """What was typed; empty where nothing was, or it was not kept."""
        return _last_command(self.directory / HYDRA / COMMANDS)

    @functools.cached_property
    def overrides(self) -> list[str]:
        """What it is of: the named config, if it was another than the default, and what was changed in that."""
        told = load_yaml(self.directory / HYDRA / OVERRIDES)
        changes = [*map(str, told)] if isinstance(told, list) else []
        try:
            named = _CONFIG_NAME.search(content(self.directory / HYDRA / ABOUT).decode())
        except (OSError, ValueError):
            named = None
        return [*([] if named is None or named[1] == "default" else [f"-cn={named[1]}"]), *changes]

    @functools.cached_property
    def config(self) -> dict[str, Any] | None:
        """Its resolved config, None if it was not stored."""
        return load_config_of(self.directory)

    @functools.cached_property
    def _told(self) -> tuple[dict[str, Any], list[str]]:
        """The summary, and what is wrong with it."""
        try:
            return read_summary(self.directory) or {}, []
        except StorageError as error:
            return {}, [_fault(self.directory, error)]

    @functools.cached_property
    def _records(self) -> tuple[list[bytes], list[str]]:
        """The lines of the history before the first that is damaged, and what is wrong with that."""
        sums = self.summary.get("checksums")
        try:
            lines, fault = whole_lines(self.directory / HISTORY, None if sums is None else sums.split())
        except (FileNotFoundError, NotADirectoryError):
            return [], [f"{HISTORY}: it is gone"] if self.summary else []
        except StorageError as error:
            return [], [_fault(self.directory, error)]
        return lines, [f"{HISTORY}: {fault}"] if fault else []


@dataclass(frozen=True)
class StoredSweep:
    """A sweep's directory."""

    directory: Path
    what: ClassVar[str] = "sweep"

    @property
    def faults(self) -> list[str]:
        """What is wrong with its files."""
        return self._told.faults

    @property
    def runs(self) -> int:
        """How many of its runs are finished."""
        return self._told.runs

    @property
    def sums_over(self) -> list[str]:
        """The keys that it keeps sums over, in place of curves; none where it keeps curves."""
        return self._told.sums_over

    @property
    def failed(self) -> int:
        """How many of its runs raised."""
        return self._told.failed

    @property
    def keys(self) -> list[str]:
        """The keys that its runs differ in."""
        return [key for key in self._told.keys if key not in self._told.fixed] if self._told.fixed else []

    @property
    def fixed(self) -> dict[str, Any]:
        """The keys that are the same in all its runs, with their values."""
        return self._told.fixed

    @property
    def values(self) -> dict[str, Any]:
        """Nothing: its runs' final values are a table of their own."""
        return {}

    @property
    def state(self) -> State:
        """Whether nothing is missing that its command was to compute, and its files are tables."""
        if self.faults:
            return "damaged"
        return "complete" if self._told.settled and not self.failed else "unfinished"

    @functools.cached_property
    def when(self) -> float:
        """When it last wrote, in seconds since 1970."""
        return max(map(_written, self._told.files), default=0.0) or _written(self.directory / SWEEP, self.directory)

    @functools.cached_property
    def command(self) -> str:
        """What was typed last; empty where nothing was, or it was not kept."""
        return _last_command(self.directory / COMMANDS)

    @functools.cached_property
    def _told(self) -> _SweepFiles:
        return _SweepFiles.of(self.directory)


@dataclass
class _SweepFiles:
    """What the files of a sweep say, those that can be read."""

    files: list[Path]
    settled: bool = False
    """Whether nothing is left to be put together."""
    fixed: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, None] = field(default_factory=dict)
    runs: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)
    sums_over: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, directory: Path) -> _SweepFiles:
        store, told = SweepStore(directory), cls([])
        with told._noting(directory):
            told.files = store.pieces.files() if store.pieces.exists else store.files()
            told.settled = told.files in ([directory / RESULTS], [directory / AGGREGATES])
        with told._noting(directory):
            told.fixed = (store.description() or {}).get("fixed", {})
        with told._noting(directory):
            told.failed = len(store.failures())
        for path in told.files:
            with told._noting(directory), tables.opened(path) as file:
                about = tables.about(file.schema_arrow)
                told.sums_over = about.get("aggregate", {}).get("over", [])
                told.runs += about.get("runs", file.metadata.num_rows)
                told.keys |= dict.fromkeys([*about["config"], *about.get("aggregate", {}).get("moved", [])])
        return told

    @contextlib.contextmanager
    def _noting(self, directory: Path) -> Iterator[None]:
        """Note what cannot be read in the block; what is gone has been put together with others meanwhile."""
        try:
            yield
        except FileNotFoundError:
            pass
        except StorageError as error:
            self.faults.append(_fault(directory, error))


def _fault(directory: Path, error: StorageError) -> str:
    if isinstance(error, DamagedError):
        return f"{os.path.relpath(str(error.path), directory)}: {error.fault}"
    return str(error)


def _written(*paths: Path) -> float:
    """Return when the first of some files that exists was written, in seconds since 1970; 0 if there is none."""
    for path in paths:
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _last_command(path: Path) -> str:
    try:
        return _DATE.split(content(path).decode())[-1].strip()
    except (OSError, ValueError):
        return ""
