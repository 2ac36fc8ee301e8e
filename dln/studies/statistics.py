"""What runs have in common at each record: moments, quantiles, and intervals for what they estimate.

Values are arrays [R, T], a row a run and a column a record. A run that has no value at a record (it diverged, it was
stopped, or there is none) is NaN there, and every statistic is of the others, `count` of them. What overflows or has
no definition is not finite, without a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from dln.base.arithmetic import uniform


class Ordered(Protocol):
    """Values in ascending order at each record: an array [R, T], or what tells them by rank and record."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The most values that a record has, and the records."""
        ...

    def __getitem__(self, at: Any, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Moments:
    """Count, mean and standard deviation of runs at each record, [T] each."""

    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    exact: bool = False
    """They are of one trajectory that has no spread."""

    @property
    @uniform()
    def error(self) -> np.ndarray:
        """The standard error of the mean, std / sqrt(count)."""
        return self.std / np.sqrt(self.count)

    @property
    def variance(self) -> np.ndarray:
        """The variance of the mean, std^2 / count."""
        return self.error**2


@uniform()
def moments(values: ArrayLike) -> Moments:
    """Return count, mean and standard deviation, sqrt(sum of squared deviations / (n - 1)), at each record.

    Deviations are from the first run's value, so that runs which are equal have no spread at all, and a small one is
    not lost beside a large mean. NaN where there are too few runs.

    >>> found = moments([[1.0, 2.0], [3.0, np.nan]])
    >>> found.count, found.mean, found.std
    (array([2, 1]), array([2., 2.]), array([1.41421356,        nan]))
    """
    values = np.asarray(values, np.float64)
    first, deviations = centred(values)
    count = np.sum(~np.isnan(values), 0)
    shift = deviations.sum(0) / count
    deviations -= shift
    deviations[np.isnan(values)] = 0
    std = np.sqrt(np.einsum("rt,rt->t", deviations, deviations) / (np.where(count > 1, count, np.nan) - 1))
    return Moments(count, first + shift, std)


def log_moments(values: ArrayLike) -> Moments:
    """Return the moments of logarithms at each record, NaN where a value is not positive.

    >>> log_moments([[1.0, -1.0], [np.e**2, 2.0]]).mean
    array([ 1., nan])
    """
    values = np.asarray(values, np.float64)
    with np.errstate(all="ignore"):
        found = moments(np.log(values))
    positive = np.where(np.isnan(values), True, values > 0).all(0)
    there = np.sum(~np.isnan(values), 0)
    return Moments(there, np.where(positive, found.mean, np.nan), np.where(positive, found.std, np.nan))


@uniform()
def covariance(one: ArrayLike, other: ArrayLike) -> np.ndarray:
    """Return the covariance of two values of each run at each record: sum of products of deviations / (n - 1).

    NaN where there are fewer than two runs, or some have one of the two values only.

    >>> covariance([[1.0], [3.0]], [[5.0], [4.0]])
    array([-1.])
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    alike = (np.isnan(one) == np.isnan(other)).all(0)
    count = np.sum(~np.isnan(one), 0)
    (_, left), (_, right) = centred(one), centred(other)
    product = np.einsum("rt,rt->t", left, right) - left.sum(0) * right.sum(0) / count
    return product / np.where(alike & (count > 1), count - 1.0, np.nan)


def resolution_of(kind: np.dtype) -> float:
    """Return what part of a stored number may be rounding that all runs have alike: 8 units in the last place."""
    return 8 * float(np.finfo(kind).eps)


def trajectory(values: ArrayLike) -> Moments:
    """Return the moments of one deterministic trajectory [T]: it is its mean, without spread.

    >>> trajectory([4.0, 2.0]).error
    array([0., 0.])
    """
    values = np.asarray(values, np.float64)
    there = ~np.isnan(values)
    return Moments(there.astype(int), values, np.where(there, 0.0, np.nan), exact=True)


@uniform()
def centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first finite value at each record [T], and the deviations from it [R, T], zero where there is none."""
    first = values[np.isfinite(values).argmax(0), np.arange(values.shape[1])]
    return first, np.where(np.isnan(values), 0.0, values - first)


@uniform()
def t_interval(found: Moments, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's interval for the mean, mean -+ t(count - 1) std / sqrt(count); NaN of a single run."""
    reach = student(np.where(found.count > 1, found.count - 1.0, np.nan), confidence) * found.error
    return found.mean - reach, found.mean + reach


def student(degrees: ArrayLike, confidence: float) -> np.ndarray:
    """Return what a variable of Student's t exceeds in size with probability 1 - confidence.

    >>> float(student(np.inf, 0.95).round(3))
    1.96
    """
    return special.stdtrit(degrees, (1 + confidence) / 2)


def in_order(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return values [R, T] in ascending order at each record, NaN last, and how many there are [T]."""
    ordered = np.sort(np.asarray(values, np.float64), 0)
    return ordered, np.sum(~np.isnan(ordered), 0)


@uniform()
def quantile(ordered: Ordered, count: np.ndarray, level: ArrayLike) -> np.ndarray:
    """Return a quantile at each record, interpolated linearly between the ordered values next to (count - 1) level.

    Args:
        ordered: [R, T] of `in_order`.
        count: [T] of `in_order`.
        level: In (0, 1), one for all or one for each record.

    >>> quantile(*in_order([[3.0, 1.0], [1.0, np.nan], [2.0, 5.0]]), 0.5)
    array([2., 3.])
    """
    place = np.maximum(count - 1, 0) * np.asarray(level)
    below = np.floor(np.nan_to_num(place)).astype(int)
    columns = np.arange(ordered.shape[1])
    low, high = ordered[below, columns], ordered[np.minimum(below + 1, np.maximum(count - 1, 0)), columns]
    return np.where(place == below, low, low + (place - below) * (high - low))


@uniform()
def quantile_interval(
    ordered: Ordered, count: np.ndarray, level: float, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return an interval for a quantile that supposes nothing of how values are distributed.

    Its ends are the order statistics between which the quantile lies with at least that probability, since the number
    of values below it is binomial; each end is missed with at most (1 - confidence) / 2. NaN where no order statistic
    is far enough out: for the median of five runs, say.

    >>> low, high = quantile_interval(*in_order(np.arange(100.0)[:, None]), 0.5)
    >>> low, high
    (array([39.]), array([60.]))
    """
    tail = (1 - confidence) / 2
    below = np.floor(special.bdtrik(tail, count, level))  # P(at most so many values are below it) <= tail
    above = np.ceil(special.bdtrik(1 - tail, count, level))
    known = special.bdtr(below, count, level) <= tail  # else even the smallest value is too far in
    return _at(ordered, np.where(known, below, -1), count), _at(ordered, above, count)


def _at(ordered: Ordered, rank: np.ndarray, count: np.ndarray) -> np.ndarray:
    there = (rank >= 0) & (rank < count)
    return np.where(there, ordered[np.where(there, rank, 0).astype(int), np.arange(ordered.shape[1])], np.nan)
