"""Curves in one panel: how each is drawn, which axis fits them, and the numbers beside the ends of families."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from dln.figures.style import DARK

ALIKE = 0.02
"""Share of a panel's range within which curves lie on each other to the eye."""
WIDEST = 4.0
"""Width of the lowest of several curves that lie on each other, in points; those above are narrower, step by step."""
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
    numbered: bool = field(default=True, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "colors", [to_hex(color) for color in self.colors])
        values = np.asarray(self.y, float)
        with np.errstate(invalid="ignore"):
            values = np.where(np.isfinite(values), values, np.nan)
        object.__setattr__(self, "y", values.reshape(len(values), -1) if len(values) else np.empty((0, 1)))

    @property
    def count(self) -> int:
        """K."""
        return self.y.shape[1]


def draw_curves(axes: Axes, name: str, curves: Sequence[Curve], widen: bool = True) -> None:
    """Draw curves, on the vertical axis that fits them.

    Args:
        axes: Where to draw.
        name: Stands beside the vertical axis; of a loss that is logarithmic, else where a linear one hides the curves.
        curves: What to draw, the lowest first.
        widen: Draw curves that lie on each other in different widths, so that all are seen.
    """
    lines: dict[bool, list[Line2D]] = {True: [], False: []}
    widths = _widths(curves) if widen else [curve.linewidth for curve in curves]
    for order, (curve, width) in enumerate(zip(curves, widths, strict=True)):
        if curve.spread is not None:
            low, high = curve.y - curve.spread, curve.y + curve.spread
            for i, color in enumerate(curve.colors):
                axes.fill_between(curve.x, low[:, i], high[:, i], color=color, alpha=0.15, linewidth=0)
        marker = "o" if len(curve.x) == 1 else ""  # a line through one record would be invisible
        for i, color in enumerate(curve.colors):
            height = 1.5 if curve.beneath else 2.0 + 0.01 * order if width > curve.linewidth else _zorder(curve.y[:, i])
            style: dict[str, Any] = {"linestyle": curve.linestyle, "linewidth": width, "zorder": height}
            label = curve.label if i == 0 else None
            lines[curve.diverged] += axes.plot(curve.x, curve.y[:, i], color=color, label=label, marker=marker, **style)
    axes.set_ylabel(name)
    if fits_log([curve.y for curve in curves], loss="loss" in name):
        axes.set_yscale("log", nonpositive="mask")
    if lines[True] and lines[False]:  # those that exploded leave the panel instead of squeezing the others
        _fit_range(axes, lines[False])
    round_numbers(axes)
    number_ends(axes, [curve for curve in curves if curve.count > 1 and curve.numbered])


def round_numbers(axes: Axes) -> None:
    """Name round numbers on a logarithmic vertical axis that shows one power of ten, or none."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log" and high / low < 15:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_locator(NullLocator())


def _zorder(values: np.ndarray) -> float:
    """Return where to stack a curve, smooth above noisy: by its total variation relative to its range."""
    values = values[~np.isnan(values)]
    spread = np.ptp(values) if len(values) else 0.0
    return 2.4 - 0.05 * round(math.log2(np.abs(np.diff(values) / spread).sum())) if spread > 0 else 2.4


def _widths(curves: Sequence[Curve]) -> list[float]:
    """Return how wide to draw each curve: of solid ones that lie on each other the lower ones are wider."""
    solid = [curve for curve in curves if curve.linestyle == "-" and not curve.beneath]
    widths = [curve.linewidth for curve in curves]
    if len(solid) < 2 or not _lie_on_each_other(solid):
        return widths
    steps = iter(np.linspace(WIDEST, solid[-1].linewidth, len(solid)))
    lies = [any(curve is one for one in solid) for curve in curves]
    return [next(steps) if there else width for there, width in zip(lies, widths, strict=True)]


def _lie_on_each_other(curves: Sequence[Curve]) -> bool:
    """Whether two neighbouring curves, or the first of two families, are alike over most of their records."""
    for one, other in pairwise(curves):
        places, mine, its = np.intersect1d(one.x, other.x, return_indices=True)
        if len(places) < 2:
            continue
        a, b = one.y[mine, 0], other.y[its, 0]
        both = np.concatenate([a, b])
        both = both[~np.isnan(both)]
        if len(both) and np.nanmean(np.abs(a - b) <= ALIKE * np.ptp(both)) > 0.5:
            return True
    return False


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
    low, high = axes.transScale.transform([(1, y) for y in axes.get_ylim()])[:, 1]
    ends = [
        (float((axes.transScale.transform((1, end))[1] - low) / (high - low)), i + 1, color)
        for curve in families
        if len(curve.x)
        for i, (end, color) in enumerate(zip(_last(curve.y), curve.colors, strict=True))
        if not np.isnan(end) and (end > 0 or axes.get_yscale() != "log")
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
        style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": next(iter(told.values()))}
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
