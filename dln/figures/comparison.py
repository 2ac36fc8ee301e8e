"""The figure of two models that were trained in lockstep."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from dln.figures.columns import grouped, parts
from dln.figures.curve import Curve
from dln.figures.panels import draw_panels
from dln.figures.style import GREEN, LANE_RAMPS, LANES, RAMP
from dln.history import History


def plot_comparison(
    history: History, metrics: Sequence[str] | None = None, title: str | None = None, style: str = "default"
) -> Figure:
    """Draw a comparative run: both lanes' losses, their metrics overlaid, and the metrics of the pair.

    Args:
        history: The history of a comparative run, whose columns end in `_a` and `_b`.
        metrics: Metrics to draw, without suffix, in this order; None draws all, `[]` the losses only.
        title: Stands above the figure.
        style: "default" or "paper", a journal's columns.

    Raises:
        KeyError: There is no such column.
    """

    def curve(column: str, key: str, linestyle: str) -> Curve:
        lane = parts(column)[2]
        label = f"{lane[1:]} {key}".strip() or None
        width = 2.0 if lane == "_a" else 1.1  # a is seen beneath b where they agree
        diverged = f"diverged_at{lane}" in history.events
        ramp = LANE_RAMPS.get(lane, RAMP)
        return Curve(history, column, LANES.get(lane, GREEN), label, linestyle, width, ramp, diverged)

    splits = {"train": "-", "test": "--"}
    panels = {"loss": [curve(f"{s}_loss{lane}", s, linestyle) for lane in LANES for s, linestyle in splits.items()]}
    for name, columns in grouped(history, metrics, comparative=True).items():
        keys = list(dict.fromkeys(parts(column)[1] for column in columns))
        linestyles = {key: ("-", "--", ":", "-.")[i % 4] for i, key in enumerate(keys)}
        panels[name] = [curve(column, key := parts(column)[1], linestyles[key]) for column in columns]
    return draw_panels(history, panels, title, style)
