"""Many runs from one plan: trained together where they can be, stored as they finish, and never computed twice."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from dln import factory, store
from dln.config import ComparativeConfig, ExperimentConfig, SingleConfig
from dln.contents import FILE_KEYS, check_same, check_unchanged, located
from dln.errors import ConfigError, DamagedError, DlnError, LaunchError
from dln.experiment import MEMBERS, run_resolved
from dln.history import History
from dln.plan import Plan
from dln.provenance import provenance
from dln.registry import import_extensions
from dln.results import SWEEP, SweepStore, Tally
from dln.spread import Spread, spread
from dln.tables import IDENTITY, make_table, stored

log = logging.getLogger("dln")

OnRun = Callable[[ExperimentConfig, History, float, Path], Any]
"""Called with a run's config, its history, the seconds it took and its directory."""

OWN_DIRECTORY_UP_TO = 64
"""Runs of a sweep that also get a directory each, as a single run has."""

ONE_BY_ONE = 8
"""Runs of the autograd engine that are stored together; more where there are more processes."""


@dataclass
class Report:
    """What a sweep did."""

    runs: int
    found: int = 0
    """Runs that were finished before."""
    finished: int = 0
    diverged: int = 0
    failed: list[tuple[list[str], str]] = field(default_factory=list)
    """Overrides of runs that raised, and what they raised."""
    trajectories: int = 0
    """How many trajectories were computed: fewer than lanes where some were bound to go the same way."""
    damaged: list[str] = field(default_factory=list)
    """Files that could not be read; they were set aside."""
    lanes: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Runs that this sweep has brought to an end, good or bad."""
        return self.finished + self.diverged + len(self.failed)


@dataclass
class Outcome:
    """Runs that were trained together."""

    cells: np.ndarray
    curves: dict[str, np.ndarray]
    present: np.ndarray
    """Which records [R, T] are a run's own."""
    events: list[dict[str, Any]]
    histories: Callable[[int], History]
    trajectories: int
    engine: str
    seconds: float


def run_sweep(
    plan: Plan,
    directory: str | Path,
    *,
    own_directories: bool | None = None,
    on_run: OnRun | None = None,
    on_progress: Callable[[Report], Any] | None = None,
    rerun: Sequence[int] = (),
    launch: Callable[[list[np.ndarray], bool], Any] | None = None,
    members: int = MEMBERS,
    processes: int = 1,
) -> Report:
    """Run every cell of a plan that `directory` has no results of.

    Args:
        plan: The runs.
        directory: Where results go, and may be already.
        own_directories: Give each run a directory too; None: where the sweep is small.
        on_run: Called with config, history, seconds and directory of every run that has a directory.
        on_progress: Called whenever there is more to report.
        rerun: Cells to compute anew even if there are results.
        launch: Has stretches of cells computed elsewhere, by `compute`, and returns when that has ended, well or not;
            told whether runs have directories. None: they are computed here.
        members: Runs trained together at most.
        processes: How many may train runs of the autograd engine; they know only what modules register.

    Raises:
        ConfigError: The directory holds runs whose fixed values differ.
        StorageError: Another process is at work there, or the disk fails.
    """
    results = SweepStore(directory)
    with results.locked():
        started = time.perf_counter()
        report = Report(len(plan))
        identities = plan.identities
        done = results.finished()
        _describe(plan, results)
        if rerun:
            results.drop(identities[list(rerun)])
            done = np.setdiff1d(done, identities[list(rerun)])
        results.forget_failures()
        named = len(plan) <= OWN_DIRECTORY_UP_TO if own_directories is None else own_directories
        named = named or plan.config(0).saves_weights
        report.damaged = results.damaged
        report.found = len(np.intersect1d(identities, done))
        if launch is None:
            if report.found < len(np.unique(identities)):
                results.sign(provenance())
            with spread(processes) as on_cores:
                stretches = _missing(plan, identities, done, members, max(ONE_BY_ONE, processes))
                for _ in compute(plan, stretches, results, report, named, on_run, on_cores):
                    report.seconds = time.perf_counter() - started
                    if on_progress is not None:
                        on_progress(report)
        else:
            with _following(results, report, started, on_progress):
                _have_computed(plan, identities, done, results, lambda some: launch(some, named), members)
        results.compact(identities)
        report.seconds = time.perf_counter() - started
    return report


def compute(
    plan: Plan,
    stretches: Iterable[np.ndarray],
    results: SweepStore,
    report: Report,
    named: bool = False,
    on_run: OnRun | None = None,
    on_cores: Spread | None = None,
) -> Iterator[Outcome]:
    """Train stretches of cells, store what comes of them, and then yield it."""
    for cells in stretches:
        for outcome in _attempt(plan, cells, results, report, on_cores or Spread(1)):
            check_unchanged(plan.contents)  # what was learned from other content is no run of this plan
            _store(plan, outcome, results, report)
            if named:
                _store_each(plan, outcome, results, on_run)
            yield outcome


def _missing(
    plan: Plan, identities: np.ndarray, done: np.ndarray, members: int, one_by_one: int = ONE_BY_ONE
) -> Iterator[np.ndarray]:
    """Yield the cells without results, those together that are trained together; of equal runs only the first."""
    wanted = np.zeros(len(plan), bool)
    wanted[np.unique(identities, return_index=True)[1]] = True
    wanted &= ~np.isin(identities, done)
    for cells in plan.together():
        yield from _stretches(plan, cells[wanted[cells]], members, one_by_one)


ATTEMPTS = 10
"""How often jobs are launched anew while each time at least one run more is finished."""


def _have_computed(
    plan: Plan,
    identities: np.ndarray,
    done: np.ndarray,
    results: SweepStore,
    launch: Callable[[list[np.ndarray]], Any],
    members: int,
) -> None:
    """Launch what is missing until nothing is. What is on disk is the truth: a job that died is launched again."""
    for _ in range(ATTEMPTS):
        stretches = list(_missing(plan, identities, done, members))
        if not stretches:
            break
        error: Exception | None = None
        try:
            launch(stretches)
        except Exception as raised:  # whatever a launcher raises when one of its workers dies
            error = raised
            log.warning("a job ended badly (%s); what is missing is launched again", str(raised).partition("\n")[0])
        before, done = done, np.union1d(results.finished(), np.array(list(results.failures()), IDENTITY))
        if len(done) == len(before):
            raise LaunchError(f"the launcher's jobs finished no run: {error!r}") from error


LOOK = 1.0
"""Seconds between looks at what a launcher's jobs have put on disk."""


@contextlib.contextmanager
def _following(
    results: SweepStore, report: Report, started: float, on_progress: Callable[[Report], Any] | None
) -> Iterator[None]:
    """Report what comes to lie on disk while the block has runs computed elsewhere."""
    tally, over = Tally(results), threading.Event()

    def look() -> None:
        tally.update()
        report.diverged, report.finished = tally.diverged, tally.runs - tally.diverged
        report.trajectories, report.lanes = tally.trajectories, tally.lanes
        report.failed = [(told["overrides"], told["error"]) for told in results.failures().values()]
        report.seconds = time.perf_counter() - started
        if on_progress is not None:
            on_progress(report)

    def follow() -> None:
        while not over.wait(LOOK):
            look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


def _stretches(plan: Plan, cells: np.ndarray, members: int, one_by_one: int) -> Iterator[np.ndarray]:
    """Cut cells that share tensor shapes into ensembles."""
    if len(cells) == 0:
        return
    config = plan.config(int(cells[0]))
    import_extensions(config.extensions)
    at_once = members if factory.autograd_reason(config) is None else one_by_one
    for start in range(0, len(cells), at_once):
        yield cells[start : start + at_once]


def _attempt(plan: Plan, cells: np.ndarray, results: SweepStore, report: Report, on_cores: Spread) -> Iterator[Outcome]:
    """Train cells together; where that raises, halve after halve, until it is known which run it is."""
    try:
        yield _train(plan, cells, results, on_cores)
    except DlnError as error:
        if len(cells) == 1:
            overrides = plan.overrides(int(cells[0]))
            report.failed.append((overrides, str(error)))
            results.fail(plan.identity(int(cells[0])), overrides, str(error))
            return
        for half in np.array_split(cells, 2):
            yield from _attempt(plan, half, results, report, on_cores)


def _train(plan: Plan, cells: np.ndarray, results: SweepStore, on_cores: Spread) -> Outcome:
    configs = [plan.config(int(cell)) for cell in cells]
    checkpoints = None
    if configs[0].saves_weights:
        places = [_beside(results.directory, plan.identity(int(cell))) for cell in cells]
        for place in places:
            shutil.rmtree(place, ignore_errors=True)  # of a sweep that was killed
        checkpoints = [place / store.CHECKPOINTS for place in places]
    started = time.perf_counter()
    if factory.autograd_reason(configs[0]) is None:
        ensemble = factory.build_ensemble(configs, checkpoints=checkpoints).run()
        curves, present = ensemble.curves(), ensemble.present(slice(None))
        events = [ensemble.events(run) for run in range(len(configs))]
        trajectories, history, engine = ensemble.trajectories, ensemble.history, "compiled"
    else:
        runs = on_cores.run(configs, checkpoints or [None] * len(configs))
        (curves, present), events = _stacked(runs), [run.events for run in runs]
        trajectories, history, engine = len(runs) * len(factory.suffixes(configs[0])), runs.__getitem__, "autograd"
    if configs[0].events:
        found = _find_events(configs, curves, present, events)
        events = [own | more for own, more in zip(events, found, strict=True)]
    return Outcome(cells, curves, present, events, history, trajectories, engine, time.perf_counter() - started)


def _find_events(
    configs: Sequence[ExperimentConfig],
    curves: Mapping[str, np.ndarray],
    present: np.ndarray,
    ends: Sequence[Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Return what the configs' events come to, run by run, each of its own records."""
    found, datasets = [], {}
    for run, config in enumerate(configs):
        key = repr(config.data)
        datasets[key] = datasets.get(key) or factory.dataset_of(config)
        own = {name: (c if name == "step" else c[run])[present[run]] for name, c in curves.items()}
        found.append(factory.find_events_of(config, own, ends[run], datasets[key]))
    return found


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


def _store(plan: Plan, outcome: Outcome, results: SweepStore, report: Report) -> None:
    config, count = plan.config(int(outcome.cells[0])), len(outcome.cells)
    rows = [plan.values(int(cell)) for cell in outcome.cells]
    columns = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    names = dict.fromkeys([*sorted(_event_names(config)), *(name for events in outcome.events for name in events)])
    events = {name: [e.get(name) for e in outcome.events] for name in names}
    kind = np.dtype(config.dtype)
    steps = np.broadcast_to(outcome.curves["step"].astype(np.int32), (count, len(outcome.curves["step"])))
    with np.errstate(over="ignore"):
        curves = {name: c.astype(kind) for name, c in outcome.curves.items() if name != "step"}
    table = make_table(
        [plan.identity(int(cell)) for cell in outcome.cells],
        columns,
        events,
        {"step": steps, **curves},
        outcome.present,
        outcome.trajectories,
        count * len(factory.suffixes(config)),
    )
    results.write(table)
    diverged = sum(any(name.startswith("diverged_at") for name in e) for e in outcome.events)
    report.diverged += diverged
    report.finished += count - diverged
    report.trajectories += outcome.trajectories
    report.lanes += count * len(factory.suffixes(config))


def _event_names(config: ExperimentConfig) -> set[str]:
    return {f"diverged_at{suffix}" for suffix in factory.suffixes(config)}


def _store_each(plan: Plan, outcome: Outcome, results: SweepStore, on_run: OnRun | None) -> None:
    """Give every run a directory of its own, written beside and renamed into place."""
    for run, cell in enumerate(outcome.cells.tolist()):
        config, history, identity = plan.config(cell), outcome.histories(run), plan.identity(cell)
        beside, seconds = _beside(results.directory, identity), outcome.seconds / len(outcome.cells)
        (beside / store.HISTORY).unlink(missing_ok=True)  # of a sweep that was killed
        with store.RunWriter(beside) as writer:
            for record in history:
                writer.append(record)
            status = "finished" if history.diverged_at is None else "diverged"
            history.events |= outcome.events[run]
            steps = max(history.ends.values(), default=config.max_steps)
            told = store.run_summary(status, outcome.engine, steps, config.max_steps, seconds, history.events)
            writer.finish({**told, "run": identity})
        (beside / ".hydra").mkdir(exist_ok=True)
        OmegaConf.save(OmegaConf.create(dataclasses.asdict(config)), beside / ".hydra" / "config.yaml")
        OmegaConf.save(OmegaConf.create(plan.overrides(cell)), beside / ".hydra" / "overrides.yaml")
        place = _place(results.directory, cell, identity)
        beside.rename(place)
        if on_run is not None:
            on_run(config, history, seconds, place)


def _beside(directory: Path, identity: str) -> Path:
    """Return where a run's directory is written."""
    return directory / f".{identity}.tmp"


def _place(directory: Path, cell: int, identity: str) -> Path:
    """Return a free path for a run's directory: its number, where no other run has that; earlier results give way."""
    place = directory / str(cell)
    if place.exists():
        told = json.loads((place / store.SUMMARY).read_text(encoding="utf-8"))
        if told.get("run") != identity:
            place = directory / f"{cell}-{identity[:8]}"
        shutil.rmtree(place, ignore_errors=True)
    return place


def _describe(plan: Plan, results: SweepStore) -> None:
    """Refuse a directory whose runs have other fixed values; then say what is fixed in all runs."""
    if not len(plan):
        return
    varying = plan.varying()
    fixed = {key: value for key, value in plan.values(0).items() if key not in varying}
    fixed = json.loads(json.dumps(fixed, default=dataclasses.asdict))
    before = _described(results, fixed)
    if before is not None:
        if before["kind"] != type(plan.config(0)).__name__:
            raise ConfigError(f"{results.directory} holds a sweep of another kind, {before['kind']}")
        check_same(plan.contents, before.get("files"), results.directory)
        free = {key for key in FILE_KEYS if f"{key}.digest" in fixed}  # a path may change, what lies there may not
        changed = {k: (v, fixed[k]) for k, v in before["fixed"].items() if k in fixed.keys() - free and fixed[k] != v}
        if changed:
            lines = [f"  {key}: {json.dumps(old)} -> {json.dumps(new)}" for key, (old, new) in changed.items()]
            raise ConfigError(
                f"the sweep in {results.directory} was made with other fixed values; sweep over the key, or choose "
                "another directory:\n" + "\n".join(lines)
            )
        fixed = {key: value for key, value in fixed.items() if key in before["fixed"]}
    kind, files = type(plan.config(0)).__name__, {**(before or {}).get("files", {}), **located(plan.contents)}
    results.describe({**(before or {}), "kind": kind, "fixed": fixed, "files": files})


def _described(results: SweepStore, fixed: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what sweep.json says; where it is lost, what the runs that are there say of what is fixed now."""
    told = None
    try:
        told = results.description()
    except DamagedError:
        results.set_aside(results.directory / SWEEP)
    rows = results.constants() if told is None else {}
    if rows:
        pairs = any(key.startswith("model_a.") for key in rows)
        same = {key: value if stored(value) == rows[key] else rows[key] for key, value in fixed.items() if key in rows}
        told = {"kind": (ComparativeConfig if pairs else SingleConfig).__name__, "fixed": same, "files": {}}
    return told


TRIED, TRIED_STEPS = 32, 200
"""Runs and steps that are tried to estimate what all take."""


@dataclass(frozen=True)
class Estimate:
    """About what some runs take."""

    engine: str
    seconds: float
    bytes: float


def estimate(plan: Plan, cells: np.ndarray) -> Estimate:
    """Train a few of some runs that can be trained together for a few steps, and scale up."""
    configs = [plan.config(int(cell)) for cell in cells[:TRIED]]
    full, max_steps = configs[0], min(configs[0].max_steps, TRIED_STEPS)
    import_extensions(full.extensions)
    compiled = factory.autograd_reason(full) is None
    records = len(factory.recorded_steps(full))
    every = max(1, max_steps // (records - 1))  # as many records as in the whole run, at most
    change = {"max_steps": max_steps, "evaluate_every": every, "evaluate_at": None}
    short = [dataclasses.replace(config, **change) for config in configs]
    if compiled:
        factory.build_ensemble([dataclasses.replace(short[0], max_steps=1)]).run()  # kernels are loaded
    started = time.perf_counter()
    if compiled:
        curves = factory.build_ensemble(short).run().curves()
        numbers = sum(curve[0].size for curve in curves.values()) / len(curves["step"])
    else:
        short = short[:1]
        history = run_resolved(short[0])
        numbers = sum(column.size for column in history.columns.values()) / len(history)
    steps = (time.perf_counter() - started) / len(short) / max_steps
    stored = 0.65 * numbers * records * np.dtype(full.dtype).itemsize
    return Estimate("compiled" if compiled else "autograd", steps * full.max_steps * len(cells), stored * len(cells))
