"""Trajectories of conditions in the plane of two curves: where each begins and ends, and which way it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D

from dln.figures.style import GREY, RAMP, drawing
from dln.figures.table_axes import (
    check_log,
    color_entries,
    end_entries,
    fits_log,
    legend_title,
    lost_by,
    ordinary,
    put_bar,
    put_legend,
    round_ticks,
    set_range,
)
from dln.figures.table_colors import key_colors
from dln.figures.table_columns import check_names, conditions_of, middle_of, rows_by
from dln.figures.table_words import drawable, said

if TYPE_CHECKING:
    import polars

ARROWS = (0.25, 0.5, 0.75)
"""Where arrows are, as fractions of a trajectory's length on the page."""


def plane(
    table: polars.DataFrame,
    x: str,
    y: str,
    per: str | None = None,
    middle: str = "mean",
    log: str | None = None,
    whole: polars.DataFrame | None = None,
    beside: Sequence[Axes] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the way of each condition in the plane of two curves: a ring where it begins, a dot where it ends.

    Args:
        table: Of `dln.aggregate`.
        x: The curve of the horizontal axis.
        y: That of the vertical one.
        per: The key that colours tell apart.
        middle: "mean" or "median" of the runs that are left at each record.
        log: Which axes are logarithmic; None: those whose values ask for it.
        whole: The table of all panels.
        beside: Beside which axes a colour bar stands; None: beside these.
        axes: Where to draw; None: in a new figure.

    Raises:
        ConfigError: There is no such curve, key or option.
    """
    check_log(log)
    whole = table if whole is None else whole
    check_names(whole, x, y, per)
    colors = key_colors(whole, per)
    fine = whole.filter(ordinary(whole))
    with drawing(axes) as axes:
        across = middle_of(fine, x, middle)
        set_range(axes, middle_of(fine, y, middle), log)
        if "x" in (log or "") or (log is None and fits_log(across)):
            axes.set_xscale("log", nonpositive="mask")
            across = across[across > 0]
        _put_limits(axes, across)
        for value, some in rows_by(table, per).items():
            text = drawable(colors.names[value]) if per is not None else "_alone"
            for rows in conditions_of(some):
                way = np.column_stack([middle_of(rows, x, middle), middle_of(rows, y, middle)])
                way = way[np.isfinite(way).all(1)]
                if len(way):
                    color = colors.of(value)
                    axes.plot(*way.T, color=color, label=text)
                    axes.plot(*way[0], "o", color=color, markerfacecolor="white", markersize=4, zorder=3)
                    axes.plot(*way[-1], "o", color=color, markersize=4, zorder=3)
                    _put_arrows(axes, way, color)
                    text = "_more"
        axes.set_xlabel(drawable(said(x)))
        axes.set_ylabel(drawable(said(y)))
        ends = {"white": "first record", GREY: "last record"}
        if colors.norm is not None:
            put_bar(axes, ScalarMappable(colors.norm, RAMP), str(per), beside)
        lost = lost_by(whole, per)
        entries = color_entries(lost, colors)
        entries += [
            (Line2D([], [], color=GREY, linestyle="", marker="o", markerfacecolor=face), text)
            for face, text in ends.items()
        ]
        put_legend(axes, entries + end_entries(lost, f"{middle}s of the others"), legend_title(colors))
    return axes


def _put_limits(axes: Axes, across: np.ndarray) -> None:
    known = across[np.isfinite(across)]
    if not len(known) or known.min() == known.max():
        return
    low, high = float(known.min()), float(known.max())
    if axes.get_xscale() == "log":
        axes.set_xlim(low / 1.2, high * 1.2)
        round_ticks(axes.xaxis, high / low)
    else:
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))


def _put_arrows(axes: Axes, way: np.ndarray, color: object) -> None:
    """Put arrows on a trajectory that say which way it goes, where it is at some fractions of its length."""
    seen = axes.transData.transform(way)
    length = np.append(0.0, np.cumsum(np.hypot(*np.diff(seen, axis=0).T))) if len(seen) > 1 else np.zeros(1)
    if not length[-1] > 60:  # pixels: a short one is told by its ends
        return
    for part in ARROWS:
        tip = int(np.searchsorted(length, part * length[-1]).clip(1, len(way) - 1))
        tail = int(np.searchsorted(length, length[tip] - 5, "right").clip(1, tip)) - 1
        arrow = {"arrowstyle": "-|>", "color": color, "lw": 0, "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", way[tip], way[tail], arrowprops=arrow)
