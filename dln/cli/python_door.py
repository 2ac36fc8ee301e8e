"""The door to stored sweeps from Python: what `-m` does with the same words, and a report instead of a summary."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dln.base.files import from_home
from dln.cli.asked import Asked, asked_for, unnamed
from dln.cli.door import expand_home
from dln.cli.launching import launched, launcher_of, members_of
from dln.cli.multirun import preview, sweep_directory
from dln.cli.naming import asks_for_names
from dln.cli.typed import dated
from dln.composing.compose import task_overrides
from dln.composing.grid import quoted, spelled_out
from dln.composing.hydra_errors import translated
from dln.composing.hydra_internals import create_config_search_path
from dln.composing.loader import loader_class
from dln.composing.spelling import swept_overrides
from dln.config import CONFIGS, ComparativeConfig, Schema, folder
from dln.errors import ConfigError
from dln.experiment import schema_of
from dln.sweeps.driver import run_sweep as run_plan
from dln.sweeps.plan import Plan
from dln.sweeps.report import Report, sweep_bar

log = logging.getLogger("dln")

OURS = {
    "hydra/sweeper": "dln",
    "hydra/hydra_logging": "none",
    "hydra/job_logging": "none",
    "hydra.job.chdir": "false",
}
"""What holds from Python unless it is given: nobody's logging is changed, and workers stay where they are."""

Overrides = Sequence[str] | Mapping[str, Any]
"""Overrides as on the command line, or keys and their values."""


def run_sweep(
    overrides: Overrides = (),
    *,
    directory: str | Path | None = None,
    config_name: str = "default",
    comparative: bool | None = None,
    zip: Sequence[str] | Sequence[Sequence[str]] = (),
    grids: Sequence[Overrides] = (),
    rerun: Overrides = (),
    launcher: str | None = None,
    dry_run: bool = False,
    members: int | None = None,
    processes: int = 1,
    progress: bool = False,
) -> Report:
    """Run a sweep and store it, as `python run.py -m` does: only what `directory` has no results of is computed.

    An interrupt ends it; what was finished is stored, and the same call goes on.

    Args:
        overrides: As behind `-m` (`["training.lr=0.1,0.2", "training.batch_seed=0..9"]`), settings of the sweep and
            of Hydra's own included; or keys and their values, dotted or nested, where a list, an array or a range
            holds the values of an axis: `{"training.lr": [0.1, 0.2], "training.batch_seed": range(10)}`. Of a key
            whose value is a list itself, such as `metrics`, a list of lists does.
        directory: Where results go, and may be already; None: a new one, `multirun/DATE/TIME`.
        config_name: The YAML file that overrides apply to; what it says of a sweep holds.
        comparative: Whether runs are comparisons of two models; None tells by the keys, or by the name of the config.
        zip: Keys that move together, or several lists of them.
        grids: Several grids, one after the other, each as overrides are; what stands in those holds for all.
        rerun: Compute runs anew that have these values.
        launcher: A launcher of Hydra's that runs it, as `hydra/launcher=NAME` does: "joblib", "submitit_slurm"; its
            settings are overrides, `hydra.launcher.KEY`. None: this process, unless overrides or the YAML name one.
        dry_run: Only print what would run, and about what it takes.
        members: Runs trained together at most; None: what suits.
        processes: How many may train runs of the autograd engine. Others than this one, or a launcher's, know only what
            `extensions` register, and begin by importing the script, whose own work must stand below
            `if __name__ == "__main__"`.
        progress: Show how many runs are done.

    Returns:
        What was run, found and failed, and where; `frame()` of it are the results, as of `load_sweep`.

    Raises:
        ConfigError: A run of it cannot be run, or the directory holds runs whose fixed values differ.
        StorageError: The directory holds something else, another process is at work there, or the disk fails.

    >>> import tempfile
    >>> short = {"training.lr": [0.001, 0.002], "max_steps": 20, "evaluate_every": 10}
    >>> report = run_sweep(short, directory=tempfile.mkdtemp())
    >>> report.finished, report.frame()["training.lr"].to_list()
    (2, [0.001, 0.002])
    """
    asked = asked_sweep(
        overrides,
        directory=directory,
        config_name=config_name,
        comparative=comparative,
        zip=zip,
        grids=grids,
        rerun=rerun,
        members=members,
        launcher=launcher,
    )
    if dry_run or asked.dry_run:
        print(preview(asked.plan))
        return Report(len(asked.plan))
    return asked.run(processes, progress)


@dataclass(frozen=True)
class AskedSweep:
    """A sweep that can be run: everything about it is checked."""

    asked: Asked
    config: DictConfig
    """As Hydra composed it."""
    loader: Any
    """What composed it."""
    command: str
    """That does the same."""

    @property
    def plan(self) -> Plan:
        """All its runs."""
        return self.asked.plan

    @property
    def dry_run(self) -> bool:
        """Whether its own words say that nothing is to be run."""
        return bool(self.config.hydra.sweeper.dry_run)

    def run(self, processes: int = 1, progress: bool = False) -> Report:
        """Run and store it; the arguments are those of `run_sweep`."""
        asked, config = self.asked, self.config
        if asked.names is None and asks_for_names(config):
            log.warning(unnamed())
        how, where, launch = config.hydra.sweeper, sweep_directory(config), launcher_of(config, self.loader)
        with sweep_bar(len(asked.plan)) if progress else contextlib.nullcontext() as on_progress:
            report = run_plan(
                asked.plan,
                where,
                names=asked.names,
                command=dated(self.command),
                on_progress=on_progress,
                rerun=asked.again,
                launch=None if launch is None else launched(launch, config, asked, where, log.info, how.patience),
                members=how.members or members_of(config.hydra.launcher, launch, len(asked.plan)),
                processes=processes,
            )
        if report.failed:
            (run, error), count = report.failed[0], len(report.failed)
            log.warning("%d of %d runs failed, the first with: %s (%s)", count, report.runs, error, " ".join(run))
        return report


def asked_sweep(
    overrides: Overrides = (),
    *,
    directory: str | Path | None = None,
    config_name: str = "default",
    comparative: bool | None = None,
    zip: Sequence[str] | Sequence[Sequence[str]] = (),
    grids: Sequence[Overrides] = (),
    rerun: Overrides = (),
    members: int | None = None,
    launcher: str | None = None,
) -> AskedSweep:
    """Return a sweep that is asked for as in `run_sweep`, checked; nothing is run or written.

    Raises:
        ConfigError: A run of it cannot be run.
    """
    given = words_of(overrides, "overrides")
    several = [words_of(grid, f"grids[{i}]") for i, grid in enumerate(grids)]
    schema = schema_of([*given, *(line for grid in several for line in grid)], comparative, config_name)
    settings = {
        "hydra/launcher": launcher,
        "hydra.sweep.dir": None if directory is None else _word(os.fspath(from_home(directory))),
        "hydra.sweeper.zip": _word(zip),
        "hydra.sweeper.grids": _word(several),
        "hydra.sweeper.rerun": _word(words_of(rerun, "rerun")),
        "hydra.sweeper.members": None if members is None else str(members),
    }
    lines = [*given, *(f"{key}={word}" for key, word in settings.items() if word)]
    loader, config = _composed(lines, schema, config_name)
    how: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    keys = ("params", "zip", "grids", "rerun", "members")
    asked = asked_for(config, loader, task_overrides(config), **{key: how[key] for key in keys})
    return AskedSweep(asked, config, loader, _command(lines, schema, config_name))


def words_of(overrides: Any, name: str) -> list[str]:
    """Return overrides, given in any form, as on the command line."""
    if isinstance(overrides, Mapping):
        return [*swept_overrides(overrides)]
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise ConfigError(f"{name} are a list such as ['training.lr=0.1,0.2'], or a mapping, not {overrides!r}")
    for line in overrides:
        if not isinstance(line, str):
            raise ConfigError(f"{name} are a list of words such as 'training.lr=0.1,0.2'; {line!r} is none")
    return [*overrides]


def _command(lines: Sequence[str], schema: Schema, config_name: str) -> str:
    """Return the command that does the same."""
    door = ["dln", "compare" if schema is ComparativeConfig else "run", "-m"]
    return shlex.join([*door, *([] if config_name == "default" else [f"-cn={config_name}"]), *lines])


def _word(value: str | Sequence[Any]) -> str:
    """Return a word, or lists of words, as the value of one override that means just them; nothing of an empty list.

    >>> _word("my/study"), _word("a b"), _word([["training.lr", "model.gamma"]]), _word([])
    ('my/study', "'a b'", '[[training.lr,model.gamma]]', '')
    """
    if not isinstance(value, str):
        return f"[{','.join(_word(one) or '[]' for one in value)}]" if value else ""
    return value if re.fullmatch(r"[\w./-]*[a-z][./_][\w./-]*", value) else quoted(value)


def _composed(lines: Sequence[str], schema: Schema, config_name: str) -> tuple[Any, DictConfig]:
    """Return the config that Hydra composes for a sweep, and the loader that has composed it.

    Raises:
        ConfigError: It cannot be composed, or asks for a sweeper that only a command starts.
    """
    with translated(schema):
        setup_globals()  # what ${now:...} and ${hydra:...} stand for
        loader = loader_class(schema)(create_config_search_path(str(CONFIGS / folder(schema))))
        given = [*map(spelled_out, lines)]
        ours = {key: name for key, name in OURS.items() if not any(line.startswith(f"{key}=") for line in given)}
        spelled = [*(f"{key}={name}" for key, name in ours.items()), *given]
        config = loader.load_configuration(config_name, spelled, RunMode.MULTIRUN, from_shell=False)
    target = config.hydra.sweeper._target_
    if target.rpartition(".")[2] != "DlnSweeper":
        raise ConfigError(f"hydra/sweeper: run_sweep has its own; {target} is started by a command, dln run -m ...")
    expand_home(config, "sweep")
    return loader, config
