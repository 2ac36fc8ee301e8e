"""One layer: gradient descent, and online SGD against quadrature and thousands of runs."""

from dataclasses import replace
from decimal import Decimal
from itertools import product

import numpy as np
import pytest
import torch

import dln
from dln.errors import ConfigError
from dln.theory import THEORIES, critical_lr, one_layer_maps, online_moments
from dln.theory.one_layer import geometric
from tests.theory.descents import assert_alone, maps_of_gd
from tests.theory.problems import problem

one_layer, one_layer_sgd = THEORIES.get("one_layer"), THEORIES.get("one_layer_sgd")


@pytest.mark.parametrize(("widths", "samples"), [((3, 2), 12), ((2, 4), 9), ((5, 2), 3)])
def test_it_is_gradient_descent(widths, samples):
    """Just below the critical rate and just above it, and where inputs do not span the space."""
    given, steps = problem(widths, samples, runs=2), np.array([0, 1, 2, 77, 400])
    critical = critical_lr(given.sigma, widths[1])
    for share in (0.01, 0.6, 0.99, 1.01):
        here = replace(given, lr=share * critical)
        found = one_layer(here, steps).maps
        for r in range(2):
            expected = maps_of_gd(here, steps, r)
            np.testing.assert_allclose(found[r], expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())


def test_a_run_has_these_digits():
    config = {"model": {"num_hidden": 0}, "training": {"lr": 0.2}, "max_steps": 60, "evaluate_every": 20}
    run = dln.run_experiment({**config, "dtype": "float64", "theory": ["one_layer"]})
    assert run["end_to_end_distance_one_layer"].max() < 1e-12
    assert run["train_loss"][-1] < 0.1 * run["train_loss"][0]


def test_the_critical_rate():
    given = problem((3, 2))
    critical = critical_lr(given.sigma, 2)
    for share, grows in ((0.999, False), (1.001, True)):
        maps = one_layer(replace(given, lr=share * critical), np.array([10_000, 40_000])).maps[0]
        sizes = np.linalg.norm(maps - given.optimum, axis=(1, 2))
        assert (sizes[1] > sizes[0]) == grows


def test_directions_almost_without_inputs_move_almost_not():
    """Where an eigenvalue of Sigma is tiny the sum of powers is n, to all digits."""
    sigma = np.diag([1.0, 1e-14, 0.0])
    found = one_layer_maps(np.ones((1, 3)), sigma, np.array([[2.0, 1e-6, 0.0]]), 0.1, np.array([1000]))
    np.testing.assert_allclose(found[0, 0], [2, 1 + 100 * (1e-6 - 1e-14), 1], rtol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 7, 300])
def test_sums_of_powers(steps):
    shares = [0.0, 1e-20, 1e-9, 0.3, 0.5, 1.0, 1.9, 2.0]
    exact = [
        float(sum(((1 - Decimal(share)) ** k for k in range(1, steps)), Decimal(min(steps, 1)))) for share in shares
    ]
    np.testing.assert_allclose(geometric(np.array(shares), steps), exact, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_moments_after_a_step_by_quadrature(batch_size):
    """All Gaussian integrals are of polynomials of degree 4, which five Gauss-Hermite nodes a variable integrate."""
    rng = np.random.default_rng(batch_size)
    root = rng.standard_normal((2, 2))
    error, sigma, eta, std = rng.standard_normal((2, 2)), root @ root.T, 0.17, 0.6
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    mean, second, total = 0.0, 0.0, 0.0
    for at in product(range(5), repeat=2 * batch_size):
        weight = weights[list(at)].prod()
        x = nodes[list(at)].reshape(batch_size, 2) @ root.T
        after = error - eta * error @ x.T @ x / batch_size
        noise = (eta * std / batch_size) ** 2 * 2 * x.T @ x  # of targets: two outputs, over all draws of it
        mean, second, total = mean + weight * after, second + weight * (after.T @ after + noise), total + weight
    *_, (found, covariance) = online_moments(error, sigma, np.array(eta), np.array(std**2), batch_size, 1)
    np.testing.assert_allclose(found, mean / total, atol=1e-13)
    np.testing.assert_allclose(covariance + found.T @ found, second / total, atol=1e-12)


def test_four_thousand_runs():
    """Means, second moments, losses and spread of online SGD lie within 4 standard errors of what members say."""
    members, steps, lr, noise = 4000, 25, 0.12, 0.4
    data = dln.linear_teacher(3, 2, {"matrix": "random_normal"}, online=True, noise_std=noise, dtype=torch.float64)
    start = np.random.default_rng(0).standard_normal((2, 3))
    how = {"lr": lr, "batch_size": 2, "batch_seeds": range(members)}
    ensemble = dln.train_ensemble([np.tile(start, (members, 1, 1))], data, max_steps=steps, evaluate_every=steps, **how)
    ((maps,), _) = ensemble.weights()
    given = problem((3, 2), lr=lr, batch_size=2, sampling="online")
    teacher = data.teacher.numpy()
    square = (teacher**2).sum() + 2 * noise**2
    given = replace(given, layers=[start[None]], sigma_yx=teacher[None], target_square=np.array([square]))
    found = one_layer_sgd(replace(given, noise_std=np.array([noise])), np.array([0, steps]))
    losses = (np.square(maps - teacher).sum((1, 2)) + 2 * noise**2) / 2
    around = maps - found.maps[0, -1]
    *_, (_, covariance) = online_moments(start - teacher, np.eye(3), lr, noise**2, 2, steps)
    for ours, theirs in (
        (maps, found.maps[0, -1]),
        (losses, found.columns["train_loss"][0, -1]),
        (np.square(around).sum((1, 2)), found.columns["map_std"][0, -1] ** 2),
        (around.mT @ around, covariance),
    ):
        z = (ours.mean(0) - theirs) / (ours.std(0) / np.sqrt(members))
        assert (abs(z) < 4).all()
    assert found.columns["map_std"][0, 0] == 0
    assert found.columns["map_std"][0, -1] > 0.2


def test_the_mean_map_is_that_of_gradient_descent_and_large_batches_have_no_spread():
    given, steps = problem((3, 2), sampling="online", batch_size=3), np.array([0, 10, 200])
    found = one_layer_sgd(given, steps)
    np.testing.assert_allclose(found.maps, one_layer(given, steps).maps, atol=1e-13)
    large = one_layer_sgd(replace(given, batch_size=3 * 10**8), steps)
    np.testing.assert_allclose(large.columns["map_std"] * 1e4, found.columns["map_std"], rtol=0.05)
    np.testing.assert_allclose(large.columns["train_loss"], given.losses(found.maps), rtol=1e-6)


def test_each_is_refused_elsewhere():
    steps = np.array([0, 5])
    for theory in (one_layer, one_layer_sgd):
        with pytest.raises(ConfigError, match=r"needs depth 1, and it is 2; use model.num_hidden=0"):
            theory(problem((3, 4, 2)), steps)
    with pytest.raises(ConfigError, match=r"fresh Gaussian samples.*of sampling 'epochs'; use data.online=true"):
        one_layer_sgd(problem((3, 2), batch_size=2, sampling="epochs"), steps)
    with pytest.raises(ConfigError, match=r"online but not Gaussian; use .*data.inputs=gaussian"):
        one_layer_sgd(replace(problem((3, 2), batch_size=2, sampling="online"), normal=np.array([False])), steps)


def test_runs_together_and_alone():
    assert_alone(one_layer, problem((3, 2), runs=3), np.array([0, 3, 50]))
    assert_alone(one_layer_sgd, problem((3, 2), sampling="online", batch_size=4, runs=3), np.array([0, 3, 50]))
