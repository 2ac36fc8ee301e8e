"""Two layers: the Riccati solution against integrators and closed forms, the recursion against gradient descent."""

from dataclasses import replace

import numpy as np
import pytest

import dln
from dln.derivatives.products import moments
from dln.errors import ConfigError
from dln.theory import THEORIES, flow_maps, lambda_balance, riccati_layers, two_layer_recursion
from tests.naive import sgd
from tests.theory.descents import assert_alone, maps_of_gd
from tests.theory.problems import problem

riccati, discrete = THEORIES.get("riccati"), THEORIES.get("discrete")

NETS = [
    (3, 3, 3, 0.0),
    (2, 9, 4, 0.0),
    (4, 2, 3, 0.0),
    (3, 3, 4, 0.8),
    (3, 2, 4, 2.0),
    (4, 4, 2, -0.5),
    (3, 1, 2, -3.0),
]
"""Inputs, hidden units, outputs and lambda."""


def lambda_balanced(into, hidden, out, lam, runs=1, seed=0):
    """W_1 and W_2 with W_2'W_2 - W_1 W_1' = lam I and random singular values of W."""
    rng = np.random.default_rng(seed)
    k = min(into, hidden, out)
    left, hid, right = (np.linalg.qr(rng.standard_normal((runs, n, n)))[0] for n in (out, hidden, into))
    products = np.zeros((runs, hidden))
    products[:, :k] = rng.uniform(0.1, 0.5, (runs, k))
    halves = np.hypot(lam / 2, products)
    first, second = np.zeros((runs, hidden, into)), np.zeros((runs, out, hidden))
    for i in range(hidden):
        first[:, i, i : i + 1] = np.sqrt(halves - lam / 2)[:, i, None]
        second[:, i : i + 1, i] = np.sqrt(halves + lam / 2)[:, i, None]
    return hid @ first @ right, left @ second @ hid.mT


def whitened(into, hidden, out, lam, runs=1, lr=0.01):
    """Problems of lambda-balanced layers on inputs with Sigma = I."""
    given = problem((into, hidden, out), lr=lr, runs=runs)
    inputs = np.linalg.qr(given.inputs)[0] * np.sqrt(given.samples)
    sigma, sigma_yx = moments(inputs, given.targets)
    return replace(
        given, inputs=inputs, sigma=sigma, sigma_yx=sigma_yx, layers=lambda_balanced(into, hidden, out, lam, runs)
    )


@pytest.mark.parametrize("net", NETS)
def test_riccati_is_the_gradient_flow(net):
    given, steps = whitened(*net), np.array([0, 1, 40, 90, 400])
    found = riccati(given, steps).maps[0]
    layers = [w[0] for w in given.layers]
    np.testing.assert_allclose(
        found, flow_maps(layers, given.sigma[0], given.sigma_yx[0], 0.01 * steps, 1e-13), atol=1e-9
    )
    np.testing.assert_allclose(found[0], given.start[0], atol=1e-14)


@pytest.mark.parametrize("net", NETS)
def test_the_layers_of_riccati_stay_as_they_are_bound_to(net):
    """lambda is conserved, at any time, and both layers are those of the flow but for a rotation."""
    first, second = lambda_balanced(*net)
    target = np.random.default_rng(3).standard_normal((net[2], net[0]))
    times = np.array([0.0, 0.3, 5.0, 1000.0])
    later = riccati_layers(first[0], second[0], target, times)
    if net[1] <= net[0] + net[2]:
        lam, gap = lambda_balance(*later)
        np.testing.assert_allclose(lam, net[3], atol=1e-12)
        assert (gap < 1e-12).all()
    grams = first[0].T @ first[0], second[0] @ second[0].T
    np.testing.assert_allclose(later[0][0].T @ later[0][0], grams[0], atol=1e-13)
    np.testing.assert_allclose(later[1][0] @ later[1][0].T, grams[1], atol=1e-13)


@pytest.mark.parametrize("lam", [0.0, 0.8, -0.8])
def test_at_long_times_the_target_is_reached(lam):
    """To rounding, with signs and directions that the start does not share."""
    first, second = lambda_balanced(3, 3, 3, lam)
    target = 5 * np.random.default_rng(1).standard_normal((3, 3))
    target *= np.sign(
        np.linalg.det(target) * np.linalg.det(second[0] @ first[0])
    )  # W keeps the sign of its determinant
    later = riccati_layers(first[0], second[0], target, np.array([1000.0]))
    np.testing.assert_allclose((later[1] @ later[0])[0], target, atol=1e-12)


@pytest.mark.parametrize("time", [0.0, 1.0, 1000.0])
def test_modes_that_the_teacher_lacks(time):
    """F is singular then: a = a_0 / (1 + 2 a_0 t), beside a learned one, s / (1 + (s / a_0 - 1) e^(-2st))."""
    root, target = np.diag([0.3, 0.5, 0.0]), np.diag([2.0, 0.0, 0.0])
    first, second = riccati_layers(root, root, target, np.array([time]))
    expected = [2 / (1 + (2 / 0.09 - 1) * np.exp(-4 * time)), 0.25 / (1 + 0.5 * time), 0]
    np.testing.assert_allclose(second[0] @ first[0], np.diag(expected), rtol=1e-9, atol=1e-15)


def test_time_may_be_cut_into_any_pieces(monkeypatch):
    first, second = lambda_balanced(3, 4, 4, 0.5)
    times, target = np.linspace(0, 9, 50), np.random.default_rng(0).standard_normal((4, 3))
    before = riccati_layers(first[0], second[0], target, times)
    monkeypatch.setattr("dln.theory.two_layers.GROWTH", 0.7)
    after = riccati_layers(first[0], second[0], target, times)
    np.testing.assert_allclose(after[1] @ after[0], before[1] @ before[0], atol=1e-12)


def test_gradient_descent_comes_near_riccati_as_the_rate_falls():
    """And the condition falls with it: by half; far from it gradient descent diverges."""
    distances, sharpness = [], []
    for rate in (0.04, 0.02, 0.01):
        given, steps = whitened(2, 3, 3, 0.4, lr=rate), np.array([round(1 / rate)])
        found = riccati(given, steps)
        distances.append(np.abs(found.maps[0] - maps_of_gd(given, steps)).max())
        sharpness.append(found.conditions["lr_sharpness"][0])
    np.testing.assert_allclose(np.divide(distances[:-1], distances[1:]), 2, rtol=0.1)
    np.testing.assert_allclose(np.divide(sharpness[:-1], sharpness[1:]), 2, rtol=1e-6)
    given, steps = whitened(2, 3, 3, 0.4, lr=8.0), np.arange(4)
    assert riccati(given, steps).conditions["lr_sharpness"] > 2
    assert given.losses(maps_of_gd(given, steps)[None])[0, -1] > given.losses(given.start)[0]


def test_riccati_tells_what_it_needs_and_lacks():
    steps = np.array([0, 5])
    with pytest.raises(ConfigError, match=r"needs depth 2, and it is 3; use model.num_hidden=1"):
        riccati(problem((3, 4, 4, 2)), steps)
    with pytest.raises(ConfigError, match=r"max \|Sigma - I\| at most 1e-05, and it is \d.*data.whiten=true"):
        riccati(problem((3, 4, 2)), steps)
    given = whitened(3, 4, 2, 0.0)
    with pytest.raises(ConfigError, match=r"lambda I.* at most 1e-05, and it is \d.*model.init=balanced"):
        riccati(replace(given, layers=problem((3, 4, 2)).layers), steps)
    near = riccati(replace(given, layers=[given.layers[0] * (1 + 1e-7), given.layers[1]]), steps).conditions
    assert 1e-8 < near["lambda_gap"] < 1e-5
    assert near["whitening_gap"] < 1e-14


@pytest.mark.parametrize("widths", [(3, 4, 2), (2, 1, 3), (2, 9, 3)])
def test_the_recursion_is_gradient_descent(widths):
    given, steps = problem(widths, runs=2, lr=0.05), np.array([0, 1, 2, 50, 600])
    found = discrete(given, steps).maps
    for r in range(2):
        np.testing.assert_allclose(found[r], maps_of_gd(given, steps, r), atol=1e-13)


def test_a_run_has_these_digits():
    config = {"model": {"num_hidden": 1}, "training": {"lr": 0.02}, "max_steps": 100, "evaluate_every": 50}
    run = dln.run_experiment({**config, "dtype": "float64", "theory": ["discrete"]})
    assert run["end_to_end_distance_discrete"].max() < 1e-12
    assert run["train_loss"][-1] < 0.1 * run["train_loss"][0]


def test_the_recursion_with_any_batches_over_thousands_of_steps():
    """Both ends of the hidden layer too."""
    given, steps, rng = problem((3, 5, 2), lr=0.02), 2000, np.random.default_rng(0)
    x, y = given.inputs[0], given.targets[0]
    batches = [rng.choice(12, rng.integers(1, 6)) for _ in range(steps + 1)]
    drawn = (moments(x[batch], y[batch]) for batch in batches[:steps])
    first, second = (w[0] for w in given.layers)
    *_, gram = two_layer_recursion(first, second, drawn, 0.02)
    weights, _ = sgd([first, second], lambda s: (x[batches[s]], y[batches[s]]), 0.02, steps)
    stacked = np.vstack([weights[0].T, weights[1]])
    np.testing.assert_allclose(gram, stacked @ stacked.T, atol=1e-10)
    assert np.abs(gram[3:, :3] - given.start[0]).max() > 0.3


def test_a_recursion_that_diverges_says_so():
    found = discrete(problem((3, 4, 2), lr=5.0), np.array([0, 2, 200])).maps[0]
    assert np.isfinite(found[:2]).all()
    assert not np.isfinite(found[2]).any()


def test_the_recursion_needs_two_layers():
    with pytest.raises(ConfigError, match=r"theory discrete needs depth 2, and it is 1"):
        discrete(problem((3, 2)), np.array([0]))


def test_runs_together_and_alone():
    assert_alone(discrete, problem((3, 4, 2), runs=3), np.array([0, 3, 50]))
    assert_alone(riccati, whitened(3, 9, 2, 0.0, runs=3), np.array([0, 3, 500]))
