"""What runs of a sweep are compared with: stored once, found again, and read as if every row held its own."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

import dln
from dln.errors import DamagedError, StorageError
from dln.results.references import REFERENCE
from dln.results.sweep import SweepStore

FIXED = {"max_steps": 12, "evaluate_every": 3, "model": {"hidden_dim": 4}, "metrics": ["layer_singular_values", "time"]}
PAIR = {"reference": {"training.batch_size": None}, "comparative_metrics": ["param_distance"], "events": ["plateaus"]}
AXES = {"training.lr": [0.001, 0.002], "training.batch_size": 5, "training.batch_seed": range(3)}


def swept(directory, **change):
    return dln.run_sweep({**AXES, **FIXED, **PAIR, **change}, directory=directory)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    directory = tmp_path_factory.mktemp("references") / "s"
    swept(directory)
    return directory


def copied(sweep, tmp_path):
    return shutil.copytree(sweep, tmp_path / "s")


def held(directory):
    """How many rows of a sweep hold lane a themselves."""
    rows = pq.read_table(directory / "results.parquet")
    return len(rows) - rows["test_loss_a"].null_count


def assert_same_frames(one, other):
    assert one.columns == other.columns
    assert one.sort("run").equals(other.sort("run"), null_equal=True)


def test_each_is_the_run_alone_to_the_last_bit(sweep, tmp_path):
    assert held(sweep) == 0
    references = dln.load_sweep(sweep / "references", constants=True)
    alone = {**AXES, "training.batch_size": None, "training.batch_seed": 0}  # the full batch has no seed
    run = dln.run_sweep({**alone, **FIXED, "events": ["plateaus"]}, directory=tmp_path / "s")
    assert_same_frames(references, run.frame(constants=True))


def test_rows_are_read_with_their_references(sweep):
    frame = dln.load_sweep(sweep)
    assert REFERENCE not in frame.columns
    assert dln.scan_sweep(sweep).collect().select(frame.columns).equals(frame, null_equal=True)
    for row in frame.iter_rows(named=True):
        training = {"batch_size": 5, "lr": row["training.lr"], "batch_seed": row["training.batch_seed"]}
        alone = dln.run_experiment({**FIXED, **PAIR, "training": training})
        assert {name for name in alone.names if name not in row} == set()
        for name in alone.names:
            np.testing.assert_array_equal(np.array(row[name], np.float32), alone[name].astype(np.float32), err_msg=name)
    few = dln.load_sweep(sweep, ["test_loss_a"])
    assert few.columns == ["run", "training.lr", "training.batch_seed", "test_loss_a"]
    assert few["test_loss_a"].equals(frame["test_loss_a"])
    table = dln.aggregate(sweep, "training.batch_seed", of=["test_loss_a"])
    assert (table["test_loss_a std"] == 0).all()
    assert dln.to_xarray(frame)["layer_singular_values_a.1"].notnull().all()


def test_what_is_gone_or_damaged_is_told_and_computed_again(sweep, tmp_path):
    directory = copied(sweep, tmp_path)
    before = dln.load_sweep(directory)
    shutil.rmtree(directory / "references")
    for read in (dln.load_sweep, dln.scan_sweep):
        with pytest.raises(StorageError, match=r"2 references of runs in .* computes them anew"):
            read(directory)
    assert swept(directory).found == 0
    assert_same_frames(dln.load_sweep(directory), before)
    path = directory / "references" / "results.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedError):
        dln.load_sweep(directory)
    again = swept(directory)
    assert (again.found, again.damaged) == (0, ["results.parquet"])
    assert_same_frames(dln.load_sweep(directory), before)
    assert swept(directory).found == 6


def test_later_runs_find_what_is_stored(sweep, tmp_path):
    directory = copied(sweep, tmp_path)
    stored = (directory / "references" / "results.parquet").read_bytes()
    report = swept(directory, **{"training.batch_seed": range(4)})
    assert (report.found, report.finished, held(directory)) == (6, 2, 0)
    assert (directory / "references" / "results.parquet").read_bytes() == stored
    whole = swept(tmp_path / "whole", **{"training.batch_seed": range(4)})
    assert_same_frames(whole.frame(), report.frame())


def test_a_row_holds_a_reference_that_no_other_shares(tmp_path):
    """As rows of sweeps do that were stored before, which are read and extended."""
    first = swept(tmp_path / "s", **{"training.batch_seed": 0})
    assert held(tmp_path / "s") == 2
    assert not (tmp_path / "s" / "references").exists()
    before = first.frame()
    assert before["test_loss_a"].null_count() == 0
    report = swept(tmp_path / "s")
    assert held(tmp_path / "s") == 2
    assert_same_frames(report.frame(), swept(tmp_path / "whole").frame())


def test_sweeps_are_merged_with_their_references(sweep, tmp_path):
    other = swept(tmp_path / "other", **{"training.lr": [0.002, 0.003], "training.batch_seed": range(2, 5)})
    assert dln.merge_sweeps([sweep, tmp_path / "other"], tmp_path / "both") == 6 + 6 - 1
    both = dln.load_sweep(tmp_path / "both")
    assert len(dln.load_sweep(tmp_path / "both" / "references")) == 3
    for part in (dln.load_sweep(sweep), other.frame()):
        assert_same_frames(both.filter(both["run"].is_in(part["run"].to_list())), part)


def test_references_that_end_early_are_left_to_the_rows(tmp_path):
    """Of one that diverged, or was stopped, the runs may go on and say more."""
    stop = [{"name": "stop_at_loss", "params": {"target": 1e9}}]
    for name, reference in {"diverges": {"training.lr": 1e3}, "stops": {"callbacks": stop}}.items():
        directory = tmp_path / name
        change = {"reference": {"training.batch_size": None, **reference}, "events": []}
        frame = swept(directory, **change, **{"training.lr": 0.001}).frame()
        assert held(directory) == 3
        alone = dln.run_experiment({**FIXED, **PAIR, **change, "training": {"batch_size": 5, "batch_seed": 0}})
        row = frame.filter(frame["training.batch_seed"] == 0).row(0, named=True)
        np.testing.assert_array_equal(np.array(row["step"]), alone["step"])


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_lane_a_of_a_comparison_is_stored_once_too(tmp_path, engine):
    axes = {"shared.training.batch_seed": range(3), "training_b.batch_size": 5, "engine": engine}
    fixed = {"max_steps": 4, "shared": {"model": {"hidden_dim": 4}}, "comparative_metrics": ["param_distance"]}
    frame = dln.run_sweep({**axes, **fixed}, directory=tmp_path / "s", comparative=True).frame()
    assert held(tmp_path / "s") == 0
    (reference,) = dln.load_sweep(tmp_path / "s" / "references").iter_rows(named=True)
    alone = dln.run_experiment({"max_steps": 4, "model": {"hidden_dim": 4}, "engine": engine})
    np.testing.assert_array_equal(reference["train_loss"], alone["train_loss"].astype(np.float32))
    assert all(losses == reference["train_loss"] for losses in frame["train_loss_a"].to_list())


@pytest.mark.long
def test_workers_write_what_their_runs_share_at_the_same_time(tmp_path, sweep):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = {"hydra.launcher.n_jobs": 2, "hydra.sweeper.members": 2}
    report = dln.run_sweep({**AXES, **FIXED, **PAIR, **joblib}, directory=tmp_path / "s", launcher="joblib")
    assert report.found == 0
    assert_same_frames(dln.load_sweep(tmp_path / "s"), dln.load_sweep(sweep))


def test_an_unfinished_sweep_is_read_too(sweep, tmp_path):
    """Parts, and two of them with one reference, as several workers leave them."""
    directory = copied(sweep, tmp_path)
    store = SweepStore(directory)
    for one in (store, store.references):
        rows = pq.read_table(one.directory / "results.parquet")
        (one.directory / "parts").mkdir(exist_ok=True)
        for part in [rows[:1], rows[1:]] if one is store else [rows, rows]:
            one.write(part.replace_schema_metadata(rows.schema.metadata))
        (one.directory / "results.parquet").unlink()
    assert_same_frames(dln.load_sweep(directory), dln.load_sweep(sweep))
    assert_same_frames(dln.scan_sweep(directory).collect(), dln.scan_sweep(sweep).collect())
