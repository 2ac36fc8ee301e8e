"""Observers are told of a run once: its start, every record in order, and its end, whichever way it comes."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from dln import Observer, register_callback, register_tracker, run_experiment, run_experiments
from dln.config import SingleConfig
from dln.errors import ConfigError, ExtensionError
from dln.results.frames import load_sweep
from dln.sweeps.driver import run_sweep
from dln.sweeps.estimate import estimate
from dln.timeline import acting_at
from tests.sweeps.test_plan import planner

TOLD = []
"""What the observers of a test have been told: (what, about)."""


@pytest.fixture(autouse=True)
def nothing_told_yet():
    TOLD.clear()


@register_tracker("test_notes")
class Notes(Observer):
    """Notes all it is told."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def _note(self, what, *about):
        TOLD.append((what, *about))
        if what == self.fails:
            raise ZeroDivisionError

    def on_start(self, run):
        self._note("start", run)

    def on_record(self, record):
        self._note("record", record)
        record.clear()  # which must not change the run's

    def on_end(self, status, history):
        self._note("end", status, history)


register_callback("test_notes")(Notes)


@register_callback("test_notes_and_interrupts")
def interrupting(at: int):
    callback = acting_at([at], lambda step, trainer: os.kill(os.getpid(), signal.SIGINT))
    callback.on_end = lambda status, history: TOLD.append(("end of a function", status))
    return callback


def starts():
    return [told[1] for told in TOLD if told[0] == "start"]


def assert_told(history, status):
    """Of one run: that it starts, each of its records once and in order, its end."""
    assert [told[0] for told in TOLD] == ["start", *len(history) * ["record"], "end"]
    assert TOLD[-1][1:] == (status, history)


ENGINES = pytest.mark.parametrize("engine", ["compiled", "autograd"])
RUN = {"max_steps": 20, "evaluate_every": 6, "model": {"hidden_dim": 4}}
PAIR = {
    "max_steps": 20,
    "evaluate_every": 6,
    "training_b": {"batch_size": 3},
    "comparative_metrics": ["param_distance"],
}


@ENGINES
@pytest.mark.parametrize("run", [RUN, PAIR])
@pytest.mark.parametrize("key", ["tracker", "callbacks"])
def test_told_of_a_run_as_it_is(engine, run, key, tmp_path):
    key = "callbacks_b" if run is PAIR and key == "callbacks" else key
    given = {**run, "engine": engine, key: "test_notes" if key == "tracker" else [{"name": "test_notes"}]}
    history = run_experiment(given, directory=tmp_path / "2026" / "run")
    assert history.records == run_experiment({**run, "engine": engine}).records
    assert_told(history, "finished")
    (started,) = starts()
    assert (started.name, started.group, started.directory) == ("2026/run", None, tmp_path / "2026" / "run")
    assert started.config["max_steps"] == 20
    assert "shared" not in started.config


@ENGINES
def test_records_are_told_while_the_run_goes_on(engine):
    seen = []

    @register_callback(f"test_looks_{engine}")
    def looks():
        return acting_at([7], lambda step, trainer: seen.append(len(TOLD)))

    run_experiment({**RUN, "engine": engine, "tracker": "test_notes", "callbacks": [{"name": f"test_looks_{engine}"}]})
    assert seen == [1 + 2]  # the start, and the records of steps 0 and 6


@ENGINES
def test_a_run_that_diverges(engine):
    history = run_experiment({**RUN, "engine": engine, "training": {"lr": 100.0}, "tracker": "test_notes"})
    assert "diverged_at" in history.events
    assert_told(history, "diverged")


@ENGINES
@pytest.mark.parametrize("stored", [False, True])
def test_a_run_that_is_interrupted(engine, stored, tmp_path):
    acts = [{"name": "test_notes_and_interrupts", "params": {"at": 9}}]
    with pytest.raises(KeyboardInterrupt) as stop:
        run_experiment(
            {**RUN, "engine": engine, "tracker": "test_notes", "callbacks": acts},
            directory=tmp_path if stored else None,
        )
    assert TOLD.pop(-2) == ("end of a function", "interrupted")
    assert_told(stop.value.histories[0], "interrupted")  # type: ignore[attr-defined]


def test_a_run_that_fails():
    @register_callback("test_fails_at_9")
    def fails():
        return acting_at([9], lambda step, trainer: 1 / 0)

    with pytest.raises(ExtensionError, match="failed at step 9"):
        run_experiment({**RUN, "tracker": "test_notes", "callbacks": [{"name": "test_fails_at_9"}]})
    assert [told[0] for told in TOLD] == ["start", "record", "record", "end"]
    assert TOLD[-1][1] == "failed"


def test_events_are_known_at_the_end():
    run_experiment({**RUN, "tracker": "test_notes", "events": ["plateaus"]})
    assert "plateaus.begin" in TOLD[-1][2].events


@ENGINES
def test_many_runs_are_told_of_one_after_the_other(engine):
    configs = [{**RUN, "engine": engine, "training": {"lr": lr}, "tracker": "test_notes"} for lr in (0.001, 100.0)]
    histories = run_experiments(configs)
    told = [TOLD[:7], TOLD[7:]]
    for history, own, status in zip(histories, told, ("finished", "diverged"), strict=True):
        TOLD[:] = own
        assert_told(history, status)
    assert [run.name.rpartition("training.")[2].partition(",")[0] for [(_, run), *_] in told] == [
        "lr=0.001",
        "lr=100.0",
    ]


@pytest.mark.sampled
@pytest.mark.parametrize("own_directories", [True, False])
@ENGINES
def test_the_runs_of_a_sweep(own_directories, engine, tmp_path):
    overrides = ["max_steps=20", "evaluate_every=6", "training.lr=0.001,0.002", f"engine={engine}"]
    plan = planner(SingleConfig)[0]([*overrides, "tracker=test_notes"], ())
    sweep = tmp_path / "2026" / "sweep"
    run_sweep(plan, sweep, own_directories=own_directories)
    assert [run.name for run in starts()] == ["training.lr=0.001", "training.lr=0.002"]
    assert {(run.group, run.sweep) for run in starts()} == {("2026/sweep", sweep)}
    assert [run.directory for run in starts()] == ([sweep / "0", sweep / "1"] if own_directories else [None, None])
    assert [told[0] for told in TOLD] == 2 * ["start", *5 * ["record"], "end"]
    TOLD.clear()
    untold = planner(SingleConfig)[0]([*overrides, "training.lr=0.001,0.002,0.004"], ())
    assert run_sweep(untold, sweep).found == 2  # numbers do not depend on who is told
    assert "tracker" not in load_sweep(sweep).columns
    assert TOLD == []


def test_a_dry_run_tells_nobody():
    plan = planner(SingleConfig)[0](["tracker=test_notes", "callbacks=[{name: test_notes}]", "max_steps=2"], ())
    assert estimate(plan, np.arange(1), enough=0.001).seconds > 0
    assert TOLD == []


@pytest.mark.parametrize("fails", ["start", "record", "end"])
def test_one_that_fails_is_named_and_what_was_recorded_is_stored(fails, tmp_path):
    with pytest.raises(ExtensionError, match=rf"on_{fails} of Notes failed: ZeroDivisionError"):
        run_experiment({**RUN, "tracker": {"name": "test_notes", "params": {"fails": fails}}}, directory=tmp_path)
    assert [told[0] for told in TOLD].count("end") == (fails != "start")
    assert Path(tmp_path / "summary.json").exists() == (fails != "start")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("tensorbord", "tracker: unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
        (["tensorboard"], "tracker must be a name or a mapping"),
        ({"name": "test_notes", "params": {"fail": "x"}}, r"tracker.params.fail: .* did you mean 'fails'"),
        ({"name": "wandb", "params": {"mode": "offlin"}}, r"tracker.params.mode: .* takes 'offline' or 'online' here"),
        ({"nam": "test_notes"}, r"unknown key 'tracker.nam'; did you mean 'name'"),
    ],
)
def test_what_is_wrong_with_the_key_is_said_before_the_run(given, named):
    with pytest.raises(ConfigError, match=named):
        run_experiment({**RUN, "tracker": given})


def test_a_tracker_that_listens_to_nothing_is_an_error():
    register_tracker("test_deaf")(lambda: print)
    with pytest.raises(ExtensionError, match=r"'test_deaf' must be made with methods on_start"):
        run_experiment({**RUN, "tracker": "test_deaf"})
