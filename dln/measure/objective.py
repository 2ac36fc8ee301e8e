"""What a search over configs is to make small, or large: a number, or several, of the records of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dln.base.values import whole_number
from dln.errors import ConfigError
from dln.history import History, Record
from dln.measure.columns import check_column
from dln.timeline import next_step

OF_ALL: dict[str, Callable[[np.ndarray], Any]] = {"last": lambda curve: curve[-1], "min": np.nanmin, "max": np.nanmax}
"""What is taken of a column where it is not the value at one step."""


@dataclass(frozen=True)
class Goal:
    """One number of a run's records: a column, and which of its values."""

    column: str
    which: str | int = "last"
    """`last`, `min` or `max` of the values, or the step whose value it is."""

    def value(self, history: History) -> float:
        """Return it; NaN where the column's lane had diverged by then, or has no number there.

        At a step after a callback has stopped the run it is the value where it stopped.
        """
        by = self.which if isinstance(self.which, int) else math.inf
        if any(step <= by for step in self._diverged(history)):
            return math.nan
        curve, step = history[self.column].astype(np.float64), history["step"]
        if curve.ndim > 1:
            raise ConfigError(f"the column {self.column!r} has several numbers a record; name one of one number")
        if isinstance(self.which, int):
            stopped = by > step[-1] and any(name.startswith("stopped_at") for name in history.events)
            if by not in step and not stopped:
                raise ConfigError(
                    f"step {by} is not recorded; {self.column} has its values at those of history['step']"
                )
            return float(curve[step <= by][-1])
        return math.nan if np.isnan(curve).all() else float(OF_ALL[self.which](curve))

    def _diverged(self, history: History) -> list[int]:
        """Return where lanes diverged that the column is of: one, as its suffix says, or both."""
        own = [suffix for suffix in ("_a", "_b") if self.column.endswith(suffix) or f"{suffix}." in self.column]
        names = [f"diverged_at{suffix}" for suffix in ("", *(own or ("_a", "_b")))]
        return [history.events[name] for name in names if name in history.events]


def goals(objective: Any) -> dict[str, Goal]:
    """Return what an `objective` asks for, in any of its spellings, by the keys where it stands.

    Raises:
        ConfigError: It has none of them.

    >>> goals("test_loss")
    {'objective': Goal(column='test_loss', which='last')}
    >>> [*goals([{"test_loss": "min"}, {"weight_norm": 500}]).values()]
    [Goal(column='test_loss', which='min'), Goal(column='weight_norm', which=500)]
    """
    if objective is None:
        return {}
    if isinstance(objective, str) or not isinstance(objective, Sequence):
        return {"objective": _goal(objective, "objective")}
    if not objective:
        raise ConfigError("objective is an empty list; name a column such as test_loss, or null for nothing")
    return {where: _goal(entry, where) for where, entry in ((f"objective[{i}]", e) for i, e in enumerate(objective))}


def _goal(entry: Any, where: str) -> Goal:
    if isinstance(entry, str):
        return Goal(entry)
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise ConfigError(
            f"{where} must be a column such as test_loss, or one with what to take of it, such as {{test_loss: min}}, "
            f"not {entry!r}"
        )
    ((column, which),) = entry.items()
    if isinstance(which, str) and which not in OF_ALL:
        raise ConfigError(f"{where}: of {column} take {', '.join(OF_ALL)}, or a step, not {which!r}")
    return Goal(str(column), which if which in OF_ALL else whole_number(which, f"{where}: a step", least=0))


def check_goals(
    objective: Any,
    columns: Sequence[str],
    steps: Collection[int],
    begin: int,
    first: Callable[[Collection[str]], Record],
) -> None:
    """Raise ConfigError where an `objective` is no number of the records that a run will have.

    Args:
        objective: In any spelling.
        columns: What is recorded: losses, and labels of metrics, with their lane's suffix.
        steps: At which it is recorded, from `begin` on.
        begin: The step that the run begins with.
        first: Returns a first record, with the metrics of these names.
    """
    for where, goal in goals(objective).items():
        if goal.column != "step":
            check_column(goal.column, where, columns, lambda owners: [first(owners)])
        at = goal.which
        if isinstance(at, int) and not (at in steps and at >= begin):
            near = next_step(steps, max(at, begin - 1))
            there = "the run ends before" if near is None else f"the next that is: {near}"
            raise ConfigError(f"{where}: step {at} is not recorded; {there}")


def objective(history: History, of: Any, maximize: bool | Sequence[bool] = False) -> float | tuple[float, ...]:
    """Return what a search over configs is to make small, or large, as the config key `objective` says it.

    Args:
        history: The records of a run.
        of: A column, whose last value is meant; `{column: "min"}`, or `"max"`, `"last"` or a step; or a list of those.
        maximize: Whether it is to be large; of several, each.

    Returns:
        The number; of a list of several, as many. A run that has diverged by the step asked for, or that has no number
        there, is worse than any: infinite.

    Raises:
        ConfigError: `of` has none of these forms, or names a column of vectors or a step without a record.
        KeyError: There is no such column.

    >>> history = History([{"step": 10 * i, "test_loss": loss} for i, loss in enumerate([1.0, 0.25, 0.5])])
    >>> objective(history, "test_loss"), objective(history, [{"test_loss": "min"}, {"test_loss": 0}])
    (0.5, (0.25, 1.0))
    >>> objective(History(events={"diverged_at": 0}), "test_loss", maximize=True)
    -inf
    """
    asked = [*goals(of).values()]
    large = [maximize] * len(asked) if isinstance(maximize, bool) else maximize
    values = [goal.value(history) for goal in asked]
    worst = [-math.inf if up else math.inf for up in large]
    found = tuple(bad if math.isnan(value) else value for value, bad in zip(values, worst, strict=True))
    return found[0] if len(found) == 1 else found
