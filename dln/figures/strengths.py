"""Singular values of the end-to-end map, and strengths of its modes, beside those that are to be learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dln.figures.columns import of_metric
from dln.figures.known import Data, history_of
from dln.figures.legend import sample
from dln.figures.metric import Entries, complete, draw_metric, flat
from dln.figures.style import TEACHER, drawing
from dln.figures.target import teacher_values
from dln.history import History

STRENGTHS = ("singular_values", "mode_strengths", "midpoint_strengths")
"""Metrics that are drawn beside the teacher's singular values."""


def strengths(
    data: Data,
    axes: Axes | None = None,
    *,
    of: str = "singular_values",
    x: str = "step",
    lanes: Sequence[str] | None = None,
) -> Axes:
    """Draw singular values, or strengths of modes, and the teacher's singular values as dotted lines.

    What theories say of them, as the sigmoids of `aligned_modes`, is dark and dashed.

    Args:
        data: A history, or the directory of a run; the teacher is drawn where a config tells it.
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
        complete(drawn, history, x, draw_strengths(drawn, history, of, x, lanes))
    return drawn


def draw_strengths(
    axes: Axes, history: History, of: str, x: str, lanes: Sequence[str] | None = None, name_lanes: bool = True
) -> Entries:
    """Draw strengths and the teacher's, and return what the legend has to say; see `strengths`."""
    teacher = teacher_values(history)
    highest = -np.inf if teacher is None else 1.04 * teacher.max()
    entries = draw_metric(axes, history, of, x, lanes, name_lanes, highest)
    if teacher is None:
        return entries
    limits = axes.get_ylim()
    count = max(flat(history, column.name).shape[1] for column in of_metric(history, of))
    shown = [value for value in teacher[:count] if value > 0 or axes.get_yscale() != "log"]
    for value in shown:
        axes.axhline(value, color=TEACHER, linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1.3, gid="teacher")
    axes.set_ylim(limits)
    return entries | ({"teacher": sample(TEACHER, (0, (1, 1.5)), 0.9)} if shown else {})
