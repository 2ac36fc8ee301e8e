"""The final values of a sweep's runs: their means for each combination of some keys, and what runs of one mean spread.

Runs that differ in several kinds of seeds have several spreads, which are told apart, from the outside in: data, models
on the same data, batches of the same model. What moves with something further out has none of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.errors import StorageError, suggestion
from dln.results.frames import combinations, load_sweep, stored_columns, swept_keys

if TYPE_CHECKING:
    import polars

SEEDS = ("data_seed", "model_seed", "batch_seed")
"""What runs of one condition differ in, from the outside in."""

MOST_ENTRIES = 12
"""Numbers of one vector that are summarised, the first ones."""

_ALL = ""
"""The name of a column that is the same in all runs: where no keys are named, they are one group."""


@dataclass(frozen=True)
class Finals:
    """Final values of a sweep, and what is what in their table."""

    frame: polars.DataFrame
    keys: list[str]
    """The columns that tell the rows apart."""
    values: list[str]
    """The columns of means."""
    levels: list[tuple[str, ...]]
    """The keys that each spread is over, from the outside in."""

    def spread(self, value: str, level: int) -> str:
        """Return the name of a value's column of spreads over a level."""
        return _spread(value, level, self.levels)


def final_values(
    directory: str | Path, columns: Sequence[str] = (), by: Sequence[str] | None = None
) -> polars.DataFrame:
    """Return the table of `find_finals`."""
    return find_finals(directory, columns, by).frame


def find_finals(directory: str | Path, columns: Sequence[str] = (), by: Sequence[str] | None = None) -> Finals:
    """Return mean and spread of final values for each combination of some keys.

    The table's columns: the keys; `runs`; `diverged`; and, over the runs that did not diverge, the mean of each curve's
    value in a run's last record and of each event's, and its spreads. Of a vector the entries are columns of their own,
    `name[1]`, ...

    Runs of one row differ in levels: keys other than seeds together, then each kind of seed. The spread over a level is
    the standard deviation of the means of runs that agree in it, among those that agree in all levels further out,
    pooled: sqrt(sum of squared deviations / sum of (n - 1)). It is `name std` where there is one level, otherwise
    `name std over KEY and KEY`.

    Args:
        directory: Where the sweep is.
        columns: Which curves and events; none are all of numbers.
        by: The keys; None: those swept over, other than seeds.

    Raises:
        StorageError: There is no sweep, or no such column or key, or it cannot be read.
        DamagedError: A file is not what was written; the message names it.
    """
    import polars as pl

    events = stored_columns(directory)["events"]
    ended = [name for name in events if name.startswith("diverged_at")]
    frame = load_sweep(directory, [*columns, *ended] if columns else None, constants=True)
    known = swept_keys(frame)
    varying = [key for key in known if frame[key].n_unique() > 1]
    for key in by or ():
        if key not in known:
            raise StorageError(f"the sweep in {directory} has no key {key!r}; {suggestion(key, varying)}")
    keys = [key for key in varying if _seed(key) is None] if by is None else [*dict.fromkeys(by)]
    levels = _levels(frame, keys, [key for key in varying if key not in keys])
    finals = _finals(frame, events)
    lost = pl.any_horizontal([pl.col(name).is_not_null() for name in ended])
    kept = [pl.when(~lost).then(value.cast(pl.Float64)).alias(name) for name, value in finals.items()]
    places = [*keys, *(key for level in levels for key in level)]
    runs = frame.select(pl.lit(0).alias(_ALL), *places, lost.alias("diverged"), *kept)
    return Finals(_summarised(runs, keys, levels, [*finals]), keys, [*finals], levels)


def is_seed(key: str) -> bool:
    """Whether a key is of seeds.

    >>> is_seed("training_a.model_seed"), is_seed("training.lr")
    (True, False)
    """
    return _seed(key) is not None


def _seed(key: str) -> str | None:
    """Return which kind of seed a key is, None if it is none.

    >>> _seed("training_a.model_seed"), _seed("training.lr")
    ('model_seed', None)
    """
    name = key.rpartition(".")[2]
    return name if name in SEEDS else None


def _levels(frame: polars.DataFrame, keys: Sequence[str], pooled: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what runs that agree in `keys` differ in, from the outside in, each level with what moves with it.

    >>> import polars as pl
    >>> seeds = {"data.data_seed": [7, 7, 8, 8], "model_seed": [0, 0, 1, 1], "batch_seed": [0, 1, 0, 1]}
    >>> _levels(pl.DataFrame(seeds), [], [*seeds])
    [('data.data_seed', 'model_seed'), ('batch_seed',)]
    """

    def groups(*some: str) -> int:
        return combinations(frame, [*keys, *some])

    free = [key for key in pooled if groups(key) > groups()]  # others are told by `keys`
    levels: list[tuple[str, ...]] = []
    for kind in (None, *SEEDS):
        outer = [key for level in levels for key in level]
        some = tuple(key for key in free if _seed(key) == kind)
        if groups(*outer, *some) > groups(*outer):
            levels.append(some)
        elif some:
            levels[-1] += some
    return levels


def _finals(frame: polars.DataFrame, events: Sequence[str]) -> dict[str, polars.Expr]:
    """Return the numbers that a run has at its end, by the names of their columns."""
    import polars as pl

    finals: dict[str, polars.Expr] = {}
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.List) and name not in (*events, "step"):
            finals |= _entries(name, pl.col(name).list.last(), kind.inner, frame)
    for name in events:
        if name in frame.columns and not name.startswith(("diverged_at", "stopped_at")):
            finals |= _entries(name, pl.col(name), frame.schema[name], frame)
    return finals


def _entries(name: str, value: polars.Expr, kind: Any, frame: polars.DataFrame) -> dict[str, polars.Expr]:
    """Return a number, or each entry of a vector of numbers, by the names of their columns; matrices are left out."""
    import polars as pl

    if not kind.is_nested():
        return {name: value} if kind.is_numeric() else {}
    if not kind.inner.is_numeric():
        return {}
    if isinstance(kind, pl.Array):
        length, entry = kind.size, value.arr.get
    else:
        length, entry = (
            frame.select(value.list.len().max()).item() or 0,
            functools.partial(value.list.get, null_on_oob=True),
        )
    return {f"{name}[{i + 1}]": entry(i) for i in range(min(length, MOST_ENTRIES))}


def _summarised(
    runs: polars.DataFrame, keys: Sequence[str], levels: Sequence[tuple[str, ...]], values: Sequence[str]
) -> polars.DataFrame:
    """Return the table of `find_finals`, made of what each run has at its end."""
    import polars as pl

    counts = pl.len().alias("runs"), pl.col("diverged").sum()
    means = _grouped(runs, keys).agg(*counts, *(pl.col(name).mean() for name in values))
    spreads = [_spreads(runs, keys, levels[: i + 1], values) for i in range(len(levels))]
    columns = [means[name] for name in (*keys, "runs", "diverged")]
    for name in values:
        columns += [means[name], *(spread[name].alias(_spread(name, i, levels)) for i, spread in enumerate(spreads))]
    return pl.DataFrame(columns).sort(keys) if keys else pl.DataFrame(columns)


def _spread(value: str, level: int, levels: Sequence[tuple[str, ...]]) -> str:
    return f"{value} std" if len(levels) == 1 else f"{value} std over {' and '.join(levels[level])}"


def _spreads(
    runs: polars.DataFrame, keys: Sequence[str], levels: Sequence[tuple[str, ...]], values: Sequence[str]
) -> polars.DataFrame:
    """Return the spreads over the last level for each combination of keys, in the order in which these appear."""
    import polars as pl

    outer = [*keys, *(key for level in levels[:-1] for key in level)]
    cells = _grouped(runs, [*outer, *levels[-1]]).agg(pl.col(name).mean() for name in values)
    free = {name: (pl.col(name).count().cast(pl.Int64) - 1).clip(0) for name in values}
    sums = _grouped(cells, outer).agg(
        *((pl.col(name).var() * count).alias(name) for name, count in free.items()),
        *(count.alias(f"{name} free") for name, count in free.items()),
    )
    every = {name: pl.col(f"{name} free").sum() for name in values}
    return _grouped(sums, keys).agg(
        pl.when(count > 0).then(pl.col(name).sum() / count).sqrt().alias(name) for name, count in every.items()
    )


def _grouped(frame: polars.DataFrame, keys: Sequence[str]) -> Any:
    """Group rows by keys, in the order in which their values appear; by none, all are one group."""
    return frame.group_by([_ALL, *keys], maintain_order=True)
