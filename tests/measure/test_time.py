"""The time that training has taken: learning rates of updates, summed, whatever changes them and whoever counts."""

from __future__ import annotations

import numpy as np
import pytest

import dln
from dln.errors import ConfigError

RUN = {"max_steps": 30, "evaluate_every": 1, "model": {"hidden_dim": 4}, "metrics": ["time"]}
COSINE = {"name": "lr_cosine", "params": {"steps": 20, "interval": 3}}
DECAY = {"name": "lr_decay", "params": {"factor": 0.5, "interval": 7}}


@dln.register_callback("test_time_sets_the_rate")
def sets_the_rate(step: int, lr: float):
    def callback(now: int, trainer):
        trainer.lr = lr

    return dln.timeline.acting_at([step], callback)


SETS = {"name": "test_time_sets_the_rate", "params": {"step": 11, "lr": 0.003}}


def timed(engine, **change):
    return dln.run_experiment({**RUN, "engine": engine, "training": {"lr": 0.001, "batch_size": 7}, **change})


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize("callbacks", [[], [COSINE, DECAY], [SETS, DECAY]])
def test_it_is_the_sum_of_the_rates(engine, callbacks):
    steps, lr = np.arange(30), np.full(30, 0.001)
    lr[11:] = 0.003 if SETS in callbacks else 0.001
    if COSINE in callbacks:
        lr = lr * (1 + np.cos(np.pi * np.minimum((steps - steps % 3) / 20, 1))) / 2
    if DECAY in callbacks:
        lr = lr * 0.5 ** (steps // 7)
    history = timed(engine, callbacks=callbacks)
    np.testing.assert_allclose(history["time"], [0, *np.cumsum(lr)], rtol=1e-14)
    if not callbacks:
        np.testing.assert_array_equal(history["time"], 0.001 * history["step"])


@pytest.mark.parametrize("callbacks", [[], [COSINE, DECAY], [SETS, DECAY]])
def test_digits_depend_neither_on_the_engine_nor_on_records_nor_on_an_interruption(callbacks, tmp_path):
    first = timed("compiled", callbacks=callbacks)["time"]
    for engine in ("compiled", "autograd"):
        sparse = timed(engine, callbacks=callbacks, evaluate_every=5)["time"]
        np.testing.assert_array_equal(sparse, first[::5])
        folder = tmp_path / engine
        dln.run_experiment({**RUN, "engine": engine, **lane(callbacks), "checkpoint_at": [13]}, directory=folder)
        rest = timed(engine, callbacks=callbacks, resume=str(folder / "checkpoints/step_00000013.npz"))
        np.testing.assert_array_equal(rest["time"], first[13:])


def lane(callbacks):
    return {"training": {"lr": 0.001, "batch_size": 7}, "callbacks": callbacks}


def test_a_run_that_is_stopped_takes_no_more_time():
    stop = {"name": "stop_after", "params": {"seconds": 1e-9, "interval": 12}}
    lanes = {"callbacks_a": [stop], "shared": {"model": {"hidden_dim": 4}, "training": {"lr": 0.001}}}
    history = dln.run_experiment({"max_steps": 30, **lanes, "model_metrics": ["time"], "engine": "compiled"})
    stopped = history.events["stopped_at_a"]
    np.testing.assert_array_equal(history["time_a"], 0.001 * np.minimum(history["step"], stopped))
    np.testing.assert_array_equal(history["time_b"], 0.001 * history["step"])


def test_a_gap_at_equal_time_needs_the_time_of_both_lanes():
    history = dln.History([{"step": s, "test_loss_a": 1.0, "test_loss_b": 1.0, "time_a": 0.1 * s} for s in (0, 1)])
    with pytest.raises(ConfigError, match=r"lane b does not tell the time of its records; record metrics=\[time\]"):
        dln.loss_gap(history, "time")
    assert dln.loss_gap(history, "time", rates=(0.1, 0.1))[1].tolist() == [0, 0]
