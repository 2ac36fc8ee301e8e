"""What the runs of one part of a study came to: its table, and what figures and sentences need to know beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.errors import ConfigError, suggestion
from dln.figures.table_columns import curves_of, times_of
from dln.figures.table_words import short, value_of
from dln.studies.outcomes import condition_keys, outcomes

if TYPE_CHECKING:
    import polars


@dataclass(frozen=True)
class Found:
    """The table of a part: a row for each condition and step, as `dln.aggregate` gives it."""

    name: str
    about: str
    table: polars.DataFrame
    confidence: float = 0.95
    lr: float | None = None
    """The learning rate of all runs; None where they differ in it, and the table says so."""

    @cached_property
    def keys(self) -> list[str]:
        """The keys that tell conditions apart."""
        return condition_keys(self.table)

    @cached_property
    def varying(self) -> list[str]:
        """Those of them that have several values."""
        return [key for key in self.keys if self.table[key].n_unique() > 1]

    @cached_property
    def curves(self) -> list[str]:
        """The curves that the table has means of."""
        return curves_of(self.table)

    @cached_property
    def ends(self) -> polars.DataFrame:
        """How each condition ends: of `outcomes`."""
        return outcomes(self.table)

    @property
    def sure(self) -> str:
        """The confidence of intervals, in per cent."""
        return f"{100 * self.confidence:g} %"

    def check(self, *names: str) -> None:
        """Raise ConfigError, with the nearest name, unless there are keys or curves of these names."""
        for name in names:
            if name not in (*self.keys, *self.curves):
                known = [*self.keys, *self.curves]
                raise ConfigError(f"the table of {self.name} has no {name!r}; {suggestion(name, known)}")

    def conditions(self) -> Iterator[tuple[dict[str, Any], polars.DataFrame]]:
        """Yield each condition's keys and rows."""
        parts = self.table.partition_by(self.keys, maintain_order=True) if self.keys else [self.table]
        for rows in parts:
            yield {key: rows[key][0] for key in self.keys}, rows

    def times(self, rows: polars.DataFrame) -> np.ndarray:
        """Return lr x step of some rows; where `time` is recorded, that, whatever changes the rate."""
        return times_of(rows, self.lr)

    def place(self, row: Mapping[str, Any], keys: Sequence[str] | None = None) -> str:
        """Say which condition has a row, by the keys that vary.

        >>> import polars as pl
        >>> table = pl.DataFrame({"model.gamma": [1.0, 1.5], "training.batch_size": [1, 1], "step": [0, 0]})
        >>> Found("offline", "", table).place({"model.gamma": 1.5, "training.batch_size": 1})
        'gamma 1.5'
        """
        return ", ".join(f"{short(key)} {value_of(key, row[key])}" for key in (self.varying if keys is None else keys))


def heading(name: str, about: str) -> str:
    """Return the line above what is said of a part."""
    return f"{name}: {about}" if about else name
