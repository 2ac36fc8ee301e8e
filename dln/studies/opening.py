"""Opens what `dln.aggregate` takes: a sweep's directory, a frame loaded from one, or one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dln.base.files import from_home
from dln.history import History
from dln.results.frames import scan_sweep, stored_columns
from dln.results.listing import StoredRun, look
from dln.results.run import load_run
from dln.results.sweep import SweepStore
from dln.studies.stored_runs import StoredRuns, as_row
from dln.studies.stored_sums import StoredSums

if TYPE_CHECKING:
    import polars

    Results = str | Path | polars.DataFrame | polars.LazyFrame


def open_runs(results: Results | History) -> StoredRuns:
    """Return the runs of a sweep's directory, of a frame loaded from one, or one run: its history or directory.

    Raises:
        StorageError: There are none, or they cannot be read.
        DamagedError: A file is not what was written.
    """
    import polars as pl

    if isinstance(results, pl.DataFrame | pl.LazyFrame):
        return StoredRuns(results.lazy(), None, "the frame")
    if isinstance(results, History):
        return StoredRuns(as_row(results), None, "the history")
    if isinstance(look(from_home(results)), StoredRun):
        return StoredRuns(as_row(load_run(results)), None, f"the run in {results}")
    if SweepStore(results).pieces.files():
        return StoredSums.of(results)
    return StoredRuns(scan_sweep(results), stored_columns(results)["events"], f"the sweep in {results}")
