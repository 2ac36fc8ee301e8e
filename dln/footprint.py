"""About how much memory an ensemble needs, and how many runs fit into what there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dln.base.machine import free
from dln.blueprint import recorded_steps
from dln.config import ExperimentConfig
from dln.metrics import MODEL_METRICS, build_metrics, looks_back

SHARE = 0.5
"""How much of the memory that is free now ensembles may take: what they need is known roughly only."""


def ensemble_bytes(configs: Sequence[ExperimentConfig]) -> float:
    """Return about how many bytes the compiled engine needs for runs that are trained together.

    They are weights (as they start, as they are packed with the optimizer's state, in a snapshot before each stretch
    of steps, and at records that metrics look at), data (in float64, in the run's precision, as the kernels take
    them, and condensed), maps that theories predict, and curves (as they are taken, joined, and stored).
    """
    first = configs[0]
    size = np.dtype(first.dtype).itemsize
    total = 0.0
    for lane in first.lanes.values():
        metrics = [metric for configs in lane.metrics.values() for metric in build_metrics(configs, MODEL_METRICS)]
        kept = 0 if not metrics else 12 if looks_back(metrics) else 2
        model, training = lane.model, lane.training
        weights = sum((before + model.bias) * after for before, after in itertools.pairwise(lane.widths))
        states = 3 if training.optimizer != "SGD" else 2 if training.optimizer_params else 1
        total += len(configs) * weights * size * (2 + 2 * states + kept)
        datasets = len({repr(config.data) for config in configs})
        samples = first.data.test_samples + (0 if first.data.online else first.data.samples or 0)
        total += datasets * samples * (model.in_dim + model.out_dim) * (2 * 8 + 2 * size)
        numbers = (2 + 4 * len(metrics)) * (1 + len(first.theory)) * 3
        numbers += len(first.theory) * model.in_dim * model.out_dim * 8  # predicted maps, and what is made of them
        total += len(configs) * len(recorded_steps(first)) * numbers * 8
    return total


def cut_to_fit(
    runs: np.ndarray, config_of: Callable[[int], ExperimentConfig], members: int, share: float = 1.0
) -> Iterator[np.ndarray]:
    """Cut runs that share tensor shapes into ensembles, in their order.

    Args:
        runs: Their numbers.
        config_of: Gives the config of a number.
        members: Runs of an ensemble at most; fewer where memory is short.
        share: Share of the free memory that they may use: others may train beside them.

    >>> from dln.config import SingleConfig
    >>> [ensemble.tolist() for ensemble in cut_to_fit(np.arange(5), lambda run: SingleConfig(), members=2)]
    [[0, 1], [2, 3], [4]]
    """
    while len(runs):
        fitting = members_that_fit([config_of(int(run)) for run in runs[:members]], share)
        yield runs[:fitting]
        runs = runs[fitting:]


def members_that_fit(configs: Sequence[ExperimentConfig], share: float = 1.0) -> int:
    """Return how many of some runs, the first, can be trained together in the memory that is free; at least one.

    Args:
        configs: Runs that share tensor shapes.
        share: Share of the free memory that they may use: others may train beside them.
    """
    count, most = len(configs), free() * SHARE * share
    while count > 1 and ensemble_bytes(configs[:count]) > most:
        count = -(-count // 2)
    return count
