"""Figures of histories, fit for a paper: one run, two lanes, a sweep.

Every function returns a matplotlib Figure that nobody else holds: nothing is shown, pyplot keeps no reference, and axes
can be changed afterwards (`figure.axes[0].set_ylim(...)`).
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from dln.base.files import from_home
from dln.base.notebook import is_shown
from dln.errors import StorageError
from dln.history import History
from dln.predictions import OF_PAIRS, conditions_of, theories_of, told_by

# Okabe and Ito's palette, which colour-blind readers can tell apart.
PALETTE = BLUE, ORANGE, GREEN, PURPLE, SKY = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
LANES = {"_a": BLUE, "_b": "#D55E00"}
LANE_RAMPS = {
    lane: LinearSegmentedColormap.from_list(lane, [LANES[lane], light])
    for lane, light in (("_a", "#B3D4EA"), ("_b", "#F5CDB2"))
}
RAMP = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))  # without the yellows that are lost on white
GREY = "#555555"
DARK = "#222222"
DASHES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))  # what theories say is dark, each in dashes of its own

STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.xmargin": 0.01,
    "axes.formatter.use_mathtext": True,
    "axes.formatter.useoffset": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
}
LEGEND_ENTRIES = 6  # sweeps over more numbers have a colour bar


class NotebookFigure(Figure):
    """A figure that notebooks show although pyplot does not know it, in our style whoever has it drawn."""

    def draw(self, renderer: RendererBase) -> None:
        """Draw it; ticks are made only now, and must be made in this style."""
        with rc_context(STYLE):
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        is_shown(self)
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi="figure")
        return buffer.getvalue()


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


def plot_history(history: History, metrics: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw a run or a comparison, whichever it is: see `plot_run` and `plot_comparison`."""
    is_comparison = "train_loss_a" in history or "train_loss_b" in history
    return (plot_comparison if is_comparison else plot_run)(history, metrics, title)


def plot_run(history: History, metrics: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw a single run: its losses on a logarithmic axis, then one panel for each further metric.

    What theories say is drawn over what the run does, dark and dashed; the legend says how good they are.

    Args:
        history: The history of a single run.
        metrics: Metrics (or columns) to draw, in this order; None draws all of the run and how far it is from what
            theories say, `[]` the losses only.
        title: Stands above the figure.

    Raises:
        KeyError: There is no such column.
    """
    theories = theories_of(history.names)
    losses = [Curve(history, "train_loss", BLUE, "train"), Curve(history, "test_loss", ORANGE, "test")]
    panels = {"loss": losses + _predicted(history, ["train_loss", "test_loss"], theories, conditions=True)}
    for name, columns in _grouped(history, metrics, comparative=False).items():
        own = [column for column in columns if not told_by(column, theories)[1]]
        curves = [
            Curve(history, column, PALETTE[i % len(PALETTE)], _parts(column)[1] or None, ramp=RAMP)
            for i, column in enumerate(own)
        ]
        panels[name] = curves + _predicted(history, own or _told(columns, theories), theories)
    return _draw(history, panels, title)


def _told(columns: Sequence[str], theories: Sequence[str]) -> list[str]:
    """Return what some columns of theories are of."""
    return list(dict.fromkeys(told_by(column, theories)[0] for column in columns))


def _predicted(
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
                curves.append(Curve(history, named, DARK, label, dashes, 1.0, spread=band))
    return curves


def plot_comparison(history: History, metrics: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw a comparative run: both lanes' losses, their metrics overlaid, and the metrics of the pair.

    Args:
        history: The history of a comparative run, whose columns end in `_a` and `_b`.
        metrics: Metrics to draw, without suffix, in this order; None draws all, `[]` the losses only.
        title: Stands above the figure.

    Raises:
        KeyError: There is no such column.
    """

    def curve(column: str, key: str, linestyle: str) -> Curve:
        lane = _parts(column)[2]
        label = f"{lane[1:]} {key}".strip() or None
        width = 2.0 if lane == "_a" else 1.1  # a is seen beneath b where they agree
        diverged = f"diverged_at{lane}" in history.events
        ramp = LANE_RAMPS.get(lane, RAMP)
        return Curve(history, column, LANES.get(lane, GREEN), label, linestyle, width, ramp, diverged)

    splits = {"train": "-", "test": "--"}
    panels = {"loss": [curve(f"{s}_loss{lane}", s, linestyle) for lane in LANES for s, linestyle in splits.items()]}
    for name, columns in _grouped(history, metrics, comparative=True).items():
        keys = list(dict.fromkeys(_parts(column)[1] for column in columns))
        linestyles = {key: ("-", "--", ":", "-.")[i % 4] for i, key in enumerate(keys)}
        panels[name] = [curve(column, key := _parts(column)[1], linestyles[key]) for column in columns]
    return _draw(history, panels, title)


def plot_sweep(
    histories: Mapping[Any, History], key: str = "", metric: str = "train_loss", title: str | None = None
) -> Figure:
    """Draw one metric of many runs, one curve for each value of the swept key; a cross marks where a run diverged.

    Args:
        histories: What the key was set to, and the history it gave.
        key: The key that was swept, for the legend.
        metric: The column to draw; of comparative runs, `train_loss` means both lanes, a solid and b dashed.
        title: Stands above the figure.

    Raises:
        KeyError: There is no such column.
    """
    norm = _norm(list(histories))
    scale = norm or Normalize(0, max(len(histories) - 1, 1))
    colors = [RAMP(scale(value if norm else i)) for i, value in enumerate(histories)]
    runs = list(zip(histories.values(), colors, strict=True))
    curves = [
        Curve(history, column, color, linestyle=linestyle, diverged=history.diverged_at is not None)
        for history, color in runs
        for column, linestyle in _lane_columns(history, metric).items()
    ]
    with rc_context(STYLE):
        figure = NotebookFigure(figsize=(4.6, 3.0), layout="constrained")
        ax = figure.subplots()
        _draw_curves(ax, metric, curves)
        ax.set_xlabel("step")
        edge: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False}
        for history, color in runs:
            if history.diverged_at is not None:
                ax.plot(history.diverged_at, 1, "x", color=color, markeredgewidth=1.5, **edge)
        if any(curve.linestyle == "--" for curve in curves):
            lane_a = Line2D([], [], color=GREY, linestyle="-", label="a")
            lane_b = Line2D([], [], color=GREY, linestyle="--", label="b")
            figure.legend(handles=[lane_a, lane_b], loc="outside upper left", ncols=2)
        if norm and len(histories) > LEGEND_ENTRIES:
            figure.colorbar(ScalarMappable(norm, RAMP), ax=ax, label=key, aspect=30)
        else:
            ends = [" (diverged)" if history.diverged_at is not None else "" for history in histories.values()]
            names = [("null" if v is None else str(v)) + end for v, end in zip(histories, ends, strict=True)]
            lines = [Line2D([], [], color=color) for color in colors]
            ax.legend(lines, names, title=key or None, loc="center left", bbox_to_anchor=(1.02, 0.5))
        return _titled(figure, title)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a figure as png (200 dpi), pdf or svg, by the suffix of `path`; folders are made. Return the path.

    Raises:
        StorageError: The suffix is another one, or the file cannot be written.
    """
    path = from_home(path)
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise StorageError(f"cannot save a figure as {path.name!r}; the suffix must be .png, .pdf or .svg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rc_context(STYLE):
            figure.savefig(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    return path


# --- which columns go together ----------------------------------------------------------------------------------------


def _parts(column: str) -> tuple[str, str, str]:
    """Return the metric, the key (of one that returns a dict) and the lane: `norms_a.first` is of `norms`, lane a."""
    head, _, key = column.partition(".")
    lane = head[-2:] if head.endswith(tuple(LANES)) else ""
    return head.removesuffix(lane), key, lane


def _grouped(history: History, metrics: Sequence[str] | None, comparative: bool) -> dict[str, list[str]]:
    """Return the metrics to draw, each with its columns."""
    groups: dict[str, list[str]] = {}
    theories = [] if comparative else theories_of(history.names)
    for column in history.names:
        name, _, lane = _parts(column)
        of, theory = told_by(name if comparative else name + lane, theories)
        if not (theory and of.endswith("_std")):  # which is drawn as a band
            groups.setdefault(of, []).append(column)
    if metrics is None:
        drawn = {"step", "train_loss", "test_loss"}
        told = {name for name, columns in groups.items() if all(told_by(column, theories)[1] for column in columns)}
        drawn |= {name for name in told if _parts(name)[0] not in OF_PAIRS}  # flags and the like: to be asked for
        return {name: columns for name, columns in groups.items() if name not in drawn}
    for name in metrics:
        if name not in groups:
            history[name]  # raises, and lists the columns there are
    return {name: groups.get(name, [name]) for name in metrics}


def _lane_columns(history: History, metric: str) -> dict[str, str]:
    """Return the columns that `metric` names, and the line each is drawn with."""
    lanes = {column: line for column, line in ((f"{metric}_a", "-"), (f"{metric}_b", "--")) if column in history}
    return {metric: "-"} if metric in history or not lanes else lanes


# --- drawing ----------------------------------------------------------------------------------------------------------


def _draw(history: History, panels: Mapping[str, list[Curve]], title: str | None) -> Figure:
    """Draw the panels in rows of up to three, all over the same steps."""
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    with rc_context(STYLE):
        legends = [sum(1 + (curve.label or "").count("\n") for curve in curves) for curves in panels.values()]
        height = 2.5 * rows + 0.1 + 0.13 * max(0, max(legends) - 4)
        figure = NotebookFigure(figsize=(3.3 * columns + 0.3, height), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
        for ax in axes[len(panels) :]:
            ax.remove()
        for i, (ax, (name, curves)) in enumerate(zip(axes, panels.items(), strict=False)):
            _draw_curves(ax, name, [curve for curve in curves if curve.column in history])
            _mark_events(ax, history.ends, labelled=i == 0)
            if i + columns >= len(panels):  # nothing below
                ax.set_xlabel("step")
                ax.tick_params(labelbottom=True)
            entries = len(ax.get_legend_handles_labels()[0])
            if entries:  # above the panel, where it covers nothing
                long = any("\n" in label or len(label) > 24 for label in ax.get_legend_handles_labels()[1])
                ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if long else 2 if entries == 4 else 3)
        return _titled(figure, title)


def _draw_curves(ax: Axes, name: str, curves: Sequence[Curve]) -> None:
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


def _mark_events(ax: Axes, events: Mapping[str, int], labelled: bool) -> None:
    """Draw a thin vertical line where a lane diverged or was stopped."""
    for event, step in events.items():
        name, _, lane = _parts(event)
        label = f"{lane[1:]} {name.removesuffix('_at')} at {step}".strip() if labelled else None
        ax.axvline(step, color=LANES.get(lane, GREY), linewidth=0.8, linestyle=":", label=label)


def _norm(values: Sequence[Any]) -> Normalize | None:
    """Return what maps swept values to the ramp, logarithmic if they span a decade; None if not all are numbers."""
    if not values or any(isinstance(v, bool) or not isinstance(v, int | float | np.number) for v in values):
        return None
    low, high = float(min(values)), float(max(values))
    return LogNorm(low, high) if low > 0 and high / low >= 10 else Normalize(low, high)


def _titled(figure: Figure, title: str | None) -> Figure:
    if title is not None:
        figure.suptitle(title)
    return figure
