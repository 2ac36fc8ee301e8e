"""What panels of tables have in common: scales that fit their values, and legends that say what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from dln.errors import ConfigError, suggestion
from dln.figures.style import GREY
from dln.figures.table_colors import CurveStyle, KeyColors
from dln.figures.table_columns import band_of, conditions_of, quantiles_of, rows_by
from dln.figures.table_words import drawable, short

if TYPE_CHECKING:
    import polars

LOGS = ("x", "y", "xy", "none")
"""Which axes are logarithmic; None: those whose values ask for it."""

WIDE = 20.0
"""Factor between the largest and the smallest value from which on an axis is logarithmic by itself."""

MARKS = 200
"""Crosses that are drawn on an edge at most: more make a line."""

Entries = list[tuple[Any, str]]
"""Of a legend: handles and labels."""


def check_log(log: str | None) -> None:
    """Raise ConfigError unless `log` is one of `LOGS`, or None."""
    if log is not None and log not in LOGS:
        raise ConfigError(f"there is no log {log!r}; {suggestion(log, LOGS)}")


def fits_log(values: np.ndarray, wide: float = WIDE) -> bool:
    """Return whether values, NaN aside, are positive and span more than a factor of `wide`.

    >>> fits_log(np.array([1.0, 100.0])), fits_log(np.array([0.0, 100.0])), fits_log(np.array([np.nan]))
    (True, False, False)
    """
    known = values[np.isfinite(values)]
    return bool(len(known) and known.min() > 0 and known.max() / known.min() > wide)


def set_range(
    axes: Axes,
    shown: np.ndarray,
    log: str | None,
    wide: float = WIDE,
    level: float | None = None,
    ends: Sequence[np.ndarray] = (),
) -> None:
    """Fit the vertical axis to values: logarithmic if asked for or if they ask for it, and as far as they reach.

    Args:
        axes: Whose axis it is.
        shown: The values of all panels that are to be seen.
        log: Of `LOGS`, or None.
        wide: See `fits_log`.
        level: A value beside them that is to be seen.
        ends: Of bands, which are seen as far as that leaves the values at least half of the axis.
    """
    check_log(log)
    known = shown[np.isfinite(shown)]
    known = known if level is None else np.append(known, level)
    is_log = fits_log(known, wide) if log is None else "y" in log
    if is_log:
        axes.set_yscale("log", nonpositive="mask")
        known = known[known > 0]
    if not len(known):
        return
    bend, unbend = (np.log, np.exp) if is_log else (np.asarray, np.asarray)
    low, high = float(bend(known.min())), float(bend(known.max()))
    reach = max(high - low, 0.4 if is_log else 1e-9 + 0.1 * abs(low))
    low, high = low - 0.05 * reach, high + 0.05 * reach
    for some in ends:
        there = some[np.isfinite(some) & ((some > 0) | (not is_log))]
        if len(there):
            low = min(low, max(float(bend(there.min())), low - reach / 2))
            high = max(high, min(float(bend(there.max())), high + reach / 2))
    axes.set_ylim(float(unbend(low)), float(unbend(high)))
    if is_log:
        round_ticks(axes.yaxis, float(np.exp(high - low)))


def round_ticks(axis: Axis, ratio: float) -> None:
    """Put ticks of a logarithmic axis at round numbers, where it spans few powers of ten, or none."""
    if ratio < 1000:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def whole_steps(axes: Axes, x: str) -> None:
    """Put ticks at whole numbers where the horizontal axis has steps."""
    if x == "step" and axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10], integer=True))


def ordinary(table: polars.DataFrame) -> np.ndarray:
    """Return which rows [N] are to be seen whole: of conditions that lose runs the first row, and those after it.

    The last records before a run diverges can be of any size; the curve may leave the panel there.
    """
    import polars as pl

    fine = table["lost"] == 0
    if not fine.any():
        fine = table["step"] == table["step"].min()
    settled = (pl.col("lost") > 0) & (pl.col("diverged") == pl.col("lost")) & (pl.col("diverged") < pl.col("runs"))
    return (fine | table.select(settled).to_series()).to_numpy()


Lost = dict[Any, tuple[int, int]]
"""By the value of a key, how many of its runs diverge, and how many there are."""


def lost_by(table: polars.DataFrame, key: str | None) -> Lost:
    """Return how many runs of a table diverge; of no key there is one value, None."""
    found = {}
    for value, rows in rows_by(table, key).items():
        ends = [(some["lost"][0], some["runs"][0]) for some in conditions_of(rows) if len(some)]
        found[value] = sum(lost for lost, _ in ends), sum(runs for _, runs in ends)
    return found


def color_entries(lost: Lost, colors: KeyColors) -> Entries:
    """Return the legend's entries of a key's values that there are; each says how many of its runs diverge."""
    entries = []
    for value, color in colors.named:
        if value not in lost:
            continue
        gone, runs = lost[value]
        ended = f" ({gone} of {runs} diverged)" if gone else ""
        entries.append((Line2D([], [], color=color), drawable(colors.names[value]) + ended))
    return entries


def style_entries(styles: dict[str, CurveStyle], names: dict[str, str], coloured: bool) -> Entries:
    """Return the legend's entries of curves; grey where colours are of something else."""
    if len(styles) < 2:
        return []
    entries = []
    for name, style in styles.items():
        line: dict[str, Any] = style.line | {"color": GREY if coloured and not style.theory else style.color}
        entries.append((Line2D([], [], **line), drawable(names[name])))
    return entries


def end_entries(lost: Lost, shown: str = "means of the others") -> Entries:
    """Return the legend's entry of the crosses that mark where runs diverge; none where none does."""
    gone, runs = (sum(counts) for counts in zip(*lost.values(), strict=True))
    if not gone:
        return []
    cross = Line2D([], [], color=GREY, linestyle="", marker="x")
    return [(cross, f"diverged: {gone} of {runs} runs" + (f";\n{shown}" if gone < runs and shown else ""))]


def band_entry(table: polars.DataFrame, name: str, middle: str, band: str, confidence: float) -> Entries:
    """Return the legend's entry that says what a line and the band around it are; none of runs alone."""
    counts = sorted({*table["runs"].to_list()})
    if not counts or counts[-1] < 2:
        return []
    of = f"{middle} of {counts[0] if counts[0] == counts[-1] else f'{counts[0]} to {counts[-1]}'} runs"
    if band == "none" or f"{name} low" not in table.columns:
        return [(Line2D([], [], color=GREY), of)]
    ends = band_of(table, name, middle, band)
    if ends is None or np.isnan(ends[0]).all():
        return [(Line2D([], [], color=GREY), f"{of},\ntoo few for an interval")]
    if band == "quantiles":
        low, high = quantiles_of(table, name)
        told = f"{100 * float(low):g} to {100 * float(high):g} % of them"
    else:
        told = {"interval": f"{100 * confidence:g} % interval", "std": "one standard deviation"}[band]
    return [(Patch(facecolor=GREY, alpha=0.3, linewidth=0), f"{of},\n{told}")]


def put_legend(axes: Axes, entries: Entries, title: str | None = None) -> None:
    """Give axes a legend of some entries above them, where it covers nothing; each label once; none without entries."""
    once = {label: handle for handle, label in entries}
    if once:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.02), "ncols": 2, "alignment": "left"}
        axes.legend([*once.values()], [*once], title=title, **place)


def legend_title(colors: KeyColors) -> str | None:
    """Return what stands above a legend of a key's values."""
    return drawable(short(colors.key)) if colors.key is not None and colors.named else None


def put_crosses(axes: Axes, places: Sequence[float] | np.ndarray, color: Any) -> None:
    """Mark on the upper edge where runs diverge, a cross each; of very many places some."""
    places = np.unique(np.asarray(places, float))
    if len(places) > MARKS:
        places = places[np.linspace(0, len(places) - 1, MARKS).astype(int)]
    if len(places):
        edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 5}
        axes.plot(places, np.ones(len(places)), "x", color=color, markeredgewidth=1, **edge)


def put_band(
    axes: Axes, x: np.ndarray, ends: tuple[np.ndarray, np.ndarray] | None, color: Any, faint: bool = False
) -> None:
    """Draw a band, None is none; where a logarithmic axis has no place for its lower end, down to the edge.

    Args:
        axes: Where.
        x: Where its records lie.
        ends: Its lower and its upper ends.
        color: Its colour.
        faint: Whether it is one of many.
    """
    if ends is None or np.isnan(ends[0]).all():
        return
    low, high = ends
    if axes.get_yscale() == "log":
        low = np.where(low > 0, low, np.where(high > 0, axes.get_ylim()[0] / 10, np.nan))
    axes.fill_between(x, low, high, color=color, alpha=0.1 if faint else 0.2, linewidth=0)


def put_bar(axes: Axes, mappable: Any, key: str, beside: Sequence[Axes] | None) -> None:
    """Put the colour bar of a key's numbers beside some axes; None is beside these, and beside none there is none."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    if beside is None or len(beside):
        place = axes if beside is None else [*beside]
        figure.colorbar(mappable, ax=place, label=drawable(short(key)), aspect=30)
