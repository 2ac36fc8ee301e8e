"""Curves in one panel: how each is drawn, which axis fits them, and the numbers beside the ends of families."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from dln.figures.style import DARK

ALIKE = 0.008
"""Share of a panel's height within which curves lie on each other to the eye."""
OFTEN = 0.25
"""Share of their records from which on curves that are alike are said to lie on each other."""
WIDER = 1.3
"""By how many points a curve is wider for every curve that lies on it, so that all are seen."""
WIDEST = 5.5
"""Width beyond which no curve goes, in points."""
MOST_COMPARED = 12
"""Curves of a panel up to which it is looked at which of them lie on each other."""
APART = 0.06
"""Share of a panel's height that numbers beside the ends of curves need."""


@dataclass(frozen=True)
class Curve:
    """A family of k curves over the same T places, as a rule k = 1.

    A family of several has its numbers beside the ends, from 1.
    """

    x: np.ndarray
    """[T]"""
    y: np.ndarray
    """[T, k]; what is not finite is a gap."""
    colors: Sequence[Any]
    """One for each of the k curves."""
    label: str | None = None
    linestyle: Any = "-"
    linewidth: float = 1.2
    diverged: bool = False
    """It leaves the panel instead of squeezing the others."""
    beneath: bool = False
    """It lies beneath all others, as noise does."""
    spread: np.ndarray | None = None
    """Half the width of a band around each curve [T, k]."""
    numbers: int | None = None
    """How many of a family have their numbers beside their ends; None: all."""

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "colors", [to_hex(color, keep_alpha=np.size(color) == 4 and color[3] < 1) for color in self.colors]
        )
        values = np.asarray(self.y, float)
        with np.errstate(invalid="ignore"):
            values = np.where(np.isfinite(values), values, np.nan)
        object.__setattr__(self, "y", values.reshape(len(values), -1) if len(values) else np.empty((0, 1)))

    @property
    def count(self) -> int:
        """K."""
        return self.y.shape[1]


def draw_curves(axes: Axes, name: str, curves: Sequence[Curve], reach: float = -np.inf) -> None:
    """Draw curves, on the vertical axis that fits them; of those that lie on each other the lower are wider.

    Args:
        axes: Where to draw.
        name: Stands beside the vertical axis; of a loss that is logarithmic, else where a linear one hides the curves.
        curves: What to draw, the lowest first.
        reach: How high the vertical axis reaches at least.
    """
    drawn: list[list[Line2D]] = []
    for curve in curves:
        if curve.spread is not None:
            low, high = curve.y - curve.spread, curve.y + curve.spread
            for i, color in enumerate(curve.colors):
                axes.fill_between(curve.x, low[:, i], high[:, i], color=color, alpha=0.15, linewidth=0)
        marker = "o" if len(curve.x) == 1 else ""  # a line through one record would be invisible
        style: dict[str, Any] = {"linestyle": curve.linestyle, "linewidth": curve.linewidth, "marker": marker}
        drawn.append([])
        for i, color in enumerate(curve.colors):
            order = 1.5 if curve.beneath else _zorder(curve.y[:, i])
            label = curve.label if i == 0 else None
            drawn[-1] += axes.plot(curve.x, curve.y[:, i], color=color, label=label, zorder=order, **style)
    axes.set_ylabel(name)
    if fits_log([curve.y for curve in curves], loss="loss" in name):
        axes.set_yscale("log", nonpositive="mask")
    lines = {
        diverged: [line for curve, own in zip(curves, drawn, strict=True) if curve.diverged == diverged for line in own]
        for diverged in (True, False)
    }
    if lines[True] and lines[False]:  # those that exploded leave the panel instead of squeezing the others
        _fit_range(axes, lines[False])
    low, high = axes.get_ylim()
    axes.set_ylim(low, max(high, reach))
    round_numbers(axes.yaxis)
    _widen(axes, curves, drawn)
    number_ends(axes, [curve for curve in curves if curve.count > 1])


def round_numbers(axis: Axis, most: int = 5) -> None:
    """Name round numbers, at most so many, on a logarithmic axis that shows one power of ten, or none."""
    low, high = sorted(axis.get_view_interval())
    if axis.get_scale() == "log" and high / 15 < low:
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())


def _zorder(values: np.ndarray) -> float:
    """Return where to stack a curve, smooth above noisy: by its total variation relative to its range."""
    values = values[~np.isnan(values)]
    spread = np.ptp(values) if len(values) else 0.0
    return 2.4 - 0.05 * round(math.log2(np.abs(np.diff(values) / spread).sum())) if spread > 0 else 2.4


def _widen(axes: Axes, curves: Sequence[Curve], drawn: Sequence[Sequence[Line2D]]) -> None:
    """Draw a solid curve wider, and beneath, for every one that lies on it over much of its way."""
    solid = [i for i, curve in enumerate(curves) if curve.linestyle == "-" and not curve.beneath]
    if len(solid) < 2 or len(solid) > MOST_COMPARED:
        return
    heights = {i: _heights(axes, curves[i].y) for i in solid}
    for n, i in enumerate(solid):
        for k, line in enumerate(drawn[i]):
            on_it = sum(_lies_on(curves, heights, i, j, k) for j in solid[n + 1 :])
            if on_it:
                line.set_linewidth(min(curves[i].linewidth + WIDER * on_it, WIDEST))
                line.set_zorder(1.9 - 0.01 * on_it)


def _lies_on(curves: Sequence[Curve], heights: dict[int, np.ndarray], i: int, j: int, k: int) -> bool:
    """Whether the k-th curves of two families are alike to the eye at many of the places that both have."""
    if k >= curves[j].count:
        return False
    places, mine, its = np.intersect1d(curves[i].x, curves[j].x, return_indices=True)
    with np.errstate(invalid="ignore"):  # of what a logarithmic axis does not show
        apart = np.abs(heights[i][mine, k] - heights[j][its, k])
    return len(places) > 1 and bool(np.mean(apart <= ALIKE) > OFTEN)


def _heights(axes: Axes, values: np.ndarray) -> np.ndarray:
    """Return values as shares of the panel's height."""
    low, high = axes.transScale.transform([(1, y) for y in axes.get_ylim()])[:, 1]
    flat = axes.transScale.transform(np.column_stack([np.ones(values.size), values.ravel()]))[:, 1]
    return ((flat - low) / (high - low)).reshape(values.shape)


def fits_log(families: Sequence[np.ndarray], loss: bool) -> bool:
    """Whether a logarithmic axis fits: for a metric, where a linear one would have most of every curve on its floor."""
    curves = [c[~np.isnan(c)] for family in families for c in family.T if not np.isnan(c).all()]
    top = max((c.max() for c in curves), default=0.0)
    if not top > 0 or min(c.min() for c in curves) < 0:
        return False
    return bool(loss or max(np.median(c) for c in curves) < top / 100)


def _fit_range(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Choose the vertical range by some of the lines."""
    others = [line for line in axes.lines if line not in lines]
    for visible in (False, True):
        for line in others:
            line.set_visible(visible)
        axes.relim(visible_only=True)
        axes.autoscale_view()
        axes.set_ylim(axes.get_ylim())


def number_ends(axes: Axes, families: Sequence[Curve]) -> None:
    """Write curves' numbers (from 1) beside their ends; those too close to be told apart share a label."""
    ends = [
        (float(height), i + 1, color)
        for curve in families
        if len(curve.x)
        for i, (height, color) in enumerate(zip(_heights(axes, _last(curve.y)), curve.colors, strict=True))
        if np.isfinite(height) and (curve.numbers is None or i < curve.numbers)
    ]
    labels: dict[float, dict[int, Any]] = {}
    for height, number, color in ends:
        near = [at for at in labels if abs(height - at) < APART]
        if near:
            known = labels[near[0]]
            known[number] = color if known.get(number, color) == color else DARK
        elif 0 <= height <= 1:
            labels[height] = {number: color}
    for height, told in labels.items():
        color = DARK if len({*told.values()}) > 1 else next(iter(told.values()))
        style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": color}
        axes.annotate(ranges(sorted(told)), (1, height), (3, 0), "axes fraction", fontsize=7, **style)


def _last(values: np.ndarray) -> np.ndarray:
    """Return the last row that has numbers."""
    known = np.flatnonzero(~np.isnan(values).all(1))
    return values[known[-1] if len(known) else -1]


def ranges(numbers: Sequence[int]) -> str:
    """Return rising numbers, with runs of more than three in short.

    >>> ranges([1, 3]), ranges([2, 3, 4, 5, 9])
    ('1, 3', '2\u20135, 9')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = [f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 3 else ", ".join(map(str, run)) for run in runs]
    return ", ".join(told)
