"""Sweeps on a launcher of Hydra's: how many jobs it runs at once, and how runs are handed to it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from dln.base.parallel import thread_count
from dln.cli.asked import Asked
from dln.composing.grid import JOB
from dln.composing.hydra_internals import context_of
from dln.engines import MEMBERS
from dln.results.sweep import SweepStore
from dln.sweeps.jobs import PATIENCE, made_with, run_job, spare_accounting, watched, write_jobs

Launch = Callable[[list[list[str]]], Any]
"""Runs jobs, given by their overrides, and returns when they have ended."""


def launcher_of(config: DictConfig, loader: Any) -> Launch | None:
    """Return what runs jobs on the launcher that a composed config names; None: it is Hydra's basic one.

    For Python, where no command has started Hydra: jobs are run by `run_launched`.
    """
    if config.hydra.launcher._target_.rpartition(".")[2] == "BasicLauncher":
        return None
    task = functools.partial(run_launched, loader)
    launcher = Plugins.instance().instantiate_launcher(context_of(loader), task, config)

    def launch(jobs: list[list[str]]) -> None:
        for job in launcher.launch(jobs, initial_job_idx=0):
            _ = job.return_value  # raises what the job has raised

    return launch


def run_launched(loader: Any, config: DictConfig) -> None:
    """Compute a job's runs in a launcher's worker."""
    del config  # Hydra's own section names the job
    hydra = HydraConfig.get()
    run_job(Path(hydra.sweep.dir), hydra.job.env_set[JOB], loader)


def launched(
    launch: Launch,
    config: DictConfig,
    asked: Asked,
    directory: Path,
    say: Callable[[str], Any],
    patience: float = PATIENCE,
) -> Callable[[list[np.ndarray], bool], None]:
    """Return what trains ensembles, each a job, on a launcher; the sweep's driver calls it.

    Args:
        launch: The launcher.
        config: The config that Hydra composed for the sweep.
        asked: What the sweep is to do.
        directory: The sweep's.
        say: Tells a person how many jobs there are.
        patience: Seconds without a sign of life after which a submitit job counts as dead.
    """
    kind, threads = config.hydra.launcher._target_, workers_of(config.hydra.launcher)[1]

    def train(ensembles: list[np.ndarray], named: bool) -> None:
        say(f"launching {sum(map(len, ensembles))} runs in {len(ensembles)} jobs")
        jobs = write_jobs(directory, asked.recipe, ensembles, named, threads, patience, asked.names)
        try:
            if "submitit" in kind:
                if "Slurm" in kind:
                    spare_accounting()
                watched(launch, jobs, patience)
            else:
                launch(jobs)
        finally:
            SweepStore(directory).sign(*made_with(directory))

    return train


def members_of(launcher: DictConfig, launch: Launch | None, runs: int) -> int:
    """Return how many runs are trained together at most: so few that a launcher's workers all have some."""
    return MEMBERS if launch is None else min(MEMBERS, max(1, -(-runs // (4 * workers_of(launcher)[0]))))


def workers_of(launcher: DictConfig) -> tuple[int, int | None]:
    """Return about how many jobs a launcher runs at once, and the threads each may use; None: the cores it finds.

    Threads are what a job is given: a joblib worker its share of the machine, a Ray task its `num_cpus`, a
    submitit job its `cpus_per_task`; on Slurm a job sees no other cores anyway.
    """
    cores, kind = thread_count(), launcher._target_
    if "joblib" in kind:
        asked = int(launcher.get("n_jobs") or 1)
        workers = asked if asked > 0 else max(1, cores + 1 + asked)
        return workers, max(1, cores // workers)
    if "ray" in kind:
        given = int(OmegaConf.select(launcher, "ray.remote.num_cpus") or 1)
        return max(1, cores // given), given
    given = launcher.get("cpus_per_task")
    return cores, int(given) if given else 1 if "Local" in kind else None
