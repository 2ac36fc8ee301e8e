"""Bootstrap intervals of means and of their ratios, bias-corrected and accelerated (BCa; Efron 1987).

Whole runs are drawn anew, with all their records, so that what belongs together stays together. The draws come from a
stream of their own: the same runs and seed give the same interval, whatever else is asked for.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from dln.base.arithmetic import uniform
from dln.base.streams import stream
from dln.studies.statistics import centred, in_order, moments, quantile

CHUNK = 2**22
"""Numbers of draws that are held at a time."""


@uniform()
def resampled_means(values: np.ndarray, resamples: int, seed: int, name: str = "group") -> np.ndarray:
    """Return the means of runs [R, T] drawn anew with replacement, [resamples, T]; NaN where none has a value.

    Args:
        values: NaN where there is none.
        resamples: How often.
        seed: Of the draws.
        name: Of their stream; two groups that are drawn independently have two.
    """
    runs = len(values)
    first, deviations = centred(values)
    there = (~np.isnan(values)).astype(np.float64)
    rng = stream(seed, "bootstrap", name)
    means = np.empty((resamples, values.shape[1]))
    many = max(1, CHUNK // runs)
    for start in range(0, resamples, many):
        some = min(many, resamples - start)
        drawn = rng.integers(runs, size=(some, runs)) + runs * np.arange(some)[:, None]
        times = np.bincount(drawn.ravel(), minlength=some * runs).reshape(some, runs).astype(np.float64)
        means[start : start + some] = first + times @ deviations / (times @ there)
    return means


@uniform()
def mean_interval(
    values: np.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the BCa interval [T] of the mean of runs [R, T]."""
    return bca_interval(
        resampled_means(values, resamples, seed), moments(values).mean, _skewness(_influence(values)), confidence
    )


@uniform()
def ratio_interval(
    values: np.ndarray, baseline: np.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the BCa interval [T] of a ratio of means; NaN where a mean, or one of those drawn, is not positive.

    Args:
        values: Runs [R, T].
        baseline: Runs [B, T], drawn independently of those; a single one has no spread.
        confidence: Of the interval.
        resamples: How often both are drawn.
        seed: Of the draws.
    """
    above, below = moments(values).mean, moments(baseline).mean
    drawn = resampled_means(values, resamples, seed)
    others = resampled_means(baseline, resamples, seed, "baseline")
    ratios = np.where((drawn > 0) & (others > 0), drawn / others, np.nan)
    share = np.concatenate([_influence(values) / above, -_influence(baseline) / below])
    low, high = bca_interval(ratios, above / below, _skewness(share), confidence)
    positive = ~np.isnan(ratios).any(0)
    return np.where(positive, low, np.nan), np.where(positive, high, np.nan)


@uniform()
def bca_interval(
    replicates: np.ndarray, estimate: np.ndarray, acceleration: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the BCa interval [T] of an estimate [T] from its replicates [resamples, T].

    The ends are quantiles of the replicates at Phi(z0 + (z0 + z) / (1 - a (z0 + z))), with z that of the confidence,
    z0 what the share of replicates below the estimate is the normal quantile of, and a the acceleration.
    """
    ordered, count = in_order(replicates)
    below = ((replicates < estimate).sum(0) + (replicates == estimate).sum(0) / 2) / count
    bias = special.ndtri(np.clip(below, 1 / (count + 1), count / (count + 1)))
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + special.ndtri(tail)
        ends.append(quantile(ordered, count, np.clip(special.ndtr(bias + z / (1 - acceleration * z)), 0, 1)))
    return ends[0], ends[1]


def _influence(values: np.ndarray) -> np.ndarray:
    """Return how much each run [R, T] moves the mean: its deviation / count, zero where it has no value."""
    _, deviations = centred(values)
    there = ~np.isnan(values)
    count = there.sum(0)
    return np.where(there, deviations - deviations.sum(0) / count, 0.0) / count


def _skewness(influence: np.ndarray) -> np.ndarray:
    """Return the acceleration [T] of influences [R, T], sum u^3 / (6 (sum u^2)^1.5); zero where nothing spreads."""
    squares = np.einsum("rt,rt->t", influence, influence)
    cubes = np.einsum("rt,rt,rt->t", influence, influence, influence)
    return np.where(squares > 0, cubes / (6 * squares**1.5), 0.0)
