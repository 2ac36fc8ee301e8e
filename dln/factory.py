"""From resolved configs to what runs them: the only place where configs meet the classes that do the work."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from dln.base.arithmetic import uniform
from dln.base.registry import import_extensions
from dln.callbacks import Callback, Subject, build_callbacks
from dln.comparative import ComparativeTrainer
from dln.config import DataConfig, ExperimentConfig, LaneConfig, fields
from dln.data import Dataset, linear_teacher, load_dataset
from dln.errors import ConfigError, StorageError
from dln.history import Record
from dln.ingredients.initialisations import asks_for_teacher, draw_initial
from dln.ingredients.optimizers import check_optimizer
from dln.measure.columns import lane_columns
from dln.measure.events import check_events, find_events
from dln.metrics import MODEL_METRICS, build_metrics
from dln.model import DeepLinearNetwork, load_weights, save_weights
from dln.timeline import acting_at, chosen_steps
from dln.train import Trainer
from dln.utils import select_device

if TYPE_CHECKING:
    from dln.ensemble.engine import Ensemble, SoloRun

log = logging.getLogger("dln")


@uniform()
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
    for lane in config.lanes.values():
        training = lane.training
        reason = reason or why_not(
            training.optimizer,
            training.optimizer_params,
            training.criterion,
            training.criterion_params,
            select_device(config.device),
            _callbacks(config, lane),
        )
    if reason is not None and config.engine == "compiled":
        raise ConfigError(f"engine=compiled does not cover {reason}; use engine=auto or engine=autograd")
    return reason


@uniform()
def build_trainer(
    config: ExperimentConfig, dataset: Dataset | None = None, checkpoints: Path | None = None
) -> Trainer | ComparativeTrainer:
    """Return the autograd engine's trainer, or pair of trainers, for a config."""
    dtype, device = getattr(torch, config.dtype), select_device(config.device)
    dataset = (dataset or dataset_of(config)).to(dtype, device)
    check_events_of(config, dataset)

    def trainer(lane: LaneConfig) -> Trainer:
        training = lane.training
        return Trainer(
            build_model(config, lane, dataset, device),
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
            metrics=config.lane_metrics,
            callbacks=_callbacks(config, lane, checkpoints),
        )

    trainers = [trainer(lane) for lane in config.lanes.values()]
    if len(trainers) == 2:
        return ComparativeTrainer(*trainers, comparative_metrics=config.pair_metrics)
    return trainers[0]


@uniform()
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
    from dln.ensemble.engine import Ensemble
    from dln.ensemble.lane import Lane
    from dln.kernels.rules import make_rule

    first = configs[0]
    dtype = getattr(torch, first.dtype)
    datasets: dict[str, Dataset] = {} if dataset is None else {"": dataset.to(dtype, "cpu")}
    for config in configs if dataset is None else ():
        if repr(config.data) not in datasets:
            datasets[repr(config.data)] = dataset_of(config).to(dtype, "cpu")
    places = {key: place for place, key in enumerate(datasets)}
    check_events_of(first, next(iter(datasets.values())))

    def lane(suffix: str, configs: Sequence[ExperimentConfig], folders: Sequence[Path | None]) -> Lane:
        trainings = [config.lanes[suffix].training for config in configs]
        check_optimizer(trainings[0].optimizer, trainings[0].optimizer_params, f"training{suffix}")
        starts: dict[str, Initial] = {}  # many runs may begin alike

        def start(config: ExperimentConfig, seed: int) -> Initial:
            lane = config.lanes[suffix]
            source = repr(config.data) if dataset is None else ""
            key = repr((lane.model, seed, asks_for_teacher(lane.model.init, lane.key("model")) and source))
            if key not in starts:
                starts[key] = initial_arrays(config, lane, datasets[source])
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
            callbacks=[_callbacks(c, c.lanes[suffix], folder) for c, folder in zip(configs, folders, strict=True)],
        )

    lanes, members = {}, {}
    saved = checkpoints or [None] * len(configs)
    for suffix in first.lanes:
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
        metrics=first.lane_metrics,
        comparative_metrics=first.pair_metrics,
    )


def trajectory(config: ExperimentConfig, suffix: str) -> str:
    """Return what the weights of a lane depend on: runs that agree in it go the same way.

    Batch seeds count only where batches are drawn: not on the full batch, as long as no callback may leave it.
    """
    _, model, training, callbacks = config.lanes[suffix]
    full = training.batch_size in (None, config.data.samples) and not config.data.online and not callbacks
    training = replace(training, batch_seed=0) if full else training
    return repr((config.data, model, training, callbacks))


def structure(config: ExperimentConfig) -> str:
    """Return what runs must agree in to share an ensemble: everything but batchable fields and callbacks."""
    values = []
    for key, item in fields(config):
        if not item.metadata["batchable"] and not key.startswith(("shared.", "callbacks")):
            values.append((key, functools.reduce(getattr, key.split("."), config)))
    return repr((type(config).__name__, values))


def check_events_of(config: ExperimentConfig, dataset: Dataset) -> None:
    """Raise ConfigError where events do not fit a config, whose runs learn from such a dataset."""
    if not config.events:
        return
    data = dataset.to(getattr(torch, config.dtype), "cpu")
    lanes = [_probe(config, lane, data) for lane in config.lanes.values()]
    labels = [metric.label for metric in lanes[0].metrics]

    def first(labels: Collection[str]) -> list[Record]:
        for lane in lanes:
            lane.metrics = [metric for metric in lane.metrics if metric.label in labels]
            lane.begin(0)
        return [lane.measure(lane.supply()) for lane in lanes]

    check_events(config.events, labels, data, first)


def _probe(config: ExperimentConfig, lane: LaneConfig, dataset: Dataset) -> Trainer:
    """Return a trainer that tells what a lane's first record has, if not its numbers."""
    training = lane.training
    return Trainer(
        build_model(config, lane, dataset),
        dataset,
        batch_size=1 if dataset.online else None,
        optimizer=training.optimizer,
        optimizer_params=training.optimizer_params,
        criterion=training.criterion,
        criterion_params=training.criterion_params,
        metrics=config.lane_metrics,
    )


def find_events_of(
    config: ExperimentConfig,
    columns: Mapping[str, np.ndarray],
    ends: Mapping[str, int],
    dataset: Dataset | None = None,
) -> dict[str, Any]:
    """Return the values of the events of a config in the records of its run.

    Args:
        config: A resolved config.
        columns: All columns of the records, [T, ...] each.
        ends: The steps at which lanes diverged or were stopped, as in `History.ends`: their training ended there.
        dataset: What the run learned from, instead of what the config describes.
    """
    if not config.events or "step" not in columns:
        return {}
    data, step = dataset or dataset_of(config), columns["step"]
    labels = [metric.label for metric in build_metrics(config.lane_metrics, MODEL_METRICS)]  # more than are recorded
    found: dict[str, Any] = {}
    for suffix in config.lanes:
        last = min(ends.get(f"diverged_at{suffix}", math.inf) - 1, ends.get(f"stopped_at{suffix}", math.inf))
        names = {"step": "step", **lane_columns(columns, labels, suffix)}
        own = {name: columns[column][step <= last] for name, column in names.items()}
        found |= find_events(config.events, own, data, suffix)
    return found


def dataset_of(config: ExperimentConfig) -> Dataset:
    """Return the data that a run learns from, in float64 on the cpu."""
    model = next(iter(config.lanes.values())).model  # all lanes have its dimensions
    return build_dataset(config.data, model.in_dim, model.out_dim)


def build_dataset(data: DataConfig, in_dim: int, out_dim: int) -> Dataset:
    """Return the data that a config describes, in float64 on the cpu."""
    if data.path is not None:
        dataset = load_dataset(data.path, noise_std=data.noise_std, data_seed=data.data_seed)
        if dataset.dims != (in_dim, out_dim):
            raise ConfigError(
                f"data.path: {data.path!r} has {dataset.dims[0]} inputs and {dataset.dims[1]} outputs a sample, but "
                f"model.in_dim={in_dim} and model.out_dim={out_dim}"
            )
        return dataset
    return linear_teacher(
        in_dim,
        out_dim,
        data.params,
        rotate=data.rotate,
        inputs=data.inputs,
        inputs_params=data.inputs_params,
        d_active=data.d_active,
        whiten=data.whiten,
        train_samples=data.train_samples,
        test_samples=data.test_samples,
        noise_std=data.noise_std,
        online=data.online,
        data_seed=data.data_seed,
        dtype=torch.float64,
    )


def build_model(
    config: ExperimentConfig, lane: LaneConfig, data: Dataset, device: torch.device | str = "cpu"
) -> DeepLinearNetwork:
    """Return the network that a config describes, as `initial_arrays` says it starts."""
    return DeepLinearNetwork.from_weights(*initial_arrays(config, lane, data), device=device)


Initial = tuple[list[np.ndarray], list[np.ndarray] | None]
"""Weights of every layer, and biases if there are any."""


@uniform()
def initial_arrays(config: ExperimentConfig, lane: LaneConfig, data: Dataset) -> Initial:
    """Return the weights, and biases if any, that a lane starts from, in the run's precision.

    Args:
        config: A resolved config.
        lane: One of its models.
        data: What it learns; an initialisation may depend on the teacher.
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
        teacher=teacher_of(data) if asks_for_teacher(model.init, key) else None,
        key=key,
    )
    biases = [np.zeros(len(w)) for w in weights] if model.bias else None
    if model.weights is not None:
        described = DeepLinearNetwork.from_weights(weights, biases).shapes
        weights, biases = _from_file(model.weights, described, f"{key}.weights")
    arrays = [(model.alpha * w).astype(config.dtype) for w in weights]
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


def teacher_of(data: Dataset) -> np.ndarray:
    """Return the map to be learned, [out, in]: the teacher, or the least-squares map of arrays that came without one.

    The latter is Sigma_yx Sigma^-1; where inputs do not span all dimensions, the one of least norm.
    """
    if data.teacher is not None:
        return data.teacher.cpu().numpy()
    inputs, targets = (cast(torch.Tensor, t).double().cpu() for t in (data.train_inputs, data.train_targets))
    if not (inputs.isfinite().all() and targets.isfinite().all()):
        raise ConfigError("data: no map can be fitted to numbers too large for float32; set dtype=float64")
    return np.linalg.lstsq(inputs.numpy(), targets.numpy())[0].T


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

    def callback(step: int, trainer: Subject) -> None:
        path = directory / f"step_{step:08d}{suffix}.npz"
        try:
            save_weights(trainer.model, path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    return acting_at(steps, callback, at_end=True)


def _callbacks(config: ExperimentConfig, lane: LaneConfig, checkpoints: Path | None = None) -> list[Callback]:
    callbacks = build_callbacks(lane.callbacks, lane.key("callbacks"))
    if config.saves_weights and checkpoints is not None:
        callbacks.append(save_checkpoints(checkpoints, checkpoint_steps(config), lane.suffix))
    return callbacks
