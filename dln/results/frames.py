"""Sweeps as frames: loaded whole, in part or lazily, as an xarray, and several merged into one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dln.config import leaf_of
from dln.errors import DlnError, StorageError
from dln.results.pieces import Found
from dln.results.references import REFERENCE, check_there, with_references
from dln.results.sweep import SWEEP, SweepStore
from dln.results.tables import KINDS, RUN, check, columns_of, read, schema_of

T = TypeVar("T")

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
        StorageError: There is no sweep, or it has no finished run yet, or it cannot be read.
        DamagedError: A file is not what was written; the message names it.
    """
    return settled(directory, lambda files: _load(directory, files, columns, constants))


def _load(
    directory: str | Path, files: Sequence[Path], columns: Sequence[str] | None, constants: bool
) -> polars.DataFrame:
    import polars as pl

    wanted = None
    if columns is not None:
        about = _named(files)
        known = [*about["curves"], *about["events"]]
        for name in columns:
            if name not in known:
                raise StorageError(f"the sweep in {directory} has no column {name!r}; it has: {', '.join(known)}")
        wanted = [RUN, *about["config"], *dict.fromkeys(columns)]
        wanted += [REFERENCE] if any(REFERENCE in schema_of(path).names for path in files) else []
    table = read(files, wanted)
    keys = json.loads(table.schema.metadata[b"dln"])["config"]
    frame = pl.DataFrame(pl.from_arrow(table))
    frame = with_references(frame.lazy(), _references(directory, files)).collect()
    same = [key for key in keys if key in frame.columns and frame[key].n_unique() == 1] if not constants else []
    return frame.drop(same)


def scan_sweep(directory: str | Path) -> polars.LazyFrame:
    """Return a sweep's results as a lazy polars frame, all keys of the config included: only what is used is read.

    That the files are what was written is checked now, not when the frame is used.

    Raises:
        StorageError: There is no sweep, or it has no finished run yet, or it cannot be read.
        DamagedError: A file is not what was written; the message names it.
    """
    import polars as pl

    files, references = settled(directory, lambda files: (files, _references(directory, files)))
    frames = [pl.scan_parquet(path, glob=False, hive_partitioning=False) for path in files]
    if len(frames) == 1:
        return with_references(frames[0], references)
    whole = pl.concat(frames, how="diagonal_relaxed").unique(RUN, keep="first", maintain_order=True)
    return with_references(whole, references)


def _references(directory: str | Path, files: Sequence[Path]) -> list[Path]:
    """Return the files of what the runs of a sweep are compared with, checked; none if rows hold it themselves."""
    if not any(REFERENCE in schema_of(path).names for path in files):
        return []
    stored = SweepStore(directory).references.files()
    for path in stored:
        check(path)
    check_there(directory, files, stored)
    return stored


def swept_keys(frame: polars.DataFrame) -> list[str]:
    """Return the keys of the config among the columns of a loaded sweep.

    >>> import polars as pl
    >>> swept_keys(pl.DataFrame({"run": ["r"], "training.lr": [0.1], "train_loss": [[2.0, 1.0]]}))
    ['training.lr']
    """
    return [name for name in frame.columns if leaf_of(name) is not None]


def combinations(frame: polars.DataFrame, keys: Sequence[str]) -> int:
    """Return how many combinations of values some keys have; of no keys there is one.

    >>> import polars as pl
    >>> frame = pl.DataFrame({"a": [1, 1, 2], "b": [0, 1, 1]})
    >>> combinations(frame, ["a", "b"]), combinations(frame, ["a"]), combinations(frame, [])
    (3, 2, 1)
    """
    return frame.select(keys).n_unique() if keys else 1


def to_xarray(frame: polars.DataFrame) -> xarray.Dataset:
    """Return a loaded sweep as an xarray dataset with the swept keys as dimensions, and `record` for the curves.

    A key that another determines, such as one that is zipped with it or a lane's copy of a `shared` one, is no
    dimension of its own but a coordinate along the other. `step` is a coordinate of the records: along `record` alone
    where all runs were recorded at the same steps. Cells of the product that were not run are NaN. Needs xarray to be
    installed.

    Raises:
        DlnError: xarray is not installed.
    """
    try:
        import xarray as xr
    except ModuleNotFoundError:
        raise DlnError("to_xarray() needs xarray: pip install xarray") from None
    import polars as pl

    leading = _leading(frame)
    keys = [key for key in leading if leading[key] == key]
    axes = {key: frame[key].unique(maintain_order=True).sort(nulls_last=True).to_list() for key in keys}
    numbers = {key: {value: i for i, value in enumerate(values)} for key, values in axes.items()}
    places = tuple(np.array([numbers[key][value] for value in frame[key].to_list()]) for key in keys)
    sizes = [len(values) for values in axes.values()]
    lists = [name for name in frame.columns if name not in (RUN, *leading) and frame[name].dtype.is_nested()]
    longest = max(
        (frame[name].list.len().fill_null(0).to_numpy() for name in lists), key=lambda n: n.sum(), default=None
    )
    curves = {name for name in lists if (frame[name].list.len() == pl.Series(longest)).all()}  # others are of events
    variables = {}
    for name in frame.columns:
        if name == RUN or name in leading:
            continue
        nested = frame[name].dtype.is_nested()
        cells = frame[name].to_list() if nested else frame[name].cast(float)
        rows = [np.asarray([] if cell is None and nested else cell, float) for cell in cells]
        inner = tuple(np.max([row.shape for row in rows if row.size] or [(0,) * nested], 0).astype(int))
        values = np.full((*sizes, *inner), np.nan)
        for place, row in zip(zip(*places, strict=True), rows, strict=True):
            if row.size:
                values[(*place, *map(slice, row.shape))] = row
        more = [f"{name}_{i}" for i in range(len(inner) - 1)]
        first = "record" if name in curves else f"{name}_list"
        variables[name] = ([*keys, *([first, *more] if inner else [])], values)
    coordinates: dict[str, Any] = {**axes}
    for key, other in leading.items():
        if key != other:
            of = dict(zip(frame[other].to_list(), frame[key].to_list(), strict=True))
            coordinates[key] = (other, [of[value] for value in axes[other]])
    if "step" in variables:
        coordinates["step"] = _alike(*variables.pop("step"))
    return xr.Dataset(variables, coordinates)


def _leading(frame: polars.DataFrame) -> dict[str, str]:
    """Return of each swept key the one that determines its value: itself, if there is none.

    Of keys that determine one another the first counts.

    >>> import polars as pl
    >>> frame = pl.DataFrame({"training_a.lr": [1, 1, 2], "training_b.lr": [1, 1, 2], "model_a.gamma": [0, 1, 0]})
    >>> _leading(frame)
    {'training_a.lr': 'training_a.lr', 'training_b.lr': 'training_a.lr', 'model_a.gamma': 'model_a.gamma'}
    """
    keys = swept_keys(frame)
    count = {key: frame[key].n_unique() for key in keys}
    leading: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: -count[key]):
        rulers = (o for o, ruler in leading.items() if o == ruler and combinations(frame, [o, key]) == count[o])
        leading[key] = next(rulers, key)
    return {key: leading[key] for key in keys}


def _alike(dims: list[str], steps: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return steps [..., records] as one row where every row is the longest or its beginning, else as they are."""
    rows = steps.reshape(-1, steps.shape[-1])
    longest = rows[np.argmax(np.isfinite(rows).sum(1))] if len(rows) else rows
    same = len(rows) > 0 and bool(((rows == longest) | np.isnan(rows)).all())
    return (dims[-1:], longest) if same else (dims, steps)


def merge_sweeps(directories: Sequence[str | Path], out: str | Path, keep: str = "first") -> int:
    """Put the results of several sweeps into a new directory and return how many runs it has.

    Runs are told apart by their whole config: a key that is fixed in each sweep but differs between them then varies.

    Args:
        directories: Where the sweeps are.
        out: A directory that holds nothing yet.
        keep: Of a run that several have, the "first" or the "last" counts.

    Raises:
        StorageError: They hold different curves, or are of different kinds, or `out` is taken.
        DamagedError: A file is not what was written; the message names it.
    """
    told = [_description(directory) for directory in directories]
    kinds = {description["kind"] for description in told}
    if len(kinds) > 1:
        raise StorageError(f"sweeps of different kinds cannot be merged: {', '.join(sorted(kinds))}")
    stores = [SweepStore(directory) for directory in directories]
    pieces = [settled(store.directory, list, pieces=True) for store in stores if store.pieces.files()]
    if pieces:
        _check_pieces(directories, told, pieces)
    files = [settled(store.directory, list) for store in stores if store.files() or not pieces]
    names = [set(_named(paths)["curves"]) for paths in files]
    for directory, own in zip(directories, names, strict=not pieces):
        odd = sorted(own ^ names[0])
        if odd:
            raise StorageError(f"{directory} and {directories[0]} differ in the curves {', '.join(odd)}")
    target = SweepStore(out)
    if target.description() is not None or target.files() or target.pieces.files():
        raise StorageError(f"{out} holds a sweep already; choose another directory")
    fixed: dict[str, Any] = told[0]["fixed"]
    for description in told:
        other = description["fixed"]
        fixed = {key: value for key, value in fixed.items() if key in other and other[key] == value}
    kept = {"aggregate": told[0]["aggregate"]} if pieces else {}
    with target.locked():
        for path in (path for directory in directories for path in SweepStore(directory).references.files()):
            target.refer(read([path]))
        target.settle_references()
        if files:
            target.gather([path for paths in (files if keep == "first" else files[::-1]) for path in paths])
        if pieces:
            target.pieces.gather([path for paths in pieces for path in paths])
        target.describe({"kind": kinds.pop(), "fixed": fixed, **_contents(told), **kept})
        target.note("".join(SweepStore(directory).commands() for directory in directories))
        target.sign(*(each for description in told for each in description.get("provenance", [])))
    return len(target.finished())


def _check_pieces(
    directories: Sequence[str | Path], told: Sequence[Mapping[str, Any]], pieces: Sequence[Sequence[Path]]
) -> None:
    """Raise StorageError where sums of several sweeps cannot be put together."""
    first = told[0].get("aggregate")
    for directory, description in zip(directories, told, strict=True):
        if description.get("aggregate") != first:
            raise StorageError(
                f"{directory} and {directories[0]} keep different aggregates, or one keeps curves, and cannot be merged"
            )
    files = [path for paths in pieces for path in paths]
    found = Found.of(files)
    for one, other in found.counted()[1]:
        shared = len(np.intersect1d(found.runs[one], found.runs[other]))
        raise StorageError(
            f"{files[found.file[one]]} and {files[found.file[other]]} keep sums that have {shared} runs in common, and "
            "each has others: what is left of a sum without them cannot be told; run one of them again with other "
            "seeds, or all in one directory"
        )


def _contents(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the digests of the files that the runs of several sweeps read, where they are known and the same."""
    known = [description["files"] for description in told if "files" in description]
    if len(known) < len(told):
        return {}
    held = {path: {files[path] for files in known if path in files} for path in sorted({p for f in known for p in f})}
    return {"files": {path: digests.pop() for path, digests in held.items() if len(digests) == 1}}


def stored_columns(directory: str | Path) -> dict[str, list[str]]:
    """Return the names of what a sweep's files hold: keys of the "config", "events" and "curves".

    Raises:
        StorageError: There is no sweep, or it has no finished run yet, or it cannot be read.
    """
    return settled(directory, _named, checked=False)


def _named(files: Sequence[Path]) -> dict[str, list[str]]:
    told = [columns_of(path) for path in files]
    return {kind: list(dict.fromkeys(n for t in told for n in t[kind])) for kind in KINDS}


def _description(directory: str | Path) -> dict[str, Any]:
    told = SweepStore(directory).description()
    if told is None:
        raise StorageError(f"there is no {SWEEP} in {directory}; give its command again, which writes it anew")
    return told


def settled(directory: str | Path, use: Callable[[list[Path]], T], checked: bool = True, pieces: bool = False) -> T:
    """Return what `use` makes of a sweep's files, once each is checked; try again if a driver has compacted them.

    Args:
        directory: The sweep's.
        use: Takes the files of rows.
        checked: Whether they are checked.
        pieces: Take those of pieces instead.
    """
    store = SweepStore(directory)
    for _ in range(ATTEMPTS):
        files = store.pieces.files() if pieces else store.files()
        if not files and not pieces and store.pieces.files():
            raise StorageError(f"{directory} keeps sums over runs, and no curves: dln.aggregate tells what they say")
        if not files:
            what = "no run of it is finished" if (store.directory / SWEEP).exists() else f"there is no {SWEEP}"
            raise StorageError(f"no results of a sweep in {directory}: {what}")
        try:
            for path in files if checked else ():
                check(path)
            return use(files)
        except FileNotFoundError:
            continue
    raise StorageError(f"the sweep in {directory} changes while it is read; try again once its driver has ended")


ATTEMPTS = 10
"""How often to list files anew that have gone before they were read."""
