"""Figures of histories, fit for a paper: one run, two lanes, a sweep; and the panels that they are made of.

`plot_...` return a matplotlib Figure that nobody else holds: nothing is shown, pyplot keeps no reference, and axes can
be changed afterwards (`figure.axes[0].set_ylim(...)`). All else takes data and axes, and returns the axes.
"""

from __future__ import annotations

from dln.figures.losses import losses
from dln.figures.many import plot_sweep, runs
from dln.figures.metric import metric
from dln.figures.plane import plane
from dln.figures.run import plot_comparison, plot_history, plot_run
from dln.figures.sharpness import sharpness
from dln.figures.strengths import strengths
from dln.figures.style import save_figure
from dln.figures.weights import matrix, plot_weights

__all__ = [
    "losses",
    "matrix",
    "metric",
    "plane",
    "plot_comparison",
    "plot_history",
    "plot_run",
    "plot_sweep",
    "plot_weights",
    "runs",
    "save_figure",
    "sharpness",
    "strengths",
]
