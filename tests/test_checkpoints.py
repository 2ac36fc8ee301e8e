"""A run that goes on from a checkpoint is the run that was never interrupted, to the last bit."""

import re

import numpy as np
import pytest

from dln import factory
from dln.checkpoints import load_checkpoint
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError
from dln.ingredients.optimizers import optimizers
from tests.ensemble.test_engine import CALLBACKS, merged, weights_of

AT = 23
BASE = {
    "model": {"in_dim": 4, "out_dim": 3, "hidden_dim": 6, "num_hidden": 1},
    "data": {"train_samples": 40, "test_samples": 5, "params": {"scale": 4.0}},
    "training": {"lr": 0.01},
    "max_steps": 60,
    "evaluate_every": 4,
}
METRICS = ["update_norm", "update_angle", "start_distance"]
STREAMS = {
    "full batch": {},
    "epochs": {"training": {"batch_size": 7}},
    "replacement": {"training": {"batch_size": 7, "replacement": True}},
    "label noise": {"training": {"batch_size": 7, "label_noise": 0.3}},
    "label noise on the full batch": {"training": {"label_noise": 0.3}},
    "both": {"training": {"batch_size": 7, "label_noise": 0.3, "replacement": True}},
    "online": {"training": {"batch_size": 7}, "data": {"online": True, "noise_std": 0.2}},
}


def trained(change, folder, schema=SingleConfig):
    """The records of a run, what it ends with, and its events."""
    base = {k: v for k, v in BASE.items() if k not in ("model", "training")} if schema is ComparativeConfig else BASE
    runner = factory.build(resolve(merged(base, change), schema), None, folder)
    history = runner.run()
    return history, weights_of(runner), history.events


def assert_goes_on(change, folder, schema=SingleConfig, suffix="", at=AT):
    whole, weights, events = trained({**change, "checkpoint_at": [at]}, folder, schema)
    path = str(folder / f"step_{at:08d}{suffix}.npz")
    rest, same, same_events = trained({**change, "resume": path}, None, schema)
    assert rest.records == [record for record in whole.records if record["step"] >= at]
    assert rest.records
    assert all(np.array_equal(a, b) for a, b in zip(weights, same, strict=True))
    assert same_events == events


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize("name", STREAMS)
def test_with_every_stream_of_batches(tmp_path, name, engine):
    assert_goes_on({**STREAMS[name], "metrics": METRICS, "engine": engine, "evaluate_every": 1}, tmp_path)


@pytest.mark.sampled
@pytest.mark.parametrize("name", optimizers())
def test_under_every_optimizer(tmp_path, name):
    training = {"optimizer": name, "batch_size": 7, "lr": 0.003}
    assert_goes_on({"training": training, "dtype": "float64"}, tmp_path)


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize("params", [{"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "weight_decay": 0.1}])
def test_with_momentum_biases_and_a_frozen_layer(tmp_path, params, engine):
    training = {"optimizer_params": params, "batch_size": 10, "lr_factors": [1, 0]}
    assert_goes_on({"model": {"bias": True}, "training": training, "engine": engine, "dtype": "float64"}, tmp_path)


REMEMBERING = ("noise", "growth", "teachers", "stop at a plateau", "all")
"""Callbacks that keep or draw something, or all together: those that the slower engine is asked about too."""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        *((name, "compiled") for name in CALLBACKS if name not in ("stop after", "stop early")),
        *((name, "autograd") for name in REMEMBERING),
    ],
)
def test_with_every_callback_before_at_and_behind_the_checkpoint(tmp_path, name, engine):
    at = 2 if name == "stop" else 12 if name.startswith("stop") else AT
    switch = {"name": "switch_batch_size", "params": {"step": at, "batch_size": 5}}
    acts = [{"name": "lr_decay", "params": {"factor": 0.8, "interval": at}}, *CALLBACKS[name], switch]
    change = {"callbacks": acts, "training": {"batch_size": 10}, "engine": engine, "max_steps": 150}
    assert_goes_on(change, tmp_path, at=at)


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_both_lanes_of_a_comparison_go_on(tmp_path, engine):
    shared = {"model": BASE["model"], "training": {"lr": 0.01, "batch_size": 7}}
    lanes = {"training_b": {"optimizer": "Adam", "label_noise": 0.1}, "comparative_metrics": ["param_distance"]}
    assert_goes_on({"shared": shared, **lanes, "engine": engine}, tmp_path, ComparativeConfig, "_b")


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adamax"])
def test_one_engine_goes_on_from_the_checkpoint_of_the_other(tmp_path, optimizer):
    params = {"momentum": 0.9} if optimizer == "SGD" else {}
    training = {"batch_size": 7, "optimizer": optimizer, "optimizer_params": params, "label_noise": 0.1, "lr": 0.003}
    change = {"training": training, "dtype": "float64", "checkpoint_at": [AT]}
    path = str(tmp_path / f"step_{AT:08d}.npz")
    for saving, going_on in (("compiled", "autograd"), ("autograd", "compiled")):
        _, weights, _ = trained({**change, "engine": saving}, tmp_path)
        _, same, _ = trained({**change, "engine": going_on, "resume": path}, None)
        assert all(np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(weights, same, strict=True))


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_what_the_config_says_anew_counts(tmp_path, engine):
    """Another seed, size or rate parts the runs; a run of another size begins an epoch."""
    change = {"training": {"batch_size": 7}, "engine": engine, "checkpoint_at": [AT]}
    _, weights, _ = trained(change, tmp_path)
    path = str(tmp_path / f"step_{AT:08d}.npz")
    for new in ({"batch_seed": 1}, {"batch_size": 6}, {"lr": 0.02}, {"label_noise": 0.1}):
        _, other, _ = trained(merged(change, {"training": new, "resume": path}), None)
        assert not np.array_equal(weights[0], other[0])
    saved = load_checkpoint(path)
    assert saved.step == AT
    assert saved.lr(0.01) == 0.01
    assert saved.lr(0.02) == 0.02
    assert saved.streams(1, 7) == {}
    assert len(saved.streams(0, 6)["pending"]) == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"max_steps": AT}, "set max_steps to more"),
        ({"training": {"optimizer": "Adam"}}, "the checkpoint is of SGD"),
        ({"model": {"hidden_dim": 5}}, "holds shapes"),
        ({"dtype": "float64"}, "set dtype=float32"),
        ({"resume": "nowhere.npz"}, "nowhere.npz"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, change, told):
    trained({"checkpoint_at": [AT]}, tmp_path)
    path = str(tmp_path / f"step_{AT:08d}.npz")
    with pytest.raises(ConfigError, match=f"resume: .*{re.escape(told)}"):
        factory.check_names(resolve(merged(BASE, {"resume": path, **change}), SingleConfig))
