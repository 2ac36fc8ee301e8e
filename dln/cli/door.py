"""From a door (`run.py`, `run_comparative.py`) to an experiment: sets up Hydra, checks, reports errors and the end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from dln import __version__
from dln.aggregates.keeping import refuse_alone
from dln.base.files import from_home, in_short
from dln.base.output import look_for_libraries_first, speak_patiently
from dln.cli import foreign
from dln.cli.arguments import options_first
from dln.cli.typed import keep, remember
from dln.composing.compose import as_overrides, hydra_overrides, resolve, save_yaml, task_overrides
from dln.composing.contents import from_here
from dln.composing.grid import JOB, SETTINGS, parse_grid, quoted, spelled_out
from dln.composing.hydra_errors import translated
from dln.composing.hydra_internals import add_callback, replace_config, use_loader
from dln.composing.loader import composed, loader_class
from dln.config import Schema
from dln.errors import ConfigError, DlnError, ExtensionError, StorageError
from dln.terminal import (
    FAILURE,
    USAGE_ERROR,
    answer_signals,
    closing_line,
    conditions_lines,
    interrupted_line,
    status_of,
)

if TYPE_CHECKING:
    from dln.blueprint import Blueprint

CHECKED_IN_FULL = 64
"""Runs of a sweep that are all checked before the first starts, at some 0.1 s each."""
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"


def open_door(main: Callable[[], Any], schema: Schema) -> NoReturn:
    """Run a `@hydra.main` function on the schema's configs and leave the process with a fitting exit status.

    Exit status: 0 done (a run that diverged is done), 1 a user's code or the disk failed, 2 the configuration cannot be
    run, 130 interrupted, 143 terminated. Errors are one short message; HYDRA_FULL_ERROR=1 adds the stack trace.
    """
    speak_patiently()
    look_for_libraries_first()
    answer_signals()
    remember(sys.argv)
    if "--version" in sys.argv[1:]:
        print(f"dln {__version__}")
        sys.exit(0)
    if {"--help", "-h"} & set(sys.argv[1:]):
        from dln.cli.help import help_text

        with reported(schema):
            print(help_text(schema, sys.argv))
        sys.exit(0)
    with reported(schema):
        sys.argv[1:] = map(spelled_out, options_first(sys.argv[1:]))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing, and the message is ours
    install(schema)
    try:
        with reported(schema):
            main()
    finally:
        release_claims()
    sys.exit(0)


def run_from_hydra(config: DictConfig, schema: Schema) -> float | tuple[float, ...] | None:
    """Run the experiment of a composed config in the directory Hydra made for it, and print how it ended.

    Inside a launcher's worker this is part of a sweep.

    Returns:
        What the config's `objective` says, if it says anything: a sweeper of somebody else's optimises it.
    """
    job = HydraConfig.get().job.env_set.get(JOB)
    if job is not None:
        from dln.sweeps.jobs import run_job

        run_job(Path(HydraConfig.get().sweep.dir), job, GlobalHydra.instance().config_loader())
        return None
    from dln.experiment import run_blueprint

    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    shown = in_short(directory, hydra.runtime.cwd)
    blueprint = _checked.pop() if _checked else checked(config, schema, _left(hydra))
    resolved = blueprint.config
    if (directory / ".hydra").exists():  # Hydra saved the config with its ${...} in place
        save_yaml(dataclasses.asdict(resolved), directory / ".hydra" / "config.yaml")
        keep(directory / ".hydra")
    started = time.perf_counter()
    try:
        history = run_blueprint(blueprint, directory=directory, progress=True, claimed=directory in _claims)
    except KeyboardInterrupt:
        print(interrupted_line(_last_step(directory), resolved.max_steps, shown), file=sys.stderr)
        raise
    print(closing_line(history, resolved.max_steps, time.perf_counter() - started, shown), flush=True)
    for line in conditions_lines(history, [theory.label for theory in blueprint.theories]):
        print(line, flush=True)
    if resolved.objective is None:
        return None
    from dln.measure.objective import goals, objective

    maximize = foreign.maximized(HydraConfig.get().sweeper, len(goals(resolved.objective)))
    return objective(history, resolved.objective, maximize)


def _last_step(directory: Path) -> int | None:
    """Return the step of the last record that a run has stored, or None."""
    from dln.results.run import load_run

    try:
        return load_run(directory).final["step"]
    except (StorageError, KeyError):
        return None


@contextlib.contextmanager
def reported(schema: Schema) -> Iterator[None]:
    """Print an error of the block as a user wants to see it, and exit; Hydra's errors are translated first."""
    try:
        with translated(schema):
            yield
    except KeyboardInterrupt as stop:
        sys.exit(status_of(stop))
    except DlnError as error:
        if FULL_ERROR:
            traceback.print_exception(error)
        elif isinstance(error, ExtensionError) and error.__cause__ is not None:
            print("".join(user_trace(error.__cause__)), end="", file=sys.stderr)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR if isinstance(error, ConfigError) else FAILURE)
    except OSError as error:  # Hydra's own files
        if FULL_ERROR:
            traceback.print_exc()
        where = f" {error.filename}" if error.filename else ""
        print(f"error: cannot read or write{where}: {error.strerror or error}", file=sys.stderr)
        sys.exit(FAILURE)
    except Exception:  # a fault of ours: inside the gate Hydra would turn it into a warning and go on
        traceback.print_exc()
        sys.exit(FAILURE)


def user_trace(error: BaseException) -> Iterator[str]:
    """Return the lines of a stack trace from where the user's code was entered."""
    entries = {("registry.py", "__call__"), ("registry.py", "import_extensions"), ("lockstep.py", "fire")}
    trace = traceback.TracebackException.from_exception(error)
    starts = [i for i, f in enumerate(trace.stack, start=1) if (Path(f.filename).name, f.name) in entries]
    frames = [f for f in trace.stack[max(starts, default=0) :] if "importlib" not in f.filename]
    trace.stack = traceback.StackSummary.from_list(frames)
    return trace.format(chain=False)


class Gate(Callback):
    """Runs before Hydra writes anything: checks the config, then claims the output directory.

    Hydra swallows exceptions of its callbacks, but not SystemExit: errors are reported here.
    """

    def __init__(self, schema: Schema) -> None:
        """Check what a schema describes."""
        self.schema: Schema = schema

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the config of a single run."""
        with reported(self.schema):
            refuse_settings_of_sweeps(config)
            expand_home(config, "run")
            _checked.append(checked(config, self.schema, _left(config.hydra)))
            claim_output(config, "run")

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check what runs of a sweep can be checked before the first; our own sweeper checks for itself."""
        with reported(self.schema):
            expand_home(config, "sweep")
        if config.hydra.sweeper._target_ == foreign.OURS:
            return
        with reported(self.schema):
            loader = GlobalHydra.instance().config_loader()
            if not foreign.is_foreign(config.hydra.sweeper):
                for job in _jobs_to_check(config, loader):
                    self._checked_job(config, loader, job)
                claim_output(config, "sweep")
                return
            from dln.measure.objective import goals
            from dln.results.run import MULTIRUN

            blueprint = self._checked_job(config, loader, foreign.some_job(config))
            foreign.check_sweeper(config, len(goals(blueprint.config.objective)))
            claim_output(config, "sweep")
            OmegaConf.save(config, Path(str(config.hydra.sweep.dir)) / MULTIRUN)  # as Hydra's own sweeper does

    def _checked_job(self, config: DictConfig, loader: Any, job: Sequence[str]) -> Blueprint:
        lines = [*hydra_overrides(config), *job]
        return checked(composed(loader, config.hydra.job.config_name, lines), self.schema)


def _jobs_to_check(config: DictConfig, loader: Any) -> list[list[str]]:
    """Return every run of a small grid; of a large one every value, each beside the first value of the others."""
    grid = parse_grid([*as_overrides(config.hydra.sweeper.get("params")), *task_overrides(config)], (), loader)
    if len(grid) <= CHECKED_IN_FULL:
        return [grid.overrides(cell) for cell in range(len(grid))]
    firsts = [axis.overrides(0) for axis in grid.axes]
    values = [(i, axis.overrides(at)) for i, axis in enumerate(grid.axes) for at in range(len(axis))]
    return [sum([*firsts[:i], v, *firsts[i + 1 :]], list(grid.fixed)) for i, v in values]


def checked(config: DictConfig, schema: Schema, left: str | None = None) -> Blueprint:
    """Return the blueprint of a composed config; what is wrong with the config is raised.

    Args:
        config: As Hydra composed it.
        schema: Its schema.
        left: The working directory in which the command was given and the run will not be; None: it stays.
    """
    with contextlib.chdir(left or os.curdir):
        resolved = resolve(config, schema)
        refuse_alone(resolved.aggregate)
        from dln.factory import check_names  # imports torch: only once the schema is satisfied

        return check_names(resolved if left is None else from_here(resolved))


def _left(hydra: Any) -> str | None:
    """Return the working directory that Hydra leaves for the run's own directory, by `hydra.job.chdir`, or None."""
    return hydra.runtime.cwd if hydra.job.chdir else None


def refuse_settings_of_sweeps(config: DictConfig) -> None:
    """Raise ConfigError where a single run is asked for what only sweeps do, such as a dry run."""
    for line in hydra_overrides(config):
        name = line.lstrip("+").partition("=")[0].removeprefix("hydra.sweeper.")
        if name in SETTINGS:
            raise ConfigError(f"{name} is for sweeps; add -m, or leave it out")


def expand_home(config: DictConfig, mode: str) -> None:
    """Let a `~` at the beginning of `hydra.run.dir` or `hydra.sweep.dir` be the user's home; Hydra would make a `~`.

    Raises:
        ConfigError: `hydra.sweep.subdir` begins with one.
    """
    if mode == "sweep" and str(config.hydra.sweep._get_node("subdir")._value()).startswith("~"):
        raise ConfigError("hydra.sweep.subdir is inside of hydra.sweep.dir; a ~ stands at the beginning of that")
    key, written = f"hydra.{mode}.dir", str(config.hydra[mode]._get_node("dir")._value())
    text = written if written.startswith("~") else str(config.hydra[mode].dir)
    if text.startswith("~"):
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra[mode].dir = str(from_home(text))
            if _is_named(config, key):  # jobs of a sweep are composed anew from these
                config.hydra.overrides.hydra.append(f"{key}={quoted(str(config.hydra[mode].dir))}")


_checked: list[Blueprint] = []
"""The blueprint that the gate has checked and that is run next."""


def claim_output(config: DictConfig, mode: str) -> None:
    """Make an output directory that no other process has; one that the user named must not hold results.

    Args:
        config: The composed config; its `hydra.run.dir` or `hydra.sweep.dir` is changed if it was taken.
        mode: `run` or `sweep`.
    """
    from dln.results.run import HISTORY, MULTIRUN, claim_directory, claim_named

    key = f"hydra.{mode}.dir"
    wanted = Path(str(config.hydra[mode].dir))
    if mode == "run" and "${" in str(wanted.absolute()):
        raise ConfigError(f"{key}: Hydra takes the ${{ in {str(wanted.absolute())!r} for its own; choose another")
    if _is_named(config, key):
        marker = HISTORY if mode == "run" else MULTIRUN
        claim_named(wanted, marker)
        _claims[wanted.absolute()] = marker
        return
    claimed = str(claim_directory(wanted))
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra[mode].dir = claimed
        config.hydra.overrides.hydra.append(f"{key}={quoted(claimed)}")  # jobs of a sweep are composed anew from these


def _is_named(config: DictConfig, key: str) -> bool:
    """Whether the command line sets a key of Hydra's own."""
    return any(line.lstrip("+").startswith(f"{key}=") for line in hydra_overrides(config))


_claims: dict[Path, str] = {}
"""Directories that the user has named and this process has claimed, and the file that says so."""


def release_claims() -> None:
    """Give up directories that nothing was written to, so that the same command can be given again."""
    from dln.results.run import release

    while _claims:
        release(*_claims.popitem())


def install(schema: Schema) -> None:
    """Give Hydra our loader, which knows the schema, and our defaults: the gate, and no empty log file in every run."""
    use_loader(loader_class(schema))
    add_callback(Gate(schema))
    node = HydraConf()
    ours = {"job_logging": "stdout", "sweeper": "dln"}
    node.defaults = [{k: ours.get(k, v) for k, v in d.items()} if isinstance(d, dict) else d for d in node.defaults]
    replace_config("hydra", "config", node)
