"""Histories made up for figures, and what one looks for in figures."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from dln.figures.style import NotebookFigure
from dln.history import History


def single(steps: int = 6, **columns) -> History:
    records = [
        {"step": s, "train_loss": 10.0 ** (1 - s), "test_loss": 2 * 10.0 ** (1 - s)}
        | {name: f(s) for name, f in columns.items()}
        for s in range(steps)
    ]
    return History(records)


def comparative(**columns) -> History:
    records = [
        {"step": s}
        | {
            f"{split}_loss_{lane}": (s + 1.0) / scale
            for split in ("train", "test")
            for lane, scale in (("a", 1), ("b", 2))
        }
        | {name: f(s) for name, f in columns.items()}
        for s in range(5)
    ]
    return History(records)


def config(**training) -> dict[str, Any]:
    """What a stored config says of a small run, as far as figures look at it."""
    model = {"in_dim": 3, "out_dim": 2, "num_hidden": 1, "hidden_dim": 4, "bias": False}
    return {
        "model": model,
        "training": {"lr": 0.1, "batch_size": None, "optimizer": "SGD", "criterion": "MSELoss"} | training,
        "callbacks": [],
        "data": {"params": {"matrix": "diagonal", "scale": 3.0}, "train_samples": 20, "data_seed": 1},
    }


def panel(figure, label: str) -> Axes:
    return next(ax for ax in figure.axes if ax.get_ylabel() == label)


def labels(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def legend_of(figure: Figure) -> list[str]:
    """What the legend of a figure of several panels says."""
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def of(ax: Axes, *gids: str) -> list[Any]:
    """What was drawn for a purpose: marks, levels, the teacher, a limit."""
    return [artist for artist in ax.get_children() if artist.get_gid() in gids]


def curves(ax: Axes) -> list[Any]:
    """The lines of columns."""
    return [line for line in ax.lines if line.get_gid() is None]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Texts and legends of a figure that overlap when it is drawn."""
    figure.draw_without_rendering()
    with rc_context(figure.style if isinstance(figure, NotebookFigure) else {}):  # where ticks are depends on it
        return _overlaps(figure)


def _overlaps(figure: Figure) -> list[tuple[str, str]]:
    legends = figure.findobj(Legend)
    apart = {text for legend in legends for text in legend.findobj(Text)}
    apart |= {label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in _beyond(axis)}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    known = [(text.get_text(), text.get_window_extent()) for text in texts if text not in apart]
    known += [("legend", legend.get_window_extent()) for legend in legends]
    return [(a, b) for (a, one), (b, other) in combinations(known, 2) if _meet(one, other)]


def _beyond(axis: Axis) -> set[Text]:
    """The labels of ticks that are not drawn: those beyond the ends of an axis, and those of an earlier layout."""
    low, high = sorted(axis.get_view_interval())
    shown = set()
    for minor in (False, True):
        places = axis.get_ticklocs(minor=minor)
        labels = axis.get_ticklabels(minor=minor)
        shown |= {label for place, label in zip(places, labels, strict=False) if low <= place <= high}
    return {label for tick in [*axis.majorTicks, *axis.minorTicks] for label in (tick.label1, tick.label2)} - shown


def _meet(one: Any, other: Any) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > 1 and high > 2
