"""Curves in one panel: how each is drawn, which axis fits them, and the numbers beside the ends of families."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from dln.history import History


@dataclass(frozen=True)
class Curve:
    """How a column is drawn; one of vectors is a family of curves, coloured along `ramp`."""

    history: History
    column: str
    color: Any
    label: str | None = None
    linestyle: Any = "-"
    linewidth: float = 1.2
    ramp: Colormap | None = None
    diverged: bool = False
    spread: str | None = None
    """The column of its standard deviation, which is drawn as a band."""

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return steps [T] and values [T, k], infinities as NaN; empty if a run diverged before its first record."""
        if not len(self.history):
            return np.empty(0), np.empty((0, 1))
        values = self.history[self.column]
        return self.history["step"], np.where(np.isfinite(values), values, np.nan).reshape(len(values), -1)

    def colors(self, count: int) -> list[Any]:
        """Return the colours of a family of `count` curves."""
        return [self.color] * count if count == 1 or self.ramp is None else list(self.ramp(np.linspace(0, 1, count)))


def draw_curves(ax: Axes, name: str, curves: Sequence[Curve]) -> None:
    """Draw the curves of one panel, in order."""
    families = [curve.data() for curve in curves]
    lines: dict[bool, list[Line2D]] = {True: [], False: []}
    for curve, (steps, family) in zip(curves, families, strict=True):
        if curve.spread is not None:
            std = curve.history[curve.spread].reshape(family.shape)
            for i in range(family.shape[1]):
                low, high = family[:, i] - std[:, i], family[:, i] + std[:, i]
                ax.fill_between(steps, low, high, color=curve.color, alpha=0.15, linewidth=0)
        marker = "o" if len(steps) == 1 else ""  # a line through one record would be invisible
        for i, color in enumerate(curve.colors(family.shape[1])):
            label = curve.label if i == 0 else None
            style = {"linestyle": curve.linestyle, "linewidth": curve.linewidth, "zorder": _zorder(family[:, i])}
            lines[curve.diverged] += ax.plot(steps, family[:, i], color=color, label=label, marker=marker, **style)
    ax.set_ylabel(name.replace("_", " "))
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=True))
    if _fits_log([family for _, family in families], loss="loss" in name):
        ax.set_yscale("log", nonpositive="mask")
    if lines[True] and lines[False]:  # those that exploded leave the panel instead of squeezing the others
        _fit_range(ax, lines[False])
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log" and high / low < 15:  # one power of ten, or none: round numbers say more
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_locator(NullLocator())
    taken: list[float] = []
    for curve, (_, family) in zip(curves, families, strict=True):
        if len(family) and family.shape[1] > 1 and curve.ramp is not None:
            _label_ends(ax, family[-1], curve.colors(family.shape[1]), taken)


def _zorder(values: np.ndarray) -> float:
    """Return where to stack a curve, smooth above noisy: by its total variation relative to its range."""
    values = values[~np.isnan(values)]
    spread = np.ptp(values) if len(values) else 0.0
    return 2.4 - 0.05 * round(math.log2(np.abs(np.diff(values) / spread).sum())) if spread > 0 else 2.4


def _fits_log(families: Sequence[np.ndarray], loss: bool) -> bool:
    """Whether a logarithmic axis fits: for a metric, where a linear one would have most of every curve on its floor."""
    curves = [c[~np.isnan(c)] for family in families for c in family.T if not np.isnan(c).all()]
    top = max((c.max() for c in curves), default=0.0)
    if not top > 0 or min(c.min() for c in curves) < 0:
        return False
    return bool(loss or max(np.median(c) for c in curves) < top / 100)


def _fit_range(ax: Axes, lines: Sequence[Line2D]) -> None:
    """Choose the vertical range by some of the lines."""
    others = [line for line in ax.lines if line not in lines]
    for visible in (False, True):
        for line in others:
            line.set_visible(visible)
        ax.relim(visible_only=True)
        ax.autoscale_view()
        ax.set_ylim(ax.get_ylim())


def _label_ends(ax: Axes, ends: np.ndarray, colors: Sequence[Any], taken: list[float]) -> None:
    """Write curves' numbers (from 1) beside their ends; those too close to be told apart share a label.

    Labels keep clear of the heights `taken`, fractions of the panel, and add theirs.
    """
    low, high = ax.transScale.transform([(1, y) for y in ax.get_ylim()])[:, 1]
    labels: dict[float, list[int]] = {}
    for i, end in enumerate(ends):
        height = float((ax.transScale.transform((1, end))[1] - low) / (high - low))
        near = [members for other, members in labels.items() if abs(height - other) < 0.06]
        if near:
            near[0].append(i + 1)
        elif 0 <= height <= 1 and all(abs(height - other) >= 0.06 for other in taken):
            labels[height] = [i + 1]
    for height, members in labels.items():
        text = f"{members[0]}–{members[-1]}" if len(members) > 3 else ", ".join(map(str, members))  # noqa: RUF001
        style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": colors[members[0] - 1]}
        ax.annotate(text, (1, height), (3, 0), "axes fraction", fontsize=7, **style)
    taken += labels
