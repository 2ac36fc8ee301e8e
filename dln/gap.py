"""How far apart the losses of a comparison are: at equal step, at equal time, or how many steps at equal loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from dln.errors import ConfigError
from dln.history import History

if TYPE_CHECKING:
    from jaxtyping import Float


def loss_gap(
    history: History,
    at: Literal["step", "time", "loss"] = "step",
    column: str = "test_loss",
    rates: tuple[float, float] = (1.0, 1.0),
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return where the two lanes of a comparative run are compared, and a's value minus b's there.

    Args:
        history: Of a comparative run.
        at: "step": losses at equal step. "time": losses at equal time, which is the learning rate times the step,
            interpolated between b's records. "loss": steps at which each loss is first reached, interpolated.
        column: Which loss.
        rates: The lanes' learning rates, for "time".

    >>> history = History([{"step": s, "test_loss_a": 4.0 - s, "test_loss_b": 4.0 - 2 * s} for s in (0, 1, 2)])
    >>> loss_gap(history)
    (array([0., 1., 2.]), array([0., 1., 2.]))
    >>> loss_gap(history, "time", rates=(2.0, 1.0))  # a's step is worth two of b's
    (array([0., 2.]), array([0., 3.]))
    >>> loss_gap(history, "loss")
    (array([4., 3., 2.]), array([0. , 0.5, 1. ]))
    """
    if f"{column}_a" not in history or f"{column}_b" not in history:
        raise ConfigError(f"there are no columns {column}_a and {column}_b; take a history of a comparative run")
    step, a, b = history["step"].astype(float), history[f"{column}_a"], history[f"{column}_b"]
    there = np.isfinite(a) & np.isfinite(b)
    step, a, b = step[there], a[there], b[there]
    if at == "step":
        return step, a - b
    if at == "time":
        times = rates[0] * step
        times_b = rates[1] * step
        both = times <= times_b.max(initial=-np.inf)
        return times[both], a[both] - np.interp(times[both], times_b, b)
    if at == "loss":
        (levels, when_a), (levels_b, when_b) = _new_lows(a, step), _new_lows(b, step)
        both = (levels <= levels_b.max(initial=-np.inf)) & (levels >= levels_b.min(initial=np.inf))
        return levels[both], when_a[both] - np.interp(-levels[both], -levels_b, when_b)
    raise ConfigError(f'at must be "step", "time" or "loss", not {at!r}')


def _new_lows(
    loss: Float[np.ndarray, " T"], step: Float[np.ndarray, " T"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the losses that are lower than all before, and their steps."""
    fresh = loss < np.minimum.accumulate(np.concatenate([[np.inf], loss[:-1]]))[: len(loss)]
    return loss[fresh], step[fresh]
