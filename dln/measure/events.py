"""What happened in a run, found from its records when it has ended: when modes were learned, plateaus, stability.

An event is a function of columns of the record, [T] or [T, k], and of constants of the data
(`dln.measure.data_quantities`). Times are steps, between records found by linear interpolation; what has not happened
is NaN.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.registry import Bounds, Registry
from dln.config import EventConfig
from dln.errors import ConfigError
from dln.measure.columns import check_apart, check_column, check_label
from dln.measure.data_quantities import CONSTANTS, rank_of
from dln.measure.plateaus import find_plateaus

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from dln.data import Dataset
    from dln.history import Record

EVENTS = Registry("event", supplied=lambda: ("step", "columns", *CONSTANTS))

Column = Annotated[str, "a column with one number a record"]
"""A parameter that names a column; before the first step it is checked that there is such a column."""

Share = Annotated[float, Bounds(above=0)]
"""A parameter that is a share of something."""


def event(name: str, of: Sequence[str] = (), **marks: Any):
    """Register `f(step, ...) -> number, list, or dict of them`, found once when a run has ended: `events=[name]`.

    Its arguments name `step` [T], the columns in `of`, `columns` (all of them, by name), and constants of the data;
    further ones are parameters a config can set, of type `Column` where they name a column. A column in `of` must be
    recorded: a metric of that name or label. Records are those of the lane's training: from when it has diverged or
    stopped there are none. The mark `source` says where it is from.
    """
    return EVENTS.register(name, of=tuple(of), **marks)


@event("mode_escapes", of=["mode_strengths"], source="arXiv 1312.6120")
def mode_escapes(
    step: Int[np.ndarray, " T"],
    mode_strengths: Float[np.ndarray, "T k"],
    teacher_values: Float[np.ndarray, " k"],
    fraction: Share = 0.5,
) -> Float[np.ndarray, " k"]:
    """Step at which each mode's strength first reaches `fraction` of the teacher's singular value, largest first.

    NaN for one that never does, and for those that the teacher lacks.

    >>> mode_escapes(np.array([0, 10]), np.array([[0.0, 0.0], [4.0, 0.5]]), np.array([4.0, 2.0]))
    array([ 5., nan])
    """
    levels = np.where(np.arange(len(teacher_values)) < rank_of(teacher_values), fraction * teacher_values, np.nan)
    return np.array([first_reach(step, curve, level) for curve, level in zip(mode_strengths.T, levels, strict=False)])


@event("mode_order", of=["mode_strengths"])
def mode_order(
    step: Int[np.ndarray, " T"],
    mode_strengths: Float[np.ndarray, "T k"],
    teacher_values: Float[np.ndarray, " k"],
    fraction: Share = 0.5,
) -> list[int]:
    """Numbers of the modes, 1 the teacher's largest, in the order in which they are learned; others are left out.

    >>> mode_order(np.array([0, 10]), np.array([[0.0, 0.0, 0.0], [3.0, 2.0, 0.0]]), np.array([4.0, 2.0, 1.0]))
    [2, 1]
    """
    times = mode_escapes(step, mode_strengths, teacher_values, fraction)
    return [int(i) + 1 for i in np.argsort(times, kind="stable") if np.isfinite(times[i])]


@event("plateaus", of=["columns"], source="arXiv 1312.6120")
def plateaus(
    step: Int[np.ndarray, " T"],
    columns: Mapping[str, np.ndarray],
    column: Column = "train_loss",
    tolerance: Annotated[float, Bounds(least=0, most=1)] = 0.1,
    shortest: Annotated[float, Bounds(least=0, most=1)] = 0.02,
) -> dict[str, list[float]]:
    """Begin, end and mean level of each plateau of a column: it hardly changes for `shortest` of the run or longer.

    It then changes more slowly than `tolerance` times its mean pace, which is its fall from the beginning to its
    minimum over the steps of the whole run. How noise is told from change: `dln.measure.plateaus`.
    """
    found = find_plateaus(step, columns[column], tolerance, shortest)
    return {key: [plateau[i] for plateau in found] for i, key in enumerate(("begin", "end", "level"))}


@event("edge_of_stability", of=["stability"], source="arXiv 2103.00065")
def edge_of_stability(step: Int[np.ndarray, " T"], stability: Float[np.ndarray, " T"]) -> float:
    """Step at which `stability` first reaches 1: the sharpness is then the largest at which SGD is stable."""
    return first_reach(step, stability, 1.0)


def first_reach(step: Int[np.ndarray, " T"], curve: Float[np.ndarray, " T"], level: float) -> float:
    """Return when a curve first reaches a level from below, interpolated; NaN if it never does.

    Records without a finite value are passed over.

    >>> first_reach(np.array([0, 10, 20]), np.array([0.0, 1.0, 3.0]), 2.0)
    15.0
    """
    there = np.isfinite(curve)
    step, curve = step[there], curve[there]
    above = np.flatnonzero(curve >= level)
    if len(above) == 0:
        return float("nan")
    t = int(above[0])
    if t == 0:
        return float(step[0])
    share = (level - curve[t - 1]) / (curve[t] - curve[t - 1])
    return float(step[t - 1] + share * (step[t] - step[t - 1]))


# --- from names in a config to values ---------------------------------------------------------------------------------


def label_of(config: EventConfig) -> str:
    """Return what an event is called in results."""
    return config.label or config.name


def check_events(
    configs: Sequence[EventConfig],
    labels: Sequence[str],
    dataset: Dataset,
    first: Callable[[Collection[str]], Sequence[Record]],
    taught: bool = False,
) -> None:
    """Raise ConfigError where an event is unknown, has wrong parameters, or needs what is not recorded or not there.

    Args:
        configs: The events.
        labels: Of the metrics of each model.
        dataset: What the run learns from.
        first: Returns a first record of every lane, with the metrics of these labels.
        taught: Whether a callback changes the teacher: an event that looks at the data would speak of the first one.
    """
    recorded = ["train_loss", *(["test_loss"] if dataset.test_inputs is not None else []), *labels]
    for i, config in enumerate(configs):
        where = f"events[{i}]"
        entry = EVENTS.get(config.name, where)
        entry.check(config.params, f"{where}.params")
        check_label(label_of(config), where)
        for name in entry.marks["of"]:
            if name not in ("columns", *recorded):
                raise ConfigError(f"{where}: event {config.name!r} needs the column {name!r}; add it to the metrics")
        for name in CONSTANTS:
            if name in inspect.signature(entry.function).parameters:
                if taught:
                    raise ConfigError(
                        f"{where}: event {config.name!r} is of data that stay as they are, and a callback changes the "
                        "teacher; leave out one of both"
                    )
                try:
                    CONSTANTS[name](dataset)
                except ConfigError as error:
                    raise ConfigError(f"{where}: event {config.name!r}: {error}") from None
        for name, parameter in (entry.parameters or {}).items():
            if entry.type_of(name) is Column:
                column = config.params.get(name, parameter.default)
                check_column(column, f"{where}.params.{name}", recorded, first)
    check_apart([label_of(config) for config in configs], "events", "events")
    check_apart([*labels, *(label_of(config) for config in configs)], "events", "metrics and events")


@uniform()
def find_events(
    configs: Sequence[EventConfig], columns: Mapping[str, np.ndarray], dataset: Dataset, suffix: str = ""
) -> dict[str, Any]:
    """Return the values of the events of a lane, by label with the lane's suffix: numbers, or lists of them.

    Args:
        configs: The events.
        columns: The lane's own columns of the records in which it was trained [T, ...] each, without its suffix.
        dataset: What the run learned from.
        suffix: The lane's.
    """
    found: dict[str, Any] = {}
    for config in configs if len(columns["step"]) else ():  # of a lane that diverged at once there is nothing to say
        entry, label = EVENTS.get(config.name), label_of(config)
        known: dict[str, Any] = {"step": columns["step"], "columns": columns}
        known |= {name: CONSTANTS[name](dataset) for name in entry.asks_for if name in CONSTANTS}
        known |= {name: columns[name] for name in entry.marks["of"] if name in columns}
        named = {**{name: known[name] for name in entry.asks_for}, **config.params}
        parts = entry.call(f"event {label!r}", named=named, read=_parts)
        found |= {f"{label}{suffix}.{k}" if k else f"{label}{suffix}": value for k, value in parts.items()}
    return found


def _parts(value: Any) -> dict[str, Any]:
    """Return what an event came to by the names of its parts; of a single value the name is empty."""
    return {name: _plain(part) for name, part in (value if isinstance(value, Mapping) else {"": value}).items()}


def _plain(value: Any) -> Any:
    """Return a number or a list of numbers, None for what is not finite; whole numbers are ints."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.ndim > 1:
        array = np.array([np.nan if v is None else v for v in value] if array.ndim else value, dtype=np.float64)
    if array.ndim > 1:
        raise ValueError(f"it returned {value!r}: neither a number, nor a list of numbers, nor a dict of them")
    if array.dtype.kind in "bui":
        return array.astype(np.int64).tolist()
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()
