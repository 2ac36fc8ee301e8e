"""What a config comes to before it runs: everything that is made of it, each thing once.

    config -> Blueprint -> Trainer, ComparativeTrainer, Ensemble

A part is made when it is first asked for, and what is wrong with it is told then. So checking a config is to ask for
its parts, and building takes those that are there. The samples of a teacher's data are drawn last, for the run alone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from dln.base.arithmetic import uniform
from dln.base.registry import import_extensions
from dln.branching import branched
from dln.callbacks import check_teachers, sized_callbacks
from dln.checkpoints import Saved, load_checkpoint
from dln.composing.burden import parameters
from dln.config import ExperimentConfig, LaneConfig, ModelConfig
from dln.data import POPULATION, Dataset, check_whiten, drawn, load_dataset, population, teacher_of
from dln.errors import ConfigError
from dln.ingredients.edge import Optimizer
from dln.ingredients.initialisations import asks_for_teacher
from dln.ingredients.optimizers import build_criterion, check_optimizer
from dln.initial_weights import Initial, initial_arrays
from dln.lockstep import columns_of
from dln.measure.columns import check_apart
from dln.measure.events import check_events
from dln.measure.objective import check_goals
from dln.measure.supply import PairSupply, Supply
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, Metric, build_metrics, check_lanes
from dln.model import DeepLinearNetwork
from dln.observers import observers
from dln.subject import Callback
from dln.theory.lanes import Theory, is_of_map
from dln.theory.setting import build_theories, build_theory_metrics, check_training
from dln.timeline import chosen_steps
from dln.trackers.build import build_tracker
from dln.train import Trainer
from dln.utils import select_device

if TYPE_CHECKING:
    from torch import nn

    from dln.history import Record

log = logging.getLogger("dln")

MANY = 10**8
"""Weights whose drawing is announced."""


class Blueprint:
    """A config and the parts it describes; those of its models by the lane's suffix."""

    def __init__(self, config: ExperimentConfig, dataset: Dataset | None = None) -> None:
        """Take a resolved config, whose extensions are imported, and data to use instead of what it describes."""
        import_extensions(config.extensions)
        self.config = config
        self.given = dataset
        self.starts: dict[str, Initial] = {}
        """What `start` has returned."""
        self._records_fit = False

    @classmethod
    def of(cls, config: ExperimentConfig | Blueprint, dataset: Dataset | None = None) -> Blueprint:
        """Return the blueprint of a config; one that is made already is taken as it is."""
        return config if isinstance(config, Blueprint) else cls(config, dataset)

    @uniform()
    def check(self) -> Blueprint:
        """Make all that can be made without drawing samples.

        Raises:
            ConfigError: What `factory.build` would raise: unknown names, wrong parameters, shapes that do not fit.
            ExtensionError: A user's code fails.
        """
        settings = "device recorded saved_at tracker callbacks criteria optimizers resumed outline"
        records = "metrics pair_metrics theories theory_metrics"
        for part in f"{settings} {records}".split():  # those whose faults are found soonest come first
            getattr(self, part)
        for suffix in self.config.lanes:
            self.start(suffix)
        self.check_records()
        return self

    # --- when ---------------------------------------------------------------------------------------------------------

    @cached_property
    def recorded(self) -> Collection[int]:
        """The steps at which a run is recorded unless it ends early."""
        return recorded_steps(self.config)

    @cached_property
    def saved_at(self) -> Collection[int]:
        """The steps at which weights are saved, if the config says that they are."""
        config = self.config
        every = config.checkpoint_every or config.max_steps
        return chosen_steps(config.max_steps, every, config.checkpoint_at, "checkpoint_at")

    # --- what trains --------------------------------------------------------------------------------------------------

    @cached_property
    def device(self) -> torch.device:
        """Where the run is computed."""
        return select_device(self.config.device)

    @cached_property
    def callbacks(self) -> dict[str, list[Callback]]:
        """The interventions on each model; those that save weights are not among them."""
        built, samples = {}, self.config.data.samples
        for suffix, lane in self.config.lanes.items():
            key = lane.key("callbacks")
            built[suffix] = sized_callbacks(lane.callbacks, samples, key)
            if (branch := lane.branch) is not None:
                own = None if branch.callbacks == lane.callbacks else sized_callbacks(branch.callbacks, samples, key)
                built[suffix] = branched(branch, lane.training, built[suffix], own)
            if any(hasattr(callback, "teaches") for callback in built[suffix]):
                check_teachers(built[suffix], self.outline, key)
        return built

    @cached_property
    def tracker(self) -> Any:
        """What the config names to be told of the run, or None."""
        return None if self.config.tracker is None else build_tracker(self.config.tracker)

    @property
    def observers(self) -> list[Any]:
        """All that ask to be told of the run: callbacks, and the tracker."""
        if self.tracker is None and not any(self.callbacks.values()):
            return []
        callbacks = (getattr(one, "__wrapped__", one) for own in self.callbacks.values() for one in own)
        return observers([*callbacks, self.tracker])

    @cached_property
    def criteria(self) -> dict[str, nn.Module]:
        """The loss of each model."""
        lanes = self.config.lanes.values()
        return {
            lane.suffix: build_criterion(lane.training.criterion, lane.training.criterion_params, lane.key("training"))
            for lane in lanes
        }

    @cached_property
    def optimizers(self) -> dict[str, Optimizer]:
        """What makes the steps of each model, in words."""
        named = {}
        for suffix, lane in self.config.lanes.items():
            optimizer = Optimizer(lane.training.optimizer, lane.training.optimizer_params, lane.lr_factors)
            check_optimizer(optimizer.name, optimizer.params, lane.key("training"))
            named[suffix] = optimizer
        return named

    @cached_property
    def resumed(self) -> dict[str, Saved | None]:
        """The checkpoint that each model goes on from."""
        config, path = self.config, self.config.resume
        if path is None:
            return dict.fromkeys(config.lanes)
        found: dict[str, Saved | None] = {}
        for suffix, lane in config.lanes.items():
            try:
                found[suffix] = saved = load_checkpoint(path, suffix)
                saved.check(shapes_of(lane), lane.training.optimizer, config.dtype, config.max_steps)
            except ConfigError as error:
                raise ConfigError(f"resume: {error}") from error
        return found

    # --- data ---------------------------------------------------------------------------------------------------------

    @property
    def _model(self) -> ModelConfig:
        return next(iter(self.config.lanes.values())).model  # all lanes have its dimensions

    @cached_property
    def outline(self) -> Dataset:
        """The data before samples are drawn: of a teacher's data all but the samples, which are zeros."""
        data, model = self.config.data, self._model
        if self.given is not None or data.path is not None:
            return self.dataset
        described = {key: getattr(data, key) for key in POPULATION}
        made = population(model.in_dim, model.out_dim, data.params, **described)
        if data.whiten:
            assert made.inputs is not None
            check_whiten(data.samples, made.inputs.active)
        x, y = torch.zeros(1, model.in_dim), torch.zeros(1, model.out_dim)
        train = {} if data.online else {"train_inputs": x, "train_targets": y}
        return replace(made, **train, test_inputs=x, test_targets=y)

    @cached_property
    def dataset(self) -> Dataset:
        """What the run learns from: what was given or, in float64 on the cpu, what the config describes."""
        data = self.config.data
        if self.given is not None:
            return self.given
        if data.path is not None:
            dims = self._model.in_dim, self._model.out_dim
            return load_dataset(data.path, noise_std=data.noise_std, data_seed=data.data_seed, dims=dims)
        return drawn(
            self.outline,
            whiten=data.whiten,
            train_samples=None if data.online else data.train_samples,
            test_samples=data.test_samples,
            data_seed=data.data_seed,
        )

    @property
    def source(self) -> str:
        """What says where the data are from: blueprints of the same source have the same data."""
        return "" if self.given is not None else repr(self.config.data)

    def share_data(self, other: Blueprint) -> None:
        """Take the data of another blueprint of the same `source`."""
        self.outline, self.dataset = other.outline, other.dataset

    # --- models -------------------------------------------------------------------------------------------------------

    @uniform()
    def start(self, suffix: str) -> Initial:
        """Return the weights, and biases if any, that a lane starts from, in the run's precision."""
        if suffix not in self.starts:
            lane = self.config.lanes[suffix]
            if parameters(lane) > MANY:
                log.warning("making %s weights: some seconds a hundred million", f"{parameters(lane):,}")
            teacher = None
            if asks_for_teacher(lane.model.init, lane.key("model")):
                teacher = teacher_of(self._data)
            self.starts[suffix] = initial_arrays(self.config, lane, teacher)
        return self.starts[suffix]

    def forget_samples(self) -> None:
        """Give up the samples, which are most of what there is; they are drawn again if need be."""
        self.__dict__.pop("dataset", None)

    def forget(self) -> None:
        """Give up data and weights, and what a run may have changed; it is made again if need be."""
        self.starts.clear()
        for name in ("dataset", "outline", "tracker", "callbacks", "metrics", "pair_metrics"):
            self.__dict__.pop(name, None)

    # --- what is recorded ---------------------------------------------------------------------------------------------

    @cached_property
    def metrics(self) -> dict[str, list[Metric]]:
        """The metrics of each model."""
        built: dict[str, list[Metric]] = {}
        for suffix, lane in self.config.lanes.items():
            setting = [shapes_of(lane)], self.outline, self.criteria[suffix], self.optimizers[suffix]
            parts = [build_metrics(listed, MODEL_METRICS, key, *setting) for key, listed in lane.metrics.items()]
            built[suffix] = [metric for part in parts for metric in part]
            check_apart((metric.label for metric in built[suffix]), " and ".join(lane.metrics))
        return built

    @cached_property
    def theories(self) -> list[Theory]:
        """What predicts the runs of each model."""
        theories = build_theories(self.config.theory)
        for suffix, lane in self.config.lanes.items() if theories else ():
            check_training(self.config, lane, self.criteria[suffix], self.optimizers[suffix])
        return theories

    @cached_property
    def theory_metrics(self) -> list[Metric]:
        """The metrics of each model and each prediction."""
        dims = self._model.in_dim, self._model.out_dim
        return build_theory_metrics(self.config.theory_metrics, dims, self.outline) if self.theories else []

    @property
    def labels(self) -> dict[str, list[str]]:
        """What the columns of each model are called, beside its losses: metrics, and what theories say."""
        tested = self.outline.test_inputs is not None
        told = {}
        for suffix, metrics in self.metrics.items():
            derived = [metric for metric in metrics if is_of_map(metric)]
            predicted = [name for t in self.theories for name in t.names(derived, self.theory_metrics, tested)]
            told[suffix] = [metric.label for metric in metrics] + predicted
        return told

    @cached_property
    def pair_metrics(self) -> list[Metric]:
        """The metrics of both models together; none where there is one."""
        lanes = self.config.lanes
        if len(lanes) == 1:
            return []
        shapes, criterion = [*map(shapes_of, lanes.values())], next(iter(self.criteria.values()))
        key, configs = "comparative_metrics", self.config.pair_metrics
        pairs = build_metrics(configs, COMPARATIVE_METRICS, key, shapes, self.outline, criterion)
        for own in self.metrics.values():
            check_lanes(own, pairs)
        return pairs

    def check_records(self) -> None:
        """Raise ConfigError where events or the objective do not fit what is recorded; they are looked at once."""
        for labels in self.labels.values() if self.theories and not self._records_fit else ():
            check_apart(labels, "theory", "columns")
        if not self._records_fit and self.config.events:
            self._check_events()
        if not self._records_fit and self.config.objective is not None:
            self._check_objective()
        self._records_fit = True

    def _check_events(self) -> None:
        own, *others = self.labels.values()
        labels = [label for label in own if all(label in of_other for of_other in others)]

        def first(some: Collection[str]) -> list[Record]:
            return [self._measured(lane, lane.supply()) for lane in self._probes(some).values()]

        taught = any(hasattr(callback, "teaches") for own in self.callbacks.values() for callback in own)
        check_events(self.config.events, labels, self._data, first, taught)

    @property
    def names(self) -> list[str]:
        """Losses that are recorded and labels of metrics, with their lane's suffix."""
        losses = ["train_loss", *["test_loss"] * (self.outline.test_inputs is not None)]
        of_lanes = [name + suffix for suffix, labels in self.labels.items() for name in (*losses, *labels)]
        return [*of_lanes, *(metric.label for metric in self.pair_metrics)]

    def _check_objective(self) -> None:
        begin = max((saved.step for saved in self.resumed.values() if saved is not None), default=0)
        check_goals(self.config.objective, self.names, self.recorded, begin, self.first_record)

    @property
    def _data(self) -> Dataset:
        """The outline in the run's precision."""
        return self.outline.to(getattr(torch, self.config.dtype), "cpu")

    def first_record(self, names: Collection[str]) -> Record:
        """Return the columns of a first record whose metrics have these names, the lane's suffix added."""
        lanes, record = self._probes(names), {}
        supplies = {suffix: lane.supply() for suffix, lane in lanes.items()}
        for suffix, lane in lanes.items():
            record |= self._measured(lane, supplies[suffix], suffix)
        pairs = [metric for metric in self.pair_metrics if metric.label in names]
        del self.pair_metrics  # those of the run remember nothing of this
        return record | (columns_of(pairs, PairSupply(supplies["_a"], supplies["_b"]), 0) if pairs else {})

    def _measured(self, lane: Trainer, supply: Supply, suffix: str = "") -> Record:
        """Return what a first record says of a lane; what theories say is a number where it is not like the lane's."""
        record = lane.measure(supply, suffix)
        told = dict(record)
        for theory in self.theories:
            end = f"_{theory.label}{suffix}"
            like = {name: value for name, value in record.items() if name.partition(".")[0].endswith(suffix)}
            told |= dict.fromkeys((name + end for name in theory.own), 0.0)
            told |= dict.fromkeys((metric.label + end for metric in self.theory_metrics if theory.maps), 0.0)
            for name, value in like.items() if theory.maps else ():
                head, dot, key = name.partition(".")
                told[head.removesuffix(suffix) + end + dot + key] = value
        return told

    def _probes(self, names: Collection[str]) -> dict[str, Trainer]:
        """Return trainers at the first step, with the metrics of these names, the lane's suffix added or not."""
        data = self._data
        lanes = {suffix: self._probe(lane, data) for suffix, lane in self.config.lanes.items()}
        for suffix, lane in lanes.items():
            ends = ["", suffix, *(f"_{theory.label}{end}" for theory in self.theories for end in {"", suffix})]
            lane.metrics = [m for m in lane.metrics if any(m.label + end in names for end in ends)]
            lane.begin(0)
        return lanes

    def _probe(self, lane: LaneConfig, data: Dataset) -> Trainer:
        """Return a trainer that tells what a lane's first record has, if not its numbers."""
        training = lane.training
        return Trainer(
            DeepLinearNetwork.from_weights(*self.start(lane.suffix)),
            data,
            batch_size=1 if data.online else None,
            optimizer=training.optimizer,
            optimizer_params=training.optimizer_params,
            lr_factors=lane.lr_factors,
            criterion=training.criterion,
            criterion_params=training.criterion_params,
            # not those of the run, which remember what they were shown first
            metrics=[metric for listed in lane.metrics.values() for metric in listed],
        )


def shapes_of(lane: LaneConfig) -> list[list[int]]:
    """Return the shapes of a model's parameters, layer by layer."""
    layers = pairwise(lane.widths)
    return [shape for before, after in layers for shape in [[after, before], *([[after]] if lane.model.bias else [])]]


def recorded_steps(config: ExperimentConfig) -> Collection[int]:
    """Return the steps at which a run is recorded unless it ends early."""
    return chosen_steps(config.max_steps, config.evaluate_every, config.evaluate_at)
