"""Phase diagrams: how runs end over two keys, a cell for each combination of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, MaxNLocator

from dln.figures.map_cells import Cells, cells_of
from dln.figures.style import GREY, RAMP, drawing
from dln.figures.table_axes import check_log, fits_log, lost_by, put_legend
from dln.figures.table_columns import check_names, ends_of, middle_of, values_of
from dln.figures.table_words import drawable, said, short

if TYPE_CHECKING:
    import polars

SMOOTH = 6
"""Values of a key from which on lines of equal value are drawn on a map: fewer make no line."""

PIECES = 6
"""Pieces of a line of equal value up to which it says anything: noise breaks it into many."""

VECTOR = 600
"""Cells up to which a map is drawn as paths in vector formats, and from which on as an image."""

ALL_DIVERGED, SOME_DIVERGED = "all diverged", "some diverged: the others"
NOTHING, NOT_RUN = "no value", "not run"
FACES: dict[str, dict[str, Any]] = {
    ALL_DIVERGED: {"facecolor": "white", "edgecolor": GREY, "hatch": "/////", "linewidth": 0},
    NOTHING: {"facecolor": "#D8D8D8", "linewidth": 0},
    NOT_RUN: {"facecolor": "white", "edgecolor": "#BBBBBB", "linewidth": 0.6, "linestyle": ":"},
}
"""How cells without a value look."""


def final_map(
    table: polars.DataFrame,
    of: str = "test_loss",
    x: str = "training.lr",
    y: str = "model.gamma",
    middle: str = "mean",
    label: str | None = None,
    nothing: str = "no value",
    log: str | None = None,
    whole: polars.DataFrame | None = None,
    beside: Sequence[Axes] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw how runs end over two keys, as the colours of cells; nothing is interpolated.

    Where all runs diverge a cell is hatched; where some do it has a cross, and the colour of the others. Cells without
    a value are grey, those that were not run are empty. Lines of equal value are there where there are many cells.

    Args:
        table: Of `dln.aggregate`; the last row of each condition counts.
        of: Which curve.
        x: The key of the horizontal axis.
        y: That of the vertical one.
        middle: "mean" or "median" of the runs that do not diverge.
        label: What the colours are; None: the curve.
        nothing: What cells are called whose runs are there and have no value.
        log: Which axes are logarithmic; None: those on which cells are then more alike.
        whole: The table of all panels, which the colours' scale is of; None: this one is.
        beside: Beside which axes the colour bar stands; None: beside these.
        axes: Where to draw; None: in a new figure.

    Raises:
        ConfigError: There is no such curve, key or option.
    """
    check_log(log)
    whole = table if whole is None else whole
    check_names(whole, of, x, y)
    across = cells_of(x, values_of(whole, x), None if log is None else "x" in log)
    down = cells_of(y, values_of(whole, y), None if log is None else "y" in log)
    every = ends_of(whole)
    every = every.filter(every["lost"] < every["runs"])
    norm = _norm(middle_of(every, of, middle))
    grid = _Grid(ends_of(table), of, middle, across, down)
    with drawing(axes) as axes:
        across.label(axes, "x")
        down.label(axes, "y")
        shown = np.ma.masked_invalid(grid.values)
        mesh = axes.pcolormesh(across.edges, down.edges, shown, cmap=RAMP, norm=norm, rasterized=shown.size > VECTOR)
        marks = _put_marks(axes, grid, across, down, nothing)
        lines = _put_contours(axes, shown, norm, across, down)
        _put_bar(axes, mesh, label or f"final {said(of)}", lines, beside)
        axes.set_xlabel(drawable(short(x)))
        axes.set_ylabel(drawable(short(y)))
        lost, runs = lost_by(whole, None)[None]
        put_legend(axes, marks, f"{lost} of {runs} runs diverged" if lost else None)
    return axes


class _Grid:
    """What the cells of a map hold: `values` [rows, columns], NaN where there are none, and why."""

    def __init__(self, ends: polars.DataFrame, of: str, middle: str, across: Cells, down: Cells) -> None:
        shape = len(down.values), len(across.values)
        self.values = np.full(shape, np.nan)
        self.lost, self.runs = np.zeros(shape, int), np.zeros(shape, int)
        for row, value in zip(ends.iter_rows(named=True), middle_of(ends, of, middle), strict=True):
            place = down.values.index(row[down.key]), across.values.index(row[across.key])
            self.values[place] = value if row["lost"] < row["runs"] else np.nan
            self.lost[place], self.runs[place] = row["lost"], row["runs"]

    @property
    def states(self) -> dict[str, np.ndarray]:
        """Which cells are in a state that is marked."""
        there, dead = self.runs > 0, (self.runs > 0) & (self.lost == self.runs)
        return {
            ALL_DIVERGED: dead,
            SOME_DIVERGED: (self.lost > 0) & ~dead,
            NOTHING: there & ~dead & np.isnan(self.values),
            NOT_RUN: ~there,
        }


def _norm(values: np.ndarray) -> Normalize:
    known = values[np.isfinite(values)]
    norm = LogNorm() if fits_log(known) else Normalize()
    norm.autoscale(known if len(known) else np.array([1.0]))
    return norm


def _put_marks(axes: Axes, grid: _Grid, across: Cells, down: Cells, nothing: str) -> list[tuple[Any, str]]:
    """Mark the cells that have no value, or one of some of their runs; return the legend's entries."""
    entries: list[tuple[Any, str]] = []
    for state, where in grid.states.items():
        rows, columns = np.nonzero(where)
        if not len(rows):
            continue
        if state == SOME_DIVERGED:
            for color, size, width in (("white", 5.0, 2.2), ("black", 4.0, 0.9)):
                style: dict[str, Any] = {"color": color, "markersize": size, "markeredgewidth": width}
                axes.plot(across.centres[columns], down.centres[rows], "x", **style)
            entries.append((Line2D([], [], color="black", linestyle="", marker="x", markersize=4), state))
            continue
        corners = [(across.edges[columns + i], down.edges[rows + j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        outlines = np.moveaxis(np.array(corners), 2, 0)
        axes.add_collection(PolyCollection([*outlines], rasterized=where.size > VECTOR, **FACES[state]), autolim=False)
        entries.append((Patch(**FACES[state]), nothing if state == NOTHING else state))
    return entries


def _put_contours(axes: Axes, shown: np.ma.MaskedArray, norm: Normalize, across: Cells, down: Cells) -> Any:
    """Draw white lines of equal value through the centres of cells; None where there are few cells, or all is noise."""
    if min(shown.shape) < SMOOTH or shown.count() <= SMOOTH:
        return None
    low, high = float(shown.min()), float(shown.max())
    locator = LogLocator(numticks=6) if isinstance(norm, LogNorm) else MaxNLocator(5)
    levels = [level for level in locator.tick_values(low, high) if low < level < high]
    if not levels:
        return None
    lines = axes.contour(across.centres, down.centres, shown, levels=levels, colors="white", linewidths=0.7)
    begun = [np.asarray(path.codes) == Path.MOVETO for path in lines.get_paths() if path.codes is not None]
    pieces = sum(int(some.sum()) for some in begun)
    if pieces > PIECES * len(levels):
        lines.remove()
        return None
    return lines


def _put_bar(axes: Axes, mesh: Any, label: str, lines: Any, beside: Sequence[Axes] | None) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    if beside is not None and not len(beside):
        return
    bar = figure.colorbar(mesh, ax=axes if beside is None else [*beside], label=drawable(label))
    if lines is not None:
        bar.add_lines(lines)
