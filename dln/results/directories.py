"""The directories of single runs of a sweep: written beside their place, renamed into it whole, found again later."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from dln.base.files import sync, sync_tree
from dln.base.sealed import read_document
from dln.errors import StorageError
from dln.results.run import CHECKPOINTS, SUMMARY, is_whole

_OURS = re.compile(r"\d+(-[0-9a-f]{8}(-\d+)?)?")
"""Names of runs' directories: the number of the run's cell and, where another run has that, some of its identity."""

_BESIDE = re.compile(r"\.[0-9a-f]{24}(\.[0-9a-f]+-[0-9a-f]+)?(\.old)?\.tmp")
"""Names of directories that are being written or replaced; those left over are of processes that were killed."""


class RunDirectories:
    """The runs' directories in a sweep's, by the identity of the run, which is written in `summary.json`."""

    def __init__(self, directory: Path) -> None:
        """Name a sweep's directory; nothing is read yet."""
        self.directory = directory
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
        if place.exists():
            place.rename(old)
        beside.rename(place)
        sync(self.directory)
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
        for path in self._named(_BESIDE):
            shutil.rmtree(path, ignore_errors=True)

    @functools.cached_property
    def _homes(self) -> dict[str, Path]:
        """Where runs' directories are, by the run's identity."""
        homes = {}
        for path in self._named(_OURS):
            with contextlib.suppress(StorageError):  # damaged: it is left alone
                run = (read_document(path / SUMMARY) or {}).get("run")
                if isinstance(run, str):
                    homes[run] = path
        return homes

    def _named(self, pattern: re.Pattern[str]) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if pattern.fullmatch(path.name))

    def _free(self, cell: int, run: str) -> Path:
        """Return a path that is not taken: the cell's number, if possible."""
        longer = f"{cell}-{run[:8]}"
        names: Iterator[str] = itertools.chain([str(cell), longer], (f"{longer}-{n}" for n in itertools.count(2)))
        return next(path for path in map(self.directory.joinpath, names) if not path.exists())
