"""Statistics of runs: against scipy.stats, and intervals by how often they hold what they are for."""

import numpy as np
import pytest
from scipy import stats

from dln.studies import bootstrap, comparison
from dln.studies.statistics import in_order, moments, quantile, quantile_interval, t_interval, trajectory

STUDIES = 4000
"""Synthetic studies, side by side as records would be."""


@pytest.fixture(scope="module")
def runs():
    """Runs [R, T] of two groups, of which some end early: what is missing is NaN from some record on."""
    rng = np.random.default_rng(0)
    groups = [np.cumsum(rng.lognormal(size=(count, 6)), 1) for count in (23, 17)]
    for group in groups:
        for row, end in enumerate(rng.integers(2, 12, size=len(group))):
            group[row, end:] = np.nan
    return groups


@pytest.fixture(scope="module")
def studies():
    """Two groups of skewed values [70, STUDIES] and [80, STUDIES]: the means are 2 and 1."""
    rng = np.random.default_rng(1)
    return [2 * rng.gamma(4, 1 / 4, size=(70, STUDIES)), rng.gamma(9, 1 / 9, size=(80, STUDIES))]


def present(values):
    return [column[~np.isnan(column)] for column in values.T]


def covered(low, high, truth):
    return np.mean((low <= truth) & (truth <= high))


def test_moments_and_students_interval(runs):
    found = moments(runs[0])
    for i, column in enumerate(present(runs[0])):
        assert found.count[i] == len(column)
        expected = column.mean(), column.std(ddof=1), stats.sem(column)
        np.testing.assert_allclose([found.mean[i], found.std[i], found.error[i]], expected, rtol=1e-12)
        interval = stats.t.interval(0.9, len(column) - 1, column.mean(), stats.sem(column))
        np.testing.assert_allclose([end[i] for end in t_interval(found, 0.9)], interval, rtol=1e-12)


def test_equal_runs_have_no_spread_and_a_small_one_is_not_lost():
    assert (moments(np.full((1000, 1), 0.1)).mean, moments(np.full((1000, 1), 0.1)).std) == (0.1, 0)
    spread = np.random.default_rng(0).integers(0, 2**20, size=(100, 3)).astype(float)
    np.testing.assert_allclose(moments(2.0**32 + spread).std, spread.std(0, ddof=1), rtol=1e-14)


def test_quantiles_and_their_ranks(runs):
    ordered, count = in_order(runs[0])
    for level in (0.1, 0.5, 0.8):
        np.testing.assert_allclose(quantile(ordered, count, level), np.nanquantile(runs[0], level, axis=0), rtol=1e-13)
        low, high = quantile_interval(ordered, count, level, 0.9)
        for i, column in enumerate(map(np.sort, present(runs[0]))):
            missed = stats.binom(len(column), level).cdf(np.arange(len(column)))  # P(X_(k) > the quantile), k from 0
            under, over = np.flatnonzero(missed <= 0.05), np.flatnonzero(missed >= 0.95)
            expected = column[under[-1]] if len(under) else np.nan, column[over[0]] if len(over) else np.nan
            np.testing.assert_equal((low[i], high[i]), expected)


def test_an_interval_of_the_median_takes_six_runs():
    for count, known in ((5, False), (6, True)):
        low, high = quantile_interval(*in_order(np.arange(1.0, count + 1)[:, None]), 0.5)
        np.testing.assert_equal((low[0], high[0]), (1.0, 6.0) if known else (np.nan, np.nan))


def test_welchs_test_and_degrees_of_freedom(runs):
    ours = [moments(group) for group in runs]
    p, free = comparison.welch(*ours), comparison.degrees_of_freedom(*ours)
    for i, pair in enumerate(zip(*map(present, runs), strict=True)):
        expected = stats.ttest_ind(*pair, equal_var=False)
        np.testing.assert_allclose((p[i], free[i]), (expected.pvalue, expected.df), rtol=1e-10)


def test_welchs_test_against_one_trajectory_is_the_t_test(runs):
    line = np.arange(6.0)
    p = comparison.welch(moments(runs[0]), trajectory(line))
    expected = [stats.ttest_1samp(column, line[i]).pvalue for i, column in enumerate(present(runs[0]))]
    np.testing.assert_allclose(p, expected, rtol=1e-10)
    same = np.tile([[2.0, 3.0]], (4, 1))
    np.testing.assert_equal(comparison.welch(moments(same), trajectory([2.0, 4.0])), [np.nan, 0.0])


def test_holms_correction_is_its_definition():
    p = np.random.default_rng(0).uniform(size=30) ** 6
    rejected = {level: comparison.holm(p) <= level for level in (0.01, 0.05, 0.3)}
    for level, ours in rejected.items():  # reject in ascending order until one p exceeds level / (how many are left)
        allowed = np.sort(p) <= level / np.arange(30, 0, -1)
        assert ours.sum() == (30 if allowed.all() else np.argmin(allowed))
        assert ours.sum() == 0 or p[ours].max() <= p[~ours].min(initial=1)


def test_holm_bounds_how_often_any_record_is_falsely_outside():
    rng = np.random.default_rng(2)
    walks = rng.normal(size=(20, 1000, 8)).cumsum(2)  # runs, studies, records: dependent
    p = comparison.welch(moments(walks.reshape(20, -1)), trajectory(np.zeros(8000))).reshape(1000, 8)
    false = np.mean([(comparison.holm(row) < 0.05).any() for row in p])
    assert 0.005 < false < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_hedges_g_is_unbiased():
    rng = np.random.default_rng(3)
    runs, others = 3 + 2 * rng.normal(size=(6, STUDIES)), 2 + 2 * rng.normal(size=(5, STUDIES))
    for baseline in (moments(others), trajectory(np.full(STUDIES, 2.0))):
        g = comparison.hedges_g(moments(runs), baseline)
        assert abs(g.mean() - 0.5) < 4 * g.std() / np.sqrt(STUDIES)


@pytest.mark.long
def test_intervals_hold_what_they_are_for_in_95_of_100_studies(studies):
    group, baseline = studies
    first, second = moments(group), moments(baseline)
    ratio = comparison.ratio_of_means(first, second)
    line = comparison.ratio_of_means(first, trajectory(np.ones(STUDIES)))
    median = 2 * stats.gamma(4).median() / 4
    found = {
        "t": (*t_interval(first), 2.0),
        "median": (*quantile_interval(*in_order(group), 0.5), median),
        "bootstrap": (*bootstrap.mean_interval(group), 2.0),
        "ratio": (ratio.low, ratio.high, 2.0),
        "ratio to a trajectory": (line.low, line.high, 2.0),
        "ratio by bootstrap": (*bootstrap.ratio_interval(group, baseline), 2.0),
    }
    shares = {name: covered(*interval) for name, interval in found.items()}
    assert all(0.93 <= share <= 0.97 for share in shares.values()), shares


def test_bootstrap_against_scipy(runs):
    """The same quantiles, of other draws: they agree within what draws differ by."""
    values = runs[0][:, 0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20000, rng=0).confidence_interval
    low, high = bootstrap.mean_interval(values[:, None], resamples=20000)
    np.testing.assert_allclose((low[0], high[0]), (theirs.low, theirs.high), atol=0.02 * values.std())


def test_bootstrap_draws_whole_runs_and_leaves_out_what_is_missing(runs):
    drawn = bootstrap.resampled_means(runs[0], 500, seed=0)
    np.testing.assert_array_equal(drawn, bootstrap.resampled_means(runs[0], 500, seed=0))
    assert (drawn != bootstrap.resampled_means(runs[0], 500, seed=1)).any()
    shifted = bootstrap.resampled_means(runs[0] + [1, 2, 3, 4, 5, 6], 500, seed=0)
    np.testing.assert_allclose(shifted - drawn, np.tile([1, 2, 3, 4, 5, 6], (500, 1)), rtol=1e-12)
    drawn = bootstrap.resampled_means(np.tile(runs[0][:, :1], 3), 50, seed=0)
    alike = drawn[:, :1].repeat(3, 1)  # but for the last digit: some kernels sum the last columns otherwise
    np.testing.assert_allclose(drawn, alike, rtol=1e-14)


def test_sides_and_departure_of_a_mean_that_leaves():
    rng = np.random.default_rng(4)
    path = np.array([0, 0, 5, 0, -5, -5.0])
    found = moments(path + rng.normal(size=(50, 6)))
    line = trajectory(np.zeros(6))
    side = comparison.sides(found, line, comparison.holm(comparison.welch(found, line)))
    np.testing.assert_array_equal(side, [0, 0, 1, 0, -1, -1])
    assert comparison.departure(side) == comparison.Departure(2, 4)
    assert comparison.departure([np.nan, 0, -1, np.nan, -1, np.nan]) == comparison.Departure(2, 2)
    assert comparison.departure([0, 0]) == comparison.Departure(None, None)
    assert comparison.departure([1, 1]) == comparison.Departure(0, 0)
    assert comparison.departure([1, 0]) == comparison.Departure(0, None)


def test_a_difference_that_is_only_rounding_is_within_the_band():
    line = trajectory(np.ones(2))
    found = moments(1 + np.array([1e-7, 1e-3]) * (1 + 1e-3 * np.random.default_rng(5).normal(size=(20, 2))))
    p = comparison.holm(comparison.welch(found, line))
    assert (p < 1e-10).all()
    np.testing.assert_array_equal(comparison.sides(found, line, p, resolution=8 * np.finfo(np.float32).eps), [0, 1])


def test_what_is_not_finite_warns_of_nothing_and_stays_where_it_is(studies):
    values = studies[0][:, :5].copy()
    values[:, 4] *= 1e200
    values[1], values[:, 2], values[3, 3] = np.nan, np.nan, np.inf
    found, exact = moments(values), moments(studies[1][:, :5])
    np.testing.assert_array_equal(found.count, [69, 69, 0, 69, 69])
    assert (found.mean[3], found.std[4]) == (np.inf, np.inf)
    low, high = bootstrap.ratio_interval(values, studies[1][:, :5], resamples=100)
    told = [t_interval(found)[0], quantile(*in_order(values), 0.9), comparison.welch(found, exact), low, high]
    told += [comparison.hedges_g(found, exact), comparison.ratio_of_means(found, exact).low]
    for column in told:
        assert np.isfinite(column[:2]).all()
        assert np.isnan(column[2])
