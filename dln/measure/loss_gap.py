"""How far apart the losses of a comparison are: at equal step, at equal time, or how many steps at equal loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dln.errors import ConfigError
from dln.history import History

if TYPE_CHECKING:
    from jaxtyping import Float


def loss_gap(
    history: History | Mapping[str, Any],
    at: Literal["step", "time", "loss"] = "step",
    column: str = "test_loss",
    rates: tuple[float, float] = (1.0, 1.0),
    interpolated: Literal["a", "b"] = "b",
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return where the two lanes of a comparative run are compared, and a's value minus b's there.

    Args:
        history: Of a comparative run, or of one with a `reference`, which is lane a; or a row of such a sweep.
        at: "step": losses at equal step. "time": losses at equal time, which is the learning rate times the step,
            at the records of one lane, interpolated between those of the other. "loss": steps at which each loss of one
            lane is first reached, interpolated between the other's records.
        column: Which loss.
        rates: The lanes' learning rates, for "time".
        interpolated: Which lane is interpolated: a, where that is a smooth reference and b has noise.

    Raises:
        ConfigError: The history is of a single run, `at` is none of the three, or `interpolated` is no lane.

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
    if f"{column}_a" not in history or f"{column}_b" not in history:
        raise ConfigError(f"there are no columns {column}_a and {column}_b; take a history of a comparative run")
    step, a, b = (np.asarray(history[name], float) for name in ("step", f"{column}_a", f"{column}_b"))
    a, b = (np.where(np.isfinite(loss), loss, np.nan) for loss in (a, b))
    if at == "step":
        both = np.isfinite(a - b)
        return step[both], (a - b)[both]
    if interpolated not in ("a", "b"):
        raise ConfigError(f'interpolated must be "a" or "b", not {interpolated!r}')
    if interpolated == "a":
        swapped = {"step": step, f"{column}_a": b, f"{column}_b": a}
        where, gap = loss_gap(swapped, at, column, (rates[1], rates[0]))
        return where, 0.0 - gap
    # Each lane's own records: one may end before the other.
    (step_a, a), (step_b, b) = ((step[~np.isnan(loss)], loss[~np.isnan(loss)]) for loss in (a, b))
    if at == "time":
        times, times_b = rates[0] * step_a, rates[1] * step_b
        both = times <= times_b.max(initial=-np.inf)
        return times[both], a[both] - (np.interp(times[both], times_b, b) if len(b) else 0.0)
    if at == "loss":
        lows = a < np.minimum.accumulate(np.concatenate([[np.inf], a[:-1]]))[: len(a)]
        levels, when_a = a[lows], step_a[lows]
        both = (levels <= b.max(initial=-np.inf, where=np.arange(len(b)) == 0)) & (levels >= b.min(initial=np.inf))
        return levels[both], when_a[both] - _first_reach(step_b, b, levels[both])
    raise ConfigError(f'at must be "step", "time" or "loss", not {at!r}')


def _first_reach(
    step: Float[np.ndarray, " T"], loss: Float[np.ndarray, " T"], levels: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return when a loss that begins above some levels first reaches each, interpolated between the records beside."""
    after = np.searchsorted(-np.minimum.accumulate(loss), -levels)
    before = np.maximum(after - 1, 0)
    fall = loss[before] - loss[after]
    share = np.divide(loss[before] - levels, fall, out=np.zeros_like(fall), where=fall > 0)
    return step[before] + share * (step[after] - step[before])
