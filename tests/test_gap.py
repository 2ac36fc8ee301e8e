"""Gaps of losses: of curves that theory gives, compared in three ways."""

import numpy as np
import pytest

import dln
from dln.errors import ConfigError
from dln.gap import loss_gap
from dln.history import History


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
