"""Which columns of a history go together: a metric, its keys, its models, and what theories say of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dln.errors import ConfigError
from dln.figures.style import LANES
from dln.history import History
from dln.predictions import OF_PAIRS, theories_of, told_by

LOSSES = ("train_loss", "test_loss", "full_train_loss", "population_loss")
"""What stands in the panel of losses."""
LEVELS = "levels_plateaus"
"""What the theory `plateaus` says."""
APART = (*LOSSES, LEVELS, *(LEVELS + lane for lane in LANES))
"""What has no panel of its own unless it is asked for."""


class Column(NamedTuple):
    """A column of a history, and what it is of."""

    name: str
    metric: str
    key: str
    """Of a metric that returns a dict."""
    lane: str
    theory: str
    spread: bool
    """Whether it is how far a theory says that runs spread."""


def parts(column: str) -> tuple[str, str, str]:
    """Return the metric, the key (of one that returns a dict) and the lane: `norms_a.first` is of `norms`, lane a.

    >>> parts("norms_a.first"), parts("train_loss")
    (('norms', 'first', '_a'), ('train_loss', '', ''))
    """
    head, _, key = column.partition(".")
    lane = head[-2:] if head.endswith(tuple(LANES)) else ""
    return head.removesuffix(lane), key, lane


def columns_of(history: History) -> list[Column]:
    """Return all columns but the step, in their order.

    >>> [column[1:5] for column in columns_of(History([{"step": 0, "train_loss": 1.0, "train_loss_flow": 1.0}]))]
    [('train_loss', '', '', ''), ('train_loss', '', '', 'flow')]
    """
    pair = is_comparison(history)
    names = [name for name in history.names if name != "step"]
    heads = {}
    for name in names:
        metric, key, lane = parts(name)
        heads[name] = (metric, key, lane) if pair else (metric + lane, key, "")
    theories = theories_of({metric + (f".{key}" if key else "") for metric, key, _ in heads.values()})
    found = []
    for name, (head, key, lane) in heads.items():
        metric, theory = told_by(head, theories)
        spread = bool(theory) and metric.endswith("_std")
        found.append(Column(name, metric.removesuffix("_std") if spread else metric, key, lane, theory, spread))
    return found


def is_comparison(history: History) -> bool:
    """Whether a history is of two models in lockstep."""
    return any(f"train_loss{lane}" in history or f"diverged_at{lane}" in history.events for lane in LANES)


def metrics_of(history: History) -> list[str]:
    """Return the metrics that a figure of all of a run has panels of.

    Left out are the losses, which have one of their own, and what only theories say: flags and the like, which are to
    be asked for; how far a run is from what they say stays.
    """
    own = [column for column in columns_of(history) if not column.spread]
    of_runs = {column.metric for column in own if not column.theory}
    listed = dict.fromkeys(column.metric for column in own)
    return [name for name in listed if name not in APART and (name in of_runs or name in OF_PAIRS)]


def of_metric(history: History, name: str) -> list[Column]:
    """Return the columns of a metric, or the one that is called so.

    Raises:
        KeyError: There is neither.
    """
    columns = columns_of(history)
    chosen = [column for column in columns if column.metric == name]
    if not chosen:
        history[name]  # raises, and lists the columns there are
        chosen = [column._replace(metric=name) for column in columns if column.name == name]
    return chosen


def numbers(history: History, name: str) -> np.ndarray:
    """Return a column of one number a record [T]; of a vector `name[1]` is the first number.

    Raises:
        KeyError: There is no such column.
        ConfigError: It has several numbers a record, or not as many as that.

    >>> history = History([{"step": 0, "v": [3.0, 1.0]}])
    >>> numbers(history, "v[2]").tolist()
    [1.0]
    >>> numbers(history, "v")
    Traceback (most recent call last):
    dln.errors.ConfigError: column 'v' has 2 numbers a record; name one of them, e.g. 'v[1]'
    """
    indexed = re.fullmatch(r"(.*)\[(\d+)\]", name)
    column = indexed[1] if indexed and name not in history else name
    values = history[column].astype(float)
    if values.ndim == 1:
        return values
    count = values.reshape(len(values), -1).shape[1]
    if not indexed:
        raise ConfigError(f"column {name!r} has {count} numbers a record; name one of them, e.g. '{name}[1]'")
    if not 1 <= int(indexed[2]) <= count:
        raise ConfigError(f"column {column!r} has {count} numbers a record, and {name!r} asks for another")
    return values.reshape(len(values), -1)[:, int(indexed[2]) - 1]


def lane_columns(history: History, metric: str) -> dict[str, str]:
    """Return the columns that `metric` names, and the line each is drawn with: a solid, b dashed."""
    lanes = {column: line for column, line in ((f"{metric}_a", "-"), (f"{metric}_b", "--")) if column in history}
    return {metric: "-"} if metric in history or not lanes else lanes


def key_names(metric: str, keys: Sequence[str]) -> list[str]:
    """Return what the keys of a metric are called: layers by their numbers, others as they are.

    >>> key_names("layer_singular_values", ["1", "2"]), key_names("norms", ["first"])
    (['layer 1', 'layer 2'], ['first'])
    """
    return [f"layer {key}" if metric.startswith("layer_") and key.isdigit() else key for key in keys]
