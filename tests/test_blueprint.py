"""Each thing that a config describes is made once, by whichever door the run comes in."""

import collections
from pathlib import Path

import numpy as np
import pytest

import dln
from dln import run_experiment, run_experiments
from dln.blueprint import Blueprint
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig

MADE = '''
"""What is registered here says in a file how often it is called."""

from pathlib import Path

import torch

import dln


def told(what):
    with Path("made.txt").open("a") as file:
        file.write(f"{what}\\n")


@dln.register_matrix("told_teacher")
def teacher(in_dim, out_dim, params):
    told("teacher")
    return 2.0 * torch.eye(out_dim, in_dim)


@dln.register_init("told_start")
def start(shapes, rngs):
    told("weights")
    return [0.1 * rng.standard_normal(shape) for shape, rng in zip(shapes, rngs)]


@dln.register_callback("told_callback")
def intervene():
    told("callback")
    return dln.timeline.acting_at([3], lambda step, trainer: None)


@dln.model_metric("told_metric", batched=True, needs=lambda shapes: told("metric"))
def metric(weight_squares):
    return weight_squares.sum(-1)


@dln.comparative_metric("told_pair", batched=True, needs=lambda a, b: told("pair"))
def pair(difference_squares):
    return difference_squares
'''

LANE = {"init": "told_start", "hidden_dim": 4}
COMMON = {
    "data": {"params": {"matrix": "told_teacher"}, "train_samples": 9, "test_samples": 4},
    "extensions": ["told_of_making"],
    "events": ["plateaus"],
    "max_steps": 4,
}
SINGLE = {**COMMON, "model": LANE, "metrics": ["told_metric"], "callbacks": [{"name": "told_callback"}]}
PAIR = {
    **COMMON,
    "shared": {"model": LANE},
    "model_metrics": ["told_metric"],
    "comparative_metrics": ["told_pair"],
    "callbacks_a": [{"name": "told_callback"}],
    "callbacks_b": [{"name": "told_callback"}],
    "training_b": {"model_seed": 1},
}
ONCE = {"teacher": 1, "weights": 1, "callback": 1, "metric": 1}
TWICE = {"teacher": 1, "weights": 2, "callback": 2, "metric": 2, "pair": 1}
"""Of two models each has its weights, callbacks and metrics."""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Returns how often each thing was made since it was last asked."""
    (tmp_path / "told_of_making.py").write_text(MADE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def counts():
        lines = Path("made.txt").read_text().split() if Path("made.txt").exists() else []
        Path("made.txt").unlink(missing_ok=True)
        return collections.Counter(lines)

    return counts


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize(("config", "expected"), [(SINGLE, ONCE), (PAIR, TWICE)], ids=["single", "pair"])
def test_a_run_makes_each_thing_once(config, expected, engine, made, monkeypatch):
    draws = []
    drawn = dln.blueprint.drawn
    monkeypatch.setattr("dln.blueprint.drawn", lambda *args, **kw: (draws.append(1), drawn(*args, **kw))[1])
    run_experiment({**config, "engine": engine})
    assert made() == expected
    schema = ComparativeConfig if config is PAIR else SingleConfig
    checked = Blueprint(resolve({**config, "engine": engine}, schema)).check()
    assert made() == expected
    assert len(draws) == 1  # a check draws no samples
    history = dln.experiment.run_blueprint(checked)
    assert made() == {}
    assert history.records == run_experiment({**config, "engine": engine}).records


def test_runs_that_share_data_make_them_once(made):
    seeds = range(5)
    histories = run_experiments([{**SINGLE, "training": {"model_seed": seed}} for seed in seeds])
    assert made() == {"teacher": 1, "weights": len(seeds), "callback": len(seeds), "metric": 1}
    assert len({history.final["train_loss"] for history in histories}) == len(seeds)
    run_experiments([{**SINGLE, "training": {"lr": rate}} for rate in (0.1, 0.2, 0.3)])
    assert made() == {"teacher": 1, "weights": 1, "callback": 3, "metric": 1}


@pytest.mark.long
@pytest.mark.parametrize("comparative", [False, True])
def test_a_door_makes_each_thing_once(comparative, made, door, tmp_path):
    config = PAIR if comparative else SINGLE
    lane = "shared.model" if comparative else "model"
    overrides = ["max_steps=4", "data.params={matrix: told_teacher}", "extensions=[told_of_making]"]
    overrides += [f"{lane}.{key}={value}" for key, value in LANE.items()]
    for key in config.keys() & {"callbacks", "callbacks_a", "callbacks_b"}:
        overrides.append(f"{key}=[{{name: told_callback}}]")
    overrides += [f"{key}=[{','.join(config[key])}]" for key in config if key.endswith("metrics")]
    overrides += ["training_b.model_seed=1"] if comparative else []
    result = door.run(tmp_path, *overrides, door="run_comparative.py" if comparative else "run.py")
    assert result.status == 0, result.err
    assert made() == (TWICE if comparative else ONCE)


def test_alpha_multiplies_the_weights_of_each_layer():
    alphas = [2.0, 0.5, 1.0, 3.0]
    plain, scaled = (Blueprint(resolve({"model": {"alpha": a}, "dtype": "float64"}, SingleConfig)) for a in (1, alphas))
    for alpha, before, after in zip(alphas, plain.start("")[0], scaled.start("")[0], strict=True):
        np.testing.assert_array_equal(after, alpha * before)
