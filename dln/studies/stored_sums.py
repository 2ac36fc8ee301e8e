"""Sweeps that keep sums over runs in place of their curves: the same statistics, as far as those were kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dln.aggregates.keeping import Keeping
from dln.aggregates.piece import Column, Piece, joined_pieces
from dln.aggregates.sketch import Sketch
from dln.base.arithmetic import uniform
from dln.errors import StorageError, suggestion
from dln.results import tables
from dln.results.frames import settled
from dln.results.pieces import Found, piece_of
from dln.results.tables import RUN
from dln.studies.statistics import Moments, resolution_of, trajectory
from dln.studies.stored_runs import BEGIN, CONDITION, END, GONE, StoredRuns

if TYPE_CHECKING:
    import polars

PIECE = "piece"
"""The column of the numbers of pieces."""


class StoredSums(StoredRuns):
    """Pieces of a sweep, one row each."""

    def __init__(
        self,
        files: Sequence[Path],
        found: Found,
        frame: polars.DataFrame,
        keeping: Keeping,
        name: str,
    ) -> None:
        """Take what lies in some files, a frame with the keys of the pieces that count, and what errors call them."""
        self._files, self._found, self.keeping, self.name = files, found, keeping, name
        self.lazy, self.schema = frame.lazy(), frame.schema
        own = [key for key in frame.columns if key != PIECE]
        self.keys = [*own, *keeping.moved]
        self.counts = {RUN: sum(len(found.runs[n]) for n in frame[PIECE].to_list())}
        self.counts |= {key: frame[key].n_unique() for key in own}
        self.counts |= dict.fromkeys(keeping.moved, 2)  # they vary, nobody has counted how much
        about = tables.columns_of(files[0])
        self._columns, self._pairs, self._dtype = about["columns"], about["pairs"], about["dtype"]

    @classmethod
    def of(cls, directory: str | Path) -> StoredSums:
        """Return the pieces in a sweep's directory."""
        import polars as pl

        def look(files: Sequence[Path]) -> StoredSums:
            found, about = Found.of(files), tables.columns_of(files[0])
            kept, _ = found.counted()
            keys = dict.fromkeys(key for path in files for key in tables.columns_of(path)["config"])
            frame = pl.DataFrame(pl.from_arrow(tables.read(files, [*keys])))
            frame = frame.select(*keys).with_columns(pl.Series(PIECE, range(len(found.runs)), pl.Int64))
            keeping = Keeping.read(about["aggregate"])
            return cls(files, found, frame[sorted(kept)], keeping, f"the sweep in {directory}")

        return settled(directory, look, pieces=True)

    def stored_value(self, key: str, value: object) -> object:
        """See `StoredRuns`; of keys that runs are averaged over there is none."""
        self.check_key(key)
        self._check_apart([key])
        return super().stored_value(key, value)

    def where(self, selection: Mapping[str, object]) -> StoredSums:
        """Return the pieces whose rows have these values."""
        import polars as pl

        matches = [pl.col(key).eq_missing(pl.lit(value)) for key, value in selection.items()]
        frame = self.lazy.filter(*matches).collect()
        return StoredSums(self._files, self._found, frame, self.keeping, self.name)

    def conditions(self, by: Sequence[str], over: Sequence[str]) -> polars.DataFrame:
        """See `StoredRuns`: rows are pieces.

        Raises:
            StorageError: Runs of one condition differ in more than `over`, or they were summed up over something else.
        """
        import polars as pl

        self._check_apart(by)
        for key in self.keeping.over:
            if key not in over:
                raise StorageError(
                    f"{self.name} keeps sums over {' and '.join(self.keeping.over)}, no curves: average over "
                    f"{'that' if len(self.keeping.over) == 1 else 'those'}, or over more, not over "
                    f"{' and '.join(over) or 'nothing'}"
                )
        own = [key for key in over if key not in self.keeping.moved]
        frame = self.lazy.collect()
        runs = pl.Series(RUN, [len(self._found.runs[n]) for n in frame[PIECE].to_list()], pl.Int64)
        varying = [key for key in self.varying if key not in self.keeping.moved]
        told = [*dict.fromkeys([*by, *own])]
        odd = self._odd(frame.select(*dict.fromkeys([*told, *varying])), told, varying)
        if odd:
            raise StorageError(self._more_than(by, over, odd))
        row = pl.int_range(len(frame))
        rows = frame.with_columns(runs, row.alias(BEGIN), (row + 1).alias(END)).select(*by, RUN, BEGIN, END)
        about = pl.col(RUN).sum(), pl.col(BEGIN).min(), pl.col(END).max()
        return (rows.group_by(by).agg(*about).sort(by) if by else rows.select(*about)).with_row_index(CONDITION)

    def _check_apart(self, keys: Sequence[str]) -> None:
        for key in keys:
            if key in self.keeping.moved:
                told = " and ".join(self.keeping.over)
                raise StorageError(f"{self.name} keeps sums over {told}, no curves: runs cannot be told apart by {key}")

    def follows(self, key: str, others: Sequence[str]) -> bool:
        """See `StoredRuns`."""
        return key in self.keeping.moved or super().follows(key, [k for k in others if k not in self.keeping.moved])

    def curve_names(self) -> list[str]:
        """Return the names of the columns that are kept."""
        return [*self._columns]

    def check_curve(self, name: str) -> None:
        """Raise StorageError, with the nearest name, if a column is not kept."""
        if name not in self._columns:
            raise StorageError(f"{self.name} keeps nothing of a column {name!r}; {suggestion(name, self._columns)}")

    def pairs(self, wanted: Sequence[tuple[str, str]] | None) -> list[tuple[str, str]]:
        """Return the pairs whose covariance is to be told: None is all that are kept.

        Raises:
            StorageError: One is not kept.
        """
        kept = [(one, other) for one, other in self._pairs]
        for pair in wanted or ():
            if tuple(pair) not in kept and tuple(pair)[::-1] not in kept:
                known = ", ".join(map(" and ".join, kept)) or "none"
                raise StorageError(f"{self.name} keeps no covariance of {' and '.join(pair)}; kept: {known}")
        return kept if wanted is None else [(one, other) for one, other in wanted]

    def quantiles(self, wanted: Sequence[float] | None) -> tuple[float, ...]:
        """Return which quantiles are to be told: None is those that `aggregate.quantiles` says.

        Raises:
            StorageError: There are none.
        """
        if wanted and "quantiles" not in self.keeping.keep:
            raise StorageError(f"{self.name} keeps no quantiles: aggregate.keep has {', '.join(self.keeping.keep)}")
        return self.keeping.quantiles if wanted is None else tuple(wanted)

    def records(self) -> int:
        """Return one: what is kept of a condition does not grow with its runs."""
        return 1

    def read(
        self, conditions: polars.DataFrame, by: Sequence[str], over: Sequence[str], columns: Sequence[str]
    ) -> Iterator[tuple[int, Summed]]:
        """Yield the number of each of some `conditions`, and what is kept of its runs."""
        import polars as pl

        pieces = self.lazy.select(*by, PIECE).collect()
        try:
            schema = tables.joint_schema([tables.schema_of(path) for path in self._files])
            groups = tables.RowGroups(self._files, schema)
            about = tables.schema_of(self._files[0]).metadata
            for row in conditions.iter_rows(named=True):
                ours = pieces.filter(*(pl.col(key).eq_missing(pl.lit(row[key])) for key in by))[PIECE].to_numpy()
                rows = groups.rows(self._found.file[ours], self._found.row[ours]).replace_schema_metadata(about)
                yield row[CONDITION], Summed(self._joined([piece_of(rows, i) for i in range(len(rows))]), self)
        except FileNotFoundError as error:
            raise StorageError(f"{GONE}: {error}") from None

    def _joined(self, pieces: Sequence[Piece]) -> Piece:
        first, *others = pieces
        if any(not np.array_equal(first.step, other.step) for other in others):
            raise StorageError(f"runs of one condition in {self.name} were recorded at different steps: group by more")
        runs = np.concatenate([piece.runs for piece in pieces])
        if len(np.unique(runs)) < len(runs):
            raise StorageError(f"runs of {self.name} are counted twice: conditions there have some in common")
        return joined_pieces(pieces)

    @property
    def resolution(self) -> float:
        """See `Curves.resolution`."""
        return resolution_of(np.dtype(self._dtype))


class Summed:
    """What is kept of the runs of one condition, at the steps that any of them has a record of."""

    def __init__(self, piece: Piece, stored: StoredSums) -> None:
        """Take it."""
        self._piece, self._stored = piece, stored
        self._there = piece.present > 0
        self.steps = piece.step[self._there]
        self.diverged = piece.diverged[self._there]
        self.stopped = piece.stopped[self._there]
        self.lost = int(piece.diverged[-1])

    def __len__(self) -> int:
        return len(self._piece.runs)

    def moments(self, name: str) -> Moments:
        """Return count, mean and standard deviation at each step."""
        column = self._column(name)
        return self._moments(column.count, *column.sums.moments(column.count))

    def log_moments(self, name: str) -> Moments | None:
        """Return those of the logarithms, NaN where a value is not positive; None if they are not kept."""
        column = self._column(name)
        return None if column.logs is None else self._moments(column.count, *column.logs.moments(column.count))

    def _moments(self, count: np.ndarray, mean: np.ndarray, std: np.ndarray) -> Moments:
        return Moments(count[self._there], mean[self._there], std[self._there])

    def extremes(self, name: str) -> dict[str, np.ndarray]:
        """Return the smallest and the largest value at each step, as far as they are kept."""
        column = self._column(name)
        ends = {"min": column.min, "max": column.max}
        return {end: values[self._there] for end, values in ends.items() if values is not None}

    def in_order(self, name: str) -> tuple[InOrder, np.ndarray]:
        """Return values in ascending order at each step, and how many there are."""
        column = self._column(name)
        assert column.sketch is not None
        return InOrder(column, self._there), column.count[self._there]

    def has_pair(self, one: str, other: str) -> bool:
        """Whether the covariance of two columns was kept."""
        return bool({(one, other), (other, one)} & {*self._piece.pairs})

    def covariance(self, one: str, other: str) -> np.ndarray:
        """Return the covariance of two columns at each step."""
        pairs = self._piece.pairs
        pair = pairs[one, other] if (one, other) in pairs else pairs[other, one]
        return pair.covariance(self._column(one), self._column(other))[self._there]

    @uniform()
    def moments_at(self, name: str, steps: np.ndarray) -> Moments:
        """Return the moments at other steps, NaN at those that there are none of; exact if no value spreads."""
        found, place = self.moments(name), np.searchsorted(self.steps, steps).clip(max=len(self.steps) - 1)
        own = self.steps[place] == steps
        mean, std = (np.where(own, values[place], np.nan) for values in (found.mean, found.std))
        alike = bool(np.isin(found.count, [0, len(self)]).all() and not np.nan_to_num(found.std).any())
        return trajectory(mean) if alike else Moments(np.where(own, found.count[place], 0), mean, std)

    def resolution(self, name: str) -> float:
        """See `Curves.resolution`."""
        return self._stored.resolution

    def matrix(self, name: str) -> np.ndarray:
        """Raise StorageError: there are no curves."""
        raise StorageError(f"{self._stored.name} keeps sums, no curves: for a bootstrap (resamples) runs must be there")

    def aligned(self, name: str, steps: np.ndarray) -> np.ndarray:
        """Raise StorageError: there are no curves."""
        return self.matrix(name)

    def _column(self, name: str) -> Column:
        return self._piece.columns[name]


class InOrder:
    """Numbers in ascending order, by their rank at each record, as a sketch tells them: within the extremes."""

    def __init__(self, column: Column, there: np.ndarray) -> None:
        """Take a column, and at which of its records there is anything."""
        assert column.sketch is not None
        self._sketch: Sketch = column.sketch
        self._column, self._there = column, there
        self.shape = self._sketch.shape[0], int(there.sum())

    def __getitem__(self, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rank = np.zeros(len(self._there), np.int64)
        rank[self._there] = at[0]
        found = self._sketch[rank, :]
        if self._column.min is not None:
            found = np.fmax(found, self._column.min)
        if self._column.max is not None:
            found = np.fmin(found, self._column.max)
        return np.where(self._column.count > 0, found, np.nan)[self._there]
