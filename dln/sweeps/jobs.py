"""Ensembles as jobs of a Hydra launcher: the files written for a worker, and what the worker does with them.

A job's overrides name a file in the folder `.jobs` of the sweep's directory and a number in it, `FILE#NUMBER`. The file
holds the overrides that describe the grid, from which the worker makes the plan anew, and every job's cells as ranges.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dln.base.output import speak_patiently
from dln.base.parallel import thread_count
from dln.base.provenance import provenance
from dln.base.sealed import read_document, write_document
from dln.composing.compose import Composed
from dln.composing.contents import check_same
from dln.composing.grid import JOB, parse_grid, quoted, value_of
from dln.composing.loader import composed
from dln.errors import LaunchError
from dln.results.directories import RunDirectories
from dln.results.sweep import SweepStore
from dln.sweeps.driver import compute, cut
from dln.sweeps.lifeline import ending_with, this_process
from dln.sweeps.plan import Plan
from dln.sweeps.report import Report
from dln.sweeps.shapes import shaped
from dln.terminal import tell

log = logging.getLogger("dln")

JOBS = ".jobs"
"""Folder of the sweep's directory: job files, and what launchers leave behind."""

PATIENCE = 60.0
"""Seconds without a sign of life after which a worker counts as dead, unless `hydra.sweeper.patience` is set."""

BEATS = 6
"""Signs of life that a worker gives within the patience."""


@dataclass(frozen=True)
class Recipe:
    """What a plan is made from."""

    overrides: list[str]
    """Those that all runs share, sweeps included."""
    grids: list[list[str]]
    """Overrides of several grids, one after the other; one without any of its own if there are none."""
    zips: list[list[str]]
    config_name: str | None
    settings: list[str]
    """Overrides of Hydra's own config."""

    def plan(self, loader: Any) -> Plan:
        """Make the plan, with Hydra's config loader."""

        def compose(overrides: Sequence[str]) -> Composed:
            return composed(loader, self.config_name, [*self.settings, *overrides])

        grids = [parse_grid([*self.overrides, *grid], self.zips, loader) for grid in self.grids or [[]]]
        return Plan([shaped(grid, loader.schema, compose) for grid in grids])


def write_jobs(
    directory: Path,
    recipe: Recipe,
    ensembles: Sequence[np.ndarray],
    named: bool,
    threads: int | None,
    patience: float = PATIENCE,
    names: Sequence[str] | None = None,
) -> list[list[str]]:
    """Write the file of some jobs, one for each ensemble, and return each job's overrides.

    Args:
        directory: The sweep's.
        recipe: Of the plan.
        ensembles: The cells of each.
        named: Whether runs have directories of their own.
        threads: What a job's kernels may use; None: as many as a worker finds.
        patience: Seconds without a sign of life after which a worker will be given up.
        names: Paths of the directories of all cells in the sweep's; None: they are called by their numbers.
    """
    folder = directory / JOBS
    folder.mkdir(exist_ok=True)
    SweepStore(directory).expect_workers()
    path = folder / f"{time.time_ns():x}.json"
    about = {
        "cwd": os.getcwd(),
        "named": named,
        "names": names,
        "threads": threads,
        "patience": patience,
        "driver": this_process(),
    }
    jobs = [as_ranges(cells) for cells in ensembles]
    write_document(path, {**about, "recipe": dataclasses.asdict(recipe), "jobs": jobs})
    common = [
        f"hydra.sweep.dir={quoted(str(directory.resolve()))}",
        f"hydra.sweep.subdir={JOBS}",
        "hydra.output_subdir=null",
    ]
    return [[*common, f"++hydra.job.env_set.{JOB}={quoted(f'{path.name}#{number}')}"] for number in range(len(jobs))]


def watched(launch: Callable[[list[list[str]]], Any], jobs: list[list[str]], patience: float = PATIENCE) -> None:
    """Launch jobs and return when all are done, by the signs of life that workers leave on disk.

    The launcher does not always know: without Slurm's accounting it waits for ever for a job that was killed.

    Raises:
        LaunchError: Every job is done or has died, and at least one has died; or what the launcher raises.
    """
    errors: list[BaseException] = []

    def work() -> None:
        try:
            launch(jobs)
        except BaseException as error:
            errors.append(error)

    signs = [_signs(Path(value_of(sweep_dir)), value_of(job)) for sweep_dir, *_, job in jobs]
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1.0)
        states = [_state(alive, done, patience) for alive, done in signs]
        if all(state == "done" for state in states):
            return
        if all(state in ("done", "dead") for state in states):
            raise LaunchError(f"{states.count('dead')} of {len(states)} jobs died")
    if errors:
        raise errors[0]


def spare_accounting() -> None:
    """Where Slurm has no accounting, say so once, and keep submitit from asking for it at every poll.

    It would print two messages or more each time; `watched` needs no accounting.
    """
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class Unasked(SlurmInfoWatcher):
        def update(self) -> None:
            pass

    if type(SlurmJob.watcher) is not SlurmInfoWatcher:
        return  # said before
    try:
        subprocess.run(["sacct", "--noheader", "--jobs=1"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().partition("\n")[0]
        log.warning("no accounts from Slurm (%s): a job counts as dead that gives no sign of life on disk", told)
        SlurmJob.watcher = Unasked()


def _signs(directory: Path, job: str) -> tuple[Path, Path]:
    """Return the files that a worker touches while it is alive, and when it is done."""
    file, _, number = job.rpartition("#")
    return directory / JOBS / f"{file}.{number}.alive", directory / JOBS / f"{file}.{number}.done"


def _state(alive: Path, done: Path, patience: float) -> str:
    if done.exists():
        return "done"
    if not alive.exists():
        return "waiting"
    clock = alive.with_name("clock")
    clock.touch()  # the disk's own time: other hosts' may differ from ours
    return "dead" if clock.stat().st_mtime - alive.stat().st_mtime > patience else "alive"


@contextlib.contextmanager
def _beating(directory: Path, job: str, interval: float) -> Iterator[None]:
    """Give signs of life while the block runs, one every `interval` seconds."""
    alive, done = _signs(directory, job)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(interval):
            alive.touch()

    alive.write_text(json.dumps(provenance()), encoding="utf-8")
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
        done.touch()
    finally:
        over.set()
        thread.join()


def made_with(directory: Path) -> list[dict[str, Any]]:
    """Return what the workers of a sweep's jobs have computed with, in the order of the jobs."""
    told = [path.read_text(encoding="utf-8") for path in sorted((directory / JOBS).glob("*.alive"))]
    return [json.loads(text) for text in told if text.endswith("}")]  # a worker may have died while it wrote


def run_job(directory: Path, job: str, loader: Any) -> None:
    """Compute the runs of a job of the sweep in `directory`, `FILE#NUMBER`, in a launcher's worker.

    Raises:
        LaunchError: The job's file is gone.
    """
    file, _, number = job.rpartition("#")
    path = directory / JOBS / file
    told = read_document(path)
    if told is None:
        raise LaunchError(f"there is no {path}: the sweep's directory has been changed while its jobs waited")
    share = 1.0 if told["threads"] is None else min(1.0, told["threads"] / thread_count())
    if told["threads"] is not None:
        os.environ.setdefault("DLN_THREADS", str(told["threads"]))
    speak_patiently()
    with contextlib.chdir(told["cwd"]), _beating(directory, job, told["patience"] / BEATS), ending_with(told["driver"]):
        plan = Recipe(**told["recipe"]).plan(loader)
        cells = np.concatenate([np.arange(*span) for span in told["jobs"][int(number)]])
        results = SweepStore(directory)
        check_same(plan.contents, (results.description() or {}).get("files"), results.directory)
        directories = RunDirectories(results.directory, told["names"]) if told["named"] else None
        with results.working():
            ensembles = cut(plan, cells, len(cells), share=share)
            for _ in compute(plan, ensembles, results, Report(len(cells)), directories, tell):
                pass


def as_ranges(cells: np.ndarray) -> list[list[int]]:
    """Return ascending numbers as [first, one past the last, step] of runs of them.

    >>> as_ranges(np.array([3, 4, 5, 9, 11, 13]))
    [[3, 6, 1], [9, 14, 2]]
    """
    spans: list[list[int]] = []
    for cell in cells.tolist():
        if spans and len(spans[-1]) == 2:
            spans[-1] = [spans[-1][0], cell + 1, cell - spans[-1][0]]
        elif spans and cell == spans[-1][1] - 1 + spans[-1][2]:
            spans[-1][1] = cell + 1
        else:
            spans.append([cell, cell + 1])
    return [span if len(span) == 3 else [*span, 1] for span in spans]
