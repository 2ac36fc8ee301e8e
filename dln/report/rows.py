"""What runs ended with: a row for each run or, where only sums are kept or runs are too many, for each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import polars as pl

from dln.figures.table_words import short, value_of
from dln.report.columns import Column
from dln.report.packing import Pack
from dln.results.finals import MOST_ENTRIES
from dln.results.tables import RUN
from dln.studies.stored_runs import StoredRuns
from dln.studies.stored_sums import StoredSums

MOST_NUMBERS = 300_000
"""Of final values: of more runs there are fewer columns, the first ones."""
MOST_ROWS = 50_000
"""Runs from which on a row is of a condition."""
ENDS = ("diverged_at", "stopped_at", "interrupted_at")


@dataclass
class Rows:
    """Final values and events of runs."""

    keys: dict[str, list[Any]]
    """The values of each key that varies, in order."""
    place: dict[str, np.ndarray]
    """Of each key: which of its values a row has [R]."""
    condition: np.ndarray
    """Which condition a row is of [R]."""
    runs: np.ndarray
    """How many runs a row is of [R]."""
    diverged: np.ndarray
    """How many of them diverged [R]."""
    values: dict[str, np.ndarray]
    """Final values and events by name, NaN where a row has none [R]."""
    events: list[str]
    """Which of them are events."""
    spread: dict[str, np.ndarray] = field(default_factory=dict)
    """Of sums: the standard deviation of final values."""
    left_out: list[str] = field(default_factory=list)
    summed: bool = False
    """Whether a row is of a condition, not of a run."""

    def pack(self, pack: Pack, prefix: str) -> dict[str, Any]:
        """Add all of it to a pack, and return what a page needs to know beside it."""
        for key, place in self.place.items():
            pack.add(f"{prefix}key {key}", place, "i4")
        for name, told in {"condition": self.condition, "runs of rows": self.runs, "diverged": self.diverged}.items():
            pack.add(f"{prefix}{name}", told, "i4")
        for what, found in {"value": self.values, "spread": self.spread}.items():
            for name, values in found.items():
                pack.add(f"{prefix}{what} {name}", values, "f4" if _is_single(values) else "f8")
        shorts = [short(key) for key in self.keys]
        return {
            "keys": [
                {
                    "name": key,
                    "short": short(key) if shorts.count(short(key)) == 1 else key,
                    "values": [
                        value if isinstance(value, int | float) and isfinite(value) else None for value in values
                    ],
                    "texts": [value_of(key, value) for value in values],
                }
                for key, values in self.keys.items()
            ],
            "values": list(self.values),
            "spreads": list(self.spread),
            "events": self.events,
            "rows": len(self.runs),
            "left_out": self.left_out,
            "summed": self.summed,
        }


def read_rows(
    runs: StoredRuns,
    conditions: pl.DataFrame,
    by: Sequence[str],
    over: Sequence[str],
    columns: Sequence[Column],
    events: Sequence[str],
) -> Rows:
    """Return what runs ended with.

    Args:
        runs: The runs, or sums over them.
        conditions: As `runs.conditions` gives them, in their order.
        by: The keys that tell conditions apart.
        over: The keys in which the runs of one differ.
        columns: Whose final values are told.
        events: Which columns are events.
    """
    if isinstance(runs, StoredSums):
        return _of_sums(runs, conditions, by, over, columns)
    keys = [*by, *over]
    exprs = [runs.curve(column.name).list.last().cast(pl.Float64).alias(f"value {column.name}") for column in columns]
    told = [name for name in events if name in runs.schema]
    kept = [pl.col(name) for name in told]
    number = pl.lit(0, pl.Int64).alias("condition") if not by else None
    frame = runs.lazy.select(*keys, *exprs, *kept).collect()
    if number is None:
        places = conditions.select(*by, pl.col("condition"))
        frame = frame.join(places, on=list(by), how="left", nulls_equal=True, maintain_order="left")
    else:
        frame = frame.with_columns(number)
    values = {column.name: frame[f"value {column.name}"].to_numpy() for column in columns}
    found: dict[str, np.ndarray] = {}
    for name in told:
        found |= _numbers(name, frame[name])
    lost = [found[name] for name in found if name.startswith("diverged_at")]
    diverged = np.any(np.isfinite(lost), 0).astype(int) if lost else np.zeros(len(frame), int)
    condition = frame["condition"].to_numpy()
    if len(frame) > MOST_ROWS and len(conditions) < len(frame):
        return _summed(conditions, by, condition, diverged, values, found)
    return _bounded(frame, keys, condition, np.ones(len(frame), int), diverged, values, found)


def rows_of_run(values: Mapping[str, float], events: Mapping[str, Any]) -> Rows:
    """Return what one run ended with.

    Args:
        values: Final values of columns.
        events: What was found, by name: numbers, or lists of them.
    """
    found: dict[str, np.ndarray] = {}
    for name, value in events.items():
        entries = value if isinstance(value, list) else [value]
        for i, entry in enumerate(entries[:MOST_ENTRIES]):
            if entry is None or isinstance(entry, int | float):
                label = f"{name}[{i + 1}]" if isinstance(value, list) else name
                found[label] = np.array([np.nan if entry is None else float(entry)])
    diverged = np.array([int(any(name.startswith("diverged_at") for name in events))])
    one = np.array([1])
    told = {name: np.array([value], float) for name, value in values.items()}
    return Rows({}, {}, one - 1, one, diverged, {**told, **found}, list(found))


def _of_sums(
    runs: StoredSums, conditions: pl.DataFrame, by: Sequence[str], over: Sequence[str], columns: Sequence[Column]
) -> Rows:
    count = len(conditions)
    values = {column.name: np.full(count, np.nan) for column in columns}
    spread = {column.name: np.full(count, np.nan) for column in columns}
    diverged = np.zeros(count, int)
    for number, sample in runs.read(conditions, by, over, [column.name for column in columns]):
        diverged[number] = sample.lost
        for column in columns if sample.lost < len(sample) and len(sample.steps) else ():
            own = sample.moments(column.name)
            values[column.name][number], spread[column.name][number] = own.mean[-1], own.std[-1]
    rows = _bounded(conditions, by, np.arange(count), conditions[RUN].to_numpy(), diverged, values, {})
    return _as_sums(rows, spread)


def _summed(
    conditions: pl.DataFrame,
    by: Sequence[str],
    condition: np.ndarray,
    diverged: np.ndarray,
    values: Mapping[str, np.ndarray],
    events: Mapping[str, np.ndarray],
) -> Rows:
    """Return a row for each condition: means of final values, of runs that have not diverged, and of events."""
    there = diverged == 0
    known = {name: np.where(there, column, np.nan) for name, column in values.items()} | dict(events)
    frame = pl.DataFrame({"condition": condition, "diverged": diverged, **known}, nan_to_null=True)
    means = [pl.col(name).mean() for name in known]
    spreads = [pl.col(name).std().alias(f"std {name}") for name in known]
    table = frame.group_by("condition").agg(pl.len(), pl.col("diverged").sum(), *means, *spreads).sort("condition")
    told = {name: table[name].cast(pl.Float64).to_numpy() for name in known}
    ours = {name: told[name] for name in values}, {name: told[name] for name in events}
    rows = _bounded(
        conditions, by, table["condition"].to_numpy(), table["len"].to_numpy(), table["diverged"].to_numpy(), *ours
    )
    return _as_sums(rows, {name: table[f"std {name}"].cast(pl.Float64).to_numpy() for name in known})


def _as_sums(rows: Rows, spread: Mapping[str, np.ndarray]) -> Rows:
    """Return rows that are conditions, with the standard deviations of those of their values that are kept."""
    rows.spread = {name: spread[name] for name in rows.values}
    rows.summed = True
    return rows


def _bounded(
    frame: pl.DataFrame,
    keys: Sequence[str],
    condition: np.ndarray,
    runs: np.ndarray,
    diverged: np.ndarray,
    values: Mapping[str, np.ndarray],
    events: Mapping[str, np.ndarray],
) -> Rows:
    """Return rows with as many values as a page holds: ends and losses first, then other events, then other values."""
    order = [*(name for name in events if name.startswith(ENDS)), *list(values)[:4], *events, *values]
    most = max(1, MOST_NUMBERS // max(len(frame), 1))
    order = list(dict.fromkeys(order))
    kept, left_out = set(order[:most]), order[most:]
    every = {**values, **events}
    places, named = {}, {}
    for key in keys:
        known = frame[key].unique().sort(nulls_last=True)
        numbers = pl.DataFrame({key: known, "place": range(len(known))}, schema_overrides={"place": pl.Int32})
        joined = frame.select(key).join(numbers, on=key, how="left", nulls_equal=True, maintain_order="left")
        places[key], named[key] = joined["place"].to_numpy(), known.to_list()
    told = {name: every[name] for name in every if name in kept}
    return Rows(
        named, places, condition, runs, diverged, told, [name for name in events if name in kept], left_out=left_out
    )


def _numbers(name: str, column: pl.Series) -> dict[str, np.ndarray]:
    """Return a column of events as numbers: of lists one for each entry, the first ones."""
    kind = column.dtype
    if kind.is_numeric():
        return {name: column.cast(pl.Float64).to_numpy()}
    if isinstance(kind, pl.List) and kind.inner.is_numeric():  # pyright: ignore[reportAttributeAccessIssue]
        longest = min(int(column.list.len().max() or 0), MOST_ENTRIES)  # pyright: ignore[reportArgumentType]
        entries = [column.list.get(i, null_on_oob=True).cast(pl.Float64).to_numpy() for i in range(longest)]
        return {f"{name}[{i + 1}]": values for i, values in enumerate(entries)}
    return {}


def _is_single(values: np.ndarray) -> bool:
    """Whether numbers lose only digits as float32: none overflows or vanishes, and whole ones stay what they are."""
    known = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        single = known.astype(np.float32).astype(np.float64)
    whole = known == np.rint(known)
    return bool(np.all(np.isfinite(single)) and np.all((single != 0) | (known == 0)) and (single == known)[whole].all())
