"""Writes an ensemble's outcome to disk: runs' directories first, and last the rows that say that runs are finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dln.composing.compose import save_yaml
from dln.config import ExperimentConfig
from dln.engines import Results
from dln.history import History
from dln.observers import ObservedRun, replay
from dln.results.directories import RunDirectories
from dln.results.references import referring
from dln.results.run import RunWriter, run_summary
from dln.results.sweep import SweepStore
from dln.results.tables import make_table
from dln.sweeps.apart import NONE, as_stored, taken_apart
from dln.sweeps.plan import Plan
from dln.sweeps.summing import summed_up

OnRun = Callable[[ExperimentConfig, History, float, Path], Any]
"""Called with a run's config, its history, the seconds it took and its directory."""


@dataclass
class Outcome:
    """Runs of a plan that were trained together."""

    cells: np.ndarray
    """Their cells."""
    results: Results

    def of(self, some: np.ndarray) -> Outcome:
        """Return that of some of the runs, by their places."""
        return Outcome(self.cells[some], self.results.of(some))


def store_outcome(
    plan: Plan, outcome: Outcome, results: SweepStore, directories: RunDirectories | None, on_run: OnRun | None = None
) -> None:
    """Store runs that were trained together, and tell who asks to be told of them.

    A run whose row is on disk counts as finished, so the rows are written when everything else is in its place.

    Args:
        plan: The plan that they are of.
        outcome: Their results.
        results: Where their rows go.
        directories: Where each gets a directory of its own; None: none does.
        on_run: Called with config, history, seconds and directory of every run that got one, once all is stored.

    Raises:
        StorageError: The disk fails; none of these runs counts as finished then.
    """
    told = []
    places: dict[int, Path] = {}
    with results.writing():
        for run, cell in enumerate(outcome.cells.tolist() if directories is not None else ()):
            history = outcome.results.history(run)
            seconds = outcome.results.seconds / len(outcome.cells)
            assert directories is not None
            _write_run(plan, cell, history, outcome.results.engine, seconds, directories.beside(plan.identity(cell)))
            places[run] = directories.put(cell, plan.identity(cell))
            if on_run is not None:
                told.append((plan.config(cell), history, seconds, places[run]))
    rows = outcome
    if plan.keeping is not None:
        rows = outcome.of(np.flatnonzero(plan.keeps_curves[outcome.cells]))
    if len(rows.cells):
        apart = taken_apart(plan, rows.cells, rows.results, results.references.stored())
        if apart.table is not None:
            results.refer(apart.table)
        results.write(_table(plan, rows, apart.of))
    if plan.keeping is not None:
        results.pieces.write(summed_up(plan, outcome.cells, outcome.results))
    for one in told:
        on_run(*one)  # type: ignore[misc]
    for run, cell in enumerate(outcome.cells.tolist()):
        if outcome.results.observers[run]:
            about = ObservedRun.of(plan.config(cell), plan.name(cell), places.get(run), results.directory)
            replay(outcome.results.observers[run], about, outcome.results.history(run))


def _write_run(plan: Plan, cell: int, history: History, engine: str, seconds: float, directory: Path) -> None:
    """Write a run's records, summary and config as `python run.py` does."""
    config = plan.config(cell)
    with RunWriter(directory) as writer:
        for record in history:
            writer.append(record)
        status = "finished" if history.diverged_at is None else "diverged"
        steps = _last_step(config, history)
        told = run_summary(status, engine, steps, config.max_steps, seconds, history.events)
        writer.finish({**told, "run": plan.identity(cell)})
    (directory / ".hydra").mkdir()
    save_yaml(dataclasses.asdict(config), directory / ".hydra" / "config.yaml")
    save_yaml(plan.overrides(cell), directory / ".hydra" / "overrides.yaml")


def _last_step(config: ExperimentConfig, history: History) -> int:
    """Return the step at which the last lane of a run ended."""
    lanes = [[step for name, step in history.ends.items() if name.endswith(suffix)] for suffix in config.lanes]
    return max(min(steps, default=config.max_steps) for steps in lanes)


def _table(plan: Plan, outcome: Outcome, references: np.ndarray) -> pa.Table:
    """Return the rows of runs that were trained together, whose references have these identities if stored apart."""
    config, count, results = plan.config(int(outcome.cells[0])), len(outcome.cells), outcome.results
    rows = [plan.values(int(cell)) for cell in outcome.cells]
    columns = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    ends = [f"diverged_at{suffix}" for suffix in config.lanes]
    names = dict.fromkeys([*ends, *(name for events in results.events for name in events)])
    events = {name: [e.get(name) for e in results.events] for name in names}
    steps = np.broadcast_to(results.curves["step"].astype(np.int32), (count, len(results.curves["step"])))
    curves = as_stored({name: c for name, c in results.curves.items() if name != "step"}, config.dtype)
    elsewhere: np.ndarray = references != NONE
    table = make_table(
        [plan.identity(int(cell)) for cell in outcome.cells],
        columns,
        events,
        {"step": steps, **curves},
        results.present,
        results.trajectories,
        results.lanes,
        dict.fromkeys(results.lane_a.values(), elsewhere) if elsewhere.any() else None,
    )
    return referring(table, references) if elsewhere.any() else table
