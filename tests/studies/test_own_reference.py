"""Every run's own reference as the baseline says what the same runs say of one that stands beside them."""

from __future__ import annotations

import numpy as np
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

import dln
from dln.__main__ import main
from dln.errors import StorageError

SEED = "training.batch_seed"
AXES = {"training.lr": [0.001, 0.002], SEED: range(6)}
FIXED = {"max_steps": 12, "evaluate_every": 4, "model": {"hidden_dim": 4}, "metrics": ["layer_norms"]}
FULL = {"reference": {"training.batch_size": None}}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("own") / "s"
    dln.run_sweep({**AXES, **FIXED, **FULL, "training.batch_size": 5}, directory=directory)
    return directory


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """The same runs without references, and gradient descent beside them."""
    directory = tmp_path_factory.mktemp("beside") / "s"
    dln.run_sweep({**AXES, **FIXED, "training.batch_size": [5, None]}, directory=directory)
    return directory


def plain(table):
    """A table with the names of lane b as they are in a run alone."""
    return table.rename({name: name.replace("_b", "", 1) for name in table.columns if "_b " in name or "_b[" in name})


@pytest.mark.parametrize("of", [["test_loss"], ["test_loss_b", "layer_norms[2]"]])
def test_it_is_the_baseline_that_stands_beside_the_runs(compared, beside, of):
    found = dln.aggregate(compared, SEED, of=of, baseline="reference", resamples=100)
    names = [name.replace("_b", "") for name in of]
    other = dln.aggregate(beside, SEED, of=names, baseline={"training.batch_size": None}, resamples=100)
    other = other.filter(other["training.batch_size"] == 5).drop("training.batch_size")
    assert_frame_equal(plain(found), other, check_column_order=False)
    assert (found[f"{names[0]}_b p"].drop_nulls() < 1).any()


def test_all_columns_that_both_have_are_compared_by_default(compared, beside, capsys):
    table = dln.aggregate(compared, SEED, baseline="reference")
    assert {name.partition(" ")[0] for name in table.columns if " " in name} == {"train_loss_b", "test_loss_b"}
    main(["aggregate", str(compared), "--over", SEED, "--of", "test_loss", "--baseline", "reference"])
    assert "test_loss_b stays within the baseline's band; at step 12 it is" in capsys.readouterr().out


def test_sums_in_place_of_curves_say_the_same(compared, tmp_path):
    kept = {"aggregate.over": SEED, "aggregate.of": ["test_loss_a", "test_loss_b"]}
    dln.run_sweep({**AXES, **FIXED, **FULL, "training.batch_size": 5, **kept}, directory=tmp_path / "s")
    sums = dln.aggregate(tmp_path / "s", SEED, of="test_loss", baseline="reference", quantiles=())
    curves = dln.aggregate(compared, SEED, of="test_loss", baseline="reference", quantiles=())
    common = [name for name in curves.columns if name in sums.columns]
    assert "test_loss_b ratio high" in common
    assert_frame_equal(sums.select(common), curves.select(common), rel_tol=1e-9, abs_tol=1e-12)


def test_a_comparison_has_model_a_for_it(tmp_path):
    axes = {"shared.training.batch_seed": range(4), "training_b.batch_size": 5, "training_a.batch_size": None}
    report = dln.run_sweep({**axes, "max_steps": 4}, directory=tmp_path / "s", comparative=True)
    table = dln.aggregate(report.frame(), "training_b.batch_seed", by=[], of="test_loss", baseline="reference")
    losses = report.frame()["test_loss_a"].to_list()[0]
    assert table["test_loss_b baseline"].to_list() == losses


@pytest.mark.parametrize("kept", ["curves", "pairs", "sums"])
def test_runs_with_a_reference_each_are_compared_pair_by_pair(kept, tmp_path):
    axes = {"reference": {"training.lr": 0.001}, "training.lr": 0.0011, SEED: range(12), "training.batch_size": 2}
    short = {"max_steps": 60, "evaluate_every": 20, "model.hidden_dim": 6}
    sums = {"aggregate.over": SEED, "aggregate.of": ["test_loss_a", "test_loss_b"]}
    sums |= {"aggregate.pairs": [["test_loss_a", "test_loss_b"]]} if kept == "pairs" else {}
    report = dln.run_sweep({**axes, **short}, directory=tmp_path / "s")
    dln.run_sweep({**axes, **short, **sums}, directory=tmp_path / "sums")
    results = tmp_path / ("s" if kept == "curves" else "sums")
    table = dln.aggregate(results, SEED, of="test_loss", baseline="reference", quantiles=())[1:]  # at step 0 all agree
    a, b = (np.array(report.frame()[f"test_loss_{lane}"].to_list(), float)[:, 1:] for lane in "ab")
    test = stats.ttest_ind(b, a, equal_var=False) if kept == "sums" else stats.ttest_rel(b, a)
    np.testing.assert_allclose(table["test_loss_b p"], test.pvalue, rtol=1e-4)
    if kept != "sums":  # the delta method on the logarithm of a ratio of paired means
        spread = (b / b.mean(0) - a / a.mean(0)).std(0, ddof=1) / np.sqrt(12)
        reach = np.exp(stats.t.ppf(0.975, 11) * spread)
        np.testing.assert_allclose(table["test_loss_b ratio high"], b.mean(0) / a.mean(0) * reach, rtol=1e-6)


def test_what_has_no_reference_is_told_in_a_line(compared, beside):
    with pytest.raises(StorageError, match="have no reference: no curve test_loss_a beside test_loss_b"):
        dln.aggregate(beside, SEED, baseline="reference")
    with pytest.raises(StorageError, match="have no 'test_los' beside that of a reference, test_los_a and test_los_b"):
        dln.aggregate(compared, SEED, of="test_los", baseline="reference")
    with pytest.raises(StorageError, match="no curve 'test_los_b'; did you mean"):
        dln.aggregate(compared, SEED, of="test_los_b", baseline="reference")
