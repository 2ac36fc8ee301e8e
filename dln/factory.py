"""From a resolved config to trainers: the only place where configs meet the classes that do the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
    SingleConfig,
    TrainingConfig,
    check_batch_size,
)
from dln.data import Dataset, linear_teacher, make_teacher
from dln.errors import ConfigError
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, build_metrics
from dln.model import DeepLinearNetwork, load_weights, save_weights
from dln.optim import build_criterion, build_optimizer
from dln.registry import import_extensions
from dln.train import Trainer
from dln.utils import select_device


def build(
    config: ExperimentConfig,
    dataset: Dataset | None = None,
    checkpoints: Path | None = None,
) -> Trainer | ComparativeTrainer:
    """Return the trainer, or pair of trainers, that a config describes, ready to run.

    Args:
        config: A resolved SingleConfig or ComparativeConfig.
        dataset: Data to use instead of what `config.data` describes.
        checkpoints: Where to save weights every `checkpoint_every` steps.
    """
    import_extensions(config.extensions)
    dtype, device = getattr(torch, config.dtype), select_device(config.device)
    first = config.model_a if isinstance(config, ComparativeConfig) else config.model  # type: ignore[attr-defined]
    if dataset is None:
        dataset = build_dataset(config.data, first.in_dim, first.out_dim, dtype, device)
    else:
        dataset = dataset.to(dtype, device)

    def lane(suffix: str, metrics: Sequence[MetricConfig]) -> Trainer:
        model: ModelConfig = getattr(config, f"model{suffix}")
        training: TrainingConfig = getattr(config, f"training{suffix}")
        callbacks: list[CallbackConfig] = getattr(config, f"callbacks{suffix}")
        acts = build_callbacks(callbacks, f"callbacks{suffix}")
        if config.checkpoint_every is not None and checkpoints is not None:
            acts.append(save_checkpoints(checkpoints, config.checkpoint_every, config.max_steps, suffix))
        return Trainer(
            build_model(model, training.model_seed, dtype, device, f"model{suffix}"),
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
            metrics=metrics,
            callbacks=acts,
        )

    if isinstance(config, ComparativeConfig):
        lanes = [lane(suffix, config.model_metrics) for suffix in ("_a", "_b")]
        return ComparativeTrainer(*lanes, comparative_metrics=config.comparative_metrics)
    assert isinstance(config, SingleConfig)
    return lane("", config.metrics)


def check_names(config: ExperimentConfig) -> None:
    """Raise what `build` would raise, without making data: unknown names, wrong parameters, shapes that do not fit."""
    import_extensions(config.extensions)
    select_device(config.device)
    comparative = isinstance(config, ComparativeConfig)
    key = "model_metrics" if comparative else "metrics"
    metrics = build_metrics(getattr(config, key), MODEL_METRICS, key)
    shapes = []
    for suffix in ("_a", "_b") if comparative else ("",):
        model: ModelConfig = getattr(config, f"model{suffix}")
        training: TrainingConfig = getattr(config, f"training{suffix}")
        key = f"training{suffix}"
        for i, callback in enumerate(build_callbacks(getattr(config, f"callbacks{suffix}"), f"callbacks{suffix}")):
            for size in getattr(callback, "batch_sizes", ()):
                check_batch_size(size, config.data, f"callbacks{suffix}[{i}].params: batch_size")
        build_criterion(training.criterion, training.criterion_params, key)
        weight = torch.nn.Parameter(torch.zeros(1, 1))
        build_optimizer(training.optimizer, [weight], training.lr, training.optimizer_params, key)
        make_teacher(model.in_dim, model.out_dim, config.data.params, config.data.data_seed)
        built = build_model(model, training.model_seed, torch.float32, torch.device("cpu"), f"model{suffix}")
        shapes.append(built.shapes)
        for metric in metrics:
            metric.check_fit(built.shapes)
    if comparative:
        for metric in build_metrics(config.comparative_metrics, COMPARATIVE_METRICS, "comparative_metrics"):
            metric.check_fit(*shapes)


def build_dataset(data: DataConfig, in_dim: int, out_dim: int, dtype: torch.dtype, device: torch.device) -> Dataset:
    """Return the data that a config describes."""
    return linear_teacher(
        in_dim,
        out_dim,
        data.params,
        train_samples=data.train_samples,
        test_samples=data.test_samples,
        noise_std=data.noise_std,
        online=data.online,
        data_seed=data.data_seed,
        dtype=dtype,
        device=device,
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


def save_checkpoints(directory: Path, interval: int, max_steps: int, suffix: str = "") -> Callback:
    """Return a callback that saves theta_s as `step_S.npz` at multiples of `interval` and at the last step.

    It belongs behind the callbacks that may stop the run: the step that ends a run early is saved too.
    """

    def callback(step: int, trainer: Trainer) -> None:
        if step % interval == 0 or step == max_steps or trainer.stopped_at == step:
            save_weights(trainer.model, directory / f"step_{step:08d}{suffix}.npz")

    return callback
