"""The figure of one run."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from dln.figures.columns import grouped, parts
from dln.figures.curve import Curve
from dln.figures.panels import draw_panels
from dln.figures.style import DASHES, PALETTE, RAMP, TEST, THEORY, TRAIN
from dln.history import History
from dln.predictions import conditions_of, theories_of, told_by


def plot_run(
    history: History, metrics: Sequence[str] | None = None, title: str | None = None, style: str = "default"
) -> Figure:
    """Draw a single run: its losses on a logarithmic axis, then one panel for each further metric.

    What theories say is drawn over what the run does, dark and dashed; the legend says how good they are.

    Args:
        history: The history of a single run.
        metrics: Metrics (or columns) to draw, in this order; None draws all of the run and how far it is from what
            theories say, `[]` the losses only.
        title: Stands above the figure.
        style: "default" or "paper", a journal's columns.

    Raises:
        KeyError: There is no such column.
    """
    theories = theories_of(history.names)
    losses = [Curve(history, "train_loss", TRAIN, "train"), Curve(history, "test_loss", TEST, "test")]
    panels = {"loss": losses + predicted(history, ["train_loss", "test_loss"], theories, conditions=True)}
    for name, columns in grouped(history, metrics, comparative=False).items():
        own = [column for column in columns if not told_by(column, theories)[1]]
        curves = [
            Curve(history, column, PALETTE[i % len(PALETTE)], parts(column)[1] or None, ramp=RAMP)
            for i, column in enumerate(own)
        ]
        panels[name] = curves + predicted(history, own or _told(columns, theories), theories)
    return draw_panels(history, panels, title, style)


def _told(columns: Sequence[str], theories: Sequence[str]) -> list[str]:
    """Return what some columns of theories are of."""
    return list(dict.fromkeys(told_by(column, theories)[0] for column in columns))


def predicted(
    history: History, columns: Sequence[str], theories: Sequence[str], conditions: bool = False
) -> list[Curve]:
    """Return what theories say of some columns; labels say how good they are, if `conditions`."""
    curves = []
    for theory, dashes in zip(theories, itertools.cycle(DASHES)):
        good = conditions_of(history.events, theory) if conditions else {}
        told = ", ".join([theory, *(f"{name.replace('_', ' ')} {value:.2g}" for name, value in good.items())])
        told = textwrap.fill(told, 44, subsequent_indent="   ")
        for column in columns:
            head, dot, key = column.partition(".")
            named = f"{head}_{theory}{dot}{key}"
            if named in history:
                label = None if any(curve.label == told for curve in curves) else told
                spread = f"{head}_std_{theory}{dot}{key}"
                band = spread if spread in history else None
                curves.append(Curve(history, named, THEORY, label, dashes, 1.0, spread=band))
    return curves
