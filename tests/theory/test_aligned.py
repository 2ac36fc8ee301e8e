"""Theories of aligned modes against whole nets, and what they say where they do not hold."""

from dataclasses import replace

import numpy as np
import pytest

from dln import run_experiment
from dln.derivatives.hessian import hessian_spectrum
from dln.errors import ConfigError
from dln.ingredients.initialisations import draw_initial
from dln.theory import THEORIES
from dln.theory.alignment import modes_of, seen_balance_gap
from tests.theory.descents import assert_alone, maps_of_gd
from tests.theory.problems import aligned_problem, problem, together

STARTS = {
    "modes of different strengths": {},
    "equal strengths": {"strength": (2.0, 2.0, 1.0), "start": (0.1, 0.1, 0.1)},
    "equal in the teacher only": {"strength": (2.0, 2.0, 2.0), "start": (0.1, 0.2, 0.3)},
    "equal at the start only": {"start": (0.1, 0.1, 0.1)},
    "of lower rank": {"strength": (2.0, 0.0, 0.0), "start": (0.1, 0.2, 0.3)},
    "nothing to learn": {"strength": (0.0, 0.0, 0.0)},
    "at zero": {"start": (0.1, 0.0, 0.0)},
    "all at zero": {"start": (0.0, 0.0, 0.0)},
    "above": {"start": (4.0, 0.2, 1.5)},
    "to be unlearned": {"start": (0.1, -0.5, 0.3)},
    "more outputs": {"strength": (3.0, 1.0), "start": (0.1, 0.2), "ends": (2, 4)},
    "more inputs": {"strength": (3.0, 1.0), "start": (0.1, 0.2), "ends": (4, 2)},
    "a bottleneck": {"start": (0.1, 0.2, 0.0), "width": 2},
    "one layer": {"depth": 1},
    "two layers": {"depth": 2},
    "five layers": {"depth": 5},
}


def predicted(name, p, steps):
    return THEORIES.get(name, "theory").function(p, np.array(steps))


@pytest.mark.parametrize("how", STARTS.values(), ids=STARTS)
def test_the_recursion_is_gradient_descent(how):
    """The map of the whole net, at a rate at which it is far from flow, to rounding."""
    p, steps = aligned_problem(lr=0.06, **how), [0, 1, 7, 60, 200]
    found = predicted("aligned_modes_gd", p, steps)
    np.testing.assert_allclose(found.maps[0], maps_of_gd(p, steps), rtol=0, atol=1e-11)
    assert max(value.item() for value in found.conditions.values()) < 1e-12


@pytest.mark.parametrize("depth", [2, 3])
def test_the_recursion_is_gradient_descent_beyond_the_edge_too(depth):
    """At 1.2 times the rate at which the minimum is stable: the top mode goes to and fro for ever, in both."""
    p, steps = aligned_problem(depth=depth, lr=2.4 / (2 * depth / 3 * 3.0 ** (2 - 2 / depth))), [10, 100, 999, 1000]
    found = predicted("aligned_modes_gd", p, steps).maps[0]
    np.testing.assert_allclose(found, maps_of_gd(p, steps), rtol=0, atol=1e-11)
    assert np.abs(found[-1] - found[-2]).max() > 0.1


@pytest.mark.parametrize("how", STARTS.values(), ids=STARTS)
def test_flow_is_where_gradient_descent_comes_to(how):
    """The distance of the whole net's map to it halves with the rate."""
    gaps = []
    for lr in (0.02, 0.01):
        p, steps = aligned_problem(lr=lr, **how), [0, round(0.3 / lr), round(1 / lr)]
        gaps.append(np.abs(predicted("aligned_modes", p, steps).maps[0] - maps_of_gd(p, steps)).max((1, 2)))
    assert (gaps[1][1:] < 0.53 * gaps[0][1:] + 1e-13).all()
    assert (gaps[1][1:] > 0.40 * gaps[0][1:] - 1e-13).all()
    assert gaps[0][0] < 1e-14


@pytest.mark.parametrize("name", ["aligned_modes", "aligned_modes_gd"])
def test_runs_are_predicted_together_as_alone(name):
    """To the last bit."""
    alone = [aligned_problem(seed=seed, lr=0.01 + 0.01 * seed, start=(0.1, 0.2, 0.1 * seed)) for seed in range(3)]
    assert_alone(THEORIES.get(name, "theory").function, together(*alone), np.array([0, 3, 100]))


def test_lr_sharpness_is_how_far_from_flow_it_is():
    """lr times the largest eigenvalue of the Hessian: at the start, and at the end (2 L / d_out) s_1^(2 - 2/L)."""
    p = aligned_problem(lr=0.2)
    start = hessian_spectrum([w[0] for w in p.layers], p.sigma[0], p.sigma_yx[0])[0]
    for steps, sharpness in (([0], start), ([0, 500], 2 * 3 / 3 * 3.0 ** (4 / 3))):
        found = predicted("aligned_modes", p, steps).conditions["lr_sharpness"]
        np.testing.assert_allclose(found, 0.2 * sharpness, rtol=1e-9)


@pytest.mark.parametrize("name", ["aligned_modes", "aligned_modes_gd"])
def test_a_random_start_is_refused(name):
    """With how far it is from aligned, and what to start from instead."""
    with pytest.raises(
        ConfigError, match=rf"theory {name} needs an alignment gap.* at most 0.1, and .* 0\.\d+; .*init=aligned"
    ):
        predicted(name, problem(widths=(4, 5, 5, 4)), [0])


def shaken(p, size, layer=None, seed=1):
    """The same run with noise on all initial weights, or on those of one layer."""
    rng = np.random.default_rng(seed)
    return replace(
        p, layers=[w + size * (layer in (None, i)) * rng.standard_normal(w.shape) for i, w in enumerate(p.layers)]
    )


def test_a_start_off_the_modes_is_told_and_refused_if_far():
    """`alignment_gap` grows as what is off them, and so does the error of the prediction."""
    p, steps = aligned_problem(start=(0.5, 0.5, 0.5), lr=0.02), [50]
    told, errors = [], []
    for size in (0.003, 0.006, 0.012):
        near = shaken(p, size)
        found = predicted("aligned_modes_gd", near, steps)
        told.append(found.conditions["alignment_gap"].item())
        errors.append(np.abs(found.maps[0] - maps_of_gd(near, steps)).max())
    np.testing.assert_allclose(np.diff(np.log2(told)), 1.0, atol=0.15)
    assert (np.array(errors) < 10 * np.array(told)).all()
    assert errors[0] < errors[1] < errors[2]
    with pytest.raises(ConfigError, match="alignment gap"):
        predicted("aligned_modes_gd", shaken(p, 0.2), steps)


def scaled(p, factor):
    """The same map from layers that are not balanced: the first times a factor, the second divided by it."""
    return replace(p, layers=[p.layers[0] * factor, p.layers[1] / factor, *p.layers[2:]])


def test_a_start_that_is_not_balanced_is_told_and_refused_if_far():
    """`balance_gap` is |D_l| as a share of the largest ||W_l||^2: first order in the factor."""
    p = aligned_problem(lr=0.02)
    told = [predicted("aligned_modes", scaled(p, f), [10]).conditions["balance_gap"].item() for f in (1.004, 1.008)]
    np.testing.assert_allclose(told[1] / told[0], 2.0, rtol=0.02)
    with pytest.raises(ConfigError, match=r"balance gap.*init=aligned or balanced"):
        predicted("aligned_modes", scaled(p, 2.0), [10])


def test_inputs_that_are_not_white_are_told_and_refused_if_far():
    """`whitening_gap` is max |Sigma - I|."""
    p = aligned_problem()
    turned = np.array([[0.0, 0.02, 0.0], [0.02, 0.05, 0.0], [0.0, 0.0, 0.0]])
    near = replace(p, sigma=p.sigma + turned, sigma_yx=p.sigma_yx @ (np.eye(3) + turned))
    np.testing.assert_allclose(predicted("aligned_modes", near, [0]).conditions["whitening_gap"], 0.05)
    far = replace(p, sigma=1.3 * p.sigma, sigma_yx=1.3 * p.sigma_yx)
    with pytest.raises(ConfigError, match=r"whitening gap.* is 0\.3; use data\.whiten=true"):
        predicted("aligned_modes", far, [0])


TEACHER = np.diag([3.0, 2.0, 1.0])


@pytest.mark.parametrize("init", [("aligned", {"strength": 0.01}), ("identity", {"scale": 0.3})])
@pytest.mark.parametrize("hidden", [3, 7])
def test_starts_of_the_product_that_it_holds_for(init, hidden):
    """`aligned` on any teacher, `identity` on a diagonal one, however wide: units that nothing reaches are free."""
    layers = draw_initial(3, hidden, 3, 3, init=init[0], params=init[1], teacher=TEACHER)
    p = aligned_problem(depth=4)
    p = replace(p, layers=[w[None] for w in layers], sigma_yx=TEACHER[None], targets=p.inputs @ TEACHER)
    found = predicted("aligned_modes_gd", p, [0, 100])
    assert max(value.item() for value in found.conditions.values()) < 1e-12
    np.testing.assert_allclose(found.maps[0], maps_of_gd(p, [0, 100]), atol=1e-12)


@pytest.mark.parametrize("init", ["balanced", "orthogonal", "gamma"])
def test_starts_of_the_product_that_it_refuses(init):
    """Their modes are not the teacher's."""
    p = aligned_problem(depth=4)
    layers = draw_initial(3, 3, 3, 3, init=init)
    with pytest.raises(ConfigError, match=r"alignment gap.* 0\.\d+; start with model.init=aligned"):
        predicted("aligned_modes", replace(p, layers=[w[None] for w in layers]), [0])


def test_units_that_are_seen_from_one_side_only_count():
    """A hidden unit that no input reaches, but that the output hears, learns: that start is not balanced."""
    p = aligned_problem(strength=(2.0,), start=(0.5,), depth=2, width=2, ends=(1, 1))
    first, second = np.array([[[0.7], [0.0]]]), np.array([[[0.7, 0.0]]])
    assert seen_balance_gap(replace(p, layers=[first, second])).item() < 1e-15
    assert seen_balance_gap(replace(p, layers=[first, second + np.array([0.0, 0.7])])).item() > 0.3
    assert seen_balance_gap(replace(p, layers=[first + np.array([[0.0], [0.7]]), second])).item() > 0.3


def test_modes_are_those_of_the_least_squares_map():
    """With a start of any kind, left and right are orthonormal and their strengths make up W*."""
    for p in (problem(widths=(3, 4, 2)), problem(widths=(2, 4, 4)), aligned_problem(strength=(2.0, 2.0, 0.0))):
        modes = modes_of(p)
        np.testing.assert_allclose(modes.maps(modes.strength[:, None])[:, 0], p.optimum, atol=1e-13)
        k = min(p.dims)
        np.testing.assert_allclose(modes.left[0].T @ modes.left[0], np.eye(k), atol=1e-13)
        np.testing.assert_allclose(modes.right[0] @ modes.right[0].T, np.eye(k), atol=1e-13)


def test_beside_a_run_it_is_the_run():
    """By name in a config: losses and mode strengths of a run, a rotated rectangular teacher, and its recursion."""
    run = run_experiment(
        {
            "model": {"init": "aligned", "init_params": {"strength": 0.05}, "in_dim": 4, "hidden_dim": 6},
            "data": {"whiten": True, "rotate": True},
            "training": {"lr": 0.005},
            "metrics": ["mode_strengths"],
            "theory": ["aligned_modes_gd", "plateaus"],
            "max_steps": 150,
            "evaluate_every": 30,
            "dtype": "float64",
            "engine": "autograd",
        }
    )
    for name in ("train_loss", "test_loss", "mode_strengths"):
        np.testing.assert_allclose(run[f"{name}_aligned_modes_gd"], run[name], rtol=1e-9, atol=1e-12)
    assert run.events["alignment_gap_aligned_modes_gd"] < 1e-10
    np.testing.assert_allclose(run["levels_plateaus"][:, 0], run["train_loss"][0], rtol=0.02)  # what starts small
