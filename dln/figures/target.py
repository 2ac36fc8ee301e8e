"""What a run is to learn, from its config: the teacher's singular values, and the losses at the saddles on the way."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.errors import DlnError
from dln.figures.columns import LEVELS
from dln.figures.known import callbacks_of, lanes_of, sections
from dln.history import History

if TYPE_CHECKING:
    from dln.data import Dataset

NEAR = 0.2
"""A run starts at the saddle of zero weights if its loss is that near, as a share of what is to be learned."""


def teacher_of(history: History) -> np.ndarray | None:
    """Return the map to be learned [out, in]; None where no config tells, or it changes on the way."""
    data = _data_of(history)
    if data is None:
        return None
    from dln.data import teacher_of as map_of  # imports torch

    return map_of(data)


def teacher_values(history: History) -> np.ndarray | None:
    """Return the singular values of the teacher [k], largest first; None where they are not known."""
    teacher = teacher_of(history)
    return None if teacher is None else np.linalg.svd(teacher, compute_uv=False)


def levels_of(history: History, lane: str = "") -> np.ndarray | None:
    """Return the losses at the saddles with the first 0, 1, ... modes learned; None where the run is near none.

    Recorded as `theory=[plateaus]` they are those; else those of the run's own data, if it has two layers or more,
    learns by the mean squared error without biases, and starts near the saddle of zero weights.
    """
    recorded = LEVELS + lane
    if recorded in history:
        return history[recorded][0]
    own, first = sections(history, lane), history.records[0] if history.records else {}
    start = first.get(f"full_train_loss{lane}", first.get(f"train_loss{lane}"))
    if own is None or start is None:
        return None
    model, training = own["model"], own["training"]
    criterion = training.get("criterion", "MSELoss")
    plain = criterion == "MSELoss" and not training.get("criterion_params") and not model.get("bias")
    if not plain or model["num_hidden"] < 1:
        return None
    data = _data_of(history)
    if data is None:
        return None
    levels = _levels(data)
    hidden = model["hidden_dim"]
    narrowest = min(hidden) if isinstance(hidden, list | tuple) else hidden
    levels = levels[: min(len(levels) - 1, narrowest) + 1]
    there = abs(start - levels[0]) <= NEAR * (levels[0] - levels[-1])
    return levels if there else None


def _levels(data: Dataset) -> np.ndarray:
    from dln.measure.data_quantities import covariance, input_moments, target_moments  # imports torch
    from dln.theory import plateau_levels

    d_in, d_out = data.dims
    if data.online:
        assert data.teacher is not None
        teacher = data.teacher.numpy()
        square = np.trace(teacher @ covariance(data) @ teacher.T) + d_out * data.noise_std**2
    else:
        assert data.train_targets is not None
        targets = data.train_targets.numpy()
        square = (targets**2).sum() / len(targets)
    return plateau_levels(input_moments(data)[:d_in, :d_in], target_moments(data)[:, :d_in], square)


def _data_of(history: History) -> Dataset | None:
    """Return the data that a run's config describes; None where there is no config, or no such data now."""
    config = history.config or {}
    data = config.get("data")
    lanes = lanes_of(history)
    own = sections(history, lanes[0]) if data else None
    taught = any(name == "switch_teacher" for lane in lanes for name, _ in callbacks_of(history, lane))
    if not data or own is None or taught:
        return None
    try:
        return _drawn(json.dumps(data), own["model"]["in_dim"], own["model"]["out_dim"])
    except DlnError:  # a file is gone, or a teacher is of an extension: who draws does not import code of others
        return None


@lru_cache(maxsize=4)
def _drawn(told: str, d_in: int, d_out: int) -> Dataset:
    """Return the data of a config that is given as text, by which the last ones are remembered."""
    from dln.data import POPULATION, drawn, load_dataset, population

    data: dict[str, Any] = json.loads(told)
    if data.get("path") is not None:
        return load_dataset(data["path"], noise_std=data["noise_std"], data_seed=data["data_seed"], dims=(d_in, d_out))
    described = {key: data[key] for key in POPULATION if key in data}
    outline = population(d_in, d_out, data["params"], **described)
    train = None if data.get("online") else data["train_samples"]
    seed = data["data_seed"]
    return drawn(outline, whiten=data.get("whiten", False), train_samples=train, test_samples=1, data_seed=seed)
