"""The records of one run, as they were taken and as columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.errors import DlnError, suggestion

if TYPE_CHECKING:
    import pandas
    import polars

ENDS = ("diverged_at", "stopped_at", "interrupted_at")
"""How the names of events begin at which a run ends."""

Record = dict[str, Any]
"""What was measured at one step: `step` and, by column name, floats or (nested) lists of floats."""


@dataclass
class History:
    """The records of a run, in the order of their steps.

    >>> history = History([{"step": 0, "train_loss": 2.0}, {"step": 5, "train_loss": 1.0}])
    >>> history["train_loss"]
    array([2., 1.])
    >>> history.final
    {'step': 5, 'train_loss': 1.0}
    """

    records: list[Record] = field(default_factory=list)
    events: dict[str, Any] = field(default_factory=dict)
    """What happened: the steps `diverged_at`, `stopped_at` (with `_a`, `_b` in a comparative run) and `interrupted_at`,
    and what the config's `events` have found."""
    directory: str | None = None
    """Where the run is stored, if it is."""
    config: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """The resolved config, nested, where it is known; without `data` where the run was given data of one's own."""

    @property
    def final(self) -> Record:
        """The last record; empty if there is none."""
        return self.records[-1] if self.records else {}

    @property
    def ends(self) -> dict[str, int]:
        """The steps at which the run, or a lane of it, ended early."""
        return {name: step for name, step in self.events.items() if name.startswith(ENDS)}

    @property
    def diverged_at(self) -> int | None:
        """The first step whose loss was not finite, or None; of two lanes, the earlier one's.

        >>> History(events={"diverged_at_a": 7, "diverged_at_b": 3}).diverged_at
        3
        """
        steps = [step for name, step in self.events.items() if name.startswith("diverged_at")]
        return min(steps, default=None)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(dict.fromkeys(name for record in self.records for name in record))

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All columns: [T] for scalars, [T, ...] for vectors, NaN where a record has no value.

        >>> History([{"step": 0, "gap": 1.0}, {"step": 5}]).columns
        {'step': array([0, 5]), 'gap': array([ 1., nan])}
        """
        return {name: self[name] for name in self.names}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return one column; `step` is of integers, the others of floats."""
        if not self.records and name == "step":
            return np.array([], dtype=np.int64)
        values = [record.get(name) for record in self.records]
        shape = next((np.shape(v) for v in values if v is not None), None)
        if shape is None and name not in self.names:
            raise KeyError(f"no column {name!r}; {suggestion(name, self.names)}")
        if name == "step":
            return np.array(values, dtype=np.int64)
        blank = np.full(shape or (), np.nan)
        return np.array([blank if v is None else np.asarray(v, dtype=np.float64) for v in values])

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def to_polars(self) -> polars.DataFrame:
        """Return a polars frame, one row a record; vector columns are Arrays."""
        import polars as pl

        return pl.DataFrame(dict(self.columns))

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas frame, one row a record; vector columns hold lists. Needs pandas to be installed.

        Raises:
            DlnError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise DlnError("to_pandas() needs pandas: pip install pandas (to_polars() works without)") from None
        return pd.DataFrame({name: c if c.ndim == 1 else c.tolist() for name, c in self.columns.items()})

    def __repr__(self) -> str:
        events = "".join(f", {name}={step}" for name, step in self.ends.items())
        return f"History({len(self)} records to step {self.final.get('step')}{events}; {', '.join(self.names)})"


def suffixed(values: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """Return `values` with `suffix` added to every name: how a lane's values and events are told apart.

    >>> suffixed({"train_loss": 1.0}, "_a")
    {'train_loss_a': 1.0}
    """
    return {name + suffix: value for name, value in values.items()}
