"""Learning rates of a run by its config, and the sharpness at which they are unstable."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dln.errors import ConfigError
from dln.figures.known import callbacks_of, sections
from dln.history import History
from dln.ingredients.edge import Optimizer, edge_of

SCHEDULES = ("lr_decay", "lr_cosine", "lr_warmup", "lr_cyclic")
OTHERS = (
    *("switch_batch_size", "multi_switch_batch_size", "batch_growth", "switch_teacher", "kick", "weight_noise"),
    *("stop_at_loss", "stop_at_gradient", "stop_at_plateau", "stop_after"),
)
"""Callbacks that leave the learning rate as it is; of those of a user that is not known."""


class Limit(NamedTuple):
    """The largest stable sharpness at each record, and what it is called."""

    values: np.ndarray
    name: str


def rates_of(history: History, lane: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return the learning rates of one model as a function of steps; None where no config tells them.

    >>> training = {"lr": 0.5, "optimizer": "SGD"}
    >>> callbacks = [{"name": "lr_decay", "params": {"factor": 0.1, "interval": 2}}]
    >>> history = History(config={"model": {}, "training": training, "callbacks": callbacks})
    >>> rates_of(history, "")(np.arange(4)).tolist()
    [0.5, 0.5, 0.05, 0.05]
    """
    own = sections(history, lane)
    listed = list(callbacks_of(history, lane))
    if own is None or any(name not in (*SCHEDULES, *OTHERS) for name, _ in listed):
        return None
    if (history.config or {}).get("branch_at") is not None:
        return None
    schedules = [(name, params) for name, params in listed if name in SCHEDULES]
    if not schedules:
        return lambda steps: np.full(len(steps), own["training"]["lr"])
    from dln.callbacks import CALLBACKS  # imports torch

    scales = [CALLBACKS.get(name).function(**params).lr_scale for name, params in schedules]
    return lambda steps: own["training"]["lr"] * np.prod([scale(steps) for scale in scales], axis=0)


def limit_of(history: History, lane: str) -> Limit | None:
    """Return the sharpness beyond which gradient descent is unstable, 2 / lr without momentum; None if not known.

    Recorded as the metric `edge_of_stability` it is that; Adam and its like have none.
    """
    recorded = f"edge_of_stability{lane}"
    own, rates = sections(history, lane), rates_of(history, lane)
    training = None if own is None else own["training"]
    plain = training is not None and not any((training.get("optimizer_params") or {}).values())
    name = "2 / lr" if plain else "edge of stability"
    if recorded in history:
        return Limit(history[recorded], name)
    if training is None or rates is None:
        return None
    try:
        factors = training.get("lr_factors")
        edge = edge_of(Optimizer(training["optimizer"], training.get("optimizer_params") or {}, factors))
    except ConfigError:
        return None
    with np.errstate(divide="ignore"):  # a warmup begins at a rate of 0
        values = 1 / (rates(history["step"]) * edge.gain) - edge.decay
    return Limit(np.where(np.isfinite(values), values, np.nan), name)
