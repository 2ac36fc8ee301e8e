"""The runs of a sweep, cell by cell, grid after grid."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dln.aggregates.keeping import Keeping, keeping_of
from dln.config import ExperimentConfig
from dln.errors import ConfigError
from dln.results.tables import IDENTITY
from dln.sweeps.shapes import Shape, Shaped


class Plan:
    """Every cell's resolved config, its identity, and who can be trained together."""

    def __init__(self, grids: Sequence[Shaped]) -> None:
        """Take at least one grid."""
        self.grids = list(grids)
        self.contents = {path: digest for shape in self._shapes() for path, digest in shape.contents.items()}
        """A digest of what every file holds that a config names, by its path."""
        self._starts = list(itertools.accumulate((len(each.grid) for each in grids), initial=0))

    def __len__(self) -> int:
        """How many cells there are."""
        return self._starts[-1]

    @property
    def shapes(self) -> int:
        """How many configs had to be resolved."""
        return len(self._shapes())

    def overrides(self, cell: int) -> list[str]:
        """Return the overrides that make a cell's run alone, those that vary first."""
        each, own = self._place(cell)
        return each.grid.overrides(own)

    def name(self, cell: int) -> str:
        """Say in a line what a cell's run is varied by; its identity where nothing varies."""
        each, own = self._place(cell)
        return ",".join(each.grid.varied(own)) or self.identity(cell)

    def config(self, cell: int) -> ExperimentConfig:
        """Return the resolved config of a cell."""
        shape, swept = self._find(cell)
        return shape.config(swept)

    def values(self, cell: int) -> dict[str, Any]:
        """Return the value of every key of a cell, those of free mappings one by one."""
        shape, swept = self._find(cell)
        return shape.values(swept)

    def identity(self, cell: int) -> str:
        """Return a hash of the resolved config of a cell: the same for the same run in any sweep."""
        shape, swept = self._find(cell)
        return shape.identity(swept)

    @functools.cached_property
    def identities(self) -> np.ndarray:
        """Every cell's `identity`, as bytes [cells]."""
        return np.fromiter((self.identity(cell).encode() for cell in range(len(self))), IDENTITY, len(self))

    @functools.cached_property
    def keeping(self) -> Keeping | None:
        """What is kept in place of curves; None: curves are.

        Raises:
            ConfigError: It is not the same in all runs, or a key to average over does not vary.
        """
        first, *others = {repr(shape.base.aggregate): shape.base.aggregate for shape in self._shapes()}.values()
        keeping = keeping_of(first)
        if others:
            raise ConfigError("aggregate says what a sweep keeps of all its runs: it cannot be swept over")
        if keeping is None:
            return None
        moved = [shape.moving_with(keeping.over) for shape in self._shapes()]
        return dataclasses.replace(keeping, moved=tuple(sorted(set.intersection(*moved))))

    @functools.cached_property
    def conditions(self) -> np.ndarray:
        """The number of each cell's condition [cells]: cells that are averaged over have one in common."""
        return self._apart[0]

    @functools.cached_property
    def keeps_curves(self) -> np.ndarray:
        """Which cells keep their curves [cells]: all, or the first ones of each condition."""
        if self.keeping is None:
            return np.ones(len(self), bool)
        return self._apart[1] < self.keeping.curves

    @functools.cached_property
    def _apart(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.keeping is not None
        numbers, places, start = [], [], 0
        for each in self.grids:
            number, place = each.apart(self.keeping.moved)
            numbers.append(number + start)
            places.append(place)
            start += int(number.max(initial=-1)) + 1
        return np.concatenate(numbers), np.concatenate(places)

    def condition_values(self, cell: int) -> dict[str, Any]:
        """Return the values of the keys of a cell that its condition has, too."""
        assert self.keeping is not None
        return {key: value for key, value in self.values(cell).items() if key not in self.keeping.moved}

    def condition_identity(self, cell: int) -> str:
        """Return a hash of what the runs of a cell's condition have in common: the same in any sweep."""
        assert self.keeping is not None
        shape, swept = self._find(cell)
        return shape.identity({**swept, **dict.fromkeys(self.keeping.moved)})

    @property
    def condition_identities(self) -> list[str]:
        """Every condition's identity, in the order of their first cells; none where curves are kept."""
        if self.keeping is None:
            return []
        first = np.unique(self.conditions, return_index=True)[1]
        return [self.condition_identity(int(cell)) for cell in np.sort(first)]

    @property
    def saves_weights(self) -> bool:
        """Whether any run leaves checkpoints, for which it has a directory."""
        return any(self.config(int(cells[0])).saves_weights for cells in self.together())

    def varying(self) -> set[str]:
        """Return the keys that are not the same in all cells."""
        first, *others = [shape.values({}) for shape in self._shapes()]
        keys = {key for values in (first, *others) for key in values}
        between = {key for key in keys if any(values.get(key) != first.get(key) for values in others)}
        return between.union(*(shape.varying() for shape in self._shapes()))

    def together(self) -> Iterator[np.ndarray]:
        """Yield cells that can be trained together, in ascending order, grid by grid."""
        for start, each in zip(self._starts, self.grids, strict=False):
            for cells in each.together():
                yield cells + start

    def _shapes(self) -> list[Shape]:
        return [shape for each in self.grids for shape in each.shapes.values()]

    def _place(self, cell: int) -> tuple[Shaped, int]:
        number = bisect.bisect_right(self._starts, cell) - 1
        return self.grids[number], cell - self._starts[number]

    def _find(self, cell: int) -> tuple[Shape, dict[str, Any]]:
        each, own = self._place(cell)
        return each.find(own)
