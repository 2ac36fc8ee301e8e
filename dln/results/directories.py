"""The directories of single runs of a sweep: written beside their place, renamed into it whole, found again later."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dln.base.files import sync, sync_tree
from dln.base.sealed import read_document
from dln.errors import StorageError
from dln.results.piece_store import AGGREGATES, PIECES
from dln.results.references import REFERENCES
from dln.results.run import CHECKPOINTS, COMMANDS, SUMMARY, is_whole
from dln.results.sweep import DAMAGED, FAILED, PARTS, RESULTS, SWEEP

OF_THE_SWEEP = (SWEEP, RESULTS, PARTS, PIECES, AGGREGATES, REFERENCES, COMMANDS, FAILED, DAMAGED)
"""What lies in a sweep's directory beside those of runs; what else begins with a dot is the sweep's, too."""

_BESIDE = re.compile(r"\.[0-9a-f]{24}(\.[0-9a-f]+-[0-9a-f]+)?(\.old)?\.tmp")
"""Names of directories that are being written or replaced; those left over are of processes that were killed."""


class RunDirectories:
    """The runs' directories in a sweep's, by the identity of the run, which is written in `summary.json`."""

    def __init__(self, directory: Path, names: Sequence[str] | None = None) -> None:
        """Name a sweep's directory; nothing is read yet.

        Args:
            directory: The sweep's.
            names: Paths in there of the directories of all cells; None: a cell's number names it.
        """
        self.directory = directory
        self.names = names
        self._process = f"{time.time_ns():x}-{os.getpid():x}"  # others may be at work on the same run

    def beside(self, run: str) -> Path:
        """Return where this process writes a run's directory before it is put into place."""
        return self.directory / f".{run}.{self._process}.tmp"

    def put(self, cell: int, run: str) -> Path:
        """Move what was written beside into its place, instead of what the run had before; return the place.

        All of it is on the disk before anything is replaced, and in its place before this returns.
        """
        beside, place = self.beside(run), self._homes.get(run) or self._free(cell, run)
        old = beside.with_suffix(".old.tmp")
        sync_tree(beside)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            place.rename(old)
        beside.rename(place)
        for parent in dict.fromkeys((place.parent, self.directory)):
            sync(parent)
        shutil.rmtree(old, ignore_errors=True)
        self._homes[run] = place
        return place

    @property
    def exist(self) -> bool:
        """Whether any run has one."""
        return bool(self._homes)

    def discard(self, runs: Iterable[str]) -> None:
        """Remove what was written beside and not put into place."""
        for run in runs:
            shutil.rmtree(self.beside(run), ignore_errors=True)

    def whole(self, run: str, weights: bool) -> bool:
        """Whether a run's directory is in its place, with the records that were written and, if asked for, weights."""
        home = self._homes.get(run)
        wanted = [".hydra", *([CHECKPOINTS] if weights else [])]
        return home is not None and is_whole(home) and all((home / name).exists() for name in wanted)

    def clear(self) -> None:
        """Remove what processes that were killed left beside; nobody else may be at work here."""
        for path in self.directory.iterdir():
            if _BESIDE.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    @functools.cached_property
    def _homes(self) -> dict[str, Path]:
        """Where runs' directories are, by the run's identity; of copies, that with the shortest path."""
        homes: dict[str, Path] = {}
        for path in sorted(self._with_summary(), key=lambda path: (len(path.parts), len(path.name), path)):
            with contextlib.suppress(StorageError):  # damaged: it is left alone
                run = (read_document(path / SUMMARY) or {}).get("run")
                if isinstance(run, str):
                    homes.setdefault(run, path)
        return homes

    def _with_summary(self) -> Iterator[Path]:
        """Yield directories that hold a run, however deep; those of another sweep's are not looked at."""
        for at, folders, files in os.walk(self.directory):
            path = Path(at)
            if path == self.directory:
                folders[:] = [name for name in folders if not name.startswith(".") and name not in OF_THE_SWEEP]
            elif SUMMARY in files:
                yield path
            if path != self.directory and (SUMMARY in files or SWEEP in files):
                folders.clear()

    def _free(self, cell: int, run: str) -> Path:
        """Return a path that is not taken: that which the cell should have, if possible."""
        name = str(cell) if self.names is None else self.names[cell]
        names: Iterator[str] = itertools.chain(
            [name, f"{name}-{run[:8]}", f"{cell}-{run[:8]}"], (f"{cell}-{run[:8]}-{n}" for n in itertools.count(2))
        )
        return next(path for path in map(self.directory.joinpath, names) if self._is_free(path))

    def _is_free(self, path: Path) -> bool:
        """Whether nothing is there, nor is it inside of a run's directory."""
        above = itertools.takewhile(lambda parent: parent != self.directory, path.parents)
        return not path.exists() and not any((parent / SUMMARY).exists() or parent.is_file() for parent in above)
