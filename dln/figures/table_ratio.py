"""Ratios of conditions to their baseline, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.patches import Patch

from dln.errors import ConfigError
from dln.figures.style import GREY, RAMP, drawing
from dln.figures.table_axes import (
    check_log,
    color_entries,
    end_entries,
    legend_title,
    lost_by,
    ordinary,
    put_band,
    put_bar,
    put_crosses,
    put_legend,
    set_range,
)
from dln.figures.table_colors import key_colors
from dln.figures.table_columns import check_names, column, conditions_of, rows_by
from dln.figures.table_curves import lost_places, put_x, x_of
from dln.figures.table_words import drawable, said

if TYPE_CHECKING:
    import polars


def ratio(
    table: polars.DataFrame,
    of: str = "test_loss",
    per: str | None = None,
    x: str = "step",
    log: str | None = None,
    baseline: str = "baseline",
    label: str | None = None,
    rate: float | None = None,
    confidence: float = 0.95,
    whole: polars.DataFrame | None = None,
    beside: Sequence[Axes] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw the ratio of a curve's mean to its baseline, with its interval; the baselines themselves are left out.

    Args:
        table: Of `dln.aggregate` with a baseline.
        of: Which curve.
        per: The key that colours tell apart; None: all have one colour.
        x: "step", "time" or "loss": see `curves`.
        log: As of `curves`.
        baseline: What the baseline is called.
        label: What the vertical axis is; None: the curve / the baseline.
        rate: As of `curves`, and so all others.
        confidence: Of the table's intervals.
        whole: The table of all panels.
        beside: Beside which axes a colour bar stands.
        axes: Where to draw; None: in a new figure.

    Raises:
        ConfigError: There is no such curve or key, or the table has no baseline.
    """
    check_log(log)
    whole = table if whole is None else whole
    check_names(whole, of, per)
    if f"{of} ratio" not in whole.columns:
        raise ConfigError(f"the table compares {of} with nothing: aggregate with a baseline")
    colors = key_colors(whole, per)  # the baseline's too: others have the same as in other figures
    whole, table = (some.filter(some[f"{of} ratio"].is_not_null()) for some in (whole, table))
    with drawing(axes) as axes:
        fine = whole.filter(ordinary(whole)) if len(whole) else whole
        shown, *ends = (column(fine, f"{of} ratio{end}") for end in ("", " low", " high"))
        set_range(axes, shown, log, wide=2.5, level=1.0, ends=ends)
        put_x(axes, whole, x, log)
        axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        for value, some in rows_by(table, per).items():
            text = drawable(colors.names[value]) if per is not None else "_alone"
            for rows in conditions_of(some):
                at, color = x_of(rows, x, rate), colors.of(value)
                put_band(axes, at, (column(rows, f"{of} ratio low"), column(rows, f"{of} ratio high")), color)
                marker = "o" if len(rows) == 1 else ""
                axes.plot(at, column(rows, f"{of} ratio"), color=color, label=text, marker=marker)
                put_crosses(axes, lost_places(rows, x, rate), color)
                text = "_more"
        if colors.norm is not None:
            put_bar(axes, ScalarMappable(colors.norm, RAMP), str(per), beside)
        axes.set_ylabel(label or drawable(f"{said(of)} / {baseline}"))
        lost = lost_by(whole, per)
        entries = color_entries(lost, colors)
        entries += [(Patch(facecolor=GREY, alpha=0.3, linewidth=0), f"{100 * confidence:g} % interval")]
        put_legend(axes, entries + end_entries(lost), legend_title(colors))
    return axes
