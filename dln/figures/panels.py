"""A figure of panels over the same steps, with what happened marked in each."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dln.figures.columns import parts
from dln.figures.curve import Curve, draw_curves
from dln.figures.style import EVENT, LANES, NotebookFigure, style_named, titled, width_of
from dln.history import History


def draw_panels(history: History, panels: Mapping[str, list[Curve]], title: str | None, style: str) -> Figure:
    """Draw the panels in rows of up to three, all over the same steps."""
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    with rc_context(style_named(style)):
        legends = [sum(1 + (curve.label or "").count("\n") for curve in curves) for curves in panels.values()]
        height = 2.5 * rows + 0.1 + 0.13 * max(0, max(legends) - 4)
        figure = NotebookFigure(figsize=(width_of(columns, style), height), layout="constrained", style=style)
        axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
        for ax in axes[len(panels) :]:
            ax.remove()
        for i, (ax, (name, curves)) in enumerate(zip(axes, panels.items(), strict=False)):
            draw_curves(ax, name, [curve for curve in curves if curve.column in history])
            mark_events(ax, history.ends, labelled=i == 0)
            if i + columns >= len(panels):  # nothing below
                ax.set_xlabel("step")
                ax.tick_params(labelbottom=True)
            entries = len(ax.get_legend_handles_labels()[0])
            if entries:  # above the panel, where it covers nothing
                long = any("\n" in label or len(label) > 24 for label in ax.get_legend_handles_labels()[1])
                ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if long else 2 if entries == 4 else 3)
        return titled(figure, title)


def mark_events(ax: Axes, events: Mapping[str, int], labelled: bool) -> None:
    """Draw a thin vertical line where a lane diverged or was stopped."""
    for event, step in events.items():
        name, _, lane = parts(event)
        label = f"{lane[1:]} {name.removesuffix('_at')} at {step}".strip() if labelled else None
        ax.axvline(step, color=LANES.get(lane, EVENT), linewidth=0.8, linestyle=":", label=label)
