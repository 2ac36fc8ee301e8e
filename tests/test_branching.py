"""Runs that are their reference up to a step: one long run with a switch, and what goes on from its checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

import dln
from dln.errors import ConfigError

AT = 23
RUN = {"max_steps": 40, "evaluate_every": 4, "model": {"hidden_dim": 4}, "dtype": "float64"}
FULL = {"reference": {"training.batch_size": None}}
ENGINES = pytest.mark.parametrize("engine", ["compiled", "autograd"])
OPTIMIZERS = {
    "SGD": {},
    "momentum": {"optimizer_params": {"momentum": 0.9, "nesterov": True}},
    "Adam": {"optimizer": "Adam", "lr": 0.01},
}


def lane_b(history):
    """The records of a run as it would have them alone."""
    names = ("train_loss", "test_loss")
    return [{"step": r["step"], **{name: r[f"{name}_b"] for name in names}} for r in history.records]


def switch(step, size):
    return {"name": "switch_batch_size", "params": {"step": step, "batch_size": size}}


@pytest.mark.sampled
@ENGINES
@pytest.mark.parametrize(("name", "online"), [("SGD", False), ("momentum", True), ("Adam", False)])
def test_it_is_one_long_run_with_a_switch(engine, name, online):
    """The optimizer's state and the streams go on; the reference is as it would be alone."""
    training = {"lr": 0.002, "batch_size": 5, "batch_seed": 3, **OPTIMIZERS[name]}
    fixed = {**RUN, "engine": engine, "data": {"online": online}}
    before = 50 if online else None
    reference = {"training.batch_size": before}
    branch = dln.run_experiment({**fixed, "training": training, "reference": reference, "branch_at": AT})
    long = {**training, "batch_size": before}
    assert lane_b(branch) == dln.run_experiment({**fixed, "training": long, "callbacks": [switch(AT, 5)]}).records
    alone = dln.run_experiment({**fixed, "training": long})
    np.testing.assert_array_equal(branch["test_loss_a"], alone["test_loss"])
    apart = branch["test_loss_a"] != branch["test_loss_b"]
    np.testing.assert_array_equal(apart, branch["step"] > AT)


@pytest.mark.sampled
@ENGINES
@pytest.mark.parametrize("own", [{"batch_size": 5}, {"batch_size": 7, "lr": 0.004}, {"lr": 0.001}])
def test_it_is_what_goes_on_from_a_checkpoint_of_its_reference(engine, own, tmp_path):
    common = {"lr": 0.002, "batch_size": 8, "batch_seed": 3, "label_noise": 0.1, "optimizer_params": {"momentum": 0.5}}
    fixed = {**RUN, "engine": engine}
    before = dln.run_experiment({**fixed, "training": common, "checkpoint_at": [AT]}, directory=tmp_path / "before")
    path = str(tmp_path / "before" / "checkpoints" / f"step_{AT:08d}.npz")
    rest = dln.run_experiment({**fixed, "training": {**common, **own}, "resume": path})
    reference = {"training": {key: common[key] for key in own}}
    branch = dln.run_experiment({**fixed, "training": {**common, **own}, "reference": reference, "branch_at": AT})
    assert lane_b(branch) == [r for r in before.records if r["step"] < AT] + rest.records
    folder = tmp_path / "branch"
    config = {**fixed, "training": {**common, **own}, "reference": reference, "branch_at": AT, "checkpoint_at": [9, 30]}
    dln.run_experiment(config, directory=folder)
    for step in (9, 30):  # before it leaves, and behind
        later = {**config, "checkpoint_at": None, "resume": str(folder / f"checkpoints/step_{step:08d}_b.npz")}
        assert dln.run_experiment(later).records == [r for r in branch.records if r["step"] >= step]


@pytest.mark.sampled
@ENGINES
@pytest.mark.parametrize("kind", ["replacement", "label noise", "online"])
def test_runs_of_other_seeds_leave_one_noisy_path(engine, kind, tmp_path):
    """Each as from a checkpoint of it, under its own seed: together with others, and on from a checkpoint of itself."""
    own = {"replacement": {"replacement": True}, "label noise": {"label_noise": 0.2}}.get(kind, {})
    common = {"lr": 0.002, "batch_size": 8, "optimizer_params": {"momentum": 0.5}, **own}
    fixed = {**RUN, "engine": engine, "data": {"online": kind == "online", "noise_std": 0.1}}
    before = dln.run_experiment({**fixed, "training": common, "checkpoint_at": [AT]}, directory=tmp_path / "before")
    path = str(tmp_path / "before" / "checkpoints" / f"step_{AT:08d}.npz")
    leaving = {"reference": {"training.batch_seed": 0}, "branch_at": AT}
    trainings = [{**common, "batch_seed": 4}, {**common, "batch_seed": 5, "batch_size": 8, "lr": 0.001}]
    leaving["reference"] |= {"training.lr": 0.002}
    branches = dln.run_experiments([{**fixed, "training": training, **leaving} for training in trainings])
    for training, branch in zip(trainings, branches, strict=True):
        rest = dln.run_experiment({**fixed, "training": training, "resume": path})
        assert lane_b(branch) == [r for r in before.records if r["step"] < AT] + rest.records
    config = {**fixed, "training": trainings[0], **leaving, "checkpoint_at": [AT]}
    dln.run_experiment(config, directory=tmp_path / "branch")
    later = str(tmp_path / "branch" / "checkpoints" / f"step_{AT:08d}_b.npz")
    again = dln.run_experiment({**config, "checkpoint_at": None, "resume": later})
    assert again.records == [r for r in branches[0].records if r["step"] >= AT]


@ENGINES
def test_callbacks_of_its_own_act_from_there_on(engine):
    decay = {"name": "lr_decay", "params": {"factor": 0.5, "interval": 5}}
    noise = {"name": "weight_noise", "params": {"std": 0.01, "interval": 2}}
    fixed = {**RUN, "engine": engine, "training": {"lr": 0.002}, "metrics": ["time"]}
    later = [{**noise, "params": {**noise["params"], "start": 24}}]
    branch = dln.run_experiment({**fixed, "callbacks": [noise], "reference": {"callbacks": []}, "branch_at": AT})
    long = dln.run_experiment({**fixed, "callbacks": later})
    np.testing.assert_array_equal(branch["test_loss_b"], long["test_loss"])
    # A schedule of the reference ends where the run leaves it; one that both have goes on.
    left = dln.run_experiment({**fixed, "reference": {"callbacks": [decay]}, "branch_at": AT})
    halves = 0.5 ** (np.arange(40) // 5)
    rates = 0.002 * np.where(np.arange(40) < AT, halves, 1.0)
    np.testing.assert_allclose(left["time_b"], [0, *np.cumsum(rates)][::4], rtol=1e-13)
    both = dln.run_experiment({**fixed, "callbacks": [decay], "reference": {"training.lr": 0.004}, "branch_at": AT})
    rates = np.where(np.arange(40) < AT, 0.004, 0.002) * halves
    np.testing.assert_allclose(both["time_b"], [0, *np.cumsum(rates)][::4], rtol=1e-13)


def test_branches_are_swept_and_each_is_the_run_alone(tmp_path):
    axes = {"branch_at": [None, 0, AT], "training.batch_seed": range(2)}
    report = dln.run_sweep({**axes, **RUN, **FULL, "training.batch_size": 5}, directory=tmp_path / "s")
    assert report.finished == 6
    assert len(dln.load_sweep(tmp_path / "s" / "references")) == 1
    for row in report.frame().iter_rows(named=True):
        training = {"batch_seed": row["training.batch_seed"], "batch_size": 5}
        alone = dln.run_experiment({**RUN, **FULL, "training": training, "branch_at": row["branch_at"]})
        for name in ("train_loss_a", "train_loss_b", "test_loss_b"):
            np.testing.assert_array_equal(np.array(row[name]), alone[name])
        apart = alone["test_loss_a"] != alone["test_loss_b"]
        np.testing.assert_array_equal(apart, alone["step"] > (row["branch_at"] or 0))


@dln.register_callback("test_branching_reseeds")
def reseeds(step: int, seed: int):
    return dln.timeline.acting_at([step], lambda now, trainer: trainer.reseed(seed))


@ENGINES
def test_a_callback_of_ones_own_may_begin_other_streams(engine):
    """Members of an ensemble, each at its own step: as runs that leave a path there."""
    training = {"batch_size": 6, "lr": 0.002}
    acts = [{"name": "test_branching_reseeds", "params": {"step": step, "seed": 9}} for step in (5, AT)]
    fixed = {**RUN, "engine": engine}
    runs = dln.run_experiments([{**fixed, "training": training, "callbacks": [act]} for act in acts])
    for step, run in zip((5, AT), runs, strict=True):
        leaving = {"reference": {"training.batch_seed": 0}, "branch_at": step}
        branch = dln.run_experiment({**fixed, "training": {**training, "batch_seed": 9}, **leaving})
        assert run.records == lane_b(branch)
    wrong = {"name": "test_branching_reseeds", "params": {"step": 5, "seed": -1}}
    with pytest.raises(ConfigError, match="batch_seed must be a whole number, 0 or more, not -1"):
        dln.run_experiment({**fixed, "training": training, "callbacks": [wrong]})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"branch_at": 5, "reference": {}}, "branch_at needs a reference to leave: set reference"),
        ({"branch_at": -1}, "branch_at must be at least 0, not -1"),
        ({"branch_at": 40}, "branch_at is 40, but the last step is 40: the run would never leave its reference"),
        ({"branch_at": 1e4}, "branch_at is 10000, but the last step is 40"),
        ({"branch_at": 5, "reference": {"model.gamma": 2}}, "has its model.gamma, so reference may not name it"),
        ({"branch_at": 5, "reference": {"training.lr": 0.0005}}, "reference equals the run"),
        ({"branch_at": 5, "training": {"batch_size": 1000}}, "training.batch_size is 1000 but there are only"),
        ({"branch_at": 5, "reference": {"callbacks": []}, "callbacks": [switch(7, 1000)]}, r"callbacks\[0\]"),
    ],
)
def test_what_cannot_branch_is_told_in_a_line_before_anything_runs(change, told, tmp_path):
    with pytest.raises(ConfigError, match=told) as caught:
        dln.run_experiment({**RUN, **FULL, "training": {"batch_size": 5} if "lr" not in str(change) else {}, **change})
    assert "\n" not in str(caught.value)
