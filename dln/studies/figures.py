"""Figures of studies, fit for a paper: panels by values of two keys, in each what a registered function draws.

A figure is a function of the rows of one panel and its axes, which it returns. Ours are those of `dln.figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dln.base.registry import Registry
from dln.figures import map as maps
from dln.figures import table_curves, table_finals, table_plane, table_ratio
from dln.figures.table_panels import draw_panels
from dln.figures.table_words import RATE
from dln.studies.found import Found

if TYPE_CHECKING:
    import polars

FIGURES = Registry("figure", supplied=("table", "axes", "found", "beside"))
"""What the `figures` of a study may name."""

figure = FIGURES.register
"""Register a function of parameters and, as it asks, a panel's rows (`table`), its `axes`, the part's `found`, and
`beside`: the axes beside which a colour bar is to stand, none where another panel puts it there."""


def draw(
    found: Found,
    name: str,
    params: dict[str, Any],
    rows: str | None = None,
    columns: str | None = None,
    style: str = "default",
) -> Figure:
    """Return a figure of a part: one panel, or a panel for each value of one or two keys.

    Args:
        found: What is drawn.
        name: Of a registered function.
        params: Its parameters.
        rows: The key whose values are the rows of panels.
        columns: The key whose values are their columns.
        style: "default" or "paper".

    Raises:
        ConfigError: There is no such function, key or curve.
        ExtensionError: A function of yours raised anything else.
    """
    found.check(*(key for key in (rows, columns) if key))
    entry = FIGURES.get(name)

    def panel(table: polars.DataFrame, axes: Axes, beside: Sequence[Axes]) -> None:
        supplied = {"table": table, "axes": axes, "found": found, "beside": beside}
        named = {name: supplied[name] for name in entry.asks_for} | params
        entry.call(f"figure {name!r}", named=named, where=f"figure {name!r}")

    return draw_panels(found.table, panel, rows, columns, found.about, style)


@figure("curves")
def curves(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    beside: Sequence[Axes],
    of: list[str],
    per: str | None = None,
    x: str = "time",
    label: str | None = None,
    names: list[str] | None = None,
    level: float | None = None,
    middle: str = "mean",
    band: str = "interval",
    log: str | None = None,
) -> Axes:
    """Draw means, or medians, with bands, against time, step or loss: a colour for each value of a key, or curve.

    What theories say is dashed. `names` are what curves are called, `label` what the axis is; at `level` is a dotted
    line.
    """
    found.check(*of, *([per] if per else []))
    about: dict[str, Any] = {"rate": found.lr, "confidence": found.confidence, "whole": found.table}
    shown: dict[str, Any] = {"names": names, "label": label, "level": level, "log": log, "beside": beside}
    return table_curves.curves(table, of, per, x, middle, band, **shown, **about, axes=axes)


@figure("map")
def final_map(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    beside: Sequence[Axes],
    of: str = "test_loss",
    x: str = RATE,
    y: str = "model.gamma",
    middle: str = "mean",
    label: str | None = None,
    nothing: str = "no value",
    log: str | None = None,
) -> Axes:
    """Draw how runs end over two keys, as colours of cells; hatched where all diverge, crossed where some do."""
    found.check(of, x, y)
    shown: dict[str, Any] = {"label": label, "nothing": nothing, "log": log, "beside": beside}
    return maps.final_map(table, of, x, y, middle, **shown, whole=found.table, axes=axes)


@figure("ratio")
def ratio(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    beside: Sequence[Axes],
    of: str = "test_loss",
    per: str | None = "training.batch_size",
    x: str = "time",
    baseline: str = "baseline",
    log: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draw the ratio of a curve's mean to its baseline, with intervals; conditions without a baseline are left out."""
    found.check(of, *([per] if per else []))
    about: dict[str, Any] = {"rate": found.lr, "confidence": found.confidence, "whole": found.table}
    return table_ratio.ratio(table, of, per, x, log, baseline, label, **about, beside=beside, axes=axes)


@figure("finals")
def finals(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    beside: Sequence[Axes],
    of: str = "test_loss",
    x: str = RATE,
    per: str | None = None,
    sharpness: str | None = None,
    middle: str = "mean",
    band: str = "interval",
    label: str | None = None,
    log: str | None = None,
) -> Axes:
    """Draw how runs end against a key: means, or medians, with bands, and crosses at the top where runs diverge.

    With the name of a curve of the sharpness, a vertical line is at 2 / that at the end of the smallest rate.
    """
    found.check(of, x, *([per] if per else []), *([sharpness] if sharpness else []))
    about: dict[str, Any] = {"confidence": found.confidence, "whole": found.table, "beside": beside}
    return table_finals.finals(table, of, x, per, sharpness, middle, band, label, log, **about, axes=axes)


@figure("plane")
def plane(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    beside: Sequence[Axes],
    x: str,
    y: str,
    per: str | None = None,
    middle: str = "mean",
    log: str | None = None,
) -> Axes:
    """Draw the way of each condition in the plane of two curves: a ring where it begins, a dot where it ends."""
    found.check(x, y, *([per] if per else []))
    return table_plane.plane(table, x, y, per, middle, log, found.table, beside, axes)
