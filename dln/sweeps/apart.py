"""What runs are compared with, found among them: each reference once, as a row of its own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dln.composing.alike import reference_of
from dln.engines import Results
from dln.history import ENDS
from dln.results.tables import IDENTITY, make_table
from dln.sweeps.plan import Plan
from dln.sweeps.shapes import identity_of, values_of

_OF_A = re.compile(r"_a(?=$|\.)")
"""What the names of events in lane a have in them."""

NONE = b""
"""The identity of a reference that the run's own row holds."""


@dataclass(frozen=True)
class Apart:
    """References of runs that were trained together, to be stored apart from them."""

    of: np.ndarray
    """The identity of each run's reference [R], or `NONE`."""
    table: pa.Table | None
    """A row for each that is not stored yet."""


def taken_apart(plan: Plan, cells: np.ndarray, results: Results, stored: Collection[bytes]) -> Apart:
    """Find the references that several of the runs share, or that are stored already.

    One that diverged or was stopped is left to the rows: its runs may have gone on, and have records that it has not.

    Args:
        plan: The plan that the runs are of.
        cells: Their cells.
        results: What came of them.
        stored: Identities of references that are on disk.
    """
    of, new = np.full(len(cells), NONE, IDENTITY), {}
    for run, runs in _runs_of(plan, cells, results, len(stored) > 0):
        same = runs[_as_the_first(results, runs)]
        if len(same) > 1 or run in stored:
            of[same] = run
        if len(same) > 1 and run not in stored:
            new[run] = int(runs[0])
    return Apart(of, _rows(plan, cells, results, new) if new else None)


def _runs_of(plan: Plan, cells: np.ndarray, results: Results, alone: bool) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield the identity of every reference that did not end early, and its runs; `alone`: of a single one, too."""
    if not results.lane_a:
        return
    ended = [any(name.startswith(ENDS) and name.endswith("_a") for name in events) for events in results.events]
    _, first, number, count = np.unique(results.alike, return_index=True, return_inverse=True, return_counts=True)
    known = [_identity(plan, int(cells[run])) if alone or n > 1 else NONE for run, n in zip(first, count, strict=True)]
    distinct, of = np.unique(np.where(ended, NONE, np.array(known, IDENTITY)[number]), return_inverse=True)
    ordered = np.argsort(of, kind="stable")
    for run, runs in zip(distinct.tolist(), np.split(ordered, np.cumsum(np.bincount(of))[:-1]), strict=True):
        if run != NONE:
            yield run, runs


def _identity(plan: Plan, cell: int) -> bytes:
    return identity_of(reference_of(plan.config(cell)), plan.contents).encode()


def _as_the_first(results: Results, runs: np.ndarray) -> np.ndarray:
    """Return which of some runs have in lane a, bit for bit, what the first of them has."""
    same = np.ones(len(runs), bool)
    for name in results.lane_a.values():
        curves = results.curves[name]
        equal = (curves[runs] == curves[runs[0]]) | (np.isnan(curves[runs]) & np.isnan(curves[runs[0]]))
        same &= equal.reshape(len(runs), -1).all(1)
    return same


def _rows(plan: Plan, cells: np.ndarray, results: Results, shown: Mapping[bytes, int]) -> pa.Table:
    """Return a row for each of some references, which some of the runs show."""
    runs = [*shown.values()]
    configs = [reference_of(plan.config(int(cells[run]))) for run in runs]
    values = [values_of(config, plan.contents) for config in configs]
    own = [{_OF_A.sub("", name): e for name, e in results.events[run].items() if _OF_A.search(name)} for run in runs]
    events = {name: [e.get(name) for e in own] for name in dict.fromkeys(["diverged_at", *itertools.chain(*own)])}
    step = results.curves["step"].astype(np.int32)
    curves = {name: results.curves[column][runs] for name, column in results.lane_a.items()}
    return make_table(
        [run.decode() for run in shown],
        {key: [row.get(key) for row in values] for key in dict.fromkeys(key for row in values for key in row)},
        events,
        {"step": np.broadcast_to(step, (len(runs), len(step))), **as_stored(curves, configs[0].dtype)},
        results.present[runs],
    )


def as_stored(curves: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Return curves in the precision of their runs."""
    with np.errstate(over="ignore"):
        return {name: curve.astype(np.dtype(dtype)) for name, curve in curves.items()}
