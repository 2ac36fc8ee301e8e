"""What a report is of: a run, a comparison, a sweep, or each sweep of a study, with all that is told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from dln.base.files import from_home
from dln.base.sealed import content
from dln.errors import StorageError
from dln.report.columns import columns_of
from dln.report.curves import Curves, read_curves
from dln.report.ratios import add_ratios
from dln.report.rows import Rows, read_rows, rows_of_run
from dln.results.finals import is_seed
from dln.results.frames import stored_columns
from dln.results.listing import HYDRA, StoredRun, StoredSweep, look
from dln.results.run import COMMANDS, load_run
from dln.results.sweep import SweepStore
from dln.studies.aggregate import aggregate
from dln.studies.opening import open_runs
from dln.studies.stored_runs import StoredRuns, as_row
from dln.studies.stored_sums import StoredSums
from dln.terminal import live_view

if TYPE_CHECKING:
    from dln.studies.baselines import Baseline

NOTHING = "none"
"""The word for averaging over no key: each run is then a condition of its own."""
MANY = 50
"""Conditions from which on it is shown how many are done."""


@dataclass
class Part:
    """A run or a sweep, and all that is told of it."""

    name: str
    about: str
    kind: str
    """`run`, `comparison` or `sweep`."""
    comparison: bool
    runs: int
    state: str
    faults: list[str]
    failed: int
    by: list[str]
    over: list[str]
    sums: bool
    fixed: dict[str, Any]
    made_with: list[dict[str, Any]]
    commands: str
    ends: dict[str, Any]
    """The steps at which a run, or a lane of it, ended early."""
    acts: list[tuple[int, str]]
    """The steps at which a run's callbacks act, as far as the config says so, and what they are called."""
    curves: Curves
    rows: Rows

    def to_json(self) -> dict[str, Any]:
        """Return what a page reads it from, but for numbers."""
        told = {name: value for name, value in vars(self).items() if name not in ("curves", "rows")}
        return told | {"fixed": {key: _word(value) for key, value in self.fixed.items()}}


@dataclass
class Contents:
    """All that a report is of."""

    title: str
    kind: str
    parts: list[Part]
    sentences: str = ""
    about: str = ""

    @property
    def runs(self) -> int:
        """How many runs it is of."""
        return sum(part.runs for part in self.parts)


def read_contents(
    directory: str | Path,
    of: Sequence[str] | None = None,
    over: Sequence[str] | None = None,
    baseline: Baseline | None = None,
    progress: bool = False,
) -> Contents:
    """Return what lies in a directory.

    Args:
        directory: Of a run, a comparison, a sweep or a study.
        of: Which curves; None: all.
        over: What is averaged over, ["none"] for nothing; None: the seeds that vary or, of a study, what it says.
        baseline: What curves of a sweep are divided by, as `dln.aggregate` takes it; a study says it itself.
        progress: Say on standard error how far it is, if that takes long.

    Raises:
        StorageError: There is nothing to report, or no such curve or key, or it cannot be read.
        DamagedError: A file is not what was written.
    """
    place = from_home(directory)
    stored = look(place)
    if baseline is not None and not isinstance(stored, StoredSweep):
        raise StorageError(f"a baseline is for a sweep, and {directory} is none; a study says it itself")
    if isinstance(stored, StoredRun):
        part = _of_run(stored, of)
        return Contents(place.resolve().name, part.kind, [part])
    if isinstance(stored, StoredSweep):
        part = _of_sweep(stored, of, over, progress, baseline=baseline)
        return Contents(place.resolve().name, "sweep", [part])
    return _of_study(place, of, over, progress)


def _of_study(place: Path, of: Sequence[str] | None, over: Sequence[str] | None, progress: bool) -> Contents:
    from dln.studies.study import SUMMARY, load_study  # which knows matplotlib: a second
    from dln.studies.study_figures import STUDY, TABLES

    if not (place / STUDY).is_file():
        raise StorageError(
            f"there is no run, sweep or study in {place} itself, so there is nothing to report; "
            f"dln show {place} lists what it holds"
        )
    study = load_study(place / STUDY)
    parts = []
    for name, part in study.parts.items():
        stored = look(place / name)
        if isinstance(stored, StoredSweep):
            own = part.aggregate.over if over is None else over
            averaged = [own] if isinstance(own, str) else list(own)
            table = place / TABLES / f"{name}.parquet"
            named = part.aggregate.of or []
            first = [named] if isinstance(named, str) else named
            parts.append(_of_sweep(stored, of, averaged, progress, part.about, table=table, first=first))
    if not parts:
        raise StorageError(f"no part of the study in {place} has been run yet, so there is nothing to report")
    summary = place / SUMMARY
    said = content(summary).decode(errors="replace") if summary.is_file() else "It has not come to its end yet."
    return Contents(place.resolve().name, "study", parts, said, study.about)


def _of_run(stored: StoredRun, of: Sequence[str] | None) -> Part:
    history = load_run(stored.directory)
    if not len(history):
        raise StorageError(f"the run in {stored.directory} has no record, so there is nothing to report")
    runs = StoredRuns(as_row(history), None, f"the run in {stored.directory}")
    comparison = stored.what == "comparison"
    columns = columns_of(runs, comparison, of)
    conditions = runs.conditions([], [])
    curves = read_curves(runs, conditions, [], [], columns)
    provenance = stored.summary.get("provenance")
    return Part(
        name=stored.directory.resolve().name,
        about=" ".join(stored.overrides),
        kind=stored.what,
        comparison=comparison,
        runs=1,
        state=stored.state,
        faults=stored.faults,
        failed=0,
        by=[],
        over=[],
        sums=False,
        fixed=dict(_leaves(stored.config or {})),
        made_with=[provenance] if provenance else [],
        commands=_text(stored.directory / HYDRA / COMMANDS) or stored.command,
        ends=stored.ends,
        acts=list(_acts(stored.config or {})),
        curves=curves,
        rows=rows_of_run({column.name: _last(runs, column.name) for column in columns}, history.events),
    )


def _of_sweep(
    stored: StoredSweep,
    of: Sequence[str] | None,
    over: Sequence[str] | None,
    progress: bool,
    about: str = "",
    baseline: Baseline | None = None,
    table: Path | None = None,
    first: Sequence[str] = (),
) -> Part:
    directory = stored.directory
    runs = open_runs(directory)
    sums = isinstance(runs, StoredSums)
    comparison = "train_loss_b" in runs.curve_names()
    varying = runs.varying
    averaged = _averaged(runs, stored.sums_over, over)
    by = [key for key in varying if key not in averaged and not (averaged and runs.follows(key, averaged))]
    by.sort(key=lambda key: "." not in key)  # max_steps and the like go with others, and are seldom what one asks
    conditions = runs.conditions(by, averaged)
    columns = columns_of(runs, comparison, of, first)
    with live_view(len(conditions)) if progress else nullcontext() as show:
        told = (lambda done: show(done, "conditions")) if show and len(conditions) > MANY else None
        curves = read_curves(runs, conditions, by, averaged, columns, told)
    if baseline is not None:
        compared = [column.name for column in curves.columns if not column.theory]
        add_ratios(curves, aggregate(directory, averaged, by, compared, baseline), conditions, by)
    elif table is not None and table.is_file():
        add_ratios(curves, pl.read_parquet(table), conditions, by)
    rows = read_rows(runs, conditions, by, averaged, columns, [] if sums else stored_columns(directory)["events"])
    return Part(
        name=directory.resolve().name,
        about=about,
        kind="sweep",
        comparison=comparison,
        runs=runs.counts["run"],
        state=stored.state,
        faults=stored.faults,
        failed=stored.failed,
        by=by,
        over=averaged,
        sums=sums,
        fixed=stored.fixed,
        made_with=(SweepStore(directory).description() or {}).get("provenance", []),
        commands=SweepStore(directory).commands(),
        ends={},
        acts=[],
        curves=curves,
        rows=rows,
    )


def _averaged(runs: StoredRuns, sums_over: Sequence[str], over: Sequence[str] | None) -> list[str]:
    """Return the keys that are averaged over; raise StorageError for what does not vary."""
    if over is None:
        return list(sums_over) or [key for key in runs.varying if is_seed(key)]
    for key in over if list(over) != [NOTHING] else ():
        runs.check_key(key)
        if key not in runs.varying:
            raise StorageError(
                f"{key} does not vary in {runs.name}, so there is nothing to average over; what does: "
                f"{', '.join(runs.varying) or 'nothing'}"
            )
    return [key for key in over if key != NOTHING]


def _last(runs: StoredRuns, name: str) -> float:
    """Return the last value of a curve of one run."""
    value = runs.lazy.select(runs.curve(name).list.last().cast(pl.Float64)).collect().item()
    return float("nan") if value is None else value


def _acts(config: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the steps that a config's callbacks name, and what acts there.

    >>> list(_acts({"callbacks_b": [{"name": "switch_batch_size", "params": {"step": 9, "batch_size": 2}}]}))
    [(9, 'switch_batch_size b')]
    """
    for lane in ("", "_a", "_b"):
        for callback in config.get(f"callbacks{lane}") or ():
            told = callback if isinstance(callback, Mapping) else {}
            step = (told.get("params") or {}).get("step")
            if isinstance(step, int):
                yield step, f"{told.get('name')} {lane[1:]}".strip()


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys of a config with dots, and their values; empty sections are left out.

    >>> dict(_leaves({"model": {"gamma": 1.0, "init_params": {}}, "metrics": []}))
    {'model.gamma': 1.0, 'metrics': []}
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _word(value: Any) -> str:
    """Write the value of a key: words as they are, all else as JSON, which knows no infinity but here."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _text(path: Path) -> str:
    try:
        return content(path).decode(errors="replace").strip()
    except OSError:
        return ""
