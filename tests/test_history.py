"""Records as columns and frames."""

import math

import numpy as np
import pytest

from dln import History

RECORDS = [
    {"step": 0, "loss": 2.0, "norms": [1.0, 2.0]},
    {"step": 5, "loss": math.nan, "norms": [3.0, 4.0]},
    {"step": 9, "norms": [5.0, 6.0]},
]


def test_columns_are_arrays_with_nan_where_a_value_is_missing():
    history = History(RECORDS)
    assert history["step"].dtype == np.int64
    assert history["norms"].shape == (3, 2)
    assert history["loss"][0] == 2.0
    assert np.isnan(history["loss"][1:]).all()
    assert list(history.columns) == ["step", "loss", "norms"]
    assert len(history) == 3
    assert history.final is RECORDS[-1]


def test_a_vector_that_goes_missing_is_a_row_of_nan():
    history = History([RECORDS[0], {"step": 1}])
    np.testing.assert_array_equal(history["norms"], [[1, 2], [np.nan, np.nan]])


def test_an_unknown_column_is_an_error_that_lists_what_exists():
    with pytest.raises(KeyError, match=r"did you mean 'norms'.*known: loss, norms, step"):
        History(RECORDS)["norm"]


def test_frames_hold_the_columns():
    history = History(RECORDS)
    polars, pandas = history.to_polars(), history.to_pandas()
    assert polars["norms"].to_list() == [[1, 2], [3, 4], [5, 6]]
    assert polars["step"].to_list() == pandas["step"].tolist() == [0, 5, 9]
    assert pandas["norms"][1] == [3.0, 4.0]
    assert len(polars) == len(pandas) == 3


def test_an_empty_history_has_no_columns():
    history = History()
    assert (history.final, history.names, history.diverged_at) == ({}, [], None)


def test_of_two_lanes_the_first_to_diverge_is_named():
    events = {"stopped_at_a": 1, "diverged_at_a": 7, "diverged_at_b": 3}
    assert History([], events).diverged_at == 3
