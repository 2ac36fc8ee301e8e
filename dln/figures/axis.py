"""The horizontal axis of a run's panels: steps, time, or the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dln.errors import ConfigError
from dln.figures.curve import round_numbers
from dln.figures.legend import width_of_panel
from dln.figures.rates import rates_of
from dln.history import History

NARROW = 140
"""Width of a panel in points up to which it has few numbers."""
AXES = ("step", "time", "loss")
"""What a horizontal axis may be: steps; learning rates of all updates so far, summed; or the training loss."""


class Along:
    """Where the records of one model lie on the horizontal axis."""

    def __init__(self, history: History, lane: str, x: str) -> None:
        """Find the place of every record.

        Raises:
            ConfigError: There is no such axis, or the time is not known.
        """
        if x not in AXES:
            raise ConfigError(f"there is no axis x={x!r}; there are {', '.join(AXES)}")
        self.steps = history["step"].astype(float)
        self.places = _PLACES[x](history, lane)
        self.is_step = x == "step"

    def at(self, step: Any) -> Any:
        """Return the place of a step, between records by interpolation; NaN beyond the last record.

        >>> history = History([{"step": 0, "train_loss": 4.0}, {"step": 10, "train_loss": 2.0}])
        >>> float(Along(history, "", "loss").at(5))
        3.0
        """
        if self.is_step or not len(self.steps):
            return step
        return np.interp(step, self.steps, self.places, right=np.nan)


def _of_step(history: History, lane: str) -> np.ndarray:
    return history["step"].astype(float)


def _of_time(history: History, lane: str) -> np.ndarray:
    name = f"time{lane}"
    if name in history:
        return history[name]
    rates = rates_of(history, lane)
    if rates is None:
        raise ConfigError("x=time needs the learning rates of the run, which are not known: add time to its metrics")
    steps = history["step"]
    updates = np.concatenate([[0.0], np.cumsum(rates(np.arange(steps.max(initial=0))))])
    return updates[steps]


def _of_loss(history: History, lane: str) -> np.ndarray:
    whole = f"full_train_loss{lane}"
    values = history[whole if whole in history else f"train_loss{lane}"] if len(history) else np.empty(0)
    return np.where(np.isfinite(values), values, np.nan)


_PLACES: dict[str, Callable[[History, str], np.ndarray]] = {"step": _of_step, "time": _of_time, "loss": _of_loss}


def name_axis(axes: Axes, x: str) -> None:
    """Name the horizontal axis and choose its numbers; a loss falls to the right, as training goes."""
    axes.set_xlabel({"step": "step", "time": "time (sum of learning rates)", "loss": "train loss"}[x])
    if x == "loss":
        axes.set_xscale("log", nonpositive="mask")
        axes.xaxis.set_inverted(True)
        round_numbers(axes.xaxis, most=3)
    else:
        most = 6 if width_of_panel(axes) > NARROW else 4
        axes.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10], integer=x == "step"))
