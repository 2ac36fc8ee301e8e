"""Levels of plateaus: of saddles that are built, and of runs that rest there."""

from itertools import combinations

import numpy as np
import pytest

from dln.errors import ConfigError
from dln.measure.plateaus import find_plateaus
from dln.theory import THEORIES, plateau_levels
from tests import naive
from tests.theory.descents import assert_alone, maps_of_gd
from tests.theory.problems import aligned_problem, problem

plateaus = THEORIES.get("plateaus", "theory").function


def root(sigma, power):
    values, vectors = np.linalg.eigh(sigma)
    return vectors * values**power @ vectors.T


@pytest.mark.parametrize("learned", [s for n in range(4) for s in combinations(range(3), n)])
def test_every_subset_of_modes_is_a_critical_point_at_its_level(learned):
    """Noise on targets, inputs that are not white: the gradient of every layer is zero, and the loss the level."""
    p = problem(widths=(4, 6, 5, 3), samples=9, noise=0.5)
    left, values, right = np.linalg.svd(p.optimum[0] @ root(p.sigma[0], 0.5))
    own = list(learned)
    rng = np.random.default_rng(1)
    q = [np.linalg.qr(rng.standard_normal((n, len(own))))[0] for n in (6, 5)]
    ends = right[own].T, left[:, own] * values[own]
    layers = [q[0] @ ends[0].T @ root(p.sigma[0], -0.5), q[1] @ q[0].T, ends[1] @ q[1].T]
    zeros = [np.zeros(len(w)) for w in layers]
    gradients, _ = naive.gradients(layers, zeros, p.inputs[0], p.targets[0])
    assert max(np.abs(g).max() for g in gradients) < 1e-13
    level = plateau_levels(p.sigma[0], p.sigma_yx[0], p.target_square[0], learned=own)
    np.testing.assert_allclose(naive.loss(layers, zeros, p.inputs[0], p.targets[0]), level, rtol=1e-12)


def test_levels_fall_from_the_targets_own_square_to_the_least_squares_error():
    """In order of size, whatever the shapes; of fewer samples than inputs too."""
    for widths, samples in (((4, 6, 3), 9), ((2, 6, 5), 9), ((6, 3, 3), 4)):
        p = problem(widths=widths, samples=samples, noise=0.5, runs=2)
        levels = plateau_levels(p.sigma, p.sigma_yx, p.target_square)
        assert levels.shape == (2, min(widths[0], widths[-1]) + 1)
        assert (np.diff(levels) < 1e-12).all()
        np.testing.assert_allclose(levels[:, 0], p.target_square / widths[-1])
        np.testing.assert_allclose(levels[:, -1], p.losses(p.optimum), atol=1e-12)


def test_a_run_rests_on_the_levels():
    """From a small aligned start of three layers: plateaus that are found in the loss are the lines of the theory."""
    p, steps = aligned_problem(strength=(4.0, 2.0, 1.0), start=(1e-5, 1e-5, 1e-5), lr=0.05), np.arange(0, 1800)
    loss = p.losses(maps_of_gd(p, list(steps))[None])[0]
    lines = plateaus(p, steps).columns["levels"]
    assert lines.shape == (1, len(steps), 4)
    np.testing.assert_array_equal(lines, np.broadcast_to(lines[:, :1], lines.shape))
    found = [level for _, _, level in find_plateaus(steps, loss, 0.1, 0.02)]
    np.testing.assert_allclose(found, lines[0, 0], rtol=0.02, atol=0.003)


def test_a_bottleneck_has_the_levels_that_it_passes():
    """Of a net of width 1 with three modes to learn: none and one."""
    p = aligned_problem(start=(0.1, 0.0, 0.0), width=1)
    assert plateaus(p, np.arange(2)).columns["levels"].shape == (1, 2, 2)


def test_one_layer_has_no_saddles():
    """So the theory is refused, with the remedy."""
    with pytest.raises(ConfigError, match=r"two layers or more, and there is 1: use model\.num_hidden=1"):
        plateaus(aligned_problem(depth=1), np.arange(2))


def test_runs_have_the_levels_that_they_have_alone():
    """To the last bit, online too, where noise is what no map explains."""
    assert_alone(plateaus, problem(widths=(4, 6, 3), runs=3), np.arange(3))
    p = problem(widths=(3, 4, 2), sampling="online", noise=0.3)
    levels = plateaus(p, np.arange(1)).columns["levels"]
    np.testing.assert_allclose(levels[0, 0, -1], 0.3**2)
