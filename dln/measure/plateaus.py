"""Plateaus of a noisy curve: where it neither falls nor rises by more than noise explains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

SEEN = 5.0
"""A change is seen where it exceeds what a plateau may have by this many standard errors."""

NEIGHBOURS = 75
"""Neighbouring records from which the noise of a record is estimated."""


def find_plateaus(
    step: Float[np.ndarray, " T"], curve: Float[np.ndarray, " T"], tolerance: float, shortest: float
) -> list[tuple[float, float, float]]:
    """Return begin, end and mean level of every plateau of a curve.

    The curve changes between two records if the mean of some records before, and that of as many after, differ by more
    than `tolerance` times the mean pace explains, and by more than noise explains: one on either side is enough where
    there is no noise, more are needed where there is. A plateau is a piece without such changes that is seen to be
    slower than half the mean pace. Two of about the same level with an interruption shorter than `shortest` are one.
    Plateaus that noise hides are left out: where it is a tenth of the loss, those of a fifth of the run are found.

    Args:
        step: Ascending.
        curve: A number at each.
        tolerance: What counts as slow, as a share of the mean pace: from the curve's beginning to its minimum.
        shortest: Share of the whole that a plateau must last.

    >>> step = np.arange(0, 61)
    >>> find_plateaus(step, np.interp(step, [0, 20, 40, 60], [4.0, 2.0, 2.0, 0.0]), 0.1, 0.1)
    [(20.0, 40.0, 2.0)]
    """
    there = np.isfinite(curve)
    step, curve = step[there].astype(np.float64), curve[there].astype(np.float64)
    if len(step) < 2:
        return []
    most = curve[0] + 10 * max(np.ptp(curve[curve <= curve[0]]), abs(curve[0]))  # what is beyond has risen
    risen, curve = curve > most, np.minimum(curve, most)
    noise, whole = noise_of(step, curve), step[-1] - step[0]
    pace = max(_fall(curve, noise), 0.0) / whole
    changes = _changes(step, curve, noise, tolerance * pace) | risen[1:] | risen[:-1]
    edges = np.flatnonzero(np.diff(np.concatenate([[True], changes, [True]]).astype(int)))
    parts = [_Piece(step, curve, noise, a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    joined: list[_Piece] = []
    for part in parts:
        if joined and joined[-1].goes_on_in(part, pace, tolerance, shortest * whole):
            joined[-1] = _Piece(step, curve, noise, joined[-1].first, part.last)
        else:
            joined.append(part)
    return [
        (part.begin, part.end, part.level)
        for part in joined
        if part.end - part.begin >= shortest * whole and part.is_slow(pace, tolerance)
    ]


class _Piece:
    """Records `first` to `last` of a curve."""

    def __init__(self, step: np.ndarray, curve: np.ndarray, noise: np.ndarray, first: int, last: int) -> None:
        own = slice(first, last + 1)
        self.first, self.last = int(first), int(last)
        self.begin, self.end = float(step[first]), float(step[last])
        self.step, self.curve, self.noise = step[own], curve[own], float(np.sqrt(np.mean(noise[own] ** 2)))
        self.level = float(np.trapezoid(self.curve, self.step) / (self.end - self.begin))
        """The mean over time."""

    def goes_on_in(self, other: _Piece, pace: float, tolerance: float, pause: float) -> bool:
        """Whether another piece, which begins soon after this one, has about its level, or moves to it slowly."""
        if other.begin - self.end > pause and other.first - self.last > 2:
            return False
        count = min(len(self.curve), len(other.curve), max(1, int(np.sum(other.step <= other.begin + pause))))
        gap, length = (
            abs(b[:count].mean() - a[-count:].mean()) for a, b in ((self.curve, other.curve), (self.step, other.step))
        )
        slow = gap <= tolerance * pace * length + 2 * np.hypot(self.noise, other.noise) / np.sqrt(count)
        error = self.noise / np.sqrt(len(self.curve)) + other.noise / np.sqrt(len(other.curve))
        alike = abs(self.level - other.level) <= tolerance / 2 * max(abs(self.level), abs(other.level)) + 2 * error
        return bool(slow or alike)

    def is_slow(self, pace: float, tolerance: float) -> bool:
        """Whether the means of its halves allow less than `tolerance` of the pace, and less than half of it."""
        half = len(self.curve) // 2
        gap, length = (abs(a[-half:].mean() - a[:half].mean()) for a in (self.curve, self.step))
        error = self.noise * np.sqrt(2 / half)
        if gap > tolerance * pace * length + 2 * error:
            return False
        return pace == 0 or gap + 1.5 * error <= pace / 2 * length


def noise_of(step: Float[np.ndarray, " T"], curve: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Return the standard deviation of independent noise about a smooth curve, record by record.

    A record's distance from the line through its neighbours is correlated with the next one's by minus the variance,
    where there is noise; positively where the curve bends. The median over neighbours passes over jumps.
    """
    if len(step) < 5:
        return np.zeros(len(step))
    left = (step[2:] - step[1:-1]) / (step[2:] - step[:-2])
    bend = curve[1:-1] - left * curve[:-2] - (1 - left) * curve[2:]
    products = -bend[1:] * bend[:-1]
    window = min(NEIGHBOURS, len(products) - (len(products) + 1) % 2)
    around = np.pad(products, window // 2, mode="reflect" if window // 2 < len(products) else "edge")
    variance = np.median(sliding_window_view(around, window), -1) / MEDIAN
    return np.sqrt(np.maximum(np.pad(variance, (1, len(step) - len(variance) - 1), mode="edge"), 0))


MEDIAN = 0.370
"""Median of -x y for normal x, y of variance 3/2 and covariance -1."""


def _fall(curve: Float[np.ndarray, " T"], noise: Float[np.ndarray, " T"]) -> float:
    """Return how far a curve falls from its beginning to its minimum, noise averaged away."""
    count = int(np.clip((10 * np.median(noise) / max(np.ptp(curve), 1e-300)) ** 2, 1, max(1, len(curve) // 20)))
    means = sliding_window_view(curve, count).mean(-1)
    return float(means[0] - means.min())


def _changes(
    step: Float[np.ndarray, " T"], curve: Float[np.ndarray, " T"], noise: Float[np.ndarray, " T"], slow: float
) -> Bool[np.ndarray, " T-1"]:
    """Tell at which edges between records the curve falls or rises, by the fewest records that show it."""
    changes = np.zeros(len(step) - 1, bool)
    half = 1
    while 2 * half <= len(step):
        x, y, variance = (sliding_window_view(a, half).mean(-1) for a in (step, curve, noise**2))
        gap, length = (np.abs(a[half:] - a[:-half]) for a in (y, x))
        error = np.sqrt((variance[half:] + variance[:-half]) / half)
        seen = gap - slow * length > SEEN * error
        middle = np.arange(len(seen)) + half - 1
        # Windows with a change in them that fewer records have shown say nothing new.
        known = np.concatenate([[0], np.cumsum(changes)])
        fresh = known[np.arange(len(seen)) + 2 * half - 1] == known[np.arange(len(seen))]
        changes[middle[seen & fresh]] = True
        half *= 2
    return changes
