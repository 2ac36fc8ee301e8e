"""The closed forms of aligned modes, against integration of their equation and against each other."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from dln.theory import aligned_modes, aligned_modes_gd, escape_time, half_time

DEPTHS = [1, 2, 3, 4, 7]

MODES = [
    (3.0, 0.01),
    (3.0, 1e-6),
    (1e-3, 1e-9),
    (1.0, 2.9),
    (1.0, 50.0),
    (0.0, 0.7),
    (2.0, 2.0),
    (2.0, 2 - 1e-9),
    (2.0, 2 + 1e-9),
    (-2.0, 0.5),
    (-0.1, 3.0),
    (3.0, -0.2),
    (-3.0, -0.2),
]
"""Strengths s and starts a_0: small ones, equal ones, above s, nothing to learn, and something to unlearn."""


def integrated(s, a, depth, times):
    """a(t) by a Runge-Kutta method, with the sign that a has carried by its vectors."""
    sign = -1.0 if a < 0 else 1.0
    size = abs(a)

    def pace(_, y):
        return depth * np.abs(y) ** (2 - 2 / depth) * (sign * s - y)

    found = solve_ivp(pace, (0, times[-1]), [size], "DOP853", rtol=3e-14, atol=1e-18 * size, t_eval=times)
    return sign * found.y[0]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("s", "a"), MODES)
def test_modes_solve_their_equation(s, a, depth):
    """At any depth, whatever the strength and the start: the course from the start to the end."""
    pace = depth * max(abs(s), abs(a)) ** (2 - 2 / depth)
    until = 10 / pace + (float(half_time(s, abs(a), depth)) if s > 0 else 0.0)
    times = np.linspace(0, until, 7)
    np.testing.assert_allclose(
        aligned_modes(s, a, depth, times), integrated(s, a, depth, times), rtol=0, atol=1e-10 * max(abs(s), abs(a))
    )


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("a", [1e-7, 1e-3, 0.4])
def test_a_mode_is_where_its_time_says(a, depth):
    """The time to half of the strength is the integral of dt / da, and at that time the mode is there."""
    power = 2 - 2 / depth

    def lapse(q):  # over q = ln a
        return np.exp(q * (1 - power)) / (depth * (2 - np.exp(q)))

    between = pairwise(np.linspace(np.log(a), 0, 30))
    parts = [quad(lapse, *ends, epsabs=0, epsrel=1e-12)[0] for ends in between]
    np.testing.assert_allclose(half_time(2.0, a, depth), sum(parts), rtol=1e-11)
    for fraction in (0.5, 0.9):
        time = half_time(2.0, a, depth, fraction)
        np.testing.assert_allclose(aligned_modes(2.0, a, depth, time), 2 * fraction, rtol=1e-10)


@pytest.mark.parametrize("depth", DEPTHS)
def test_modes_stay_where_they_are_at_rest_and_end_at_their_strength(depth):
    """At zero of two layers or more, and at s; at the end, however long, there are no more digits to change."""
    times = np.array([0.0, 1e-8, 1.0, 1e12, np.inf])
    np.testing.assert_array_equal(aligned_modes(3.0, 3.0, depth, times), 3.0)
    if depth > 1:
        np.testing.assert_array_equal(aligned_modes(np.array([[3.0], [0.0], [-1.0]]), 0.0, depth, times), 0.0)
    assert aligned_modes(-3.0 * (depth > 1), 2.0, depth, np.inf) < 1e-12
    assert np.isnan(aligned_modes(np.array([np.nan, 2.0]), 1.0, depth, np.array([1.0, np.nan]))).all()
    ends = aligned_modes(np.array([3.0, 3.0, 1e-3, 1e3]), np.array([1e-3, 40.0, 1e-5, 1.0]), depth, times[:, None])[-2:]
    np.testing.assert_allclose(ends, [[3.0, 3.0, 1e-3, 1e3]] * 2, rtol=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_course_goes_on_from_anywhere(depth):
    """To go on from a(t_1) for t_2 is to go for t_1 + t_2, and the digits of a mode do not depend on its company."""
    rng = np.random.default_rng(0)
    s, a = rng.uniform(-1, 3, 20), rng.uniform(0, 4, 20)
    first, second = rng.uniform(0, 1, (2, 20))
    there = aligned_modes(s, a, depth, first)
    assert there[7] == aligned_modes(s[7], a[7], depth, first[7])
    np.testing.assert_allclose(
        aligned_modes(s, there, depth, second), aligned_modes(s, a, depth, first + second), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("depth", DEPTHS)
def test_gradient_descent_comes_to_the_flow_as_lr_falls(depth):
    """Its distance from the closed form halves with the rate, at all strengths."""
    s, a = np.array([3.0, 1.0, 0.0, -0.5, 1.0]), np.array([0.01, 0.3, 0.3, 0.3, 2.0])
    gaps = []
    for rate in (0.01, 0.005, 0.0025):
        steps = range(0, int(2 / rate) + 1, int(0.1 / rate))
        flow = aligned_modes(s[:, None], a[:, None], depth, rate * np.array(steps))
        gaps.append(np.abs(aligned_modes_gd(s, a, depth, rate, steps) - flow).max(-1))
    halved = np.array(gaps[:-1]) / gaps[1:]
    np.testing.assert_allclose(halved, 2.0, rtol=0.06)


def test_a_negative_start_is_that_of_a_mode_turned_round():
    """The sign of a singular vector is free: a and s change theirs together."""
    for depth in DEPTHS:
        assert aligned_modes(2.0, -0.3, depth, 0.7) == -aligned_modes(-2.0, 0.3, depth, 0.7)
        turned = -aligned_modes_gd(-2.0, 0.3, depth, 0.01, [50])
        np.testing.assert_array_equal(aligned_modes_gd(2.0, -0.3, depth, 0.01, [50]), turned)


def test_two_layers_take_the_known_time():
    """ln(s / a_0 - 1) / (2 s)."""
    s, a = np.array([3.0, 0.5]), np.array([1e-4, 0.1])
    np.testing.assert_allclose(half_time(s, a, 2), np.log(s / a - 1) / (2 * s), rtol=1e-13)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_the_escape_time_is_the_leading_order(depth):
    """Its share of the half time comes to 1 as the start becomes small."""
    starts = np.array([1e-4, 1e-6, 1e-9, 1e-12])
    gap = np.abs(escape_time(3.0, starts, depth) / half_time(3.0, starts, depth) - 1)
    assert (np.diff(gap) < 0).all()
    assert gap[-1] < 1e-3


def test_times_of_modes_that_do_not_learn():
    """None: there already, at rest, with nothing to learn."""
    for depth in DEPTHS:
        assert half_time(2.0, 1.5, depth) == 0
        assert np.isnan(half_time(0.0, 0.1, depth))
        assert np.isinf(half_time(2.0, 0.0, depth)) == (depth > 1)
