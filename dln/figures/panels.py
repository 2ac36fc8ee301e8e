"""Figures of panels over one horizontal axis: the losses of a run, and a panel for each metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dln.errors import ConfigError
from dln.figures.axis import AXES
from dln.figures.columns import LOSSES, columns_of, metrics_of, of_metric
from dln.figures.known import kind_of, lanes_of
from dln.figures.legend import legend_of_figure
from dln.figures.losses import draw_losses
from dln.figures.metric import Entries, complete, draw_metric, flat
from dln.figures.sharpness import SHARPNESS, draw_sharpness
from dln.figures.strengths import STRENGTHS, draw_strengths
from dln.figures.style import NotebookFigure, style_named, width_of
from dln.figures.table_words import drawable
from dln.history import History

HEIGHT = {"default": 2.3, "paper": 1.75}
"""Of a panel without what stands above it, in inches."""
LINE = 100
"""Letters of a line in the legend of a figure of several panels."""


class Panel(NamedTuple):
    """A panel of a figure: a metric, or the losses, of all models or of some."""

    name: str | None
    """None: the losses."""
    lanes: Sequence[str] | None = None


def draw_panels(
    history: History, metrics: Sequence[str] | None, title: str | None = None, style: str = "default", x: str = "step"
) -> Figure:
    """Draw the losses and some metrics in rows of up to three panels.

    Args:
        history: Of a run or a comparison.
        metrics: Which metrics, or columns, in this order; None: all.
        title: Stands above the figure.
        style: One of `STYLES`.
        x: One of `AXES`; over the loss there is no panel of the training loss.

    Raises:
        KeyError: There is no such metric.
        ConfigError: There is no such axis or style, or nothing to draw over the loss.
    """
    if x not in AXES:
        raise ConfigError(f"there is no axis x={x!r}; there are {', '.join(AXES)}")
    panels = _panels(history, metrics, x)
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    with rc_context(style_named(style)):
        size = (width_of(columns, style), HEIGHT[style] * rows)
        figure = NotebookFigure(figsize=size, layout="constrained", style=style)
        grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
        for axes in grid[len(panels) :]:
            axes.remove()
        above, of_figure = [0.0] * rows, {}
        named = _named_by_losses(history) if panels[0].name is None else set()
        for i, (axes, panel) in enumerate(zip(grid, panels, strict=False)):
            entries = _draw(axes, history, panel, x, name_lanes=i == 0, alone=len(panels) == 1)
            if i == 0 and len(panels) > 1:
                of_figure, entries = entries, {}
            elif i:
                entries = {name: line for name, line in entries.items() if name not in named}
            height = complete(axes, history, x, entries, named=i == 0)
            above[i // columns] = max(above[i // columns], height)
            if i + columns < len(panels):
                axes.set_xlabel("")
            else:  # nothing below
                axes.tick_params(labelbottom=True)
        legend_of_figure(figure, of_figure, title, sum(above) + 7)
        # It is laid out now and when it is drawn: the first layout may change how many ticks there are.
        engine = figure.get_layout_engine()
        assert engine is not None
        with np.errstate(over="ignore"):
            engine.execute(figure)
        return figure


def _panels(history: History, metrics: Sequence[str] | None, x: str) -> list[Panel]:
    """Return what to draw; a metric of two models whose keys hold vectors has a panel for each model."""
    shown = LOSSES if x != "loss" else ("test_loss", "population_loss")
    there = any(column.metric in shown for column in columns_of(history))
    panels = [Panel(None)] if there or not len(history) else []
    for name in metrics_of(history) if metrics is None else metrics:
        columns = of_metric(history, name)
        lanes = list(dict.fromkeys(column.lane for column in columns))
        vectors = any(flat(history, column.name).shape[1] > 1 for column in columns)
        if len(lanes) > 1 and vectors and len({column.key for column in columns}) > 1:
            panels += [Panel(name, [lane]) for lane in lanes]
        else:
            panels.append(Panel(name))
    if not panels:
        over = "over the training loss " if x == "loss" else ""
        raise ConfigError(f"there is nothing to draw {over}but what is not recorded: add metrics")
    return panels


def _named_by_losses(history: History) -> set[str]:
    """Return the theories that the panel of losses names."""
    return {drawable(column.theory) for column in columns_of(history) if column.metric in ("train_loss", "test_loss")}


def _draw(axes: Axes, history: History, panel: Panel, x: str, name_lanes: bool, alone: bool) -> Entries:
    """Draw a panel, and return what the legend has to say: its own, or that of a figure of several panels."""
    if panel.name is None:
        return draw_losses(axes, history, x, width=None if alone else LINE)
    kind = kind_of(history, panel.name)
    draw = draw_sharpness if kind in SHARPNESS else draw_strengths if kind in STRENGTHS else draw_metric
    entries = draw(axes, history, panel.name, x, panel.lanes, name_lanes)
    if panel.lanes is not None and lanes_of(history) != [""]:
        axes.set_ylabel(f"{axes.get_ylabel()}, {panel.lanes[0][1:]}")
    return entries
