"""The figure of one run, or of two models that were trained in lockstep."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from dln.figures.known import Data, history_of
from dln.figures.panels import draw_panels


def plot_history(
    data: Data,
    metrics: Sequence[str] | None = None,
    title: str | None = None,
    style: str = "default",
    x: str = "step",
) -> Figure:
    """Draw a run or a comparison: its losses on a logarithmic axis, then one panel for each further metric.

    What theories say is drawn over what the run does, dark and dashed; the legend says how good they are. What happened
    is marked: where the run ended early, where callbacks intervened, the events that were found. Singular values stand
    beside the teacher's, the sharpness beside the largest stable one, the losses beside those at the saddles. Of a
    comparison a colour is a model, which the legend names by what differs in its config: `a: lr 0.01`.

    Args:
        data: A history, or the directory of a run.
        metrics: Metrics (or columns) to draw, without the suffix of a model, in this order; None draws all of the run
            and how far it is from what theories say, `[]` the losses only.
        title: Stands above the figure.
        style: "default", or "paper", a journal's columns.
        x: The horizontal axis: "step", "time" (the sum of the learning rates so far) or "loss", each model's own.

    Raises:
        KeyError: There is no such column.
        ConfigError: There is no such axis or style, or the run tells no time.
        StorageError: There is no run in the directory.
    """
    return draw_panels(history_of(data), metrics, title, style, x)


def plot_run(
    data: Data,
    metrics: Sequence[str] | None = None,
    title: str | None = None,
    style: str = "default",
    x: str = "step",
) -> Figure:
    """Draw a single run: see `plot_history`."""
    return plot_history(data, metrics, title, style, x)


def plot_comparison(
    data: Data,
    metrics: Sequence[str] | None = None,
    title: str | None = None,
    style: str = "default",
    x: str = "step",
) -> Figure:
    """Draw a comparative run, both models in each panel: see `plot_history`."""
    return plot_history(data, metrics, title, style, x)
