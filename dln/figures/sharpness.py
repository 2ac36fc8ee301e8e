"""The sharpness of a run beside the largest that is stable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dln.figures.axis import Along
from dln.figures.known import Data, history_of, lanes_of
from dln.figures.legend import sample, write_along
from dln.figures.metric import Entries, complete, draw_metric
from dln.figures.rates import Limit, limit_of
from dln.figures.style import LIMIT, drawing
from dln.history import History

SHARPNESS = ("sharpness", "gradient_sharpness", "batch_sharpness", "mean_batch_sharpness")
"""Metrics that are drawn beside the edge of stability."""
FAR = 4
"""A limit so many times above the sharpness would squeeze it, and is only named."""


def sharpness(
    data: Data,
    axes: Axes | None = None,
    *,
    of: str = "sharpness",
    x: str = "step",
    lanes: Sequence[str] | None = None,
) -> Axes:
    """Draw the sharpness, and the largest at which gradient descent is stable: 2 / lr, lr that of each step.

    With momentum or weight decay it is the edge of stability of `dln.ingredients.edge`; Adam and its like have none.

    Args:
        data: A history, or the directory of a run; without a config only a recorded `edge_of_stability` is drawn.
        axes: Where to draw; None: in a figure of its own.
        of: The metric.
        x: "step", "time" or "loss".
        lanes: The models to draw, `_a` and `_b`; None: all that there are.

    Raises:
        KeyError: There is no such metric.
        ConfigError: There is no such axis.
        StorageError: There is no run in the directory.
    """
    history = history_of(data)
    with drawing(axes) as drawn:
        complete(drawn, history, x, draw_sharpness(drawn, history, of, x, lanes))
    return drawn


def draw_sharpness(
    axes: Axes, history: History, of: str, x: str, lanes: Sequence[str] | None = None, name_lanes: bool = True
) -> Entries:
    """Draw a sharpness and its limit, and return what the legend has to say; see `sharpness`."""
    entries = draw_metric(axes, history, of, x, lanes, name_lanes)
    for lane, limit in _limits(history, lanes).items():
        low, high = axes.get_ylim()
        least, most = np.nanmin(limit.values), np.nanmax(limit.values)
        name = limit.name + (f" of {lane[1:]}" if lane else "")
        if least > FAR * high:
            more = "" if most == least else "at least "
            entries[f"{name} is {more}{least:.4g}"] = sample(LIMIT)
            continue
        places = Along(history, lane or lanes_of(history)[0], x).places
        axes.plot(places, limit.values, color=LIMIT, linewidth=1.0, zorder=1.8, gid="limit")
        axes.set_ylim(low, max(high, min(1.1 * most, max(1.5 * high, 1.1 * least))))
        if not write_along(axes, places, limit.values, name, LIMIT):
            entries[name] = sample(LIMIT, "-", 1.0)
    return entries


def _limits(history: History, lanes: Sequence[str] | None) -> dict[str, Limit]:
    """Return the limit of each model; of two that have the same one it is of none of them."""
    there = lanes_of(history) if lanes is None else lanes
    found = {lane: limit for lane in there if (limit := limit_of(history, lane)) is not None}
    found = {lane: limit for lane, limit in found.items() if not np.isnan(limit.values).all()}
    limits = list(found.values())
    one, other = limits if len(limits) == 2 else (None, None)
    alike = one is not None and other is not None and one.name == other.name
    return {"": limits[0]} if alike and np.array_equal(*(limit.values for limit in limits), equal_nan=True) else found
