"""`dln aggregate`: what the runs of a sweep have in common, condition by condition, and where they leave a baseline."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.base.files import from_home, placing
from dln.cli.table import print_rows, written
from dln.errors import ConfigError, StorageError, printable
from dln.studies.aggregate import aggregate
from dln.studies.outcomes import condition_keys, outcomes

if TYPE_CHECKING:
    import polars

    from dln.studies.baselines import Baseline

WAYS = {1: "above", -1: "below"}


def print_aggregate(
    directory: str,
    over: Sequence[str],
    by: Sequence[str] | None = None,
    of: Sequence[str] | None = None,
    baseline: str | None = None,
    files: Iterable[str] = (),
    **options: Any,
) -> None:
    """Print how the conditions of a sweep end, and where each leaves its baseline.

    Args:
        directory: Where the sweep is.
        over: As `dln.aggregate` takes it, and so the next two.
        by: The keys that tell conditions apart.
        of: Which curves.
        baseline: KEY=VALUE[,KEY=VALUE], or the directory of another sweep, or of one run.
        files: Where to write all steps, .csv or .parquet.
        **options: `confidence`, `resamples` of `dln.aggregate`.

    Raises:
        StorageError: As `dln.aggregate` does, or a file cannot be written.
        ConfigError: As `dln.aggregate` does.
    """
    table = aggregate(directory, over, by, of, None if baseline is None else parsed(baseline), **options)
    for name in files:
        _write(table, from_home(name))
    _print(
        outcomes(table),
        condition_keys(table),
        f"last records, means over {' and '.join(over)}: {directory}",
        options.get("confidence", 0.95),
    )


def parsed(baseline: str) -> Baseline:
    """Read a baseline from the command line: the directory of a sweep, or keys with their values.

    >>> parsed("training.batch_size=null,model.hidden_dim=[10,5]")
    {'training.batch_size': None, 'model.hidden_dim': [10, 5]}
    """
    if "=" not in baseline or Path(baseline).is_dir():
        return baseline
    pairs = [part.partition("=") for part in re.split(r",(?![^\[]*\])", baseline)]
    for key, sign, _ in pairs:
        if not (key and sign):
            raise ConfigError(
                f"--baseline takes KEY=VALUE[,KEY=VALUE] or the directory of a sweep or run, not {baseline!r}"
            )
    return {key: _value(text) for key, _, text in pairs}


def _value(text: str) -> Any:
    for read in (json.loads, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _write(table: polars.DataFrame, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placing(path) as beside:
            table.write_parquet(beside) if path.suffix == ".parquet" else table.write_csv(beside)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from None
    print(f"{len(table)} rows in {printable(str(path))}")


def _print(told: polars.DataFrame, keys: Sequence[str], title: str, confidence: float) -> None:
    compared = "ratio" in told.columns
    names = [*keys, "runs", "diverged", "step", "curve", "mean"] + ["baseline", "ratio", "g"] * compared
    console = print_rows(title, names, (_cells(row, keys, compared) for row in told.iter_rows(named=True)))
    for row in told.iter_rows(named=True) if compared else ():
        if row["baseline"] is not None:
            place = ", ".join(f"{key}={written(row[key])}" for key in keys)
            said = sentence(row, confidence)
            console.print(printable(f"{place}: {said}" if place else said), soft_wrap=True)


def _cells(row: Mapping[str, Any], keys: Sequence[str], compared: bool) -> list[str]:
    cells = [written(row[name]) for name in (*keys, "runs", "diverged", "step", "curve")]
    cells.append(_between(row["mean"], row["low"], row["high"]))
    if compared:
        ratio = _between(row["ratio"], row["ratio low"], row["ratio high"])
        cells += [_digits(row["baseline"]), ratio, _digits(row["g"], 3)]
    return cells


def sentence(row: Mapping[str, Any], confidence: float = 0.95) -> str:
    r"""Say where a condition leaves its baseline, and how it ends, from a row of `outcomes`.

    >>> row = {"curve": "loss", "first": 20, "first side": 1, "first p": 1e-9, "lasting": 60, "lasting side": -1}
    >>> row |= {"step": 100, "runs": 50, "diverged": 2, "stopped": 0, "count": 48}
    >>> row |= {"ratio": 0.98, "ratio low": 0.97, "ratio high": 0.99}
    >>> print(sentence(row).replace("; ", "\n"))
    loss leaves the baseline at step 20, above it (p = 1e-09), and from step 60 on it stays below
    at step 100 it is 0.9800 [0.9700, 0.9900] of it (95 %, 48 of 50 runs, 2 diverged)
    """
    told = f"{row['curve']} {_departure(row)}; at step {row['step']} "
    if row["ratio"] is None:
        told += "there is no ratio ("
    else:
        told += f"it is {_between(row['ratio'], row['ratio low'], row['ratio high'])} of it ({100 * confidence:g} %, "
    counts = [f"{row['count']} of {row['runs']} runs" if row["count"] < row["runs"] else f"{row['runs']} runs"]
    counts += [f"{row[name]} {name}" for name in ("diverged", "stopped") if row[name]]
    return f"{told}{', '.join(counts)})"


def _departure(row: Mapping[str, Any]) -> str:
    if row["first"] is None:
        return "stays within the baseline's band"
    p = f"p = {row['first p']:.0e}" if row["first p"] else "p < 1e-300"
    left = f"leaves the baseline at step {row['first']}, {WAYS[row['first side']]} it ({p}), "
    if row["lasting"] is None:
        return f"{left}but not to the end"
    side = WAYS[row["lasting side"]]
    if row["lasting"] == row["step"]:
        return f"{left}and is {side} at the end"
    return (
        f"{left}and stays there"
        if row["lasting"] == row["first"]
        else f"{left}and from step {row['lasting']} on it stays {side}"
    )


def _between(value: float | None, low: float | None, high: float | None) -> str:
    """Write a number and its interval, with as many digits as tell the ends apart.

    >>> _between(0.98, 0.97, 0.99), _between(12.0, 11.9999, 12.0001), _between(2.0, None, None)
    ('0.9800 [0.9700, 0.9900]', '12.00000 [11.99990, 12.00010]', '2.000')
    """
    if value is None or low is None or high is None:
        return _digits(value)
    size = abs(value) / (high - low) if high > low else 1
    digits = min(max(math.ceil(math.log10(max(size, 1))) + 2, 4), 12)
    return f"{_digits(value, digits)} [{_digits(low, digits)}, {_digits(high, digits)}]"


def _digits(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:#.{digits}g}"
