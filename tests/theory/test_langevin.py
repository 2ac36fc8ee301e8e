"""The sampled learning coefficient against the exact one."""

from itertools import pairwise

import numpy as np
import pytest

from dln.theory import estimate_learning_coefficient, learning_coefficient

HEAT = 1e5 / np.log(1e5)


def minimum(widths, rank):
    """Balanced layers of a map with singular values 1."""
    return [np.eye(after, before) * (np.arange(before) < rank) for before, after in pairwise(widths)]


def expected(widths, rank, heat=HEAT):
    """What sampling at this heat finds, to the order of 1 / log heat."""
    exact = learning_coefficient(widths, rank)
    return exact.value - (exact.multiplicity - 1) / np.log(heat)


@pytest.mark.parametrize("sigma", [None, np.diag([4.0, 0.25])])
def test_a_regular_minimum_has_half_its_dimensions(sigma):
    """Of maps of full rank, 2 x 2: whatever the inputs' covariance, as the exact one."""
    found = estimate_learning_coefficient(minimum((2, 2, 2), 2), sigma, draws=120, seed=1)
    assert learning_coefficient([2, 2, 2], 2) == (2.0, 1)
    assert abs(found.value - 2.0) < 4 * found.error < 0.6
    assert 0.6 < found.accepted < 0.95


def test_a_singular_minimum_has_fewer():
    """Of two layers of width 2 at zero: 3/2, of 8 parameters. A strong localisation spoils it: it sees less valley."""
    loose, tight = (
        estimate_learning_coefficient(minimum((2, 2, 2), 0), localisation=gamma, draws=150, seed=1)
        for gamma in (1.0, 300.0)
    )
    assert abs(loose.value - 1.5) < 4 * loose.error < 0.6
    assert tight.value < loose.value - 4 * np.hypot(loose.error, tight.error)


@pytest.mark.long
@pytest.mark.parametrize(
    ("widths", "rank"),
    [((2, 2, 2), 1), ((3, 3, 3), 1), ((2, 2, 2, 2), 0), ((2, 2, 2, 2), 1), ((3, 3, 3, 3), 1), ((4, 2, 4), 1)],
)
def test_singular_minima_have_their_coefficients(widths, rank):
    """Multiplicities too, within 4 standard errors and 3 %."""
    found = estimate_learning_coefficient(minimum(widths, rank), draws=1500, seed=2)
    assert abs(found.value - expected(widths, rank)) < 4 * found.error + 0.03 * found.value
