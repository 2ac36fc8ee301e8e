"""The tables that figures of a sweep are drawn of: curves of conditions, how they end, and every run for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dln.errors import ConfigError, StorageError, suggestion
from dln.studies.aggregate import aggregate
from dln.studies.curves import DIVERGED
from dln.studies.stored_runs import StoredRuns
from dln.studies.stored_sums import StoredSums
from dln.studies.sweep_asked import SHARE

if TYPE_CHECKING:
    import polars

    from dln.studies.baselines import Baseline
    from dln.studies.opening import Results

VALUE = "value"
"""What the values that runs end with are called, before they have their names."""

TAILS = (0.1, 0.5, 0.9)
"""The quantiles of a band of quantiles."""


def quantiles_for(middle: str, band: str) -> tuple[float, ...]:
    """Return which quantiles a table needs for a middle and a band."""
    return TAILS if band == "quantiles" else (0.5,) if middle == "median" else ()


def curve_table(
    results: Results,
    runs: StoredRuns,
    over: Sequence[str],
    by: Sequence[str],
    of: Sequence[str],
    where: Mapping[str, Any],
    baseline: Baseline | None = None,
    quantiles: Sequence[float] = (),
) -> polars.DataFrame:
    """Return the table of `dln.aggregate` of what `where` selects; where nothing is averaged over, runs alone.

    Raises:
        StorageError: As `dln.aggregate` does; or runs differ in more than `by`.
    """
    keys = [*by, *(key for key in where if key not in by)]
    if over:
        table = aggregate(results, over, keys, of, baseline, quantiles=quantiles)
    elif baseline is not None:
        raise StorageError(
            f"nothing is averaged over in {runs.name}: a ratio to a baseline needs several runs, of seeds"
        )
    else:
        table = alone(run_frame(runs, keys, of, {}), keys, of, runs.name)
    return selected(table, runs, by, where)


def selected(
    table: polars.DataFrame, runs: StoredRuns, by: Sequence[str], where: Mapping[str, Any]
) -> polars.DataFrame:
    """Return the rows in which keys have the values of `where`, without those of them that tell nothing else apart.

    Raises:
        StorageError: No run has such a value.
    """
    for key, value in where.items():
        table = table.filter(table[key].eq_missing(runs.stored_value(key, value)))
    if not len(table):
        told = ", ".join(f"{key}={value}" for key, value in where.items())
        raise StorageError(f"no run in {runs.name} has {told} together")
    return table.drop([key for key in where if key not in by])


def run_frame(runs: StoredRuns, keys: Sequence[str], of: Sequence[str], where: Mapping[str, Any]) -> polars.DataFrame:
    """Return a row a run: keys, at which step it diverged, its steps and curves.

    Raises:
        StorageError: There is no such curve, or the sweep keeps sums.
    """
    if isinstance(runs, StoredSums):
        raise StorageError(f"{runs.name} keeps sums, no curves of single runs: draw --figure curves, finals or map")
    ended = [name for name in runs.schema if name.startswith("diverged_at")]
    chosen = runs.where({key: runs.stored_value(key, value) for key, value in where.items()}) if where else runs
    curves = [runs.curve(name).alias(name) for name in of]
    frame = chosen.lazy.select(*dict.fromkeys(keys), *ended, "step", *curves).collect()
    if not len(frame):
        raise StorageError(f"no run in {runs.name} has {', '.join(f'{key}={value}' for key, value in where.items())}")
    return frame


def final_frame(runs: StoredRuns, keys: Sequence[str], of: str, events: Sequence[str]) -> polars.DataFrame:
    """Return a row a run with what it ends with, as a curve `value` of one record: its last, or that of an event.

    Runs that diverge have none, unless it is told of how runs end: `diverged`, 1 or 0, or an event `diverged_at`.

    Args:
        runs: The sweep.
        keys: Which keys the rows have.
        of: A curve or an event, an entry of a vector as `singular_values[1]`.
        events: The names of the sweep's events.

    Raises:
        ConfigError: There is no such curve or event, or it is no number.
    """
    import polars as pl

    ended = [pl.col(name) for name in runs.schema if name.startswith("diverged_at")]
    lost = pl.min_horizontal(ended) if ended else pl.lit(None, pl.Int64)
    every = of == SHARE or of.startswith("diverged_at")
    value = lost.is_not_null() if of == SHARE else _ending(runs, of, events)
    kept = value if every else pl.when(lost.is_null()).then(value)
    told = (pl.lit(None, pl.Int64) if every else lost).alias("diverged_at")
    end = pl.col("step").list.last()
    frame = runs.lazy.select(*dict.fromkeys(keys), told, end, kept.cast(pl.Float64).alias(VALUE)).collect()
    step = pl.lit(frame["step"].max() or 0, pl.Int64)  # one for all: how runs end, whenever they do
    return frame.with_columns(pl.concat_list(step).alias("step"), pl.concat_list(VALUE))


def _ending(runs: StoredRuns, name: str, events: Sequence[str]) -> polars.Expr:
    """Return what a run ends with."""
    import polars as pl

    whole, _, entry = name.partition("[")
    if whole not in events:
        known = [*runs.curve_names(), *events, SHARE]
        if whole not in runs.schema:
            raise ConfigError(f"{runs.name} has no {name!r}; {suggestion(name, known)}")
        return runs.curve(name).list.last()
    kind: Any = runs.schema[whole]
    if not kind.is_nested():
        if not kind.is_numeric():
            raise ConfigError(f"{name!r} is no number of a run")
        return pl.col(whole)
    number = entry.removesuffix("]")
    if not number.isdecimal() or number == "0":
        raise ConfigError(f"{whole!r} is a vector: name one of its entries, such as '{whole}[1]'")
    entries: Any = pl.col(whole).arr if isinstance(kind, pl.Array) else pl.col(whole).list
    return entries.get(int(number) - 1, null_on_oob=True)


def final_table(
    results: Results,
    runs: StoredRuns,
    over: Sequence[str],
    by: Sequence[str],
    of: str,
    where: Mapping[str, Any],
    events: Sequence[str],
    quantiles: Sequence[float] = (),
) -> polars.DataFrame:
    """Return a row for each condition: what `dln.aggregate` says of the last records of its runs, or of their events.

    Of sums it is the last record of the condition.

    Raises:
        StorageError: As `dln.aggregate` does.
        ConfigError: There is no such curve or event.
    """
    if isinstance(runs, StoredSums):
        return curve_table(results, runs, over, by, [of], where, quantiles=quantiles)
    keys = [*by, *(key for key in where if key not in by)]
    frame = final_frame(runs, [*keys, *over, *runs.varying], of, events)
    table = aggregate(frame, over, keys, VALUE, quantiles=quantiles) if over else alone(frame, keys, [VALUE], runs.name)
    names = {name: f"{of}{name.removeprefix(VALUE)}" for name in table.columns if name.startswith(f"{VALUE} ")}
    return selected(table.rename(names), runs, by, where)


def alone(frame: polars.DataFrame, keys: Sequence[str], of: Sequence[str], name: str) -> polars.DataFrame:
    """Return the table of runs each of which is a condition, with columns as of `dln.aggregate`.

    Args:
        frame: Of `run_frame`.
        keys: What tells runs apart.
        of: The curves.
        name: What an error calls the runs.

    Raises:
        StorageError: Several runs agree in the keys.
    """
    import polars as pl

    if len(frame) > (frame.select(keys).n_unique() if keys else 1):
        told = ", ".join(keys) or "everything"
        raise StorageError(f"runs of {name} agree in {told}: name what else they differ in with --by, or --over")
    ended = [pl.col(one) for one in frame.columns if one.startswith("diverged_at")]
    first = pl.min_horizontal(ended) if ended else pl.lit(None, pl.Int64)
    rows = frame.select(*keys, "step", *of, first.alias(DIVERGED)).explode(["step", *of])
    gone, nothing = pl.col(DIVERGED), pl.lit(None, pl.Float64)
    about = {
        "runs": pl.lit(1),
        DIVERGED: (gone <= pl.col("step")).fill_null(value=False).cast(pl.Int64),
        "stopped": pl.lit(0),
        "lost": gone.is_not_null().cast(pl.Int64),
    }
    told = [expression.alias(column) for column, expression in about.items()]
    for curve in of:
        told += [pl.col(curve).cast(pl.Float64).alias(f"{curve} {kind}") for kind in ("mean", "q0.5")]
        told += [
            nothing.alias(f"{curve} {kind}") for kind in ("std", "low", "high", "q0.1", "q0.9", "q0.5 low", "q0.5 high")
        ]
    return rows.select(*keys, "step", *told)
