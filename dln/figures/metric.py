"""One metric of a run or a comparison in one panel: numbers, vectors, and dicts of either, with what theories say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D

from dln.figures.axis import Along, name_axis
from dln.figures.columns import Column, columns_of, key_names, of_metric
from dln.figures.curve import Curve, draw_curves
from dln.figures.known import Data, history_of, lane_names, lanes_of
from dln.figures.legend import height_of_power, legend_above, sample
from dln.figures.marks import draw_marks, include_ends, marks_of
from dln.figures.style import (
    DASHES,
    EVENT,
    LANE_RAMPS,
    LANES,
    LINES,
    PAIR,
    PALETTE,
    RAMP,
    THEORY,
    TRAIN,
    drawing,
)
from dln.figures.table_words import drawable
from dln.history import History

Entries = dict[str, Line2D]
"""What a legend shows: lines by what they are called."""


def metric(
    data: Data, name: str, axes: Axes | None = None, *, x: str = "step", lanes: Sequence[str] | None = None
) -> Axes:
    """Draw a metric; what theories say of it is dark and dashed, with a band for a spread.

    A vector is a family of curves, numbered from 1 at their ends; of a metric with several columns each has a colour,
    and so have the models of a comparison.

    Args:
        data: A history, or the directory of a run.
        name: Of a metric, without the suffix of a model, or of a column.
        axes: Where to draw; None: in a figure of its own.
        x: "step", "time" or "loss".
        lanes: The models to draw, `_a` and `_b`; None: all that there are.

    Raises:
        KeyError: There is no such metric.
        ConfigError: There is no such axis.
        StorageError: There is no run in the directory.
    """
    history = history_of(data)
    with drawing(axes) as drawn:
        entries = draw_metric(drawn, history, name, x, lanes)
        complete(drawn, history, x, entries)
    return drawn


def complete(axes: Axes, history: History, x: str, entries: Entries, named: bool = True) -> float:
    """Name the horizontal axis, mark what happened, put the legend above; return how high what stands above is.

    Args:
        axes: The panel.
        history: What is drawn.
        x: The horizontal axis.
        entries: Of the legend.
        named: Whether what happened is named, or only marked.
    """
    name_axis(axes, x)
    lanes = lanes_of(history)
    alongs = {lane: Along(history, lane, x) for lane in lanes}
    marks = [(float(alongs.get(mark.lane, alongs[lanes[0]]).at(mark.step)), mark) for mark in marks_of(history)]
    return legend_above(axes, entries, draw_marks(axes, marks, named, height_of_power(axes)))


def draw_metric(
    axes: Axes,
    history: History,
    name: str,
    x: str,
    lanes: Sequence[str] | None = None,
    name_lanes: bool = True,
    reach: float = -np.inf,
) -> Entries:
    """Draw the curves of a metric, and return what its legend has to say; see `metric`.

    Args:
        axes: The panel.
        history: What to draw.
        name: Of the metric.
        x: The horizontal axis.
        lanes: The models; None: all.
        name_lanes: Whether the legend names the models.
        reach: How high the vertical axis reaches at least.
    """
    columns = [c for c in of_metric(history, name) if lanes is None or not c.lane or c.lane in lanes]
    own = [column for column in columns if not column.theory]
    keys = list(dict.fromkeys(column.key for column in columns))
    several = len({column.lane for column in columns}) > 1
    curves, entries = [], {}
    looks = _Looks(history, name, keys, several)
    for column in own:
        curves.append(looks.curve(column, x))
    for column in (c for c in columns if c.theory and not c.spread):
        curves.append(told_curve(history, column, columns, looks.theories, x))
    draw_curves(axes, drawable(name.replace("_", " ")), curves, reach)
    include_ends(axes, history, x)
    if several and name_lanes:
        names = lane_names(history)
        for lane in LANES:
            dashes = looks.lines[lane] if looks.by_key else "-"
            entries[names[lane]] = sample(EVENT if looks.by_key else LANES[lane], dashes)
    elif several and looks.by_key:
        entries |= {lane[1:]: sample(EVENT, looks.lines[lane]) for lane in LANES}
    if len(keys) > 1:
        for key, told in zip(keys, key_names(name, keys), strict=True):
            entries[drawable(told)] = looks.sample(key)
    for theory in looks.theories:
        entries[drawable(theory)] = sample(THEORY, looks.theories[theory], 1.0)
    return entries


def told_curve(history: History, column: Column, columns: Sequence[Column], theories: dict[str, Any], x: str) -> Curve:
    """Return what a theory says, dark and in its own dashes, with a band where it tells a spread."""
    spreads = [c.name for c in columns if c.spread and c[2:5] == column[2:5]]
    values = flat(history, column.name)
    return Curve(
        Along(history, column.lane, x).places,
        values,
        [THEORY] * values.shape[1],
        label=drawable(column.theory),
        linestyle=theories[column.theory],
        linewidth=1.0,
        spread=flat(history, spreads[0]) if spreads else None,
        numbers=0,
    )


def flat(history: History, column: str) -> np.ndarray:
    """Return a column as vectors [T, k]; of a run without records [0, 1]."""
    if not len(history):
        return np.empty((0, 1))
    values = history[column]
    return values.reshape(len(values), -1)


def dashes_of(history: History, columns: Sequence[Column]) -> dict[str, Any]:
    """Return the dashes of the theories of some columns: the same in all panels of a run."""
    theories = dict.fromkeys(column.theory for column in columns_of(history) if column.theory)
    told = {column.theory for column in columns}
    return {theory: DASHES[i % len(DASHES)] for i, theory in enumerate(theories) if theory in told}


class _Looks:
    """How the curves of one metric are told apart.

    Of one model: a colour for each key, or for each number of a vector. Of two: a colour for each model and a line for
    each key; where keys hold vectors, a colour for each key and a line for each model.
    """

    def __init__(self, history: History, name: str, keys: list[str], several: bool) -> None:
        columns = of_metric(history, name)
        own = [column for column in columns if not column.theory]
        counts = [flat(history, column.name).shape[1] for column in own]
        vectors, self.least = max(counts, default=1) > 1, min(counts, default=1)
        self.history, self.keys, self.several = history, keys, several
        self.by_key = len(keys) > 1 and vectors
        self.lines = {"": "-", "_a": "-", "_b": "--"}
        self.theories = dashes_of(history, columns)
        many = len(keys) > len(PALETTE)
        colors = [RAMP(i / (len(keys) - 1)) for i in range(len(keys))] if many else PALETTE
        self._colors = dict(zip(keys, colors, strict=False))
        self._dashes = {key: LINES[i % len(LINES)] for i, key in enumerate(keys)}

    def curve(self, column: Column, x: str) -> Curve:
        lane = column.lane
        values = flat(self.history, column.name)
        count = values.shape[1]
        colors: Sequence[Any]
        line: Any = "-"
        if self.by_key:
            colors = [self._colors[column.key]] * count
            line = self.lines[lane] if self.several else "-"
        elif lane:
            colors = [LANES[lane]] if count == 1 else list(LANE_RAMPS[lane](np.linspace(0, 1, count)))
            line = self._dashes[column.key]
        elif count > 1:
            colors = list(RAMP(np.linspace(0, 1, count)))
        else:
            pair = lanes_of(self.history) != [""]
            colors = [self._colors[column.key] if len(self.keys) > 1 else PAIR if pair else TRAIN]
        wide = 2.0 if lane == "_a" and self.several else 1.1 if lane else 1.2  # a is seen beneath b where they agree
        if self.by_key and count > self.least:  # layers may have more values than the map
            colors = [*colors[: self.least], *([to_rgba(colors[0], 0.3)] * (count - self.least))]
        diverged = f"diverged_at{lane}" in self.history.events
        places = Along(self.history, lane or lanes_of(self.history)[0], x).places
        shown = self.least if self.by_key else None
        label = drawable(" ".join(filter(None, [lane[1:], column.key]))) or None
        return Curve(places, values, colors, label, linestyle=line, linewidth=wide, diverged=diverged, numbers=shown)

    def sample(self, key: str) -> Line2D:
        by_line = self.several and not self.by_key
        return sample(EVENT, self._dashes[key]) if by_line else sample(self._colors[key])
