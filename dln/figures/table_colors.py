"""Which colour the values of a key have, and which curves: the same in all panels of a figure."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize

from dln.figures.style import DARK, DASHES, GREY, LANES, PALETTE, RAMP, TEST, THEORY, TRAIN, VERMILLION
from dln.figures.table_columns import numbers_of, values_of
from dln.figures.table_words import values_named
from dln.predictions import theories_of, told_by
from dln.results.finals import is_seed

if TYPE_CHECKING:
    import polars

LEGEND_ENTRIES = 6
"""Values of a key up to which each is an entry of the legend; more numbers have a colour bar."""

WORDS = (*PALETTE, VERMILLION)
"""Colours of values that are no numbers; more of them than these are on the ramp."""

APART = 0.08
"""How far apart on the ramp, which has length 1, the colours of two values in a legend must be."""


@dataclass(frozen=True)
class KeyColors:
    """The colours of a key's values: numbers on a ramp, words in the palette, null black, seeds all alike."""

    key: str | None
    values: list[Any]
    colors: list[Any]
    norm: Normalize | None = None
    """What maps numbers to the ramp, where there is a colour bar."""

    @property
    def told(self) -> bool:
        """Whether colours tell the values of a key apart: not those of seeds."""
        return self.key is not None and not is_seed(self.key)

    @cached_property
    def named(self) -> list[tuple[Any, Any]]:
        """The values that are entries of a legend, with their colours: not those that a colour bar has."""
        if not self.told:
            return []
        pairs = zip(self.values, self.colors, strict=True)
        return [(value, color) for value, color in pairs if self.norm is None or value is None]

    @cached_property
    def names(self) -> dict[Any, str]:
        """What each value is called."""
        return dict(zip(self.values, values_named(self.key or "", self.values), strict=True))

    def of(self, value: Any) -> Any:
        """Return the colour of a value."""
        return self.colors[self._places[value]]

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {value: place for place, value in enumerate(self.values)}


def key_colors(table: polars.DataFrame, key: str | None, alone: Any = TRAIN) -> KeyColors:
    """Return the colours of the values that a key has in a table.

    Args:
        table: Of all panels of the figure.
        key: The key; None: all has one colour.
        alone: That colour.
    """
    if key is None:
        return KeyColors(None, [None], [alone])
    values = values_of(table, key)
    if is_seed(key):
        return KeyColors(key, values, [alone] * len(values))
    if not numbers_of(values):
        known = [value for value in values if value is not None]
        words = WORDS if len(known) <= len(WORDS) else [RAMP(i / (len(known) - 1)) for i in range(len(known))]
        return KeyColors(key, values, [DARK if v is None else words[known.index(v)] for v in values])
    numbers = [value for value in values if value is not None]
    norm = number_norm(numbers)
    places = np.asarray(norm(numbers), float).tolist()
    many = len(numbers) > LEGEND_ENTRIES
    if not many and any(b - a < APART for a, b in itertools.pairwise(places)):
        places = [i / max(1, len(numbers) - 1) for i in range(len(numbers))]
    colors = [*map(tuple, RAMP(np.array(places))), *[DARK] * (len(values) - len(numbers))]
    return KeyColors(key, values, colors, norm if many else None)


def number_norm(numbers: Sequence[float]) -> Normalize:
    """Return what maps numbers to [0, 1], by their logarithms where they span a decade."""
    low, high = float(min(numbers)), float(max(numbers))
    return LogNorm(low, high) if low > 0 and high / low >= 10 else Normalize(low, high)


@dataclass(frozen=True)
class CurveStyle:
    """How a curve of a table is drawn: its colour, where colours are not those of a key, and its dashes."""

    color: Any
    dashes: Any
    theory: str = ""
    beneath: bool = False
    """Whether it is seen through what is drawn over it, lane a beneath lane b."""

    @property
    def line(self) -> dict[str, Any]:
        """How matplotlib is to draw it, apart from the colour."""
        if self.theory:
            return {"linestyle": self.dashes, "linewidth": 1.0, "zorder": 2.6}
        return {"linestyle": self.dashes} | ({"linewidth": 2.6, "alpha": 0.45} if self.beneath else {})


def curve_styles(of: Sequence[str], known: Sequence[str]) -> dict[str, CurveStyle]:
    """Return how some curves of a table are told apart; theories of them are dark, each in dashes of its own.

    Args:
        of: The curves.
        known: All curves of the table.
    """
    theories = theories_of(known)
    own = [name for name in of if not told_by(name, theories)[1]]
    family = len(own) > 2 and len({name.partition("[")[0] for name in own}) == 1
    styles = {}
    for i, name in enumerate(own):
        taken = {*(style.color for style in styles.values()), *(OWN[other] for other in own if other in OWN)}
        color = RAMP(i / (len(own) - 1)) if family else curve_color(name, taken)
        styles[name] = CurveStyle(color, "-" if theories or family else _dashes(name, i), beneath=name.endswith("_a"))
    for name in of:
        theory = told_by(name, theories)[1]
        if theory:
            styles[name] = CurveStyle(THEORY, DASHES[theories.index(theory) % len(DASHES)], theory)
    return {name: styles[name] for name in of}


OWN = {"train_loss": TRAIN, "test_loss": TEST}
"""Curves with a colour of their own in every figure."""


def curve_color(name: str, taken: Collection[Any] = ()) -> Any:
    """Return the colour of a curve: its own in every figure, or the first that no other has."""
    for end, color in LANES.items():
        if name.endswith(end):
            return color
    return OWN[name] if name in OWN else next((color for color in WORDS if color not in taken), GREY)


def _dashes(name: str, place: int) -> Any:
    """Return the dashes of a curve that colours do not tell from others: lane a is solid, lane b dashed."""
    if name.endswith(tuple(LANES)):
        return "-" if name.endswith("_a") else "--"
    return ("-", *DASHES)[place % (1 + len(DASHES))]
