"""Sweeps as frames: loaded whole, in part or lazily, as an xarray, and several merged into one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.config import leaf_of
from dln.errors import DlnError, StorageError
from dln.results import SWEEP, SweepStore
from dln.tables import RUN, columns_of, read

if TYPE_CHECKING:
    import polars
    import xarray


def load_sweep(
    directory: str | Path, columns: Sequence[str] | None = None, constants: bool = False
) -> polars.DataFrame:
    """Return a sweep's results, finished or not, as a polars frame: one row a run, curves as lists over the records.

    Args:
        directory: Where the sweep is.
        columns: Which curves and events to load; None is all.
        constants: Keep the keys of the config that are the same in all runs.

    Raises:
        StorageError: There is no sweep, or it has no finished run yet.
    """
    import polars as pl

    files, wanted = _files_of(directory), None
    if columns is not None:
        about = [columns_of(path) for path in files]
        known = dict.fromkeys(name for a in about for kind in ("curves", "events") for name in a[kind])
        for name in columns:
            if name not in known:
                raise StorageError(f"the sweep in {directory} has no column {name!r}; it has: {', '.join(known)}")
        wanted = [RUN, *dict.fromkeys(key for a in about for key in a["config"]), *columns]
    table = read(files, wanted)
    keys = json.loads(table.schema.metadata[b"dln"])["config"]
    frame = pl.DataFrame(pl.from_arrow(table))
    same = [key for key in keys if key in frame.columns and frame[key].n_unique() == 1] if not constants else []
    return frame.drop(same)


def scan_sweep(directory: str | Path) -> polars.LazyFrame:
    """Return a sweep's results as a lazy polars frame, all keys of the config included: only what is used is read.

    Raises:
        StorageError: There is no sweep, or it has no finished run yet.
    """
    import polars as pl

    frames = [pl.scan_parquet(path) for path in _files_of(directory)]
    if len(frames) == 1:
        return frames[0]
    return pl.concat(frames, how="diagonal_relaxed").unique(RUN, keep="first", maintain_order=True)


def swept_keys(frame: polars.DataFrame) -> list[str]:
    """Return the keys of the config among the columns of a loaded sweep."""
    return [name for name in frame.columns if leaf_of(name) is not None]


def to_xarray(frame: polars.DataFrame) -> xarray.Dataset:
    """Return a loaded sweep as an xarray dataset with the swept keys as dimensions, and `record` for the curves.

    Cells of the product that were not run are NaN. Needs xarray to be installed.
    """
    try:
        import xarray as xr
    except ModuleNotFoundError:
        raise DlnError("to_xarray() needs xarray: pip install xarray") from None
    import polars as pl

    keys = swept_keys(frame)
    axes = {key: frame[key].unique(maintain_order=True).sort(nulls_last=True).to_list() for key in keys}
    places = tuple(np.array([values.index(v) for v in frame[key].to_list()]) for key, values in axes.items())
    sizes = [len(values) for values in axes.values()]
    lists = [name for name in frame.columns if name not in (RUN, *keys) and frame[name].dtype.is_nested()]
    longest = max(
        (frame[name].list.len().fill_null(0).to_numpy() for name in lists), key=lambda n: n.sum(), default=None
    )
    curves = {name for name in lists if (frame[name].list.len() == pl.Series(longest)).all()}  # others are of events
    variables = {}
    for name in frame.columns:
        if name == RUN or name in keys:
            continue
        column = frame[name]
        rows = [np.asarray(v, float) for v in (column.to_list() if column.dtype.is_nested() else column.cast(float))]
        width = max(len(row) for row in rows) if column.dtype.is_nested() else 0
        inner = (width, *rows[0].shape[1:]) if column.dtype.is_nested() else ()
        values = np.full((*sizes, *inner), np.nan)
        for place, row in zip(zip(*places, strict=True), rows, strict=True):
            values[(*place, slice(len(row)), ...) if inner else place] = row
        more = [f"{name}_{i}" for i in range(len(inner) - 1)]
        first = "record" if name in curves else f"{name}_list"
        variables[name] = ([*keys, *([first, *more] if inner else [])], values)
    coordinates = {key: [None if v is None else v for v in values] for key, values in axes.items()}
    return xr.Dataset(variables, coordinates)


def merge_sweeps(directories: Sequence[str | Path], out: str | Path, keep: str = "first") -> int:
    """Put the results of several sweeps into a new directory and return how many runs it has.

    Runs are told apart by their whole config, so keys that are fixed in each sweep but differ between them just vary.

    Args:
        directories: Where the sweeps are.
        out: A directory that holds nothing yet.
        keep: Of a run that several have, the "first" or the "last" counts.

    Raises:
        StorageError: They hold different curves, or are of different kinds, or `out` is taken.
    """
    stores = [SweepStore(directory) for directory in directories]
    told = [store.description() for store in stores]
    for store, description in zip(stores, told, strict=True):
        if description is None or not store.files():
            raise StorageError(f"no results of a sweep in {store.directory}")
    kinds = {description["kind"] for description in told if description}
    if len(kinds) > 1:
        raise StorageError(f"sweeps of different kinds cannot be merged: {', '.join(sorted(kinds))}")
    names = [dict.fromkeys(n for path in store.files() for n in columns_of(path)["curves"]) for store in stores]
    for store, own in zip(stores, names, strict=True):
        odd = sorted(own.keys() ^ names[0].keys())
        if odd:
            raise StorageError(f"{store.directory} and {stores[0].directory} differ in the curves {', '.join(odd)}")
    target = SweepStore(out)
    if target.description() is not None or target.files():
        raise StorageError(f"{out} holds a sweep already; choose another directory")
    files = [path for store in (stores if keep == "first" else stores[::-1]) for path in store.files()]
    fixed: dict[str, Any] = (told[0] or {})["fixed"]
    for description in told:
        other = (description or {})["fixed"]
        fixed = {key: value for key, value in fixed.items() if key in other and other[key] == value}
    with target.locked():
        target.gather(files)
        target.describe({"kind": kinds.pop(), "fixed": fixed})
    return len(target.finished())


def _files_of(directory: str | Path) -> list[Path]:
    store = SweepStore(directory)
    files = store.files()
    if not files:
        what = "no run of it is finished" if store.description() else f"there is no {SWEEP}"
        raise StorageError(f"no results of a sweep in {directory}: {what}")
    return files
