"""The modified flow: rates in lr, the series of a logarithm, the implicit regulariser, and where it is refused."""

from functools import partial

import numpy as np
import pytest
from scipy.linalg import logm

import dln
from dln.derivatives.hessian import hessian_vector_product, top_eigenvalues
from dln.derivatives.products import Chain
from dln.errors import ConfigError
from dln.theory import THEORIES, modified_field
from dln.theory.descent import each_run
from tests.theory.descents import assert_alone, maps_of_gd
from tests.theory.problems import problem

modified_flow = THEORIES.get("modified_flow")


@pytest.mark.parametrize(
    ("widths", "order"), [((3, 4, 2), 1), ((3, 4, 2), 2), ((3, 4, 2), 3), ((3, 4, 2), 4), ((2, 3, 4, 3), 3)]
)
def test_gradient_descent_comes_near_as_that_power_of_the_rate(widths, order):
    distances = []
    for halvings in range(3):
        given = problem(widths, lr=0.04 / 2**halvings)
        steps = np.array([5, 20]) * 2**halvings
        found = modified_flow(given, steps, order=order, rtol=1e-13)
        distances.append(np.linalg.norm(found.maps[0] - maps_of_gd(given, steps), axis=(1, 2)))
    ratios = np.array(distances[:-1]) / distances[1:]
    np.testing.assert_allclose(ratios[-1], 2**order, rtol=0.12)
    assert (abs(ratios[1] / 2**order - 1) < abs(ratios[0] / 2**order - 1) + 0.01).all()


@pytest.mark.long
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_runs_of_the_default_net_come_near_it(order):
    """The engine's own runs, of width 50 and from near a saddle, at two rates."""
    theory = {"name": "modified_flow", "params": {"order": order, "rtol": 1e-13}}
    distances = []
    for halvings in range(2):
        config = {"training": {"lr": 0.004 / 2**halvings}, "max_steps": 200 * 2**halvings, "dtype": "float64"}
        run = dln.run_experiment({**config, "evaluate_every": 20 * 2**halvings, "theory": [theory]})
        assert run.events["lr_sharpness_modified_flow"] < 0.4
        distances.append(run["end_to_end_distance_modified_flow"].max())
    np.testing.assert_allclose(distances[0] / distances[1], 2**order, rtol=0.25)


def test_first_order_is_gradient_flow():
    given, steps = problem(runs=2), np.array([0, 30, 90])
    np.testing.assert_allclose(
        modified_flow(given, steps, order=1).maps, THEORIES.get("gradient_flow")(given, steps).maps, atol=1e-9
    )


def test_second_order_is_the_flow_of_the_implicit_regulariser():
    """-lr g - (lr^2 / 2) H g, but for terms in lr^3."""
    rests = []
    for lr in (0.02, 0.01):
        (net,) = each_run(given := problem((2, 3, 3), lr=lr))
        sigma, sigma_yx = given.sigma[0], given.sigma_yx[0]
        layers = [w[0] for w in given.layers]
        slopes = Chain(layers).gradients(sigma, sigma_yx)
        curved = hessian_vector_product(layers, sigma, sigma_yx, slopes)
        expected = np.concatenate([(-lr * g - lr**2 / 2 * v).ravel() for g, v in zip(slopes, curved, strict=True)])
        rests.append(np.linalg.norm(modified_field(net.change, net.start, 2) - expected))
    np.testing.assert_allclose(rests[0] / rests[1], 8, rtol=0.1)


def test_any_smooth_iteration():
    """Of a linear one it tends to the logarithm: momentum, say, with positions and velocities in one state."""
    momentum = np.array([[0.95, 0.6], [-0.05, 0.6]])  # v <- 0.6 v - 0.05 x, x <- x + v
    state = np.array([1.0, -0.3])
    errors = [
        np.linalg.norm(modified_field(partial(np.matmul, momentum - np.eye(2)), state, k) - logm(momentum) @ state)
        for k in (1, 3, 6, 15)
    ]
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < 1e-9  # eigenvalues of the difference are 0.25 and 0.2


@pytest.mark.parametrize("lr", [0.25, 5.0])
def test_refused_where_the_series_ends(lr):
    """Whether the start is beyond it or the path comes there: sharpness grows on the way."""
    given = problem((3, 4, 2), lr=lr, scale=0.3)
    start = lr * top_eigenvalues(given.layers, given.sigma, given.sigma_yx)
    assert (start > 0.9) == (lr == 5)
    with pytest.raises(
        ConfigError, match=r"lr \* sharpness along its path at most 0.9, and it is \d.*smaller training.lr"
    ):
        modified_flow(given, np.array([0, 200]))


def test_its_condition_is_the_sharpness_of_the_path():
    """Of a run that sharpens it is that of the end; a smaller rate has less."""
    found = [modified_flow(problem(lr=lr), np.array([0, int(4 / lr)])).conditions["lr_sharpness"] for lr in (0.1, 0.05)]
    np.testing.assert_allclose(found[0] / found[1], 2, rtol=0.02)
    assert found[0] > 0.3


def test_runs_together_and_alone():
    assert_alone(modified_flow, problem((3, 4, 2), runs=2), np.array([0, 3, 20]), order=3)
