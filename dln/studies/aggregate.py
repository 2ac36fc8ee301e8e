"""`dln.aggregate`: what runs of one condition have in common at each step, and how they differ from a baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dln.base.values import whole_number
from dln.errors import ConfigError, StorageError
from dln.results.tables import RUN
from dln.studies import bootstrap, comparison
from dln.studies.baselines import Baselines
from dln.studies.curves import Sample
from dln.studies.opening import open_runs
from dln.studies.own_reference import REFERENCE, Against, OwnReference, with_references
from dln.studies.statistics import Ordered, quantile, quantile_interval, t_interval, trajectory
from dln.studies.stored_runs import BEGIN, StoredRuns

if TYPE_CHECKING:
    import polars

    from dln.studies.baselines import Baseline
    from dln.studies.opening import Results

HELD = 2**26
"""Values of curves that are held at a time, as far as conditions go into that."""


@dataclass(frozen=True)
class Wanted:
    """What is to be found of each curve."""

    confidence: float = 0.95
    quantiles: Sequence[float] = (0.5,)
    resamples: int = 0
    seed: int = 0
    pairs: Sequence[tuple[str, str]] = ()

    def __post_init__(self) -> None:
        for name, values in {"confidence": [self.confidence], "quantiles": self.quantiles}.items():
            for value in values:
                if not (isinstance(value, int | float) and 0 < value < 1):
                    raise ConfigError(f"{name} must lie between 0 and 1, both excluded, not be {value!r}")
        whole_number(self.seed, "seed", least=0)
        if 0 < whole_number(self.resamples, "resamples", least=0) < 100:
            raise ConfigError(f"resamples must be 0, for no bootstrap, or at least 100, not {self.resamples}")


def aggregate(
    results: Results,
    over: str | Sequence[str],
    by: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    baseline: Baseline | None = None,
    confidence: float = 0.95,
    quantiles: Sequence[float] | None = None,
    resamples: int = 0,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> polars.DataFrame:
    """Return statistics of stored runs: a row for each condition, a combination of the keys `by`, and each step.

    Its columns: the keys; `step`; `runs`, how many the condition has; `diverged`, how many of them had by this step (in
    a lane); `stopped`, how many had ended before without diverging; `lost`, how many diverge at any step, the last ones
    after the last record too; and of each curve

    ================================  =====================================================================
    `count`, `mean`, `std`, `error`   of the runs that have a value here; `error` is std / sqrt(count)
    `low`, `high`                     Student's interval for the mean
    `min`, `max`                      the smallest and the largest
    `log mean`, `log std`             of natural logarithms, where all values are positive
    `q0.5`, `q0.5 low`, `q0.5 high`   quantiles, with intervals that suppose no distribution
    `bootstrap low`, `... high`       the BCa interval for the mean, if there are `resamples`
    `baseline`                        the baseline's mean
    `ratio`, `ratio low`, `... high`  mean / baseline, with the interval of the delta method on logarithms
    `ratio bootstrap low`, `...`      the BCa interval for the ratio, if there are `resamples`
    `p`, `p corrected`                Welch's test that the means are equal, of runs with a reference of their own each
                                      the paired t test; after Holm, for how many steps are tested
    `side`                            1 above the baseline, -1 below; 0 where `p corrected` is not below 1 - confidence,
                                      or the difference is what rounding of the stored numbers may be (8 units)
    `g`                               Hedges' g, the difference in standard deviations of one run
    ================================  =====================================================================

    each as `CURVE mean`, ...; null where there is none. Means are of runs that are still there: where some have
    diverged, of those that have not. A step is one that all runs of the condition have that had not ended before.

    Args:
        results: A sweep's directory, of which only what is needed is read, or a frame that was loaded from one. Where a
            sweep keeps sums over runs in place of curves (`aggregate.over`), they are put together, to the same table.
        over: The keys in which the runs of a condition differ, e.g. "training.batch_seed".
        by: The keys that tell conditions apart. None: all others that vary, but those that move with `over`.
        of: Which curves, an entry of a vector as `singular_values[1]`. None: all of numbers.
        baseline: What they are compared with: values of some keys, e.g. {"training.batch_size": None}, for the
            conditions that have them and agree in the others; one run, its history or directory; or another sweep,
            whose conditions agree in those keys of `by` that it has more than one value of, or one that occurs here
            too; or "reference": every run's own, which is what `reference` says, or model a of a comparison; `of` are
            then columns of the run, test_loss or test_loss_b. A baseline that is one run, or whose runs are all the
            same, is exact: a trajectory without spread.
        confidence: Of all intervals.
        quantiles: Which ones. None: the median; of a sweep that keeps sums, those that it says.
        resamples: How many times to draw runs anew for the bootstrap; 0: not at all.
        seed: Of those draws.
        pairs: Curves whose covariance and correlation are told, `cov(a, b)` and `corr(a, b)`. None: of a sweep that
            keeps sums those that it keeps, else none.

    Raises:
        StorageError: There is no such sweep, key or curve; `over` does not vary, or runs of a condition differ in more
            than that; a condition has no baseline.
        DamagedError: A file is not what was written.
        ConfigError: A quantile or the confidence is not in (0, 1), or `resamples` is too small.
    """
    import polars as pl

    wanted = Wanted(confidence, (0.5,) if quantiles is None else tuple(quantiles), resamples, seed)
    runs = open_runs(results)
    for pair in pairs or ():
        if isinstance(pair, str) or len(pair) != 2:
            raise StorageError(f"a pair is two curves, such as ('drift', 'noise_trace'), not {pair!r}")
    wanted = dataclasses.replace(wanted, quantiles=runs.quantiles(quantiles), pairs=runs.pairs(pairs))
    over = _names(over)
    by = _grouped_by(runs, over, None if by is None else _names(by))
    wants_own = isinstance(baseline, str) and baseline == REFERENCE
    own = with_references(runs, None if of is None else _names(of)) if wants_own else {}
    columns = [*own] or (runs.curve_names() if of is None else _names(of))
    if not columns:
        raise StorageError(f"{runs.name} has no curve of numbers; name an entry of a vector, of=['singular_values[1]']")
    for name in columns:
        runs.check_curve(name)
    conditions = runs.conditions(by, over)
    apart = None if wants_own else baseline
    baselines = None if apart is None else Baselines(apart, runs, conditions, by, over, columns)
    tables: dict[int, polars.DataFrame] = {}
    for some in _batches(conditions, runs.records() * len(columns)):
        references = baselines.read(some) if baselines else {}
        needed = [*dict.fromkeys([*columns, *own.values(), *(name for pair in wanted.pairs for name in pair)])]
        for number, sample in runs.read(some, by, over, needed):
            reference = OwnReference(sample, own) if own else references.get(number)
            found = _of_condition(sample, columns, wanted, reference, baseline is not None)
            sides = columns if baseline is not None else []
            rows = pl.DataFrame(found, nan_to_null=True).cast({f"{name} side": pl.Int8 for name in sides})
            tables[number] = conditions[[number]].select(by).join(rows, how="cross") if by else rows
    return pl.concat([tables[number] for number in sorted(tables)])


def _names(words: str | Sequence[str]) -> list[str]:
    return [words] if isinstance(words, str) else [*dict.fromkeys(words)]


def _grouped_by(runs: StoredRuns, over: Sequence[str], by: Sequence[str] | None) -> list[str]:
    """Return the keys that tell conditions apart; raise StorageError for what cannot be averaged over or grouped by."""
    if not over:
        raise StorageError("name the key to average over, such as training.batch_seed")
    for key in [*over, *(by or ())]:
        runs.check_key(key)
    for key in over:
        if runs.counts[key] == 1:
            varying = ", ".join(runs.varying) or "nothing"
            raise StorageError(
                f"{key} does not vary in {runs.name}, so there is nothing to average over; what does: {varying}"
            )
        if by is not None and key in by:
            raise StorageError(f"{key} cannot both be averaged over and tell conditions apart")
    if by is not None:
        return [*by]
    return [key for key in runs.varying if key not in over and not runs.follows(key, over)]


def _batches(conditions: polars.DataFrame, values: int) -> Iterator[polars.DataFrame]:
    """Yield as many conditions at a time as `HELD` allows, at least one, as they lie in files.

    Args:
        conditions: All of them.
        values: How many a run has.
    """
    conditions = conditions.sort(BEGIN)
    start, held = 0, 0
    for row, count in enumerate(conditions[RUN].to_list()):
        if row > start and held + count * values > HELD:
            yield conditions[start:row]
            start, held = row, 0
        held += count * values
    yield conditions[start:]


def _of_condition(
    sample: Sample, columns: Sequence[str], wanted: Wanted, reference: Against | None, compared: bool
) -> dict[str, np.ndarray]:
    """Return all columns of a condition's rows, [T] each."""
    found: dict[str, np.ndarray] = {"step": sample.steps, "runs": np.full(len(sample.steps), len(sample))}
    found |= {"diverged": sample.diverged, "stopped": sample.stopped}
    found["lost"] = np.full(len(sample.steps), sample.lost)
    for name in columns:
        told = _summary(sample, name, wanted)
        if compared:
            told |= _against(sample, reference, name, wanted)
        found |= {f"{name} {what}": column for what, column in told.items()}
    for one, other in wanted.pairs:
        both = sample.covariance(one, other)
        found[f"cov({one}, {other})"] = both
        with np.errstate(all="ignore"):
            found[f"corr({one}, {other})"] = both / (sample.moments(one).std * sample.moments(other).std)
    return found


def _summary(sample: Sample, name: str, wanted: Wanted) -> dict[str, np.ndarray]:
    own, logs = sample.moments(name), sample.log_moments(name)
    found = {"count": own.count, "mean": own.mean, "std": own.std, "error": own.error}
    found["low"], found["high"] = t_interval(own, wanted.confidence)
    found |= sample.extremes(name)
    found |= {"log mean": logs.mean, "log std": logs.std} if logs is not None else {}
    found |= _quantiles(*sample.in_order(name), wanted) if wanted.quantiles else {}
    if wanted.resamples:
        ends = bootstrap.mean_interval(sample.matrix(name), wanted.confidence, wanted.resamples, wanted.seed)
        found["bootstrap low"], found["bootstrap high"] = ends
    return found


def _quantiles(ordered: Ordered, count: np.ndarray, wanted: Wanted) -> dict[str, np.ndarray]:
    found = {}
    for level in wanted.quantiles:
        found[f"q{level:g}"] = quantile(ordered, count, level)
        ends = quantile_interval(ordered, count, level, wanted.confidence)
        found[f"q{level:g} low"], found[f"q{level:g} high"] = ends
    return found


def _against(sample: Sample, reference: Against | None, name: str, wanted: Wanted) -> dict[str, np.ndarray]:
    """Return what tells a condition from its baseline; of a condition that is one itself (None) nothing."""
    own, nothing = sample.moments(name), np.full((1, len(sample.steps)), np.nan)
    theirs = trajectory(nothing[0]) if reference is None else reference.moments_at(name, sample.steps)
    shared = reference.shared(name) if isinstance(reference, OwnReference) and not theirs.exact else None
    ratio = comparison.ratio_of_means(own, theirs, wanted.confidence, shared)
    found = {"baseline": theirs.mean, "ratio": ratio.ratio, "ratio low": ratio.low, "ratio high": ratio.high}
    if wanted.resamples:
        others = nothing if reference is None else reference.aligned(name, sample.steps)
        others = others[:1] if theirs.exact else others
        ends = bootstrap.ratio_interval(sample.matrix(name), others, wanted.confidence, wanted.resamples, wanted.seed)
        found["ratio bootstrap low"], found["ratio bootstrap high"] = ends
    resolution = max(each.resolution(name) for each in (sample, reference or sample))
    found["p"] = comparison.welch(own, theirs, shared)
    found["p corrected"] = comparison.holm(found["p"])
    found["side"] = comparison.sides(own, theirs, found["p corrected"], wanted.confidence, resolution)
    found["g"] = comparison.hedges_g(own, theirs)
    return found
