"""Legends above panels, where they cover nothing, and names written beside lines where there is room."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

WIDTH = 0.55
"""Mean width of a letter, in sizes of the font."""


def width_of_panel(axes: Axes) -> float:
    """Return about how wide a panel is, in points: labels of its axes will take some of what it has now."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return 0.85 * axes.get_position().width * figure.get_figwidth() * 72


def letters(axes: Axes) -> int:
    """Return how many letters fit into a line of a legend."""
    return max(12, int(width_of_panel(axes) / (WIDTH * rcParams["font.size"])) - 4)


def sample(color: Any, linestyle: Any = "-", linewidth: float = 1.2) -> Line2D:
    """Return a line for a legend."""
    return Line2D([], [], color=color, linestyle=linestyle, linewidth=linewidth)


def legend_above(axes: Axes, entries: Mapping[str, Any], lift: float = 0.0) -> float:
    """Put a legend above a panel; return how high it and what is below it are, in points.

    Args:
        axes: The panel.
        entries: Lines by what they are called, in as many columns as fit.
        lift: How far above the panel it begins, in points.
    """
    if not entries:
        return lift
    figure = axes.get_figure(root=True)
    assert figure is not None
    size = rcParams["font.size"]
    longest = max(len(line) for name in entries for line in name.split("\n"))
    handle = rcParams["legend.handlelength"] + rcParams["legend.handletextpad"] + rcParams["legend.columnspacing"]
    columns = int(width_of_panel(axes) / (size * (WIDTH * longest + handle)))
    columns = max(1, min(columns, len(entries), 4))
    if len(entries) == 4 and columns == 3:
        columns = 2
    axes.legend(
        list(entries.values()),
        list(entries),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=axes.transAxes + ScaledTranslation(0, lift / 72, figure.dpi_scale_trans),
        ncols=columns,
    )
    lines = [1 + name.count("\n") for name in entries]
    rows = math.ceil(len(entries) / columns)
    height = max(sum(lines[column * rows : (column + 1) * rows]) for column in range(columns))
    return lift + 1.45 * size * height + 4


def write_along(axes: Axes, x: np.ndarray, y: np.ndarray, text: str, color: Any) -> bool:
    """Write a name beside a line that is nearly level, where no other line passes; return whether there is room.

    Args:
        axes: The panel, whose ranges are final.
        x: Places of the line [T].
        y: The line [T].
        text: Its name.
        color: Of the name.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    size = rcParams["font.size"]
    width = WIDTH * size * (len(text) + 1) / width_of_panel(axes)
    height = 1.5 * size / (0.7 * axes.get_position().height * figure.get_figheight() * 72)
    line = _in_panel(axes, x, y)
    others = [_in_panel(axes, np.asarray(o.get_xdata()), np.asarray(o.get_ydata())) for o in _data_lines(axes)]
    for left in (0.99 - width, 0.02, 0.5 - width / 2):
        own = _between(line, left, left + width)
        if not len(own):
            continue
        for low, va in ((own.max() + 0.015, "bottom"), (own.min() - height - 0.015, "top")):
            free = all(_clear(_between(other, left, left + width), low, low + height) for other in others)
            if low >= 0 and low + height <= 1 and free:
                at = (left + width, low) if va == "bottom" else (left + width, low + height)
                axes.text(*at, text, transform=axes.transAxes, color=color, ha="right", va=va, gid="name")
                return True
    return False


def _data_lines(axes: Axes) -> Sequence[Line2D]:
    return [line for line in axes.lines if line.get_transform() == axes.transData]


def _in_panel(axes: Axes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return places in fractions of the panel [T, 2]."""
    with np.errstate(all="ignore"):
        return axes.transAxes.inverted().transform(axes.transData.transform(np.column_stack([x, y])))


def _between(line: np.ndarray, left: float, right: float) -> np.ndarray:
    """Return the heights of a line between two places, at many places so that steep parts are not missed."""
    known = line[np.isfinite(line).all(1)]
    known = known[np.argsort(known[:, 0], kind="stable")]
    if not len(known) or known[-1, 0] < left or known[0, 0] > right:
        return np.empty(0)
    inside = known[(known[:, 0] >= left) & (known[:, 0] <= right), 1]
    edges = np.interp([left, right], known[:, 0], known[:, 1], left=np.nan, right=np.nan)
    return np.concatenate([inside, edges[~np.isnan(edges)]])


def _clear(heights: np.ndarray, low: float, high: float) -> bool:
    return not len(heights) or bool(heights.max() < low or heights.min() > high)
