"""From configs of runs to the problems that theories take."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from dln.config import ExperimentConfig, LaneConfig, MetricConfig, TheoryConfig
from dln.data import Dataset
from dln.errors import ConfigError
from dln.ingredients.edge import Optimizer
from dln.measure.columns import check_apart, check_label
from dln.measure.data_quantities import covariance, input_moments, target_moments, teacher
from dln.metrics import COMPARATIVE_METRICS, Metric, build_metrics
from dln.theory.lanes import Learned, Theory, TheoryLane, is_of_map
from dln.theory.theory import Problem, Sampling

if TYPE_CHECKING:
    from dln.measure.metric import Shapes

STOPS = ("stop_at_loss", "stop_at_gradient", "stop_at_plateau", "stop_after")
"""Callbacks that leave training as it is while it goes on."""


def build_theories(configs: Sequence[TheoryConfig]) -> list[Theory]:
    """Return the theories that a config lists.

    Raises:
        ConfigError: One is unknown or has wrong parameters, or two are called alike.
    """
    theories = [Theory(config, f"theory[{i}]") for i, config in enumerate(configs)]
    for theory in theories:
        check_label(theory.label, "theory")
    labels = [theory.label for theory in theories]
    check_apart(labels, "theory", "theories")
    for end, label in itertools.permutations(labels, 2):
        if label.endswith(f"_{end}"):
            raise ConfigError(
                f"theory: columns that end in {label!r} also end in {end!r}, so they would not be told apart; give one "
                "another label"
            )
    return theories


def build_theory_metrics(
    configs: Sequence[MetricConfig] | None, dims: tuple[int, int], dataset: Dataset
) -> list[Metric]:
    """Return metrics of a run and a prediction, of models that map `dims` (in, out).

    Raises:
        ConfigError: One is of more than end-to-end maps.
    """
    shapes: list[Shapes] = [[[dims[1], dims[0]]]] * 2
    wanted = ["end_to_end_distance"] if configs is None else configs
    metrics = build_metrics(wanted, COMPARATIVE_METRICS, "theory_metrics", shapes, dataset)
    for metric in metrics:
        if not is_of_map(metric):
            known = [
                entry.name
                for entry in COMPARATIVE_METRICS
                if is_of_map(Metric(COMPARATIVE_METRICS, MetricConfig(entry.name)))
            ]
            raise ConfigError(
                f"theory_metrics: {metric.label!r} is of layers, and a theory predicts the end-to-end map; what is of "
                f"the map: {', '.join(known)}"
            )
    return metrics


def check_training(config: ExperimentConfig, lane: LaneConfig, criterion: nn.Module, optimizer: Optimizer) -> None:
    """Raise ConfigError where a lane is trained in a way that no theory speaks of."""
    model, training = lane.key("model"), lane.key("training")
    plain = optimizer.name == "SGD" and not any(optimizer.params.values())
    mse = isinstance(criterion, nn.MSELoss) and criterion.reduction == "mean"
    acting = [callback.name for callback in lane.callbacks if callback.name not in STOPS]
    odd = {
        f"{model}.bias=true": lane.model.bias,
        f"{training}.optimizer={optimizer.name} {dict(optimizer.params)}": not plain,
        f"{training}.criterion={lane.training.criterion}": not mse,
        f"{training}.lr_factors": lane.lr_factors is not None,
        f"{lane.key('callbacks')}, which may change training ({', '.join(acting)})": acting,
        "branch_at": lane.branch is not None,
    }
    if found := next((what for what, there in odd.items() if there), None):
        raise ConfigError(
            "theory: predictions are of plain gradient descent (SGD) on the mean squared error, without biases, at one "
            f"learning rate; leave out {found}, or leave out theory"
        )


def lanes_beside(
    theories: Sequence[Theory],
    lanes: Sequence[LaneConfig],
    starts: Sequence[Sequence[np.ndarray]],
    datasets: Sequence[Dataset],
    dataset: Sequence[int],
    steps: Sequence[int],
    metrics: Sequence[Metric],
    pair_metrics: Sequence[Metric],
) -> list[TheoryLane]:
    """Return what theories say of M members of a lane; what is said of many alike is found once.

    Args:
        theories: The theories.
        lanes: What the config of each member says of the lane.
        starts: Its initial weights, layer by layer.
        datasets: What members learn from.
        dataset: Which of them each member does.
        steps: The steps that are to be recorded.
        metrics: Metrics of the lane.
        pair_metrics: Metrics of a member and a prediction.
    """
    if not theories:
        return []
    distinct: dict[str, int] = {}
    keys = [
        repr((which, lane.model, replace(lane.training, batch_seed=0)))
        for lane, which in zip(lanes, dataset, strict=True)
    ]
    member = np.array([distinct.setdefault(key, len(distinct)) for key in keys])
    chosen = np.unique(member, return_index=True)[1].tolist()
    which = np.array([dataset[i] for i in chosen])
    problem = _problem([lanes[i] for i in chosen], [starts[i] for i in chosen], [datasets[d] for d in which])
    data = Learned(datasets, which)
    return [TheoryLane(theory, problem, data, member, steps, metrics, pair_metrics) for theory in theories]


def _problem(
    lanes: Sequence[LaneConfig], starts: Sequence[Sequence[np.ndarray]], datasets: Sequence[Dataset]
) -> Problem:
    """Return the problem of runs of one shape; data that several share are described once."""
    first, training = datasets[0], lanes[0].training
    told = {id(data): _described(data) for data in datasets}
    described = {name: _of_all([told[id(data)][name] for data in datasets]) for name in told[id(first)]}
    return Problem(
        [np.stack(layer).astype(np.float64) for layer in zip(*starts, strict=True)],
        lr=np.array([lane.training.lr for lane in lanes]),
        sampling=_sampling(lanes[0], first),
        batch_size=training.batch_size,
        label_noise=np.array([lane.training.label_noise for lane in lanes]),
        seeds=np.array([lane.training.model_seed for lane in lanes]),
        **described,
    )


def _of_all(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return what is described of each run as one array [R, ...]; what all runs share is there once."""
    if all(value is values[0] for value in values):
        return np.broadcast_to(values[0], (len(values), *values[0].shape))
    return np.stack(values)


def _described(data: Dataset) -> dict[str, np.ndarray]:
    """Return what a `Problem` holds of a dataset."""
    n = data.dims[0]
    moments = {"sigma": input_moments(data)[:n, :n], "sigma_yx": target_moments(data)[:, :n]}
    moments["normal"] = np.array(data.inputs is None or data.inputs.normal)
    if data.online:
        t = teacher(data)
        square = np.trace(t @ covariance(data) @ t.T) + data.dims[1] * data.noise_std**2
        return moments | {"target_square": np.asarray(square), "noise_std": np.array(float(data.noise_std))}
    assert data.train_inputs is not None
    assert data.train_targets is not None
    x, y = (tensor.cpu().numpy().astype(np.float64) for tensor in (data.train_inputs, data.train_targets))
    square = (y**2).sum() / len(y)
    return moments | {"target_square": np.asarray(square), "noise_std": np.array(0.0), "inputs": x, "targets": y}


def _sampling(lane: LaneConfig, data: Dataset) -> Sampling:
    training = lane.training
    if data.online:
        return "online"
    assert data.train_inputs is not None
    if training.replacement:
        return "replacement"
    return "full" if training.batch_size in (None, len(data.train_inputs)) else "epochs"
