"""`dln study` and `dln.run_study`: from the file of a study to its tables, figures and sentences."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dln.base.files import from_home, in_short, placing
from dln.base.parallel import thread_count
from dln.cli.multirun import preview
from dln.cli.python_door import AskedSweep, Overrides, asked_sweep, words_of
from dln.errors import ConfigError, StorageError
from dln.figures.style import save_figure
from dln.figures.table_words import RATE
from dln.results.run import claim_directory
from dln.studies.aggregate import aggregate
from dln.studies.found import Found, heading
from dln.studies.scaling import arranged, overrides_of
from dln.studies.sentences import SENTENCES
from dln.studies.study import SUMMARY, Part, Study, load_study, names, path_of
from dln.studies.study_figures import FIGURES, STUDY, TABLES, drawn
from dln.terminal import FAILURE, answer_signals, duration, status_of

if TYPE_CHECKING:
    import polars

DIRECTORY = "hydra.sweep.dir"


@dataclass
class StudyReport:
    """What a study came to."""

    directory: str = ""
    """Where everything is; empty where nothing was run."""
    sentences: list[str] = field(default_factory=list)
    tables: dict[str, polars.DataFrame] = field(default_factory=dict)
    """Of each part, as `dln.aggregate` gives them."""
    figures: list[Path] = field(default_factory=list)
    runs: int = 0
    failed: int = 0


def run_study(
    study: str | Path,
    overrides: Overrides = (),
    *,
    directory: str | Path | None = None,
    dry_run: bool = False,
    progress: bool = False,
    processes: int = 1,
) -> StudyReport:
    """Run a study: its sweeps, of which only what is missing is computed, then tables, figures, and the sentences.

    Args:
        study: The name of one that comes with the package (`dln study` lists them), or a file.
        overrides: `scale=1` for the whole, `NAME=VALUE` of a number that it scales, and any key of run.py, for all
            parts: words as on the command line, or a mapping.
        directory: Where everything goes, and may be already; None: a new one, `multirun/DATE/TIME`.
        dry_run: Only print the sweeps' runs, and about what they take.
        progress: Show how many runs are done, and say what is.
        processes: As in `run_sweep`.

    Raises:
        ConfigError: The study, a word or a run of it cannot be run.
        StorageError: The directory holds something else, or the disk fails.
        ExtensionError: A figure or sentence of yours raised.
    """
    words = words_of(overrides, "overrides")
    asked = _checked(study, words, directory, dry_run)
    if dry_run:
        _preview(asked)
        return StudyReport()
    return _carried_out(asked, progress, processes)


def open_study(name: str | None, words: Sequence[str], dry_run: bool) -> int:
    """Do what `dln study` was asked for, and return its exit status."""
    if name is None:
        print("\n".join(listed()))
        return 0
    answer_signals()
    asked = _checked(name, words, None, dry_run)
    if dry_run:
        _preview(asked)
        return 0
    started = time.perf_counter()
    try:
        report = _carried_out(asked, progress=True, processes=thread_count())
    except KeyboardInterrupt as stop:
        print(f"interrupted; go on with: {asked.command}", file=sys.stderr)
        return status_of(stop)
    print("\n".join(report.sentences))
    told = f"{report.runs} runs, {duration(time.perf_counter() - started)}"
    print(f"{told}; tables, figures and {SUMMARY} in {in_short(asked.place)}")
    return FAILURE if report.failed else 0


@dataclass(frozen=True)
class Checked:
    """A study all of whose runs have been checked."""

    file: Path
    study: Study
    place: Path
    sweeps: dict[str, AskedSweep]
    """Of each part, in a directory there."""
    command: str
    """That goes on with it."""


def _checked(name: str | Path, words: Sequence[str], directory: str | Path | None, dry_run: bool) -> Checked:
    """Return a study as it was asked for; what is wrong with any of its runs is raised, and nothing is written."""
    given = [word.partition("=")[2] for word in words if word.startswith(f"{DIRECTORY}=")]
    words = [word for word in words if not word.startswith(f"{DIRECTORY}=")]
    study = arranged(load_study(name), words)
    wanted = directory or (given[-1] if given else None)
    place = Path("multirun") if dry_run else _claimed(wanted)
    sweeps = {}
    try:
        for part_name, part in study.parts.items():
            sweeps[part_name] = _sweep(part_name, part, place)
    except BaseException:
        if wanted is None and not dry_run:
            place.rmdir()
        raise
    command = shlex.join(["dln", "study", str(name), *words, f"{DIRECTORY}={place}"])
    return Checked(path_of(name), study, place, sweeps, command)


def _sweep(name: str, part: Part, place: Path) -> AskedSweep:
    try:
        return asked_sweep(overrides_of(part), zip=part.zip, directory=place / name)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _claimed(wanted: str | Path | None) -> Path:
    """Return where a study goes: a new directory, or the one that was named, which is then continued."""
    if wanted is None:
        return claim_directory(Path(f"{datetime.now():multirun/%Y-%m-%d/%H-%M-%S}"))
    place = from_home(wanted)
    if not (place / STUDY).exists() and place.is_dir() and any(place.iterdir()):
        raise StorageError(f"{place} holds something else than a study; choose another directory")
    return place


def _preview(asked: Checked) -> None:
    for name, sweep in asked.sweeps.items():
        print(f"{heading(name, asked.study.parts[name].about)}\n{preview(sweep.plan)}")


def _carried_out(asked: Checked, progress: bool, processes: int) -> StudyReport:
    """Run the sweeps, and make everything of them anew."""
    study, place = asked.study, asked.place
    _copy(asked.file, place / STUDY)
    report, parts = StudyReport(str(place)), {}
    for name, part in study.parts.items():
        if progress:
            print(heading(name, part.about), flush=True)
        swept = asked.sweeps[name].run(processes, progress)
        report.runs, report.failed = report.runs + swept.runs, report.failed + len(swept.failed)
        if progress:
            print(f"  {swept.runs} runs in {duration(swept.seconds)}, {swept.found} of them found", flush=True)
        parts[name] = _found(name, asked)
    report.tables = {name: found.table for name, found in parts.items()}
    report.sentences = _said(study, parts)
    _write_tables(parts, place / TABLES)
    report.figures = [*_draw_all(study, parts, place / FIGURES)]
    lines = [study.about, "", *report.sentences, "", *_commands(asked)]
    _write(place / SUMMARY, "\n".join(lines))
    return report


def _copy(file: Path, path: Path) -> None:
    """Leave a copy of the study's file, which may be the one that is there already."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with placing(path) as beside:
            shutil.copyfile(file, beside)
    except OSError as error:
        raise StorageError(f"cannot write to {path.parent}: {error.strerror or error}") from error


def _found(name: str, asked: Checked) -> Found:
    """Return the table of a part's runs."""
    part, lr = asked.study.parts[name], asked.sweeps[name].plan.values(0).get(RATE)
    table = aggregate(asked.place / name, **part.aggregate.options)
    return Found(name, part.about, table, part.aggregate.confidence, lr)


def _said(study: Study, parts: dict[str, Found]) -> list[str]:
    said: list[str] = []
    for say in study.sentences:
        some = {name: parts[name] for name in study.parts_of(say)}
        said += SENTENCES.get(say.name).call(
            f"sentence {say.name!r}", some, named=say.params, read=list, where=f"sentence {say.name!r}"
        )
    return said


def _write_tables(parts: dict[str, Found], folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
        for name, found in parts.items():
            with placing(folder / f"{name}.parquet") as beside:
                found.table.write_parquet(beside)
            with placing(folder / f"{name}.csv") as beside:
                found.table.write_csv(beside)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error


def _draw_all(study: Study, parts: dict[str, Found], folder: Path) -> Iterator[Path]:
    """Draw and save all figures, each as PDF and PNG, and yield the paths of the latter."""
    for name, figure in drawn(study, parts):
        path = folder / name
        save_figure(figure, path.with_suffix(".pdf"))
        yield save_figure(figure, path.with_suffix(".png"))


def _commands(asked: Checked) -> list[str]:
    """Return the commands that make all of it again: the study's own, and those of the sweeps that it stands for."""
    sweeps = (f"  {sweep.command}" for sweep in asked.sweeps.values())
    return ["again, or further where it was interrupted:", f"  {asked.command}", "its sweeps:", *sweeps]


def _write(path: Path, text: str) -> None:
    try:
        with placing(path) as beside:
            beside.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def listed() -> Iterator[str]:
    """Yield a line for each study that comes with the package."""
    width = max(map(len, names()))
    for name in names():
        study = load_study(name)
        parts = ", ".join(study.parts)
        yield f"{name:<{width}}  {study.about} ({parts}; {', '.join(study.scaled)})"
