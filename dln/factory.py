"""From resolved configs to what runs them: the only place where configs meet the classes that do the work."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dln.callbacks import Callback, build_callbacks
from dln.comparative import ComparativeTrainer
from dln.config import (
    CallbackConfig,
    ComparativeConfig,
    DataConfig,
    ExperimentConfig,
    MetricConfig,
    ModelConfig,
    TrainingConfig,
    check_batch_size,
    fields,
    hidden_widths,
)
from dln.data import Dataset, linear_teacher, make_teacher
from dln.errors import ConfigError
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, build_metrics
from dln.model import DeepLinearNetwork, draw_initial, load_weights, save_weights
from dln.optim import build_criterion, build_optimizer, check_optimizer
from dln.registry import import_extensions
from dln.timeline import acting_at, chosen_steps
from dln.train import Trainer
from dln.utils import select_device

if TYPE_CHECKING:
    from dln.ensemble.engine import Ensemble, SoloRun

log = logging.getLogger("dln")


def build(
    config: ExperimentConfig,
    dataset: Dataset | None = None,
    checkpoints: Path | None = None,
) -> Trainer | ComparativeTrainer | SoloRun:
    """Return what runs a config, on the engine it asks for.

    Args:
        config: A resolved SingleConfig or ComparativeConfig.
        dataset: Data to use instead of what `config.data` describes.
        checkpoints: Where to save weights, if the config says that they are saved.
    """
    import_extensions(config.extensions)
    reason = autograd_reason(config)
    if reason is None:
        from dln.ensemble.engine import SoloRun

        return SoloRun(build_ensemble([config], dataset, None if checkpoints is None else [checkpoints]))
    if config.engine == "auto":
        log.info("engine: autograd, because of %s", reason)
    return build_trainer(config, dataset, checkpoints)


def autograd_reason(config: ExperimentConfig) -> str | None:
    """Return why a config runs on the autograd engine; None if the compiled one takes it.

    It depends on the config alone, so a run is the same alone and in a sweep.

    Raises:
        ConfigError: The config asks for the compiled engine, which does not cover it.
    """
    if config.engine == "autograd":
        return "engine=autograd"
    from dln.ensemble.coverage import why_not

    reason = None
    for suffix in suffixes(config):
        training: TrainingConfig = getattr(config, f"training{suffix}")
        reason = reason or why_not(
            training.optimizer,
            training.optimizer_params,
            training.criterion,
            training.criterion_params,
            select_device(config.device),
            _callbacks(config, suffix),
        )
    if reason is not None and config.engine == "compiled":
        raise ConfigError(f"engine=compiled does not cover {reason}; use engine=auto or engine=autograd")
    return reason


def build_trainer(
    config: ExperimentConfig, dataset: Dataset | None = None, checkpoints: Path | None = None
) -> Trainer | ComparativeTrainer:
    """Return the autograd engine's trainer, or pair of trainers, for a config."""
    dtype, device = getattr(torch, config.dtype), select_device(config.device)
    first: ModelConfig = getattr(config, f"model{suffixes(config)[0]}")
    if dataset is None:
        dataset = build_dataset(config.data, first.in_dim, first.out_dim)
    dataset = dataset.to(dtype, device)

    def lane(suffix: str) -> Trainer:
        training: TrainingConfig = getattr(config, f"training{suffix}")
        return Trainer(
            build_model(getattr(config, f"model{suffix}"), training.model_seed, dtype, device, f"model{suffix}"),
            dataset,
            lr=training.lr,
            max_steps=config.max_steps,
            batch_size=training.batch_size,
            batch_seed=training.batch_seed,
            optimizer=training.optimizer,
            optimizer_params=training.optimizer_params,
            criterion=training.criterion,
            criterion_params=training.criterion_params,
            evaluate_every=config.evaluate_every,
            evaluate_at=config.evaluate_at,
            metrics=_metrics(config),
            callbacks=_callbacks(config, suffix, checkpoints),
        )

    lanes = [lane(suffix) for suffix in suffixes(config)]
    if isinstance(config, ComparativeConfig):
        return ComparativeTrainer(*lanes, comparative_metrics=config.comparative_metrics)
    return lanes[0]


def build_ensemble(
    configs: Sequence[ExperimentConfig], dataset: Dataset | None = None, checkpoints: Sequence[Path] | None = None
) -> Ensemble:
    """Return the compiled engine's ensemble of runs whose configs differ in batchable fields only.

    Runs, or lanes of runs, that are bound to go the same way are computed once.

    Args:
        configs: Resolved configs that the compiled engine covers.
        dataset: Data for all, instead of what each config describes.
        checkpoints: Where to save each run's weights; then none is shared.
    """
    from dln.ensemble.coverage import make_rule
    from dln.ensemble.engine import Ensemble
    from dln.ensemble.lane import Lane

    first = configs[0]
    dtype = getattr(torch, first.dtype)
    datasets: dict[str, Dataset] = {} if dataset is None else {"": dataset.to(dtype, "cpu")}
    for config in configs if dataset is None else ():
        if repr(config.data) not in datasets:
            model: ModelConfig = getattr(config, f"model{suffixes(config)[0]}")
            datasets[repr(config.data)] = build_dataset(config.data, model.in_dim, model.out_dim).to(dtype, "cpu")
    places = {key: place for place, key in enumerate(datasets)}

    def lane(suffix: str, configs: Sequence[ExperimentConfig], folders: Sequence[Path | None]) -> Lane:
        trainings: list[TrainingConfig] = [getattr(config, f"training{suffix}") for config in configs]
        starts: dict[str, Initial] = {}  # many runs may begin alike

        def start(config: ExperimentConfig, seed: int) -> Initial:
            key = repr((getattr(config, f"model{suffix}"), seed))
            if key not in starts:
                starts[key] = initial_arrays(config, suffix, np.dtype(first.dtype))
            return starts[key]

        initial = [start(config, training.model_seed) for config, training in zip(configs, trainings, strict=True)]
        biases = initial[0][1]
        return Lane(
            [np.stack(layer) for layer in zip(*(weights for weights, _ in initial), strict=True)],
            None if biases is None else [np.stack(layer) for layer in zip(*(b for _, b in initial), strict=True)],  # type: ignore[misc]
            list(datasets.values()),
            dataset=[places[repr(config.data)] for config in configs] if len(places) > 1 else None,
            lr=[t.lr for t in trainings],
            batch_size=trainings[0].batch_size,
            batch_seeds=[t.batch_seed for t in trainings],
            rule=make_rule(trainings[0].optimizer, trainings[0].optimizer_params),
            max_steps=first.max_steps,
            callbacks=[_callbacks(c, suffix, folder) for c, folder in zip(configs, folders, strict=True)],
        )

    lanes, members = {}, {}
    saved = checkpoints or [None] * len(configs)
    for suffix in suffixes(first):
        distinct: dict[tuple[str, Path | None], int] = {}
        keys = [(trajectory(config, suffix), place) for config, place in zip(configs, saved, strict=True)]
        members[suffix] = np.array([distinct.setdefault(key, len(distinct)) for key in keys])
        chosen = np.unique(members[suffix], return_index=True)[1]
        lanes[suffix] = lane(suffix, [configs[i] for i in chosen], [saved[i] for i in chosen])
    return Ensemble(
        lanes,
        members=members,
        evaluate_every=first.evaluate_every,
        evaluate_at=first.evaluate_at,
        metrics=_metrics(first),
        comparative_metrics=first.comparative_metrics if isinstance(first, ComparativeConfig) else (),
    )


def trajectory(config: ExperimentConfig, suffix: str) -> str:
    """Return what the weights of a lane depend on: runs that agree in it go the same way.

    Batch seeds count only where batches are drawn: not on the full batch, as long as no callback may leave it.
    """
    training: TrainingConfig = getattr(config, f"training{suffix}")
    callbacks = getattr(config, f"callbacks{suffix}")
    full = training.batch_size in (None, config.data.train_samples) and not config.data.online and not callbacks
    training = replace(training, batch_seed=0) if full else training
    return repr((config.data, getattr(config, f"model{suffix}"), training, callbacks))


def structure(config: ExperimentConfig) -> str:
    """Return what runs must agree in to share an ensemble: everything but batchable fields and callbacks."""
    values = []
    for key, item in fields(config):
        if not item.metadata["batchable"] and not key.startswith(("shared.", "callbacks")):
            values.append((key, functools.reduce(getattr, key.split("."), config)))
    return repr((type(config).__name__, values))


def check_names(config: ExperimentConfig) -> None:
    """Raise what `build` would raise, without making data: unknown names, wrong parameters, shapes that do not fit."""
    import_extensions(config.extensions)
    select_device(config.device)
    recorded_steps(config)
    checkpoint_steps(config)
    key = "model_metrics" if isinstance(config, ComparativeConfig) else "metrics"
    build_metrics(_metrics(config), MODEL_METRICS, key)
    shapes = []
    for suffix in suffixes(config):
        model: ModelConfig = getattr(config, f"model{suffix}")
        training: TrainingConfig = getattr(config, f"training{suffix}")
        key = f"training{suffix}"
        for i, callback in enumerate(build_callbacks(getattr(config, f"callbacks{suffix}"), f"callbacks{suffix}")):
            for size in getattr(callback, "batch_sizes", ()):
                check_batch_size(size, config.data.samples, f"callbacks{suffix}[{i}].params: batch_size")
        build_criterion(training.criterion, training.criterion_params, key)
        check_optimizer(training.optimizer, training.optimizer_params, key)
        if training.optimizer_params:  # torch checks their values; importing what that needs takes a second
            weight = torch.nn.Parameter(torch.zeros(1, 1))
            build_optimizer(training.optimizer, [weight], training.lr, training.optimizer_params, key)
        make_teacher(model.in_dim, model.out_dim, config.data.params, config.data.data_seed)
        built = build_model(model, training.model_seed, torch.float32, torch.device("cpu"), f"model{suffix}")
        shapes.append(built.shapes)
        build_metrics(_metrics(config), MODEL_METRICS, shapes=[built.shapes])
    if isinstance(config, ComparativeConfig):
        build_metrics(config.comparative_metrics, COMPARATIVE_METRICS, "comparative_metrics", shapes)
    autograd_reason(config)


def suffixes(config: ExperimentConfig) -> tuple[str, ...]:
    """Return the suffixes of a config's lanes: their sections and columns end in them."""
    return ("_a", "_b") if isinstance(config, ComparativeConfig) else ("",)


def build_dataset(data: DataConfig, in_dim: int, out_dim: int) -> Dataset:
    """Return the data that a config describes, in float64 on the cpu."""
    return linear_teacher(
        in_dim,
        out_dim,
        data.params,
        train_samples=data.train_samples,
        test_samples=data.test_samples,
        noise_std=data.noise_std,
        online=data.online,
        data_seed=data.data_seed,
        dtype=torch.float64,
    )


def build_model(
    model: ModelConfig, model_seed: int, dtype: torch.dtype, device: torch.device, key: str = "model"
) -> DeepLinearNetwork:
    """Return the network that a config describes, from its seed or from a checkpoint."""
    fresh = DeepLinearNetwork(
        model.in_dim,
        model.hidden_dim,
        model.num_hidden,
        model.out_dim,
        gamma=model.gamma,
        bias=model.bias,
        model_seed=model_seed,
        dtype=dtype,
        device=device,
    )
    if model.weights is None:
        return fresh
    try:
        loaded = DeepLinearNetwork.from_weights(*load_weights(model.weights), dtype=dtype, device=device)
    except ConfigError as error:
        raise ConfigError(f"{key}.weights: {error}") from error
    if fresh.shapes != loaded.shapes:
        raise ConfigError(
            f"{key}.weights: {model.weights!r} holds shapes {loaded.shapes} but the config describes {fresh.shapes}"
        )
    return loaded


Initial = tuple[list[np.ndarray], list[np.ndarray] | None]
"""Weights of every layer, and biases if there are any."""


def initial_arrays(config: ExperimentConfig, suffix: str, dtype: np.dtype) -> Initial:
    """Return the weights, and biases if any, that `build_model` would start from, without making a network."""
    model: ModelConfig = getattr(config, f"model{suffix}")
    seed = getattr(config, f"training{suffix}").model_seed
    if model.weights is not None:
        network = build_model(model, seed, getattr(torch, config.dtype), torch.device("cpu"), f"model{suffix}")
        arrays = [[p.detach().numpy() for p in ps] for ps in (network.weights, network.biases)]
        return arrays[0], arrays[1] or None
    hidden = hidden_widths(model.hidden_dim, model.num_hidden)
    weights = draw_initial(model.in_dim, hidden, model.out_dim, model.hidden_dim, model.gamma, seed)
    biases = [np.zeros(len(w), dtype) for w in weights] if model.bias else None
    return [w.astype(dtype) for w in weights], biases


def recorded_steps(config: ExperimentConfig) -> Collection[int]:
    """Return the steps at which a run is recorded unless it ends early."""
    return chosen_steps(config.max_steps, config.evaluate_every, config.evaluate_at)


def checkpoint_steps(config: ExperimentConfig) -> Collection[int]:
    """Return the steps at which weights are saved, where a config says that they are."""
    every = config.checkpoint_every or config.max_steps
    return chosen_steps(config.max_steps, every, config.checkpoint_at, "checkpoint_at")


def save_checkpoints(directory: Path, steps: Collection[int], suffix: str = "") -> Callback:
    """Return a callback that saves theta_s as `step_S.npz` at `steps`.

    It belongs behind the callbacks that may stop the run: the step that ends a run early is saved too.
    """

    def callback(step: int, trainer: Trainer) -> None:
        save_weights(trainer.model, directory / f"step_{step:08d}{suffix}.npz")

    return acting_at(steps, callback, at_end=True)


def _metrics(config: ExperimentConfig) -> list[MetricConfig]:
    return config.model_metrics if isinstance(config, ComparativeConfig) else config.metrics  # type: ignore[attr-defined]


def _callbacks(config: ExperimentConfig, suffix: str, checkpoints: Path | None = None) -> list[Callback]:
    listed: list[CallbackConfig] = getattr(config, f"callbacks{suffix}")
    callbacks = build_callbacks(listed, f"callbacks{suffix}")
    if config.saves_weights and checkpoints is not None:
        callbacks.append(save_checkpoints(checkpoints, checkpoint_steps(config), suffix))
    return callbacks
