"""Ratios of curves to their baselines, beside means and quantiles: those of `dln.aggregate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from dln.report.curves import Curves
from dln.studies.stored_runs import CONDITION

RATIOS = ("ratio", "ratio low", "ratio high")


def add_ratios(curves: Curves, table: pl.DataFrame, conditions: pl.DataFrame, by: Sequence[str]) -> None:
    """Add to curves what a table says of their ratios, NaN where it says nothing.

    Args:
        curves: Of all conditions.
        table: As `dln.aggregate` gives it, with a baseline.
        conditions: As `runs.conditions` gives them.
        by: The keys that tell conditions apart.
    """
    told = [column.name for column in curves.columns if f"{column.name} ratio" in table.columns]
    keys = [key for key in by if key in table.columns]  # others move with these
    if not told or (keys and conditions.select(keys).n_unique() < len(conditions)):
        return
    numbers = conditions.select(*keys, CONDITION)
    rows = table.join(numbers, on=keys, nulls_equal=True) if keys else table.with_columns(pl.lit(0).alias(CONDITION))
    found = {name: np.full((len(curves.steps), len(RATIOS), curves.steps.shape[1]), np.nan) for name in told}
    for (number,), own in rows.partition_by(CONDITION, as_dict=True).items():
        steps, shown = own["step"].to_numpy(), curves.steps[int(number)]
        place = np.searchsorted(steps, np.nan_to_num(shown)).clip(max=len(steps) - 1)
        same = steps[place] == shown
        for name in told:
            for i, ratio in enumerate(RATIOS):
                values = own[f"{name} {ratio}"].cast(pl.Float64).to_numpy()
                found[name][int(number), i] = np.where(same, values[place], np.nan)
    nothing = np.full((len(curves.steps), len(RATIOS), curves.steps.shape[1]), np.nan)
    curves.kinds = [*curves.kinds, *RATIOS]
    curves.told = [
        np.concatenate([values, found.get(column.name, nothing)], 1)
        for column, values in zip(curves.columns, curves.told, strict=True)
    ]
