"""What cells are compared with: other cells of the same sweep, those of another one, or one history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dln.errors import StorageError
from dln.history import History
from dln.studies.cells import CELL, StoredRuns, open_runs
from dln.studies.members import Members

if TYPE_CHECKING:
    import polars

    from dln.studies.cells import Results

    Baseline = Mapping[str, Any] | History | Results


class Baselines:
    """The baselines of the cells of a sweep: found, before anything is read, for each cell that is none itself."""

    def __init__(
        self,
        baseline: Baseline,
        runs: StoredRuns,
        cells: polars.DataFrame,
        by: Sequence[str],
        over: Sequence[str],
        columns: Sequence[str],
    ) -> None:
        """Find them.

        Args:
            baseline: As `dln.aggregate` takes it.
            runs: Those of the cells.
            cells: Of `StoredRuns.cells`.
            by: The keys that tell cells apart.
            over: The keys in which the runs of a cell differ.
            columns: The curves that will be read.

        Raises:
            StorageError: A cell has none, the message says which; or there is no such key or curve.
        """
        self.columns = columns
        own: dict[str, Any] = {}
        if isinstance(baseline, Mapping) and not baseline:
            raise StorageError("the baseline names no key; give one with its value, such as training.batch_size=null")
        for key, value in baseline.items() if isinstance(baseline, Mapping) else ():
            own[key] = runs.stored_value(key, value)
            if key not in by:
                raise StorageError(
                    f"the baseline's {key} must be one of the keys that tell cells apart: {', '.join(by)}"
                )
        self.runs = runs.where(own) if isinstance(baseline, Mapping) else open_runs(baseline)
        self.by = [key for key in by if key not in own and (own or self._tells(key, cells))]
        self.over = [key for key in over if key in self.runs.keys]
        for name in columns:
            self.runs.curve(name)
        self.cells = self.runs.cells(self.by, self.over)
        known = {tuple(row): number for number, *row in self.cells.select(CELL, *self.by).iter_rows()}
        self.of: dict[int, int] = {}
        for row in cells.iter_rows(named=True):
            if own and all(row[key] == value for key, value in own.items()):
                continue  # it is a baseline itself
            place = tuple(row[key] for key in self.by)
            if place not in known:
                raise StorageError(f"there is no baseline for {_told(row, by)}: no run in {self._where(own, row)}")
            self.of[row[CELL]] = known[place]
        if not self.of:
            raise StorageError(f"all runs of {runs.name} are the baseline: there is nothing to compare with it")

    def _tells(self, key: str, cells: polars.DataFrame) -> bool:
        """Return whether a key of another sweep is matched: it varies there, or its one value is that of a cell."""
        if key not in self.runs.keys:
            return False
        return self.runs.counts[key] > 1 or self.runs.lazy.select(key).first().collect().item() in cells[key].to_list()

    def _where(self, own: Mapping[str, Any], row: Mapping[str, Any]) -> str:
        return f"{self.runs.name} has {_told({**row, **own}, [*own, *self.by])}"

    def read(self, cells: polars.DataFrame) -> dict[int, Members]:
        """Return the baselines of some cells, by the cells' numbers."""
        numbers = {number: self.of[number] for number in cells[CELL].to_list() if number in self.of}
        needed = self.cells[sorted({*numbers.values()})]
        read = dict(self.runs.read(needed, self.by, self.over, self.columns)) if len(needed) else {}
        return {number: read[other] for number, other in numbers.items()}


def _told(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={'null' if row[key] is None else row[key]}" for key in keys) or "all runs"
