"""Estimates of the time and memory that runs take: a few are trained and stored, for some steps and some records.

A run costs something to begin with, then so much a step and so much a record. Each of the three is found from trials
that are made larger until they take long enough to be measured, and never much longer. With T(steps, records),

    begin  = T(1, 2)
    step   = (T(S, 2) - T(1, 2)) / (S - 1)
    record = (T(S, K) - T(S, 2)) / (K - 2)
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dln.base.parallel import thread_count
from dln.blueprint import recorded_steps
from dln.composing.alike import structure
from dln.config import ExperimentConfig
from dln.engines import MEMBERS, go_together, train_together
from dln.footprint import ensemble_bytes, members_that_fit
from dln.results.directories import RunDirectories
from dln.results.sweep import PARTS, SweepStore
from dln.results.tables import sizes
from dln.sweeps.driver import OWN_DIRECTORY_UP_TO
from dln.sweeps.plan import Plan
from dln.sweeps.processes import WORTH
from dln.sweeps.storing import Outcome, store_outcome

ENOUGH = 0.25
"""Seconds of a trial that can be measured."""
FIRST = 16
"""Runs of the first trial: fewer do not fill the vectors of the compiled engine, and their cost would tell of noise."""
FASTER = 6
"""How many times larger the next trial is at most."""
QUIET = {"checkpoint_every": None, "checkpoint_at": None, "resume": None, "objective": None, "tracker": None}
"""What a trial does without: it goes on from nothing, saves no weights, and tells nobody."""


@dataclass(frozen=True)
class Estimate:
    """What some runs take, about."""

    engine: str
    seconds: float
    bytes: float
    memory: float
    """Bytes that the runs need that are trained at the same time."""


@dataclass(frozen=True)
class Trial:
    """What some runs took."""

    engine: str
    seconds: float
    values: int
    """Bytes on disk for what they came to."""
    frame: int
    """Bytes for what a table says of itself, however many they are."""


@dataclass(frozen=True)
class Rates:
    """What a run takes to begin with, then for each step, and each record: the same for runs of any length."""

    engine: str
    seconds: tuple[float, float, float]
    values: tuple[float, float, float]
    """Bytes on disk."""
    frame: int
    """Bytes for what a table says of itself, however many runs it has."""
    kept: float
    """Bytes of a record, where a condition keeps sums."""

    def of(self, plan: Plan, cells: np.ndarray) -> Estimate:
        """Return what some runs take that can be trained together."""
        config, count = plan.config(int(cells[0])), len(cells)
        together = [plan.config(int(cell)) for cell in cells[: MEMBERS if go_together(config) else 1]]
        steps, records = config.max_steps, len(recorded_steps(config))
        length = np.array([1, steps - 1, max(0, records - 2)])
        seconds = float(count * (length @ self.seconds))
        if (
            not go_together(config) and seconds > WORTH and thread_count() > 1
        ):  # on all cores, once processes have begun
            seconds = 2 * WORTH + (seconds - WORTH) / min(thread_count(), count)
        stored = self.frame + float(count * (length @ self.values))
        if plan.keeping is not None:  # identities, and about as much for each condition
            stored = self.frame + 12 * count + len(np.unique(plan.conditions[cells])) * self.kept * records
        memory = ensemble_bytes(together[: members_that_fit(together)])
        return Estimate(self.engine, seconds, stored, memory)


def kind(config: ExperimentConfig) -> str:
    """Return what runs must agree in to have the same `Rates`: all that trains them together but their length."""
    return structure(dataclasses.replace(config, max_steps=0, evaluate_every=None, evaluate_at=None))


def estimate(plan: Plan, cells: np.ndarray, enough: float = ENOUGH) -> Estimate:
    """Say what some runs take that can be trained together, after trials: see `measured`.

    Runs that diverge or stop later than the trials go take less than is said here.
    """
    return measured(plan, cells, enough).of(plan, cells)


def measured(plan: Plan, cells: np.ndarray, enough: float = ENOUGH) -> Rates:
    """Train and store a few of some runs that can be trained together, in a directory that is removed.

    Args:
        plan: The plan that they are of.
        cells: Their cells.
        enough: Seconds of a trial that can be measured; there may be some ten such.
    """
    full = plan.config(int(cells[0]))
    together = [plan.config(int(cell)) for cell in cells[: MEMBERS if go_together(full) else 1]]
    most = members_that_fit(together)
    max_steps, records = full.max_steps, len(recorded_steps(full))

    tried(plan, cells[:1], 1, 2)  # kernels are loaded
    runs, begin = _until_long(lambda runs: tried(plan, cells[:runs], 1, 2), min(most, FIRST), most, enough)
    enough = max(enough, begin.seconds)  # what is found by a difference is no smaller than what it is the difference of
    long = begin.seconds + enough
    steps, went = _until_long(lambda steps: tried(plan, cells[:runs], steps, 2), min(2, max_steps), max_steps, long)
    many, long = min(records, steps + 1), went.seconds + enough
    shown, told = _until_long(lambda records: tried(plan, cells[:runs], steps, records), min(3, many), many, long)

    def parts(began: float, gone: float, recorded: float) -> tuple[float, float, float]:
        """Return what a run takes of something that the three trials took so much of."""
        step, record = (gone - began) / max(1, steps - 1), (recorded - gone) / max(1, shown - 2)
        return began / runs, max(0.0, step) / runs, max(0.0, record) / runs

    return Rates(
        told.engine,
        parts(begin.seconds, went.seconds, told.seconds),
        parts(begin.values, went.values, told.values),
        told.frame,
        told.values / max(shown, 1),
    )


def tried(plan: Plan, cells: np.ndarray, steps: int, records: int) -> Trial:
    """Train runs for some steps, with records evenly among them, and store them for a moment."""
    at = np.unique(np.linspace(0, steps, records).round().astype(int)).tolist()
    change = {"max_steps": steps, "evaluate_at": at, **QUIET}
    whole = [plan.config(int(cell)) for cell in cells]
    change |= {"branch_at": 0} if getattr(whole[0], "branch_at", None) else {}  # most of such a run is its own
    configs = [dataclasses.replace(config, **change) for config in whole]
    with tempfile.TemporaryDirectory() as folder:
        results = SweepStore(folder)
        (results.directory / PARTS).mkdir()
        if plan.keeping is not None:
            results.pieces.begin()
        own = len(plan) <= OWN_DIRECTORY_UP_TO and plan.keeping is None
        directories = RunDirectories(results.directory) if own else None
        started = time.perf_counter()
        outcome = Outcome(cells, dataclasses.replace(train_together(configs), observers=[[]] * len(cells)))
        store_outcome(plan, outcome, results, directories)
        results.compact(plan.identities[cells])
        results.pieces.compact()
        seconds = time.perf_counter() - started
        if plan.keeping is not None:
            (piece,) = results.pieces.files()
            table, frame = sizes(piece)
            kept = len(np.unique(plan.conditions[cells]))
            return Trial(outcome.results.engine, seconds, (table - 12 * len(cells)) // kept, frame)
        table, frame = sizes(*results.files())
        whole = sum(path.stat().st_size for path in results.directory.rglob("*") if path.is_file())
        own = whole - table - frame  # of the runs' directories
        return Trial(outcome.results.engine, seconds, table + own, frame)


def _until_long(trial: Callable[[int], Trial], size: int, most: int, enough: float) -> tuple[int, Trial]:
    """Return the size of the first trial that takes `enough` seconds, or of the largest, and the trial."""
    while True:
        took = trial(size)
        if size < most and took.seconds >= enough:  # or it was only held up, which would count many times
            took = min(took, trial(size), key=lambda trial: trial.seconds)
        if size >= most or took.seconds >= enough:
            return size, took
        size = min(most, 1 + int(size * min(FASTER, max(2.0, 1.2 * enough / took.seconds))))
