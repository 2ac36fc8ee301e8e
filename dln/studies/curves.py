"""Runs of one condition as arrays [R, T], at the steps that they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dln.errors import StorageError
from dln.studies.statistics import (
    Moments,
    Ordered,
    covariance,
    in_order,
    log_moments,
    moments,
    resolution_of,
    trajectory,
)

if TYPE_CHECKING:
    import polars


class Sample(Protocol):
    """Runs of one condition: their curves, or what is kept of them."""

    steps: np.ndarray

    @property
    def diverged(self) -> np.ndarray:
        """How many had diverged, in a lane, by each step [T]."""
        ...

    @property
    def stopped(self) -> np.ndarray:
        """How many had ended before each step [T] without having diverged."""
        ...

    @property
    def lost(self) -> int:
        """How many diverged, in a lane, at any step."""
        ...

    def __len__(self) -> int: ...

    def moments(self, name: str) -> Moments:
        """Return count, mean and standard deviation of a column at each step."""
        ...

    def log_moments(self, name: str) -> Moments | None:
        """Return those of its logarithms, NaN where a value is not positive; None if they are not known."""
        ...

    def extremes(self, name: str) -> dict[str, np.ndarray]:
        """Return its smallest and its largest value at each step, `min` and `max`, as far as they are known."""
        ...

    def in_order(self, name: str) -> tuple[Ordered, np.ndarray]:
        """Return its values in ascending order at each step, and how many there are."""
        ...

    def has_pair(self, one: str, other: str) -> bool:
        """Whether the covariance of two columns can be told."""
        ...

    def covariance(self, one: str, other: str) -> np.ndarray:
        """Return the covariance of two columns at each step."""
        ...

    def moments_at(self, name: str, steps: np.ndarray) -> Moments:
        """Return the moments at other steps, NaN at those that there are none of; exact if all runs are the same."""
        ...

    def resolution(self, name: str) -> float:
        """Return what part of a value may be rounding that all runs have alike."""
        ...

    def matrix(self, name: str) -> np.ndarray:
        """Return its values [R, T]; raise StorageError where there are only sums."""
        ...

    def aligned(self, name: str, steps: np.ndarray) -> np.ndarray:
        """Return its values at other steps; raise StorageError where there are only sums."""
        ...


DIVERGED = "diverged"
"""The column of the step at which a run, or a lane of it, diverged; null where it did not."""


class Curves:
    """Runs whose records are lists: `step`, the curves, and when they diverged.

    A step is one that all runs have which had not ended before it: others are left out. A run that ended early has no
    values from then on.

    >>> import polars as pl
    >>> frame = pl.DataFrame({"step": [[0, 5, 10], [0, 10], [0]], "loss": [[3.0, 2.0, 1.0], [4.0, 2.0], [9.0]]})
    >>> curves = Curves(frame.with_columns(pl.Series("diverged", [None, None, 4])))
    >>> curves.steps, curves.matrix("loss"), curves.diverged
    (array([ 0, 10]), array([[ 3.,  1.],
           [ 4.,  2.],
           [ 9., nan]]), array([0, 1]))
    """

    def __init__(self, frame: polars.DataFrame) -> None:
        """Take one row a run, with the columns `step`, `diverged`, and curves."""
        self.frame = frame
        lengths, flat = _flat(frame["step"])
        self._lengths = lengths
        position = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        longest = flat[position.size and _slice(lengths, int(lengths.argmax()))]
        if (flat == longest[position]).all():  # the usual case: each is the longest, or its beginning
            self.steps, self._place = longest.astype(np.int64), position
        else:
            self.steps, self._place = _in_common(flat, lengths)

    def __len__(self) -> int:
        return len(self.frame)

    def matrix(self, name: str) -> np.ndarray:
        """Return a curve's values [R, T], NaN where a run has none.

        Raises:
            StorageError: It has another number of values than the run has records.
        """
        lengths, flat = _flat(self.frame[name])
        if not np.array_equal(lengths, self._lengths):
            raise StorageError(f"{name!r} is no curve: it has not one value for each record")
        values = np.full((len(lengths), len(self.steps)), np.nan)
        kept = self._place >= 0
        values[np.repeat(np.arange(len(lengths)), lengths)[kept], self._place[kept]] = flat[kept]
        return values

    def aligned(self, name: str, steps: np.ndarray) -> np.ndarray:
        """Return a curve's values at other steps, NaN at those that these runs were not recorded at."""
        values, place = self.matrix(name), np.searchsorted(self.steps, steps).clip(max=len(self.steps) - 1)
        return np.where(self.steps[place] == steps, values[:, place], np.nan)

    def resolution(self, name: str) -> float:
        """Return what part of a value may be rounding that all runs have alike: 8 units in the last place.

        >>> import polars as pl
        >>> frame = pl.DataFrame({"step": [[0]], "loss": [[1.0]], "diverged": [None]})
        >>> Curves(frame).resolution("loss") == 8 * 2**-52
        True
        """
        import polars as pl

        kind = getattr(self.frame.schema[name], "inner", None)
        return resolution_of(np.dtype(np.float32 if kind == pl.Float32 else np.float64))

    def moments(self, name: str) -> Moments:
        """Return count, mean and standard deviation of a curve at each step."""
        return moments(self.matrix(name))

    def log_moments(self, name: str) -> Moments:
        """Return those of its logarithms, NaN where a value is not positive."""
        return log_moments(self.matrix(name))

    def extremes(self, name: str) -> dict[str, np.ndarray]:
        """Return its smallest and its largest value at each step."""
        values = self.matrix(name)
        return {"min": np.fmin.reduce(values, 0), "max": np.fmax.reduce(values, 0)}

    def in_order(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return its values in ascending order at each step, and how many there are."""
        return in_order(self.matrix(name))

    def has_pair(self, one: str, other: str) -> bool:
        """Whether the covariance of two curves can be told: it can."""
        return True

    def covariance(self, one: str, other: str) -> np.ndarray:
        """Return the covariance of two curves at each step."""
        return covariance(self.matrix(one), self.matrix(other))

    def moments_at(self, name: str, steps: np.ndarray) -> Moments:
        """Return the moments at other steps, NaN at those that there are none of; exact if all runs are the same."""
        values = self.aligned(name, steps)
        alike = np.array_equal(values, np.broadcast_to(values[:1], values.shape), equal_nan=True)
        return trajectory(values[0]) if alike else moments(values)

    @property
    def diverged(self) -> np.ndarray:
        """How many runs had diverged, in a lane, by each step [T]."""
        return np.searchsorted(np.sort(self.frame[DIVERGED].drop_nulls().to_numpy()), self.steps, "right")

    @property
    def lost(self) -> int:
        """How many runs diverged, in a lane, at any step."""
        return len(self.frame) - self.frame[DIVERGED].null_count()

    @property
    def stopped(self) -> np.ndarray:
        """How many runs had ended before each step [T] without having diverged."""
        last = self.frame["step"].list.last().filter(self.frame[DIVERGED].is_null()).fill_null(-1).to_numpy()
        return np.searchsorted(np.sort(last), self.steps, "left")


def _flat(lists: polars.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths of lists of numbers, and all numbers one after the other, null as NaN."""
    array: Any = lists.rechunk().to_arrow()
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64), array.flatten().to_numpy(zero_copy_only=False)


def _slice(lengths: np.ndarray, row: int) -> slice:
    start = int(lengths[:row].sum())
    return slice(start, start + int(lengths[row]))


def _in_common(flat: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all runs have which had not ended before, and each record's place among them, or -1."""
    steps, number = np.unique(flat, return_inverse=True)
    last = np.sort(flat[np.cumsum(lengths)[lengths > 0] - 1])
    ended = np.searchsorted(last, steps, "left") + np.sum(lengths == 0)
    common = np.bincount(number) + ended == len(lengths)
    place = np.where(common, np.cumsum(common) - 1, -1)
    return steps[common].astype(np.int64), place[number]
