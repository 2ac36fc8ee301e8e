"""How far apart the losses of a comparison are: at equal step, at equal time, or how many steps at equal loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dln.errors import ConfigError
from dln.history import History

if TYPE_CHECKING:
    from jaxtyping import Float

    Records = History | Mapping[str, Any]


def loss_gap(
    history: Records,
    at: Literal["step", "time", "loss"] = "step",
    column: str = "test_loss",
    rates: tuple[float, float] | None = None,
    interpolated: Literal["a", "b"] | None = None,
    reference: Records | None = None,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return where the two lanes of a comparative run are compared, and a's value minus b's there.

    Args:
        history: Of a comparative run, or of one with a `reference`, which is lane a; or a row of such a sweep.
        at: "step": losses at equal step. "time": losses at equal time, the learning rates of all updates so far summed,
            at the records of one lane, interpolated between those of the other. "loss": steps at which each loss of one
            lane is first reached, interpolated between the other's records.
        column: Which loss.
        rates: The lanes' learning rates, for "time". None: `time_a` and `time_b` tell, which the metric `time` records,
            and without being asked runs whose `reference` has another learning rate or other callbacks; where they are
            not there the lanes count as equally fast, and the time is the step.
        interpolated: Which lane is interpolated: a, where that is a smooth reference and b has noise. None: b, or of a
            `reference` a.
        reference: Lane a recorded at other steps, more densely perhaps: a single run of its own, or a row of a sweep of
            such runs. It takes the place of lane a, and "step" compares at the steps that both have.

    Raises:
        ConfigError: The history is of a single run, `at` is none of the three, `interpolated` is no lane, or only one
            of the lanes says at which time it was recorded.

    >>> history = History([{"step": s, "test_loss_a": 4.0 - s, "test_loss_b": 4.0 - 2 * s} for s in (0, 1, 2)])
    >>> loss_gap(history)
    (array([0., 1., 2.]), array([0., 1., 2.]))
    >>> loss_gap(history, "time", rates=(2.0, 1.0))  # a's step is worth two of b's
    (array([0., 2.]), array([0., 3.]))
    >>> loss_gap(history, "time", rates=(2.0, 1.0), interpolated="a")
    (array([0., 1., 2.]), array([0. , 1.5, 3. ]))
    >>> loss_gap(history, "loss")
    (array([4., 3., 2.]), array([0. , 0.5, 1. ]))
    """
    if at not in ("step", "time", "loss"):
        raise ConfigError(f'at must be "step", "time" or "loss", not {at!r}')
    if interpolated not in ("a", "b", None):
        raise ConfigError(f'interpolated must be "a" or "b", not {interpolated!r}')
    a = _lane(history, column, "_a") if reference is None else _lane(reference, column, "")
    b = _lane(history, column, "_b")
    if at == "step":
        steps, in_a, in_b = np.intersect1d(a.step, b.step, return_indices=True)
        return steps, a.loss[in_a] - b.loss[in_b]
    if at == "time":
        _set_times(a, b, rates)
    between = _at_equal_time if at == "time" else _at_equal_loss
    if interpolated == "a" or (interpolated is None and reference is not None):
        where, gap = between(b, a)
        return where, 0.0 - gap
    return between(a, b)


@dataclass
class _Lane:
    """One lane's own records: it may end before the other."""

    step: Float[np.ndarray, " T"]
    loss: Float[np.ndarray, " T"]
    time: Float[np.ndarray, " T"] | None
    """As it was recorded, if it was."""


def _lane(records: Records, column: str, suffix: str) -> _Lane:
    """Return a lane's records of a loss, those where it is finite."""
    if column + suffix not in records:
        kind = "a comparative run" if suffix else "a single run"
        raise ConfigError(f"there is no column {column + suffix}; take a history of {kind}")
    step, loss = (np.asarray(records[name], float) for name in ("step", column + suffix))
    own = np.isfinite(loss)
    told = f"time{suffix}" in records and records[f"time{suffix}"] is not None
    time = np.asarray(records[f"time{suffix}"], float)[own] if told else None
    return _Lane(step[own], loss[own], time)


def _set_times(a: _Lane, b: _Lane, rates: tuple[float, float] | None) -> None:
    """Give two lanes the times of their records."""
    if rates is None and (a.time is None) != (b.time is None):
        lacking = "a" if a.time is None else "b"
        raise ConfigError(f"lane {lacking} does not tell the time of its records; record metrics=[time], or give rates")
    for lane, rate in zip((a, b), rates or (1.0, 1.0), strict=True):
        lane.time = rate * lane.step if rates is not None or lane.time is None else lane.time


def _at_equal_time(lane: _Lane, other: _Lane) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return a lane's times that the other has come to, and its loss minus the other's there, interpolated."""
    assert lane.time is not None
    assert other.time is not None
    both = lane.time <= other.time.max(initial=-np.inf)
    times = lane.time[both]
    return times, lane.loss[both] - (np.interp(times, other.time, other.loss) if len(other.loss) else 0.0)


def _at_equal_loss(lane: _Lane, other: _Lane) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return a lane's lowest losses so far that the other comes to, and how many steps later it reaches them."""
    lows = lane.loss < np.minimum.accumulate(np.concatenate([[np.inf], lane.loss[:-1]]))[: len(lane.loss)]
    levels, when = lane.loss[lows], lane.step[lows]
    both = (levels <= other.loss[:1].max(initial=-np.inf)) & (levels >= other.loss.min(initial=np.inf))
    return levels[both], when[both] - _first_reach(other.step, other.loss, levels[both])


def _first_reach(
    step: Float[np.ndarray, " T"], loss: Float[np.ndarray, " T"], levels: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return when a loss that begins above some levels first reaches each, interpolated between the records beside."""
    after = np.searchsorted(-np.minimum.accumulate(loss), -levels)
    before = np.maximum(after - 1, 0)
    fall = loss[before] - loss[after]
    share = np.divide(loss[before] - levels, fall, out=np.zeros_like(fall), where=fall > 0)
    return step[before] + share * (step[after] - step[before])
