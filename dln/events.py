"""What happened in a run, found from its records when it has ended: when modes were learned, plateaus, stability.

An event is a function of columns of the record, [T] or [T, k], and of constants of the data (`dln.constants`). Times
are steps, between records found by linear interpolation; what has not happened is NaN.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.arithmetic import uniform
from dln.config import EventConfig
from dln.constants import CONSTANTS
from dln.errors import ConfigError, ExtensionError
from dln.registry import Registry

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from dln.data import Dataset

EVENTS = Registry("event", supplied=("step", "columns", *CONSTANTS))


def event(name: str, of: Sequence[str] = (), **marks: Any):
    """Register `f(step, ...) -> number, list, or dict of them`, found once when a run has ended: `events=[name]`.

    Its arguments name `step` [T], the columns in `of`, `columns` (all of them, by name), and constants of the data;
    further ones are parameters a config can set. A column in `of` must be recorded: a metric of that name or label. The
    mark `source` says where it is from.
    """
    return EVENTS.register(name, of=tuple(of), **marks)


@event("mode_escapes", of=["mode_strengths"], source="arXiv 1312.6120")
def mode_escapes(
    step: Int[np.ndarray, " T"],
    mode_strengths: Float[np.ndarray, "T k"],
    teacher_values: Float[np.ndarray, " k"],
    fraction: float = 0.5,
) -> Float[np.ndarray, " k"]:
    """Step at which each mode's strength first reaches `fraction` of the teacher's singular value, largest first."""
    levels = fraction * teacher_values[: mode_strengths.shape[1]]
    return np.array([first_reach(step, curve, level) for curve, level in zip(mode_strengths.T, levels, strict=True)])


@event("mode_order", of=["mode_strengths"])
def mode_order(
    step: Int[np.ndarray, " T"],
    mode_strengths: Float[np.ndarray, "T k"],
    teacher_values: Float[np.ndarray, " k"],
    fraction: float = 0.5,
) -> list[int]:
    """Numbers of the modes, 1 the teacher's largest, in the order in which they are learned; others are left out."""
    times = mode_escapes(step, mode_strengths, teacher_values, fraction)
    return [int(i) + 1 for i in np.argsort(times, kind="stable") if np.isfinite(times[i])]


@event("plateaus", of=["columns"], source="arXiv 1312.6120")
def plateaus(
    step: Int[np.ndarray, " T"],
    columns: Mapping[str, np.ndarray],
    column: str = "train_loss",
    tolerance: float = 0.1,
    shortest: float = 0.02,
) -> dict[str, list[float]]:
    """Begin, end and mean level of stretches, `shortest` of the run or more, of a column that hardly falls.

    Hardly: slower than `tolerance` times its mean pace, from its first value to its least over the whole run.
    """
    if column not in columns:
        raise ConfigError(f"there is no column {column!r}; it has: {', '.join(columns)}")
    loss, found = columns[column], {"begin": [], "end": [], "level": []}
    if len(step) < 2:
        return found
    pace = (loss[0] - loss.min()) / (step[-1] - step[0])
    slow = -np.diff(loss) / np.diff(step) < tolerance * pace
    edges = np.flatnonzero(np.diff(np.concatenate([[0], slow, [0]])))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if step[last] - step[first] >= shortest * (step[-1] - step[0]):
            area = np.trapezoid(loss[first : last + 1], step[first : last + 1])
            found["begin"].append(float(step[first]))
            found["end"].append(float(step[last]))
            found["level"].append(float(area / (step[last] - step[first])))
    return found


@event("edge_of_stability", of=["stability"], source="arXiv 2103.00065")
def edge_of_stability(step: Int[np.ndarray, " T"], stability: Float[np.ndarray, " T"]) -> float:
    """Step at which `stability`, lr / 2 times the sharpness, first reaches 1."""
    return first_reach(step, stability, 1.0)


def first_reach(step: Int[np.ndarray, " T"], curve: Float[np.ndarray, " T"], level: float) -> float:
    """Return when a curve first reaches a level from below, interpolated; NaN if it never does.

    >>> first_reach(np.array([0, 10, 20]), np.array([0.0, 1.0, 3.0]), 2.0)
    15.0
    """
    above = np.flatnonzero(curve >= level)
    if len(above) == 0:
        return float("nan")
    t = int(above[0])
    if t == 0:
        return float(step[0])
    share = (level - curve[t - 1]) / (curve[t] - curve[t - 1])
    return float(step[t - 1] + share * (step[t] - step[t - 1]))


# --- from names in a config to values ---------------------------------------------------------------------------------


def check_events(configs: Sequence[EventConfig], columns: Sequence[str], dataset: Dataset | None = None) -> None:
    """Raise ConfigError where an event is unknown, has wrong parameters, or needs what is not recorded or not there."""
    for i, config in enumerate(configs):
        entry = EVENTS.get(config.name, f"events[{i}]")
        entry.check(config.params, f"events[{i}].params")
        for name in entry.marks["of"]:
            if name not in ("columns", *columns):
                raise ConfigError(
                    f"events[{i}]: event {config.name!r} needs the column {name!r}; add it to the metrics"
                )
        for name in CONSTANTS.keys() & inspect.signature(entry.function).parameters if dataset is not None else ():
            try:
                CONSTANTS[name](dataset)
            except ConfigError as error:
                raise ConfigError(f"events[{i}]: event {config.name!r}: {error}") from None


@uniform()
def find_events(
    configs: Sequence[EventConfig], columns: Mapping[str, np.ndarray], dataset: Dataset, suffix: str = ""
) -> dict[str, Any]:
    """Return what the events of a lane come to, by name with the lane's suffix: numbers, or lists of them.

    Args:
        configs: The events.
        columns: All columns of the run's records, [T, ...] each.
        dataset: What the run learned from.
        suffix: The lane's, at the end of its columns' names.
    """
    ours = {name.removesuffix(suffix): values for name, values in columns.items() if name.endswith(suffix)}
    found: dict[str, Any] = {}
    for config in configs:
        entry = EVENTS.get(config.name)
        supply: dict[str, Any] = {"step": columns["step"], "columns": ours}
        wants = [n for n in inspect.signature(entry.function).parameters if n not in (entry.parameters or {})]
        supply |= {name: CONSTANTS[name](dataset) for name in wants if name in CONSTANTS}
        supply |= {name: ours[name] for name in entry.marks["of"] if name in ours}
        try:
            value = entry(**{name: supply[name] for name in wants}, **config.params)
        except ConfigError:
            raise
        except Exception as error:
            raise ExtensionError(f"event {config.name!r} failed: {error!r}") from error
        parts = {f"{config.name}{suffix}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else None
        for name, part in (parts or {f"{config.name}{suffix}": value}).items():
            array = np.asarray(part, dtype=np.float64)
            values = array.astype(object)
            values[np.isnan(array)] = None
            found[name] = values.tolist()
    return found
