"""The one entrance to the engines: configs of runs that share tensor shapes go in, what came of the runs comes out.

run_experiments, sweeps, estimates -> train_together -> compiled: all in one ensemble
-> autograd: each by a trainer of its own
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dln import factory
from dln.base.blame import for_each
from dln.base.machine import is_shortage
from dln.blueprint import Blueprint
from dln.composing.alike import structure, trajectory
from dln.config import ExperimentConfig
from dln.data import Dataset
from dln.factory import Described
from dln.footprint import cut_to_fit
from dln.history import History
from dln.interrupts import cut_short, keeping, numbered
from dln.measure.columns import lane_columns
from dln.measure.events import find_events

MEMBERS = 512
"""Runs trained together at most: enough to keep every core busy, few enough for memory."""

Alone = Callable[[Sequence[Described], Sequence[Path | None]], list[History]]
"""Trains runs one by one, each with its directory of checkpoints; on several cores, perhaps."""


@dataclass
class Results:
    """What came of R runs that were trained together."""

    engine: str
    curves: dict[str, np.ndarray]
    """All columns [R, T, ...], NaN where a run has no record; `step` is [T]."""
    present: np.ndarray
    """Which records [R, T] are a run's own."""
    events: list[dict[str, Any]]
    """Run by run: where lanes ended early, and the values of the config's events."""
    trajectories: int
    lanes: int
    """How many trajectories there would be if none were shared."""
    seconds: float
    records: Callable[[int], History]
    """A run's records, without the values of its events."""
    observers: list[list[Any]]
    """Run by run, who asks to be told of it."""
    lane_a: dict[str, str]
    """Columns of lane a of comparisons, by what they are called in a run of its own; none where runs are of one."""
    alike: np.ndarray
    """A number [R] for each run that is the same for those whose lane a is one trajectory."""

    def __len__(self) -> int:
        return len(self.events)

    def of(self, some: np.ndarray) -> Results:
        """Return what came of some of the runs, given by their numbers."""
        curves = {name: curve if name == "step" else curve[some] for name, curve in self.curves.items()}
        events, observers = ([each[run] for run in some] for each in (self.events, self.observers))
        parts = {"curves": curves, "events": events, "observers": observers}
        parts |= {"present": self.present[some], "alike": self.alike[some]}
        return dataclasses.replace(self, **parts, records=lambda run: self.records(int(some[run])))

    def history(self, run: int) -> History:
        """Return a run as `run_experiment` does."""
        history = self.records(run)
        history.events |= self.events[run]
        return history

    @property
    def diverged(self) -> int:
        """How many of the runs diverged."""
        return sum(any(name.startswith("diverged_at") for name in events) for events in self.events)


def go_together(config: Described) -> bool:
    """Whether the engine that trains a config's run trains many at once."""
    return factory.ENGINES[factory.engine_of(config)].together is not None


def train_alone(config: Described, checkpoints: Path | None = None) -> History:
    """Train one run, on the engine that takes it."""
    blueprint = Blueprint.of(config)
    trainer = factory.build(blueprint, None, checkpoints)
    with keeping(lambda: [run_so_far(trainer)]):
        history = trainer.run()
    blueprint.forget_samples()
    return history


def run_so_far(trainer: factory.Runner) -> History:
    """Return the records of a run that was interrupted."""
    trainer.history.events |= trainer.events
    return cut_short(trainer.history, trainer.step)


def one_by_one(configs: Sequence[Described], checkpoints: Sequence[Path | None]) -> list[History]:
    """Train runs here, one after the other.

    Raises:
        DlnError: What the first run raises that fails, once all are over; its `runs` tell of which.
    """
    return [*for_each(range(len(configs)), lambda run: train_alone(configs[run], checkpoints[run])).values()]


def train_together(
    configs: Sequence[Described], checkpoints: Sequence[Path] | None = None, alone: Alone = one_by_one
) -> Results:
    """Train runs that agree in `structure`, on the engine that takes them.

    Args:
        configs: Resolved configs, or blueprints, whose data are given up at the end.
        checkpoints: Where to save each run's weights, if the configs say that they are saved.
        alone: How runs are trained that are trained one by one.

    Raises:
        DlnError: What somebody's code raises; `runs` tell of which runs, where that is known.
        MemoryError: There is too little for so many.
    """
    started = time.perf_counter()
    blueprints = [Blueprint.of(config) for config in configs]
    lanes = len(configs) * len(blueprints[0].config.lanes)
    try:
        engine = factory.engine_of(blueprints[0])
        together = factory.ENGINES[engine].together
        if together is not None:
            ensemble = together(blueprints, checkpoints)
            with keeping(ensemble.so_far):
                ensemble.run()
                curves, present = ensemble.curves(), ensemble.present(slice(None))
            events = [ensemble.events(run) for run in range(len(configs))]
            trajectories, records = ensemble.trajectories, ensemble.history
            alike = next(iter(ensemble.members.values()))
        else:
            histories = alone(blueprints, checkpoints or [None] * len(configs))
            (curves, present), events = _stacked(histories), [history.events for history in histories]
            trajectories, records = lanes, histories.__getitem__
            alike = _alike(blueprints)
        if blueprints[0].config.events:
            found = _find_events(blueprints, curves, present, events)
            events = [own | more for own, more in zip(events, found, strict=True)]
        observers = [blueprint.observers for blueprint in blueprints]
        pairs = len(blueprints[0].config.lanes) > 1
        lane_a = lane_columns(curves, blueprints[0].labels["_a"], "_a") if pairs else {}
    finally:
        for blueprint in blueprints:
            blueprint.forget()
    seconds = time.perf_counter() - started
    return Results(engine, curves, present, events, trajectories, lanes, seconds, records, observers, lane_a, alike)


def _alike(blueprints: Sequence[Blueprint]) -> np.ndarray:
    """Return a number for each run that is the same for those whose first lanes go the same way."""
    numbers: dict[str, int] = {}
    ways = [trajectory(blueprint.config, next(iter(blueprint.config.lanes))) for blueprint in blueprints]
    return np.array([numbers.setdefault(way, len(numbers)) for way in ways])


def train_all(
    configs: Sequence[ExperimentConfig], dataset: Dataset | None = None
) -> Iterator[tuple[list[int], Results]]:
    """Train any runs, those together that can be and that fit; yield which they are, and what came of them.

    Args:
        configs: Resolved configs.
        dataset: Data for all, instead of what each config describes.

    Raises:
        KeyboardInterrupt: With the histories so far of the runs that were being trained, by their numbers.
    """
    blueprints = [Blueprint(config, dataset) for config in configs]
    together: dict[str, list[int]] = {}
    for i, blueprint in enumerate(blueprints):
        alone = "" if go_together(blueprint) else f" {i}"  # one history at a time is held
        together.setdefault(structure(blueprint.config) + alone, []).append(i)
    for alike in together.values():
        for indices in cut_to_fit(np.array(alike), configs.__getitem__, MEMBERS):
            yield from _halved_where_short(blueprints, indices.tolist())


def _halved_where_short(blueprints: Sequence[Blueprint], indices: list[int]) -> Iterator[tuple[list[int], Results]]:
    """Train some of the runs together or, where memory is too short for that, half by half."""
    try:
        with numbered(indices):
            results = train_together([blueprints[i] for i in indices])
    except (MemoryError, RuntimeError) as error:
        if len(indices) == 1 or not is_shortage(error):
            raise
    else:
        yield indices, results
        return
    # Only here: the error holds on to all that its trace can see, which is the memory that the halves need.
    for half in np.array_split(indices, 2):
        yield from _halved_where_short(blueprints, half.tolist())


def find_events_of(
    config: ExperimentConfig,
    columns: Mapping[str, np.ndarray],
    ends: Mapping[str, int],
    dataset: Dataset,
    labels: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the values of the events of a config in the records of its run.

    Args:
        config: A resolved config.
        columns: All columns of the records, [T, ...] each.
        ends: The steps at which lanes diverged or were stopped, as in `History.ends`: their training ended there.
        dataset: What the run learned from.
        labels: Of each lane's metrics, by the lane's suffix.
    """
    if not config.events or "step" not in columns:
        return {}
    step = columns["step"]
    found: dict[str, Any] = {}
    for suffix in config.lanes:
        last = min(ends.get(f"diverged_at{suffix}", math.inf) - 1, ends.get(f"stopped_at{suffix}", math.inf))
        names = {"step": "step", **lane_columns(columns, labels[suffix], suffix)}
        own = {name: columns[column][step <= last] for name, column in names.items()}
        found |= find_events(config.events, own, dataset, suffix)
    return found


def _find_events(
    blueprints: Sequence[Blueprint],
    curves: Mapping[str, np.ndarray],
    present: np.ndarray,
    ends: Sequence[Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Return the values of the configs' events, run by run, each found in its own records."""
    factory.share_data(blueprints)
    labels = blueprints[0].labels

    def find(run: int) -> dict[str, Any]:
        own = {name: (c if name == "step" else c[run])[present[run]] for name, c in curves.items()}
        return find_events_of(blueprints[run].config, own, ends[run], blueprints[run].dataset, labels)

    return [*for_each(range(len(blueprints)), find).values()]


def _stacked(histories: Sequence[History]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the columns of several histories as arrays [R, T, ...], and which records are whose own [R, T]."""
    steps = np.array(sorted({step for history in histories for step in history["step"].tolist()}))
    curves: dict[str, np.ndarray] = {"step": steps}
    for history in histories:
        for name in history.names:
            if name != "step" and name not in curves:
                curves[name] = np.full((len(histories), len(steps), *history[name].shape[1:]), np.nan)
    present = np.zeros((len(histories), len(steps)), bool)
    for r, history in enumerate(histories):
        at = np.searchsorted(steps, history["step"])
        present[r, at] = True
        for name in history.names:
            if name != "step":
                curves[name][r, at] = history[name]
    return curves, present
