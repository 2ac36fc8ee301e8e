"""A table of a sweep: the final values of its curves and events by some of its keys, with their spread over others."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dln.errors import printable
from dln.results.finals import Finals, find_finals

if TYPE_CHECKING:
    from rich.console import Console


def print_table(directory: str | Path, columns: Sequence[str] = (), by: Sequence[str] | None = None) -> None:
    """Print `find_finals` as a table."""
    finals = find_finals(directory, columns, by)
    told = [*finals.keys, "runs", "diverged"]
    rows = [
        [*(written(row[name]) for name in told), *(_mean(finals, row, name) for name in finals.values)]
        for row in finals.frame.iter_rows(named=True)
    ]
    print_rows(f"final values, {caption(finals.levels)}: {directory}", [*told, *finals.values], rows)


def print_rows(title: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> Console:
    """Print a table below its title, and return where, for lines that follow it."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in names:
        table.add_column(printable(name), justify="right", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    plain = functools.partial(Console, markup=False, emoji=False, highlight=False)  # brackets are no markup
    console = plain() if plain().is_terminal else plain(width=1000)  # a pipe is as wide as the table
    console.print(printable(title), soft_wrap=True)
    console.print(table)
    return console


def caption(levels: Sequence[Sequence[str]]) -> str:
    """Say what the numbers of a table are, from what their spreads are over.

    >>> caption([])
    'each of one run'
    >>> caption([["training.model_seed"], ["training.batch_seed"]])
    'mean ± standard deviation over training.model_seed ± over training.batch_seed within each'
    """
    if not levels:
        return "each of one run"
    first, *others = [f"over {' and '.join(level)}" for level in levels]
    return " ± ".join(["mean", f"standard deviation {first}", *(f"{spread} within each" for spread in others)])


def written(value: object) -> str:
    """Write a value of a key, or a count.

    >>> written(None), written(0.50), written(3)
    ('null', '0.5', '3')
    """
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _mean(finals: Finals, row: dict, name: str) -> str:
    """Return a mean and its spreads; where nothing spreads, the mean alone."""
    if row[name] is None:
        return "-"
    spreads = [row[finals.spread(name, level)] for level in range(len(finals.levels))]
    told = ["-" if spread is None else f"{spread:.0e}" for spread in spreads]
    return " ± ".join([f"{row[name]:.3e}", *(told if set(told) != {"-"} else [])])
