"""The runs of a loaded sweep as arrays: those whose records are at the same places together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.errors import ConfigError, suggestion
from dln.figures.table_axes import Lost
from dln.figures.table_words import RATE

if TYPE_CHECKING:
    import polars

DIVERGED = "diverged_at"
"""What the columns begin with that say at which step a run, or a lane of it, diverged."""


@dataclass(frozen=True)
class Bundle:
    """Runs that have records at the same places, or end before."""

    x: np.ndarray
    """Where the records lie [T]."""
    values: np.ndarray
    """The curve of each run [R, T], NaN where it has ended."""
    keys: list[Any]
    """Each run's value of the key [R]."""


def check_curve(frame: polars.DataFrame, of: str, per: str | None) -> None:
    """Raise ConfigError, with the nearest name, unless a frame has a curve, a key and steps."""
    import polars as pl

    known = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List) and kind.inner.is_numeric()]
    if "step" not in known:
        raise ConfigError("the runs have no steps: load them with the column step too")
    for name, names in ((of, known), (per, frame.columns)):
        if name is not None and name not in names:
            raise ConfigError(f"the runs have no {name!r}; {suggestion(name, names)}")


def is_lost(frame: polars.DataFrame) -> polars.Series:
    """Return which runs diverge, in a lane."""
    import polars as pl

    ended = [pl.col(name).is_not_null() for name in frame.columns if name.startswith(DIVERGED)]
    return frame.select(pl.any_horizontal(ended) if ended else pl.repeat(value=False, n=pl.len())).to_series()


def lost_runs(frame: polars.DataFrame, per: str | None) -> Lost:
    """Return by the value of a key how many runs diverge, and how many there are."""
    import polars as pl

    gone = is_lost(frame)
    if per is None:
        return {None: (int(gone.sum()), len(frame))}
    counts = frame.select(per).with_columns(gone.alias(DIVERGED)).group_by(per)
    return {value: (lost, runs) for value, lost, runs in counts.agg(pl.col(DIVERGED).sum(), pl.len()).rows()}


def bundled(frame: polars.DataFrame, of: str, per: str | None, x: str, rate: float | None) -> Iterator[Bundle]:
    """Yield the runs of a frame, together those whose records are at the same places.

    Args:
        frame: Of `dln.load_sweep`.
        of: The curve.
        per: The key whose values runs are to have.
        x: "step", or "time", which is lr x step.
        rate: The learning rate, where the frame does not say.

    Raises:
        ConfigError: The curve has not one value for each record, or the learning rate is not known.
    """
    lengths, steps = flat(frame, "step")
    counts, values = flat(frame, of)
    if not np.array_equal(lengths, counts):
        raise ConfigError(f"{of!r} is no curve: it has not one value for each record")
    starts = np.cumsum(lengths) - lengths
    rates = rates_of(frame, rate) if x == "time" else np.ones(len(frame))
    keys = frame[per].to_list() if per is not None else [None] * len(frame)
    left = np.lexsort((-lengths, rates))  # the longest first, among those of one rate
    while len(left):
        first = left[0]
        longest = steps[starts[first] : starts[first] + lengths[first]]
        same = np.zeros(len(left), bool)
        padded = np.full((len(left), len(longest)), np.nan)
        for row, run in enumerate(left):
            own = slice(starts[run], starts[run] + lengths[run])
            same[row] = rates[run] == rates[first] and np.array_equal(steps[own], longest[: lengths[run]])
            padded[row, : lengths[run]] = values[own] if same[row] else np.nan
        if len(longest):
            yield Bundle(longest * rates[first], padded[same], [keys[run] for run in left[same]])
        left = left[~same]


def flat(frame: polars.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths of lists of numbers [R], and all numbers one after the other, what is not finite as NaN."""
    array: Any = frame[name].rechunk().to_arrow()
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = np.asarray(array.flatten().to_numpy(zero_copy_only=False), float)
    return lengths, np.where(np.isfinite(values), values, np.nan)


def rates_of(frame: polars.DataFrame, rate: float | None) -> np.ndarray:
    """Return the learning rate of each run [R].

    Raises:
        ConfigError: It is not known.
    """
    if RATE in frame.columns:
        return frame[RATE].to_numpy()
    if rate is None:
        raise ConfigError(f"the learning rate of the runs is not known: load {RATE} too (constants=True)")
    return np.full(len(frame), rate)


def ends_at(frame: polars.DataFrame, x: str, rate: float | None) -> np.ndarray:
    """Return where runs diverge on the horizontal axis, one number for each that does."""
    import polars as pl

    names = [name for name in frame.columns if name.startswith(DIVERGED)]
    if not names:
        return np.empty(0)
    first = frame.select(pl.min_horizontal(names).cast(pl.Float64)).to_series().to_numpy()
    rates = rates_of(frame, rate) if x == "time" else np.ones(len(frame))
    return (first * rates)[~np.isnan(first)]
