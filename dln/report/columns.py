"""Which curves a report has, what each is of, and in which order they matter."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dln.errors import StorageError
from dln.predictions import theories_of, told_by
from dln.results.finals import MOST_ENTRIES
from dln.studies.stored_runs import StoredRuns

FIRST = ("test_loss", "train_loss", "test_loss_b", "train_loss_b", "test_loss_a", "train_loss_a")
"""What is looked at first, if it is there."""
LANES = ("_a", "_b")
SPREAD = "_std"


@dataclass(frozen=True)
class Column:
    """A curve of numbers."""

    name: str
    group: str
    """Columns that are drawn in one panel."""
    of: str
    """The column that a theory tells; of a run's own the column itself."""
    theory: str = ""
    lane: str = ""
    entry: str = ""
    """Which one it is in its group: `[1]` of a vector, a key of a dict."""
    spread: str = ""
    """The column of a theory's standard deviation."""

    @property
    def is_spread(self) -> bool:
        """Whether it is a theory's standard deviation, which is drawn as a band."""
        return bool(self.theory) and self.of.partition(".")[0].partition("[")[0].endswith(SPREAD)

    def to_json(self) -> dict[str, Any]:
        """Return what a page reads it from."""
        return {name: value for name, value in vars(self).items() if value}


def columns_of(
    runs: StoredRuns, comparison: bool, wanted: Sequence[str] | None = None, first: Sequence[str] = ()
) -> list[Column]:
    """Return the curves of numbers of some runs, those first that one looks at first; entries of vectors are columns.

    Args:
        runs: The runs.
        comparison: Whether they are of two lanes, whose columns end in `_a` and `_b`.
        wanted: Which curves, or vectors; None: all.
        first: Which of them come first.

    Raises:
        StorageError: There is no such curve.
    """
    known = _numbers(runs)
    names = [name for whole in known for name in known[whole]]
    theories = [] if comparison else theories_of(list(known))
    made = [column_of(name, comparison, theories, names) for name in names]
    if wanted is not None:
        chosen = {name for whole in wanted for name in known.get(whole, [whole])}
        for name in sorted(chosen):
            runs.check_curve(name)
        made += [column_of(name, comparison, theories, names) for name in sorted(chosen.difference(names))]
        made = [column for column in made if {column.name, column.of}.intersection(chosen)]
        spreads = {column.spread for column in made}
        made += [column_of(name, comparison, theories, names) for name in names if name in spreads]
    place = {name: i for i, name in enumerate((*first, *FIRST))}
    return sorted(made, key=lambda c: (c.is_spread, place.get(c.of, len(place)), bool(c.entry)))


def column_of(name: str, comparison: bool, theories: Sequence[str], names: Sequence[str] = ()) -> Column:
    """Return what a name says.

    >>> column_of("norms_a.first", True, [])
    Column(name='norms_a.first', group='norms', of='norms_a.first', theory='', lane='a', entry='first', spread='')
    >>> column_of("modes_flow[2]", False, ["flow"], ["modes[2]"]).of
    'modes[2]'
    """
    head, entry = name, ""
    for mark in (".", "["):
        if mark in head:
            head, _, rest = head.partition(mark)
            entry = (mark if mark == "[" else "") + rest + entry
    tail = name.removeprefix(head)
    of, theory = told_by(head, theories)
    if theory:
        spread = f"{of}_std_{theory}{tail}"
        told = f"{of}{tail}"
        known = told in names or of.endswith(SPREAD)
        group, own = (of, told) if known else (head, name)
        return Column(name, _panel(group), own, theory, "", entry, spread if spread in names else "")
    lane = head[-2:] if comparison and head.endswith(LANES) else ""
    group = head.removesuffix(lane)
    return Column(name, _panel(group), name, "", lane[1:], entry)


def _panel(group: str) -> str:
    return "loss" if group in ("train_loss", "test_loss") else group


def _numbers(runs: StoredRuns) -> dict[str, list[str]]:
    """Return the curves of numbers, and for each vector those of its entries, the first ones."""
    import polars as pl

    found = {name: [name] for name in runs.curve_names()}
    for name, kind in runs.schema.items():
        if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Array):
            inner: Any = kind.inner
            with contextlib.suppress(StorageError):  # lists that are events, and matrices, are no curves
                runs.check_curve(f"{name}[1]")
                found[name] = [f"{name}[{i + 1}]" for i in range(min(inner.size, MOST_ENTRIES))]
    return {name: found[name] for name in (*runs.schema, *found) if name in found}
