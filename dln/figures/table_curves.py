"""Curves of conditions against step, time or loss: means or medians, with bands, in the colours of a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection

from dln.errors import ConfigError, suggestion
from dln.figures.style import GREY, RAMP, drawing
from dln.figures.table_axes import (
    band_entry,
    check_log,
    color_entries,
    end_entries,
    fits_log,
    legend_title,
    lost_by,
    ordinary,
    put_band,
    put_bar,
    put_crosses,
    put_legend,
    round_ticks,
    set_range,
    style_entries,
    whole_steps,
)
from dln.figures.table_colors import KeyColors, curve_styles, key_colors
from dln.figures.table_columns import (
    band_of,
    check_names,
    column,
    conditions_of,
    curves_of,
    middle_of,
    rows_by,
    times_of,
)
from dln.figures.table_words import TIME, drawable, said

if TYPE_CHECKING:
    import polars

LOSSES = ("full_train_loss", "train_loss", "full_train_loss_b", "train_loss_b", "test_loss", "test_loss_b")
"""What `x="loss"` is: the first that the table has."""

XS = ("step", "time", "loss")


def curves(
    table: polars.DataFrame,
    of: Sequence[str],
    per: str | None = None,
    x: str = "step",
    middle: str = "mean",
    band: str = "interval",
    names: Sequence[str] | None = None,
    label: str | None = None,
    level: float | None = None,
    log: str | None = None,
    rate: float | None = None,
    confidence: float = 0.95,
    whole: polars.DataFrame | None = None,
    beside: Sequence[Axes] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the means, or medians, of curves of a table, with bands: a colour for each value of a key, or curve.

    What theories say is dashed. Where runs diverge a curve is the mean of the others, a cross on the upper edge marks
    the first record without the run, and the legend says how many there are.

    Args:
        table: Of `dln.aggregate`: its rows are the panel's conditions.
        of: Which curves.
        per: The key that colours tell apart; None: colours are of curves.
        x: "step"; "time", which is lr x step, or the curve `time` where that was recorded; or "loss".
        middle: "mean" or "median".
        band: "interval" of the middle, "quantiles" (the outermost of the table), "std" or "none".
        names: What curves are called; None: by their names.
        label: What the vertical axis is; None: the first curve.
        level: Where to draw a dotted line.
        log: Which axes are logarithmic: "x", "y", "xy", "none"; None: the vertical one where values ask for it.
        rate: The learning rate, where it is no key of the table.
        confidence: Of the table's intervals.
        whole: The table of all panels, which colours, ranges and counts are of; None: this one is.
        beside: Beside which axes a colour bar stands; None: beside these.
        axes: Where to draw; None: in a new figure.

    Raises:
        ConfigError: There is no such curve, key or option.
    """
    check_log(log)
    whole = table if whole is None else whole
    check_names(whole, *of, per)
    styles = curve_styles(of, curves_of(whole))
    colors = key_colors(whole, per, styles[of[0]].color)
    called = dict(zip(of, names or [said(name) for name in of], strict=True))
    keyed = per is not None or len(of) == 1
    conditions = [(value, rows) for value, some in rows_by(table, per).items() for rows in conditions_of(some)]
    fine = whole.filter(ordinary(whole))
    with drawing(axes) as axes:
        around = [band_of(fine, name, middle, band) for name, style in styles.items() if not style.theory]
        shown = np.concatenate([middle_of(fine, name, middle) for name in of])
        set_range(axes, shown, log, level=level, ends=[end for ends in around if ends for end in ends])
        put_x(axes, whole, x, log)
        if level is not None:
            axes.axhline(level, color=GREY, linewidth=0.8, linestyle=":")
        for name, style in styles.items():
            ramp, named = [], set()
            for value, rows in conditions:
                color = colors.of(value) if keyed and not style.theory else style.color
                at, middles = x_of(rows, x, rate), middle_of(rows, name, middle)
                if not style.theory:
                    put_band(axes, at, band_of(rows, name, middle, band), color, colors.norm is not None)
                if colors.norm is not None and value is not None and not style.theory:
                    ramp.append((value, np.column_stack([at, middles])))
                    continue
                text = _text(called[name] if len(of) > 1 else "", "" if per is None else colors.names[value])
                marker = "o" if len(rows) == 1 else ""  # a line through one record would be invisible
                line = style.line | {"color": color, "marker": marker}
                axes.plot(at, middles, label="_more" if text in named else text, **line)
                named.add(text)
            if ramp:
                _put_ramp(axes, ramp, colors, style.dashes)
        if colors.norm is not None:
            put_bar(axes, ScalarMappable(colors.norm, RAMP), str(per), beside)
        for value, rows in conditions:
            put_crosses(axes, lost_places(rows, x, rate), colors.of(value) if keyed else GREY)
        axes.set_ylabel(label or drawable(called[of[0]]))
        lost = lost_by(whole, per)
        entries = [*color_entries(lost, colors), *style_entries(styles, called, coloured=per is not None)]
        entries += band_entry(whole, of[0], middle, band, confidence)
        entries += end_entries(lost, f"curves are {middle}s of the others")
        put_legend(axes, entries, legend_title(colors))
    return axes


def _text(*parts: str) -> str:
    return drawable(", ".join(part for part in parts if part)) or "_alone"


def _put_ramp(axes: Axes, lines: Sequence[tuple[float, np.ndarray]], colors: KeyColors, dashes: Any) -> None:
    """Draw lines in the colours of numbers."""
    collection = LineCollection([xy for _, xy in lines], cmap=RAMP, norm=colors.norm, linestyles=dashes)
    collection.set_array(np.array([value for value, _ in lines], float))
    axes.add_collection(collection)
    axes.autoscale_view()


def x_of(rows: polars.DataFrame, x: str, rate: float | None) -> np.ndarray:
    """Return where the records of a condition lie on the horizontal axis.

    Raises:
        ConfigError: It is none of `XS`, or the table does not say.
    """
    if x not in XS:
        raise ConfigError(f"there is no x {x!r}; {suggestion(x, XS)}")
    if x == "loss":
        return column(rows, f"{loss_of(rows)} mean")
    return times_of(rows, rate) if x == "time" else rows["step"].to_numpy()


def loss_of(table: polars.DataFrame) -> str:
    """Return the loss that is the horizontal axis where that is to be the loss.

    Raises:
        ConfigError: The table has none.
    """
    for name in LOSSES:
        if name in curves_of(table):
            return name
    raise ConfigError(f"the table has no loss to draw against: {', '.join(curves_of(table))}; aggregate test_loss too")


def put_x(axes: Axes, whole: polars.DataFrame, x: str, log: str | None) -> None:
    """Name the horizontal axis and scale it; losses fall to the right."""
    time = "time" if "time mean" in whole.columns else TIME
    axes.set_xlabel({"step": "step", "time": time}.get(x) or said(loss_of(whole)))
    whole_steps(axes, x)
    losses = column(whole, f"{loss_of(whole)} mean") if x == "loss" else np.empty(0)
    if "x" in (log or "") or (log is None and fits_log(losses)):
        axes.set_xscale("log", nonpositive="mask")
        known = losses[losses > 0]
        if len(known):
            axes.set_xlim(known.min() / 1.2, known.max() * 1.2)
            round_ticks(axes.xaxis, known.max() / known.min())
    if x == "loss" and not axes.xaxis_inverted():
        axes.invert_xaxis()


def lost_places(rows: polars.DataFrame, x: str, rate: float | None) -> np.ndarray:
    """Return where runs of a condition are lost: at the first records without them, or the last of all."""
    at, gone = x_of(rows, x, rate), rows["diverged"].to_numpy()
    places = at[np.diff(gone, prepend=0) > 0]
    return np.append(places, at[-1:]) if rows["lost"][0] > gone[-1] else places
