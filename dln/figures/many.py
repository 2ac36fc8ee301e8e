"""One metric of many runs in one panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dln.figures.axis import Along, name_axis
from dln.figures.columns import lane_columns
from dln.figures.curve import Curve, draw_curves
from dln.figures.legend import legend_above, sample
from dln.figures.metric import flat
from dln.figures.style import COLUMN, GREY, LANES, LIGHT_LANES, RAMP, NotebookFigure, drawing, style_named, titled
from dln.figures.table_words import drawable
from dln.history import History
from dln.results.finals import is_seed

LEGEND_ENTRIES = 6
"""Sweeps over more numbers have a colour bar."""


def plot_sweep(
    histories: Mapping[Any, History],
    key: str = "",
    metric: str = "train_loss",
    title: str | None = None,
    style: str = "default",
    x: str = "step",
) -> Figure:
    """Draw one metric of many runs in a figure of its own: see `runs`.

    Args:
        histories: What the key was set to, and the history it gave.
        key: The key that was swept.
        metric: The column to draw.
        title: Stands above the figure.
        style: "default", or "paper", a journal's column.
        x: "step", "time" or "loss".

    Raises:
        KeyError: There is no such column.
        ConfigError: There is no such axis or style.
    """
    with rc_context(style_named(style)):
        size = (COLUMN, 2.4) if style == "paper" else (4.6, 3.0)
        figure = NotebookFigure(figsize=size, layout="constrained", style=style)
        runs(histories, key, metric, figure.subplots(), x=x)
        return titled(figure, title)


def runs(
    histories: Mapping[Any, History],
    key: str = "",
    metric: str = "train_loss",
    axes: Axes | None = None,
    *,
    x: str = "step",
) -> Axes:
    """Draw one metric of many runs, a curve for each value of the swept key; a cross marks where a run diverged.

    Numbers have colours along a ramp, with a legend or, if they are many, a colour bar. Seeds are no numbers on a
    scale: their runs are thin lines of one colour, with the median at every step dark among them.

    Args:
        histories: What the key was set to, and the history it gave.
        key: The key that was swept.
        metric: The column to draw; of comparative runs, `train_loss` means both models, a solid and b dashed.
        axes: Where to draw; None: in a figure of its own.
        x: "step", "time" or "loss".

    Raises:
        KeyError: There is no such column.
        ConfigError: There is no such axis.
    """
    with drawing(axes) as drawn:
        if is_seed(key):
            _draw_seeds(drawn, histories, key, metric, x)
        else:
            _draw_values(drawn, histories, key, metric, x)
    return drawn


def _draw_values(axes: Axes, histories: Mapping[Any, History], key: str, metric: str, x: str) -> None:
    norm = norm_of(list(histories))
    scale = norm or Normalize(0, max(len(histories) - 1, 1))
    colors = [RAMP(scale(value if norm else i)) for i, value in enumerate(histories)]
    curves, dashed = [], False
    for history, color in zip(histories.values(), colors, strict=True):
        for column, linestyle in lane_columns(history, metric).items():
            curves.append(_curve(history, column, metric, color, x, linestyle=linestyle))
            dashed |= linestyle == "--"
    draw_curves(axes, drawable(metric.replace("_", " ")), curves)
    name_axis(axes, x)
    for history, color in zip(histories.values(), colors, strict=True):
        _cross(axes, history, color, x)
    if dashed:
        line = {"a": sample(GREY), "b": sample(GREY, "--")}
        legend_above(axes, line)
        lanes = axes.get_legend()
        assert lanes is not None
        axes.add_artist(lanes)
    figure = axes.get_figure()
    assert figure is not None
    if norm and len(histories) > LEGEND_ENTRIES:
        bar = figure.colorbar(ScalarMappable(norm, RAMP), ax=axes, label=drawable(key), aspect=30)
        if not isinstance(norm, LogNorm) and all(isinstance(value, int | np.integer) for value in histories):
            bar.locator = MaxNLocator(6, integer=True)
            bar.update_ticks()
        return
    ends = [" (diverged)" if history.diverged_at is not None else "" for history in histories.values()]
    names = [drawable("null" if v is None else str(v)) + end for v, end in zip(histories, ends, strict=True)]
    lines = [sample(color) for color in colors]
    axes.legend(lines, names, title=drawable(key) or None, loc="center left", bbox_to_anchor=(1.02, 0.5))


def _draw_seeds(axes: Axes, histories: Mapping[Any, History], key: str, metric: str, x: str) -> None:
    """Draw runs that differ in a seed alike, beneath their median."""
    columns = dict.fromkeys(column for history in histories.values() for column in lane_columns(history, metric))
    if not any(column in history for column in columns for history in histories.values()):
        next(iter(histories.values()))[metric]  # raises, and lists the columns there are
    curves, entries = [], {}
    for column in columns:
        lane = column[-2:] if column.endswith(tuple(LANES)) and column != metric else ""
        color, light = LANES[lane or "_a"], LIGHT_LANES[lane or "_a"]
        own = [_curve(h, column, metric, light, x, beneath=True) for h in histories.values() if column in h]
        middle = Curve(*_median(own), [color], linewidth=1.6)
        curves += [*own, middle]
        end = f" of {lane[1:]}" if lane else ""
        entries |= {f"{len(own)} {_plural(key)}{end}": sample(light, linewidth=0.7)}
        entries |= {f"median{end}": sample(color, linewidth=1.6)}
    draw_curves(axes, drawable(metric.replace("_", " ")), curves)
    name_axis(axes, x)
    for history in histories.values():
        _cross(axes, history, GREY, x)
    lost = sum(history.diverged_at is not None for history in histories.values())
    if lost:
        entries[f"{lost} diverged"] = sample(GREY, "", 1.0)
        entries[f"{lost} diverged"].set_marker("x")
    legend_above(axes, entries)


def _plural(key: str) -> str:
    """Return what runs that differ in a seed differ in.

    >>> _plural("training.batch_seed")
    'batch seeds'
    """
    return key.rpartition(".")[2].replace("_", " ") + "s"


def _curve(history: History, column: str, metric: str, color: Any, x: str, **style: Any) -> Curve:
    lane = column.removeprefix(metric)
    values = flat(history, column)
    places = Along(history, lane if lane in LANES else "", x).places
    width = 0.6 if style.get("beneath") else 1.2
    diverged = history.diverged_at is not None
    return Curve(places, values, [color] * values.shape[1], linewidth=width, diverged=diverged, **style)


def _median(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places that most curves have, and the medians there of those that have a number."""
    places, counts = np.unique(np.concatenate([curve.x for curve in curves]), return_counts=True)
    places = places[2 * counts >= len(curves)]
    width = max(curve.count for curve in curves)
    table = np.full((len(curves), len(places), width), np.nan)
    for own, curve in zip(table, curves, strict=True):
        _, at, mine = np.intersect1d(places, curve.x, return_indices=True)
        own[at] = curve.y[mine]
    known = ~np.isnan(table).all(axis=(0, 2))
    return places[known], np.nanmedian(table[:, known], axis=0)


def _cross(axes: Axes, history: History, color: Any, x: str) -> None:
    """Mark at the upper edge where a run diverged."""
    if history.diverged_at is None:
        return
    lane = "" if "train_loss" in history else "_a"
    at = history.diverged_at if x == "step" or not len(history) else Along(history, lane, x).places[-1]
    edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot(at, 1, "x", color=color, markeredgewidth=1.5, **edge)


def norm_of(values: Sequence[Any]) -> Normalize | None:
    """Return what maps swept values to the ramp, logarithmic if they span a decade; None if not all are numbers."""
    if not values or any(isinstance(v, bool) or not isinstance(v, int | float | np.number) for v in values):
        return None
    low, high = float(min(values)), float(max(values))
    return LogNorm(low, high) if low > 0 and high / low >= 10 else Normalize(low, high)
