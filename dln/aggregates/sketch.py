"""Quantiles of many numbers from counts that add: how many lie in each bin, at every record.

A bin holds the numbers that agree in their sign, their power of two and the first 6 bits after it: its ends are less
than 1 part in 64 apart, and so is what is found in it from the number that was there. Up to `EXACT` numbers are told
apart in all bits, so that their quantiles are exact. Bins are found from bits alone: whatever the order and however
numbers are cut into parts, the counts are the same. (What is smaller than 2^-1022 counts as zero.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

EXACT = 256
"""Runs up to which every number is kept in full."""

COARSE = 52 - 6
"""Bits of a float64 that are left out beyond that."""


@dataclass(frozen=True)
class Sketch:
    """Counts of numbers at T records: those of one record after those of another, its bins in ascending order."""

    shift: int
    """How many bits of a number are left out: none, or `COARSE`."""
    sizes: np.ndarray
    """Bins of each record [T]."""
    bins: np.ndarray
    """A bin is the first bits of its numbers' sizes, negative for negative numbers."""
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Sketch:
        """Count numbers [R, T], NaN left out; in full if there are at most `EXACT` runs.

        >>> sketch = Sketch.of(np.array([[1.0, np.nan], [1.0, -2.0], [3.0, 0.0]]))
        >>> sketch.sizes, sketch.counts, sketch[np.array([2, 0]), :]
        (array([2, 2]), array([2, 1, 1, 1]), array([ 3., -2.]))
        """
        shift = 0 if len(values) <= EXACT else COARSE
        columns = np.ascontiguousarray(values.T)
        size = np.abs(columns).view(np.int64) >> shift
        bins = np.where(columns < 0, -size, size).astype(np.int32 if shift else np.int64)
        nothing, last = np.isnan(columns), np.iinfo(bins.dtype).max
        bins[nothing] = last
        bins.sort(1)
        new = np.ones(bins.shape, bool)
        np.not_equal(bins[:, 1:], bins[:, :-1], out=new[:, 1:])
        new &= bins != last
        number, rank = np.nonzero(new)
        ends = np.append(rank[1:], 0)
        total = len(values) - nothing.sum(1)
        closes = np.append(number[1:] != number[:-1], True)[: len(number)]
        counts = np.where(closes, total[number], ends[: len(number)]) - rank
        return cls(shift, new.sum(1), bins[new].astype(np.int64), counts)

    def coarse(self) -> Sketch:
        """Return the sketch with bins of 1 part in 64."""
        if self.shift:
            return self
        bins = np.sign(self.bins) * (np.abs(self.bins) >> COARSE)
        return _added(COARSE, len(self.sizes), self._numbers, bins, self.counts)

    @property
    def _numbers(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    # --- as numbers in ascending order, [R, T] ------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """The most numbers that a record has, and the records."""
        totals = np.diff(self._before[np.cumsum([0, *self.sizes])])
        return int(totals.max(initial=0)), len(self.sizes)

    @cached_property
    def _before(self) -> np.ndarray:
        """How many numbers are in the bins before each, records one after the other."""
        return np.concatenate([[0], np.cumsum(self.counts)])

    def __getitem__(self, at: Any) -> np.ndarray:
        """Return the number of a rank at each record [T]: in its bin, numbers are taken to be spread evenly."""
        rank = np.asarray(at[0])
        first = np.cumsum([0, *self.sizes])[:-1]
        place = self._before[first] + rank
        if not len(self.bins):
            return np.full(len(rank), np.nan)
        own = np.clip(np.searchsorted(self._before, place, "right") - 1, 0, len(self.bins) - 1)
        key, low = self.bins[own], _ends(self.bins[own], self.shift)
        if not self.shift:
            return low
        share = (place - self._before[own] + 0.5) / self.counts[own]
        high = _ends(np.where(key < 0, key - 1, key + 1), self.shift)
        low, high = np.where(key < 0, high, low), np.where(key < 0, low, high)
        return np.where(key == 0, 0.0, np.where(np.isfinite(high - low), low + share * (high - low), low))


def joined(sketches: Sequence[Sketch], numbers: int) -> Sketch:
    """Return the sketch of all numbers of some sketches, in full if there are at most `EXACT` runs.

    Args:
        sketches: Of the same records.
        numbers: Of how many runs they are together.
    """
    if numbers > EXACT:
        sketches = [sketch.coarse() for sketch in sketches]
    if len(sketches) == 1:
        return sketches[0]
    number, bins, counts = (
        np.concatenate(parts) for parts in zip(*((s._numbers, s.bins, s.counts) for s in sketches), strict=True)
    )
    return _counted(sketches[0].shift, len(sketches[0].sizes), number, bins, counts)


def _counted(shift: int, records: int, number: np.ndarray, bins: np.ndarray, counts: np.ndarray) -> Sketch:
    """Return counts of bins, given one by one with the number of their record, put together."""
    order = np.lexsort((bins, number))
    return _added(shift, records, number[order], bins[order], counts[order])


def _added(shift: int, records: int, number: np.ndarray, bins: np.ndarray, counts: np.ndarray) -> Sketch:
    """Do as `_counted` does with bins that are in order."""
    new = (np.diff(number) != 0) | (np.diff(bins) != 0)
    starts = np.flatnonzero(np.concatenate([[len(number) > 0], new])[: len(number)])
    counts = np.add.reduceat(counts, starts) if len(starts) else counts
    return Sketch(shift, np.bincount(number[starts], minlength=records), bins[starts], counts)


def _ends(bins: np.ndarray, shift: int) -> np.ndarray:
    """Return the numbers in some bins that are nearest to zero."""
    return np.copysign((np.abs(bins) << shift).view(np.float64), bins.astype(np.float64))
