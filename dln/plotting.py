"""Figures of histories, fit for a paper: one run, two lanes, a sweep.

Every function returns a matplotlib Figure that nobody else holds: nothing is shown, pyplot keeps no reference, and axes
can be changed afterwards (`figure.axes[0].set_ylim(...)`).
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from dln.figures.comparison import plot_comparison
from dln.figures.many import plot_sweep
from dln.figures.run import plot_run
from dln.figures.style import save_figure
from dln.history import History

__all__ = ["plot_comparison", "plot_history", "plot_run", "plot_sweep", "save_figure"]


def plot_history(
    history: History, metrics: Sequence[str] | None = None, title: str | None = None, style: str = "default"
) -> Figure:
    """Draw a run or a comparison, whichever it is: see `plot_run` and `plot_comparison`."""
    is_comparison = "train_loss_a" in history or "train_loss_b" in history
    return (plot_comparison if is_comparison else plot_run)(history, metrics, title, style)
