"""The figures of a study: of the tables of its parts, when it has just been run, or again from its directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dln.errors import StorageError
from dln.figures.table_words import RATE
from dln.results.listing import StoredSweep, look
from dln.studies.figures import draw
from dln.studies.found import Found
from dln.studies.study import Study, load_study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STUDY, TABLES, FIGURES = "study.yaml", "tables", "figures"
"""What lies in the directory of a study, beside a sweep for each part, and what was said of them."""


def drawn(study: Study, parts: Mapping[str, Found], style: str = "default") -> Iterator[tuple[str, Figure]]:
    """Yield the name of each figure of a study, with that of the part where there are several, and the figure.

    Args:
        study: What figures there are.
        parts: What was found of each part.
        style: "default" or "paper".

    Raises:
        ConfigError: A figure names a curve or key that its table lacks.
        ExtensionError: A function of yours raised.
    """
    for title, figure in study.figures.items():
        for name in study.parts_of(figure):
            named = title if len(study.parts) == 1 else f"{title}_{name}"
            yield named, draw(parts[name], figure.name, figure.params, figure.rows, figure.columns, style)


def stored_parts(directory: Path, study: Study) -> dict[str, Found]:
    """Return what was found of each part of a study that was run, from its tables.

    Raises:
        StorageError: A table is not there, or was written by an earlier version.
    """
    import polars as pl

    again = "give the study's command again, which writes it (summary.txt has the command)"
    parts = {}
    for name, part in study.parts.items():
        path = directory / TABLES / f"{name}.parquet"
        try:
            table = pl.read_parquet(path)
        except (OSError, pl.exceptions.ComputeError) as error:
            raise StorageError(f"cannot read {path}; {again}") from error
        if "lost" not in table.columns:
            raise StorageError(f"{path} is of an earlier version, which did not say how many runs are lost; {again}")
        sweep = look(directory / name)
        lr = sweep.fixed.get(RATE) if isinstance(sweep, StoredSweep) else None
        parts[name] = Found(name, part.about, table, part.aggregate.confidence, lr)
    return parts


def stored_study(directory: Path) -> Study:
    """Return the study whose directory this is."""
    return load_study(directory / STUDY)
