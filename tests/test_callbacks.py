"""Callbacks: what they do to a run, and that the steps they declare are the steps they act on."""

import numpy as np
import pytest
import torch

from dln import DeepLinearNetwork, Trainer, linear_teacher, register_callback
from dln.callbacks import CALLBACKS, build_callbacks
from dln.config import CallbackConfig
from dln.errors import ConfigError, ExtensionError

EXAMPLES = {
    "switch_batch_size": {"step": 6, "batch_size": 5},
    "multi_switch_batch_size": {"schedule": {4: 3, 9: None}},
    "lr_decay": {"factor": 0.5, "interval": 4},
    "stop_at_loss": {"target": 5.0, "interval": 3},
}


def callbacks(name, **params):
    return build_callbacks([CallbackConfig(name, params)])


def run(acts, max_steps=12, **kwargs):
    dataset = linear_teacher(3, 3, {"matrix": "diagonal", "scale": 3.0}, train_samples=20, dtype=torch.float64)
    model = DeepLinearNetwork(3, 4, 1, 3, dtype=torch.float64)
    trainer = Trainer(model, dataset, **{"lr": 0.05, "max_steps": max_steps, "callbacks": acts, **kwargs})
    seen = []
    trainer.callbacks.append(lambda step, t: seen.append((t.lr, t.batch_size)))
    history = trainer.run()
    return history, seen, trainer


@pytest.mark.parametrize("name", CALLBACKS.names())
def test_a_built_in_acts_only_at_the_steps_it_declares(name):
    if CALLBACKS.get(name).function.__module__ != "dln.callbacks":
        pytest.skip("registered by another test")
    (callback,) = callbacks(name, **EXAMPLES[name])
    declared, _, reference = run([callback])
    (everywhere,) = callbacks(name, **EXAMPLES[name])
    steps = everywhere.steps

    def called_at_every_step(step, trainer):
        if step in steps:
            everywhere(step, trainer)

    undeclared, _, trainer = run([called_at_every_step])
    assert declared.records == undeclared.records
    assert declared.records != run([])[0].records
    assert all(torch.equal(a, b) for a, b in zip(reference.model.weights, trainer.model.weights, strict=True))


def test_switch_batch_size_from_its_step_on():
    _, seen, _ = run(callbacks("switch_batch_size", step=6, batch_size=5))
    assert [size for _, size in seen] == [None] * 6 + [5] * 7


def test_multi_switch_batch_size_follows_its_schedule():
    _, seen, _ = run(callbacks("multi_switch_batch_size", schedule={4: 3, 9: None}), batch_size=2)
    assert [size for _, size in seen] == [2] * 4 + [3] * 5 + [None] * 4


def test_lr_decay_multiplies_after_every_interval():
    _, seen, _ = run(callbacks("lr_decay", factor=0.5, interval=4), lr=0.08)
    assert [lr for lr, _ in seen] == [0.08] * 4 + [0.04] * 4 + [0.02] * 4 + [0.01]
    _, seen, _ = run(callbacks("lr_decay", factor=0.5, interval=4, start=5), lr=0.08)
    assert [lr for lr, _ in seen] == [0.08] * 9 + [0.04] * 4


@pytest.mark.parametrize("loss", ["train", "test"])
def test_stop_at_loss_stops_at_the_first_step_that_reaches_it(loss):
    free, _, _ = run([], max_steps=40)
    target = free[f"{loss}_loss"][17]
    stopped, _, _ = run(callbacks("stop_at_loss", target=float(target), loss=loss), max_steps=40)
    assert stopped.events == {"stopped_at": 17}
    np.testing.assert_array_equal(stopped["train_loss"], free["train_loss"][:18])
    later, _, _ = run(callbacks("stop_at_loss", target=float(target), loss=loss, interval=10), max_steps=40)
    assert later.events == {"stopped_at": 20}


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("swich_batch_size", {}, r"callbacks\[0\]: unknown callback.*did you mean 'switch_batch_size'"),
        ("switch_batch_size", {"step": 5}, "batch_size: .* needs this parameter"),
        ("switch_batch_size", {"stp": 5}, "did you mean 'step'"),
        ("switch_batch_size", {"step": "x", "batch_size": 1}, r"takes int here, not 'x'"),
        ("switch_batch_size", {"step": 1, "batch_size": 0}, "batch_size must be a whole number, 1 or more"),
        ("lr_decay", {"factor": 0, "interval": 2}, "factor must be greater than 0"),
        ("lr_decay", {"factor": 0.5, "interval": 0}, "interval must be"),
        ("stop_at_loss", {"target": 0.1, "loss": "tset"}, "'train' or 'test'"),
    ],
)
def test_bad_parameters_are_refused_by_name(name, params, named):
    with pytest.raises(ConfigError, match=named):
        callbacks(name, **params)


def test_a_factory_that_returns_no_callback_is_named():
    register_callback("test_returns_nothing")(lambda: None)
    with pytest.raises(ExtensionError, match="'test_returns_nothing' must return"):
        callbacks("test_returns_nothing")
