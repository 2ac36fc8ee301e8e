"""Where a curve with a band crosses a level for good."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Crossing:
    """Where a curve is below a level from then on: places among the records, None where there is none."""

    at: int | None
    """The first record from which on the curve stays below."""
    low: int | None
    """The same of the band's lower end: before it, the curve is surely still above."""
    high: int | None
    """The same of the band's upper end: from it on the curve is surely below."""
    begins_below: bool | None
    """Whether it is below at the first record; None where nothing is known."""


def crossing(value: ArrayLike, low: ArrayLike, high: ArrayLike, level: float) -> Crossing:
    """Return where a curve [T] with a band from `low` to `high` falls below a level for good.

    Records without a value are passed over; a curve that is below from the first record on crosses nowhere.

    >>> crossing([3, 2, 0.5, 0.4], [2, 0.9, 0.3, 0.2], [4, 3, 1.5, 0.6], 1)
    Crossing(at=2, low=1, high=3, begins_below=False)
    """
    value = np.asarray(value, float)
    known = np.flatnonzero(~np.isnan(value))
    if not len(known):
        return Crossing(None, None, None, None)
    at, first, last = (_for_good(np.asarray(curve, float), level) for curve in (value, low, high))
    below = bool(value[known[0]] < level)
    if at is None or at == known[0]:
        return Crossing(None, None, None, below)
    return Crossing(at, first, last, below)


def _for_good(curve: np.ndarray, level: float) -> int | None:
    """Return the first place from which on all known values are below a level."""
    known = np.flatnonzero(~np.isnan(curve))
    above = np.flatnonzero(curve[known] >= level)
    start = above[-1] + 1 if len(above) else 0
    return int(known[start]) if start < len(known) else None
