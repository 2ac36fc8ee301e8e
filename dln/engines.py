"""The one entrance to the engines: configs of runs that share tensor shapes go in, what came of the runs comes out.

run_experiments, sweeps, estimates -> train_together -> compiled: all in one ensemble
-> autograd: each by a trainer of its own
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dln import factory
from dln.base.blame import for_each
from dln.base.machine import is_shortage
from dln.base.registry import import_extensions
from dln.config import ExperimentConfig
from dln.data import Dataset
from dln.footprint import cut_to_fit
from dln.history import History

MEMBERS = 512
"""Runs trained together at most: enough to keep every core busy, few enough for memory."""

Alone = Callable[[Sequence[ExperimentConfig], Sequence[Path | None]], list[History]]
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

    def __len__(self) -> int:
        return len(self.events)

    def history(self, run: int) -> History:
        """Return a run as `run_experiment` does."""
        history = self.records(run)
        history.events |= self.events[run]
        return history

    @property
    def diverged(self) -> int:
        """How many of the runs diverged."""
        return sum(any(name.startswith("diverged_at") for name in events) for events in self.events)


def is_compiled(config: ExperimentConfig) -> bool:
    """Whether the compiled engine trains a config's run; its extensions are imported to know."""
    import_extensions(config.extensions)
    return factory.autograd_reason(config) is None


def train_alone(config: ExperimentConfig, checkpoints: Path | None = None) -> History:
    """Train one run, on the engine that takes it."""
    return factory.build(config, None, checkpoints).run()


def one_by_one(configs: Sequence[ExperimentConfig], checkpoints: Sequence[Path | None]) -> list[History]:
    """Train runs here, one after the other.

    Raises:
        DlnError: What the first run raises that fails, once all are over; its `runs` tell of which.
    """
    return [*for_each(range(len(configs)), lambda run: train_alone(configs[run], checkpoints[run])).values()]


def train_together(
    configs: Sequence[ExperimentConfig], checkpoints: Sequence[Path] | None = None, alone: Alone = one_by_one
) -> Results:
    """Train runs that agree in `factory.structure`, on the engine that takes them.

    Args:
        configs: Resolved configs.
        checkpoints: Where to save each run's weights, if the configs say that they are saved.
        alone: How runs of the autograd engine are trained.

    Raises:
        DlnError: What somebody's code raises; `runs` tell of which runs, where that is known.
        MemoryError: There is too little for so many.
    """
    started = time.perf_counter()
    lanes = len(configs) * len(configs[0].lanes)
    if is_compiled(configs[0]):
        ensemble = factory.build_ensemble(configs, checkpoints=checkpoints).run()
        curves, present = ensemble.curves(), ensemble.present(slice(None))
        events = [ensemble.events(run) for run in range(len(configs))]
        trajectories, records, engine = ensemble.trajectories, ensemble.history, "compiled"
    else:
        histories = alone(configs, checkpoints or [None] * len(configs))
        (curves, present), events = _stacked(histories), [history.events for history in histories]
        trajectories, records, engine = lanes, histories.__getitem__, "autograd"
    if configs[0].events:
        found = _find_events(configs, curves, present, events)
        events = [own | more for own, more in zip(events, found, strict=True)]
    seconds = time.perf_counter() - started
    return Results(engine, curves, present, events, trajectories, lanes, seconds, records)


def train_all(configs: Sequence[ExperimentConfig]) -> Iterator[tuple[list[int], Results]]:
    """Train any runs, those together that can be and that fit; yield which they are, and what came of them."""
    together: dict[str, list[int]] = {}
    for i, config in enumerate(configs):
        alone = "" if is_compiled(config) else f" {i}"  # one history at a time is held
        together.setdefault(factory.structure(config) + alone, []).append(i)
    for alike in together.values():
        for indices in cut_to_fit(np.array(alike), configs.__getitem__, MEMBERS):
            yield from _halved_where_short(configs, indices.tolist())


def _halved_where_short(configs: Sequence[ExperimentConfig], indices: list[int]) -> Iterator[tuple[list[int], Results]]:
    """Train some of the runs together or, where memory is too short for that, half by half."""
    try:
        results = train_together([configs[i] for i in indices])
    except (MemoryError, RuntimeError) as error:
        if len(indices) == 1 or not is_shortage(error):
            raise
    else:
        yield indices, results
        return
    # Only here: the error holds on to all that its trace can see, which is the memory that the halves need.
    for half in np.array_split(indices, 2):
        yield from _halved_where_short(configs, half.tolist())


def _find_events(
    configs: Sequence[ExperimentConfig],
    curves: Mapping[str, np.ndarray],
    present: np.ndarray,
    ends: Sequence[Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Return the values of the configs' events, run by run, each found in its own records."""
    datasets: dict[str, Dataset] = {}

    def find(run: int) -> dict[str, Any]:
        config = configs[run]
        key = repr(config.data)
        datasets[key] = datasets.get(key) or factory.dataset_of(config)
        own = {name: (c if name == "step" else c[run])[present[run]] for name, c in curves.items()}
        return factory.find_events_of(config, own, ends[run], datasets[key])

    return [*for_each(range(len(configs)), find).values()]


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
