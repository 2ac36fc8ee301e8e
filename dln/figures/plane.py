"""The way of a run in the plane of two of its columns: loss against sharpness, drift against diffusion."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from dln.figures.columns import lane_columns, numbers
from dln.figures.curve import fits_log, round_numbers
from dln.figures.known import Data, history_of, lane_names
from dln.figures.legend import WIDTH, legend_above, sample, width_of_panel
from dln.figures.style import LANES, TRAIN, drawing
from dln.figures.table_words import drawable
from dln.history import History

HEAD = "-|>,head_length=0.8,head_width=0.25"
"""An arrow that is longer than wide, so that it is seen where it points."""
NEAR = 0.02
"""Share of a way over which its direction is told."""
ARROWS = 5
"""Places of a way at which its direction and its step are told."""


def plane(
    data: Data, x: str = "train_loss", y: str = "sharpness", axes: Axes | None = None, *, marks: int = ARROWS
) -> Axes:
    """Draw the way of a run, or of both models of a comparison, in the plane of two columns.

    It begins at an open circle and ends at a full one; arrows tell its direction, with the steps beside them. An axis
    is logarithmic where a linear one would hide the way.

    Args:
        data: A history, or the directory of a run.
        x: A column of one number a record, `name[1]` for the first number of a vector; of a comparison without the
            suffix of a model.
        y: Likewise.
        axes: Where to draw; None: in a figure of its own.
        marks: How many arrows and steps a way has.

    Raises:
        KeyError: There is no such column.
        ConfigError: It has several numbers a record.
        StorageError: There is no run in the directory.
    """
    history = history_of(data)
    with drawing(axes) as drawn:
        ways = [(lane, *_way(history, x, y, lane)) for lane in _lanes(history, x, y)]
        for name, values, scale in ((x, 1, drawn.set_xscale), (y, 2, drawn.set_yscale)):
            if fits_log([np.asarray(way[values]).reshape(-1, 1) for way in ways], loss="loss" in name):
                scale("log", nonpositive="mask")
        for lane, across, up, _ in ways:
            color = LANES.get(lane, TRAIN)
            drawn.plot(across, up, color=color, linewidth=1.1, gid="way")
        round_numbers(drawn.xaxis, most=3)
        round_numbers(drawn.yaxis)
        drawn.set_xlabel(drawable(x.replace("_", " ")))
        drawn.set_ylabel(drawable(y.replace("_", " ")))
        taken: list[np.ndarray] = []
        for lane, across, up, steps in ways:
            _tell(drawn, across, up, steps, LANES.get(lane, TRAIN), marks, taken)
        names = lane_names(history)
        legend_above(drawn, {names[lane]: sample(LANES[lane]) for lane, *_ in ways if lane})
    return drawn


def _lanes(history: History, x: str, y: str) -> list[str]:
    """Return the suffixes of the models that have both columns; of a column of the pair, an empty one."""
    both = [{column.removeprefix(name) for column in lane_columns(history, name)} for name in (_head(x), _head(y))]
    lanes = [lane for lane in ("", *LANES) if all(lane in there or "" in there for there in both)]
    return [lane for lane in lanes if lane] if any(lanes) and both != [{""}, {""}] else [""]


def _head(name: str) -> str:
    return name.partition("[")[0]


def _way(history: History, x: str, y: str, lane: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places of a way and their steps, those where both numbers are known."""
    values = []
    for name in (x, y):
        head, bracket, index = name.partition("[")
        own = head + lane
        values.append(numbers(history, (own if lane and own in history else head) + bracket + index))
    known = np.isfinite(values).all(0)
    return values[0][known], values[1][known], history["step"][known]


def _tell(
    axes: Axes, x: np.ndarray, y: np.ndarray, steps: np.ndarray, color: Any, marks: int, taken: list[np.ndarray]
) -> None:
    """Mark begin, end and direction of a way, and write steps where they keep clear of those in `taken`."""
    if not len(x):
        return
    axes.plot(x[:1], y[:1], "o", color=color, markerfacecolor="white", zorder=3, gid="begin")
    axes.plot(x[-1:], y[-1:], "o", color=color, zorder=3, gid="end")
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # from here on places of the panel are final
    to_panel = axes.transData - axes.transAxes
    with np.errstate(all="ignore"):
        places = to_panel.transform(np.column_stack([x, y]))
    there = np.flatnonzero(np.isfinite(places).all(1))
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(places[there], axis=0).T))]) if len(there) else []
    if len(there) < 2 or length[-1] == 0:
        _write(axes, places[there], steps[there], [0], color, taken)
        return
    at = np.searchsorted(length, length[-1] * (np.arange(marks) + 0.5) / marks).clip(1, len(there) - 1)
    near = np.searchsorted(length, length[at] - NEAR * length[-1])  # the last step alone may be noise
    for i, before in dict(zip(at.tolist(), near.tolist(), strict=True)).items():
        head, way = places[there[i]], places[there[i]] - places[there[min(before, i - 1)]]
        if not way.any():
            continue
        direction = way / np.hypot(*way) * 0.03
        ends = to_panel.inverted().transform([head - direction, head])
        look: dict[str, Any] = {"color": color, "linewidth": 0.5, "mutation_scale": 9, "gid": "arrow"}
        arrow = FancyArrowPatch(*ends, arrowstyle=HEAD, shrinkA=0, shrinkB=0, **look)
        arrow.set_transform(axes.transData)
        axes.add_artist(arrow)
    told = [0, *dict.fromkeys(at.tolist()), len(there) - 1]
    _write(axes, places[there], steps[there], told, color, taken)


def _write(
    axes: Axes, places: np.ndarray, steps: np.ndarray, told: list[int], color: Any, taken: list[np.ndarray]
) -> None:
    """Write some steps beside their places, in fractions of the panel, at right angles to the way; not over others."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    size = 0.85 * rcParams["font.size"]
    panel = np.array([width_of_panel(axes), 0.75 * axes.get_position().height * figure.get_figheight() * 72])
    for i in told:
        text = str(steps[i])
        way = (places[min(i + 1, len(places) - 1)] - places[max(i - 1, 0)]) * panel
        normal = np.array([way[1], -way[0]]) / max(np.hypot(*way), 1e-9)
        extent = np.array([WIDTH * size * len(text), size])
        for side in (normal, -normal, way / max(np.hypot(*way), 1e-9), -way / max(np.hypot(*way), 1e-9)):
            centre = places[i] + side * (4 + np.abs(side) @ extent / 2) / panel
            area = np.concatenate([centre - extent / 2 / panel, centre + extent / 2 / panel])
            free = not any((area[:2] < other[2:]).all() and (other[:2] < area[2:]).all() for other in taken)
            if free and (area > 0).all() and (area < 1).all():
                taken.append(area)
                style = {"va": "center", "ha": "center", "fontsize": size, "color": color, "gid": "step"}
                axes.text(centre[0], centre[1], text, transform=axes.transAxes, **style)
                break
