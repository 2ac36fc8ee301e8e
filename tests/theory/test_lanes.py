"""Predictions recorded beside runs, by both engines: a theory that is right to the last digit says what a run is."""

import json

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import dln
from dln.config import MetricConfig
from dln.data import Dataset, linear_teacher
from dln.errors import ConfigError, ExtensionError
from dln.metrics import COMPARATIVE_METRICS, Metric
from dln.predictions import OF_PAIRS
from dln.theory import THEORIES, Prediction, register_theory
from dln.theory.lanes import is_of_map
from dln.theory.samples import Samples
from tests import naive

ENGINES = pytest.mark.parametrize("engine", ["autograd", "compiled"])
MAP_METRICS = ["singular_values", "mode_strengths", "mode_alignments", "teacher_distance", "end_to_end_norm"]
SHORT = {"max_steps": 12, "evaluate_every": 4, "dtype": "float64", "model": {"hidden_dim": 4, "num_hidden": 2}}
TRAINING = {"lr": 0.01}


@pytest.fixture
def replayed():
    """A theory that makes the steps of gradient descent itself, one run at a time, by plain numpy."""
    asked = []

    @register_theory("replay", columns=["excess_loss"])
    def replay(problem, steps, shift: float = 0.0):
        """Gradient descent."""
        asked.append((len(problem), steps.tolist()))
        if shift > 5:
            raise ConfigError(f"a shift of {shift} is too much")
        maps = np.stack([alone(problem.of(run), steps) for run in range(len(problem))])
        zero = np.zeros(maps.shape[:2])
        return Prediction(maps + shift, {"excess_loss": zero}, {"shift": shift + problem.lr})

    yield asked
    del THEORIES._entries["replay"]


def alone(problem, steps):
    layers, maps = [w[0] for w in problem.layers], {}
    biases = [np.zeros(len(w)) for w in layers]
    for step in range(max(steps) + 1):
        maps[step] = np.linalg.multi_dot(layers[::-1])
        gradients, _ = naive.gradients(layers, biases, problem.inputs[0], problem.targets[0])
        layers = [w - problem.lr[0] * g for w, g in zip(layers, gradients, strict=True)]
    return np.stack([maps[step] for step in steps])


@ENGINES
def test_what_is_derived_of_a_prediction_is_what_is_recorded_of_a_run(replayed, engine):
    config = {**SHORT, "training": TRAINING, "metrics": [*MAP_METRICS, "weight_norm"], "engine": engine}
    run = dln.run_experiment({**config, "theory": ["replay"], "theory_metrics": ["end_to_end_distance", "mode_angles"]})
    for name in ("train_loss", "test_loss", *MAP_METRICS):
        np.testing.assert_allclose(run[f"{name}_replay"], run[name], rtol=1e-10, atol=1e-12)
    assert run["end_to_end_distance_replay"].max() < 1e-13
    assert run["mode_angles_replay.left"].max() < 1e-6
    assert "weight_norm_replay" not in run.names  # is of layers
    assert run.events == {"shift_replay": TRAINING["lr"]}
    without = dln.run_experiment(config)
    for name in without.names:
        np.testing.assert_array_equal(run[name], without[name])
    assert replayed == [(1, [0, 4, 8, 12])]


@ENGINES
def test_each_lane_of_a_comparison_has_its_own(replayed, engine):
    theory = ["replay", {"name": "replay", "label": "off", "params": {"shift": 0.5}}]
    lanes = {"training_a": {"lr": 0.02}, "training_b": {"batch_size": 7}, "shared": {"model": SHORT["model"]}}
    steps = {key: SHORT[key] for key in ("max_steps", "evaluate_every", "dtype")}
    run = dln.run_experiment({**steps, **lanes, "theory": theory, "engine": engine})
    np.testing.assert_allclose(run["test_loss_replay_a"], run["test_loss_a"], rtol=1e-12)
    assert run["end_to_end_distance_replay_a"].max() < 1e-13
    assert (run["end_to_end_distance_replay_b"][1:] > 1e-6).all()  # its batches are not the whole set
    np.testing.assert_allclose(run["end_to_end_distance_off_a"], 0.5 * 5)  # of 25 entries
    assert run.events["shift_off_b"] == 0.5 + 0.0005


@ENGINES
def test_a_run_has_the_same_prediction_alone_and_in_company_which_is_found_once(replayed, engine):
    def config(seed, batch_seed):
        training = {**TRAINING, "model_seed": seed, "batch_seed": batch_seed, "batch_size": 5}
        return {**SHORT, "training": training, "theory": ["replay"], "metrics": MAP_METRICS, "engine": engine}

    runs = dln.run_experiments([config(seed, batch) for seed in range(2) for batch in range(3)])
    assert engine == "autograd" or replayed == [(2, [0, 4, 8, 12])]
    for number, run in enumerate(runs):
        other = dln.run_experiment(config(*divmod(number, 3)))
        assert str(run.records) == str(other.records)  # of which some are NaN
        assert run.events == other.events


def test_a_run_that_is_stopped_between_records_has_its_prediction_there(replayed):
    stop = {"callbacks": [{"name": "stop_at_loss", "params": {"target": 40.0}}], "theory": ["replay"]}
    ends = []
    for engine in ("autograd", "compiled"):
        run = dln.run_experiment({**SHORT, **stop, "training": TRAINING, "engine": engine})
        assert run["step"][-1] == run.events["stopped_at"]
        assert run.events["stopped_at"] % 4
        np.testing.assert_allclose(run["test_loss_replay"], run["test_loss"], rtol=1e-12)
        ends.append(run.events["stopped_at"])
    assert ends[0] == ends[1]


def test_a_run_that_goes_on_is_compared_from_its_first_step_on(replayed, tmp_path):
    config = {**SHORT, "training": TRAINING, "theory": ["replay"]}
    dln.run_experiment({**config, "checkpoint_at": [8]}, directory=tmp_path / "run")
    [saved] = (tmp_path / "run/checkpoints").glob("*8.npz")
    rest = dln.run_experiment({**config, "resume": str(saved)})
    assert rest["step"].tolist() == [8, 12]
    assert rest["end_to_end_distance_replay"].max() < 1e-13


def test_sweeps_keep_predictions_and_how_good_they_are(replayed, tmp_path):
    base = {key: SHORT[key] for key in ("max_steps", "evaluate_every")}
    axes = {"training.lr": [0.001, 0.01], "training.batch_size": 5, "training.batch_seed": range(3)}
    report = dln.run_sweep({**base, **axes, "theory": ["replay"]}, directory=tmp_path / "curves")
    assert report.finished == 6
    frame = dln.load_sweep(tmp_path / "curves")
    assert frame["shift_replay"].to_list() == frame["training.lr"].to_list()
    assert frame["test_loss_replay"].n_unique() == 2
    kept = {"aggregate": {"over": "training.batch_seed", "of": ["test_loss", "test_loss_replay"]}}
    dln.run_sweep({**base, **axes, **kept, "theory": ["replay"]}, directory=tmp_path / "sums")
    names = ["test_loss", "test_loss_replay"]
    one, other = (dln.aggregate(tmp_path / place, over="training.batch_seed", of=names) for place in ("curves", "sums"))
    assert one["test_loss_replay std"].to_list() == [0.0] * 8
    for name in names:
        np.testing.assert_allclose(one[f"{name} mean"], other[f"{name} mean"], rtol=1e-12)
    dln.run_experiment({**SHORT, "theory": ["replay"]}, directory=tmp_path / "run")
    told = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))
    assert told["events"] == {"shift_replay": 0.0005}


def test_columns_of_predictions_can_be_goals_and_events(replayed):
    config = {**SHORT, "training": TRAINING, "theory": ["replay"], "metrics": ["teacher_distance", "singular_values"]}
    flat = {"name": "plateaus", "params": {"column": "test_loss_replay"}}
    run = dln.run_experiment({**config, "events": [flat], "objective": "teacher_distance_replay"})
    assert run.events["plateaus.level"] == []
    assert dln.objective(run, "teacher_distance_replay") == run["teacher_distance_replay"][-1]
    for odd in ("test_loss_replayed", "singular_values_replay", "excess_loss"):
        with pytest.raises(ConfigError, match="objective"):
            dln.run_experiment({**config, "objective": odd})


def test_metrics_of_a_run_and_a_prediction_are_those_of_maps():
    ours = [entry.name for entry in COMPARATIVE_METRICS if entry.function.__module__.startswith("dln.")]
    ours = [name for name in ours if is_of_map(Metric(COMPARATIVE_METRICS, MetricConfig(name)))]
    assert sorted(ours) == sorted(OF_PAIRS)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"theory": ["rplay"]}, r"theory\[0\]: unknown theory 'rplay'; did you mean 'replay'"),
        ({"theory": ["replay", "replay"]}, "two theories are called 'replay'"),
        (
            {"theory": ["replay", {"name": "replay", "label": "my_replay"}]},
            "also end in 'replay', so they would not be",
        ),
        ({"theory": [{"name": "replay", "params": {"shft": 1}}]}, r"theory\[0\].params.shft"),
        ({"theory": "replay", "theory_metrics": ["param_distance"]}, "is of layers, and a theory predicts the end-to"),
        ({"theory": "replay", "model": {"bias": True}}, "leave out model.bias=true"),
        ({"theory": "replay", "training": {"optimizer": "Adam"}}, "leave out training.optimizer=Adam"),
        ({"theory": "replay", "training": {"optimizer_params": {"momentum": 0.9}}}, "'momentum': 0.9"),
        ({"theory": "replay", "training": {"criterion": "L1Loss"}}, "leave out training.criterion=L1Loss"),
        ({"theory": "replay", "training": {"lr_factors": [1, 1, 0]}}, "leave out training.lr_factors"),
        ({"theory": "replay", "callbacks": [{"name": "kick", "params": {"step": 1, "size": 1.0}}]}, r"\(kick\)"),
        ({"theory": "replay", "metrics": [{"name": "drift", "label": "test_loss_replay"}]}, "'test_loss_replay'"),
    ],
)
def test_what_no_theory_speaks_of_is_told_before_anything_runs(replayed, config, told):
    merged = OmegaConf.to_container(OmegaConf.merge(SHORT, config))
    with pytest.raises(ConfigError, match=told):
        dln.run_experiment(merged)
    assert not replayed


def test_outside_its_domain_a_theory_costs_only_the_runs_it_does_not_hold_for(replayed, tmp_path):
    @register_theory("slow_only")
    def slow_only(problem, steps):
        """Nothing moves."""
        if (problem.lr > 0.005).any():
            raise ConfigError(f"theory slow_only needs lr at most 0.005, and it is {problem.lr.max()}")
        return Prediction(np.repeat(problem.start[:, None], len(steps), 1))

    base = {key: SHORT[key] for key in ("max_steps", "evaluate_every")}
    try:
        report = dln.run_sweep(
            {**base, "training.lr": [0.001, 0.01, 0.002], "theory": ["slow_only"]}, directory=tmp_path / "sweep"
        )
    finally:
        del THEORIES._entries["slow_only"]
    assert (report.finished, len(report.failed)) == (2, 1)
    assert "needs lr at most 0.005, and it is 0.01" in report.failed[0][1]


def test_runs_of_one_ensemble_are_refused_for_their_own_inputs_alone(tmp_path):
    online = {"data.online": True, "training.batch_size": 4, "model.hidden_dim": 4, "model.num_hidden": 1}
    steps = {"max_steps": 4, "evaluate_every": 2}
    report = dln.run_sweep(
        {**online, **steps, "data.inputs": ["gaussian", "sphere"], "theory": ["sgd_mean"]}, directory=tmp_path / "s"
    )
    assert (report.finished, len(report.failed)) == (1, 1)
    [(overrides, told)] = report.failed
    assert 'data.inputs="sphere"' in overrides
    assert "known for data.inputs=gaussian only" in told


def test_a_theory_that_returns_something_else_is_told_of(replayed):
    for wrong, told in (
        ({"maps": np.zeros((1, 3, 5, 5))}, r"returned 'maps' of \[1, 3\]; it must begin with \[1, 4\]"),
        ({"columns": {"loss": np.zeros((1, 4))}}, r"registered for: columns \[\], maps: True; it returned columns"),
    ):

        def odd(problem, steps, wrong=wrong):
            """Odd."""
            return Prediction(**wrong)

        register_theory("odd")(odd)
        try:
            with pytest.raises(ExtensionError, match=told):
                dln.run_experiment({**SHORT, "theory": ["odd"]})
        finally:
            del THEORIES._entries["odd"]


def test_a_few_samples_have_the_loss_of_all():
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((40, 3)), rng.standard_normal((40, 2)), rng.standard_normal((1, 7, 2, 3))
    few = Samples.of([Dataset.from_arrays(x, y)], "train")
    assert few.inputs.shape == (1, 5, 3)
    np.testing.assert_allclose(few.losses(w)[0], ((x @ w[0].mT - y) ** 2).mean((1, 2)), rtol=1e-13)
    exact = Samples.of([Dataset.from_arrays(x, x @ w[0, 0].T)], "train")
    assert exact.losses(w[:, :1]) < 1e-29  # squares of rounding errors, not rounding errors of squares


def test_online_losses_are_those_of_the_population():
    data = {"online": True, "noise_std": 0.3, "inputs": "power_law", "params": {"matrix": "random_normal"}}

    @register_theory("start")
    def start(problem, steps):
        """Nothing moves."""
        return Prediction(np.repeat(problem.start[:, None], len(steps), 1), {}, {"loss": problem.losses(problem.start)})

    try:
        training = {"batch_size": 4000, "lr": 1e-9}
        run = dln.run_experiment({**SHORT, "data": data, "training": training, "theory": ["start"]})
    finally:
        del THEORIES._entries["start"]
    np.testing.assert_allclose(run["train_loss_start"], run.events["loss_start"], rtol=1e-12)
    np.testing.assert_allclose(run["train_loss"].mean(), run.events["loss_start"], rtol=0.05)  # of 16,000 samples


def test_losses_of_a_mean_map_have_their_share_of_the_scatter():
    """What a theory of moments says of losses is the mean over its maps, of the test set as of the training set."""
    rng = np.random.default_rng(0)
    off = rng.standard_normal((1, 50, 5, 5))
    off -= off.mean(1, keepdims=True)

    @register_theory("cloud")
    def cloud(problem, steps):
        """Maps around the start."""
        mean = np.repeat(problem.start[:, None], len(steps), 1)
        scatter = np.repeat((off.mT @ off).mean(1)[:, None], len(steps), 1)
        return Prediction(mean, scatter=scatter)

    try:
        run = dln.run_experiment({**SHORT, "theory": ["cloud"]})
    finally:
        del THEORIES._entries["cloud"]
    data = linear_teacher(5, 5, {"matrix": "diagonal"}, dtype=torch.float64)
    start = np.linalg.multi_dot(naive.initial_weights([5, 4, 4, 5], 1.0, 0)[::-1])
    for split in ("train", "test"):
        x, y = (getattr(data, f"{split}_{kind}").numpy() for kind in ("inputs", "targets"))
        losses = ((x @ (start + off[0]).mT - y) ** 2).mean((1, 2))
        np.testing.assert_allclose(run[f"{split}_loss_cloud"], losses.mean(), rtol=1e-12)
