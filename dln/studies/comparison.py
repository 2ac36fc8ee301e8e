"""Runs against a baseline, at each record: difference, ratio, effect size, tests, and where they leave it.

A baseline is a group of runs, or one deterministic trajectory (`trajectory`), which has no spread of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from dln.base.arithmetic import uniform
from dln.studies.statistics import Moments, student


@uniform()
def degrees_of_freedom(group: Moments, baseline: Moments) -> np.ndarray:
    """Return Welch's degrees of freedom of the difference of two means whose variances need not be equal.

    (v + w)^2 / (v^2 / (n - 1) + w^2 / (m - 1)), v and w the variances of the means; n - 1 where w is zero.
    """
    return _satterthwaite(group.variance, group.count, baseline.variance, baseline.count)


def _satterthwaite(v: np.ndarray, n: np.ndarray, w: np.ndarray, m: np.ndarray) -> np.ndarray:
    share = v / (v + w)
    rest = np.where(share < 1, (1 - share) ** 2 / (m - 1), 0.0)  # m may be 1 where w is 0
    return 1 / (share**2 / (n - 1) + rest)


@uniform()
def welch(group: Moments, baseline: Moments, shared: np.ndarray | None = None) -> np.ndarray:
    """Return the two-sided p value of Welch's t test that the means are equal; against a trajectory, of the t test.

    Where nothing spreads there is nothing to test: 0 where the means differ, NaN where they are the same.

    Args:
        group: The runs.
        baseline: What they are compared with.
        shared: Of runs each of which has its own baseline, the covariance of the two [T]: the test is then the paired t
            test, but where that is NaN, as some have one of the two only.
    """
    difference, v, w = group.mean - baseline.mean, group.variance, baseline.variance
    pairs = _shared(group, shared)
    error = np.sqrt(np.where(np.isnan(pairs), v + w, np.maximum(v + w - 2 * pairs, 0)))
    free = np.where(np.isnan(pairs), degrees_of_freedom(group, baseline), group.count - 1.0)
    p = 2 * special.stdtr(free, -np.abs(difference / error))
    return np.where((error == 0) & (difference != 0), 0.0, np.where(error == 0, np.nan, p))


def _shared(group: Moments, shared: np.ndarray | None) -> np.ndarray:
    """Return the covariance of two means, NaN where runs are no pairs."""
    return np.full(len(group.mean), np.nan) if shared is None else shared / group.count


def holm(p: ArrayLike) -> np.ndarray:
    """Return p values corrected, after Holm, for how many records are tested: NaN are none of them.

    Where all corrected values below 0.05 are called differences, the probability that one of them is none is at most
    0.05, whatever the records have to do with each other. (That of Benjamini and Hochberg bounds the *share* of false
    ones, and only where tests are independent or positively dependent; one false record would be a false departure.)

    >>> holm([0.01, 0.04, np.nan, 0.03])
    array([0.03, 0.06,  nan, 0.06])
    """
    p = np.asarray(p, np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


@uniform()
def hedges_g(group: Moments, baseline: Moments) -> np.ndarray:
    """Return Hedges' g, the difference of the means in standard deviations of one run, without Cohen's d's bias.

    J(f) (mean - baseline) / s with J(f) = Gamma(f / 2) / (sqrt(f / 2) Gamma((f - 1) / 2)); s is the two groups' pooled
    standard deviation, f = n + m - 2, or against a trajectory the runs' own, f = n - 1.
    """
    n, m = group.count, baseline.count
    if baseline.exact:
        free, scale = n - 1.0, group.std
    else:
        free = n + m - 2.0
        scale = np.sqrt(((n - 1) * group.std**2 + (m - 1) * baseline.std**2) / free)
    unbiased = np.exp(special.gammaln(free / 2) - special.gammaln((free - 1) / 2)) / np.sqrt(free / 2)
    return np.where(free > 1, unbiased, np.nan) * (group.mean - baseline.mean) / scale


@dataclass(frozen=True)
class Ratio:
    """A ratio of means and its interval, [T] each; NaN where a mean is not positive."""

    ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray


@uniform()
def ratio_of_means(
    group: Moments, baseline: Moments, confidence: float = 0.95, shared: np.ndarray | None = None
) -> Ratio:
    """Return mean / baseline with the interval that the delta method gives its logarithm.

    log(mean) has the variance std^2 / (count mean^2), to first order; the interval is exp(log ratio -+ t sqrt(v + w)),
    with v and w those of both means and t Student's, with Welch's degrees of freedom of v and w. It is symmetric in
    the two, and positive. Of pairs, twice the covariance of the logarithms is taken off, and t has n - 1 degrees.

    Args:
        group: The runs.
        baseline: What they are compared with.
        confidence: Of the interval.
        shared: As of `welch`.
    """
    positive = (group.mean > 0) & (baseline.mean > 0)
    ratio = np.where(positive, group.mean / baseline.mean, np.nan)
    v, w = group.variance / group.mean**2, baseline.variance / baseline.mean**2
    pairs = _shared(group, shared) / (group.mean * baseline.mean)
    spread = np.where(np.isnan(pairs), v + w, np.maximum(v + w - 2 * pairs, 0))
    free = np.where(np.isnan(pairs), _satterthwaite(v, group.count, w, baseline.count), group.count - 1.0)
    # Where nothing spreads the interval is the ratio itself, and has no degrees of freedom.
    reach = np.exp(student(np.where(spread == 0, np.inf, free), confidence) * np.sqrt(spread))
    return Ratio(ratio, ratio / reach, ratio * reach)


@uniform()
def sides(
    group: Moments, baseline: Moments, p: np.ndarray, confidence: float = 0.95, resolution: float = 0.0
) -> np.ndarray:
    """Return on which side of the baseline's band the mean is at each record: 1 above, -1 below, 0 within.

    It is outside where p, corrected for the number of records, is below 1 - confidence, and the difference is more than
    `resolution` times the baseline: so many runs may have rounded alike that less is significant and means nothing.
    NaN where it is not known.
    """
    difference = group.mean - baseline.mean
    seen = np.abs(difference) > resolution * np.abs(baseline.mean)
    side = np.where((p < 1 - confidence) & seen, np.sign(difference), 0.0)
    return np.where(np.isnan(p) & (difference != 0), np.nan, side)


@dataclass(frozen=True)
class Departure:
    """Where a mean leaves the baseline's band: places among the records, None where it does not."""

    first: int | None
    """The first record outside."""
    lasting: int | None
    """The first record from which on it stays outside, on one side, to the last at which that is known."""


def departure(side: ArrayLike) -> Departure:
    """Return where a mean leaves the baseline's band, from its `sides` [T]; where one is not known it does not count.

    >>> departure([0, 1, 0, -1, -1, np.nan])
    Departure(first=1, lasting=3)
    >>> departure([0, 1, 0])
    Departure(first=1, lasting=None)
    """
    side = np.asarray(side, np.float64)
    known = np.flatnonzero(~np.isnan(side))
    outside = known[side[known] != 0]
    if not len(outside):
        return Departure(None, None)
    others = np.flatnonzero(side[known] != side[known[-1]])
    start = known[others[-1] + 1 if len(others) else 0]
    return Departure(int(outside[0]), int(start) if side[known[-1]] else None)
