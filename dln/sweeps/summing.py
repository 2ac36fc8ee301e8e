"""Sums up runs that were trained together, condition by condition, where a sweep keeps that in place of curves."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dln.aggregates.piece import Piece
from dln.blueprint import Blueprint, recorded_steps
from dln.engines import Results
from dln.measure.columns import check_number, entry_of
from dln.results.pieces import Told, make_pieces
from dln.sweeps.plan import Plan


def check_keeping(plan: Plan) -> None:
    """Raise ConfigError where a sweep cannot keep the aggregates that it is to keep.

    Raises:
        ConfigError: A key to average over does not vary; or there is no such column, or it has several numbers.
    """
    if plan.keeping is None:
        return
    for cells in plan.together():
        blueprint = Blueprint(plan.config(int(cells[0])))
        of_pairs = {name for pair in plan.keeping.pairs for name in pair}
        for name in plan.keeping.columns:
            where = f"aggregate.{'pairs' if name in of_pairs else 'of'}"
            check_number(name, where, blueprint.names, blueprint.first_record)
        blueprint.forget()


def summed_up(plan: Plan, cells: np.ndarray, results: Results) -> pa.Table:
    """Return the pieces of runs that were trained together.

    Args:
        plan: Of a sweep that keeps aggregates.
        cells: Those of the runs.
        results: What came of them.
    """
    assert plan.keeping is not None
    config, keeping = plan.config(int(cells[0])), plan.keeping
    step = np.array(sorted(recorded_steps(config)))
    ends = _Ends(results, tuple(config.lanes), step)
    columns = _columns(results, step, keeping.columns, keeping.of is None, config.dtype)
    numbers, pieces, first = plan.conditions[cells], [], []
    for number in np.unique(numbers):
        some = np.flatnonzero(numbers == number)
        curves = {name: values[some] for name, values in columns.items()}
        pieces.append(Piece.of(plan.identities[cells[some]], step, ends.of(some), curves, keeping.keep, keeping.pairs))
        first.append(int(cells[some[0]]))
    rows = [plan.condition_values(cell) for cell in first]
    values = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    told = Told(keeping, config.dtype, results.diverged, results.trajectories, results.lanes)
    return make_pieces([plan.condition_identity(cell) for cell in first], values, pieces, told)


class _Ends:
    """Which runs have a record at each step, and which had ended before."""

    def __init__(self, results: Results, lanes: tuple[str, ...], step: np.ndarray) -> None:
        never = np.iinfo(np.int64).max
        lost = [[events.get(f"diverged_at{lane}", never) for lane in lanes] for events in results.events]
        diverged = np.min(np.array(lost, np.int64), 1)
        last = np.where(results.present, results.curves["step"], -1).max(1, initial=-1)
        self._present = _at(results.present, results, step, False)
        self._diverged = diverged[:, None] <= step
        self._stopped = (last[:, None] < step) & (diverged == never)[:, None]

    def of(self, some: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how many of some runs have a record, had diverged, and had stopped at each step [T]."""
        return self._present[some].sum(0), self._diverged[some].sum(0), self._stopped[some].sum(0)


def _at(values: np.ndarray, results: Results, step: np.ndarray, nothing: float | bool) -> np.ndarray:
    """Return columns [R, ...] of a run's own steps at the recorded steps of all."""
    found = np.full((len(values), len(step), *values.shape[2:]), nothing, values.dtype)
    _, place, own = np.intersect1d(step, results.curves["step"], return_indices=True)
    found[:, place] = values[:, own]
    return found


def _columns(
    results: Results, step: np.ndarray, named: list[str], all_of_one: bool, dtype: str
) -> dict[str, np.ndarray]:
    """Return the columns that are summed up [R, T], rounded as they are where curves are stored."""
    whole = [name for name, curve in results.curves.items() if name != "step" and curve.ndim == 2]
    found = {}
    wanted: list[str] = [*(whole if all_of_one else []), *named]
    for name in wanted:
        column, entry = entry_of(name)
        curve = results.curves[column] if entry is None else results.curves[column][..., entry - 1]
        with np.errstate(over="ignore"):
            own = np.where(results.present, curve, np.nan).astype(dtype).astype(np.float64)
        found[name] = _at(own, results, step, np.nan)
    return found
