"""About what a question costs, what is refused, and how many members are trained at a time."""

from __future__ import annotations

from collections.abc import Sequence

from dln.base.machine import as_bytes
from dln.blueprint import recorded_steps
from dln.composing.burden import parameters
from dln.config import LaneConfig, SingleConfig
from dln.errors import ConfigError
from dln.footprint import ensemble_bytes

EACH_STEP = 2_000
"""What a step of a member costs beside its multiplications, in multiplications."""

EACH_RECORD, FURTHER_METRIC = 40, 300
"""What a record of a member costs for every weight, and what a metric adds that is not of the map alone."""

OF_MAP = ("mode_strengths", "singular_values", "sharpness")
"""Metrics that add nothing, or are counted elsewhere."""

MOST_WORK = 1e12
"""Of one question: a minute or so on two cores."""

MOST_BYTES = 1e9
"""Of the members that are trained at a time."""

USUAL_PACE = 1.5e10
"""Multiplications a second, before any have been timed."""

FIRST, LATER = 0.25, 0.6
"""Seconds that the first members take, whose picture is waited for, and the next ones, between which is looked for
newer questions."""

SHARP_EACH, SHARP_WEIGHT = 5e-3, 6e-7
"""Seconds that one sharpness takes, and what every weight adds to them."""

SHARP_SECONDS = 3.0
"""What the sharpness of one member may take, at fewer and fewer records the larger the network is."""

LEAST_STRIDE = 2
"""Sharpness is looked at every so many records where it is quick."""


def work_of(config: SingleConfig) -> float:
    """Return about how many multiplications a run takes, by three: of its steps and of its records, in all its lanes.

    A step takes weights x rows: samples of a batch or, of a full batch, which is condensed to its moments, as many as
    there are inputs.

    >>> f"{work_of(SingleConfig(evaluate_at={'linear': 65})):.2g}"
    '8.8e+07'
    """
    metrics = {metric.name for metric in config.metrics} - {*OF_MAP}
    record = len(recorded_steps(config)) * (EACH_RECORD + FURTHER_METRIC * len(metrics))
    weights = {suffix: parameters(lane) for suffix, lane in config.lanes.items()}
    steps = sum(weights[suffix] * _rows(config, lane) + EACH_STEP for suffix, lane in config.lanes.items())
    return config.max_steps * steps + record * sum(weights.values())


def _rows(config: SingleConfig, lane: LaneConfig) -> int:
    samples = config.data.train_samples
    size = lane.training.batch_size or samples
    drawn = size < samples or lane.training.label_noise > 0
    return size if drawn else min(samples, lane.model.in_dim)


def check_cost(config: SingleConfig, seeds: int) -> None:
    """Raise ConfigError where so many runs are more than a page can wait for, or need more memory than it may take."""
    work = work_of(config) * seeds
    if work > MOST_WORK:
        raise ConfigError(
            f"this is {work / MOST_WORK:.2g} times what the explorer trains at most; take fewer steps or seeds, a "
            "smaller batch or network, or copy the command and run it"
        )
    if (needed := ensemble_bytes([config])) > MOST_BYTES:
        raise ConfigError(
            f"one run needs {as_bytes(needed)} of memory, and the explorer takes at most {as_bytes(MOST_BYTES)}; take "
            "fewer records or a smaller network, or copy the command and run it"
        )


def fitting(configs: Sequence[SingleConfig], pace: float, seconds: float) -> int:
    """Return how many of some alike runs, at least one, are trained in so many seconds and in the memory there is.

    >>> fitting([SingleConfig(evaluate_at={"linear": 65})] * 100, pace=1e9, seconds=1.0)
    11
    """
    count = min(len(configs), max(1, int(pace * seconds / work_of(configs[0]))))
    while count > 1 and ensemble_bytes(configs[:count]) > MOST_BYTES:
        count = -(-count // 2)
    return count


def sharp_stride(config: SingleConfig, records: int) -> int:
    """Return of how many records one is looked at for sharpness: every other, or fewer where each takes long.

    >>> sharp_stride(SingleConfig(), 65)
    2
    """
    each = sum(SHARP_EACH + SHARP_WEIGHT * parameters(lane) for lane in config.lanes.values())
    stride = LEAST_STRIDE
    while stride < records and records / stride * each > SHARP_SECONDS:
        stride *= 2
    return stride
