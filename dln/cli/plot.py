"""`dln plot`: what one would look at first of a run, a comparison, a sweep or a study, drawn without code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dln.base.files import from_home
from dln.cli.aggregate import parsed
from dln.errors import ConfigError, StorageError, suggestion
from dln.figures.style import save_figure
from dln.plotting import plot_history
from dln.results.listing import StoredRun, StoredSweep, look
from dln.results.run import load_run
from dln.studies.figures import draw
from dln.studies.study import load_study
from dln.studies.study_figures import STUDY, study_parts
from dln.studies.sweep_asked import Asked
from dln.studies.sweep_figures import Picture, sweep_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(directory: str, out: str | None = None, **options: Any) -> list[str]:
    """Draw what lies in a directory, save the figures, and return what to say: what each is of, and where it is.

    Args:
        directory: Of a run, a comparison, a sweep or a study.
        out: A .png, .pdf or .svg; None: `figure.png` in the directory, and of a study all its figures anew.
        **options: Those of `dln.studies.sweep_asked.Asked`; `baseline` and `where` as words.

    Raises:
        StorageError: There is nothing to draw, or the figure cannot be written.
        ConfigError: There is no such curve, key, figure or option.
    """
    place, said = from_home(directory), []
    drawn = list(pictures(place, asked_of(**options)))
    if out is not None and len(drawn) > 1:
        names = ", ".join(path.stem for path, _ in drawn)
        raise ConfigError(f"{directory} has {len(drawn)} figures, and --out names one file: choose with --figure, of {names}")
    for path, picture in drawn:
        paths = [Path(out)] if out is not None else [path] if path.suffix else [path.with_suffix(s) for s in (".pdf", ".png")]
        for each in paths:
            saved = save_figure(picture.figure, each)
        said += [picture.about, f"figure in {saved}"]
    return said
