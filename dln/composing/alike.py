"""Which runs are alike: those that can be trained together, and those whose weights go the same way."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any

from dln.config import ExperimentConfig, LaneConfig, SingleConfig, TrainingConfig, fields


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
    lane = config.lanes[suffix]
    return repr((config.data, lane.model, _settled(config, lane), lane.callbacks, lane.branch, config.resume))


def _settled(config: ExperimentConfig, lane: LaneConfig) -> TrainingConfig:
    """Return how a lane is trained, with batch seed 0 where nothing is drawn."""
    training = lane.training
    full = training.batch_size in (None, config.data.samples) and not training.replacement and not config.data.online
    draws = not full or training.label_noise or lane.callbacks or lane.branch
    return training if draws else replace(training, batch_seed=0)


def reference_of(config: ExperimentConfig) -> SingleConfig:
    """Return lane a of a comparison as a run of its own: the same for all that are compared with the same.

    >>> from dln.config import SingleConfig, TrainingConfig
    >>> runs = [SingleConfig(training=TrainingConfig(batch_size=5, batch_seed=seed)) for seed in (1, 2)]
    >>> one, other = (reference_of(replace(run, reference={"training.batch_size": None})) for run in runs)
    >>> one == other, one.training.batch_size, one.reference
    (True, None, {})
    """
    lane = config.lanes["_a"]
    common = {item.name: getattr(config, item.name) for item in dataclass_fields(ExperimentConfig)}
    metrics = [metric for listed in lane.metrics.values() for metric in listed]
    own = {"model": lane.model, "training": _settled(config, lane), "callbacks": lane.callbacks, "metrics": metrics}
    return SingleConfig(**common, **own)


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
