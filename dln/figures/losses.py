"""The losses of a run or a comparison, with what theories say and the losses at the saddles on the way."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dln.errors import ConfigError
from dln.figures.axis import Along
from dln.figures.columns import LOSSES, columns_of
from dln.figures.curve import APART, Curve, draw_curves
from dln.figures.known import Data, batches_of, event_names, history_of, lane_names, lanes_of
from dln.figures.legend import letters, sample
from dln.figures.marks import include_ends
from dln.figures.metric import Entries, complete, dashes_of, flat, told_curve
from dln.figures.style import BATCH, EVENT, LANES, LIGHT_LANES, POPULATION, TEST, THEORY, TRAIN, drawing
from dln.figures.table_words import drawable
from dln.figures.target import levels_of
from dln.history import History
from dln.predictions import conditions_of

GLUED = "\N{NO-BREAK SPACE}"
LANE_LINES = {"train_loss": "-", "test_loss": "--", "population_loss": "-."}


def losses(data: Data, axes: Axes | None = None, *, x: str = "step", levels: bool | None = None) -> Axes:
    """Draw the losses of a run or a comparison on a logarithmic axis.

    The training loss of a record is that of the step's batch: where the config says that it is not the whole set, the
    legend says so, and it is light and beneath; `full_train_loss`, if recorded, is the training loss then. Dotted lines
    are the losses at the saddles with 0, 1, ... modes learned (see `dln.theory.plateau_levels`), grey bars the plateaus
    that the event `plateaus` found. What theories say is dark and dashed; the legend says how good they are.

    Args:
        data: A history, or the directory of a run.
        axes: Where to draw; None: in a figure of its own.
        x: "step", "time" or "loss".
        levels: Whether to draw the losses at the saddles; None: where the run starts near the first of them.

    Raises:
        ConfigError: There is no such axis, or there are no levels and they are asked for.
        StorageError: There is no run in the directory.
    """
    history = history_of(data)
    with drawing(axes) as drawn:
        entries = draw_losses(drawn, history, x, levels)
        complete(drawn, history, x, entries)
    return drawn


def draw_losses(axes: Axes, history: History, x: str, levels: bool | None = None, width: int | None = None) -> Entries:
    """Draw the losses, and return what their legend has to say; see `losses`.

    Args:
        axes: The panel.
        history: What to draw.
        x: The horizontal axis.
        levels: Whether to draw the losses at the saddles.
        width: How many letters a line of the legend may have; None: what fits above the panel.
    """
    lanes = lanes_of(history)
    curves, entries = [], {}
    for told, curve in _own(history, lanes, x):
        curves.append(curve)
        if lanes == [""]:
            entries[told] = sample(curve.colors[0], curve.linestyle, curve.linewidth)
    if lanes != [""]:
        names = lane_names(history)
        entries |= {names[lane]: sample(LANES[lane]) for lane in lanes}
        for told, curve in _own(history, lanes, x):
            entries[told] = sample(curve.colors[0] if curve.beneath else EVENT, curve.linestyle)
    columns = [column for column in columns_of(history) if column.metric in LOSSES[:2]]
    dashes = dashes_of(history, columns)
    for column in (c for c in columns if c.theory and not c.spread):
        curves.append(told_curve(history, column, columns, dashes, x))
    width = width or letters(axes)
    entries |= {_good(history, theory, lanes, width): sample(THEORY, dashes[theory], 1.0) for theory in dashes}
    draw_curves(axes, "loss", curves)
    include_ends(axes, history, x)
    _draw_found(axes, history, lanes, x, entries)
    _draw_levels(axes, history, lanes, levels, entries)
    return entries


def _own(history: History, lanes: list[str], x: str) -> Iterator[tuple[str, Curve]]:
    """Yield the losses of the run itself, and what each is called beside the model's name."""
    for lane in lanes:
        along = Along(history, lane, x).places
        diverged = f"diverged_at{lane}" in history.events
        noise = _noise(history, lane)

        def curve(
            name: str,
            color: str,
            width: float = 1.2,
            line: str = "-",
            beneath: bool = False,
            lane: str = lane,
            along: np.ndarray = along,
            diverged: bool = diverged,
        ) -> Curve:
            style = {"linestyle": line, "linewidth": width, "diverged": diverged, "beneath": beneath}
            label = f"{lane[1:]} {name.removesuffix('_loss').replace('_', ' ')}".strip()
            return Curve(along, flat(history, name + lane), [color], label, **style)

        wide = 2.0 if lane == "_a" else 1.1 if lane else 1.2  # a is seen beneath b where they agree
        known = x != "loss" and (f"train_loss{lane}" in history or not len(history))
        if noise and known:
            light = LIGHT_LANES.get(lane, BATCH)
            end = f" ({lane[1:]})" if lane else ""
            yield f"train, {noise}{end}", curve("train_loss", light, 0.8, beneath=True)
        whole = "full_train_loss" if noise else "train_loss"
        if (not noise or whole + lane in history) and known:
            yield "train, whole set" if noise else "train", curve(whole, LANES.get(lane, TRAIN), wide)
        for name, color in (("test_loss", TEST), ("population_loss", POPULATION)):
            if name + lane in history:
                line = LANE_LINES[name] if lane else "-"
                yield name.removesuffix("_loss"), curve(name, LANES.get(lane, color), wide, line)


def _noise(history: History, lane: str) -> str:
    """Say what a training loss is of if it is not of the whole set, by the config or by what is recorded."""
    whole = f"full_train_loss{lane}"
    known = batches_of(history, lane)
    if known or whole not in history:
        return known
    same = np.allclose(history[whole], history[f"train_loss{lane}"], rtol=1e-3, equal_nan=True)
    return "" if same else "batch"


def _good(history: History, theory: str, lanes: list[str], width: int) -> str:
    """Name a theory and say how good it is."""
    told = [drawable(theory)]
    for lane in lanes:
        end = f" ({lane[1:]})" if lane else ""
        good = conditions_of(history.events, theory + lane)
        told += [f"{name.replace('_', ' ')} {value:.2g}{end}" for name, value in good.items() if value is not None]
    kept = ", ".join(told).replace(" ", GLUED).replace(f",{GLUED}", ", ")  # lines break between conditions only
    return textwrap.fill(kept, width, subsequent_indent="   ").replace(GLUED, " ")


def _draw_levels(axes: Axes, history: History, lanes: list[str], levels: bool | None, entries: Entries) -> None:
    """Draw the losses at the saddles as dotted lines, with numbers of modes at their right ends."""
    found = None if levels is False else levels_of(history, lanes[0])
    if levels and found is None:
        raise ConfigError(
            "the losses at the saddles are not known: this run starts near none of them, or has no config; record "
            "theory=[plateaus]"
        )
    if found is None:
        return
    low, high = axes.get_ylim()
    taken: list[float] = []
    for learned, level in enumerate(found):
        if not low <= level <= high or (level <= 0 and axes.get_yscale() == "log"):
            continue
        axes.axhline(level, color=THEORY, linewidth=0.7, linestyle=(0, (1, 2.5)), zorder=1.3, gid="level")
        height = float(axes.transAxes.inverted().transform(axes.transData.transform((1, level)))[1])
        if all(abs(height - other) >= APART for other in taken):
            taken.append(height)
            style = {"textcoords": "offset points", "va": "center", "color": THEORY, "fontsize": 7}
            axes.annotate(
                f"{learned} modes" if len(taken) == 1 else str(learned), (1, height), (3, 0), "axes fraction", **style
            )
    axes.set_ylim(low, high)
    if taken:
        entries["saddles"] = sample(THEORY, (0, (1, 2.5)), 0.7)


def _draw_found(axes: Axes, history: History, lanes: list[str], x: str, entries: Entries) -> None:
    """Draw the plateaus that were found in losses as bars behind the curves."""
    names = {"plateaus": "plateaus"} | event_names(history)
    for label in (label for label, name in names.items() if name == "plateaus"):
        for lane in lanes:
            begin, end, level = (history.events.get(f"{label}{lane}.{key}") for key in ("begin", "end", "level"))
            along = Along(history, lane, x)
            for a, b, height in zip(begin or (), end or (), level or (), strict=True):
                style = {"linewidth": 5, "alpha": 0.25, "solid_capstyle": "butt", "zorder": 1.1, "gid": "mark"}
                color = LANES.get(lane, EVENT)
                axes.plot(along.at(np.array([a, b])), [height] * 2, color=color, **style)
                entries["plateau"] = Line2D([], [], color=EVENT, linewidth=5, alpha=0.25)
