"""Where the pieces of a sweep lie that keeps aggregates: its runs are finished once a piece on disk holds them.

pieces/*.parquet      those of finished ensembles, each file written beside and renamed into place
aggregates.parquet    all of them, one for each condition, once nothing is missing, and now and then before
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dln.aggregates.keeping import Keeping
from dln.base.files import BESIDE, beside_of, placing
from dln.base.sealed import reading
from dln.results import part_files, tables
from dln.results.pieces import Found, gather_pieces
from dln.results.tables import IDENTITY

log = logging.getLogger("dln")

PIECES, AGGREGATES = "pieces", "aggregates.parquet"

LOOSE = 64
"""Files of pieces beyond which they are put together while a sweep goes on."""


class PieceStore:
    """The pieces in a sweep's directory."""

    def __init__(
        self,
        directory: Path,
        writing: Callable[[], contextlib.AbstractContextManager[None]],
        set_aside: Callable[[Path], None],
    ) -> None:
        """Name a sweep's directory, what says how errors of the disk are told, and what moves damaged files away."""
        self.directory = directory
        self._writing, self._set_aside = writing, set_aside

    @property
    def exists(self) -> bool:
        """Whether the sweep keeps aggregates in place of curves."""
        with reading(self.directory):
            return (self.directory / PIECES).is_dir() or (self.directory / AGGREGATES).exists()

    def begin(self) -> None:
        """Make the folder of pieces: from now on runs are finished that a piece holds."""
        parts = self.directory / PIECES
        if os.path.lexists(parts) and not parts.is_dir():
            self._set_aside(parts)
        with self._writing():
            parts.mkdir(exist_ok=True)

    def forget(self) -> None:
        """Remove the folder of pieces, which holds none: from now on runs are finished that have a row."""
        if self.exists:
            with self._writing():
                (self.directory / PIECES).rmdir()

    def clear(self) -> None:
        """Remove what processes that were killed left half written; nobody else may be at work here."""
        beside_of(self.directory / AGGREGATES).unlink(missing_ok=True)
        for path in (self.directory / PIECES).glob(BESIDE.format("*.parquet")):
            path.unlink()

    def files(self) -> list[Path]:
        """Return the files that hold pieces: that of all conditions first, then as they were made."""
        return part_files.files_of(self.directory / AGGREGATES, self.directory / PIECES)

    def whole_files(self) -> list[Path]:
        """Return the files that are as they were written; others are set aside."""
        return part_files.whole_files(self.files(), self._set_aside)

    def keeping(self) -> Keeping | None:
        """Return what the pieces that lie here are of; None where there are none."""
        for path in self.whole_files():
            return Keeping.read(tables.columns_of(path)["aggregate"])
        return None

    def finished(self) -> np.ndarray:
        """Return the sorted identities of the runs in pieces that count; damaged files are set aside."""
        found = Found.of(self.whole_files())
        kept, _ = found.counted()
        return np.unique(np.concatenate([np.array([], IDENTITY), *(found.runs[n] for n in kept)]))

    def write(self, table: pa.Table) -> None:
        """Write the pieces of an ensemble as a file of their own."""
        self._place([table], self._fresh())

    def drop(self, runs: np.ndarray) -> None:
        """Remove the pieces that hold any of some runs: what is left of a sum cannot be told."""
        for path in self.files():
            found = Found.of([path])
            keep = [n for n in range(len(found.runs)) if not np.isin(found.runs[n], runs).any()]
            if len(keep) < len(found.runs):
                if keep:
                    self._place(gather_pieces([path], found, keep, []), self._fresh())
                path.unlink()

    def compact(self, order: Sequence[str] = (), at_most: int = 0) -> None:
        """Put all pieces into one file, one for each condition, if there are more loose files of them than that.

        Args:
            order: Conditions, in which order they are to come first.
            at_most: So many files may stay as they are.
        """
        if len([path for path in self.files() if path.parent.name == PIECES]) <= at_most:
            return
        files = self.whole_files()
        if not files:
            return
        found = Found.of(files)
        kept, odd = found.counted()
        if odd:
            log.warning(
                "%d pieces have some runs in common with others and are left out; runs that only they have are "
                "computed again",
                len(odd),
            )
        self._place(gather_pieces(files, found, kept, order), self.directory / AGGREGATES)
        for path in files:
            if path.parent.name == PIECES:
                path.unlink()

    def gather(self, files: Sequence[Path]) -> None:
        """Put the pieces of other sweeps together as this one's."""
        found = Found.of(files)
        self._place(gather_pieces(files, found, found.counted()[0], []), self.directory / AGGREGATES)

    def _fresh(self) -> Path:
        return self.directory / PIECES / f"{time.time_ns():x}-{os.getpid():x}.parquet"

    def _place(self, parts: Iterable[pa.Table], path: Path) -> None:
        with self._writing(), placing(path) as beside:
            tables.write(parts, beside)
