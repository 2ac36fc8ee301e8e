"""What happened in a run, marked in its panels: ends, interventions, and events that were found in the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from dln.figures.columns import parts
from dln.figures.known import callbacks_of, event_names, lanes_of, switches
from dln.figures.legend import WIDTH, width_of_panel
from dln.figures.style import EVENT, LANES
from dln.figures.table_words import drawable
from dln.history import History

MOST_REPEATS = 10
"""Times that one callback is marked: one that acts more often is none that a reader counts."""

ROW = 8.5
"""Height of a row of labels above a panel, in points."""


class Mark(NamedTuple):
    """Something that happened at a step, of one model or of all (an empty lane)."""

    step: float
    text: str
    lane: str
    kind: str
    """`end`, `callback` or `event`."""


def marks_of(history: History) -> list[Mark]:
    """Return what happened in a run, in the order of its steps, as far as its events and its config tell."""
    last = history.final.get("step", 0)
    marks = [*_ends(history), *_found(history)]
    lanes = lanes_of(history)
    acted = [{*_acted(history, lane, last)} for lane in lanes]
    both = set.intersection(*acted)
    marks += [Mark(step, text, "", "callback") for step, text in both]
    for lane, own in zip(lanes, acted, strict=True):
        marks += [Mark(step, text, lane, "callback") for step, text in own - both]
    config = history.config or {}
    if config.get("branch_at") is not None:
        marks.append(Mark(config["branch_at"], "branch", "_b", "callback"))
    return sorted(marks)


def _ends(history: History) -> Iterator[Mark]:
    for event, step in history.ends.items():
        name, _, lane = parts(event)
        yield Mark(step, f"{name.removesuffix('_at')} at {step}", lane, "end")


def _found(history: History) -> Iterator[Mark]:
    names = event_names(history)
    for event, value in history.events.items():
        head, _, lane = parts(event)
        name = names.get(head, head)
        if name == "edge_of_stability" and value is not None:
            yield Mark(value, "edge of stability", lane, "event")
        elif name == "mode_escapes" and isinstance(value, list):
            for i, step in enumerate(value):
                if step is not None:
                    yield Mark(step, f"mode {i + 1}", lane, "event")


def _acted(history: History, lane: str, last: int) -> Iterator[tuple[int, str]]:
    """Yield the steps before the last at which callbacks intervened, and what they did."""
    for name, params in callbacks_of(history, lane):
        steps: Sequence[int] = ()
        text = drawable(name.replace("_", " "))
        if sizes := switches(name, params):
            for step, size in sizes.items():
                if step < last:
                    yield step, f"{'full batch' if size is None else f'batch of {size}'} at {step}"
        elif name in ("lr_warmup", "lr_cosine"):
            steps, text = [params.get("start", 0) + params["steps"]], f"end of {name.removeprefix('lr_')}"
        elif name in ("lr_decay", "batch_growth"):
            begin = params.get("start", 0) + params["interval"]
            steps = range(begin, last + 1, params["interval"])
            text = f"{'lr' if name == 'lr_decay' else 'batch'} × {params['factor']:g}"  # noqa: RUF001
        elif name == "weight_noise":
            steps = [params["start"]] if params.get("start") else []
        elif isinstance(params.get("step"), int):
            steps, text = [params["step"]], f"{text} at {params['step']}"
        if len(steps) <= MOST_REPEATS:
            yield from ((step, text) for step in steps if step < last)


def include_ends(axes: Axes, history: History, x: str) -> None:
    """Let an axis of steps reach to where a run ended early, which is beyond its last record."""
    if x == "step" and history.ends:
        low, high = axes.get_xlim()
        end = max(history.ends.values())
        axes.set_xlim(low, max(high, end + 0.01 * (end - low)))


def draw_marks(axes: Axes, marks: Sequence[tuple[float, Mark]], labelled: bool, lift: float = 0.0) -> float:
    """Draw what happened as thin lines, events that were found as ticks at the upper edge, and name them above.

    Args:
        axes: Where to draw.
        marks: What happened, each with its place on the horizontal axis.
        labelled: Whether they are named; events are drawn only then.
        lift: How far above the panel names begin, in points.

    Returns:
        How far above the panel they end.
    """
    limits = axes.get_xlim()
    low, high = min(limits), max(limits)
    named: list[tuple[float, str, Any]] = []
    for x, mark in marks:
        color = LANES.get(mark.lane, EVENT)
        if not low <= x <= high or (mark.kind == "event" and not labelled):
            continue
        if mark.kind == "event":
            reach: tuple[float, float] = (0.94, 1.0)
            style: dict[str, Any] = {"linestyle": "-", "linewidth": 1.0}
        else:
            reach, style = (0.0, 1.0), {"linestyle": ":" if mark.kind == "end" else "-", "linewidth": 0.7, "alpha": 0.8}
        axes.plot([x, x], reach, transform=axes.get_xaxis_transform(), color=color, zorder=1.2, gid="mark", **style)
        named.append((x, f"{mark.lane[1:]} {mark.text}".strip(), color))
    axes.set_xlim(limits)
    return _name_above(axes, named, lift) if labelled and named else lift


def _name_above(axes: Axes, named: Sequence[tuple[float, str, Any]], lift: float) -> float:
    """Write names above a panel, in as many rows as keep them apart; return how high they end, in points."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    width = width_of_panel(axes)
    size = 0.85 * rcParams["font.size"]
    ends: list[float] = []
    for x, text, color in _together(named, lambda x: _share(axes, x) * width, 5 * size):
        at, length = _share(axes, x) * width, WIDTH * size * len(text)
        left = min(max(at - length / 2, 0.0), max(width - length, 0.0))
        row = next((i for i, end in enumerate(ends) if end + 4 < left), len(ends))
        ends[row : row + 1] = [left + length]
        align = "left" if left == 0 else "right" if left + length >= width else "center"
        where = {"left": 0.0, "right": 1.0}.get(align)
        style: dict[str, Any] = {"fontsize": size, "color": color, "ha": align, "va": "bottom", "gid": "mark"}
        base = axes.get_xaxis_transform() if where is None else axes.transAxes
        lifted = base + ScaledTranslation(0, (1.5 + lift + row * ROW) / 72, figure.dpi_scale_trans)
        axes.text(x if where is None else where, 1, text, transform=lifted, **style)
    return lift + len(ends) * ROW + 2.0


def _share(axes: Axes, x: float) -> float:
    """Return where a place on the horizontal axis is, as a share of the panel's width."""
    return float(axes.transAxes.inverted().transform(axes.transData.transform((x, 1)))[0])


def _together(
    named: Sequence[tuple[float, str, Any]], at: Callable[[float], float], apart: float
) -> list[tuple[float, str, Any]]:
    """Return names in the order of their places; modes that are learned closer together than `apart` share a name."""
    parts: list[list[tuple[float, str, Any]]] = []
    last: dict[Any, list[tuple[float, str, Any]]] = {}  # the modes of each model that came last
    for one in sorted(named, key=lambda one: at(one[0])):
        mode, before = "mode " in one[1], last.get(one[2])
        if mode and before is not None and abs(at(one[0]) - at(before[-1][0])) < apart:
            before.append(one)
            continue
        parts.append([one])
        if mode:
            last[one[2]] = parts[-1]
    told = []
    for part in parts:
        text = part[0][1]
        if len(part) > 1:
            head, _, _ = text.rpartition("mode ")
            text = f"{head}modes " + ", ".join(one[1].rpartition(" ")[2] for one in part)
        told.append(((part[0][0] + part[-1][0]) / 2, text, part[0][2]))
    return sorted(told, key=lambda one: at(one[0]))
