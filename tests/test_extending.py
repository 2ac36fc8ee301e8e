"""The extension examples of the README: a few lines each, in a module of the user's, used from the config."""

import textwrap

import numpy as np
import pytest

from dln import run_experiment

MODULE = """
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import Module

from dln.callbacks import register_callback
from dln.data import register_matrix
from dln.ingredients.inputs import register_inputs
from dln.measure.events import event
from dln.ingredients.initialisations import register_init
from dln.metrics import comparative_metric, model_metric
from dln.train import Trainer


@model_metric("my_metric")
def my_metric(model: Module) -> float:
    return sum(p.abs().sum().item() for p in model.parameters())


@comparative_metric("my_comparative_metric")
def my_comparative_metric(model_a: Module, model_b: Module) -> float:
    return max((a - b).abs().max().item() for a, b in zip(model_a.parameters(), model_b.parameters()))


@register_matrix("my_matrix")
def create_my_matrix(in_dim: int, out_dim: int, params: dict) -> Tensor:
    # Return a (out_dim, in_dim) tensor
    return params["size"] * torch.randn(out_dim, in_dim)


@register_inputs("my_inputs")
def my_inputs(samples: int, dim: int, rng: np.random.Generator, freedom: float = 3.0):
    # Return a (samples, dim) array
    return rng.standard_t(freedom, (samples, dim))


@register_init("my_init")
def my_init(shapes: list[tuple[int, int]], rngs: list[Generator], size: float = 0.1) -> list[np.ndarray]:
    # Return the weights [W_1, ..., W_L]: a matrix for each (out, in) of shapes
    return [size * rng.standard_normal(shape) for shape, rng in zip(shapes, rngs)]


@event("half_way", of=["test_loss"])
def half_way(step, test_loss, fraction: float = 0.5):
    return step[test_loss <= fraction * test_loss[0]].min(initial=step[-1])


@register_callback("my_callback")
def my_callback(param1: int, param2: float):
    def callback(step: int, trainer: Trainer) -> None:
        if step == param1:
            trainer.lr = param2
    return callback
"""


@pytest.fixture
def my_lab(tmp_path, monkeypatch):
    """A module outside the package that Python finds: my_lab_examples."""
    (tmp_path / "my_lab_examples.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    return "extensions=[my_lab_examples]"


def test_an_event(my_lab):
    history = run_experiment([my_lab, "max_steps=200", "training.lr=0.01", "events=[half_way]"])
    loss, at = history["test_loss"], int(history.events["half_way"])
    assert 0 < at < 200
    assert loss[at] <= loss[0] / 2 < loss[at - 1]


def test_a_metric_and_a_comparative_metric(my_lab):
    single = run_experiment([my_lab, "max_steps=5", "metrics=[my_metric]"])
    assert len(single["my_metric"]) == 6
    pair = ["max_steps=5", "training_b.batch_size=10", "model_metrics=[my_metric]"]
    history = run_experiment([my_lab, *pair, "comparative_metrics=[my_comparative_metric]"])
    assert np.array_equal(history["my_metric_a"], single["my_metric"])
    assert "my_metric_b" in history
    assert history["my_comparative_metric"][0] == 0 < history["my_comparative_metric"][-1]


def test_a_teacher_matrix(my_lab):
    overrides = [my_lab, "max_steps=2", "data.params.matrix=my_matrix"]
    one, same, larger = (run_experiment([*overrides, f"data.params.size={s}"]) for s in (1.0, 1.0, 10.0))
    assert one.records == same.records
    assert larger["train_loss"][0] > 10 * one["train_loss"][0]


@pytest.mark.parametrize("online", ["false", "true"])
def test_inputs(my_lab, online):
    overrides = [my_lab, "max_steps=5", "training.batch_size=10", f"data.online={online}", "dtype=float64"]
    own = [*overrides, "data.inputs=my_inputs", "data.inputs_params.freedom=2.5"]
    losses = [run_experiment([*own, f"engine={engine}"])["train_loss"] for engine in ("compiled", "autograd")]
    np.testing.assert_allclose(*losses, rtol=1e-10)
    assert np.abs(losses[0] - run_experiment(overrides)["train_loss"]).max() > 0.1


def test_an_initialisation(my_lab):
    overrides = [my_lab, "max_steps=2", "model.init=my_init", "metrics=[weight_norm]", "dtype=float64"]
    one, larger = (run_experiment([*overrides, f"model.init_params.size={s}"]) for s in (0.1, 0.2))
    np.testing.assert_allclose(larger["weight_norm"][0], 2 * one["weight_norm"][0], rtol=1e-12)
    slow = run_experiment([*overrides, "engine=autograd"])
    np.testing.assert_allclose(slow["train_loss"], one["train_loss"], rtol=1e-10)


def test_a_callback_that_declares_no_steps(my_lab):
    act = "callbacks=[{name: my_callback, params: {param1: 3, param2: 1e-12}}]"
    history = run_experiment([my_lab, "max_steps=6", act])
    assert history["train_loss"][3] < history["train_loss"][2]
    assert history["train_loss"][3:].tolist() == [history["train_loss"][3]] * 4
