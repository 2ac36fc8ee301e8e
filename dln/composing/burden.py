"""How much memory a run needs, estimated from its config before anything is made.

All sizes are lower bounds: what is refused could not have run.
"""

from __future__ import annotations

from itertools import pairwise

from dln.base.machine import check_fits
from dln.config import DataConfig, ExperimentConfig, LaneConfig, ModelConfig, TrainingConfig

RECORD = 100
"""Bytes of a record in memory, at least."""


def check_burden(config: ExperimentConfig) -> None:
    """Raise ConfigError, naming the key, where a resolved config needs more memory than there is."""
    size = 8 if config.dtype == "float64" else 4
    needed = 0.0
    for lane in config.lanes.values():
        model, training = lane.model, lane.training
        needed += parameters(lane) * _bytes_each(size, training)
        check_fits(needed, f"{lane.key('model')}.{_largest(lane)}", "weights and what the optimizer keeps of them")
        if config.data.online:
            batch = (training.batch_size or 0) * _sample(model, size)
            check_fits(batch, f"{lane.key('training')}.batch_size", "the samples of a batch")
        if config.data.path is None:
            _check_data(config.data, model, lane.key("model"), size)
    if config.evaluate_at is None:
        count = config.max_steps // config.evaluate_every
        check_fits(RECORD * count, "evaluate_every", f"{count:,} records until max_steps")


def parameters(lane: LaneConfig) -> int:
    """Return how many weights a model has, biases aside.

    >>> from dln.config import ModelConfig, SingleConfig
    >>> parameters(SingleConfig(model=ModelConfig(in_dim=2, hidden_dim=10, num_hidden=2, out_dim=3)).lanes[""])
    150
    """
    return sum(n_in * n_out for n_in, n_out in pairwise(lane.widths))


def _bytes_each(size: int, training: TrainingConfig) -> int:
    """Return what a parameter takes: its draw in float64 and two copies, or it, its gradient and two states of it."""
    plain = training.optimizer == "SGD" and not training.optimizer_params.get("momentum")
    return max(8 + 2 * size, (3 if plain else 4) * size)


def _largest(lane: LaneConfig) -> str:
    n_in, *hidden, n_out = lane.widths
    dims = {"in_dim": n_in, "out_dim": n_out, "hidden_dim": max(hidden, default=0)}
    return max(dims, key=lambda key: dims[key])


def _sample(model: ModelConfig, size: int) -> int:
    """Return the bytes of a sample, input and target, as drawn and in the run's precision."""
    return (model.in_dim + model.out_dim) * (8 if size == 8 else 8 + size)


def _check_data(data: DataConfig, model: ModelConfig, key: str, size: int) -> None:
    dim = max(model.in_dim, model.out_dim)
    name = f"{key}.in_dim" if model.in_dim == dim else f"{key}.out_dim"
    check_fits(16 * model.in_dim * model.out_dim, name, "the teacher")
    if data.rotate:
        check_fits(16 * dim**2, "data.rotate", f"rotations of a teacher of {name}={dim}")
    if data.conjugate:
        check_fits(8 * dim**2, "data.conjugate", f"the rotation of a teacher of {name}={dim}")
    if data.inputs_basis == "teacher":
        check_fits(16 * dim**2, "data.inputs_basis", f"the singular vectors of a teacher of {name}={dim}")
    train = 0 if data.online else data.train_samples
    most = "data.train_samples" if train >= data.test_samples else "data.test_samples"
    check_fits((train + data.test_samples) * _sample(model, size), most, "the samples")
