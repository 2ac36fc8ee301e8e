"""Figures of studies, fit for a paper: panels by values of two keys, in each what a registered function draws.

A figure is a function of the rows of one panel and its axes, which it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from dln.base.registry import Registry
from dln.figures.style import GREY, PALETTE, RAMP, STYLE, NotebookFigure
from dln.predictions import theories_of, told_by
from dln.studies.found import RATE, Found, short, value_of

if TYPE_CHECKING:
    import polars

FIGURES = Registry("figure", supplied=("table", "axes", "found"))
"""What the `figures` of a study may name."""

figure = FIGURES.register
"""Register a function of parameters and, as it asks, a panel's rows (`table`), its `axes`, the part's `found`."""

INK = "#222222"
SMOOTH = 6
"""Values of a key from which on lines of equal value are drawn on a map: fewer make no line."""

PANEL = (2.25, 1.8)
"""Width and height of a panel, in inches."""


def draw(
    found: Found, name: str, params: dict[str, Any], rows: str | None = None, columns: str | None = None
) -> Figure:
    """Return a figure of a part: one panel, or a panel for each value of one or two keys.

    Args:
        found: What is drawn.
        name: Of a registered function.
        params: Its parameters.
        rows: The key whose values are the rows of panels.
        columns: The key whose values are their columns.

    Raises:
        ConfigError: There is no such function, key or curve.
        ExtensionError: A function of yours raised anything else.
    """
    found.check(*(key for key in (rows, columns) if key))
    entry = FIGURES.get(name)
    across, down = (_values(found.table, key) for key in (columns, rows))
    many = len(across) * len(down) > 1
    width, height = PANEL if many else (3.4, 2.5)
    size = (len(across) * width + 1.1, len(down) * height + 0.4)
    with rc_context(STYLE):
        drawn = NotebookFigure(figsize=size, layout="constrained")
        grid = drawn.subplots(len(down), len(across), squeeze=False, sharey="row")
        for (i, upper), (j, left) in ((a, b) for a in enumerate(down) for b in enumerate(across)):
            panel = found.table
            for key, value in ((rows, upper), (columns, left)):
                panel = panel if key is None else panel.filter(panel[key].eq_missing(value))
            supplied = {"table": panel, "axes": grid[i][j], "found": found}
            named = {name: supplied[name] for name in entry.asks_for} | params
            axes = entry.call(f"figure {name!r}", named=named, where=f"figure {name!r}")
            keys = [(key, value) for key, value in ((rows, upper), (columns, left)) if key]
            axes.set_title(", ".join(f"{short(key)} {value_of(key, value)}" for key, value in keys), fontsize=8)
            if j:
                axes.set_ylabel("")
            if i < len(down) - 1:
                axes.set_xlabel("")
        for row in grid:
            _fitted(row)
        _one_legend(drawn)
        if found.about:
            drawn.suptitle(found.about, fontsize=9)
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")  # it is laid out, once for all formats
    return drawn


def _values(table: polars.DataFrame, key: str | None) -> list[Any]:
    return [None] if key is None else table[key].unique().sort(nulls_last=True).to_list()


def _one_legend(drawn: Figure) -> None:
    """Put one legend beside the panels in place of theirs."""
    legends = [legend for axes in drawn.axes if (legend := axes.get_legend())]
    named = {}
    for axes in drawn.axes:
        handles, labels = axes.get_legend_handles_labels()
        named |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in named}
    title = legends[0].get_title().get_text() if legends else None
    for legend in legends:
        legend.remove()
    if legends:
        drawn.legend([*named.values()], [*named], title=title or None, loc="outside right center")


def _curves(table: polars.DataFrame, key: str | None) -> Iterator[tuple[str | None, Any, polars.DataFrame]]:
    """Yield the label, colour and rows of each value of a key, along a ramp; null (the full batch) in black."""
    if key is None:
        yield None, INK, table
        return
    values = _values(table, key)
    numbers = [value for value in values if value is not None]
    for i, value in enumerate(values):
        color = INK if value is None else RAMP(i / max(1, len(numbers) - 1))
        yield value_of(key, value), color, table.filter(table[key].eq_missing(value))


def _column(table: polars.DataFrame, name: str) -> np.ndarray:
    values = table[name].to_numpy().astype(float)
    return np.where(np.isfinite(values), values, np.nan)


def _middle(table: polars.DataFrame, name: str, median: bool) -> list[np.ndarray]:
    """Return the means, or medians, of a curve, and the ends of their intervals."""
    kinds = ("q0.5", "q0.5 low", "q0.5 high") if median else ("mean", "low", "high")
    return [_column(table, f"{name} {kind}") for kind in kinds]


def _along(table: polars.DataFrame, found: Found, axes: Axes, x: str) -> np.ndarray:
    axes.set_xlabel("lr × step" if x == "time" else "step")  # noqa: RUF001
    return found.times(table) if x == "time" else table["step"].to_numpy()


def _scaled(axes: Axes, values: Sequence[np.ndarray], most: float = 20.0) -> None:
    """Make the vertical axis logarithmic where positive values span more than a factor of `most`."""
    known = np.concatenate([value[~np.isnan(value)] for value in values]) if values else np.empty(0)
    if len(known) and known.min() > 0 and known.max() / known.min() > most:
        axes.set_yscale("log", nonpositive="mask")


def _fitted(row: Sequence[Axes]) -> None:
    """Let logarithmic panels that share their vertical axis show their curves; bands that reach further leave it."""
    lines = [line for axes in row for line in axes.lines if not str(line.get_label()).startswith("_")]
    if row[0].get_yscale() != "log" or not lines:
        return
    known = np.concatenate([np.asarray(line.get_ydata(), float) for line in lines])
    known = known[known > 0]
    row[0].set_ylim(known.min() / 1.5, known.max() * 1.5)
    if known.max() / known.min() < 1000:  # few powers of ten, or none: round numbers say more
        row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        row[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        row[0].yaxis.set_minor_formatter(NullFormatter())


@figure("curves")
def curves(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    of: list[str],
    per: str | None = None,
    x: str = "time",
    label: str | None = None,
    names: list[str] | None = None,
    level: float | None = None,
    median: bool = False,
) -> Axes:
    """Draw means, or medians, with their intervals against time or step: a colour for each value of a key, or curve.

    What theories say is dashed, and dark where colours are of curves.
    `names` are what curves are called, `label` what the axis is; at `level` is a dotted line.
    """
    found.check(*of, *([per] if per else []))
    shown, theories = [], theories_of(found.curves)
    if level is not None:
        axes.axhline(level, color=GREY, linewidth=0.8, linestyle=":")
    for i, name in enumerate(of):
        called = names[i] if names else name
        predicted = told_by(name, theories)[1]
        for told, color, rows in _curves(table, per):
            own = color if per else INK if predicted else PALETTE[i % len(PALETTE)]
            text = called if told is None else told if len(of) == 1 else f"{called}, {told}"
            at, (middle, low, high) = _along(rows, found, axes, x), _middle(rows, name, median)
            axes.plot(
                at, middle, color=own, label=text, linestyle=("-", "--", ":", "-.")[i % 4 if per or predicted else 0]
            )
            axes.fill_between(at, low, high, color=own, alpha=0.2, lw=0)
            shown.append(middle)
    axes.set_ylabel(label or of[0].replace("_", " "))
    _scaled(axes, shown)
    if per or len(of) > 1:
        axes.legend(title=short(per) if per else None)
    return axes


@figure("map")
def final_map(
    table: polars.DataFrame, axes: Axes, found: Found, of: str = "test_loss", x: str = RATE, y: str = "model.gamma"
) -> Axes:
    """Draw how runs end over two keys, as colours, with lines of equal value; a cross is where some diverge."""
    found.check(of, x, y)
    last = table.sort("step").group_by(x, y, maintain_order=True).last()
    across, down = _values(table, x), _values(table, y)
    values, lost = np.full((len(down), len(across)), np.nan), np.zeros((len(down), len(across)), bool)
    for row in last.iter_rows(named=True):
        place = down.index(row[y]), across.index(row[x])
        values[place], lost[place] = np.nan if row[f"{of} mean"] is None else row[f"{of} mean"], row["diverged"] > 0
    shown = np.ma.masked_array(values, ~np.isfinite(values) | lost)
    known = shown.compressed()
    wide = len(known) and known.min() > 0 and known.max() / known.min() > 20
    norm = LogNorm() if wide else Normalize()
    norm.autoscale(known if len(known) else np.array([1.0]))
    drawn = axes.pcolormesh(shown, cmap=RAMP, norm=norm)
    centres = np.arange(len(across)) + 0.5, np.arange(len(down)) + 0.5
    axes.set_xticks(centres[0], [value_of(x, v) for v in across], rotation=45 if len(across) > 6 else 0)
    axes.set_yticks(centres[1], [value_of(y, v) for v in down])
    axes.plot(*(np.argwhere(lost)[:, ::-1].T + 0.5), "x", color=GREY, markersize=5)
    if min(len(across), len(down)) >= SMOOTH and len(known) > SMOOTH:
        levels = (LogLocator(numticks=6) if wide else MaxNLocator(5)).tick_values(known.min(), known.max())
        axes.contour(*centres, shown, levels=levels, colors="white", linewidths=0.6)
    axes.figure.colorbar(drawn, ax=axes, label=f"final {of.replace('_', ' ')}")
    axes.set_xlabel(short(x))
    axes.set_ylabel(short(y))
    return axes


@figure("ratio")
def ratio(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    of: str = "test_loss",
    per: str = "training.batch_size",
    x: str = "time",
) -> Axes:
    """Draw the ratio of a curve's mean to its baseline, with intervals; conditions without a baseline are left out."""
    found.check(of, per)
    shown = []
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    for told, color, rows in _curves(table.filter(table[f"{of} ratio"].is_not_null()), per):
        at, mean = _along(rows, found, axes, x), _column(rows, f"{of} ratio")
        axes.plot(at, mean, color=color, label=told)
        axes.fill_between(
            at, _column(rows, f"{of} ratio low"), _column(rows, f"{of} ratio high"), color=color, alpha=0.2, lw=0
        )
        shown.append(mean)
    axes.set_ylabel(f"{of.replace('_', ' ')} / baseline")
    _scaled(axes, shown, most=2.5)
    axes.legend(title=short(per))
    return axes


@figure("ends")
def ends(
    table: polars.DataFrame,
    axes: Axes,
    found: Found,
    of: str = "test_loss",
    x: str = RATE,
    per: str | None = None,
    sharpness: str | None = None,
    median: bool = False,
) -> Axes:
    """Draw how runs end against a key: means, or medians, with intervals, and crosses at the top where runs diverge.

    With the name of a curve of the sharpness, a vertical line is at 2 / that at the end of the smallest rate.
    """
    found.check(of, x, *([per] if per else []), *([sharpness] if sharpness else []))
    shown = []
    for told, color, rows in _curves(table, per):
        last = rows.sort("step").group_by(x, maintain_order=True).last().sort(x)
        fine, lost = last.filter(last["diverged"] == 0), last.filter(last["diverged"] > 0)
        middle, low, high = _middle(fine, of, median)
        reach = [np.nan_to_num(middle - low), np.nan_to_num(high - middle)]
        axes.errorbar(
            fine[x], middle, reach, color=color, label=told, marker="o", markersize=3, capsize=2, elinewidth=0.8
        )
        edge: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(lost[x], np.ones(len(lost)), "x", color=color, **edge)
        shown.append(middle)
        if sharpness and len(last):
            axes.axvline(2 / last[f"{sharpness} mean"][0], color=color, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel(short(x))
    axes.set_ylabel(f"final {of.replace('_', ' ')}")
    _scaled(axes, shown, most=5)
    if per:
        axes.legend(title=short(per))
    return axes
