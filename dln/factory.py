"""From a blueprint to what runs it: the only place where configs meet the classes that do the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from dln.base.arithmetic import uniform
from dln.blueprint import Blueprint
from dln.comparative import ComparativeTrainer
from dln.composing.alike import trajectory
from dln.config import ExperimentConfig
from dln.data import Dataset
from dln.errors import ConfigError, StorageError, suggestion
from dln.history import History
from dln.ingredients.initialisations import asks_for_teacher
from dln.initial_weights import Initial
from dln.lockstep import OnRecord
from dln.model import DeepLinearNetwork, save_weights
from dln.subject import Callback, Subject
from dln.theory.setting import lanes_beside
from dln.timeline import acting_at
from dln.train import Trainer

if TYPE_CHECKING:
    from dln.ensemble.engine import Ensemble
    from dln.ensemble.lane import Lane
    from dln.theory.lanes import TheoryLane

log = logging.getLogger("dln")

Described = ExperimentConfig | Blueprint
"""A resolved config, or what was made of it already; a blueprint is used up by one run."""


class Runner(Protocol):
    """What runs one config, as whoever stores its records and its summary sees it."""

    max_steps: int
    history: History

    @property
    def engine(self) -> str:
        """What it is called in a summary."""
        ...

    @property
    def step(self) -> int:
        """The present step."""
        ...

    @property
    def events(self) -> dict[str, Any]:
        """What is told of it once, so far: `diverged_at`, `stopped_at`, with a lane's suffix."""
        ...

    def add_callback(self, callback: Callback) -> None:
        """Add a callback behind those of the first lane."""
        ...

    def run(self, on_record: OnRecord | None = None) -> History:
        """Train to the end and return the records; each is also passed to `on_record`."""
        ...


@dataclass(frozen=True)
class Engine:
    """What trains runs."""

    why_not: Callable[[Blueprint], str | None]
    """Says what of a config it does not cover; None: it trains such runs."""
    build: Callable[[Blueprint, Path | None], Runner]
    """Makes what runs one config, and saves its weights in a directory."""
    together: Callable[[Sequence[Blueprint], Sequence[Path] | None], Ensemble] | None = None
    """Makes what trains many runs at once that agree in `structure`; None: they are trained one by one."""


def engine_of(config: Described) -> str:
    """Return which of `ENGINES` trains a config's run: the one it asks for or, with `auto`, the first that covers it.

    It depends on the config alone, so a run is the same alone and in a sweep.

    Raises:
        ConfigError: The config asks for an engine that does not cover it, or that there is not.
    """
    blueprint = Blueprint.of(config)
    asked = blueprint.config.engine
    if asked == "auto":
        return next(name for name, engine in ENGINES.items() if engine.why_not(blueprint) is None)
    if asked not in ENGINES:
        raise ConfigError(f"engine: unknown engine {asked!r}; {suggestion(asked, ['auto', *ENGINES])}")
    reason = ENGINES[asked].why_not(blueprint)
    if reason is not None:
        raise ConfigError(f"engine={asked} does not cover {reason}; use engine=auto or engine=autograd")
    return asked


def check_names(config: ExperimentConfig) -> Blueprint:
    """Return the blueprint of a config, checked: what it names is there, fits, and can be trained."""
    blueprint = Blueprint(config).check()
    engine_of(blueprint)
    return blueprint


@uniform()
def build(config: Described, dataset: Dataset | None = None, checkpoints: Path | None = None) -> Runner:
    """Return what runs a config, on the engine it asks for.

    Args:
        config: A resolved SingleConfig or ComparativeConfig, or its blueprint.
        dataset: Data to use instead of what the config's `data` describes.
        checkpoints: Where to save weights, if the config says that they are saved.
    """
    blueprint = Blueprint.of(config, dataset)
    name = engine_of(blueprint)
    if blueprint.config.engine == "auto" and name == "autograd":
        log.info("engine: autograd, because of %s", ENGINES["compiled"].why_not(blueprint))
    return ENGINES[name].build(blueprint, checkpoints)


@uniform()
def build_trainer(
    config: Described, dataset: Dataset | None = None, checkpoints: Path | None = None
) -> Trainer | ComparativeTrainer:
    """Return the autograd engine's trainer, or pair of trainers, for a config."""
    blueprint = Blueprint.of(config, dataset)
    config = blueprint.config
    blueprint.check_records()
    data = blueprint.dataset.to(getattr(torch, config.dtype), blueprint.device)

    def trainer(suffix: str) -> Trainer:
        training = config.lanes[suffix].training
        return Trainer(
            DeepLinearNetwork.from_weights(*blueprint.start(suffix), device=blueprint.device),
            data,
            lr=training.lr,
            lr_factors=config.lanes[suffix].lr_factors,
            max_steps=config.max_steps,
            batch_size=training.batch_size,
            batch_seed=training.batch_seed,
            replacement=training.replacement,
            label_noise=training.label_noise,
            optimizer=training.optimizer,
            optimizer_params=training.optimizer_params,
            criterion=training.criterion,
            criterion_params=training.criterion_params,
            evaluate_every=config.evaluate_every,
            evaluate_at=config.evaluate_at,
            metrics=blueprint.metrics[suffix],
            callbacks=_callbacks(blueprint, suffix, checkpoints),
            resume=blueprint.resumed[suffix],
            theories=_theories(suffix, [blueprint], [blueprint.start(suffix)], [data], [0]),
        )

    trainers = [trainer(suffix) for suffix in config.lanes]
    blueprint.starts.clear()  # the models have copies
    if len(trainers) == 2:
        return ComparativeTrainer(*trainers, comparative_metrics=blueprint.pair_metrics)
    return trainers[0]


@uniform()
def build_ensemble(
    configs: Sequence[Described], dataset: Dataset | None = None, checkpoints: Sequence[Path] | None = None
) -> Ensemble:
    """Return the compiled engine's ensemble of runs whose configs differ in batchable fields only.

    Runs, or lanes of runs, that are bound to go the same way are computed once.

    Args:
        configs: Resolved configs that the compiled engine covers, or their blueprints.
        dataset: Data for all, instead of what each config describes.
        checkpoints: Where to save each run's weights; then none is shared.
    """
    from dln.ensemble.engine import Ensemble

    blueprints = [Blueprint.of(config, dataset) for config in configs]
    first = blueprints[0]
    first.check_records()
    sources = share_data(blueprints)
    places = {source: place for place, source in enumerate(sources)}
    datasets = [source.dataset.to(getattr(torch, first.config.dtype), "cpu") for source in sources.values()]
    lanes, members = {}, {}
    saved = checkpoints or [None] * len(blueprints)
    for suffix in first.config.lanes:
        distinct: dict[tuple[str, Path | None], int] = {}
        keys = [(trajectory(b.config, suffix), place) for b, place in zip(blueprints, saved, strict=True)]
        members[suffix] = np.array([distinct.setdefault(key, len(distinct)) for key in keys])
        chosen = np.unique(members[suffix], return_index=True)[1]
        lanes[suffix] = _lane(suffix, [blueprints[i] for i in chosen], places, datasets, [saved[i] for i in chosen])
    for blueprint in blueprints:
        blueprint.starts.clear()  # the lanes have copies
    return Ensemble(
        lanes,
        members=members,
        evaluate_every=first.config.evaluate_every,
        evaluate_at=first.config.evaluate_at,
        metrics=first.metrics,
        comparative_metrics=first.pair_metrics,
    )


def share_data(blueprints: Sequence[Blueprint]) -> dict[str, Blueprint]:
    """Have blueprints share data that are the same; return the first of each, by its `source`."""
    sources: dict[str, Blueprint] = {}
    for blueprint in blueprints:
        known = sources.setdefault(blueprint.source, blueprint)
        if known is not blueprint:
            blueprint.share_data(known)
    return sources


def _lane(
    suffix: str,
    blueprints: Sequence[Blueprint],
    places: Mapping[str, int],
    datasets: Sequence[Dataset],
    folders: Sequence[Path | None],
) -> Lane:
    """Return one lane of an ensemble: a member for each blueprint, whose `source` says where its dataset stands."""
    from dln.ensemble.lane import Lane
    from dln.kernels.rules import make_rule

    first = blueprints[0]
    trainings = [blueprint.config.lanes[suffix].training for blueprint in blueprints]
    starts = _starts(suffix, blueprints)
    weights, biases = zip(*starts, strict=True)
    return Lane(
        [np.stack(layer) for layer in zip(*weights, strict=True)],
        None if biases[0] is None else [np.stack(layer) for layer in zip(*biases, strict=True)],
        datasets,
        dataset=[places[blueprint.source] for blueprint in blueprints] if len(places) > 1 else None,
        lr=[t.lr for t in trainings],
        lr_factors=first.config.lanes[suffix].lr_factors,
        batch_size=trainings[0].batch_size,
        batch_seeds=[t.batch_seed for t in trainings],
        replacement=trainings[0].replacement,
        label_noise=[t.label_noise for t in trainings],
        rule=make_rule(*first.optimizers[suffix][:2]),
        max_steps=first.config.max_steps,
        callbacks=[_callbacks(b, suffix, folder) for b, folder in zip(blueprints, folders, strict=True)],
        resume=first.resumed[suffix],
        theories=_theories(suffix, blueprints, starts, datasets, [places[b.source] for b in blueprints]),
    )


def _theories(
    suffix: str,
    blueprints: Sequence[Blueprint],
    starts: Sequence[Initial],
    datasets: Sequence[Dataset],
    dataset: Sequence[int],
) -> list[TheoryLane]:
    """Return what the theories that configs name say of one lane of their runs.

    Args:
        suffix: The lane's.
        blueprints: Of the runs.
        starts: Their initial weights.
        datasets: What they learn from.
        dataset: Which of these each of them does.
    """
    first = blueprints[0]
    return lanes_beside(
        first.theories,
        [blueprint.config.lanes[suffix] for blueprint in blueprints],
        [weights for weights, _ in starts],
        datasets,
        dataset,
        list(first.recorded),
        first.metrics[suffix],
        first.theory_metrics,
    )


def _starts(suffix: str, blueprints: Sequence[Blueprint]) -> list[Initial]:
    """Return how a lane of some runs starts; what many share is made once."""
    made: dict[str, Initial] = {}

    def start(blueprint: Blueprint) -> Initial:
        lane = blueprint.config.lanes[suffix]
        taught = asks_for_teacher(lane.model.init, lane.key("model"))
        key = repr((lane.model, lane.training.model_seed, taught and blueprint.source))
        if key not in made:
            made[key] = blueprint.start(suffix)
        return made[key]

    return [start(blueprint) for blueprint in blueprints]


def save_checkpoints(directory: Path, steps: Collection[int], suffix: str = "") -> Callback:
    """Return a callback that saves theta_s as `step_S.npz` at `steps`.

    It belongs behind the callbacks that may stop the run: the step that ends a run early is saved too.
    """

    def callback(step: int, trainer: Subject) -> None:
        path = directory / f"step_{step:08d}{suffix}.npz"
        try:
            save_weights(trainer.model, path, trainer.state())
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    return acting_at(steps, callback, at_end=True)


def _callbacks(blueprint: Blueprint, suffix: str, checkpoints: Path | None) -> list[Callback]:
    callbacks = list(blueprint.callbacks[suffix])
    if blueprint.config.saves_weights and checkpoints is not None:
        callbacks.append(save_checkpoints(checkpoints, blueprint.saved_at, suffix))
    return callbacks


def _uncompiled(blueprint: Blueprint) -> str | None:
    """Return what of a config the compiled engine does not cover."""
    from dln.ensemble.coverage import why_not

    reasons = (
        why_not(
            *blueprint.optimizers[suffix][:2],
            lane.training.criterion,
            lane.training.criterion_params,
            blueprint.device,
            blueprint.callbacks[suffix],
        )
        for suffix, lane in blueprint.config.lanes.items()
    )
    return next((reason for reason in reasons if reason is not None), None)


def _build_compiled(blueprint: Blueprint, checkpoints: Path | None) -> Runner:
    from dln.ensemble.solo import SoloRun

    return SoloRun(build_ensemble([blueprint], checkpoints=None if checkpoints is None else [checkpoints]))


ENGINES: dict[str, Engine] = {
    "compiled": Engine(
        _uncompiled, _build_compiled, lambda blueprints, folders: build_ensemble(blueprints, checkpoints=folders)
    ),
    "autograd": Engine(lambda blueprint: None, lambda blueprint, folder: build_trainer(blueprint, checkpoints=folder)),
}
"""What trains runs, by what configs call it; `engine: auto` takes the first that covers a config."""
