"""The mean end-to-end map over runs of a real sweep: its entries, its modes, and how they differ from the runs'."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

import dln
from dln.errors import ConfigError, StorageError

SIZE, SEED = "training.batch_size", "training.batch_seed"
TEACHER = {"matrix": "diagonal", "scale": 5.0}


SETTINGS = {
    SEED: range(5),
    SIZE: [1, 2],
    "model": {"in_dim": 3, "out_dim": 2, "num_hidden": 1, "hidden_dim": 4},
    "data": {"params": TEACHER, "rotate": True, "train_samples": 8},
    "training.lr": 0.02,
    "metrics": [["end_to_end_map", "singular_values", "mode_strengths"]],
    "max_steps": 20,
    "evaluate_every": 10,
    "dtype": "float64",
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    report = dln.run_sweep(SETTINGS, directory=tmp_path_factory.mktemp("maps") / "sweep")
    return report.directory


@pytest.fixture(scope="module")
def frame(sweep):
    return dln.load_sweep(sweep)


@pytest.fixture(scope="module")
def maps(sweep):
    teacher = dln.linear_teacher(3, 2, TEACHER, rotate=True).teacher
    return dln.mean_map(sweep, SEED, teacher=teacher)


def runs_of(frame, row, name):
    place = row["step"] // 10
    return np.array([run[name][place] for run in frame.filter(pl.col(SIZE) == row[SIZE]).iter_rows(named=True)])


def test_it_is_the_mean_of_the_runs_maps_entry_by_entry(frame, maps):
    assert maps.select(SIZE, "step").rows() == [(size, step) for size in (1, 2) for step in (0, 10, 20)]
    for row in maps.iter_rows(named=True):
        entries = np.stack([runs_of(frame, row, f"end_to_end_map.{i}") for i in (1, 2)], 1)
        assert row["count"] == row["runs"] == 5
        np.testing.assert_allclose(row["mean"], entries.mean(0), rtol=1e-12)
        np.testing.assert_allclose(row["error"], stats.sem(entries), rtol=1e-9, atol=1e-15)


def test_its_modes_are_no_means_of_modes(frame, maps):
    """Norms are convex; strengths along fixed directions are linear; all runs begin alike."""
    for row in maps.iter_rows(named=True):
        values = runs_of(frame, row, "singular_values").mean(0)
        apart = values[0] - row["singular_values"][0]
        assert abs(apart) < 1e-14 if row["step"] == 0 else apart > 1e-6
        np.testing.assert_allclose(row["strengths"], runs_of(frame, row, "mode_strengths").mean(0), rtol=1e-10)


def test_of_one_run_it_is_the_runs_own(frame):
    some = frame.filter((pl.col(SIZE) == 1) | (pl.col(SEED) == 3))
    last = dln.mean_map(some, SEED).filter(pl.col(SIZE) == 2, step=20).row(0, named=True)
    own = frame.filter((pl.col(SIZE) == 2) & (pl.col(SEED) == 3)).row(0, named=True)
    np.testing.assert_array_equal(last["mean"], [own[f"end_to_end_map.{i}"][-1] for i in (1, 2)])
    np.testing.assert_allclose(last["singular_values"], own["singular_values"][-1], rtol=1e-14)
    assert last["error"] is None


def test_sums_of_entries_do_as_well(sweep, maps, tmp_path):
    kept = [f"end_to_end_map.{i}[{j}]" for i in (1, 2) for j in (1, 2, 3)]
    dln.run_sweep({**SETTINGS, "aggregate": {"over": SEED, "of": kept}}, directory=tmp_path / "sums")
    found = dln.mean_map(tmp_path / "sums", SEED)
    for name in ("mean", "error", "singular_values"):
        np.testing.assert_allclose(found[name].to_numpy(), maps[name].to_numpy(), rtol=1e-9, atol=1e-15)


def test_what_has_no_map_is_named(frame):
    with pytest.raises(StorageError, match=r"no whole 'end_to_end_map_a'.*metrics=\[end_to_end_map\]"):
        dln.mean_map(frame, SEED, of="end_to_end_map_a")
    with pytest.raises(ConfigError, match=r"\[2, 3\], not one of \[3, 3\]"):
        dln.mean_map(frame, SEED, teacher=np.eye(3))
