"""Which runs are alike: those that can be trained together, and those whose weights go the same way."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dln.config import ExperimentConfig, fields


def trajectory(config: ExperimentConfig, suffix: str) -> str:
    """Return what the weights of a lane depend on: runs that agree in it go the same way.

    Batch seeds count only where something is drawn: not on the full batch without label noise, as long as no callback
    may leave it.

    >>> from dln.config import SingleConfig, TrainingConfig
    >>> def count(size):
    ...     trainings = [TrainingConfig(batch_size=size, batch_seed=seed) for seed in (0, 1)]
    ...     return len({trajectory(SingleConfig(training=training), "") for training in trainings})
    >>> count(None), count(5)
    (1, 2)
    """
    _, model, training, callbacks, *_ = config.lanes[suffix]
    full = training.batch_size in (None, config.data.samples) and not training.replacement and not config.data.online
    settled = full and not training.label_noise and not callbacks
    training = replace(training, batch_seed=0) if settled else training
    return repr((config.data, model, training, callbacks, config.resume))


def structure(config: ExperimentConfig) -> str:
    """Return what runs must agree in to share an ensemble: everything but batchable fields and callbacks.

    >>> from dln.config import ModelConfig, SingleConfig, TrainingConfig
    >>> slow, wide = SingleConfig(training=TrainingConfig(lr=1e-3)), SingleConfig(model=ModelConfig(hidden_dim=9))
    >>> structure(slow) == structure(SingleConfig()), structure(wide) == structure(SingleConfig())
    (True, False)
    """
    return repr((type(config).__name__, [value_of(config) for value_of in _structural(type(config))]))


@functools.cache
def _structural(schema: type[ExperimentConfig]) -> list[Callable[[ExperimentConfig], Any]]:
    """Return what reads each value of a config that runs must agree in."""
    return [
        operator.attrgetter(key)
        for key, item in fields(schema)
        if not item.metadata["batchable"] and not key.startswith(("shared.", "callbacks"))
    ]
