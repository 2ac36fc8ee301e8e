"""Curves of a report: of each condition means, medians and what lies between, of some runs the curves themselves.

There are as many records and runs of each as a page can hold; what is left out is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from dln.aggregates.keeping import Keeping
from dln.report.columns import Column
from dln.report.packing import Pack
from dln.report.quantise import COARSE, FINE, encode
from dln.results.tables import RUN
from dln.studies.curves import Sample
from dln.studies.statistics import Moments, Ordered, in_order, moments, quantile, t_interval
from dln.studies.stored_runs import BEGIN, StoredRuns
from dln.studies.stored_sums import StoredSums, Summed

MOST_NUMBERS = 3_200_000
"""Of curves, to begin with."""
MOST_RECORDS = 400
"""Of each curve of a sweep: what a screen shows."""
LEAST_RECORDS = 60
MOST_RUNS = 2000
"""Whose own curves are kept."""
HELD = 2**26
"""Numbers of curves that are held at a time."""
CONFIDENCE = 0.95
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Plan:
    """How much of the curves is kept."""

    records: int
    runs: int
    """Of each condition."""
    columns: int


@dataclass
class Curves:
    """Curves of conditions, and of some of their runs."""

    columns: list[Column]
    kinds: list[str]
    """What there is of each condition: `mean`, its interval `low` and `high`, and quantiles."""
    steps: np.ndarray
    """[C, K], NaN after the last record."""
    told: list[np.ndarray]
    """Of each column: [C, S, K]."""
    runs: np.ndarray
    """Of which condition the runs are whose curves are kept [N], in the order of the keys that they differ in."""
    single: list[np.ndarray]
    """Of each column: [N, K], at the steps of the condition."""
    records: int
    """How many records the longest curve has that is stored."""
    left_out: list[str] = field(default_factory=list)
    """Columns whose curves are too many for a page."""

    def thinner(self, part: float) -> Curves:
        """Return them with only about a part of the records."""
        keep = thinned(self.steps.shape[1], max(int(self.steps.shape[1] * part * 0.95), 8))
        return replace(
            self,
            steps=self.steps[:, keep],
            told=[values[..., keep] for values in self.told],
            single=[values[..., keep] for values in self.single],
        )

    def numbers(self) -> int:
        """Return how many numbers they are."""
        return sum(values.size for values in (*self.told, *self.single))

    def pack(self, pack: Pack, prefix: str) -> dict[str, object]:
        """Add all of it to a pack, and return what a page needs to know beside it."""
        finest = COARSE if self.numbers() > 300_000 else FINE
        pack.add(f"{prefix}steps", self.steps, "f8")
        pack.add(f"{prefix}runs", self.runs, "i4")
        scales: dict[str, object] = {}
        worst = 0.0
        for i, (told, single) in enumerate(zip(self.told, self.single, strict=True)):
            for name, values in {f"{prefix}told{i}": told, f"{prefix}single{i}": single[:, None, :]}.items():
                codes, scale = encode(values, finest)
                pack.add_curves(name, codes)
                scales[name] = scale.to_json()
                worst = max(worst, scale.error)
        return {
            "columns": [column.to_json() for column in self.columns],
            "kinds": self.kinds,
            "scales": scales,
            "error": worst,
            "records": self.records,
            "shown": self.steps.shape[1],
            "left_out": self.left_out,
        }


def read_curves(
    runs: StoredRuns,
    conditions: pl.DataFrame,
    by: Sequence[str],
    over: Sequence[str],
    columns: Sequence[Column],
    told: Callable[[int], object] | None = None,
) -> Curves:
    """Return the curves of some runs, as many as a page holds.

    Args:
        runs: The runs, or sums over them.
        conditions: As `runs.conditions` gives them.
        by: The keys that tell conditions apart.
        over: The keys in which the runs of one differ.
        columns: The curves, those first that matter most.
        told: Is told how many conditions have been read.
    """
    kinds = _kinds(runs, conditions)
    most = _most_runs(conditions) if len(kinds) > 1 and not isinstance(runs, StoredSums) else 0
    plan = planned(len(conditions), len(kinds), most, len(columns), lone=runs.counts[RUN] == 1)
    kept = [column.name for column in columns[: plan.columns]]
    found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, int]] = {}
    for some in _batches(conditions, runs.records() * max(len(kept), 1)):
        for number, sample in runs.read(some, by, over, kept):
            at = thinned(len(sample.steps), plan.records)
            both = [_of_column(sample, name, kinds, at, plan.runs) for name in kept]
            stats, single = (np.array([each[i] for each in both]) for i in range(2))
            found[number] = sample.steps[at], stats, single, len(sample.steps)
            if told:
                told(len(found))
    every = [found[number] for number in sorted(found)]
    longest = max((len(steps) for steps, *_ in every), default=0)
    counts = [single.shape[1] for _, _, single, _ in every]
    return Curves(
        list(columns[: plan.columns]),
        kinds,
        np.array([_padded(steps, longest) for steps, *_ in every]).reshape(len(every), longest),
        [np.array([_padded(stats[i], longest) for _, stats, _, _ in every]) for i in range(len(kept))],
        np.repeat(np.arange(len(every)), counts),
        [np.concatenate([_padded(single[i], longest) for _, _, single, _ in every]) for i in range(len(kept))],
        max((records for *_, records in every), default=0),
        [column.name for column in columns[plan.columns :]],
    )


def planned(conditions: int, kinds: int, runs: int, columns: int, lone: bool = False) -> Plan:
    """Return how much of curves a page holds: fewer runs first, then fewer records, then fewer columns.

    Args:
        conditions: How many there are.
        kinds: How many curves there are of each, and of each column.
        runs: The most runs that a condition has whose curves could be kept.
        columns: How many there are.
        lone: It is one run, of which all is shown.

    >>> planned(500, 6, 20, 4)
    Plan(records=160, runs=4, columns=4)
    >>> planned(10_000, 1, 0, 9)
    Plan(records=60, runs=0, columns=5)
    """
    columns = max(columns, 1)
    most, records = 20_000 if lone else MOST_RECORDS, 0
    for some in (*range(min(runs, MOST_RUNS // max(conditions, 1)), 0, -1), 0):
        curves = conditions * (kinds + some)
        records = MOST_NUMBERS // (curves * columns)
        if records >= min(most, 100):
            return Plan(min(records, most), some, columns)
    records = max(records, LEAST_RECORDS)
    return Plan(records, 0, min(columns, max(1, MOST_NUMBERS // (conditions * kinds * records))))


def thinned(count: int, most: int) -> np.ndarray:
    """Return which of `count` records are shown: half of them at equal distances, half at equal ratios.

    The first and the last are always among them.

    >>> thinned(4, 9).tolist(), thinned(1000, 6).tolist()
    ([0, 1, 2, 3], [0, 31, 500, 999])
    """
    if count <= most:
        return np.arange(count)
    half = max(most // 2, 2)
    even = np.linspace(0, count - 1, half)
    ratios = np.geomspace(1, count, most - half) - 1
    return np.unique(np.rint(np.concatenate([even, ratios])).astype(int))


def _kinds(runs: StoredRuns, conditions: pl.DataFrame) -> list[str]:
    """Return what is told of each condition: of those of one run its curve."""
    if isinstance(runs, StoredSums):
        keeping: Keeping = runs.keeping
        levels = keeping.quantiles if "quantiles" in keeping.keep else ()
        return ["mean", "low", "high", *(f"q{level:g}" for level in levels)]
    if _most_runs(conditions) == 1:
        return ["mean"]
    return ["mean", "low", "high", *(f"q{level:g}" for level in QUANTILES)]


def _most_runs(conditions: pl.DataFrame) -> int:
    """Return the most runs that a condition has."""
    return max(conditions[RUN].to_list())


def _of_column(
    sample: Sample, name: str, kinds: Sequence[str], at: np.ndarray, runs: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what there is of a column at some records [S, K], the same as `dln.aggregate` says, and runs [N, K]."""
    if isinstance(sample, Summed):
        levels = any(kind.startswith("q") for kind in kinds)
        found = _statistics(sample.moments(name), sample.in_order(name) if levels else None, kinds)
        return found[:, at], np.empty((0, len(at)))
    values = sample.matrix(name)[:, at]
    if kinds == ["mean"]:
        return values[:1], values[:0]
    return _statistics(moments(values), in_order(values), kinds), values[:runs]


def _statistics(own: Moments, sorted_values: tuple[Ordered, np.ndarray] | None, kinds: Sequence[str]) -> np.ndarray:
    low, high = t_interval(own, CONFIDENCE)
    found = {"mean": own.mean, "low": low, "high": high}
    if sorted_values:
        ordered, count = sorted_values
        found |= {kind: quantile(ordered, count, float(kind[1:])) for kind in kinds if kind.startswith("q")}
    return np.array([found[kind] for kind in kinds])


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    """Return values [..., K] with NaN up to a length."""
    wide = np.full((*values.shape[:-1], length), np.nan)
    wide[..., : values.shape[-1]] = values
    return wide


def _batches(conditions: pl.DataFrame, values: int) -> list[pl.DataFrame]:
    """Return conditions in slices as they lie in files, as many at a time as `HELD` allows."""
    conditions = conditions.sort(BEGIN)
    batch = (conditions[RUN].cum_sum() * values) // HELD
    return conditions.with_columns(batch.alias("batch")).partition_by("batch", include_key=False, maintain_order=True)
