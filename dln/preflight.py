"""What is wrong with a config, told before data are made: what `factory.build` would raise, sooner and cheaper."""

from __future__ import annotations

import logging

import torch

from dln.base.arithmetic import uniform
from dln.base.registry import import_extensions
from dln.base.values import check_batch_size
from dln.callbacks import build_callbacks
from dln.composing.burden import parameters
from dln.config import ComparativeConfig, DataConfig, ExperimentConfig
from dln.data import Dataset, check_whiten
from dln.factory import (
    autograd_reason,
    build_dataset,
    build_model,
    check_events_of,
    checkpoint_steps,
    recorded_steps,
)
from dln.ingredients.edge import Optimizer
from dln.ingredients.inputs import make_inputs
from dln.ingredients.optimizers import build_criterion, check_optimizer
from dln.ingredients.teachers import make_teacher
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, build_metrics, check_lanes
from dln.utils import select_device

log = logging.getLogger("dln")

MANY = 10**8
"""Weights whose drawing is announced."""


@uniform()
def check_names(config: ExperimentConfig) -> None:
    """Raise what `build` would raise, without making data: unknown names, wrong parameters, shapes that do not fit."""
    import_extensions(config.extensions)
    select_device(config.device)
    recorded_steps(config)
    checkpoint_steps(config)
    key = "model_metrics" if isinstance(config, ComparativeConfig) else "metrics"
    metrics = build_metrics(config.lane_metrics, MODEL_METRICS, key)
    shapes, outline = [], None
    for lane in config.lanes.values():
        model, training, key = lane.model, lane.training, lane.key("training")
        for i, callback in enumerate(build_callbacks(lane.callbacks, lane.key("callbacks"))):
            for size in getattr(callback, "batch_sizes", ()):
                check_batch_size(size, config.data.samples, f"{lane.key('callbacks')}[{i}].params: batch_size")
        criterion = build_criterion(training.criterion, training.criterion_params, key)
        check_optimizer(training.optimizer, training.optimizer_params, key)
        outline = outline or _outline(config.data, model.in_dim, model.out_dim)  # the same for both lanes
        if parameters(lane) > MANY:
            log.warning("making %s weights: some seconds a hundred million", f"{parameters(lane):,}")
        shapes.append(build_model(config, lane, outline).shapes)
        optimizer = Optimizer(training.optimizer, training.optimizer_params)
        build_metrics(config.lane_metrics, MODEL_METRICS, "metrics", [shapes[-1]], outline, criterion, optimizer)
    assert outline is not None
    if len(shapes) == 2:
        pairs = build_metrics(config.pair_metrics, COMPARATIVE_METRICS, "comparative_metrics", shapes, outline)
        check_lanes(metrics, pairs)
    check_events_of(config, outline)
    autograd_reason(config)


def _outline(data: DataConfig, in_dim: int, out_dim: int) -> Dataset:
    """Return the data but for their samples, which are zeros, and raise what `build_dataset` would raise."""
    if data.path is not None:
        return build_dataset(data, in_dim, out_dim)
    teacher = make_teacher(in_dim, out_dim, data.params, data.data_seed)
    inputs = make_inputs(in_dim, data.inputs, data.inputs_params, data.d_active, data.data_seed)
    if data.whiten:
        check_whiten(data.samples, inputs.active)
    x, y = torch.zeros(1, in_dim), torch.zeros(1, out_dim)
    train = (None, None) if data.online else (x, y)
    return Dataset(train[0], train[1], x, y, teacher, data.noise_std, inputs)
