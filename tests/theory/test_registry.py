"""Every registered theory, as a config asks for it: the same alone and in company, and by both engines."""

import numpy as np
import pytest
from omegaconf import OmegaConf

import dln
from dln.config import TheoryConfig
from dln.theory import THEORIES
from dln.theory.lanes import Theory
from tests.theory.problems import problem

SMALL = {
    "max_steps": 8,
    "evaluate_every": 4,
    "model": {"hidden_dim": 4, "num_hidden": 2, "in_dim": 3, "out_dim": 3},
    "data": {"train_samples": 20, "test_samples": 10, "params": {"scale": 2.0}},
    "training": {"lr": 0.02},
    "metrics": ["singular_values"],
}
ONE = {"model": {"num_hidden": 0}}
TWO, WHITE, BALANCED = {"model": {"num_hidden": 1}}, {"data": {"whiten": True}}, {"model": {"init": "balanced"}}
ALIGNED = {"model": {"init": "aligned"}, **WHITE}
ONLINE = {"data": {"online": True, "noise_std": 0.1}, "training": {"batch_size": 5}}
DRAWN = {"training": {"batch_size": 5, "replacement": True}}
NEEDED = {
    "aligned_modes": [ALIGNED],
    "aligned_modes_gd": [ALIGNED],
    "discrete": [TWO],
    "mixed": [TWO],
    "noisy_modes": [ONLINE, {"model": {"init": "aligned"}}],
    "one_layer": [ONE],
    "one_layer_sgd": [ONE, ONLINE],
    "riccati": [TWO, WHITE, BALANCED],
    "sde": [DRAWN],
    "sgd_mean": [DRAWN],
    "two_cycle": [TWO, WHITE, {"training": {"lr": 0.8}}],
}
"""What a theory asks of a run, if it does not take any."""


def config_of(name, **more):
    return OmegaConf.to_container(OmegaConf.merge(SMALL, *NEEDED.get(name, []), {"theory": [name]}, more))


OURS = [entry.name for entry in THEORIES if entry.function.__module__.startswith("dln.")]


@pytest.mark.parametrize("name", OURS)
def test_a_theory_says_the_same_of_a_run_alone_and_in_company_under_both_engines(name):
    lr = config_of(name)["training"]["lr"]
    one, other = ({"training": {"model_seed": seed, "lr": rate}} for seed, rate in ((0, lr), (1, 0.97 * lr)))
    both = dln.run_experiments([config_of(name, **one), config_of(name, **other)])
    alone = dln.run_experiment(config_of(name, **other))
    slow = dln.run_experiment(config_of(name, **other, engine="autograd"))
    said = [column for column in alone.names if column.endswith(f"_{name}") and "distance" not in column]
    assert said
    for column in said:
        np.testing.assert_array_equal(both[1][column], alone[column])
        np.testing.assert_array_equal(slow[column], alone[column])
        assert np.isfinite(alone[column]).any()
    conditions = {key: value for key, value in alone.events.items() if key.endswith(f"_{name}")}
    assert alone.events == conditions == both[1].events == slow.events
    assert np.isfinite([*conditions.values()]).all()
    assert str(both[0].records) != str(both[1].records)


@pytest.mark.parametrize("name", OURS)
def test_what_a_theory_says_of_a_step_does_not_hang_on_the_other_steps(name):
    every = dln.run_experiment(config_of(name, evaluate_every=1))
    some = dln.run_experiment(config_of(name))
    for column in (column for column in some.names if column.endswith(f"_{name}") and "distance" not in column):
        np.testing.assert_allclose(some[column], every[column][::4], rtol=1e-9, atol=1e-12)


MEANS = [entry.name for entry in THEORIES if {"train_loss", "map_std"} <= {*entry.marks["columns"]}]


@pytest.mark.parametrize("name", MEANS)
def test_mean_losses_follow_from_the_mean_map_and_the_scatter_around_it(name):
    """E L(W) = L(E W) + tr(scatter Sigma) / d_out, whatever the law of W: so mean test losses are right too."""
    single = name.startswith("one_layer")
    widths, sampling = ((3, 2), "online") if single else ((3, 4, 2), "replacement")
    runs = problem(widths, lr=0.002, batch_size=4, sampling=sampling, runs=2)
    told = Theory(TheoryConfig(name), "theory[0]").predict(runs, np.array([0, 4, 20]))
    losses = runs.losses(told.maps) + (told.scatter * runs.sigma[:, None]).sum((-2, -1)) / runs.dims[0]
    np.testing.assert_allclose(told.columns["train_loss"], losses, rtol=1e-4 if name == "sgd_mean" else 1e-12)
    np.testing.assert_allclose(told.columns["map_std"] ** 2, np.trace(told.scatter, axis1=-2, axis2=-1), rtol=1e-9)
    assert (told.columns["map_std"][:, 1:] > 0).all()
