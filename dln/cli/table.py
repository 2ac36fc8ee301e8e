"""A table of a sweep: the final values of its curves, grouped by the keys swept over, with the spread over seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dln.errors import printable
from dln.results.frames import load_sweep, stored_columns, swept_keys

if TYPE_CHECKING:
    import polars

SEEDS = ("model_seed", "batch_seed", "data_seed")


def final_values(directory: str | Path, columns: Sequence[str] = ()) -> polars.DataFrame:
    """Return mean and spread of the last record's values for each combination of swept keys other than seeds.

    Columns: the keys; `runs`; `diverged`; and for each curve its `mean` and `std` over the runs that did not diverge.
    """
    import polars as pl

    ended = [name for name in stored_columns(directory)["events"] if name.startswith("diverged_at")]
    frame = load_sweep(directory, [*columns, *ended] if columns else None)
    keys = [
        key for key in swept_keys(frame) if not key.endswith((*SEEDS, *(f"{s}_{lane}" for s in SEEDS for lane in "ab")))
    ]
    curves = [
        name
        for name, kind in frame.schema.items()
        if isinstance(kind, pl.List) and kind.inner in (pl.Float32, pl.Float64) and name != "step"
    ]
    diverged = pl.any_horizontal([pl.col(name).is_not_null() for name in ended])
    frame = frame.with_columns(
        diverged.alias("diverged"), *[pl.col(name).list.last().cast(pl.Float64) for name in curves]
    )
    kept = [pl.col(name).filter(~pl.col("diverged")) for name in curves]
    values = [
        e for name, c in zip(curves, kept, strict=True) for e in (c.mean().alias(name), c.std().alias(f"{name} std"))
    ]
    groups = frame.group_by(keys, maintain_order=True) if keys else frame.group_by(pl.lit("all").alias("sweep"))
    table = groups.agg(pl.len().alias("runs"), pl.col("diverged").sum(), *values)
    return table.sort(keys) if keys else table.drop("sweep")


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
