"""A figure of panels by the values of two keys: one scale for all, one legend, one colour bar."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dln.errors import ConfigError
from dln.figures.style import COLUMN, PAGE, NotebookFigure, style_named
from dln.figures.table_columns import values_of
from dln.figures.table_words import drawable, short, values_named

if TYPE_CHECKING:
    import polars

PANEL, ALONE = (2.25, 1.8), (3.4, 2.5)
"""Width and height of one of several panels, and of one alone, in inches."""

MOST = 48
"""Panels of a figure at most."""

WRAP = 4
"""Panels side by side at most, where the rows are not those of a key: more go on below."""

LETTER = 0.062
"""Width of a letter of legends and labels in inches, about."""

Panel = Callable[["polars.DataFrame", Axes, Sequence[Axes]], Any]
"""Draws the rows of a panel in its axes; given the axes beside which a colour bar is to stand."""


def draw_panels(
    data: polars.DataFrame,
    panel: Panel,
    rows: str | None = None,
    columns: str | None = None,
    title: str = "",
    style: str = "default",
) -> Figure:
    """Return a figure of one panel, or of a panel for each value of one or two keys.

    Args:
        data: Rows with those keys.
        panel: Draws one.
        rows: The key whose values are the rows of panels.
        columns: The key whose values are their columns.
        title: Stands above the figure.
        style: "default" or "paper", where the figure is as wide as one or two columns of a journal.

    Raises:
        ConfigError: There would be too many panels, or there is no such style.
    """
    across, down = values_of(data, columns), values_of(data, rows)
    if len(across) * len(down) > MOST:
        told = " and ".join(key for key in (columns, rows) if key)
        raise ConfigError(
            f"{len(across) * len(down)} panels, one for each value of {told}, are more than {MOST}: "
            "name keys with fewer values (by, rows, columns), or some of the values (where)"
        )
    wrapped = rows is None and len(across) > WRAP
    wide = -(-len(across) // -(-len(across) // WRAP)) if wrapped else len(across)
    high = -(-len(across) // wide) if wrapped else len(down)
    with rc_context(style_named(style)):
        drawn = NotebookFigure(figsize=_size(wide, high, style), layout="constrained", style=style)
        grid = drawn.subplots(high, wide, squeeze=False, sharey="all", sharex="row")
        places = [divmod(j, wide) if wrapped else (i, j) for i in range(len(down)) for j in range(len(across))]
        for axes in [*grid.flat][len(places) :]:
            axes.remove()
        shown = [grid[place] for place in places]
        letters = int((drawn.get_figheight() / high - 0.4) / LETTER)
        names = [_names(key, values) for key, values in ((columns, across), (rows, down))]
        for (i, j), (upper, left) in zip(places, itertools.product(down, across), strict=True):
            axes, some = grid[i, j], data
            for key, value in ((rows, upper), (columns, left)):
                some = some if key is None else some.filter(some[key].eq_missing(value))
            panel(some, axes, [] if i or j else shown)
            above = names[0][left] if wrapped or i == 0 else ""
            _name(axes, above, names[1][upper] if j == wide - 1 else "")
            axes.set_xlabel(axes.get_xlabel() if (i + 1, j) not in places else "")
            axes.set_ylabel("" if j else textwrap.fill(axes.get_ylabel(), letters))
        _one_legend(drawn, style)
        if title:
            drawn.suptitle(drawable(title), fontsize="large")
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")  # it is laid out, once for all formats
    return drawn


def _size(across: int, down: int, style: str) -> tuple[float, float]:
    width, height = PANEL if across * down > 1 else ALONE
    if style == "paper":
        total = COLUMN if across == 1 else PAGE
        return total, down * (2.2 if across * down == 1 else min(height, 0.8 * total / across + 0.4)) + 0.4
    return across * width + 0.3, down * height + 0.4


def _name(axes: Axes, above: str, beside: str) -> None:
    """Write what panels are of above them, and beside them."""
    axes.set_title(above, fontsize="medium")
    if beside:
        axes.annotate(beside, (1, 0.5), (4, 0), "axes fraction", "offset points", rotation=270, va="center")


def _names(key: str | None, values: Sequence[Any]) -> dict[Any, str]:
    """Return what panels are called, by the value of a key."""
    if key is None:
        return {None: ""}
    return {
        value: drawable(f"{short(key)} {name}") for value, name in zip(values, values_named(key, values), strict=True)
    }


def _one_legend(drawn: Figure, style: str) -> None:
    """Put one legend in place of the panels': beside them, or above where there is no room on paper."""
    legends = [legend for axes in drawn.axes if (legend := axes.get_legend())]
    if not legends:
        return
    named: dict[str, Any] = {}
    for legend in legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            named.setdefault(text.get_text(), handle)
    titles = [legend.get_title().get_text() for legend in legends]
    for legend in legends:
        legend.remove()
    title = next((text for text in titles if text), None)
    width = LETTER * max(len(line) for text in [*named, title or ""] for line in text.split("\n")) + 0.5
    across = drawn.get_figwidth()
    if style == "paper":
        columns = max(1, min(len(named), int((across - 0.3) / width)))
        rows = -(-len(named) // columns) + bool(title) + sum(text.count("\n") for text in named)
        drawn.set_figheight(drawn.get_figheight() + 0.13 * rows)
        drawn.legend(
            [*named.values()], [*named], title=title, loc="outside upper left", ncols=columns, alignment="left"
        )
    else:
        drawn.set_figwidth(across + width)
        drawn.legend([*named.values()], [*named], title=title, loc="outside right center", alignment="left")
