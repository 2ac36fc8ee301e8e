"""Ctrl-C from Python: a signal in the middle of a run, and what the call gives back."""

import math
import os
import signal
import sys

import numpy as np
import pytest

from dln import interrupts, load_run, register_callback, run_experiment, run_experiments
from dln.timeline import acting_at
from notebook_utils import plot, sweep


@register_callback("test_interrupts")
def interrupting(step: int):
    return acting_at([step], lambda step, trainer: os.kill(os.getpid(), signal.SIGINT))


def config(engine="auto", step=7, key="callbacks", **more):
    acts = [{"name": "test_interrupts", "params": {"step": step}}]
    return {"engine": engine, "max_steps": 20, key: acts, **more}


@pytest.fixture
def prompt(monkeypatch):
    """Python asks for more."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(interrupts, "_last", -math.inf)


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize("lane", ["", "_b"])
def test_at_a_prompt_a_run_gives_back_its_records(prompt, engine, lane, tmp_path, capsys):
    given = config(engine, key=f"callbacks{lane}")
    history = run_experiment(given, directory=tmp_path)
    whole = run_experiment({**given, f"callbacks{lane}": []})
    assert history.records == whole.records[:7] == load_run(tmp_path).records
    assert history.events == {"interrupted_at": 7}
    assert history.directory == str(tmp_path)
    assert "interrupted at step 7 of 20: what was recorded is returned" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_many_runs_give_back_what_there_is_of_each(prompt, engine, capsys):
    calm = [{"engine": "compiled", "max_steps": n} for n in (2, 3)]
    histories = run_experiments([calm[0], config(engine), calm[1]])
    assert [len(history) for history in histories] == [3, 7, 0]
    assert [history.events for history in histories] == [{}, {"interrupted_at": 7}, {"interrupted_at": 0}]
    assert "interrupted at 1 of 3 runs" in capsys.readouterr().err


def test_of_runs_that_are_trained_together_each_gives_back_its_own(prompt):
    runs = [config("compiled", training={"lr": lr}) for lr in (0.001, 0.01)]
    for history, run in zip(run_experiments(runs), runs, strict=True):
        assert history.records == run_experiment({**run, "callbacks": []}).records[:7]


def test_one_that_has_ended_before_is_whole(prompt):
    stop = {"name": "stop_at_loss", "params": {"target": 1e9, "interval": 5}}
    ended, cut = run_experiments([{**config(), "callbacks": [stop]}, config()])
    assert (ended.events, cut.events) == ({"stopped_at": 0}, {"interrupted_at": 7})


def test_a_sweep_in_a_notebook_is_cut_short_and_can_be_drawn(prompt):
    runs = sweep("training.lr", [0.001, 0.01], max_steps=20, callbacks=config()["callbacks"])
    assert [len(history) for history in runs.values()] == [7, 7]
    assert len(plot(runs).axes[0].lines) == 2


def test_before_the_first_record_there_is_nothing_to_give_back(prompt):
    history = run_experiment(config(step=0))
    assert (len(history), history.events) == (0, {"interrupted_at": 0})


def test_a_second_interrupt_soon_after_ends_what_the_first_went_on_with(prompt):
    assert len(run_experiment(config())) == 7
    with pytest.raises(KeyboardInterrupt):
        run_experiment(config())


def test_in_a_script_the_interrupt_goes_on_with_the_histories():
    with pytest.raises(KeyboardInterrupt) as stop:
        run_experiments([config()])
    (history,) = stop.value.histories  # type: ignore[attr-defined]
    np.testing.assert_array_equal(history["step"], range(7))
