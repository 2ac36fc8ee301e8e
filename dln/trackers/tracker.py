"""What trackers have in common: their registry, their libraries, and records and configs as flat as they want them.

A tracker is an `Observer` that a config names: `tracker: tensorboard`, or `tracker: {name: wandb, params: {...}}`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dln.base.registry import Registry
from dln.errors import ConfigError
from dln.history import Record

TRACKERS = Registry("tracker")


def register_tracker(name: str):
    """Register a class, or a function, that makes an `Observer`; its arguments are the config's `params`."""
    return TRACKERS.register(name)


def library(module: str, extra: str) -> Any:
    """Return a tracker's library.

    Raises:
        ConfigError: It is not installed; says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f'{error.name} is not installed: pip install "dln[{extra}]"') from None


def scalars(record: Record) -> dict[str, float]:
    """Return a record's values but for its step; those of a vector are numbered from 1, and missing ones left out.

    >>> scalars({"step": 3, "train_loss": 0.5, "layer_norms": [1.0, 2.0], "gap": None})
    {'train_loss': 0.5, 'layer_norms/1': 1.0, 'layer_norms/2': 2.0}
    """
    values = {}
    for name, value in record.items():
        if name == "step" or value is None:
            continue
        for place, number in np.ndenumerate(np.asarray(value, dtype=np.float64)):
            values["/".join([name, *(str(i + 1) for i in place)])] = float(number)
    return values


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested mapping as one of dotted keys; empty mappings are left out.

    >>> flat({"training": {"lr": 0.1, "optimizer_params": {}}, "metrics": []})
    {'training.lr': 0.1, 'metrics': []}
    """
    leaves = {}
    for key, value in config.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def ending(events: Mapping[str, Any]) -> dict[str, float]:
    """Return the events of a run that are numbers, or lists of them, as `scalars` does."""
    numbers = {name: value for name, value in events.items() if _is_numeric(value)}
    return {name: value for name, value in scalars(numbers).items() if not math.isnan(value)}


def _is_numeric(value: Any) -> bool:
    try:
        np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return True
