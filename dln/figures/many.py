"""One metric of many runs in one panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dln.figures.columns import lane_columns
from dln.figures.curve import Curve, draw_curves
from dln.figures.style import COLUMN, GREY, RAMP, NotebookFigure, style_named, titled
from dln.history import History

LEGEND_ENTRIES = 6  # sweeps over more numbers have a colour bar


def plot_sweep(
    histories: Mapping[Any, History],
    key: str = "",
    metric: str = "train_loss",
    title: str | None = None,
    style: str = "default",
) -> Figure:
    """Draw one metric of many runs, one curve for each value of the swept key; a cross marks where a run diverged.

    Args:
        histories: What the key was set to, and the history it gave.
        key: The key that was swept, for the legend.
        metric: The column to draw; of comparative runs, `train_loss` means both lanes, a solid and b dashed.
        title: Stands above the figure.
        style: "default" or "paper".

    Raises:
        KeyError: There is no such column.
    """
    norm = norm_of(list(histories))
    scale = norm or Normalize(0, max(len(histories) - 1, 1))
    colors = [RAMP(scale(value if norm else i)) for i, value in enumerate(histories)]
    runs = list(zip(histories.values(), colors, strict=True))
    curves = [
        Curve(history, column, color, linestyle=linestyle, diverged=history.diverged_at is not None)
        for history, color in runs
        for column, linestyle in lane_columns(history, metric).items()
    ]
    with rc_context(style_named(style)):
        figure = NotebookFigure(figsize=(COLUMN if style == "paper" else 4.6, 3.0), layout="constrained", style=style)
        ax = figure.subplots()
        draw_curves(ax, metric, curves)
        ax.set_xlabel("step")
        edge: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False}
        for history, color in runs:
            if history.diverged_at is not None:
                ax.plot(history.diverged_at, 1, "x", color=color, markeredgewidth=1.5, **edge)
        if any(curve.linestyle == "--" for curve in curves):
            lane_a = Line2D([], [], color=GREY, linestyle="-", label="a")
            lane_b = Line2D([], [], color=GREY, linestyle="--", label="b")
            figure.legend(handles=[lane_a, lane_b], loc="outside upper left", ncols=2)
        if norm and len(histories) > LEGEND_ENTRIES:
            figure.colorbar(ScalarMappable(norm, RAMP), ax=ax, label=key, aspect=30)
        else:
            ends = [" (diverged)" if history.diverged_at is not None else "" for history in histories.values()]
            names = [("null" if v is None else str(v)) + end for v, end in zip(histories, ends, strict=True)]
            lines = [Line2D([], [], color=color) for color in colors]
            ax.legend(lines, names, title=key or None, loc="center left", bbox_to_anchor=(1.02, 0.5))
        return titled(figure, title)


def norm_of(values: Sequence[Any]) -> Normalize | None:
    """Return what maps swept values to the ramp, logarithmic if they span a decade; None if not all are numbers."""
    if not values or any(isinstance(v, bool) or not isinstance(v, int | float | np.number) for v in values):
        return None
    low, high = float(min(values)), float(max(values))
    return LogNorm(low, high) if low > 0 and high / low >= 10 else Normalize(low, high)
