"""Which columns of a history go together: a metric, its keys, its lanes, and what theories say of it."""

from __future__ import annotations

from collections.abc import Sequence

from dln.figures.style import LANES
from dln.history import History
from dln.predictions import OF_PAIRS, theories_of, told_by


def parts(column: str) -> tuple[str, str, str]:
    """Return the metric, the key (of one that returns a dict) and the lane: `norms_a.first` is of `norms`, lane a."""
    head, _, key = column.partition(".")
    lane = head[-2:] if head.endswith(tuple(LANES)) else ""
    return head.removesuffix(lane), key, lane


def grouped(history: History, metrics: Sequence[str] | None, comparative: bool) -> dict[str, list[str]]:
    """Return the metrics to draw, each with its columns."""
    groups: dict[str, list[str]] = {}
    theories = [] if comparative else theories_of(history.names)
    for column in history.names:
        name, _, lane = parts(column)
        of, theory = told_by(name if comparative else name + lane, theories)
        if not (theory and of.endswith("_std")):  # which is drawn as a band
            groups.setdefault(of, []).append(column)
    if metrics is None:
        drawn = {"step", "train_loss", "test_loss"}
        told = {name for name, columns in groups.items() if all(told_by(column, theories)[1] for column in columns)}
        drawn |= {name for name in told if parts(name)[0] not in OF_PAIRS}  # flags and the like: to be asked for
        return {name: columns for name, columns in groups.items() if name not in drawn}
    for name in metrics:
        if name not in groups:
            history[name]  # raises, and lists the columns there are
    return {name: groups.get(name, [name]) for name in metrics}


def lane_columns(history: History, metric: str) -> dict[str, str]:
    """Return the columns that `metric` names, and the line each is drawn with."""
    lanes = {column: line for column, line in ((f"{metric}_a", "-"), (f"{metric}_b", "--")) if column in history}
    return {metric: "-"} if metric in history or not lanes else lanes
