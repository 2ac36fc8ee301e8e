"""Stored runs by conditions: what they differ in, and their curves, of which only what is asked for is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dln.config import leaf_of
from dln.errors import StorageError, suggestion
from dln.history import History
from dln.results.frames import combinations
from dln.results.tables import RUN, stored
from dln.studies.curves import DIVERGED, Curves, Sample

if TYPE_CHECKING:
    import polars

CONDITION, BEGIN, END = "condition", "begin", "end"
"""Columns of conditions: their numbers, and between which rows their runs lie."""


class StoredRuns:
    """Runs of a sweep, one row each, in files or in memory."""

    def __init__(self, lazy: polars.LazyFrame, events: Iterable[str] | None, name: str) -> None:
        """Take the rows, which of their lists are no curves (None: it is seen), and what an error is to call them."""
        import polars as pl

        self.lazy, self.name = lazy, name
        self.schema = lazy.collect_schema()
        self.keys = [key for key in self.schema if leaf_of(key) is not None]
        if not isinstance(self.schema.get("step"), pl.List):
            raise StorageError(f"{name} has no column 'step': load it beside the curves, and 'diverged_at'")
        counts = lazy.select(pl.len().alias(RUN), *(pl.col(key).n_unique() for key in self.keys))
        self.counts: dict[str, int] = _collected(counts).row(0, named=True)
        if not self.counts[RUN]:
            raise StorageError(f"there is no run in {name}")
        self._events = {*events} if events is not None else self._no_curves()

    def _no_curves(self) -> set[str]:
        """Return which lists have not one value for each record."""
        import polars as pl

        lists = [name for name, kind in self.schema.items() if isinstance(kind, pl.List)]
        odd = [(pl.col(name).list.len().fill_null(0) != pl.col("step").list.len()).any().alias(name) for name in lists]
        return {name for name, no_curve in _collected(self.lazy.select(odd)).row(0, named=True).items() if no_curve}

    @property
    def varying(self) -> list[str]:
        """The keys that are not the same in all runs."""
        return [key for key in self.keys if self.counts[key] > 1]

    def check_key(self, key: str) -> None:
        """Raise StorageError, with the nearest name, if there is no such key."""
        if key not in self.keys:
            raise StorageError(f"{self.name} has no key {key!r}; {suggestion(key, self.varying)}")

    def stored_value(self, key: str, value: Any) -> Any:
        """Return what a value of a key is called in the rows.

        Raises:
            StorageError: No run has it, or there is no such key.
        """
        import polars as pl

        self.check_key(key)
        known = _collected(self.lazy.select(pl.col(key).unique())).to_series().sort().to_list()
        for name in (stored(value), json.dumps(value)):  # beside words, numbers are words too
            if name in known:
                return name
        listed = ", ".join("null" if other is None else str(other) for other in known[:12])
        told = "null" if value is None else value
        raise StorageError(f"no run in {self.name} has {key}={told}; it has {key}={listed}")

    def first(self, key: str) -> Any:
        """Return the value of a key in the first row."""
        return _collected(self.lazy.select(key).head(1)).item()

    def where(self, selection: Mapping[str, Any]) -> StoredRuns:
        """Return the runs whose rows have these values."""
        import polars as pl

        matches = [pl.col(key).eq_missing(pl.lit(value)) for key, value in selection.items()]
        return StoredRuns(self.lazy.filter(*matches), self._events, self.name)

    def conditions(self, by: Sequence[str], over: Sequence[str]) -> polars.DataFrame:
        """Return the combinations of some keys that there are, in order.

        Beside the keys: `condition`, its number; `run`, how many runs it has; and of their rows `begin`, the first, and
        `end`, the one after the last.

        Raises:
            StorageError: Runs of one condition differ in more than `over`.
        """
        import polars as pl

        table = _collected(self.lazy.select(*dict.fromkeys([*by, *over, *self.varying])))
        told = [*dict.fromkeys([*by, *over])]
        if combinations(table, told) < self.counts[RUN]:
            odd = self._odd(table, told, self.varying)
            if odd:
                raise StorageError(self._more_than(by, over, odd))
        row = pl.int_range(self.counts[RUN])
        rows = table.select(*by, row.alias(BEGIN), (row + 1).alias(END))
        about = pl.len().alias(RUN), pl.col(BEGIN).min(), pl.col(END).max()
        return (rows.group_by(by).agg(*about).sort(by) if by else rows.select(*about)).with_row_index(CONDITION)

    @staticmethod
    def _odd(table: polars.DataFrame, told: Sequence[str], keys: Sequence[str]) -> list[str]:
        """Return which keys differ among rows that agree in those that are `told`."""
        apart = combinations(table, told)
        return [key for key in keys if key not in told and combinations(table, [*told, key]) > apart]

    @staticmethod
    def _more_than(by: Sequence[str], over: Sequence[str], odd: Sequence[str]) -> str:
        return (
            f"runs that agree in {', '.join(by) or 'everything'} differ in more than {' and '.join(over)}: "
            f"{', '.join(odd)}; name each among the keys to average over, or among those to group by"
        )

    def follows(self, key: str, others: Sequence[str]) -> bool:
        """Return whether a key is a function of others, as one that is zipped with them is."""
        table = _collected(self.lazy.select(*others, key))
        return combinations(table, [*others, key]) == combinations(table, others)

    def curve_names(self) -> list[str]:
        """Return the names of curves of numbers, vectors aside."""
        import polars as pl

        lists = {name: kind for name, kind in self.schema.items() if isinstance(kind, pl.List)}
        return [n for n, kind in lists.items() if kind.inner.is_numeric() and n not in self._events and n != "step"]

    def curve(self, name: str) -> polars.Expr:
        """Return a curve of numbers, or that of one entry of a vector, `name[1]` the first.

        Raises:
            StorageError: There is none; the message has the nearest name.
        """
        import polars as pl

        whole, entry = _entry(name)
        kind = self.schema.get(whole)
        if not isinstance(kind, pl.List) or whole in {*self._events, "step"}:
            raise StorageError(f"{self.name} has no curve {name!r}; {suggestion(name, self._known())}")
        inner: Any = kind.inner
        if entry is None and inner.is_numeric():
            return pl.col(whole)
        many = getattr(inner, "size", None)
        if entry is None and inner.is_nested():
            told = f" of {many}" if many else ""
            raise StorageError(f"{name!r} is a vector{told}: name one of its entries, such as '{name}[1]'")
        if entry is None or not inner.is_nested() or not inner.inner.is_numeric():
            raise StorageError(f"{name!r} is no curve of numbers")
        if entry < 1 or (many and entry > many):
            raise StorageError(f"there is no {name!r}: {whole!r} has the entries 1 to {many}")
        element: Any = pl.element()
        of = element.arr if isinstance(inner, pl.Array) else element.list
        return pl.col(whole).list.eval(of.get(entry - 1, null_on_oob=True)).alias(name)

    def check_curve(self, name: str) -> None:
        """Raise StorageError, with the nearest name, if there is no such curve of numbers."""
        self.curve(name)

    def pairs(self, wanted: Sequence[tuple[str, str]] | None) -> list[tuple[str, str]]:
        """Return the pairs of curves whose covariance is to be told; raise StorageError for what is no curve."""
        for name in (name for pair in wanted or () for name in pair):
            self.check_curve(name)
        return [(one, other) for one, other in wanted or ()]

    def quantiles(self, wanted: Sequence[float] | None) -> tuple[float, ...]:
        """Return which quantiles are to be told: None is the median."""
        return (0.5,) if wanted is None else tuple(wanted)

    def _known(self) -> list[str]:
        import polars as pl

        vectors = [name for name, kind in self.schema.items() if isinstance(kind, pl.List) and kind.inner.is_nested()]
        return [*self.curve_names(), *(f"{name}[1]" for name in vectors if name not in self._events)]

    def records(self) -> int:
        """Return the largest number of records that a run has."""
        import polars as pl

        return _collected(self.lazy.select(pl.col("step").list.len().max())).item() or 0

    def read(
        self, conditions: polars.DataFrame, by: Sequence[str], over: Sequence[str], columns: Sequence[str]
    ) -> Iterator[tuple[int, Sample]]:
        """Yield the number and the runs of each of some `conditions`; runs are in the order of the keys `over`."""
        import polars as pl

        ended = [pl.col(name) for name in self.schema if name.startswith("diverged_at")]
        first = pl.min_horizontal(ended).alias(DIVERGED) if ended else pl.lit(None, pl.Int64).alias(DIVERGED)
        begin, end = conditions.select(pl.col(BEGIN).min(), pl.col(END).max()).row(0)
        near = self.lazy.slice(begin, end - begin)
        lazy = near.select(*dict.fromkeys([*by, *over]), first, "step", *map(self.curve, columns))
        if by:
            lazy = lazy.join(conditions.lazy().select(*by, CONDITION), on=[*by], how="inner", nulls_equal=True)
        else:
            lazy = lazy.with_columns(pl.lit(conditions[CONDITION][0]).alias(CONDITION))
        for (number,), frame in _collected(lazy).partition_by(CONDITION, as_dict=True).items():
            yield int(number), Curves(frame.sort(over) if over else frame)


def as_row(history: History) -> polars.LazyFrame:
    """Return a history as a sweep of one run; matrices are left out."""
    import polars as pl

    row = {}
    for name, column in history.columns.items():
        if column.ndim < 3:
            kind = pl.Array(pl.Float64, column.shape[1]) if column.ndim == 2 else pl.Float64
            row[name] = pl.Series([column.tolist()], dtype=pl.List(pl.Int64 if name == "step" else kind))
    return pl.LazyFrame(row)


GONE = "a file has gone while it was read; try again once the sweep's driver has ended"


def _collected(lazy: polars.LazyFrame) -> polars.DataFrame:
    """Compute a frame without holding more of its files than it must."""
    try:
        return lazy.collect(engine="streaming")
    except FileNotFoundError as error:
        raise StorageError(f"{GONE}: {error}") from None


def _entry(name: str) -> tuple[str, int | None]:
    """Take the number of an entry from the name of a vector.

    >>> _entry("singular_values[2]"), _entry("test_loss")
    (('singular_values', 2), ('test_loss', None))
    """
    found = re.fullmatch(r"(.+)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, None)
