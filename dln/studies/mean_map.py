"""`dln.mean_map`: the mean of the end-to-end map W over runs, and its modes, which are not the mean of theirs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.errors import ConfigError, StorageError
from dln.studies.aggregate import aggregate
from dln.studies.opening import open_runs

if TYPE_CHECKING:
    import polars
    from jaxtyping import Float64

    from dln.studies.opening import Results
    from dln.studies.stored_runs import StoredRuns


def mean_map(
    results: Results,
    over: str | Sequence[str],
    by: str | Sequence[str] | None = None,
    of: str = "end_to_end_map",
    teacher: Any = None,
) -> polars.DataFrame:
    """Return E[W], the mean of the runs' end-to-end maps, a row for each condition and each step.

    Beside the keys of the condition, `step`, `runs`, `diverged` and `stopped`, as of `dln.aggregate`, its columns are

    =================  ==================================================================================
    `count`            runs that have a map here
    `mean`, `error`    E[W] and the standard error of each entry, [out, in] each; null where no run has one
    `singular_values`  those of E[W], largest first; the noise of n runs adds what is of the order of `error`
    `strengths`        u_i' E[W] v_i along the modes of a `teacher`, if that is given
    =================  ==================================================================================

    Norms are convex: the largest singular value of E[W] is at most the mean of the runs' largest ones. Strengths along
    fixed directions are linear: those of E[W] are the means of the runs' `mode_strengths`.

    Args:
        results: A sweep's directory, or a frame loaded from one, that records the metric `end_to_end_map`; or one that
            keeps sums in place of curves, of every entry: `aggregate.of=["end_to_end_map.1[1]", ...]`.
        over: The keys in which the runs of a condition differ, e.g. "training.batch_seed".
        by: The keys that tell conditions apart, as of `dln.aggregate`.
        of: What the map is called in the records: of a lane `end_to_end_map_a`, or by its own label.
        teacher: A map [out, in], such as `dln.linear_teacher(...).teacher`.

    Raises:
        StorageError: There is no such map, or as `dln.aggregate` says.
        ConfigError: The teacher is no matrix of the map's shape.
    """
    import polars as pl

    outputs, inputs = _shape(open_runs(results), of)
    modes = None if teacher is None else _modes(teacher, (outputs, inputs))
    entries = [f"{of}.{i}[{j}]" for i in range(1, outputs + 1) for j in range(1, inputs + 1)]
    table = aggregate(results, over, by, entries, quantiles=())

    def stacked(what: str) -> Float64[np.ndarray, "n out in"]:
        columns = [table[f"{name} {what}"].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in entries]
        return np.stack(columns, -1).reshape(-1, outputs, inputs)

    mean = stacked("mean")
    found = {"mean": mean, "error": stacked("error"), "singular_values": _singular_values(mean)}
    if modes is not None:
        left, right = modes
        found["strengths"] = np.einsum("oi,noj,ij->ni", left, mean, right)
    count = table[f"{entries[0]} count"].alias("count")
    others = [name for name in table.columns if not name.startswith(f"{of}.")]
    return table.select(others).with_columns(count, *(_column(name, values) for name, values in found.items()))


def _shape(runs: StoredRuns, of: str) -> tuple[int, int]:
    """Return how many outputs and inputs a map has that is stored by rows, `of.1`, `of.2`, ..., or as sums of entries.

    Raises:
        StorageError: There is none.
    """
    kinds = {found[1]: kind for name, kind in runs.schema.items() if (found := _row(name, of))}
    sizes: set[Any] = {getattr(getattr(kind, "inner", None), "size", None) for kind in kinds.values()}
    if kinds and sizes.isdisjoint({None}) and len(sizes) == 1:
        return len(kinds), sizes.pop()
    summed = [tuple(map(int, found.groups())) for name in runs.curve_names() if (found := _row(name, of, r"\[(\d+)\]"))]
    shape = tuple(max(numbers) for numbers in zip(*summed, strict=True))
    if summed and len(summed) == shape[0] * shape[1]:
        return shape[0], shape[1]
    raise StorageError(f"there is no whole {of!r} in these runs: record it, metrics=[end_to_end_map]")


def _row(name: str, of: str, entry: str = "") -> re.Match | None:
    return re.fullmatch(re.escape(of) + r"\.(\d+)" + entry, name)


def _modes(teacher: Any, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a teacher's left singular vectors, in columns, and its right ones, in rows."""
    matrix = np.asarray(teacher, np.float64)
    if matrix.shape != shape or not np.isfinite(matrix).all():
        raise ConfigError(f"teacher must be a finite matrix [out, in] = {list(shape)}, not one of {list(matrix.shape)}")
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left, right


def _singular_values(maps: Float64[np.ndarray, "n out in"]) -> Float64[np.ndarray, "n k"]:
    values = np.full((len(maps), min(maps.shape[1:])), np.nan)
    known = np.isfinite(maps).all((1, 2))
    values[known] = np.linalg.svd(maps[known], compute_uv=False)
    return values


def _column(name: str, values: Float64[np.ndarray, "n ..."]) -> polars.Series:
    """Return matrices or vectors as a column, null for those that are not known."""
    import polars as pl

    kind = pl.Array(pl.Float64, values.shape[1:])
    rows = [row.tolist() if np.isfinite(row).all() else None for row in values]
    return pl.Series(name, rows, dtype=kind)
