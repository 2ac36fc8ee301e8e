"""Tables of results: many files put into one, whatever their sizes, order and overlap."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dln.results import tables
from dln.results.tables import IDENTITY, gather, identities, make_table, read, write


def table(runs, source):
    """A table whose every column tells of which file a row is."""
    curves = np.array([[run, source, np.nan] for run in runs], float).reshape(len(runs), 3)
    config = {"seed": list(runs), "name": [f"file {source}"] * len(runs)}
    return make_table([f"{run:024x}" for run in runs], config, {"diverged_at": [None] * len(runs)}, {"loss": curves})


def named(runs):
    return np.array([f"{run:024x}" for run in runs], IDENTITY)


@pytest.fixture(params=[2**25, 0], ids=["held", "read anew"])
def small_groups(request, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 3)
    monkeypatch.setattr(tables, "GATHERED", request.param)


numbers = st.lists(st.integers(0, 25), min_size=1, max_size=12, unique=True)


@pytest.mark.usefixtures("small_groups")
@given(st.lists(numbers, min_size=1, max_size=4), st.lists(st.integers(0, 30), max_size=40))
def test_rows_are_gathered_in_order_each_once_and_the_first_counts(files, order):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.parquet" for i in range(len(files))]
        for i, (path, runs) in enumerate(zip(paths, files, strict=True)):
            write([table(runs, i)], path)
            assert identities(path).tolist() == named(runs).tolist()
        rows = [row for part in gather(paths, named(order)) for row in part.to_pylist()]
        everyone = [row["seed"] for part in gather(paths, named(order), others=True) for row in part.to_pylist()]
    source = {run: i for i, runs in reversed([*enumerate(files)]) for run in runs}
    assert everyone == [run for run in dict.fromkeys([*order, *itertools.chain(*files)]) if run in source]
    expected = [run for run in dict.fromkeys(order) if run in source]
    assert [row["seed"] for row in rows] == expected
    assert [row["name"] for row in rows] == [f"file {source[run]}" for run in expected]
    assert [row["loss"][:2] for row in rows] == [[run, source[run]] for run in expected]


@pytest.mark.usefixtures("small_groups")
def test_files_with_other_columns_and_kinds_are_joined(tmp_path):
    a = make_table([f"{1:024x}"], {"lr": [1], "gone": [None]}, {}, {"loss": np.ones((1, 2), np.float32)})
    b = make_table([f"{2:024x}"], {"lr": [0.5], "new": ["x"]}, {"stopped_at": [3]}, {"loss": np.ones((1, 3))})
    for name, part in (("a", a), ("b", b)):
        write([part], tmp_path / name)
    paths = [tmp_path / "a", tmp_path / "b"]
    write(gather(paths, named([2, 1])), tmp_path / "both")
    both = pq.read_table(tmp_path / "both")
    assert both["lr"].to_pylist() == [0.5, 1.0]
    assert both["new"].to_pylist() == ["x", None]
    assert both["loss"].to_pylist() == [[1.0] * 3, [1.0] * 2]
    assert both.schema.metadata == read(paths).schema.metadata
    assert read(paths).take([1, 0]).equals(both)
