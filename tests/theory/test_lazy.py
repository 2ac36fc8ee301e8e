"""The frozen tangent kernel: gradient descent on the linearised net, and how real nets come near it with width."""

from dataclasses import replace

import numpy as np
import pytest

from dln.derivatives.tangent_kernel import gauss_newton_spectrum
from dln.theory import THEORIES
from dln.theory.lazy import moved_layers
from tests.theory.descents import assert_alone, maps_of_gd, weights_of_gd
from tests.theory.problems import problem

lazy = THEORIES.get("lazy")


def tangents(layers):
    """The derivatives of the map's entries, row by row, by all weights, from unit changes of one weight at a time."""
    columns = []
    for i, w in enumerate(layers):
        for place in np.ndindex(w.shape):
            unit = np.zeros_like(w)
            unit[place] = 1
            columns.append(
                np.linalg.multi_dot(
                    [np.eye(len(layers[-1])), *layers[:i:-1], unit, *layers[:i][::-1], np.eye(layers[0].shape[1])]
                )
            )
    return np.array([column.ravel() for column in columns]).T


def linearised(given, steps):
    """Gradient descent on the net that is linear in its weights: its maps, and its weights in the end."""
    layers, x, y = [w[0] for w in given.layers], given.inputs[0], given.targets[0]
    slopes, start = tangents(layers), given.start[0]
    change, maps = np.zeros(slopes.shape[1]), []
    for step in range(steps[-1] + 1):
        now = start + (slopes @ change).reshape(start.shape)
        maps += [now] * (step in steps)
        if step < steps[-1]:
            change = change - given.lr[0] * slopes.T @ (2 / y.size * (x @ now.T - y).T @ x).ravel()
    cuts = np.cumsum([w.size for w in layers])[:-1]
    return np.array(maps), [w + part.reshape(w.shape) for w, part in zip(layers, np.split(change, cuts), strict=True)]


def kernel(layers, sigma):
    """The tangent kernel on inputs with these moments, but for a rotation of these."""
    root = np.kron(np.eye(len(layers[-1])), np.linalg.cholesky(sigma))
    slopes = root.T @ tangents(layers)
    return slopes @ slopes.T


@pytest.mark.parametrize(("widths", "samples"), [((3, 2), 9), ((3, 4, 2), 9), ((2, 1, 3), 9), ((4, 3, 3, 2), 2)])
def test_it_is_gradient_descent_on_the_linearised_net(widths, samples):
    """Weight by weight, with a matrix of all derivatives; inputs may span a part of their space only."""
    given, steps = problem(widths, samples, lr=0.05), np.array([0, 1, 2, 60, 400])
    maps, weights = linearised(given, steps)
    np.testing.assert_allclose(lazy(given, steps).maps[0], maps, atol=1e-11)
    for ours, theirs in zip(moved_layers([w[0] for w in given.layers], maps[-1]), weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_the_change_of_the_kernel():
    """It is that of the linearised net's weights; of a wide net, that of the run's, to a factor of about 2."""
    given, steps = problem((3, 200, 2), lr=0.005, scale=0.2), np.array([0, 100])
    told = lazy(given, steps).conditions["kernel_change"][0]
    start, end = (kernel(layers, given.sigma[0]) for layers in weights_of_gd(given, steps))
    moved = kernel(linearised(given, steps)[1], given.sigma[0])
    np.testing.assert_allclose(told, np.linalg.norm(moved - start) / np.linalg.norm(start), rtol=1e-8)
    assert 1 / 3 < np.linalg.norm(end - start) / np.linalg.norm(start) / told < 3
    assert told < 0.05


def test_one_layer_is_linear():
    given, steps = problem((3, 2)), np.array([0, 5, 100])
    found = lazy(given, steps)
    np.testing.assert_allclose(found.maps[0], maps_of_gd(given, steps), atol=1e-12)
    assert found.conditions["kernel_change"] < 1e-13


def test_the_first_step_is_right_to_second_order():
    """The map of a real net differs by the square of the rate after a step."""
    distances = []
    for lr in (0.02, 0.01):
        given = problem((3, 4, 3, 2), lr=lr)
        distances.append(np.abs(lazy(given, np.array([1])).maps[0] - maps_of_gd(given, [1])).max())
    np.testing.assert_allclose(distances[0] / distances[1], 4, rtol=0.1)


def test_errors_decay_by_the_kernels_spectrum():
    """An error along a kernel's eigenvector shrinks by 1 - lr lambda a step, lambda of the Gauss-Newton matrix."""
    given = problem((2, 6, 2), lr=0.01)
    given = replace(given, sigma=np.eye(2)[None], sigma_yx=given.optimum)
    layers = [w[0] for w in given.layers]
    slopes = tangents(layers)
    values, vectors = np.linalg.eigh(slopes @ slopes.T)
    np.testing.assert_allclose(values[::-1], gauss_newton_spectrum(layers, np.eye(2)), rtol=1e-10)
    maps = lazy(given, np.array([0, 30])).maps[0]
    errors = (maps - given.optimum[0]).reshape(2, 4) @ vectors
    np.testing.assert_allclose(errors[1], (1 - 0.01 * values) ** 30 * errors[0], atol=1e-12)


def test_wide_nets_come_near_it():
    """The farthest they get from it, as a share of the way to go, and the kernel's change fall as powers of width.

    theory-more.md item "lazy" has about h^-0.7 for three layers and weights of variance h^-0.75.
    """
    widths, shares, changes = (20, 60, 180), [], []
    for width in widths:
        found = []
        for seed in range(4):
            given = problem((4, width, width, 3), scale=width ** (-0.75 / 2), seed=seed)
            rate = 0.3 / gauss_newton_spectrum([w[0] for w in given.layers], given.sigma[0])[0]
            given, steps = replace(given, lr=np.array([rate])), np.arange(0, 60, 6)
            prediction = lazy(given, steps)
            distance = np.linalg.norm(prediction.maps[0] - maps_of_gd(given, steps), axis=(1, 2)).max()
            found.append(
                (distance / np.linalg.norm(given.start - given.optimum), prediction.conditions["kernel_change"][0])
            )
        share, change = np.exp(np.log(found).mean(0))
        shares.append(share)
        changes.append(change)
    for values in (shares, changes):
        slope = np.polyfit(np.log(widths), np.log(values), 1)[0]
        assert -1.3 < slope < -0.4


def test_a_rich_net_is_told():
    """From small weights the kernel changes as much as it can, and the run is another one."""
    given, steps = problem((3, 4, 2), lr=0.1, scale=0.05), np.array([0, 60])
    prediction = lazy(given, steps)
    assert prediction.conditions["kernel_change"] > 1
    assert np.linalg.norm(prediction.maps[0, -1] - maps_of_gd(given, steps)[-1]) > 0.5


def test_at_a_saddle_nothing_moves():
    given = problem((3, 4, 2))
    prediction = lazy(replace(given, layers=[0 * w for w in given.layers]), np.array([0, 9]))
    assert not prediction.maps.any()
    assert prediction.conditions["kernel_change"] == 0


def test_too_large_a_rate_is_told_by_numbers_that_are_not_finite():
    found = lazy(problem((3, 4, 2), lr=50.0), np.array([0, 1, 500]))
    assert np.isfinite(found.maps[0, :2]).all()
    assert not np.isfinite(found.maps[0, 2]).any()


def test_runs_together_and_alone():
    assert_alone(lazy, problem((3, 4, 4, 2), runs=3), np.array([0, 3, 50]))
