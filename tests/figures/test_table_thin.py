"""Thinned curves keep every spike, and a density counts what a plain loop over curves and pixels counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dln.figures.table_thin import density, thinned

pytestmark = pytest.mark.sampled(whole_file=True)


@given(seed=st.integers(0, 1000), columns=st.integers(1, 30), gone=st.integers(0, 900))
def test_each_column_keeps_its_ends_its_lowest_and_its_highest(seed, columns, gone):
    rng = np.random.default_rng(seed)
    x, values = np.sort(rng.uniform(0, 10, 900)), rng.standard_t(2, (3, 900)).cumsum(1)
    values[1, 900 - gone :] = np.nan
    at, kept = thinned(x, values, columns)
    assert at.shape == kept.shape
    assert kept.shape[1] <= max(900 if 4 * columns >= 900 else 0, 4 * columns)
    edges = np.linspace(x[0], x[-1], columns + 1)
    edges[-1] += 1  # the last column has its end
    for run in range(3):
        assert np.all(np.diff(at[run]) >= 0)
        for low, high in itertools.pairwise(edges):
            whole = values[run][(x >= low) & (x < high)]
            left = kept[run][(at[run] >= low) & (at[run] < high)]
            if not np.isnan(whole).all():
                assert (np.nanmin(left), np.nanmax(left)) == (np.nanmin(whole), np.nanmax(whole))


def test_few_records_are_left_as_they_are():
    values = np.arange(12.0).reshape(3, 4)
    at, kept = thinned(np.arange(4), values, 1)
    np.testing.assert_array_equal(kept, values)
    np.testing.assert_array_equal(at, [np.arange(4)] * 3)


def counted(x, values, columns, rows):
    """Return how many curves pass through each pixel, by a loop over all of them."""
    count = np.zeros((len(rows) - 1, len(columns) - 1), int)
    for curve in values:
        for j, (left, right) in enumerate(itertools.pairwise(columns)):
            there = ~np.isnan(curve)
            last = x[there].max() if there.any() else -np.inf
            inside = [value for place, value in zip(x, curve, strict=True) if left <= place < right]
            ends = [np.interp(edge, x[there], curve[there]) for edge in (left, right) if x[0] <= edge <= last]
            met = [value for value in [*inside, *ends] if not np.isnan(value)]
            for i, (low, high) in enumerate(itertools.pairwise(rows)):
                count[i, j] += bool(met) and min(met) < high and max(met) >= low
    return count


@pytest.mark.parametrize("records", [1, 2, 7, 60])
def test_a_density_counts_the_curves_that_pass_through_a_pixel(records):
    rng = np.random.default_rng(records)
    x = np.sort(rng.uniform(0, 1, records))
    values = rng.normal(0, 1, (9, records))
    values[:3, records // 2 :] = np.nan  # these end before, and if there is one record, were never there
    columns, rows = np.linspace(0, 1, 14), np.linspace(-1.5, 1.5, 11)
    count, total = density(x, values, np.full(9, 2.0), columns, rows)
    np.testing.assert_array_equal(count, counted(x, values, columns, rows))
    np.testing.assert_allclose(total, 2 * count)
