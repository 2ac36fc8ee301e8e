"""The weights that a run starts from: drawn, or taken from a checkpoint, times alpha, in the run's precision."""

from __future__ import annotations

import numpy as np
import torch

from dln.config import ExperimentConfig, LaneConfig
from dln.errors import ConfigError
from dln.ingredients.initialisations import draw_initial
from dln.model import DeepLinearNetwork, load_weights

Initial = tuple[list[np.ndarray], list[np.ndarray] | None]
"""Weights of every layer, and biases if there are any."""


def initial_arrays(config: ExperimentConfig, lane: LaneConfig, teacher: np.ndarray | None) -> Initial:
    """Return the weights, and biases if any, that a lane starts from, in the run's precision.

    Args:
        config: A resolved config.
        lane: One of its models.
        teacher: The map to be learned [out, in], if the initialisation asks for it.
    """
    key, model = lane.key("model"), lane.model
    if model.weights is not None and model.init != "gamma":
        raise ConfigError(f"{key}.weights and {key}.init={model.init} both say how to start; leave one out")
    weights = draw_initial(
        model.in_dim,
        model.hidden_dim,
        model.num_hidden,
        model.out_dim,
        gamma=model.gamma,
        init=model.init,
        params=model.init_params,
        seed=lane.training.model_seed,
        teacher=teacher,
        key=key,
    )
    biases = [np.zeros(len(w)) for w in weights] if model.bias else None
    if model.weights is not None:
        described = DeepLinearNetwork.from_weights(weights, biases).shapes
        weights, biases = _from_file(model.weights, described, f"{key}.weights")
    arrays = [(alpha * w).astype(config.dtype) for alpha, w in zip(lane.alphas, weights, strict=True)]
    if not all(np.isfinite(w).all() for w in arrays):
        scale = f"their scale, {model.init_params}" if model.init_params else "their scale"
        raise ConfigError(f"{key}: initial weights are too large for {config.dtype}; lower {key}.alpha, or {scale}")
    return arrays, None if biases is None else [b.astype(config.dtype) for b in biases]


def _from_file(path: str, shapes: list[list[int]], key: str) -> Initial:
    """Return the weights and biases of a checkpoint, whose parameters must have these shapes."""
    try:
        loaded = DeepLinearNetwork.from_weights(*load_weights(path), dtype=torch.float64)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    if loaded.shapes != shapes:
        raise ConfigError(f"{key}: {path!r} holds shapes {loaded.shapes} but the config describes {shapes}")
    arrays = [[p.detach().numpy() for p in ps] for ps in (loaded.weights, loaded.biases)]
    return arrays[0], arrays[1] or None
