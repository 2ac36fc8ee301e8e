"""What a table of `dln.aggregate` holds: keys, curves, the middle of runs and the band around it, and how they end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.errors import ConfigError, suggestion
from dln.figures.table_words import RATE

if TYPE_CHECKING:
    import polars

MIDDLES = ("mean", "median")
BANDS = ("interval", "quantiles", "std", "none")

_QUANTILE = re.compile(r" q(0\.\d+)$")


def keys_of(table: polars.DataFrame) -> list[str]:
    """Return the keys that tell the conditions of a table apart."""
    return table.columns[: table.columns.index("step")]


def curves_of(table: polars.DataFrame) -> list[str]:
    """Return the curves that a table has means of."""
    means = [name for name in table.columns if name.endswith(" mean") and not name.endswith(" log mean")]
    return [name.removesuffix(" mean") for name in means]


def check_names(table: polars.DataFrame, *names: str | None) -> None:
    """Raise ConfigError, with the nearest name, unless a table has keys or curves of these names; None is none."""
    known = [*keys_of(table), *curves_of(table)]
    for name in names:
        if name is not None and name not in known:
            raise ConfigError(f"the table has no {name!r}; {suggestion(name, known)}")


def values_of(table: polars.DataFrame, key: str | None) -> list[Any]:
    """Return the values of a key in order, null last; of no key one, None."""
    return [None] if key is None else table[key].unique().sort(nulls_last=True).to_list()


def rows_by(table: polars.DataFrame, key: str | None) -> dict[Any, polars.DataFrame]:
    """Return the rows of each value of a key, in the order of `values_of`; of no key all rows, of None."""
    if key is None:
        return {None: table}
    parts = {value: rows for (value,), rows in table.partition_by(key, as_dict=True, maintain_order=True).items()}
    return {value: parts[value] for value in values_of(table, key)}


def conditions_of(table: polars.DataFrame) -> Iterator[polars.DataFrame]:
    """Yield the rows of each condition, in the order in which they appear."""
    keys = keys_of(table)
    yield from table.partition_by(keys, maintain_order=True) if keys else [table]


def column(table: polars.DataFrame, name: str) -> np.ndarray:
    """Return a column as numbers, NaN where there is none, and where one is infinite."""
    values = table[name].to_numpy().astype(float)
    return np.where(np.isfinite(values), values, np.nan)


def middle_of(table: polars.DataFrame, name: str, middle: str = "mean") -> np.ndarray:
    """Return the means, or medians, of a curve.

    Raises:
        ConfigError: There is no such middle, or the table has no medians.
    """
    if middle not in MIDDLES:
        raise ConfigError(f"there is no middle {middle!r}; {suggestion(middle, MIDDLES)}")
    if middle == "median" and f"{name} q0.5" not in table.columns:
        raise ConfigError(f"the table has no medians of {name}: aggregate with quantiles=[0.5]")
    return column(table, f"{name} mean" if middle == "mean" else f"{name} q0.5")


def band_of(
    table: polars.DataFrame, name: str, middle: str = "mean", band: str = "interval"
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the lower and the upper ends of the band around the middle of a curve; None where there is to be none.

    `interval` is that of the mean or of the median; `quantiles` are the lowest and the highest that the table has;
    `std` is the mean, less and more a standard deviation of one run.

    Raises:
        ConfigError: There is no such band, or not in the table.
    """
    if band not in BANDS:
        raise ConfigError(f"there is no band {band!r}; {suggestion(band, BANDS)}")
    if band == "none" or f"{name} low" not in table.columns:
        return None
    if band == "interval":
        middle_of(table, name, middle)  # which tells what is wrong
        of = f"{name} " if middle == "mean" else f"{name} q0.5 "
        return column(table, f"{of}low"), column(table, f"{of}high")
    if band == "std":
        if middle == "median":
            raise ConfigError("a standard deviation is one around the mean, not the median: name the band quantiles")
        mean, std = column(table, f"{name} mean"), column(table, f"{name} std")
        return mean - std, mean + std
    low, high = quantiles_of(table, name)
    return column(table, f"{name} q{low}"), column(table, f"{name} q{high}")


def quantiles_of(table: polars.DataFrame, name: str) -> tuple[str, str]:
    """Return the lowest and the highest quantile of a curve that a table has.

    Raises:
        ConfigError: There are not two of them.
    """
    found = [_QUANTILE.search(other) for other in table.columns if other.startswith(f"{name} q")]
    levels = sorted({match[1] for match in found if match}, key=float)
    if len(levels) < 2:
        raise ConfigError(f"the table has no two quantiles of {name}: aggregate with quantiles=[0.1, 0.5, 0.9]")
    return levels[0], levels[-1]


def times_of(table: polars.DataFrame, rate: float | None = None) -> np.ndarray:
    """Return lr x step of some rows; where `time` is recorded, that, whatever changes the rate.

    Args:
        table: The rows.
        rate: The learning rate of all, where it is no key of the table.

    Raises:
        ConfigError: It is not known.
    """
    if "time mean" in table.columns:
        return column(table, "time mean")
    rates = table[RATE].to_numpy() if RATE in table.columns else rate
    if rates is None:
        raise ConfigError(f"learning rates differ, and {RATE} is none of the table's keys; name it in by")
    return rates * table["step"].to_numpy()


def ends_of(table: polars.DataFrame) -> polars.DataFrame:
    """Return the last row of each condition."""
    keys = keys_of(table)
    return table.sort("step").group_by(keys, maintain_order=True).last() if keys else table.sort("step").tail(1)


def numbers_of(values: list[Any]) -> bool:
    """Whether the values of a key are numbers, null aside.

    >>> numbers_of([1, 5.0, None]), numbers_of([True, False]), numbers_of([None]), numbers_of(["[5, 5]", "5"])
    (True, False, False, False)
    """
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
