"""Every run for itself: as lines, or where they are very many as a density of lines.

More lines than `LINES` hide one another, and where most of them are; of ten thousand they take a second whenever they
are drawn. Then each pixel is coloured by the runs that pass through it: the stronger the more there are, and where
colours are of numbers by the mean of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from dln.figures.style import DARK, GREY, RAMP, drawing
from dln.figures.table_axes import (
    check_log,
    color_entries,
    end_entries,
    fits_log,
    legend_title,
    put_bar,
    put_crosses,
    put_legend,
    set_range,
    whole_steps,
)
from dln.figures.table_bundles import Bundle, bundled, check_curve, ends_at, flat, is_lost, lost_runs
from dln.figures.table_colors import KeyColors, curve_color, key_colors
from dln.figures.table_thin import density, thinned
from dln.figures.table_words import TIME, drawable, said

if TYPE_CHECKING:
    import polars

LINES = 500
"""Runs that are drawn as lines at most."""

VECTOR = 50
"""Runs that are paths in vector formats at most: more are an image in them."""

PIXELS = 500, 320
"""Columns and rows of a density."""

FAINT = 0.15
"""Opacity of a pixel that one run passes through, where others are full."""


def runs(
    frame: polars.DataFrame,
    of: str,
    per: str | None = None,
    x: str = "step",
    label: str | None = None,
    log: str | None = None,
    rate: float | None = None,
    whole: polars.DataFrame | None = None,
    beside: Sequence[Axes] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw a curve of every run, a colour for each value of a key; where runs share one, their mean is a strong line.

    Args:
        frame: Of `dln.load_sweep`: a row a run, curves as lists.
        of: Which curve.
        per: The key that colours tell apart; None, or a key of seeds: all have one colour.
        x: "step", or "time", which is lr x step.
        label: What the vertical axis is; None: the curve.
        log: As of `curves`; None: the vertical axis where values ask for it.
        rate: The learning rate, where the frame does not say.
        whole: The frame of all panels, which colours, ranges and counts are of; None: this one is.
        beside: Beside which axes a colour bar stands; None: beside this one.
        axes: Where to draw; None: in a new figure.

    Raises:
        ConfigError: There is no such curve, key or option.
    """
    check_log(log)
    whole = frame if whole is None else whole
    check_curve(whole, of, per)
    colors, lost = key_colors(whole, per, curve_color(of)), lost_runs(whole, per)
    kept = whole.filter(~is_lost(whole))
    shown = flat(kept if len(kept) else whole.with_columns(whole[of].list.head(1)), of)[1]
    log = log or ("y" if fits_log(shown) else "none")
    with drawing(axes) as axes:
        bundles = [*bundled(frame, of, per, x, rate)]
        averaged = not colors.told or len(colors.values) < len(whole)
        if len(frame) > LINES:
            _put_density(axes, bundles, colors, log, shown)
        else:
            _put_lines(axes, bundles, colors, averaged)
        means = _put_means(axes, bundles, colors) if averaged else False
        put_crosses(axes, ends_at(frame, x, rate), GREY)
        set_range(axes, shown, log)
        if "x" in log:
            axes.set_xscale("log", nonpositive="mask")
        whole_steps(axes, x)
        axes.set_xlabel("step" if x == "step" else TIME)
        axes.set_ylabel(label or said(of))
        if colors.norm is not None:
            put_bar(axes, ScalarMappable(colors.norm, RAMP), str(per), beside)
        entries = color_entries(lost, colors) + end_entries(lost, "means of the others" if means else "")
        if means:
            alone = [] if colors.told else [(Line2D([], [], color=colors.colors[0]), "single runs")]
            entries += [*alone, (Line2D([], [], color=GREY if colors.told else DARK, linewidth=1.4), "their mean")]
        put_legend(axes, entries, legend_title(colors))
    return axes


def _put_lines(axes: Axes, bundles: Sequence[Bundle], colors: KeyColors, faint: bool) -> None:
    """Draw runs as lines, thinned to what can be seen, faint where their mean is drawn over them."""
    count = sum(len(bundle.values) for bundle in bundles)
    alpha = float(np.clip(15 / count, 0.15, 0.5)) if faint else 1.0
    for bundle in bundles:
        x, values = thinned(bundle.x, bundle.values, PIXELS[0])
        lines = [np.column_stack(pair) for pair in zip(x, values, strict=True)]
        faces = [colors.of(value) for value in bundle.keys]
        style: dict[str, Any] = {"linewidths": 0.7, "alpha": alpha, "rasterized": count > VECTOR}
        axes.add_collection(LineCollection(lines, colors=faces, **style))
        if len(bundle.x) == 1:  # a line through one record would be invisible
            axes.scatter(np.repeat(bundle.x, len(values)), values[:, 0], c=faces, s=6)
    axes.autoscale_view()


def _put_means(axes: Axes, bundles: Sequence[Bundle], colors: KeyColors) -> bool:
    """Draw the means of the runs that are left, of each value of the key; return whether there are any of several."""
    drawn = False
    for bundle in bundles:
        groups: dict[Any, list[int]] = {}
        for run, value in enumerate(bundle.keys):
            groups.setdefault(value if colors.told else None, []).append(run)
        for value in [value for value in colors.values if value in groups] if colors.told else groups:
            members = groups[value]
            if len(members) > 1 and len(bundle.x) > 1:
                some = bundle.values[members]
                count = (~np.isnan(some)).sum(0)
                mean = np.divide(np.nansum(some, 0), count, out=np.full(len(count), np.nan), where=count > 0)
                color = colors.of(value) if colors.told else DARK
                text = drawable(colors.names[value]) if colors.told else "their mean"
                axes.plot(bundle.x, mean, color=color, linewidth=1.4, zorder=2.5, label=text)
                drawn = True
    return drawn


def _put_density(axes: Axes, bundles: Sequence[Bundle], colors: KeyColors, log: str, shown: np.ndarray) -> None:
    """Draw how many runs pass through each pixel: opacity goes with the logarithm of their number."""
    along, back = _bend("x" in log)
    up, down = _bend("y" in log)
    heights, places = up(shown), np.concatenate([along(bundle.x) for bundle in bundles])
    heights, places = heights[np.isfinite(heights)], places[np.isfinite(places)]
    if not len(heights) or not len(places):
        return
    columns, rows = _edges(places, PIXELS[0]), _edges(heights, PIXELS[1])
    image = np.zeros((PIXELS[1], PIXELS[0], 4))
    for color, members in _layers(bundles, colors):
        count, total = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
        for bundle, some, weights in members:
            at = along(bundle.x)
            there = np.isfinite(at)
            found = density(at[there], up(bundle.values[some][:, there]), weights, columns, rows)
            count, total = count + found[0], total + found[1]
        mean = np.divide(total, count, out=np.zeros(count.shape), where=count > 0)
        _lay_over(image, count, RAMP(mean)[..., :3] if color is None else np.array(to_rgb(color)))
    axes.pcolormesh(back(columns), down(rows), image, rasterized=True, zorder=1.5)


Numbers = Callable[[np.ndarray], np.ndarray]


def _bend(log: bool) -> tuple[Numbers, Numbers]:
    """Return what maps data to a scale, and back; what has no place there is NaN."""
    if not log:
        return (lambda values: values), (lambda values: values)

    def logarithm(values: np.ndarray) -> np.ndarray:
        return np.log10(values, out=np.full(np.shape(values), np.nan), where=values > 0)

    return logarithm, lambda values: 10**values


def _edges(values: np.ndarray, count: int) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    margin = 0.01 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, count + 1)


def _layers(
    bundles: Sequence[Bundle], colors: KeyColors
) -> Iterator[tuple[Any, list[tuple[Bundle, np.ndarray, np.ndarray]]]]:
    """Yield what is laid over one another: a colour, None for the ramp, and the runs that have it, with weights."""
    layers: dict[Any, list[tuple[Bundle, np.ndarray, np.ndarray]]] = {}
    for bundle in bundles:
        own: dict[Any, list[int]] = {}
        for run, value in enumerate(bundle.keys):
            on_ramp = colors.norm is not None and value is not None
            own.setdefault(None if on_ramp else to_rgb(colors.of(value)), []).append(run)
        for color, members in own.items():
            some = np.array(members)
            norm = colors.norm if color is None else None
            weights = np.ones(len(some)) if norm is None else np.asarray(norm([bundle.keys[run] for run in members]))
            layers.setdefault(color, []).append((bundle, some, weights))
    yield from layers.items()


def _lay_over(image: np.ndarray, count: np.ndarray, color: np.ndarray) -> None:
    """Lay colours over an image [h, w, RGBA], opaque as the logarithm of a count."""
    strength = np.where(count > 0, FAINT + (1 - FAINT) * np.log1p(count) / max(np.log1p(count.max()), 1e-9), 0.0)
    beneath = image[..., 3] * (1 - strength)
    alpha = strength + beneath
    mixed = strength[..., None] * color + beneath[..., None] * image[..., :3]
    image[..., :3] = np.divide(mixed, alpha[..., None], out=np.zeros_like(mixed), where=alpha[..., None] > 0)
    image[..., 3] = alpha.clip(0, 1)
