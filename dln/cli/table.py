"""A table of a sweep: the final values of its curves and events by the keys swept over, with the spread over seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.errors import printable
from dln.results.frames import load_sweep, stored_columns, swept_keys

if TYPE_CHECKING:
    import polars

SEEDS = ("model_seed", "batch_seed", "data_seed")


MOST_ENTRIES = 12
"""Numbers of one vector that a table shows, the first ones."""


def final_values(directory: str | Path, columns: Sequence[str] = ()) -> polars.DataFrame:
    """Return mean and spread of final values for each combination of swept keys other than seeds.

    Columns: the keys; `runs`; `diverged`; and, over the runs that did not diverge, mean and `std` of each curve's value
    in a run's last record and of each event's. Of a vector the entries are columns of their own, `name[1]`, ...
    """
    import polars as pl

    events = stored_columns(directory)["events"]
    ended = [name for name in events if name.startswith("diverged_at")]
    frame = load_sweep(directory, [*columns, *ended] if columns else None)
    keys = [
        key for key in swept_keys(frame) if not key.endswith((*SEEDS, *(f"{s}_{lane}" for s in SEEDS for lane in "ab")))
    ]
    finals: dict[str, polars.Expr] = {}
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.List) and name not in (*events, "step"):
            finals |= _entries(name, pl.col(name).list.last(), kind.inner, frame)
    for name in events:
        if name in frame.columns and not name.startswith(("diverged_at", "stopped_at")):
            finals |= _entries(name, pl.col(name), frame.schema[name], frame)
    diverged = pl.any_horizontal([pl.col(name).is_not_null() for name in ended])
    kept = {name: value.cast(pl.Float64).filter(~diverged) for name, value in finals.items()}
    values = [e for name, value in kept.items() for e in (value.mean().alias(name), value.std().alias(f"{name} std"))]
    groups = frame.group_by(keys, maintain_order=True) if keys else frame.group_by(pl.lit("all").alias("sweep"))
    table = groups.agg(pl.len().alias("runs"), diverged.sum().alias("diverged"), *values)
    return table.sort(keys) if keys else table.drop("sweep")


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


def print_table(directory: str | Path, columns: Sequence[str] = ()) -> None:
    """Print `final_values` as a table."""
    from rich.console import Console
    from rich.table import Table

    frame = final_values(directory, columns)
    names = [name for name in frame.columns if not name.endswith(" std")]
    table = Table()
    for name in names:
        table.add_column(printable(name), justify="right", overflow="fold")
    for row in frame.iter_rows(named=True):
        table.add_row(*(printable(_cell(row, name)) for name in names))
    plain = functools.partial(Console, markup=False, emoji=False, highlight=False)  # brackets are no markup
    console = plain() if plain().is_terminal else plain(width=1000)  # a pipe is as wide as the table
    console.print(printable(f"final values, mean ± standard deviation over runs: {directory}"), soft_wrap=True)
    console.print(table)


def _cell(row: dict, name: str) -> str:
    value = row[name]
    if f"{name} std" not in row:
        return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    if value is None:
        return "-"
    spread = row[f"{name} std"]
    return f"{value:.3e}" + ("" if spread is None else f" ± {spread:.0e}")
