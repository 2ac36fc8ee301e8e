"""Very many curves, or very long ones, as what a figure's width can show: spikes stay."""

from __future__ import annotations

import numpy as np


def thinned(x: np.ndarray, values: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return curves with at most four records in each of some columns of equal width: ends, lowest and highest.

    What lies between these is hidden by the line from the lowest to the highest, so that nothing is seen to change.

    Args:
        x: Where the records lie, in order [T].
        values: The curves [R, T], NaN where there is none.
        columns: As many as the figure has pixels.

    Returns:
        Both as [R, t]; t is T where there are few records.
    """
    runs, records = values.shape
    if records <= 4 * columns:
        return np.broadcast_to(x, values.shape), values
    edges = np.linspace(x[0], x[-1], columns + 1)
    starts = np.unique(np.searchsorted(x, edges[:-1]).clip(max=records - 1))
    lasts = np.append(starts[1:], records) - 1
    chosen = np.empty((runs, len(starts), 4), np.intp)
    chosen[:, :, 0], chosen[:, :, 3] = starts, lasts
    for column, (start, last) in enumerate(zip(starts, lasts, strict=True)):
        block = values[:, start : last + 1]
        low, high = np.where(np.isnan(block), np.inf, block), np.where(np.isnan(block), -np.inf, block)
        chosen[:, column, 1], chosen[:, column, 2] = start + low.argmin(1), start + high.argmax(1)
    chosen = np.sort(chosen, 2).reshape(runs, -1)
    return x[chosen], np.take_along_axis(values, chosen, 1)


def density(
    x: np.ndarray, values: np.ndarray, weights: np.ndarray, columns: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many curves pass through each pixel, and the sum of the weights of those that do.

    A curve passes through all pixels of a column from its lowest to its highest value there, straight lines between its
    records included; what is above or below all rows is not counted.

    Args:
        x: Where the records lie, in order [T].
        values: The curves [R, T]; they end at their first NaN.
        weights: A number for each [R].
        columns: Edges of the pixels' columns, in order [w + 1].
        rows: Edges of their rows, evenly spaced [h + 1].

    Returns:
        Counts and sums [h, w].
    """
    low, high = _reach(x, values, columns)
    height, step = len(rows) - 1, rows[1] - rows[0]
    bottom, top = ((end - rows[0]) / step for end in (low, high))
    there = ~np.isnan(bottom) & (top >= 0) & (bottom <= height)
    run, column = np.nonzero(there)
    first = np.floor(bottom[there]).clip(0, height - 1).astype(np.intp)
    after = np.floor(top[there]).clip(0, height - 1).astype(np.intp) + 1
    width = len(columns) - 1
    counted = []
    for amount in (np.ones(len(values)), weights):
        begun = np.bincount(first * width + column, amount[run], (height + 1) * width)
        ended = np.bincount(after * width + column, amount[run], (height + 1) * width)
        counted.append((begun - ended).reshape(height + 1, width).cumsum(0)[:height])
    return np.rint(counted[0]), counted[1]


def _reach(x: np.ndarray, values: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest value of each curve in each column [R, w], NaN where it has none."""
    at_edges = _interpolated(x, values, columns)
    low = np.fmin(at_edges[:, :-1], at_edges[:, 1:])
    high = np.fmax(at_edges[:, :-1], at_edges[:, 1:])
    inside = np.searchsorted(columns, x, "right") - 1
    for column in np.unique(inside[(inside >= 0) & (inside < len(columns) - 1)]):
        block = values[:, inside == column]
        low[:, column] = np.fmin(low[:, column], np.fmin.reduce(block, 1))
        high[:, column] = np.fmax(high[:, column], np.fmax.reduce(block, 1))
    return low, high


def _interpolated(x: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return curves [R, n] on straight lines between their records; NaN outside and beside what is NaN."""
    if len(x) == 1:
        return np.where(at == x[0], values, np.nan)
    right = np.searchsorted(x, at, "left").clip(1, len(x) - 1)
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    with np.errstate(invalid="ignore"):
        found = values[:, right - 1] * (1 - share) + values[:, right] * share
    found = np.where(share == 0, values[:, right - 1], np.where(share == 1, values[:, right], found))
    return np.where((share < 0) | (share > 1), np.nan, found)
