"""`dln aggregate`: what the runs of a sweep have in common, condition by condition, and where they leave a baseline."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.base.files import from_home, placing
from dln.cli.table import print_rows, written
from dln.errors import ConfigError, StorageError, printable
from dln.studies.aggregate import aggregate
from dln.studies.outcomes import condition_keys, outcomes
from dln.studies.wording import between, digits, sentence

if TYPE_CHECKING:
    import polars

    from dln.studies.baselines import Baseline


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
    return values_in(baseline, "--baseline", " or the directory of a sweep or run")


def values_in(words: str, option: str, other: str = "") -> dict[str, Any]:
    """Read values of keys from the command line: KEY=VALUE[,KEY=VALUE].

    Args:
        words: What was given.
        option: Where.
        other: What else is allowed there.

    Raises:
        ConfigError: It is something else.

    >>> values_in("training.lr=0.1,model.hidden_dim=[10,5]", "--where")
    {'training.lr': 0.1, 'model.hidden_dim': [10, 5]}
    """
    pairs = [part.partition("=") for part in re.split(r",(?![^\[]*\])", words)]
    for key, sign, _ in pairs:
        if not (key and sign):
            raise ConfigError(f"{option} takes KEY=VALUE[,KEY=VALUE]{other}, not {words!r}")
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
    cells.append(between(row["mean"], row["low"], row["high"]))
    if compared:
        ratio = between(row["ratio"], row["ratio low"], row["ratio high"])
        cells += [digits(row["baseline"]), ratio, digits(row["g"], 3)]
    return cells
