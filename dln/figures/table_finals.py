"""How runs end against a key: means or medians with intervals, and crosses where runs diverge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable

from dln.figures.map_cells import Cells, cells_of
from dln.figures.style import RAMP, drawing
from dln.figures.table_axes import (
    band_entry,
    check_log,
    color_entries,
    end_entries,
    fits_log,
    legend_title,
    lost_by,
    put_bar,
    put_crosses,
    put_legend,
    set_range,
)
from dln.figures.table_colors import key_colors
from dln.figures.table_columns import band_of, check_names, ends_of, middle_of, numbers_of, rows_by, values_of
from dln.figures.table_words import drawable, said, short

if TYPE_CHECKING:
    import polars

DECADE = 9.99
"""Factor that numbers of a key span from which on their axis is logarithmic."""


def finals(
    table: polars.DataFrame,
    of: str = "test_loss",
    x: str = "training.lr",
    per: str | None = None,
    sharpness: str | None = None,
    middle: str = "mean",
    band: str = "interval",
    label: str | None = None,
    log: str | None = None,
    confidence: float = 0.95,
    whole: polars.DataFrame | None = None,
    beside: Sequence[Axes] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw how runs end against a key: means, or medians, with bands, of those that do not diverge.

    A value of the key at which runs diverge has a cross on the upper edge; one at which all do has nothing else.

    Args:
        table: Of `dln.aggregate`; the last row of each condition counts.
        of: Which curve.
        x: The key of the horizontal axis; words, and null, have places of their own there.
        per: The key that colours tell apart.
        sharpness: The name of a curve: a dotted line is at 2 / that at the end of the smallest value of `x`, a rate.
        middle: As of `curves`, and so the next two.
        band: Around it.
        label: What the vertical axis is; None: the curve.
        log: As of `curves`; None: both axes where values ask for it.
        confidence: Of the table's intervals.
        whole: The table of all panels.
        beside: Beside which axes a colour bar stands; None: beside these.
        axes: Where to draw; None: in a new figure.

    Raises:
        ConfigError: There is no such curve, key or option.
    """
    check_log(log)
    whole = table if whole is None else whole
    check_names(whole, of, x, per, sharpness)
    colors, every = key_colors(whole, per), ends_of(whole)
    values = values_of(whole, x)
    numbers = np.array(values, float) if numbers_of(values) and None not in values else np.empty(0)
    across = cells_of(x, values, fits_log(numbers, DECADE) if log is None else "x" in log)
    with drawing(axes) as axes:
        left = every.filter(every["lost"] < every["runs"])
        set_range(axes, middle_of(left, of, middle), log, wide=5, ends=band_of(left, of, middle, band) or ())
        lowest = axes.get_ylim()[0] / 10 if axes.get_yscale() == "log" else -np.inf
        for value, rows in rows_by(ends_of(table), per).items():
            rows = rows.sort(x, nulls_last=True)
            there = rows.filter(rows["lost"] < rows["runs"])
            at, middles, color = _places(there, across), middle_of(there, of, middle), colors.of(value)
            text = "_alone" if per is None else drawable(colors.names[value])
            axes.plot(at, middles, label=text, color=color, marker="o", markersize=3)
            ends = band_of(there, of, middle, band)
            if ends is not None:
                reach = [np.nan_to_num(middles - np.maximum(ends[0], lowest)), np.nan_to_num(ends[1] - middles)]
                axes.errorbar(at, middles, reach, fmt="none", color=color, capsize=2, elinewidth=0.8)
            put_crosses(axes, _places(rows.filter(rows["lost"] > 0), across), color)
            if sharpness and len(rows):
                axes.axvline(2 / rows[f"{sharpness} mean"][0], color=color, linewidth=0.8, linestyle=":")
        axes.set_xlim(across.edges[0], across.edges[-1])
        across.label(axes, "x")
        axes.set_xlabel(drawable(short(x)))
        axes.set_ylabel(label or f"final {said(of)}")
        if colors.norm is not None:
            put_bar(axes, ScalarMappable(colors.norm, RAMP), str(per), beside)
        lost = lost_by(whole, per)
        entries = color_entries(lost, colors) + band_entry(whole, of, middle, band, confidence)
        put_legend(axes, entries + end_entries(lost, f"{middle}s of the others"), legend_title(colors))
    return axes


def _places(rows: polars.DataFrame, across: Cells) -> np.ndarray:
    """Return where rows lie on the horizontal axis."""
    return across.centres[[across.values.index(value) for value in rows[across.key].to_list()]]
