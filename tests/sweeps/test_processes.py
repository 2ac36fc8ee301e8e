"""Runs of the autograd engine in several processes: the same results, whatever becomes of a process."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from dln.results.frames import load_sweep
from dln.sweeps import processes
from dln.sweeps.driver import run_sweep
from tests.sweeps.test_driver import children, plan_of, started_at_once, sweep_argv

DEADLY = """
import os, signal
from dln import model_metric

@model_metric("deadly")
def deadly(model):
    if abs(model.weights[0].std().item() - 1) < 0.3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0
"""


pytestmark = pytest.mark.long


@pytest.fixture
def at_once(monkeypatch):
    """Processes are started for the first run."""
    monkeypatch.setattr(processes, "WORTH", 0.0)


@pytest.fixture
def forked(monkeypatch):
    """Processes that die are not worth importing torch for each time: a server forks those of this test."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["torch", "numba", "omegaconf"])
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda method: server)


@pytest.mark.usefixtures("at_once")
def test_processes_change_nothing(tmp_path):
    plan = plan_of("engine=autograd", "training.lr=0.001,50", "training.model_seed=0..3")
    spread_out = run_sweep(plan, tmp_path / "two", processes=2)
    alone = run_sweep(plan, tmp_path / "one")
    assert (spread_out.finished, spread_out.diverged) == (alone.finished, alone.diverged) == (4, 4)
    assert_frame_equal(load_sweep(tmp_path / "two"), load_sweep(tmp_path / "one"))


@pytest.mark.usefixtures("at_once", "forked")
def test_an_error_ends_its_processes_and_no_others():
    """A child of somebody else's in this process, as joblib has them, lives on."""
    other = multiprocessing.get_context("spawn").Process(target=signal.pause, daemon=True)
    other.start()
    config, mine = plan_of("engine=autograd", "max_steps=2").config(0), []

    def interrupted():
        with processes.spread(2) as spread:
            spread.run([config, config], [None, None])
            mine.extend(child for child in multiprocessing.active_children() if child is not other)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(mine) == 2
    assert not any(process.is_alive() for process in mine)
    assert other.is_alive()
    other.kill()
    other.join()


@pytest.mark.usefixtures("at_once", "forked")
def test_a_run_that_kills_its_process_costs_only_itself(tmp_path, monkeypatch):
    (tmp_path / "deadly_lab.py").write_text(DEADLY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    argv = ["engine=autograd", "extensions=[deadly_lab]", "metrics=[deadly]", "model.gamma=1,0,2"]
    report = run_sweep(plan_of(*argv), tmp_path / "here", processes=2)
    assert report.finished == 2
    [(overrides, error)] = report.failed
    assert "model.gamma=0" in overrides
    assert "died" in error
    assert load_sweep(tmp_path / "here")["model.gamma"].to_list() == [1.0, 2.0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_driver(number, door, waiting, tmp_path):
    argv = ["engine=autograd", "training.model_seed=0..40", "max_steps=10000", "evaluate_every=1000"]
    argv = sweep_argv(*argv, started_at_once(tmp_path))
    process = door.start(tmp_path, *argv, DLN_THREADS="2")
    workers = []

    def at_work():
        workers[:] = [pid for pid, command in children(process.pid).items() if b"spawn_main" in command]
        return len(workers) == 2

    waiting(at_work, "two processes")
    os.kill(process.pid, number)
    waiting(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "their end")
