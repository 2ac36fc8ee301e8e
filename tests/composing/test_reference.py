"""Runs with a reference: a comparison whose lane a is the reference and whose lane b is the run."""

from __future__ import annotations

import numpy as np
import pytest

import dln
from dln.errors import ConfigError

SHORT = {"max_steps": 12, "evaluate_every": 4, "model": {"hidden_dim": 4}}
METRICS = {"metrics": ["weight_norm"], "comparative_metrics": ["param_distance"]}
SWITCH = {"name": "switch_batch_size", "params": {"step": 6, "batch_size": None}}


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_a_run_and_its_reference_go_as_they_would_alone(engine):
    own = {"training": {"batch_size": 5, "lr": 0.002, "model_seed": 3}, "engine": engine, "callbacks": [SWITCH]}
    reference = {"training.batch_size": None, "training": {"lr": 0.001}, "callbacks": []}
    both = dln.run_experiment({**SHORT, **own, **METRICS, "reference": reference})
    run = dln.run_experiment({**SHORT, **own, "metrics": ["weight_norm"]})
    other = {**own, "training": {"lr": 0.001, "model_seed": 3}, "callbacks": []}
    of_reference = dln.run_experiment({**SHORT, **other, "metrics": ["weight_norm"]})
    for name in ("train_loss", "test_loss", "weight_norm"):
        np.testing.assert_array_equal(both[f"{name}_a"], of_reference[name])
        np.testing.assert_array_equal(both[f"{name}_b"], run[name])
    lanes = {"shared": {"model": SHORT["model"], "training": own["training"]}, "callbacks_b": [SWITCH]}
    steps = {"max_steps": 12, "evaluate_every": 4, "engine": engine}
    recorded = {"model_metrics": ["weight_norm", "time"], "comparative_metrics": ["param_distance"]}
    compared = dln.run_experiment({**lanes, **steps, **recorded, "training_a": {"batch_size": None, "lr": 0.001}})
    assert both.records == compared.records


def test_one_more_trajectory_is_computed_a_cell_and_rows_are_runs_alone(tmp_path):
    axes = {"training.lr": [0.001, 0.002], "training.batch_size": [1, 5], "training.batch_seed": range(4)}
    reference = {"reference": {"training.batch_size": None}}
    report = dln.run_sweep({**axes, **SHORT, **METRICS, **reference}, directory=tmp_path / "s")
    assert (report.finished, report.lanes, report.trajectories) == (16, 32, 16 + 4)
    again = dln.run_sweep({**axes, **SHORT, **METRICS, **reference}, directory=tmp_path / "s")
    assert (again.found, again.done) == (16, 0)
    for row in report.frame().iter_rows(named=True):
        training = {key: row[f"training.{key}"] for key in ("lr", "batch_size", "batch_seed")}
        alone = dln.run_experiment({**SHORT, **METRICS, **reference, "training": training})
        for name in ("train_loss_a", "test_loss_b", "param_distance"):
            np.testing.assert_array_equal(np.float32(row[name]), alone[name].astype(np.float32))
        where, gap = dln.loss_gap(row)
        np.testing.assert_array_equal(where, alone["step"])
        np.testing.assert_allclose(gap, alone["test_loss_a"] - alone["test_loss_b"], rtol=1e-4, atol=1e-5)


def test_the_time_that_is_recorded_unasked_is_a_column_like_others():
    history = dln.run_experiment({**SHORT, "reference": {"training.lr": 0.001}, "objective": "time_b"})
    assert {"time_a", "time_b"} <= history.columns.keys()
    other = dln.run_experiment({**SHORT, "reference": {"training.lr": 0.001}, "metrics": ["time", "weight_norm"]})
    np.testing.assert_array_equal(history["time_b"], other["time_b"])


def test_at_equal_time_runs_are_as_far_from_their_reference_as_theory_says(tmp_path):
    """Gradient descent is off gradient flow by c(t) lr, so a run and its reference are c(t) times their rates apart."""
    axes = {"training.lr": [0.002, 0.001], "evaluate_every": [2, 5]}
    fixed = {"reference": {"training.lr": 0.00025}, "max_steps": 800, "dtype": "float64", "model": {"hidden_dim": 4}}
    report = dln.run_sweep({**axes, **fixed}, directory=tmp_path / "s", zip=[*axes])
    dense = dln.run_experiment({**fixed, "reference": {}, "training": {"lr": 0.00025}})
    gaps = {}
    for row in report.frame().iter_rows(named=True):
        time, gap = dln.loss_gap(row, "time")
        assert time[-1] == pytest.approx(0.2)
        np.testing.assert_allclose(dln.loss_gap(row, "time", rates=(0.00025, row["training.lr"])), (time, gap))
        lane = {name: row[f"{name}_b"] for name in ("time", "test_loss")}
        when, apart = dln.loss_gap(row, "time", reference=dense, rates=(0.00025, row["training.lr"]))  # at b's records
        assert when.tolist() == [t for t in lane["time"] if t <= 0.2 + 1e-12]
        losses = np.interp(when, 0.00025 * dense["step"], dense["test_loss"]) - lane["test_loss"][: len(when)]
        np.testing.assert_allclose(apart, losses)
        gaps[row["training.lr"]] = gap[-1], apart[-1]
    for which in (0, 1):
        ratio = gaps[0.002][which] / gaps[0.001][which]
        assert ratio == pytest.approx((0.002 - 0.00025) / (0.001 - 0.00025), rel=0.05)


def test_run_experiments_trains_runs_with_references_together():
    configs = [{**SHORT, "training": {"lr": lr}, "reference": {"training.lr": 0.01}} for lr in (0.001, 0.002)]
    together = dln.run_experiments(configs)
    assert [h.records for h in together] == [dln.run_experiment(config).records for config in configs]
    with pytest.raises(ConfigError, match=r"configs\[1\]: reference equals the run: training.lr is 0.01 in both"):
        dln.run_experiments([*configs[:1], {**configs[0], "training": {"lr": 0.01}}])


@pytest.mark.parametrize(
    ("swept", "reference"),
    [
        ({"training.batch_size": [5, None]}, {"training.batch_size": None}),
        ({"training.lr": [0.002, 0.001]}, {"training.lr": 0.001}),
        ({"training.batch_seed": range(5), "training.lr": [0.1, 0.2]}, {"training": {"batch_seed": 3, "lr": 0.2}}),
    ],
)
def test_a_cell_that_equals_its_reference_is_refused_before_anything_runs(tmp_path, swept, reference):
    with pytest.raises(ConfigError, match="reference equals the run"):
        dln.run_sweep({**swept, **SHORT, "reference": reference}, directory=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_zipped_keys_are_equal_only_where_all_of_them_are(tmp_path):
    swept = {"training.batch_seed": [1, 2], "training.lr": [0.001, 0.002], "training.batch_size": 5}
    reference = {"reference": {"training.batch_seed": 1, "training.lr": 0.002}}
    report = dln.run_sweep(
        {**swept, **SHORT, **reference}, directory=tmp_path / "s", zip=["training.batch_seed", "training.lr"]
    )
    assert report.finished == 2


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (["reference={training.batch: 5}"], "a reference has no 'training.batch' of its own; did you mean"),
        (["reference={data.noise_std: 1}"], "a reference has no 'data.noise_std' of its own"),
        (["reference={data.noise_std: 1}"], "both see the same data"),
        (["reference={engine: autograd}"], "one engine trains both, step by step; run it alone on the other"),
        (
            ["reference={evaluate_every: 1}"],
            r"it is recorded where its run is; .*dln.loss_gap\(..., reference=history\)",
        ),
        (["reference={max_steps: 1}"], "it goes as far as its run"),
        (["reference={training.lr: 0.1}", "training_b.lr=1"], "a comparison has one already: model a"),
        (["reference={model.num_hidden: 1}", "comparative_metrics=[param_distance]"], "have no distance.*end_to_end"),
        (["reference={model.in_dim: 3}"], "a reference has no 'model.in_dim' of its own"),
        (["reference={training.lr: x}"], "reference.training.lr: Value 'x'"),
        (["reference={training.lr: -1}"], "reference.training.lr must be greater than 0"),
        (["reference={training.batch_size: 1000}"], "reference.training.batch_size is 1000 but there are only"),
        (["reference={training.optimizer: Sgd}"], "reference.training.optimizer"),
        (["reference={callbacks: [{name: no_such}]}"], r"reference.callbacks\[0\]"),
        (["reference={training.batch_size: 5}", "comparative_metrics=[no_such]"], "no_such"),
        (["reference={training.optimizer_params: 1}"], "reference.training.optimizer_params must be a mapping"),
        (["reference=[training.lr]"], "reference"),
    ],
)
def test_bad_references_are_told_in_a_line(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        dln.run_experiment(config)
    assert "\n" not in str(caught.value)


def test_a_run_and_its_reference_go_on_from_a_checkpoint(tmp_path):
    config = {**SHORT, "training": {"batch_size": 5}, "reference": {"training.batch_size": None}}
    whole = dln.run_experiment({**config, "checkpoint_at": [8]}, directory=tmp_path / "run")
    rest = dln.run_experiment({**config, "resume": str(tmp_path / "run/checkpoints/step_00000008_a.npz")})
    assert rest.records == whole.records[2:]


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_a_reference_may_be_of_another_depth_and_width(engine):
    """The maps are compared, and each goes as it would alone."""
    own = {"max_steps": 6, "model": {"num_hidden": 2, "hidden_dim": 4}, "engine": engine}
    other = {"num_hidden": 1, "hidden_dim": 3}
    metrics = {"comparative_metrics": ["end_to_end_distance", "prediction_distance"]}
    both = dln.run_experiment({**own, **metrics, "reference": {f"model.{key}": value for key, value in other.items()}})
    for suffix, model in {"_a": other, "_b": own["model"]}.items():
        alone = dln.run_experiment({**own, "model": model})
        np.testing.assert_array_equal(both[f"test_loss{suffix}"], alone["test_loss"])
    assert (both["end_to_end_distance"] > 0).all()


def test_metrics_of_a_pair_need_one():
    with pytest.raises(ConfigError, match="comparative_metrics are of two models: set reference"):
        dln.run_experiment(["comparative_metrics=[param_distance]"], comparative=False)
    history = dln.run_experiment(["comparative_metrics=[param_distance]", "max_steps=1"])  # of a comparison, as before
    assert "param_distance" in history
