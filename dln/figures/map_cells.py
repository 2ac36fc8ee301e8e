"""Where the cells of a map lie: on a scale of numbers where the values of a key make one, else side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from dln.figures.table_columns import numbers_of
from dln.figures.table_words import drawable, values_named

UNEVEN = 4.0
"""How many times the narrowest cell of a map the widest may be; else all are equally wide, and labelled."""

TICKS = 8
"""Numbers up to which each has a tick, where there is room; of more, round ones have."""

SIDES = {"x": 0, "y": 1}

LETTER, LINE = 0.07, 0.13
"""Width of a letter and height of a line of labels, in inches, about."""


@dataclass(frozen=True)
class Cells:
    """The cells along one axis of a map: their values, centres [n] and edges [n + 1]."""

    key: str
    values: list[Any]
    centres: np.ndarray
    edges: np.ndarray
    scale: Literal["linear", "log", "words"]

    def label(self, axes: Axes, side: Literal["x", "y"]) -> None:
        """Scale an axis, and put ticks at the values, or where they are numbers and many, at round ones."""
        axis = axes.xaxis if side == "x" else axes.yaxis
        if self.scale == "log":
            (axes.set_xscale if side == "x" else axes.set_yscale)("log")
        if self.scale != "words" and len(self.values) > TICKS:
            return
        texts = [*map(drawable, values_named(self.key, self.values))]
        figure = axes.get_figure(root=True)
        assert figure is not None
        inches = axes.get_position().size[SIDES[side]] * figure.get_size_inches()[SIDES[side]]
        lines = [LINE if side == "y" else LETTER * (len(text) + 1) for text in texts]
        places = inches * self._places
        turned = side == "x" and len(_apart(places, lines)) < len(texts)
        kept = _apart(places, [1.4 * LINE] * len(texts) if turned else lines)
        axis.set_major_locator(FixedLocator(self.centres[kept].tolist()))
        axis.set_ticklabels(
            [texts[i] for i in kept], **({"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if turned else {})
        )
        axis.set_minor_locator(NullLocator())

    @property
    def _places(self) -> np.ndarray:
        """Where the centres are, as fractions of the axis [n]."""
        centres, edges = (np.log(x) if self.scale == "log" else x for x in (self.centres, self.edges))
        return (centres - edges[0]) / (edges[-1] - edges[0])


def _apart(places: np.ndarray, sizes: Sequence[float]) -> list[int]:
    """Return which of some labels to keep so that none covers another: the first, and each that leaves it room.

    >>> _apart(np.array([0.0, 0.5, 2.0]), [1.0, 1.0, 1.0])
    [0, 2]
    """
    kept = [0]
    for i in range(1, len(places)):
        if places[i] - places[kept[-1]] >= (sizes[i] + sizes[kept[-1]]) / 2:
            kept.append(i)
    return kept


def cells_of(key: str, values: Sequence[Any], log: bool | None = None) -> Cells:
    """Return the cells of a key's values, which are in order.

    Args:
        key: What they are values of.
        values: Of numbers, words and null.
        log: Whether the axis is logarithmic; None: where that makes cells more alike.

    >>> cells_of("training.lr", [0.01, 0.1, 1.0]).scale, cells_of("model.gamma", [1, 1.5, 2]).scale
    ('log', 'linear')
    >>> cells_of("training.batch_size", [1, 5, None]).scale
    'words'
    """
    places: np.ndarray = np.arange(len(values), dtype=float)
    words = Cells(key, [*values], places, np.arange(len(values) + 1) - 0.5, "words")
    if not numbers_of([*values]) or None in values or len(values) < 2:
        return words
    numbers = np.array(values, float)
    scales: list[tuple[float, Cells]] = []
    if log is not True:
        gaps = np.diff(numbers)
        scales.append((gaps.max() / gaps.min(), Cells(key, [*values], numbers, _edges(numbers), "linear")))
    if log is not False and numbers.min() > 0:
        logs = np.log(numbers)
        gaps = np.diff(logs)
        scales.append((gaps.max() / gaps.min(), Cells(key, [*values], numbers, np.exp(_edges(logs)), "log")))
    uneven, cells = min(scales, key=lambda scale: scale[0], default=(np.inf, words))
    return cells if uneven <= UNEVEN or log is not None else words


def _edges(centres: np.ndarray) -> np.ndarray:
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.array([first, *middles, last])
