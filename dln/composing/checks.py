"""Whether a resolved config has values that some run can have, as far as the schema alone can tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dln.aggregates.keeping import keeping_of
from dln.base.values import check_batch_size, check_plain, check_sampling, hidden_widths, real_number
from dln.config import DataConfig, ExperimentConfig, LaneConfig, SingleConfig, fields, is_free_dict
from dln.errors import ConfigError, suggestion


def check(config: ExperimentConfig) -> None:
    """Raise ConfigError, naming the key, where a resolved config has a value that no run can have.

    Only what the schema alone can tell: names of metrics, teachers and so on are checked where they are looked up.
    """
    for key, item in fields(config):
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        check_leaf(key, value, item)
    _check_own_data(config.data)
    keeping_of(config.aggregate)
    if isinstance(config, SingleConfig):
        check_reference(config)
    first, *others = config.lanes.values()
    for lane in (first, *others):
        hidden_widths(lane.model.hidden_dim, lane.model.num_hidden, f"{lane.key('model')}.")
        check_batch_size(lane.training.batch_size, config.data.samples, f"{lane.key('training')}.batch_size")
        _check_sampling(lane, config.data.online)
        _ = lane.alphas, lane.lr_factors  # as many as there are layers
    for lane in others:
        for dim in ("in_dim", "out_dim"):
            own, of_first = getattr(lane.model, dim), getattr(first.model, dim)
            if own != of_first:
                where = f"{lane.key('model')}.{dim} is {own} but {first.key('model')}.{dim} is {of_first}"
                raise ConfigError(f"{where}; both models see the same data")


def check_reference(config: SingleConfig) -> None:
    """Raise ConfigError where a run is compared with itself, or metrics of a pair are asked for and there is none."""
    if not config.reference:
        if config.branch_at is not None:
            raise ConfigError(
                "branch_at needs a reference to leave: set reference, e.g. reference={training.batch_size: null}"
            )
        if config.comparative_metrics:
            raise ConfigError(
                "comparative_metrics are of two models: set reference to what the run is compared with, e.g. "
                "reference={training.batch_size: null}, or compare two models by run_comparative.py"
            )
        return
    one, other = (lane[1:4] for lane in dataclasses.replace(config, branch_at=None).lanes.values())
    if one == other:
        said = ", ".join(f"{key} is {value!r}" for key, value in config.reference.items())
        raise ConfigError(f"reference equals the run: {said} in both; name a value that differs")
    if config.branch_at is not None:
        _check_branch(config)


BRANCHING = ("training.lr", "training.batch_size", "training.batch_seed", "callbacks")
"""What a run may have of its own that leaves its reference on the way."""


def _check_branch(config: SingleConfig) -> None:
    """Raise ConfigError where a run cannot go its reference's way and leave it."""
    step, last = config.branch_at, config.max_steps
    assert step is not None
    if step >= last:
        raise ConfigError(f"branch_at is {step}, but the last step is {last}: the run would never leave its reference")
    for key in config.reference:
        if key not in BRANCHING:
            raise ConfigError(
                f"branch_at: a run that leaves its reference on the way has its {key}, so reference may not name it; "
                f"what may differ from there on: {', '.join(BRANCHING)}"
            )
    check_batch_size(config.training.batch_size, config.data.samples, "training.batch_size")


def check_leaf(key: str, value: Any, item: dataclasses.Field) -> None:
    """Raise ConfigError where a value is not what a leaf of the schema holds."""
    if is_free_dict(item) and not isinstance(value, Mapping):
        raise ConfigError(f"{key} must be a mapping such as {{name: value}}, not {value!r}")
    if item.type == list[str] and not all(isinstance(word, str) for word in value):
        raise ConfigError(f"{key} must be a list of words, not {value!r}")
    check_value(key, value, item.metadata)


def check_value(key: str, value: Any, bounds: Mapping[str, Any]) -> None:
    """Raise ConfigError where one value is not what its field's metadata allow."""
    if value is None:
        return
    check_plain(key, value)
    if isinstance(value, str) and value in bounds.get("words", ()):
        return
    if bounds.get("layered") and isinstance(value, list):
        for i, factor in enumerate(value):
            check_value(f"{key}[{i}]", factor, bounds)
        return
    if bounds.get("layered"):
        real_number(value, key)
    if bounds.get("choices") and value not in bounds["choices"]:
        raise ConfigError(f"{key}: no such choice as {value!r}; {suggestion(value, bounds['choices'])}")
    if bounds.get("above") is not None and not value > bounds["above"]:
        raise ConfigError(f"{key} must be greater than {bounds['above']}, not {value}")
    if bounds.get("least") is not None and not value >= bounds["least"]:
        raise ConfigError(f"{key} must be at least {bounds['least']}, not {value}")
    if bounds.get("most") is not None and not value <= bounds["most"]:
        raise ConfigError(f"{key} must be at most {bounds['most']}, not {value}")


def _check_sampling(lane: LaneConfig, online: bool) -> None:
    """Raise ConfigError where batches of a lane cannot be drawn as it says."""
    key, training = lane.key("training"), lane.training
    check_sampling(training.replacement, training.label_noise, online, f"{key}.")
    if training.replacement and training.batch_size is None and not lane.callbacks:
        raise ConfigError(
            f"{key}.replacement draws batches, but the full batch is nothing to draw; set {key}.batch_size"
        )


def _check_own_data(data: DataConfig) -> None:
    """Raise ConfigError where arrays of one's own come with settings that are for drawn samples only."""
    for key, off in {"online": "false", "whiten": "false", "d_active": "null", "inputs_basis": "coordinates"}.items():
        value = getattr(data, key)
        if data.path is not None and value and value != off:
            raise ConfigError(f"data.{key} is for inputs that are drawn, not for those of data.path; set it to {off}")
