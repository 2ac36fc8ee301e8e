"""Plateaus of curves that have known ones, with and without noise, however records are spaced."""

import numpy as np
import pytest

from dln.measure.plateaus import find_plateaus, noise_of

STEP = np.arange(2501.0)
LEVELS = [10.0, 4.0, 0.5]
FALLS = [750, 1500]
"""Middles of the falls, each about 250 steps from a tenth of the mean pace to a tenth."""

LOG = np.unique(np.round(2500 ** np.linspace(0, 1, 200))) - 1


def stairs(step, width=25):
    """Falls from level to level along logistic curves."""
    drops = [
        (high - low) / (1 + np.exp((step - at) / width))
        for high, low, at in zip(LEVELS, LEVELS[1:], FALLS, strict=False)
    ]
    return sum(drops) + LEVELS[-1]


def noisy(curve, size, seed):
    return curve * (1 + size * np.random.default_rng(seed).standard_normal(len(curve)))


def assert_known(found, slack):
    """What is found is of the known ones, and no two are of the same."""
    bounds = [0, *FALLS, STEP[-1]]
    which = []
    for begin, end, level in found:
        number = int(np.argmin([abs(np.log(level / known)) for known in LEVELS]))
        which.append(number)
        assert level == pytest.approx(LEVELS[number], rel=0.15)
        assert bounds[number] - slack <= begin < end <= bounds[number + 1] + slack
    assert len(set(which)) == len(which)


@pytest.mark.parametrize("step", [STEP, STEP[::7], LOG], ids=["every", "every 7", "log"])
def test_stairs_without_noise(step):
    found = find_plateaus(step, stairs(step), 0.1, 0.02)
    assert len(found) == 3
    assert_known(found, slack=0)
    pace = (LEVELS[0] - LEVELS[-1]) / step[-1]
    fine = np.linspace(0, step[-1], 100_001)
    slow = -np.gradient(stairs(fine), fine) < 0.1 * pace
    share = sum(end - begin for begin, end, _ in found) / step[-1]
    assert share == pytest.approx(slow.mean(), abs=0.1 if step is LOG else 0.02)


@pytest.mark.parametrize("size", [0.01, 0.03, 0.05])
@pytest.mark.parametrize("seed", range(10))
def test_stairs_with_noise_have_the_same_plateaus(size, seed):
    found = find_plateaus(STEP, noisy(stairs(STEP), size, seed), 0.1, 0.02)
    assert len(found) == 3
    assert_known(found, slack=30)


@pytest.mark.parametrize("size", [0.1, 0.2])
@pytest.mark.parametrize("seed", range(10))
def test_under_strong_noise_some_are_missed_and_none_invented(size, seed):
    found = find_plateaus(STEP, noisy(stairs(STEP), size, seed), 0.1, 0.02)
    assert 1 <= len(found) <= 3
    assert_known(found, slack=100)


@pytest.mark.parametrize("seed", range(10))
def test_noise_at_geometric_steps(seed):
    found = find_plateaus(LOG, noisy(stairs(LOG), 0.02, seed), 0.1, 0.02)
    for plateau in found:  # so late in the run there are few records, and one may be seen in parts
        assert_known([plateau], slack=100)
    assert len({round(np.log2(level)) for *_, level in found}) == 3


@pytest.mark.parametrize("size", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_a_steady_fall_has_none(size, seed):
    assert find_plateaus(STEP, noisy(5 - STEP / 600, size, seed), 0.1, 0.02) == []


@pytest.mark.parametrize("top", [20.0, 1e30, 8.5e156, 1e300])
@pytest.mark.parametrize("size", [0.0, 0.05])
def test_a_rise_is_none(top, size):
    """What came before it is found all the same."""
    curve = noisy(stairs(STEP), size, 0)
    curve[2000:] = np.geomspace(curve[2000], top, 501)
    found = find_plateaus(STEP, curve, 0.1, 0.02)
    assert len(found) == 3
    assert all(end <= 2000 + 100 * (top == 20) for _, end, _ in found)
    assert_known(found, slack=50)


def test_a_fall_that_is_caught_at_once_and_one_that_never_comes():
    assert find_plateaus(STEP, np.full(len(STEP), 3.0), 0.1, 0.02) == [(0, 2500, 3.0)]
    assert find_plateaus(STEP, 1 + STEP / 100, 0.1, 0.02) == []
    ((begin, end, _),) = find_plateaus(STEP, np.exp(-STEP / 100), 0.1, 0.02)
    assert begin == pytest.approx(100 * np.log(2500 / 100 / 0.1), abs=2)  # its pace is 1 / 2500 there, times a tenth
    assert end == 2500


@pytest.mark.parametrize("curve", [[], [1.0], [np.nan] * 9, [2.0, np.inf], [3.0, 1.0]])
def test_of_too_few_records_nothing_is_said(curve):
    assert find_plateaus(np.arange(len(curve)), np.array(curve), 0.1, 0.02) == []


def test_records_without_a_value_are_passed_over():
    curve = stairs(STEP)
    curve[::13] = np.nan
    assert len(find_plateaus(STEP, curve, 0.1, 0.02)) == 3


@pytest.mark.parametrize("step", [STEP, LOG], ids=["every", "log"])
def test_noise_is_told_from_what_bends(step):
    assert noise_of(step, stairs(step)).max() < 1e-3
    found = np.median(
        [noise_of(step, stairs(step) + np.random.default_rng(s).normal(0, 0.2, len(step))) for s in range(9)]
    )
    assert found == pytest.approx(0.2, rel=0.15)
