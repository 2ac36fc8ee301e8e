"""Legends above panels, where they cover nothing, and names written beside lines where there is room."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

LEFT = 0.72
"""Share of a column of panels that labels of axes leave to the panel itself."""
WIDTH = 0.55
"""Mean width of a letter, in sizes of the font."""


def width_of_panel(axes: Axes) -> float:
    """Return about how wide a panel is, in points; where a layout is still to come, what that will leave it."""
    figure, spec = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure is not None
    if spec is None or figure.get_layout_engine() is None:
        return axes.get_position().width * figure.get_figwidth() * 72
    return LEFT * len(spec.colspan) / spec.get_gridspec().ncols * figure.get_figwidth() * 72


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
    columns = _columns_within(width_of_panel(axes), entries)
    axes.legend(
        list(entries.values()),
        list(entries),
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=axes.transAxes + ScaledTranslation(0, lift / 72, figure.dpi_scale_trans),
        ncols=columns,
    )
    return lift + _height(entries, columns)


def height_of_power(axes: Axes) -> float:
    """Return how high the power of ten is, in points, that stands above a linear axis of large or small numbers."""
    if axes.get_yscale() == "log":
        return 0.0
    largest = max(map(abs, axes.get_ylim()))
    least, most = rcParams["axes.formatter.limits"]
    powers = [math.floor(math.log10(share * largest)) for share in (0.7, 1.0) if largest > 0]  # of the largest tick
    return 1.5 * rcParams["font.size"] if any(power <= least or power >= most for power in powers) else 0.0


def legend_of_figure(figure: Figure, entries: Mapping[str, Any], title: str | None, others: float) -> None:
    """Put a legend at the upper edge of a figure of several panels, beneath the title, and make the figure higher.

    Args:
        figure: The figure.
        entries: Lines by what they are called.
        title: Stands above the legend.
        others: How much higher the figure is to be for other things, in points.
    """
    room, size = 0.0, rcParams["font.size"]
    if title is not None:
        room = 2.2 * size
    columns = _columns_within(0.97 * figure.get_figwidth() * 72, entries) if entries else 1
    legend = _height(entries, columns) if entries else 0.0
    height = figure.get_figheight() + (others + room + legend) / 72
    figure.set_figheight(height)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, 0, 1, 1 - (room + legend) / 72 / height))
    if title is not None:
        figure.suptitle(title, y=1 - 0.5 * size / 72 / height).set_in_layout(False)
    if entries:
        lines, names = list(entries.values()), list(entries)
        box = (0, 1 - room / 72 / height)
        figure.legend(lines, names, loc="upper left", bbox_to_anchor=box, ncols=columns)


def _height(entries: Mapping[str, Any], columns: int) -> float:
    """Return how high a legend is, in points."""
    lines = [1 + name.count("\n") for name in entries]
    return 1.45 * rcParams["font.size"] * max(sum(part) for part in _columns(lines, columns)) + 4


def _columns(values: Sequence[int], columns: int) -> list[Sequence[int]]:
    """Split the entries of a legend as matplotlib does: one column after the other, the first ones longer.

    >>> _columns([1, 2, 3, 4, 5], 3)
    [[1, 2], [3, 4], [5]]
    """
    each, more = divmod(len(values), columns)
    starts = np.cumsum([0, *(each + (i < more) for i in range(columns))])
    return [values[a:b] for a, b in pairwise(starts.tolist())]


def _columns_within(width: float, entries: Mapping[str, Any]) -> int:
    """Return in how many columns entries fit into a width in points: as many as make fewer rows."""
    lengths = [max(map(len, name.split("\n"))) for name in entries]
    fitting = [c for c in range(1, len(lengths) + 1) if c == 1 or _length(lengths, c) <= width]
    rows = -(-len(lengths) // fitting[-1])
    return next(c for c in fitting if -(-len(lengths) // c) == rows)


def _length(lengths: Sequence[int], columns: int) -> float:
    """Return how long a legend of entries of so many letters is, in points."""
    letters = sum(max(part) for part in _columns(lengths, columns))
    handle = rcParams["legend.handlelength"] + rcParams["legend.handletextpad"] + rcParams["legend.columnspacing"]
    return rcParams["font.size"] * (WIDTH * letters + columns * handle)


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
