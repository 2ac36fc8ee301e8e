"""Two wide layers between lazy and rich, against their own gradient flow and closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from dln.derivatives.hessian import top_eigenvalues
from dln.errors import ConfigError
from dln.theory import THEORIES, balanced_layers, kappa, mixed_maps, mixed_mode
from tests.theory.descents import assert_alone, maps_of_gd
from tests.theory.problems import problem

mixed, flow = THEORIES.get("mixed"), THEORIES.get("gradient_flow")


def wide(width, scale=0.5, seed=0):
    """A net of random weights with kappa = scale^2."""
    return problem((3, width, 2), scale=scale / np.sqrt(width), lr=0.05, seed=seed)


@pytest.mark.parametrize("size", [0.1, 0.7])
def test_exact_for_orthogonal_neurons(size):
    """Each hidden unit reads one input, or writes one output; inputs are not white."""
    given, steps = problem((3, 7, 2), lr=0.1), np.array([0, 3, 20, 100])
    basis = size * np.linalg.qr(np.random.default_rng(0).standard_normal((7, 5)))[0]
    given = replace(given, layers=[basis[None, :, :3], basis.T[None, 3:]])
    prediction = mixed(given, steps, rtol=1e-12)
    np.testing.assert_allclose(prediction.maps, flow(given, steps, rtol=1e-12).maps, atol=1e-9)
    np.testing.assert_allclose(kappa(*given.layers), size**2)
    assert prediction.conditions["orthogonality"] < 1e-12


def test_exact_for_balanced_layers():
    """There kappa is 0, and the equation is that of balanced layers."""
    given, steps = problem((3, 7, 2), lr=0.05), np.array([0, 5, 40])
    given = replace(given, layers=balanced_layers(given.start, 2))
    prediction = mixed(given, steps)
    np.testing.assert_allclose(prediction.maps, flow(given, steps).maps, atol=1e-7)
    assert kappa(*given.layers) < 1e-14
    assert prediction.conditions["orthogonality"] < 1e-12
    silent = mixed(replace(given, layers=[0 * w for w in given.layers]), steps)
    assert not silent.maps.any()
    assert silent.conditions["orthogonality"] == 0


def test_it_stays_exact_from_any_point_of_such_a_path():
    """From what orthogonal neurons have become, kappa is what it was and the rest of the path is the same."""
    basis = 0.5 * np.eye(7)[:, :5]
    given = replace(problem((3, 7, 2), lr=0.001), layers=[basis[None, :, :3], basis.T[None, 3:]])
    layers = [w[0] for w in given.layers]
    for _ in range(400):  # by gradient descent in small steps, which keeps it to the square of their size
        error = layers[1] @ layers[0] @ given.sigma[0] - given.sigma_yx[0]
        layers = [layers[0] - 1e-3 * layers[1].T @ error, layers[1] - 1e-3 * error @ layers[0].T]
    later, steps = replace(given, layers=[w[None] for w in layers]), np.array([0, 200])
    prediction = mixed(later, steps)
    np.testing.assert_allclose(prediction.maps, flow(later, steps).maps, atol=1e-3)
    assert prediction.conditions["orthogonality"] < 5e-3
    assert np.abs(later.start).max() > 0.2


def test_the_closed_form_of_a_mode():
    """It solves the equation, from 0, for modes of zero strength too."""
    strengths, times = np.array([2.0, 0.7, 0.0]), np.linspace(0, 3, 9)
    for size in (1e-3, 0.4, 30.0):
        found = mixed_maps(np.zeros((3, 3)), np.eye(3), np.diag(strengths), size, times, rtol=1e-12)
        expected = mixed_mode(strengths, size, times[:, None])
        np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), expected, atol=1e-9)


def test_lazy_and_rich_limits_of_a_mode():
    """Lazy: s (1 - exp(-2 kappa t)). Rich: learned suddenly at ln(2 s / kappa) / (2 s)."""
    times = np.linspace(0, 3, 7)
    np.testing.assert_allclose(mixed_mode(1.0, 1e4, times / 1e4), 1 - np.exp(-2 * times), atol=1e-7)
    when = np.log(2 * 3.0 / 1e-8) / 6
    early, half, late = mixed_mode(3.0, 1e-8, when + np.array([-3, 0, 3]))
    assert early < 1e-5
    assert late > 3 - 1e-5
    assert 0.5 < half < 2.5


def test_wide_random_nets_come_near_it():
    """By the square root of the width, and so does the condition."""
    errors, conditions = [], []
    for width in (30, 240):
        runs = [wide(width, seed=seed) for seed in range(3)]
        found = [mixed(run, np.array([10, 20, 40]), rtol=1e-6) for run in runs]
        exact = [flow(run, np.array([10, 20, 40]), rtol=1e-6) for run in runs]
        errors.append(np.mean([np.abs(a.maps - b.maps).max() for a, b in zip(found, exact, strict=True)]))
        conditions.append(np.mean([a.conditions["orthogonality"] for a in found]))
    assert 1.4 < errors[0] / errors[1] < 6
    assert 2 < conditions[0] / conditions[1] < 4


def test_a_narrow_net_is_told():
    given, steps = wide(3), np.array([0, 40])
    prediction = mixed(given, steps)
    assert prediction.conditions["orthogonality"] > 0.4
    assert np.abs(prediction.maps - flow(given, steps).maps).max() > 0.1


def test_the_sharpness_that_it_tells():
    """About that of a wide net at the end of its path; too large a rate is told, where gradient descent diverges."""
    given, steps = wide(200), np.arange(0, 120, 8)
    told = mixed(given, steps).conditions["lr_sharpness"]
    layers = [w[0] for w in given.layers]
    for _ in range(120):
        error = layers[1] @ layers[0] @ given.sigma[0] - given.sigma_yx[0]
        layers = [layers[0] - 0.05 * layers[1].T @ error, layers[1] - 0.05 * error @ layers[0].T]
    true = 0.05 * top_eigenvalues(layers, given.sigma[0], given.sigma_yx[0])[0]
    assert 0.8 < told[0] / true < 1.5
    steep, few = replace(given, lr=np.array([2.0])), np.arange(4)
    assert mixed(steep, few).conditions["lr_sharpness"] > 2
    assert steep.losses(maps_of_gd(steep, few)[None])[0, -1] > steep.losses(steep.start)[0]


def test_a_start_that_is_not_finite():
    given = problem((3, 7, 2), runs=2)
    given.layers[0][0, 0, 0] = np.inf
    found = mixed(given, np.array([0, 5])).maps
    assert not np.isfinite(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_rates_beyond_all_measure_are_refused():
    with pytest.raises(ConfigError, match=r"lr \* sharpness at most 10, and it is \d.*; use a smaller training.lr"):
        mixed(replace(wide(20), lr=np.array([1e4])), np.array([0, 10]))


def test_only_two_layers():
    with pytest.raises(ConfigError, match=r"theory mixed needs depth 2, and it is 3; use model.num_hidden=1"):
        mixed(problem((3, 4, 4, 2)), np.array([0]))


def test_runs_together_and_alone():
    assert_alone(mixed, problem((3, 40, 2), runs=3, scale=0.1), np.array([0, 3, 20]))
