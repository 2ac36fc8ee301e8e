"""What an objective asks for, against the history by hand; and what is refused before the first step."""

import math

import numpy as np
import pytest

import dln
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError
from dln.factory import check_names
from dln.history import History
from dln.measure.objective import goals, objective
from dln.metrics import model_metric
from tests.sweeps.test_plan import planner

SMALL = {"hidden_dim": 4, "num_hidden": 1}
RUN = {"max_steps": 20, "evaluate_every": 5, "metrics": ["weight_norm", "singular_values"], "model": SMALL}
PAIR = {"max_steps": 20, "comparative_metrics": ["param_distance"], "model_metrics": ["test_split_norm"]}


@model_metric("test_split_norm")
def split_norm(model):
    """A dict of numbers."""
    return {"first": float(next(model.parameters()).norm()), "all": 1.0}


def checked(config, schema=SingleConfig):
    return check_names(resolve(config, schema))


def test_every_spelling_is_a_number_of_the_history():
    """The loss on single samples has its least and its largest value between the ends."""
    config = {**RUN, "evaluate_every": 1, "training": {"batch_size": 1}, "objective": {"train_loss": "min"}}
    history = dln.run_experiment(config)
    loss, norm = history["train_loss"], history["weight_norm"]
    assert len({loss[0], loss[-1], loss.min(), loss.max()}) == 4
    expected = {"last": loss[-1], "min": loss.min(), "max": loss.max(), 0: loss[0], 10: loss[10], 20: loss[-1]}
    assert {which: objective(history, {"train_loss": which}) for which in expected} == expected
    assert objective(history, "train_loss") == objective(history, ["train_loss"]) == loss[-1]
    assert objective(history, ["weight_norm", {"train_loss": 5}]) == (norm[-1], loss[5])
    assert objective(history, "step") == 20
    assert dln.objective is objective


def test_a_run_that_diverged_is_the_worst_there_is_from_there_on():
    history = dln.run_experiment({"max_steps": 50, "training": {"lr": 0.5}, "model": SMALL})
    at = history.diverged_at
    assert at is not None
    for which in ("last", "min", "max", at, 50):
        assert objective(history, {"test_loss": which}) == math.inf
        assert objective(history, {"test_loss": which}, maximize=True) == -math.inf
    assert objective(history, {"test_loss": at - 1}) == history["test_loss"][at - 1]
    assert objective(history, ["test_loss", {"test_loss": 0}], [True, False]) == (-math.inf, history["test_loss"][0])


def test_a_lane_that_diverged_spoils_its_own_columns_and_those_of_the_pair():
    config = {**PAIR, "shared": {"model": SMALL}, "training_a": {"lr": 5.0}}
    history = dln.run_experiment(config)
    assert "diverged_at_a" in history.ends
    spoiled = ["train_loss_a", "test_split_norm_a.first", "param_distance", "step"]
    assert objective(history, spoiled) == (math.inf,) * len(spoiled)
    sound = ["train_loss_b", "test_split_norm_b.first"]
    assert objective(history, sound) == tuple(history[name][-1] for name in sound)


def test_a_column_of_one_model_may_end_as_that_of_a_lane():
    records = [{"step": 0, "norm_a": 1.0}]
    assert objective(History(records, {"diverged_at": 1}), "norm_a") == math.inf


def test_a_run_that_a_callback_stopped_keeps_its_value():
    stop = {"name": "stop_at_loss", "params": {"target": 1e9}}
    history = dln.run_experiment({**RUN, "callbacks": [stop]})
    (at,) = history.ends.values()
    assert at < 20
    last = history["weight_norm"][-1]
    assert objective(history, ["step", "weight_norm", {"weight_norm": 20}]) == (at, last, last)


def test_where_there_is_no_number_a_run_is_worst():
    history = History([{"step": 0, "snr": None}, {"step": 1, "snr": 2.0}, {"step": 2}])
    assert objective(history, ["snr", {"snr": "min"}, {"snr": 1}, {"snr": 0}]) == (math.inf, 2.0, 2.0, math.inf)
    assert objective(History([{"step": 0, "snr": None}]), {"snr": "max"}, maximize=True) == -math.inf
    with pytest.raises(ConfigError, match="'vector' has several numbers"):
        objective(History([{"step": 0, "vector": [1.0, 2.0]}]), "vector")
    for step in (5, 3):
        with pytest.raises(ConfigError, match=f"step {step} is not recorded"):
            objective(History([{"step": 4, "snr": 1.0}, {"step": 6, "snr": 1.0}]), {"snr": step})
    with pytest.raises(KeyError, match="no column 'snrr'; did you mean 'snr'"):
        objective(history, "snrr")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "objective is an empty list"),
        (3, "objective must be a column such as test_loss"),
        ({"test_loss": "min", "train_loss": "min"}, "objective must be a column such as test_loss"),
        (["test_loss", 3], r"objective\[1\] must be a column"),
        ({"test_loss": "mean"}, "objective: of test_loss take last, min, max, or a step, not 'mean'"),
        ({"test_loss": 2.5}, "objective: a step"),
        ([{"test_loss": True}], r"objective\[0\]: a step"),
        ({"test_loss": -1}, "objective: a step"),
        ({"test_loss": None}, "objective: a step"),
    ],
)
def test_what_is_no_objective_is_refused(asked, words):
    with pytest.raises(ConfigError, match=words):
        goals(asked)
    with pytest.raises(ConfigError, match=words):
        checked({**RUN, "objective": asked})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("tst_loss", "there is no column 'tst_loss'; did you mean 'test_loss'"),
        ("sharpness", "there is no column 'sharpness'"),
        ("singular_values", "has 5 numbers a record"),
        ({"test_loss": 7}, "objective: step 7 is not recorded; the next that is: 10"),
        ({"test_loss": 21}, "objective: step 21 is not recorded; the run ends before"),
        (["test_loss", "weight_nrm"], r"objective\[1\]: there is no column 'weight_nrm'; did you mean 'weight_norm'"),
    ],
)
@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_what_is_not_recorded_is_refused_before_the_first_step(asked, words, engine, tmp_path):
    config = {**RUN, "objective": asked, "engine": engine}
    with pytest.raises(ConfigError, match=words):
        checked(config)
    with pytest.raises(ConfigError, match=words):
        dln.run_experiment(config, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_comparison_has_the_columns_of_both_and_of_the_pair():
    asked = ["test_loss_a", "test_split_norm_b.first", {"param_distance": "max"}, "step", {"train_loss_b": 20}]
    found = checked({**PAIR, "objective": asked}, ComparativeConfig)
    assert [goal.column for goal in goals(found.config.objective).values()][2] == "param_distance"
    for column in ("test_loss", "param_cosine_sim", "test_split_norm.first", "test_split_norm_b"):
        with pytest.raises(ConfigError, match=f"objective: there is no column '{column}'"):
            checked({**PAIR, "objective": column}, ComparativeConfig)


def test_without_a_test_set_there_is_no_test_loss():
    rng = np.random.default_rng(0)
    data = dln.Dataset.from_arrays(rng.standard_normal((9, 3)), rng.standard_normal((9, 2)))
    with pytest.raises(ConfigError, match="there is no column 'test_loss'"):
        dln.run_experiment({"max_steps": 3, "objective": "test_loss"}, dataset=data)
    assert len(dln.run_experiment({"max_steps": 3, "objective": "train_loss"}, dataset=data)) == 4


def test_steps_before_a_run_goes_on_are_not_recorded(tmp_path):
    dln.run_experiment({**RUN, "checkpoint_every": 10}, directory=tmp_path)
    (path,) = tmp_path.rglob("*10.npz")
    resumed = {**RUN, "resume": str(path)}
    checked({**resumed, "objective": {"test_loss": 10}})
    with pytest.raises(ConfigError, match="step 5 is not recorded; the next that is: 10"):
        checked({**resumed, "objective": {"test_loss": 5}})


def test_the_checks_leave_no_trace_in_metrics_that_remember():
    """param_distance and its like look at nothing before the run: what it records is the same with an objective."""
    plain = dln.run_experiment(PAIR)
    asked = dln.run_experiment({**PAIR, "objective": ["param_distance", "test_split_norm_a.first"]})
    assert plain.records == asked.records


def test_an_objective_is_no_part_of_what_a_run_is():
    """It does not change the identity by which a sweep knows its runs, and hinders no company."""
    plan, _ = planner(SingleConfig)
    same = plan(["training.lr=0.1,0.2"]), plan(["training.lr=0.1,0.2", "objective={test_loss: min}"])
    first, second = ([p.identity(cell) for cell in range(2)] for p in same)
    assert first == second
    assert [len(list(p.together())) for p in same] == [1, 1]
