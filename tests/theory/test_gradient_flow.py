"""Gradient flow, against closed forms, gradient descent with small steps, and itself in another width."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm

from dln.derivatives.hessian import top_eigenvalues
from dln.derivatives.products import Chain
from dln.errors import ConfigError
from dln.theory import THEORIES, balance_gap, balanced_field, balanced_layers, flow_maps
from dln.theory.narrow import narrowed
from tests.small_nets import balanced
from tests.theory.descents import assert_alone, maps_of_gd
from tests.theory.problems import problem

flow, balanced_flow = THEORIES.get("gradient_flow"), THEORIES.get("balanced_flow")

RECTANGULAR = [((3, 2), 1), ((2, 4), 2), ((4, 2), 3), ((3, 3), 4), ((2, 3), 5)]
"""Shapes of maps, and depths."""


def on_balanced(shape, depth, width, rank=None, runs=1):
    """Problems of wide, exactly balanced starts."""
    out, into = shape
    given = problem((into, *[width] * (depth - 1), out), runs=runs, scale=0.4)
    rng = np.random.default_rng(7)
    narrow = balanced_layers(
        0.3 * rng.standard_normal((runs, out, rank or 9)) @ rng.standard_normal((rank or 9, into)), depth
    )
    bases = [np.linalg.qr(rng.standard_normal((width, w.shape[-2])))[0] for w in narrow[:-1]]
    layers = list(narrow)
    for i, basis in enumerate(bases):
        layers[i], layers[i + 1] = basis @ layers[i], layers[i + 1] @ basis.T
    return replace(given, layers=layers)


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (2, 5, 3, 4), (3, 1, 2)])
def test_gradient_descent_comes_near_as_the_rate_falls(widths):
    """At equal flow time the distance halves with the learning rate."""
    distances = []
    for halvings in range(3):
        given = problem(widths, lr=0.02 / 2**halvings)
        steps = np.array([10, 40]) * 2**halvings
        found = flow(given, steps)
        distances.append(np.linalg.norm(found.maps[0] - maps_of_gd(given, steps), axis=(1, 2)))
    ratios = np.array(distances[:-1]) / distances[1:]
    np.testing.assert_allclose(ratios[-1], 2, rtol=0.1)
    assert (abs(ratios[1] - 2) < abs(ratios[0] - 2)).all()


def test_one_layer_decays_exponentially():
    """W = W* + (W_0 - W*) exp(-(2 lr / d_out) Sigma n), along directions without inputs too."""
    given = problem((4, 3), samples=3, lr=0.3)
    steps = np.array([0, 1, 20, 300])
    found = flow(given, steps).maps[0]
    shrunk = [expm(-given.rate[0] * n * given.sigma[0]) for n in steps]
    np.testing.assert_allclose(found, given.optimum[0] + (given.start - given.optimum)[0] @ np.array(shrunk), atol=1e-9)


@pytest.mark.parametrize("start", [1e-9, 1e-3, 2.9, 5.0])
def test_a_mode_of_two_layers_is_logistic(start):
    """a = s / (1 + (s / a_0 - 1) exp(-2 s t)), t = 2 tau / d_out, also while it is tiny beside another mode."""
    strengths = np.diag([3.0, 1.0])
    layers = balanced([start, 1.0], width=6, depth=2)
    left, right = (np.linalg.svd(layers[1] @ layers[0])[i] for i in (0, 2))
    order = [0, 1] if start > 1 else [1, 0]
    teacher = left[:, order] @ strengths @ right[order]
    times = np.linspace(0, 15, 40)
    found = flow_maps(layers, np.eye(2), teacher, times, rtol=1e-12)
    modes = np.einsum("ki,tkl,il->ti", left[:, order], found, right[order])
    np.testing.assert_allclose(modes[:, 0], 3 / (1 + (3 / start - 1) * np.exp(-6 * times)), rtol=1e-6)
    np.testing.assert_allclose(modes[:, 1], 1, rtol=1e-9)


@pytest.mark.parametrize(("shape", "depth"), RECTANGULAR)
def test_the_field_of_balanced_layers(shape, depth):
    """It is -sum_l A_l A_l' G B_l' B_l, of a map that lacks rank too."""
    for rank in (None, 1):
        given = on_balanced(shape, depth, 6, rank, runs=3)
        chain = Chain(given.layers)
        error = chain.error(given.sigma, given.sigma_yx)
        exact = -sum(a @ a.mT @ error @ b.mT @ b for a, b in zip(chain.above, chain.below, strict=True))
        np.testing.assert_allclose(balanced_field(chain.end, error, depth), exact, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_map_moves_along_that_field(depth):
    """A symmetric difference of the flow in time, to the square of the time between."""
    given = on_balanced((2, 3), depth, 4)
    layers, sigma, sigma_yx = [w[0] for w in given.layers], given.sigma[0], given.sigma_yx[0]
    times = np.array([0.0, 0.2 - 1e-4, 0.2, 0.2 + 1e-4])
    _, before, now, after = flow_maps(layers, sigma, sigma_yx, times, rtol=1e-13)
    field = balanced_field(now, now @ sigma - sigma_yx, depth)  # 2 / d_out is 1
    np.testing.assert_allclose((after - before) / 2e-4, field, atol=1e-6 * np.abs(field).max())


@pytest.mark.parametrize(("shape", "depth"), RECTANGULAR[1:])
@pytest.mark.parametrize("rank", [None, 1])
def test_a_narrow_net_stands_for_balanced_layers(shape, depth, rank):
    """The flow of layers as they are, of narrowed ones, and of the map alone are one, to the integrator's accuracy."""
    given, steps = on_balanced(shape, depth, 8, rank), np.array([0, 1, 50])
    layers, lr = [w[0] for w in given.layers], given.lr[0]
    full = flow_maps(layers, given.sigma[0], given.sigma_yx[0], lr * steps, rtol=1e-12)
    assert all(w.shape[0] <= min(shape) for w in narrowed(layers, 1e-13)[:-1])
    for theory in (flow, balanced_flow):
        np.testing.assert_allclose(theory(given, steps, rtol=1e-12).maps[0], full, atol=1e-9)


def test_any_two_layers_are_narrowed_too():
    given, steps = problem((2, 9, 3), scale=0.3), np.array([0, 20, 100])
    layers = [w[0] for w in given.layers]
    assert narrowed(layers, 1e-13)[0].shape == (5, 2)
    full = flow_maps(layers, given.sigma[0], given.sigma_yx[0], given.lr[0] * steps, rtol=1e-12)
    np.testing.assert_allclose(flow(given, steps, rtol=1e-12).maps[0], full, atol=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_sharpness_of_a_narrow_net_is_that_of_the_wide_one(scale):
    given = on_balanced((3, 2), 3, 8)
    given = replace(given, layers=[scale * w for w in given.layers])
    wide = given.lr * top_eigenvalues(given.layers, given.sigma, given.sigma_yx)[:, 0]
    np.testing.assert_allclose(flow(given, np.array([0])).conditions["lr_sharpness"], wide, rtol=1e-8)


def test_balanced_layers_are_balanced_and_make_the_map():
    rng = np.random.default_rng(0)
    for shape in ((3, 2), (2, 4), (3, 3)):
        end = rng.standard_normal((2, *shape))
        for depth in (1, 2, 5):
            layers = balanced_layers(end, depth)
            np.testing.assert_allclose(Chain(layers).end, end, atol=1e-13)
            assert (balance_gap(layers) < 1e-14).all()
    assert not np.any(balanced_layers(np.zeros((2, 2)), 3))


def test_what_is_not_balanced_is_told_and_flows_another_way():
    """The distance of the two flows grows with the balance gap, from nothing."""
    exact, steps = on_balanced((2, 3), 3, 4), np.array([60])
    rng = np.random.default_rng(1)
    tilt = [rng.standard_normal(w.shape) for w in exact.layers]
    gaps, distances = [], []
    for size in (0.0, 0.02, 0.04, 0.5):
        given = replace(exact, layers=[w + size * v for w, v in zip(exact.layers, tilt, strict=True)])
        prediction = balanced_flow(given, steps)
        gaps.append(prediction.conditions["balance_gap"][0])
        distances.append(np.abs(prediction.maps - flow(given, steps).maps).max())
    assert gaps[0] < 1e-14
    assert distances[0] < 1e-9
    assert gaps[-1] > 0.3
    assert distances[-1] > 0.1
    np.testing.assert_allclose(distances[2] / distances[1], gaps[2] / gaps[1], rtol=0.2)


def test_beyond_the_edge_the_condition_says_so():
    """Gradient descent diverges, which no flow does."""
    given, steps = problem((3, 4, 2), lr=0.4, scale=1.0), np.arange(5)
    prediction = flow(given, steps)
    assert prediction.conditions["lr_sharpness"] > 2
    losses = given.losses(prediction.maps)[0]
    assert (np.diff(losses) < 0).all()
    assert given.losses(maps_of_gd(given, steps)[None])[0, -1] > losses[0]


@pytest.mark.parametrize("theory", [flow, balanced_flow])
def test_rates_beyond_all_measure_are_refused(theory):
    """Whether the start is beyond it or the path comes there."""
    for given in (problem((3, 4, 2), lr=1e4), on_balanced((2, 3), 2, 3)):
        steep = replace(given, lr=given.lr * 1e4)
        with pytest.raises(
            ConfigError, match=r"lr \* sharpness along its path at most 10, and it is \d.*smaller training.lr"
        ):
            theory(steep, np.array([0, 10]))


def test_runs_together_and_alone():
    for theory in (flow, balanced_flow):
        assert_alone(theory, problem((3, 4, 4, 2), runs=2), np.array([0, 3]))
    assert_alone(flow, on_balanced((2, 3), 3, 6, runs=2), np.array([0, 3]))


@pytest.mark.parametrize("steps", [[0], [7], range(4), range(400)])
def test_any_steps(steps):
    given = problem()
    found = flow(given, np.array(steps)).maps[0]
    every = flow(given, np.arange(500)).maps[0]
    np.testing.assert_allclose(found, every[list(steps)], atol=1e-9)


def test_a_start_that_is_not_finite():
    given = problem(runs=2)
    given.layers[0][0, 0, 0] = np.nan
    found = flow(given, np.array([0, 5]))
    assert np.isnan(found.maps[0]).any()
    assert np.isfinite(found.maps[1]).all()
    assert np.isnan(found.conditions["lr_sharpness"]).tolist() == [True, False]


def test_zeros_stay_zeros():
    given = problem()
    found = flow(replace(given, layers=[0 * w for w in given.layers]), np.array([0, 9]))
    assert not found.maps.any()
    assert found.conditions["lr_sharpness"] > 0  # it is a saddle of two layers
