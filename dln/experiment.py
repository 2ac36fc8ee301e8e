"""From a config to a history: the one function that every door, notebook and sweep calls."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln import factory
from dln.aggregates.keeping import refuse_alone
from dln.base.files import from_home
from dln.base.values import plain
from dln.blueprint import Blueprint
from dln.composing.compose import Composed, is_only_comparative, laid_over
from dln.composing.loader import load_config
from dln.composing.variants import Resolver
from dln.config import ComparativeConfig, ExperimentConfig, Schema, SingleConfig
from dln.engines import find_events_of, run_so_far, train_all
from dln.errors import ConfigError, StorageError
from dln.history import History, Record
from dln.interrupts import answer, cut_short, keeping, so_far
from dln.lockstep import OnRecord
from dln.observers import ObservedRun, Status, end_of, last_parts, replay, telling
from dln.results.run import CHECKPOINTS, RunWriter, run_summary
from dln.terminal import live_view, pace, progress_bar

if TYPE_CHECKING:
    from dln.data import Dataset

log = logging.getLogger("dln")

Config = Mapping[str, Any] | Sequence[str] | ExperimentConfig


def run_experiment(
    config: Config | Composed = (),
    *,
    config_name: str = "default",
    comparative: bool | None = None,
    dataset: Dataset | None = None,
    directory: str | Path | None = None,
    progress: bool = False,
) -> History:
    """Run one experiment, single or comparative, and return its history.

    Args:
        config: Overrides as on the command line (`["training.lr=0.01"]`), a nested dictionary with the keys of a YAML
            file, or a config that `resolve` returned.
        config_name: The YAML file that overrides apply to; dictionaries apply to the schema's defaults.
        comparative: Whether this is a comparison of two models; None tells by the keys, or by the name of the config.
        dataset: Data of one's own (`dln.Dataset.from_arrays`); the models then take its dimensions.
        directory: Where to store the run; None keeps it in memory only.
        progress: Show how far the run is, on a terminal or in a notebook.

    Returns:
        The history. Where the run is interrupted at a prompt or in a notebook, what was recorded so far, with the
        event `interrupted_at`.

    Raises:
        ConfigError: The config cannot be run; the message names the key and the remedy.
        ExtensionError: A metric, callback or teacher raised; what was recorded before is stored.
        KeyboardInterrupt: The run was interrupted, in a script; its `histories` hold what was recorded so far.

    >>> history = run_experiment({"max_steps": 20, "evaluate_every": 10})
    >>> history["step"]
    array([ 0, 10, 20])
    """
    resolved = _resolved(config, config_name, comparative, dataset)
    histories: dict[int, History] = {}
    with _given_back(histories, 1, resolved.max_steps):
        histories[0] = run_blueprint(Blueprint(resolved, dataset), directory=directory, progress=progress)
    return histories[0]


def run_experiments(
    configs: Iterable[Config],
    *,
    config_name: str = "default",
    comparative: bool | None = None,
    dataset: Dataset | None = None,
    progress: bool = False,
) -> list[History]:
    """Run many experiments in memory and return their histories, in order.

    Runs that differ only in seeds, rates, scales and the like (the schema's batchable fields) are trained together by
    the compiled engine, hundreds of times faster than one by one and with the same digits; runs that are bound to go
    the same way are computed once.

    Args:
        configs: What `run_experiment` takes, one an experiment.
        config_name: The YAML file that overrides apply to.
        comparative: As in `run_experiment`, for all.
        dataset: Data of one's own, for all.
        progress: Show how many runs are done, on a terminal or in a notebook.

    Returns:
        The histories; of an interruption as `run_experiment` does, empty ones of runs that had not begun.

    >>> histories = run_experiments([{"max_steps": 5, "training": {"model_seed": seed}} for seed in range(3)])
    >>> [bool(history["train_loss"][-1] < history["train_loss"][0]) for history in histories]
    [True, True, True]
    """
    if isinstance(configs, str | Mapping | ExperimentConfig):
        raise ConfigError("configs are a list of configs; run_experiment takes one")
    configs, resolver, resolved = list(configs), Resolver(), []
    for i, config in enumerate(configs):
        try:
            resolved.append(_resolved(config, config_name, comparative, dataset, resolver))
            _check_place(resolved[-1], None)
        except ConfigError as error:
            raise ConfigError(f"configs[{i}]: {error}") from error.__cause__
    histories: dict[int, History] = {}
    started = time.perf_counter()
    with (
        _given_back(histories, len(resolved)),
        live_view(len(resolved)) if progress else contextlib.nullcontext() as show,
    ):
        for indices, results in train_all(resolved, dataset):
            if results.trajectories < results.lanes:
                log.info("%d runs shared %d trajectories", len(indices), results.trajectories)
            histories |= {i: results.history(run) for run, i in enumerate(indices)}
            for run, i in enumerate(indices):
                histories[i].config = _told(resolved[i], dataset)
                if results.observers[run]:
                    about = ObservedRun.of(resolved[i], _name(configs[i], i))
                    replay(results.observers[run], about, histories[i])
            if show is not None:
                show(len(histories), pace(len(histories), time.perf_counter() - started))
    return [histories[i] for i in range(len(resolved))]


@contextlib.contextmanager
def _given_back(histories: dict[int, History], runs: int, steps: int | None = None) -> Iterator[None]:
    """Where the block is interrupted, add what was recorded of its runs, and go on if someone waits for them.

    Args:
        histories: Runs that are done, by their numbers; the others are added.
        runs: How many there are.
        steps: How many a single run has.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        done, begun = len(histories), so_far(stop)
        for run in range(runs):
            histories.setdefault(run, begun[run] if run in begun else cut_short(History(), 0))
        stop.histories = [histories[run] for run in range(runs)]  # type: ignore[attr-defined]
        step = histories[0].ends.get("interrupted_at", steps)
        where = f"step {step} of {steps}" if steps else f"{done} of {runs} runs"
        answer(stop, where)


def run_blueprint(
    blueprint: Blueprint, *, directory: str | Path | None = None, progress: bool = False, claimed: bool = False
) -> History:
    """Run a blueprint; whatever ends the run, its records so far are stored and its summary says how it ended.

    See `run_experiment`; `claimed` says that `store.claim_named` has made the directory this process's own.
    """
    config = blueprint.config
    directory = None if directory is None else from_home(directory)
    checkpoints = None if directory is None else directory / CHECKPOINTS
    _check_place(config, directory)
    try:
        trainer = factory.build(blueprint, checkpoints=checkpoints)
    except KeyboardInterrupt:
        if directory is not None:
            with contextlib.suppress(StorageError), RunWriter(directory, claimed) as writer:
                writer.finish(run_summary("interrupted", config.engine, 0, config.max_steps, 0.0, {}))
        raise
    if progress:
        with progress_bar(config.max_steps) as tick:
            trainer.add_callback(tick)
            return _run(trainer, blueprint, directory, claimed)
    return _run(trainer, blueprint, directory, claimed)


def _check_place(config: ExperimentConfig, directory: str | Path | None) -> None:
    """Raise ConfigError where weights are to be saved and there is no directory, or a run is to be averaged over."""
    refuse_alone(config.aggregate)
    if config.saves_weights and directory is None:
        key = "checkpoint_every" if config.checkpoint_at is None else "checkpoint_at"
        raise ConfigError(f"{key} needs a directory to save weights in: run_experiment(..., directory=...)")


def _run(trainer: factory.Runner, blueprint: Blueprint, directory: str | Path | None, claimed: bool) -> History:
    """Run a trainer to the end, tell who asks to be told, and store the run if there is a directory."""

    def so_far() -> History:
        trainer.history.events = trainer.events | trainer.history.events
        return trainer.history

    def run(*on_record: OnRecord) -> History:
        if directory is None:
            return _trained(trainer, blueprint, on_record)
        return _stored(trainer, blueprint, on_record, directory, claimed)

    trainer.history.config = _told(blueprint.config, blueprint.given)
    told = blueprint.observers
    if not told:
        return run()
    name = "run" if directory is None else last_parts(directory)
    with telling(told, ObservedRun.of(blueprint.config, name, directory), so_far) as tell:
        return run(tell)


def _trained(trainer: factory.Runner, blueprint: Blueprint, on_record: Sequence[OnRecord]) -> History:
    """Run a trainer to the end, and find the events of its run."""

    def pass_on(record: Record) -> None:
        for listener in on_record:
            listener(record)

    with keeping(lambda: [run_so_far(trainer)]):
        history = trainer.run(*([pass_on] if len(on_record) > 1 else on_record))
        if blueprint.config.events:
            sources = blueprint.dataset, blueprint.labels
            history.events |= find_events_of(blueprint.config, history.columns, history.ends, *sources)
    return history


def _stored(
    trainer: factory.Runner, blueprint: Blueprint, on_record: Sequence[OnRecord], directory: str | Path, claimed: bool
) -> History:
    """Run a trainer to the end, and store the run however it ends."""
    started = time.perf_counter()

    def summary(status: Status) -> dict[str, Any]:
        seconds = time.perf_counter() - started
        events = trainer.events | trainer.history.events
        # Records may be ahead of a stretch that was interrupted.
        steps = max(trainer.step, trainer.history.final.get("step", 0))
        return run_summary(status, trainer.engine, steps, trainer.max_steps, seconds, events)

    with RunWriter(directory, claimed) as writer:
        try:
            history = _trained(trainer, blueprint, [writer.append, *on_record])
        except BaseException as error:
            trainer.history.directory = str(directory)
            with contextlib.suppress(StorageError):  # what ended the run matters more
                writer.finish(summary("interrupted" if isinstance(error, KeyboardInterrupt) else "failed"))
            raise
        writer.finish(summary(end_of(history)))
    history.directory = str(directory)
    return history


def _told(config: ExperimentConfig, dataset: Dataset | None) -> dict[str, Any]:
    """Return what a history says of the config that it is of: nothing of data where others were given."""
    told = dataclasses.asdict(config)
    return told if dataset is None else {key: value for key, value in told.items() if key != "data"}


def _name(config: Config, number: int) -> str:
    """Say in a line what a config sets.

    >>> _name({"training": {"lr": 0.1}, "max_steps": 5}, 0), _name(["training.lr=0.1"], 1)
    ('training.lr=0.1,max_steps=5', 'training.lr=0.1')
    """
    if isinstance(config, ExperimentConfig):
        return f"run {number}"
    return ",".join(_flat(config) if isinstance(config, Mapping) else config)


def _resolved(
    config: Any,
    config_name: str,
    comparative: bool | None = None,
    dataset: Dataset | None = None,
    resolver: Resolver | None = None,
) -> ExperimentConfig:
    """Return a config, given in any form, resolved."""
    _check_form(config, dataset)
    schema = schema_of(config, comparative, config_name)
    if isinstance(config, ExperimentConfig):
        return config
    if isinstance(config, Mapping):
        return (resolver or Resolver()).resolve(_described(dataset, schema, plain(config)), schema)
    overrides = [*_flat(_described(dataset, schema, {})), *config]
    return (
        load_config(overrides, schema, config_name)
        if resolver is None
        else resolver.resolve_list(overrides, schema, config_name)
    )


def _check_form(config: Any, dataset: Any) -> None:
    """Raise ConfigError where a config is none, in no form, or a dataset is none."""
    if isinstance(config, str):
        raise ConfigError(f"overrides are a list of strings: [{config!r}]")
    is_list = isinstance(config, Sequence) and all(isinstance(override, str) for override in config)
    if not (is_list or isinstance(config, Mapping | ExperimentConfig)):
        raise ConfigError(f"a config is a mapping, or a list of overrides such as ['training.lr=0.01'], not {config!r}")
    if dataset is not None and not hasattr(dataset, "dims"):
        raise ConfigError(f"dataset must be a dln.Dataset, as dln.Dataset.from_arrays makes it, not {type(dataset)!r}")


def schema_of(config: Any, comparative: bool | None, config_name: str) -> Schema:
    """Return the schema of a config, given in any form: see `run_experiment`."""
    if isinstance(config, ExperimentConfig):
        return ComparativeConfig if isinstance(config, ComparativeConfig) else SingleConfig
    if comparative is None:
        common = {item.name for item in dataclasses.fields(SingleConfig)}
        pairs = {item.name for item in dataclasses.fields(ComparativeConfig)} - common
        heads = list(config) if isinstance(config, Mapping) else [o.lstrip("+~").partition("=")[0] for o in config]
        sections = {head.partition(".")[0] for head in heads}
        if "reference" not in sections:
            pairs.add("comparative_metrics")
        comparative = bool(sections & pairs) or is_only_comparative(config_name)
    return ComparativeConfig if comparative else SingleConfig


def _described(dataset: Dataset | None, schema: Schema, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `config` on top of what a dataset of one's own says: its dimensions and number of samples."""
    if dataset is None:
        return config
    model = dict(zip(("in_dim", "out_dim"), dataset.dims, strict=True))
    data = {"online": True} if dataset.train_inputs is None else {"train_samples": len(dataset.train_inputs)}
    model_section = {"shared": {"model": model}} if schema is ComparativeConfig else {"model": model}
    return laid_over({"data": data, **model_section}, config)


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a nested config as overrides."""
    overrides = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            overrides += _flat(value, f"{prefix}{key}.")
        else:
            overrides.append(f"{prefix}{key}={value}")
    return overrides
