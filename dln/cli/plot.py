"""`dln plot`: what one would look at first of a run, a comparison, a sweep or a study, drawn without code."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.base.files import from_home
from dln.cli.aggregate import parsed, values_in
from dln.errors import ConfigError, StorageError, suggestion
from dln.figures.style import NotebookFigure, save_figure, width_of
from dln.plotting import losses, plane, plot_history, plot_weights, sharpness, strengths
from dln.results.listing import StoredRun, StoredSweep, look
from dln.results.run import load_run
from dln.studies.own_reference import REFERENCE
from dln.studies.study_figures import FIGURES, STUDY, drawn, stored_parts, stored_study
from dln.studies.sweep_asked import Asked
from dln.studies.sweep_figures import sweep_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dln.history import History


FIGURE = "figure.png"
"""What a figure is called that is not told where to go, in the directory that it is of."""


@dataclass(frozen=True)
class Picture:
    """A figure, in one line what it is of, and where it goes if that is not said."""

    figure: Figure
    about: str
    paths: list[Path]


def plot(directory: str, out: str | None = None, **options: Any) -> list[str]:
    """Draw what lies in a directory, save it, and return what to say: what each figure is of, and where it is.

    Args:
        directory: Of a run, a comparison, a sweep or a study.
        out: A .png, .pdf or .svg; None: `figure.png` in the directory; of a study all its figures are drawn anew.
        **options: Those of `figure_of`.

    Raises:
        StorageError: There is nothing to draw, or the figure cannot be written.
        ConfigError: There is no such curve, key, figure or option.
    """
    pictures = _pictures(from_home(directory), asked_of(**options))
    if out is not None and len(pictures) > 1:
        names = ", ".join(picture.paths[0].stem for picture in pictures)
        raise ConfigError(
            f"{directory} has {len(pictures)} figures, and -o names one file: choose one with --figure, of {names}"
        )
    said = []
    for picture in pictures:
        paths = picture.paths if out is None else [from_home(out)]
        for path in paths:
            save_figure(picture.figure, path)
        said += [picture.about, f"figure in {paths[-1]}"]
    return said


def figure_of(directory: str | Path, **options: Any) -> Figure:
    """Return the figure of what lies in a directory.

    A run is drawn whole. Of a sweep curves are drawn, means over seeds with 95 % intervals where they are several, a
    colour for each value of the first key, a panel for each of the second and third; or a map of how runs end, where
    two keys have many values.

    Args:
        directory: Of a run, a comparison, a sweep or a study.
        **options: `metric`, `by`, `over`: lists of names; `rows`, `columns`: keys; `where`: values of keys, as a
            mapping or as words; `baseline`; `figure`, `x`, `middle`, `band`, `log`, `style`: see docs/figures.md.

    Raises:
        StorageError: There is nothing to draw.
        ConfigError: There is no such curve, key, figure or option.
    """
    first, *others = _pictures(from_home(directory), asked_of(**options))
    if others:
        names = ", ".join(picture.paths[0].stem for picture in (first, *others))
        raise ConfigError(f"{directory} has {1 + len(others)} figures: name one of {names} (figure)")
    return first.figure


def asked_of(**options: Any) -> Asked:
    """Return options, those of the command line in words, as they are asked.

    Raises:
        ConfigError: There is no such option.
    """
    known = [one.name for one in dataclasses.fields(Asked)]
    for name in options:
        if name not in known:
            raise ConfigError(f"a figure of a directory has no option {name!r}; {suggestion(name, known)}")
    for name in ("metric", "by", "over"):
        if isinstance(options.get(name), str):
            options[name] = options[name].split(",")
    if isinstance(options.get("baseline"), str) and options["baseline"] != REFERENCE:
        options["baseline"] = parsed(options["baseline"])
    if isinstance(options.get("where"), str):
        options["where"] = values_in(options["where"], "--where")
    return Asked(**{name: value for name, value in options.items() if value is not None})


def _pictures(place: Path, asked: Asked) -> list[Picture]:
    stored = look(place)
    if isinstance(stored, StoredRun):
        return [_of_run(stored, asked)]
    if isinstance(stored, StoredSweep):
        figure, about = sweep_figure(place, asked)
        return [Picture(figure, about, [place / FIGURE])]
    if (place / STUDY).is_file():
        return _of_study(place, asked)
    raise StorageError(f"there is no run, sweep or study in {place} itself; dln show {place} lists what it holds")


def _of_run(stored: StoredRun, asked: Asked) -> Picture:
    given = {one.name for one in dataclasses.fields(Asked) if getattr(asked, one.name) != getattr(Asked(), one.name)}
    if others := sorted(given - {"metric", "style", "x", "figure"}):
        names = ", ".join(f"--{name}" for name in others)
        raise ConfigError(
            f"{names}: of sweeps, and {stored.directory} is one run; a run takes --figure, --metric, --x and --style"
        )
    if asked.figure not in (None, *OF_RUNS):
        raise ConfigError(f"there is no figure {asked.figure!r} of a run; {suggestion(asked.figure, OF_RUNS)}")
    history = load_run(stored.directory)
    known = [name for name in history.names if name != "step"]
    for name in asked.metric or ():
        head = name.partition("[")[0]
        if not any(head == one or one.startswith((f"{head}.", f"{head}_")) for one in known):
            raise ConfigError(f"there is no column {name!r}; {suggestion(name, known)}")
    paths = [stored.directory / FIGURE]
    if asked.figure is None:
        figure = plot_history(history, asked.metric, style=asked.style, x=asked.x)
        return Picture(figure, f"{stored.what} of {len(history)} records", paths)
    return Picture(_named_figure(stored.directory, history, asked), f"{asked.figure} of the {stored.what}", paths)


OF_RUNS = ("losses", "sharpness", "strengths", "plane", "weights")
"""What `--figure` may name of a run; without it the run is drawn whole."""


def _named_figure(directory: Path, history: History, asked: Asked) -> Figure:
    """Return a figure of a run with one panel, or that of its weights."""
    if asked.figure == "weights":
        if asked.metric or asked.x != "step":
            raise ConfigError("--figure weights is of the last checkpoint, and takes neither --metric nor --x")
        return plot_weights(directory, style=asked.style)
    if asked.x != "step" and asked.figure == "plane":
        raise ConfigError("a plane has the curves of --metric on its axes, and takes no --x")
    names = [*(asked.metric or ())]
    most = {"plane": 2, "losses": 0}.get(str(asked.figure), 1)
    if len(names) > most or (most == 2 and names and len(names) < 2):
        told = {0: "no --metric", 1: "one --metric", 2: "two, --metric train_loss,sharpness"}[most]
        raise ConfigError(f"--figure {asked.figure} takes {told}, not {', '.join(names)}")
    size = (width_of(1, asked.style), 2.4)
    figure = NotebookFigure(figsize=size, layout="constrained", style=asked.style)
    axes = figure.subplots()
    try:
        if asked.figure == "plane":
            plane(directory, *names, axes=axes)
        elif asked.figure == "losses":
            losses(directory, axes, x=asked.x)
        else:
            draw = sharpness if asked.figure == "sharpness" else strengths
            draw(directory, axes, x=asked.x, **({"of": names[0]} if names else {}))
    except KeyError as error:
        raise ConfigError(f"--figure {asked.figure}: {error.args[0]}") from error
    return figure


def _of_study(place: Path, asked: Asked) -> list[Picture]:
    study = stored_study(place)
    about_sweeps = dataclasses.replace(asked, figure=None, style="default") != Asked()
    first, *others = study.parts
    if about_sweeps or not study.figures:
        if others:
            names = ", ".join(study.parts)
            raise ConfigError(f"{place} is a study of several sweeps, {names}: draw one, as dln plot {place / first}")
        [picture] = _pictures(place / first, asked)
        return [dataclasses.replace(picture, about=f"the sweep of the only part, {first}: {picture.about}")]
    named = dict(drawn(study, stored_parts(place, study), asked.style))
    chosen = {name: figure for name, figure in named.items() if asked.figure in (None, name, name.rpartition("_")[0])}
    if not chosen:
        raise ConfigError(f"the study in {place} has no figure {asked.figure!r}; {suggestion(asked.figure, named)}")
    paths = {name: [place / FIGURES / f"{name}{suffix}" for suffix in (".pdf", ".png")] for name in chosen}
    return [Picture(figure, f"figure {name} of the study, again", paths[name]) for name, figure in chosen.items()]
