"""A sweep's results on disk: part files, one row a run, compacted into one; a run with a row there is finished.

sweep.json         the values that are the same in all runs; all that runs were computed with (see dln.base.provenance)
parts/*.parquet    finished ensembles, each written beside and renamed into place
results.parquet    all of them in one file, once nothing is missing
commands.txt       every command that was given to the directory, as it was typed, below its date
references/        what runs are compared with, each once (see dln.results.references)
failed.jsonl       runs that raised, and what they raised; a rerun tries them again
damaged/           files that could not be read; their runs are computed again

Where aggregates are kept in place of curves, runs are finished that `pieces/` or `aggregates.parquet` holds
(dln.results.piece_store), and rows are of those that keep their curves too.

A row has the run's identity (a hash of its resolved config), every key of its config, the steps of events such as
`diverged_at`, and the curves: lists over its own records.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dln.base.files import BESIDE, beside_of, from_home, placing
from dln.base.locking import locking
from dln.base.sealed import content, read_document, write_document
from dln.errors import DamagedError, StorageError
from dln.results import part_files, tables
from dln.results.piece_store import PieceStore
from dln.results.references import REFERENCES, orphans
from dln.results.run import COMMANDS
from dln.results.tables import IDENTITY

SWEEP, RESULTS, PARTS, FAILED, DAMAGED = "sweep.json", "results.parquet", "parts", "failed.jsonl", "damaged"
LOCK, WORKERS = ".lock", ".workers"
"""Files that a driver locks, and that a launcher's workers share."""


class SweepStore:
    """The directory of one sweep."""

    def __init__(self, directory: str | Path) -> None:
        """Name a directory; nothing is read or written yet."""
        self.directory = from_home(directory)
        self.damaged: list[str] = []
        """Files that `finished` has set aside."""
        self._stored: set[bytes] | None = None
        self.pieces = PieceStore(self.directory, self.writing, self.set_aside)
        """Sums over runs, where the sweep keeps them in place of curves."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other drivers out while the block runs.

        Raises:
            StorageError: Another process is at work here.
        """
        with self.writing():
            self.directory.mkdir(parents=True, exist_ok=True)
        with locking(self.directory / LOCK) as ours:
            if ours is False:
                raise StorageError(
                    f"another process is at work on the sweep in {self.directory}; wait for it, or choose another "
                    "directory and merge the two later"
                )
            parts = self.directory / PARTS
            if os.path.lexists(parts) and not parts.is_dir():
                self.set_aside(parts)
            with self.writing():
                parts.mkdir(exist_ok=True)
            yield

    def expect_workers(self) -> None:
        """Prepare for `working`: a later driver then knows that there may be workers."""
        with self.writing():
            (self.directory / WORKERS).touch()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Show, while the block runs, that a launcher's worker is at work here, so that `clear` spares its files."""
        with locking(self.directory / WORKERS, shared=True, wait=True):
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Tell the block whether no worker of an earlier driver is at work; none can begin while the block runs."""
        if not (self.directory / WORKERS).exists():
            yield True
            return
        with locking(self.directory / WORKERS) as ours:
            yield ours is True

    def clear(self) -> None:
        """Remove what processes that were killed left half written; nobody else may be at work here."""
        for path in (beside_of(self.directory / name) for name in (SWEEP, RESULTS)):
            path.unlink(missing_ok=True)
        for path in (self.directory / PARTS).glob(BESIDE.format("*.parquet")):
            path.unlink()
        self.pieces.clear()

    def description(self) -> dict[str, Any] | None:
        """Return what sweep.json says, or None if there is none.

        Raises:
            DamagedError: It is not what was written.
            StorageError: It cannot be read.
        """
        path = self.directory / SWEEP
        told = read_document(path)
        if told is not None and not (isinstance(told.get("kind"), str) and isinstance(told.get("fixed"), dict)):
            raise DamagedError(path, "it is no description of a sweep")
        return told

    def describe(self, description: Mapping[str, Any]) -> None:
        """Write sweep.json."""
        with self.writing():
            write_document(self.directory / SWEEP, description)

    def sign(self, *made_with: Mapping[str, Any]) -> None:
        """Add to sweep.json what runs are computed with, where it does not say so already."""
        told = self.description() or {}
        before = told.get("provenance", [])
        new = [each for i, each in enumerate(made_with) if each not in (*before, *made_with[:i])]
        if new:
            self.describe({**told, "provenance": [*before, *new]})

    def note(self, command: str) -> None:
        """Add a command, with its date, to those that were given; nothing of an empty one."""
        if not command:
            return
        with self.writing(), open(self.directory / COMMANDS, "a", encoding="utf-8") as file:
            file.write(command)

    def commands(self) -> str:
        """Return what `note` has added; nothing of sweeps that were run before it was noted."""
        path = self.directory / COMMANDS
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def finished(self) -> np.ndarray:
        """Return the sorted identities of all runs whose results can be read; files that cannot be are set aside.

        Where aggregates are kept those are the runs that a piece holds, whether they keep their curves too or not.
        """
        return self.pieces.finished() if self.pieces.exists else self.in_rows()

    def in_rows(self) -> np.ndarray:
        """Return the sorted identities of all runs that have a row; files that cannot be read are set aside."""
        done = [np.array([], IDENTITY), *map(tables.identities, self.whole_files())]
        return np.unique(np.concatenate(done))

    def whole_files(self) -> list[Path]:
        """Return the files that hold results as they were written; others are set aside."""
        return part_files.whole_files(self.files(), self.set_aside)

    def set_aside(self, path: Path) -> None:
        """Move a damaged file into `damaged/`, under its name, with a number behind it if that is taken."""
        with self.writing():
            place = self.directory / DAMAGED / path.name
            place.parent.mkdir(exist_ok=True)
            names = (place.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
            while os.path.lexists(place):
                place = next(names)
            path.rename(place)
        self.damaged.append(place.name)

    def files(self) -> list[Path]:
        """Return the files that hold results: the compacted one first."""
        return part_files.files_of(self.directory / RESULTS, self.directory / PARTS)

    @property
    def keys(self) -> set[str]:
        """The keys of the config that runs that lie here know, as far as files can be read."""
        known: set[str] = set()
        for path in (*self.files(), *self.pieces.files()):
            with contextlib.suppress(DamagedError, FileNotFoundError):
                known |= {*tables.columns_of(path)["config"]}
        return known

    def constants(self) -> dict[str, Any]:
        """Return the values of the config that are the same in all runs that lie here, as `tables.stored` has them."""
        return tables.constants([*self.files(), *self.pieces.files()])

    def write(self, table: pa.Table) -> None:
        """Write the results of an ensemble as a part of its own."""
        self._place([table], self._fresh_part())

    @functools.cached_property
    def references(self) -> SweepStore:
        """Where what runs are compared with is stored."""
        return SweepStore(self.directory / REFERENCES)

    def refer(self, table: pa.Table) -> None:
        """Write what runs are compared with; others may be doing the same."""
        with self.writing():
            for folder in (self.references.directory, self.references.directory / PARTS):
                folder.mkdir(exist_ok=True)
        self.references.write(table)
        self.references.stored().update(tables.identities_of(table))

    def settle_references(self) -> None:
        """Put what runs are compared with into one file, and say of it that it is a sweep; nobody else may be here."""
        if self.references.files():
            self.references.compact(np.array([], IDENTITY))
            self.references.describe({"kind": "SingleConfig", "fixed": {}})

    def stored(self) -> set[bytes]:
        """Return the identities of the runs that are known here to be stored, to be added to as more are."""
        if self._stored is None:
            self._stored = {run for path in self.files() for run in tables.identities(path).tolist()}
        return self._stored

    def orphans(self) -> np.ndarray:
        """Return the identities of runs whose references are gone; files of these that cannot be read are set aside."""
        return orphans(self.files(), self.references.finished())

    def fail(self, run: str, overrides: Sequence[str], error: str) -> None:
        """Note that a run raised."""
        with self.writing(), open(self.directory / FAILED, "a", encoding="utf-8") as file:
            file.write(json.dumps({"run": run, "overrides": list(overrides), "error": error}) + "\n")

    def failures(self) -> dict[str, dict[str, Any]]:
        """Return what `fail` has noted, by identity."""
        try:
            lines = content(self.directory / FAILED).split(b"\n")[:-1]  # one may be half written
        except FileNotFoundError:
            return {}
        noted = [told for told in map(_failure, lines) if told is not None]
        return {told["run"]: told for told in noted}

    def forget_failures(self) -> None:
        """Forget what failed: it is tried again."""
        path = self.directory / FAILED
        if path.is_dir():
            self.set_aside(path)
        with self.writing():
            path.unlink(missing_ok=True)

    def drop(self, runs: np.ndarray) -> None:
        """Remove the results of some runs; where aggregates are kept, those of all that they are summed up with."""
        self.pieces.drop(runs)
        for path in self.files():
            mine = tables.identities(path)
            keep = np.setdiff1d(mine, runs)
            if len(keep) < len(mine):
                if len(keep):
                    self._place(tables.gather([path], keep), self._fresh_part())
                path.unlink()

    def compact(self, order: np.ndarray) -> None:
        """Put all parts into results.parquet, runs in the order of these identities and then others.

        What was damaged since it was written is set aside.
        """
        if self.files() in ([], [self.directory / RESULTS]):
            return
        files = self.whole_files()
        if not files:
            return
        self._place(tables.gather(files, order, others=True), self.directory / RESULTS)
        for path in files:
            if path.parent.name == PARTS:
                path.unlink()

    def gather(self, files: Sequence[Path]) -> None:
        """Put files of other sweeps together as this one's; of runs that several have, the first counts."""
        self._place(tables.gather(files, np.array([], IDENTITY), others=True), self.directory / RESULTS)

    def _fresh_part(self) -> Path:
        with self.writing():
            (self.directory / PARTS).mkdir(parents=True, exist_ok=True)
        return self.directory / PARTS / f"{time.time_ns():x}-{os.getpid():x}.parquet"

    def _place(self, parts: Iterable[pa.Table], path: Path) -> None:
        """Write tables to a file and put it into place."""
        with self.writing(), placing(path) as beside:
            tables.write(parts, beside)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an error of the disk in the block into one that says what is safe and how to go on.

        Raises:
            StorageError: It failed.
        """
        try:
            yield
        except DamagedError:  # of a file that is read meanwhile
            raise
        except OSError as raised:
            error = raised.__cause__ if isinstance(raised, StorageError) else raised
            where = getattr(error, "filename", None) or self.directory
            reason = getattr(error, "strerror", None) or str(raised)
            if isinstance(error, FileNotFoundError):
                raise StorageError(
                    f"cannot write to {where}: something has removed it, or what it is in; the same command computes "
                    "what is missing"
                ) from raised
            raise StorageError(
                f"cannot write to {where}: {reason}; what was finished is safe, and the same command computes the rest"
            ) from raised


def _failure(line: bytes) -> dict[str, Any] | None:
    """Return what a line of failed.jsonl says, None if it is damaged: its run is tried again as all are."""
    try:
        told = json.loads(line)
        return {"run": str(told["run"]), "overrides": [*map(str, told["overrides"])], "error": str(told["error"])}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


@dataclass
class Tally:
    """Counts the parts that have been written to a sweep's directory since the tally was made."""

    store: SweepStore
    runs: int = 0
    diverged: int = 0
    trajectories: int = 0
    lanes: int = 0
    _seen: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Skip the parts that are there already."""
        self._seen.update(self._files())

    def _files(self) -> list[Path]:
        return self.store.pieces.files() if self.store.pieces.exists else self.store.files()

    def update(self) -> None:
        """Count the parts that are new."""
        for path in self._files():
            if path in self._seen:
                continue
            self._seen.add(path)
            try:
                about = tables.columns_of(path)
                if "aggregate" in about:
                    self._add(about["runs"], about["diverged"], about)
                    continue
                lost = [name for name in about["events"] if name.startswith("diverged_at")]
                table = tables.read([path], [tables.RUN, *lost])
            except OSError:  # `finished` will set it aside
                continue
            diverged = int(np.any([table[name].is_valid() for name in lost], 0).sum()) if lost else 0
            self._add(len(table), diverged, about)

    def _add(self, runs: int, diverged: int, about: Mapping[str, Any]) -> None:
        self.runs += runs
        self.diverged += diverged
        self.trajectories += about["trajectories"]
        self.lanes += about["lanes"]
