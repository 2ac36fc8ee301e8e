"""Runs the sweep that `-m` asks for: chooses its directory, shows its progress, and prints a summary."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dln.base.files import in_short
from dln.base.machine import as_bytes
from dln.base.parallel import thread_count
from dln.cli.asked import asked_for, unnamed
from dln.cli.launching import launched, members_of
from dln.cli.naming import asks_for_names
from dln.cli.typed import command, dated
from dln.config import ExperimentConfig
from dln.errors import ConfigError
from dln.sweeps.driver import run_sweep
from dln.sweeps.estimate import ENOUGH, kind, measured
from dln.sweeps.jobs import PATIENCE
from dln.sweeps.plan import Plan
from dln.sweeps.report import Report, sweep_bar
from dln.terminal import FAILURE, duration, status_of, tell


def sweep_from_hydra(
    config: DictConfig,
    loader: Any,
    arguments: Sequence[str],
    launch: Callable[[list[list[str]]], Any] | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    zip: Sequence[Any] = (),
    grids: Sequence[Sequence[str]] = (),
    dry_run: bool = False,
    rerun: Sequence[str] = (),
    members: int | None = None,
    patience: float = PATIENCE,
) -> None:
    """Run the sweep of a composed config and print how it ended; leaves the process with an error if a run failed.

    Args:
        config: The config that Hydra composed for the sweep.
        loader: Its config loader.
        arguments: Overrides from the command line.
        launch: Runs jobs, given by their overrides, on another launcher than Hydra's basic one; None: all runs here.
        params: Overrides that the YAML lists.
        zip: Lists of keys that move together.
        grids: Overrides of several grids, one after the other.
        dry_run: Only say what would run.
        rerun: Compute matching runs anew.
        members: Runs trained together, and of a launcher's job, at most.
        patience: Seconds without a sign of life after which a submitit job counts as dead.

    Raises:
        ConfigError: A setting of the sweeper is out of bounds, or the grid cannot be run.
    """
    if not patience >= 1:
        raise ConfigError(f"hydra.sweeper.patience must be at least 1 second, got {patience}")
    asked = asked_for(config, loader, arguments, params=params, zip=zip, grids=grids, rerun=rerun, members=members)
    plan, names = asked.plan, asked.names
    if names is None and asks_for_names(config):
        print(unnamed())
    if dry_run:
        print(preview(plan))
        return
    directory = sweep_directory(config)
    shown, say = in_short(directory), functools.partial(print, flush=True)
    try:
        with sweep_bar(len(plan)) as on_progress:
            report = run_sweep(
                plan,
                directory,
                names=names,
                command=dated(),
                on_run=tell,
                on_progress=on_progress,
                rerun=asked.again,
                launch=None if launch is None else launched(launch, config, asked, directory, say, patience),
                members=members or members_of(config.hydra.launcher, launch, len(plan)),
                processes=thread_count(),
            )
    except KeyboardInterrupt as stop:
        print(f"interrupted; what was finished is in {shown}; {resume_line(shown)}", file=sys.stderr)
        sys.exit(status_of(stop))
    print(closing(report, shown), flush=True)
    if report.failed:
        for overrides, error in report.failed[:5]:
            print(f"failed: {' '.join(overrides)}\n  {error}", file=sys.stderr)
        rest = f" (all in {shown}/failed.jsonl)" if len(report.failed) > 5 else ""
        print(f"error: {len(report.failed)} of {report.runs} runs failed{rest}; {resume_line(shown)}", file=sys.stderr)
        sys.exit(FAILURE)


def sweep_directory(config: DictConfig) -> Path:
    """Return the sweep's directory: a new one, or the one that was named, whose sweep is then continued."""
    from dln.results.run import claim_directory, refuse_occupied
    from dln.results.sweep import SWEEP

    wanted = Path(str(config.hydra.sweep.dir))
    if "${now:" in str(config.hydra.sweep._get_node("dir")._value()):
        return claim_directory(wanted)
    if not os.path.exists(wanted / SWEEP):
        refuse_occupied(wanted)
    return wanted


def preview(plan: Plan) -> str:
    """Say how many runs a plan has, which are trained together, and about what they take, by training a few."""
    rows, seconds, size, memory = [], 0.0, 0.0, 0.0
    groups = [(cells, plan.config(int(cells[0]))) for cells in plan.together()]
    longest = {kind(config): cells for cells, config in sorted(groups, key=lambda group: group[1].max_steps)}
    enough = min(ENOUGH, 4 * ENOUGH / len(longest))  # many kinds take no minutes
    rates = {one: measured(plan, cells, enough) for one, cells in longest.items()}
    for cells, config in groups:
        guess = rates[kind(config)].of(plan, cells)
        seconds, size, memory = seconds + guess.seconds, size + guess.bytes, max(memory, guess.memory)
        told = ", ".join(f"{key}={value}" for key, value in shape_of(config).items())
        rows.append(f"  {len(cells)} runs on the {guess.engine} engine, about {duration(guess.seconds)}: {told}")
    shown = rows if len(rows) <= 20 else [*rows[:20], f"  ... and {len(rows) - 20} more"]
    total = f"together about {duration(seconds)}, {as_bytes(size)} on disk and, at a time, {as_bytes(memory)} of memory"
    kinds = "one kind, trained together" if len(rows) == 1 else f"{len(rows)} kinds, each trained together"
    return "\n".join([f"{len(plan)} runs of {kinds}:", *shown, f"{total}; nothing was run or written"])


def shape_of(config: ExperimentConfig) -> dict[str, Any]:
    """Return the settings by which `preview` names runs that are trained together."""
    _, model, training, *_ = next(iter(config.lanes.values()))
    sizes = {"num_hidden": model.num_hidden, "hidden_dim": model.hidden_dim, "batch_size": training.batch_size}
    return {**sizes, "max_steps": config.max_steps}


def closing(report: Report, shown: str) -> str:
    """Say what a sweep did and where its results are.

    >>> print(closing(Report(4, found=1, finished=2, diverged=1, lanes=3, trajectories=2, seconds=2.0), "multirun/x"))
    4 runs in 2.0 s: 2 finished, 1 diverged, 1 finished earlier
    2 trajectories were computed for 3: runs that are bound to go the same way share one
    results in multirun/x: dln.load_sweep("multirun/x"), or dln show multirun/x
    """
    counts = {
        "finished": report.finished,
        "diverged": report.diverged,
        "failed": len(report.failed),
        "finished earlier": report.found,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing to do"
    lines = [f"{report.runs} run{'s' if report.runs != 1 else ''} in {duration(report.seconds)}: {told}"]
    if report.trajectories < report.lanes:
        shared = f"{report.trajectories} trajectories were computed for {report.lanes}"
        lines.append(f"{shared}: runs that are bound to go the same way share one")
    if report.incomplete:
        lines.append(
            f"of {report.incomplete} finished runs the directory or the weights were gone or damaged: computed again"
        )
    if report.damaged:
        lines.append(f"could not be read, set aside in {shown}/damaged and computed again: {', '.join(report.damaged)}")
    lines.append(f'results in {shown}: dln.load_sweep("{shown}"), or dln show {shown}')
    return "\n".join(lines)


def resume_line(shown: str) -> str:
    """Return the line that tells how to compute the rest."""
    named = any("hydra.sweep.dir=" in argument for argument in sys.argv)
    return f"go on with: {command(*([] if named else [f'hydra.sweep.dir={shown}']))}"
