"""The edge of stability: 1 % below it steps come to rest, 1 % above they run away, whatever makes them."""

import numpy as np
import pytest
import torch

import dln
from dln.errors import ConfigError
from dln.ingredients.edge import Edge, Optimizer, edge_of
from dln.train import Trainer
from tests.small_nets import balanced

RULES = [
    {},
    {"weight_decay": 0.3},
    {"momentum": 0.9},
    {"momentum": 0.9, "weight_decay": 0.2},
    {"momentum": 0.5, "dampening": 0.4},
    {"dampening": 0.4},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.3, "nesterov": True, "weight_decay": 0.2},
]


STEPS = 200
"""So many that 1 % shows; the more there are, the closer to the edge a wrong one could be and still pass."""


def comes_to_rest(history):
    """Whether the last step is a small part of the twentieth."""
    steps = history["update_norm"][1:]
    return history.diverged_at is None and steps[-1] < 0.1 * steps[0]


def runs_away(history):
    """Whether steps have become much longer than the twentieth, until another minimum is found, if there is one."""
    steps = history["update_norm"][1:]
    return history.diverged_at is not None or np.nanmax(steps) > 10 * steps[0]


@pytest.mark.sampled
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_one_layer(rule, engine):
    """A quadratic: its Hessian is the same everywhere."""
    training = {"lr": 1.0, "optimizer_params": rule}
    config = {
        "engine": engine,
        "dtype": "float64",
        "max_steps": 1,
        "model": {"num_hidden": 0, "in_dim": 3, "out_dim": 2},
        "data": {"train_samples": 30},
        "metrics": ["stability", "update_norm"],
    }
    edge = 1 / float(dln.run_experiment({**config, "training": training})["stability"][0])
    for share in (0.99, 1.01):
        near = {"max_steps": STEPS, "evaluate_every": 20, "training": {**training, "lr": share * edge}}
        history = dln.run_experiment({**config, **near})
        np.testing.assert_allclose(history["stability"], share, rtol=1e-9)
        assert comes_to_rest(history) if share < 1 else runs_away(history)


@pytest.mark.sampled
@pytest.mark.parametrize("rule", [rule for rule in RULES if "weight_decay" not in rule], ids=str)
def test_a_deep_network_near_a_minimum(rule):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20, 3))
    minimum = balanced([2.0, 1.0, 0.5], 5, 3)
    targets = inputs @ (minimum[2] @ minimum[1] @ minimum[0]).T
    data = dln.Dataset.from_arrays(inputs, targets, dtype=torch.float64)
    start = [w + 1e-7 * rng.standard_normal(w.shape) for w in minimum]

    def run(lr, steps=STEPS):
        model = dln.DeepLinearNetwork.from_weights(start, dtype=torch.float64)
        metrics = ["stability", "update_norm"]
        settings = {"lr": lr, "max_steps": steps, "optimizer_params": rule, "evaluate_every": 20}
        return Trainer(model, data, metrics=metrics, **settings).run()

    edge = 1 / run(1.0, 1)["stability"][0]
    assert comes_to_rest(run(0.99 * edge))
    assert runs_away(run(1.01 * edge))


def test_momentum_and_its_like_have_edges_of_their_own():
    assert edge_of(Optimizer("SGD", {"momentum": 0.9})).gain == pytest.approx(1 / (2 * 1.9))
    assert edge_of(Optimizer("SGD", {"dampening": 0.5})) == Edge(0.5, 0.0)


REFUSED = [
    {"optimizer": "Adam"},
    {"optimizer": "AdamW"},
    {"optimizer": "RMSprop"},
    {"optimizer_params": {"momentum": 1.0}},
    {"optimizer_params": {"momentum": 0.5, "dampening": 1.0}},
    {"optimizer_params": {"maximize": True}},
]


@pytest.mark.parametrize("training", REFUSED, ids=str)
def test_where_no_edge_is_known_none_is_told(training, tmp_path):
    config = {"max_steps": 2, "training": training, "dtype": "float64"}
    with pytest.raises(ConfigError, match=r"metric 'stability': the edge of stability"):
        dln.run_experiment({**config, "metrics": ["stability"]}, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    heavy = dln.run_experiment({**config, "model": {"hidden_dim": 3, "num_hidden": 1}, "metrics": "heavy"})
    assert "sharpness" in heavy
    assert "stability" not in heavy
    with pytest.raises(ConfigError, match="needs the column 'stability'"):
        dln.run_experiment({**config, "metrics": ["sharpness"], "events": ["edge_of_stability"]})


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_the_learning_rate_is_that_of_the_step(engine):
    config = {
        "engine": engine,
        "dtype": "float64",
        "max_steps": 8,
        "model": {"hidden_dim": 3, "num_hidden": 1},
        "training": {"lr": 0.01, "batch_size": 5, "optimizer_params": {"momentum": 0.5}},
        "callbacks": [{"name": "lr_decay", "params": {"factor": 0.5, "interval": 2}}],
        "metrics": ["stability", "sharpness"],
    }
    history = dln.run_experiment(config)
    lr = 0.01 * 0.5 ** (history["step"] // 2)
    np.testing.assert_allclose(history["stability"], lr * history["sharpness"] / 3, rtol=1e-12)


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_each_lane_records_what_has_a_value_for_it(engine):
    config = {
        "engine": engine,
        "max_steps": 2,
        "shared": {"model": {"hidden_dim": 3, "num_hidden": 1}},
        "training_b": {"optimizer": "Adam"},
        "model_b": {"num_hidden": 0},
        "model_metrics": "heavy",
    }
    names = dln.run_experiment(config).names
    both = {name.removesuffix("_b") for name in names if name.endswith("_b")}
    of_sgd = {"stability", "edge_of_stability", "implicit_regularizer", "noise_regularizer"}
    assert {name.removesuffix("_a") for name in names if name.endswith("_a")} - both == {*of_sgd, "balancedness"}
