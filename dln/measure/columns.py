"""Names that columns may have: those of a record, of events, and of a sweep's table.

A record's column is a label; in a comparison, a lane's label and its suffix; of a metric that returns a dict, that and
`.key`. All of them, and all keys of a config, stand in one table.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from dln.composing.keys import keys
from dln.config import ComparativeConfig, SingleConfig, leaf_of
from dln.errors import ConfigError, suggestion
from dln.history import ENDS, Record

TAKEN = ("run", "reference_run", "record", "step", "train_loss", "test_loss", *ENDS)
"""What every table or record has already, or a table of lanes, with a suffix."""

LONGEST = 100
"""Characters of a label."""


def check_label(label: str, where: str) -> None:
    """Raise ConfigError where no metric or event may have this label.

    Args:
        label: The label, or the registered name that stands in for one.
        where: The config key, for the message.
    """
    if not label.isprintable() or label != label.strip() or not 0 < len(label) <= LONGEST:
        shown = label if len(label) <= LONGEST else f"{label[:LONGEST]}..."
        raise ConfigError(
            f"{where}: {shown!r} is no label: take at most {LONGEST} printable characters, no blanks at the ends"
        )
    if label in TAKEN or label.startswith(ENDS) or label in _config_keys() or leaf_of(label) is not None:
        raise ConfigError(f"{where}: the label {label!r} is taken, by a column that tables have; choose another one")


@functools.cache
def _config_keys() -> frozenset[str]:
    """Keys of both schemas, sections included."""
    return frozenset(key for schema in (SingleConfig, ComparativeConfig) for key in keys(schema))


def check_pair_label(label: str, where: str) -> None:
    """Raise ConfigError where no metric of a pair may have this label."""
    check_label(label, where)
    if label.endswith(("_a", "_b")):
        raise ConfigError(f"{where}: the label {label!r} ends as a column of one lane does; choose another one")


def check_apart(labels: Iterable[str], where: str, what: str = "metrics") -> None:
    """Raise ConfigError where two labels would share a column; `where` is the config key and `what` they are of.

    >>> check_apart(["norm", "norms.x", "norm_a"], "metrics")
    >>> check_apart(["norms", "norms.x"], "metrics")
    Traceback (most recent call last):
    dln.errors.ConfigError: metrics: 'norms' and 'norms.x' would share a column; give one another label
    """
    known: set[str] = set()
    for label in sorted(labels):
        if label in known:
            raise ConfigError(f"{where}: two {what} are called {label!r}; give one a label of its own")
        heads = [label[:i] for i, c in enumerate(label) if c == "."]
        clash = next((head for head in heads if head in known), None)
        if clash is not None:
            raise ConfigError(f"{where}: {clash!r} and {label!r} would share a column; give one another label")
        known.add(label)


def check_column(
    column: str, where: str, recorded: Sequence[str], first: Callable[[Collection[str]], Sequence[Record]]
) -> None:
    """Raise ConfigError unless there is such a column, and it has one number a record.

    Args:
        column: What is looked for.
        where: The config key that names it.
        recorded: Losses and labels of metrics.
        first: Returns first records, of every lane or of all together, with the metrics of these labels.
    """
    if column in ("train_loss", "test_loss") and column in recorded:
        return
    owners = [label for label in recorded if column == label or column.startswith(f"{label}.")]
    for record in first(owners):
        if column not in record or column == "step":
            known = dict.fromkeys([*(name for name in recorded if name not in owners), *record])
            raise ConfigError(f"{where}: there is no column {column!r}; {suggestion(column, known)}")
        if np.ndim(record[column]):
            numbers = " x ".join(map(str, np.shape(record[column])))
            raise ConfigError(f"{where}: the column {column!r} has {numbers} numbers a record; name one of one number")


def entry_of(name: str) -> tuple[str, int | None]:
    """Take the number of an entry from the name of a vector.

    >>> entry_of("singular_values[2]"), entry_of("test_loss")
    (('singular_values', 2), ('test_loss', None))
    """
    found = re.fullmatch(r"(.+)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, None)


def check_number(name: str, where: str, recorded: Sequence[str], first: Callable[[Collection[str]], Record]) -> None:
    """Raise ConfigError unless a name is of a column with one number a record, or of an entry of a vector, `name[1]`.

    Args:
        name: The name.
        where: The config key that names it.
        recorded: Losses and labels of metrics.
        first: Returns a first record, with the metrics of these labels.
    """
    whole, entry = entry_of(name)
    if entry is None:
        check_column(name, where, recorded, lambda owners: [first(owners)])
        return
    record = first([label for label in recorded if whole == label or whole.startswith(f"{label}.")])
    if whole not in record:
        raise ConfigError(
            f"{where}: there is no column {whole!r}; {suggestion(whole, dict.fromkeys([*recorded, *record]))}"
        )
    if np.ndim(record[whole]) != 1 or not 1 <= entry <= len(record[whole]):
        many = f"its entries are 1 to {len(record[whole])}" if np.ndim(record[whole]) == 1 else "it is no vector"
        raise ConfigError(f"{where}: there is no {name!r}: {many}")


def lane_columns(names: Iterable[str], labels: Sequence[str], suffix: str) -> dict[str, str]:
    """Return the columns of one lane, by the names that they have in a run of that lane alone.

    Args:
        names: Columns of a record.
        labels: Of the metrics of each model.
        suffix: The lane's; empty: all columns.

    >>> lane_columns(["norm_a", "norm_b", "values_a.1", "distance_a"], ["norm", "values"], "_a")
    {'norm': 'norm_a', 'values.1': 'values_a.1'}
    """
    if not suffix:
        return {name: name for name in names}
    found = {}
    for name in names:
        for label in ("train_loss", "test_loss", *labels):
            rest = name.removeprefix(label + suffix)
            if rest != name and (not rest or rest.startswith(".")):
                found[label + rest] = name
    return found
