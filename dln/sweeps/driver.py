"""Many runs from one plan: trained together where they can be, stored as they finish, and never computed twice."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dln.base.machine import as_bytes, is_shortage
from dln.base.provenance import provenance
from dln.composing.contents import FILE_KEYS, check_same, check_unchanged, located
from dln.config import ComparativeConfig, SingleConfig
from dln.engines import MEMBERS, go_together, train_together
from dln.errors import ConfigError, DamagedError, DlnError, LaunchError, StorageError
from dln.footprint import cut_to_fit, ensemble_bytes
from dln.results.directories import RunDirectories
from dln.results.older import default_of
from dln.results.piece_store import LOOSE
from dln.results.run import CHECKPOINTS
from dln.results.sweep import SWEEP, SweepStore
from dln.results.tables import IDENTITY, stored
from dln.sweeps.plan import Plan
from dln.sweeps.processes import Spread, spread
from dln.sweeps.report import Report, following
from dln.sweeps.storing import OnRun, Outcome, store_outcome

log = logging.getLogger("dln")

OWN_DIRECTORY_UP_TO = 64
"""Runs of a sweep that also get a directory each, as a single run has."""

ONE_BY_ONE = 8
"""Runs of the autograd engine that are stored together; more where there are more processes."""


def run_sweep(
    plan: Plan,
    directory: str | Path,
    *,
    own_directories: bool | None = None,
    names: Sequence[str] | None = None,
    command: str = "",
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
        names: Paths of the cells' directories in `directory`; None: they are called by their cells' numbers.
        command: What asks for the sweep, as it is to be noted in `directory`.
        on_run: Called with config, history, seconds and directory of every run that has a directory.
        on_progress: Called whenever there is more to report.
        rerun: Cells to compute anew even if there are results.
        launch: Has ensembles of cells computed elsewhere, by `compute`, and returns when that has ended, well or not;
            its second argument says whether runs have directories. None: they are computed here.
        members: Runs trained together at most.
        processes: How many may train runs of the autograd engine; they know only what modules register.

    Raises:
        ConfigError: The directory holds runs whose fixed values differ.
        StorageError: Another process is at work there, or the disk fails.
    """
    results = SweepStore(directory)
    with results.locked():
        started = time.perf_counter()
        report = Report(len(plan), directory=str(directory))
        identities = plan.identities
        if own_directories is None:
            own_directories = len(plan) <= OWN_DIRECTORY_UP_TO and plan.keeping is None
        _clear(results)
        owed = _describe(plan, results, own_directories)
        results.pieces.forget() if plan.keeping is None else results.pieces.begin()
        done = results.finished()
        results.note(command)
        directories = RunDirectories(results.directory, names) if own_directories or plan.saves_weights else None
        gone = _incomplete(plan, results, done, owed)
        report.incomplete = len(gone)
        gone = np.union1d(np.union1d(gone, results.orphans()), identities[list(rerun)])
        if len(gone):
            results.drop(gone)
            done = np.setdiff1d(done, gone) if plan.keeping is None else results.finished()
        results.forget_failures()
        report.damaged = [*results.damaged, *results.references.damaged]
        report.found = len(np.intersect1d(identities, done))
        if launch is None:
            if report.found < len(np.unique(identities)):
                results.sign(provenance())
            with spread(processes) as on_cores:
                ensembles = _missing(plan, identities, done, members, max(ONE_BY_ONE, processes))
                for _ in compute(plan, ensembles, results, report, directories, on_run, on_cores):
                    report.seconds = time.perf_counter() - started
                    results.pieces.compact(at_most=LOOSE)
                    if on_progress is not None:
                        on_progress(report)
        else:
            with following(results, report, started, on_progress):
                named = directories is not None
                _have_computed(plan, identities, done, results, lambda some: launch(some, named), members)
        results.settle_references()
        results.compact(identities)
        results.pieces.compact(plan.condition_identities)
        _confirm(plan, results, owed)
        report.seconds = time.perf_counter() - started
    return report


def _clear(results: SweepStore) -> None:
    """Remove what killed processes left half written, unless workers of an earlier driver are still at work."""
    with results.alone() as alone:
        if alone:
            results.clear()
            results.references.clear()
            RunDirectories(results.directory).clear()


def _incomplete(plan: Plan, results: SweepStore, done: np.ndarray, owed: bool) -> np.ndarray:
    """Return the identities of those runs of a plan that are done, but whose directories are not whole.

    Args:
        plan: The runs.
        results: Where they are stored.
        done: Identities of runs that are done.
        owed: Whether every run must have a directory; one that saves weights must have one anyway.
    """
    directories = RunDirectories(results.directory)
    incomplete = [np.array([], IDENTITY)]
    if plan.keeping is not None and plan.keeps_curves.any():
        incomplete.append(np.setdiff1d(np.intersect1d(plan.identities[plan.keeps_curves], done), results.in_rows()))
    for cells in plan.together():
        weights = plan.config(int(cells[0])).saves_weights
        if owed or weights:
            there = np.intersect1d(plan.identities[cells], done)
            incomplete.append(there[[not directories.whole(run.decode(), weights) for run in there]])
    return np.unique(np.concatenate(incomplete))


def _confirm(plan: Plan, results: SweepStore, owed: bool) -> None:
    """Raise StorageError unless everything that a finished sweep must store of its runs is on the disk."""
    done = results.finished()
    failed = np.array(list(results.failures()), IDENTITY)
    lost = np.setdiff1d(plan.identities, np.union1d(done, failed))
    lost = np.union1d(np.union1d(lost, results.orphans()), _incomplete(plan, results, done, owed))
    if len(lost):
        raise StorageError(
            f"{len(lost)} of {len(plan)} runs were finished, but something has removed or changed what was stored of "
            f"them in {results.directory}; the same command computes them again"
        )


def compute(
    plan: Plan,
    ensembles: Iterable[np.ndarray],
    results: SweepStore,
    report: Report,
    directories: RunDirectories | None = None,
    on_run: OnRun | None = None,
    on_cores: Spread | None = None,
) -> Iterator[Outcome]:
    """Train ensembles of cells, store each one's outcome, and then yield it."""
    for cells in ensembles:
        try:
            for outcome in _attempt(plan, cells, results, report, on_cores or Spread(1), directories):
                check_unchanged(plan.contents)  # runs on files that have changed are not those of the plan
                store_outcome(plan, outcome, results, directories, on_run)
                report.add(outcome)
                yield outcome
        finally:
            if directories is not None:
                directories.discard(plan.identity(int(cell)) for cell in cells)


def _missing(
    plan: Plan,
    identities: np.ndarray,
    done: np.ndarray,
    members: int,
    one_by_one: int = ONE_BY_ONE,
    share: float = 1.0,
) -> Iterator[np.ndarray]:
    """Yield the cells without results, those together that are trained together; of equal runs only the first."""
    wanted = np.zeros(len(plan), bool)
    wanted[np.unique(identities, return_index=True)[1]] = True
    wanted &= ~np.isin(identities, done)
    for cells in plan.together():
        some = cells[wanted[cells]]
        if plan.keeping is not None:  # runs that are averaged over together make one piece
            some = some[np.argsort(plan.conditions[some], kind="stable")]
        yield from map(np.sort, cut(plan, some, members, one_by_one, share))


ATTEMPTS = 10
"""How often jobs are launched again, as long as each time at least one more run is finished."""


def _have_computed(
    plan: Plan,
    identities: np.ndarray,
    done: np.ndarray,
    results: SweepStore,
    launch: Callable[[list[np.ndarray]], Any],
    members: int,
) -> None:
    """Launch what has no results on disk until nothing is missing; so a job that died is launched again."""
    for _ in range(ATTEMPTS):
        # Workers may have more memory than the driver; each cuts its job anew.
        ensembles = list(_missing(plan, identities, done, members, share=math.inf))
        if not ensembles:
            break
        error: Exception | None = None
        try:
            launch(ensembles)
        except Exception as raised:  # whatever a launcher raises when one of its workers dies
            error = raised
            log.warning("a job ended badly (%s); what is missing is launched again", str(raised).partition("\n")[0])
        before, done = done, np.union1d(results.finished(), np.array(list(results.failures()), IDENTITY))
        if len(done) == len(before):
            raise LaunchError(f"the launcher's jobs finished no run: {error!r}") from error


def cut(
    plan: Plan, cells: np.ndarray, members: int, one_by_one: int = ONE_BY_ONE, share: float = 1.0
) -> Iterator[np.ndarray]:
    """Cut cells that share tensor shapes into ensembles.

    Args:
        plan: The plan that the cells are of.
        cells: Cells.
        members: Runs of an ensemble at most; fewer where memory is short.
        one_by_one: Runs of the autograd engine that are stored together.
        share: Share of the free memory that they may use.
    """
    if len(cells) == 0:
        return
    if not go_together(plan.config(int(cells[0]))):
        for start in range(0, len(cells), one_by_one):
            yield cells[start : start + one_by_one]
        return
    yield from cut_to_fit(cells, plan.config, members, share)


ROUNDS = 3
"""How often runs are trained together anew, but for those that failed, before they are parted too."""


def _attempt(
    plan: Plan,
    cells: np.ndarray,
    results: SweepStore,
    report: Report,
    on_cores: Spread,
    directories: RunDirectories | None,
    rounds: int = ROUNDS,
) -> Iterator[Outcome]:
    """Train cells together; after an error, without those that failed; where it is not known which, half by half."""
    faults: dict[int, str] = {}
    try:
        yield _train(plan, cells, on_cores, directories)
        return
    except StorageError:  # the disk's fault, not the run's
        raise
    except DlnError as error:
        faults = error.runs or ({0: str(error)} if len(cells) == 1 else {})
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        need = as_bytes(ensemble_bytes([plan.config(int(cell)) for cell in cells]))
        if len(cells) == 1:
            faults = {0: f"there is not enough memory; about {need} are needed"}
    # Only now: an error holds on to all that its trace can see, which is the memory that the rest needs.
    for run, fault in faults.items():
        cell = int(cells[run])
        report.failed.append((plan.overrides(cell), fault))
        results.fail(plan.identity(cell), plan.overrides(cell), fault)
    rest = np.delete(cells, [*faults])
    together = bool(faults) and rounds > 0
    for some in [rest] if together else np.array_split(rest, 2):
        if len(some):
            yield from _attempt(plan, some, results, report, on_cores, directories, rounds - together)


def _train(plan: Plan, cells: np.ndarray, on_cores: Spread, directories: RunDirectories | None) -> Outcome:
    configs = [plan.config(int(cell)) for cell in cells]
    checkpoints = None
    if configs[0].saves_weights and directories is not None:
        runs = [plan.identity(int(cell)) for cell in cells]
        directories.discard(runs)  # of an attempt that failed
        checkpoints = [directories.beside(run) / CHECKPOINTS for run in runs]
    return Outcome(cells, train_together(configs, checkpoints, on_cores.run))


def _describe(plan: Plan, results: SweepStore, own_directories: bool) -> bool:
    """Refuse a directory whose runs have other fixed values; then say what is fixed in all runs.

    Returns:
        Whether every run must have a directory of its own: so it was for every sweep that was run here.
    """
    varying = plan.varying()
    fixed = {key: value for key, value in plan.values(0).items() if key not in varying}
    fixed = json.loads(json.dumps(fixed, default=dataclasses.asdict))
    before = _described(results, fixed)
    if before is not None:
        if before["kind"] != type(plan.config(0)).__name__:
            raise ConfigError(f"{results.directory} holds a sweep of another kind, {before['kind']}")
        check_same(plan.contents, before.get("files"), results.directory)
        _check_keeping(plan, results, before.get("aggregate"))
        free = {key for key in FILE_KEYS if f"{key}.digest" in fixed}  # a path may change, what lies there may not
        changed = {k: (v, fixed[k]) for k, v in before["fixed"].items() if k in fixed.keys() - free and fixed[k] != v}
        if changed:
            lines = [f"  {key}: {json.dumps(old)} -> {json.dumps(new)}" for key, (old, new) in changed.items()]
            raise ConfigError(
                f"the sweep in {results.directory} was made with other fixed values; sweep over the key, or choose "
                "another directory:\n" + "\n".join(lines)
            )
        newer = {key for key, value in fixed.items() if key not in before["fixed"] and value == default_of(key)}
        newer -= results.keys if newer else set()
        fixed = {key: value for key, value in fixed.items() if key in before["fixed"] or key in newer}
        own_directories = own_directories and before.get("directories", False)
    kind, files = type(plan.config(0)).__name__, {**(before or {}).get("files", {}), **located(plan.contents)}
    told = {"kind": kind, "fixed": fixed, "files": files, "directories": own_directories}
    others = {key: value for key, value in (before or {}).items() if key != "aggregate"}
    kept = {} if plan.keeping is None else {"aggregate": plan.keeping.told()}
    results.describe({**others, **told, **kept})
    return own_directories


def _check_keeping(plan: Plan, results: SweepStore, before: Mapping[str, Any] | None) -> None:
    """Raise ConfigError where a directory's runs are not kept as those of a plan are to be, if there are any."""
    now = None if plan.keeping is None else json.loads(json.dumps(plan.keeping.told()))
    if now == before or not (results.files() or results.pieces.files()):
        return
    if now is None or before is None:
        held, asked = ("aggregates", "curves") if now is None else ("curves", "aggregates")
        raise ConfigError(
            f"the sweep in {results.directory} keeps {held}, not {asked}; choose another directory, or "
            + ("give aggregate.over as before" if now is None else "leave aggregate out")
        )
    lines = [
        f"  aggregate.{k}: {json.dumps(before.get(k))} -> {json.dumps(now[k])}" for k in now if before.get(k) != now[k]
    ]
    raise ConfigError(
        f"the sweep in {results.directory} keeps other aggregates; choose another directory:\n" + "\n".join(lines)
    )


def _described(results: SweepStore, fixed: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what sweep.json says; where it is lost, what can be found of it in the runs that are stored."""
    told = None
    try:
        told = results.description()
    except DamagedError:
        results.set_aside(results.directory / SWEEP)
    rows = results.constants() if told is None else {}
    keeping = results.pieces.keeping() if told is None else None
    if rows:
        pairs = any(key.startswith("model_a.") for key in rows)
        same = {key: value if stored(value) == rows[key] else rows[key] for key, value in fixed.items() if key in rows}
        told = {"kind": (ComparativeConfig if pairs else SingleConfig).__name__, "fixed": same, "files": {}}
        told["directories"] = RunDirectories(results.directory).exist
        told |= {} if keeping is None else {"aggregate": keeping.told()}
    return told
