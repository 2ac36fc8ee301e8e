"""The examples of docs/extending/: a few lines each, in a module of the user's, used from the config."""

import importlib.util
import json
import logging
import sys
import textwrap
import types

import numpy as np
import pytest
import torch
from hydra.core.plugins import Plugins
from polars.testing import assert_frame_equal

from dln import factory, run_experiment, run_experiments, run_sweep
from dln.errors import ConfigError, ExtensionError
from dln.history import History
from dln.measure.data_quantities import constant
from dln.measure.events import event
from dln.measure.quantities import quantity
from dln.metrics import model_metric
from dln.plotting import plot_run
from dln.results.frames import load_sweep

MODULE = """
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import Module

from dln import Observer, register_tracker
from dln.callbacks import register_callback
from dln.data import register_matrix
from dln.ingredients.inputs import register_inputs
from dln.measure.events import event
from dln.ingredients.initialisations import register_init
from dln.measure.quantities import pair_quantity, quantity
from dln.metrics import comparative_metric, model_metric
from dln.theory import Prediction, register_theory
from dln.train import Trainer


@model_metric("my_metric")
def my_metric(model: Module) -> float:
    return sum(p.abs().sum().item() for p in model.parameters())


@comparative_metric("my_comparative_metric")
def my_comparative_metric(model_a: Module, model_b: Module) -> float:
    return max((a - b).abs().max().item() for a, b in zip(model_a.parameters(), model_b.parameters()))


@quantity
def my_square(end_to_end: Tensor) -> Tensor:
    # Keep leading dimensions, if any: records and members
    return end_to_end.square().sum((-2, -1))


@pair_quantity
def my_product(end_to_end_a: Tensor, end_to_end_b: Tensor) -> Tensor:
    return (end_to_end_a * end_to_end_b).sum((-2, -1))


@model_metric("my_norm", batched=True)
def my_norm(my_square: Tensor) -> Tensor:
    return my_square.sqrt()


@comparative_metric("my_distance", batched=True)
def my_distance(my_square_a: Tensor, my_square_b: Tensor, my_product: Tensor) -> Tensor:
    return (my_square_a + my_square_b - 2 * my_product).sqrt()


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


@register_theory("one_layer_whitened")
def one_layer_whitened(problem, steps):
    # Of one layer on whitened inputs: every step takes the same share off the error
    left = (1 - problem.rate[:, None, None, None]) ** steps[:, None, None]
    maps = problem.optimum[:, None] + (problem.start - problem.optimum)[:, None] * left
    return Prediction(maps, conditions={"whitening": np.abs(problem.sigma - np.eye(problem.dims[1])).max((1, 2))})


@event("half_way", of=["test_loss"])
def half_way(step, test_loss, fraction: float = 0.5):
    return step[test_loss <= fraction * test_loss[0]].min(initial=step[-1])


@register_callback("my_callback")
def my_callback(param1: int, param2: float):
    def callback(step: int, trainer: Trainer) -> None:
        if step == param1:
            trainer.lr = param2
    return callback


@register_callback("my_listener")
class MyListener(Observer):
    def on_record(self, record: dict) -> None:
        print(record["step"], record["train_loss"])


@register_tracker("my_tracker")
class MyTracker(Observer):
    def __init__(self, path: str) -> None:
        self.path = path

    def on_start(self, run) -> None:
        self.file = open(self.path, "w")
        print(run.name, run.config["training"]["lr"], file=self.file)

    def on_record(self, record: dict) -> None:
        print(record["step"], record["train_loss"], file=self.file)

    def on_end(self, status, history) -> None:
        print(status, file=self.file)
        self.file.close()
"""


LAUNCHER = """
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore


class MyLauncher(BasicLauncher):
    def launch(self, job_overrides, initial_job_idx):
        # A job is a list of overrides; Hydra's own launcher runs them here, one after the other
        print(f"{len(job_overrides)} jobs are mine")
        return super().launch(job_overrides, initial_job_idx)


ConfigStore.instance().store("mine", {"_target_": "hydra_plugins.my_launcher.MyLauncher"}, "hydra/launcher")
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


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_quantities(my_lab, engine):
    """Of the map's square and of a product of maps come its norm and a distance, in either engine."""
    run = [my_lab, f"engine={engine}", "max_steps=5", "dtype=float64"]
    single = run_experiment([*run, "metrics=[my_norm, end_to_end_norm]"])
    np.testing.assert_allclose(single["my_norm"], single["end_to_end_norm"], rtol=1e-12)
    pair = ["training_b.lr=0.1", "comparative_metrics=[my_distance, end_to_end_distance]"]
    history = run_experiment([*run, *pair])
    assert history["my_distance"][-1] > 0
    np.testing.assert_allclose(history["my_distance"], history["end_to_end_distance"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_a_constant_of_the_data(engine):
    """The least-squares loss, which the loss of a linear net comes down to: a metric and an event name it."""

    @constant
    def test_extending_floor(dataset):
        x, y = (t.numpy() for t in (dataset.train_inputs, dataset.train_targets))
        return np.array(np.linalg.lstsq(x, y)[1].sum() / y.size)

    @quantity
    def full_train_loss_of_mine(train_predictions, train_targets):
        return (train_predictions - train_targets).square().mean((-2, -1))

    @model_metric("test_extending_excess", batched=True)
    def excess(full_train_loss_of_mine, test_extending_floor):
        return full_train_loss_of_mine - test_extending_floor

    @event("test_extending_reached", of=["train_loss"])
    def reached(train_loss, test_extending_floor):
        return train_loss[-1] / test_extending_floor

    run = {"engine": engine, "dtype": "float64", "max_steps": 400, "evaluate_every": 200, "data": {"noise_std": 0.5}}
    run["model"] = {"num_hidden": 0}
    history = run_experiment(
        {**run, "training": {"lr": 0.5}, "metrics": ["test_extending_excess"], "events": ["test_extending_reached"]}
    )
    np.testing.assert_allclose(history["test_extending_excess"][-1], 0, atol=1e-6)
    np.testing.assert_allclose(history.events["test_extending_reached"], 1, rtol=1e-6)
    with pytest.raises(ConfigError, match="'train_inputs' is there already"):
        constant(types.FunctionType((lambda dataset: 0).__code__, {"__name__": "other"}, "train_inputs"))


def test_a_quantity_that_changes_the_weights_is_an_error():
    @quantity
    def test_extending_halved(model):
        with torch.no_grad():
            return model.weights[0].mul_(0.5).sum()

    @model_metric("test_extending_of_halved")
    def of_halved(test_extending_halved):
        return test_extending_halved

    with pytest.raises(ExtensionError, match=r"'test_extending_of_halved'.* it changed the weights"):
        run_experiment(["max_steps=2", "metrics=[test_extending_of_halved]", "engine=autograd"])


def test_a_quantity_has_a_name_of_its_own_and_asks_for_what_there_is():
    def weights(model): ...
    def lr(model): ...
    def mine_a(model): ...
    def inner_products(model): ...
    def mine(end_to_ned): ...

    for taken in (weights, lr, mine_a, inner_products):
        with pytest.raises(ConfigError, match=rf"quantity '{taken.__name__}'.* choose another name"):
            quantity(taken)
    with pytest.raises(ConfigError, match=r"asks for 'end_to_ned'.*did you mean 'end_to_end'"):
        quantity(mine)


def test_a_theory_and_its_figure(my_lab):
    """A prediction is a lane beside the run; a figure is a function of a history."""
    run = [my_lab, "max_steps=20", "model.num_hidden=0", "data.whiten=true", "dtype=float64", "training.lr=0.05"]
    history = run_experiment([*run, "theory=one_layer_whitened"])
    np.testing.assert_allclose(history["train_loss_one_layer_whitened"], history["train_loss"], rtol=1e-9)
    assert history.events["whitening_one_layer_whitened"] < 1e-14

    def plot_prediction(history):
        figure = plot_run(history, [])
        figure.axes[0].plot(history["step"], history["train_loss_one_layer_whitened"], label="predicted")
        return figure

    drawn = {line.get_label(): line for line in plot_prediction(history).axes[0].lines}
    np.testing.assert_array_equal(drawn["predicted"].get_ydata(), history["train_loss_one_layer_whitened"])


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


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_a_tracker(my_lab, engine, tmp_path, capsys):
    tracker = f"tracker={{name: my_tracker, params: {{path: {tmp_path}/told}}}}"
    listener = "callbacks=[{name: my_listener}]"
    history = run_experiment([my_lab, f"engine={engine}", "max_steps=3", tracker, listener])
    told = [f"{record['step']} {record['train_loss']}" for record in history]
    assert (tmp_path / "told").read_text().splitlines() == ["run 0.0005", *told, "finished"]
    assert capsys.readouterr().out.splitlines() == told


@pytest.mark.long
@pytest.mark.hydra
def test_a_launcher(door, tmp_path):
    """A plugin of Hydra's that Python finds, whatever its name: its jobs store what a sweep without it does."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "my_launcher.py").write_text(LAUNCHER)
    sweep = ["-m", "max_steps=3", "model.gamma=1,1.5,2", "hydra.sweeper.members=2"]
    for more in (["hydra/launcher=mine", "hydra.sweep.dir=mine"], ["hydra.sweep.dir=here"]):
        result = door.run(tmp_path, *sweep, *more, PYTHONPATH=str(tmp_path))
        assert result.status == 0, result.err
        assert ("2 jobs are mine" in result.out) == ("hydra/launcher=mine" in more)
    assert_frame_equal(load_sweep(tmp_path / "mine"), load_sweep(tmp_path / "here"))


@pytest.mark.hydra
def test_a_launcher_from_python(tmp_path, monkeypatch, capsys):
    """`dln.run_sweep` hands jobs to a launcher too, and what they store is the same."""
    (tmp_path / "my_launcher.py").write_text(LAUNCHER)
    spec = importlib.util.spec_from_file_location("hydra_plugins.my_launcher", tmp_path / "my_launcher.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    Plugins.instance().register(module.MyLauncher)
    sweep, handlers = {"max_steps": 3, "model.gamma": [1, 1.5, 2]}, [*logging.getLogger().handlers]
    for name, launcher in (("mine", "mine"), ("here", None)):
        report = run_sweep(sweep, directory=tmp_path / name, members=2, launcher=launcher)
        assert report.finished == 3
        assert ("2 jobs are mine" in capsys.readouterr().out) == (launcher == "mine")
    assert logging.getLogger().handlers == handlers  # Hydra's own launchers would replace them
    assert_frame_equal(load_sweep(tmp_path / "mine"), load_sweep(tmp_path / "here"))


# --- an engine


class OneLayer:
    """Gradient descent of a net of one layer in plain numpy, as an engine."""

    engine = "one_layer"

    def __init__(self, blueprint, checkpoints):
        training, data = blueprint.config.training, blueprint.dataset
        self.lr, self.max_steps, self.recorded = training.lr, blueprint.config.max_steps, blueprint.recorded
        self.sets = [(data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets)]
        ((self.w,), _) = blueprint.start("")
        self.history, self.step, self.events = History(), 0, {}

    def add_callback(self, callback):
        raise AssertionError("nobody asked for a bar")

    def run(self, on_record=lambda record: None):
        losses = dict(zip(("train_loss", "test_loss"), ([x.numpy(), y.numpy()] for x, y in self.sets), strict=True))
        for step in range(self.max_steps + 1):
            self.step = step
            if self.step in self.recorded:
                record = {name: float(np.mean((x @ self.w.T - y) ** 2)) for name, (x, y) in losses.items()}
                self.history.records.append({"step": self.step, **record})
                on_record(self.history.final)
            x, y = losses["train_loss"]
            self.w = self.w - self.lr * 2 / y.size * (x @ self.w.T - y).T @ x
        return self.history


def test_an_engine(monkeypatch, tmp_path):
    def why_not(blueprint):
        return "hidden layers" if blueprint.config.model.num_hidden else None

    monkeypatch.setitem(factory.ENGINES, "one_layer", factory.Engine(why_not, OneLayer))
    run = {"engine": "one_layer", "model": {"num_hidden": 0}, "max_steps": 30, "dtype": "float64", "evaluate_every": 10}
    ours = run_experiment(run, directory=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["engine"] == "one_layer"
    theirs = run_experiment({**run, "engine": "autograd"})
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12)
    assert [history.records for history in run_experiments([run, run])] == 2 * [ours.records]
    with pytest.raises(ConfigError, match="engine=one_layer does not cover hidden layers"):
        run_experiment({**run, "model": {"num_hidden": 1}})
    with pytest.raises(ConfigError, match="unknown engine 'one_later'; did you mean 'one_layer'"):
        run_experiment({**run, "engine": "one_later"})
