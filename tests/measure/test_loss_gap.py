"""Gaps of losses: of curves that theory gives, compared in three ways."""

from typing import Any

import numpy as np
import pytest

import dln
from dln.errors import ConfigError
from dln.history import History
from dln.measure.loss_gap import loss_gap


def decays(rate_a, rate_b, steps=2001):
    step = range(0, steps, 10)
    return History([{"step": s, "test_loss_a": np.exp(-rate_a * s), "test_loss_b": np.exp(-rate_b * s)} for s in step])


def test_exponential_decays():
    history = decays(0.002, 0.001)
    step, gap = loss_gap(history)
    np.testing.assert_allclose(gap, np.exp(-0.002 * step) - np.exp(-0.001 * step))
    time, gap = loss_gap(history, "time", rates=(0.2, 0.1))  # one curve in time
    np.testing.assert_allclose(gap, 0, atol=1e-4)
    assert time[-1] == pytest.approx(200)
    loss, gap = loss_gap(history, "loss")  # b takes twice as long
    np.testing.assert_allclose(gap, np.log(loss) / 0.002, rtol=1e-3, atol=1e-3)
    assert loss.min() >= np.exp(-2.001)


def test_a_run_with_noise_is_compared_where_it_was_recorded_with_what_lies_between_records_of_its_reference():
    rng = np.random.default_rng(0)
    step = np.arange(50)
    reference, noisy = 60.0 - step, np.exp(rng.standard_normal(50)) * (60.0 - step)  # the line through a is exact
    history = compared(step, reference, noisy)
    time, gap = loss_gap(history, "time", rates=(3.0, 2.0), interpolated="a")
    np.testing.assert_array_equal(time, 2.0 * step)
    np.testing.assert_allclose(gap, (60 - time / 3) - noisy, rtol=1e-12)
    level, gap = loss_gap(history, "loss", interpolated="a")
    firsts = [np.flatnonzero(noisy == one)[0] for one in level]
    np.testing.assert_allclose(gap, (60 - level) - firsts, rtol=1e-12, atol=1e-12)
    no_lane: Any = "c"
    with pytest.raises(ConfigError, match='interpolated must be "a" or "b"'):
        loss_gap(history, "time", interpolated=no_lane)


def compared(step, a, b):
    pairs = zip(step, a, b, strict=True)
    return History([{"step": int(s), "test_loss_a": float(x), "test_loss_b": float(y)} for s, x, y in pairs])


def test_a_level_is_reached_between_neighbouring_records():
    """Not between the lows before and after: b rises to 12 before it falls."""
    history = compared([0, 7, 14], [10, 5, 3], [10, 12, 2])
    level, gap = loss_gap(history, "loss")
    np.testing.assert_allclose(level, [10, 5, 3])
    np.testing.assert_allclose(gap, [0, 7 - 11.9, 14 - 13.3])


@pytest.mark.parametrize("seed", range(5))
def test_levels_of_jumping_losses_are_reached_where_the_line_through_the_records_says(seed):
    rng = np.random.default_rng(seed)
    step = np.cumsum(rng.integers(1, 9, 30))
    a, b = (10 * np.exp(-step / 60 + rng.standard_normal(30)) for _ in range(2))
    fine = np.unique(np.concatenate([step, np.linspace(step[0], step[-1], 20_001)]))
    lines = [np.interp(fine, step, loss) for loss in (a, b)]
    for level, gap in zip(*loss_gap(compared(step, a, b), "loss"), strict=True):
        when = [fine[np.argmax(line <= level + 1e-9)] for line in lines]
        np.testing.assert_allclose(gap, when[0] - when[1], atol=2e-2)


def test_a_lane_that_ends_before_the_other_is_compared_as_far_as_it_goes():
    history = compared(range(5), [8, 4, np.inf, np.nan, np.nan], [9, 8, 7, 5, 4])
    np.testing.assert_array_equal(loss_gap(history, "loss"), ([8, 4], [-1, -3]))
    np.testing.assert_array_equal(loss_gap(history, "step"), ([0, 1], [-1, -4]))
    np.testing.assert_array_equal(loss_gap(history, "time", rates=(4, 1)), ([0, 4], [-1, 0]))
    ended = compared(range(2), [8, 4], [np.nan, np.nan])
    assert all(len(part) == 0 for at in ("step", "time", "loss") for part in loss_gap(ended, at))


def test_what_a_run_against_itself_says():
    history = dln.run_experiment(["max_steps=30", "comparative_metrics=[param_distance]"])
    for at in ("step", "time", "loss"):
        _, gap = dln.loss_gap(history, at)
        assert len(gap)
        assert (gap == 0).all()


def test_a_history_of_one_run_or_another_word_is_refused():
    with pytest.raises(ConfigError, match="comparative run"):
        loss_gap(History([{"step": 0, "test_loss": 1.0}]))
    with pytest.raises(ConfigError, match="'epoch'"):
        loss_gap(decays(1e-3, 1e-3), "epoch")
