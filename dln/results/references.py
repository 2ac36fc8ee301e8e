"""The references of a sweep's runs, each stored once and read as if every row held its own.

references/    a sweep's directory in itself: one row a reference, as that run alone would leave it

A row whose reference is there has the reference's identity in `reference_run`, and null in place of lane a's curves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dln.errors import StorageError
from dln.results.tables import IDENTITY, RUN, columns_of, identities, schema_of

if TYPE_CHECKING:
    import polars

REFERENCES = "references"
"""The folder in a sweep's directory."""

REFERENCE = "reference_run"
"""The column of references' identities."""

LANE = "_a"
"""What the names of a reference's columns end in, beside those of its runs."""


def referred(files: Sequence[Path]) -> np.ndarray:
    """Return the identities of the references that are not in the rows of some files, sorted."""
    held = [identities(path, REFERENCE) for path in files if REFERENCE in schema_of(path).names]
    found = np.unique(np.concatenate([np.array([], IDENTITY), *held]))
    return found[found != b""]


def referring(table: pa.Table, references: np.ndarray) -> pa.Table:
    """Return rows with the identities of their references [R], empty where a row has none."""
    held = pa.array([run.decode() or None for run in references.tolist()], pa.string())
    return table.append_column(REFERENCE, held)


def orphans(files: Sequence[Path], references: np.ndarray) -> np.ndarray:
    """Return the identities of runs whose reference is not among those that are stored."""
    lost = [np.array([], IDENTITY)]
    for path in files:
        if REFERENCE in schema_of(path).names:
            wanted = identities(path, REFERENCE)
            lost.append(identities(path)[(wanted != b"") & ~np.isin(wanted, references)])
    return np.unique(np.concatenate(lost))


def check_there(directory: str | Path, files: Sequence[Path], references: Sequence[Path]) -> None:
    """Raise StorageError where rows of a sweep refer to what is not stored."""
    there = [np.array([], IDENTITY), *map(identities, references)]
    lost = np.setdiff1d(referred(files), np.concatenate(there))
    if len(lost):
        raise StorageError(
            f"{len(lost)} references of runs in {directory} are not in {Path(directory) / REFERENCES}; the sweep's "
            "command, given again, computes them anew"
        )


def with_references(lazy: polars.LazyFrame, references: Sequence[Path]) -> polars.LazyFrame:
    """Return rows with the curves of their references, and without the identities of these."""
    import polars as pl

    names = lazy.collect_schema().names()
    if REFERENCE not in names:
        return lazy
    if not references:
        return lazy.drop(REFERENCE)
    own = {name: None for path in references for name in columns_of(path)["curves"]}
    pairs = in_rows(own, names)
    frames = [pl.scan_parquet(path, glob=False, hive_partitioning=False) for path in references]
    stored = pl.concat(frames, how="diagonal_relaxed").unique(RUN, keep="first")
    theirs = [pl.col(name).alias(f"{REFERENCE} {column}") for column, name in pairs.items()]
    joined = lazy.join(
        stored.select(pl.col(RUN).alias(REFERENCE), *theirs), on=REFERENCE, how="left", maintain_order="left"
    )
    filled = [pl.coalesce(column, f"{REFERENCE} {column}").alias(column) for column in pairs]
    return joined.with_columns(filled).select(name for name in names if name != REFERENCE)


def in_rows(own: Iterable[str], columns: Iterable[str]) -> dict[str, str]:
    """Return which columns of rows are lane a's, and what each is called in the run that is the reference.

    >>> in_rows(["step", "test_loss", "norms.first"], ["step", "test_loss_a", "test_loss_b", "norms_a.first"])
    {'test_loss_a': 'test_loss', 'norms_a.first': 'norms.first'}
    """
    known, found = set(columns), {}
    for name in own:
        cuts = [len(name), *(i for i, letter in enumerate(name) if letter == ".")]
        found |= {column: name for cut in cuts if (column := name[:cut] + LANE + name[cut:]) in known}
    return found
