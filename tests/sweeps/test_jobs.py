"""Jobs of a launcher: what a worker is told, and how a driver knows that one has died."""

import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dln.composing.grid import value_of
from dln.config import SingleConfig
from dln.errors import LaunchError
from dln.results.frames import load_sweep
from dln.results.sweep import SweepStore
from dln.sweeps import jobs as module
from dln.sweeps.jobs import Recipe, as_ranges, run_job, spare_accounting, watched, write_jobs
from hydra_plugins.dln_sweeper import DlnSweeperConf
from tests.sweeps.test_plan import planner

RECIPE = Recipe(["max_steps=5", "training.lr=0.001,0.002,0.003", "training.model_seed=0..3"], [], [], "default", [])


def loader():
    from dln.composing.hydra_internals import create_config_search_path
    from dln.composing.loader import loader_class
    from dln.config import CONFIGS, folder

    return loader_class(SingleConfig)(create_config_search_path(str(CONFIGS / folder(SingleConfig))))


@given(st.sets(st.integers(0, 60)))
def test_ranges_hold_the_numbers_they_were_made_from(numbers):
    cells = np.array(sorted(numbers), np.int64)
    assert [c for span in as_ranges(cells) for c in range(*span)] == sorted(numbers)


def prepared(directory, ensembles):
    store = SweepStore(directory)
    with store.locked():
        pass
    return [value_of(job[-1]) for job in write_jobs(directory, RECIPE, ensembles, False, None)]


def test_a_worker_computes_the_cells_of_its_job(tmp_path):
    first, second = prepared(tmp_path, [np.array([0, 3, 5]), np.array([7])])
    run_job(tmp_path, first, loader())
    plan = planner(SingleConfig)[0](RECIPE.overrides)
    assert set(load_sweep(tmp_path)["run"]) == {plan.identity(cell) for cell in (0, 3, 5)}
    run_job(tmp_path, second, loader())
    assert len(load_sweep(tmp_path)) == 4


def test_a_worker_puts_runs_into_the_directories_that_the_driver_has_named(tmp_path):
    names = [f"lr/{cell}" for cell in range(12)]
    ((*_, job),) = write_jobs(_made(tmp_path), RECIPE, [np.array([3, 7])], True, None, names=names)
    run_job(tmp_path, value_of(job), loader())
    assert sorted(path.name for path in (tmp_path / "lr").iterdir()) == ["3", "7"]


def test_jobs_that_are_done_need_no_word_from_the_launcher(tmp_path):
    jobs = write_jobs(_made(tmp_path), RECIPE, [np.array([0]), np.array([1])], False, None)
    hangs = threading.Event()

    def launcher(jobs):
        for job in jobs:
            run_job(tmp_path, value_of(job[-1]), loader())
        hangs.wait(60)

    watched(launcher, jobs)
    hangs.set()
    assert len(load_sweep(tmp_path)) == 2


@pytest.mark.long
def test_a_job_without_a_sign_of_life_is_given_up(tmp_path, monkeypatch):
    jobs = write_jobs(_made(tmp_path), RECIPE, [np.array([0]), np.array([1])], False, None)
    hangs = threading.Event()

    def launcher(jobs):
        run_job(tmp_path, value_of(jobs[0][-1]), loader())
        alive, _ = module._signs(tmp_path, value_of(jobs[1][-1]))
        alive.touch()  # it starts, and is killed
        hangs.wait(60)

    started = time.monotonic()
    with pytest.raises(LaunchError, match="1 of 2 jobs died"):
        watched(launcher, jobs, patience=2)
    hangs.set()
    assert time.monotonic() - started < 40


def test_what_a_launcher_raises_is_raised(tmp_path):
    def launcher(jobs):
        raise RuntimeError("no such partition")

    with pytest.raises(RuntimeError, match="no such partition"):
        watched(launcher, write_jobs(_made(tmp_path), RECIPE, [np.array([0])], False, None))


@pytest.mark.parametrize(("patience", "expected"), [(3, 2), (60, 0)])
def test_a_worker_gives_signs_of_life_as_often_as_the_patience_asks(tmp_path, monkeypatch, patience, expected):
    def computing(*arguments):
        touched, before = 0, None
        deadline = time.monotonic() + (30 if expected else 2)
        while touched < 1 + expected and time.monotonic() < deadline:
            if alive.exists() and (now := alive.stat().st_mtime_ns) != before:
                touched, before = touched + 1, now
            time.sleep(0.01)
        seen.append(touched)
        return ()

    (job,) = write_jobs(_made(tmp_path), RECIPE, [np.array([0])], False, None, patience)
    alive, done = module._signs(tmp_path, value_of(job[-1]))
    seen = []
    monkeypatch.setattr(module, "compute", computing)
    run_job(tmp_path, value_of(job[-1]), loader())
    assert seen == [1 + expected]
    assert done.exists()


def test_patience_has_one_default_and_a_bound(door, tmp_path):
    assert DlnSweeperConf().patience == module.PATIENCE
    for patience in ("0", "nan"):
        result = door.run(tmp_path, "-m", "training.lr=0.1,0.2", f"hydra.sweeper.patience={patience}")
        assert (result.status, result.err.count("\n"), result.created) == (2, 1, [])
        assert "hydra.sweeper.patience must be at least 1 second" in result.err


@pytest.fixture
def sacct(tmp_path, monkeypatch):
    """f(text, stream, status) makes a program of that name that answers so, and returns how to count its calls."""
    slurm = pytest.importorskip("submitit.slurm.slurm")
    monkeypatch.setattr(slurm.SlurmJob, "watcher", slurm.SlurmInfoWatcher())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def answer(text, stream, status):
        program = tmp_path / "sacct"
        program.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/calls\necho '{text}' >&{stream}\nexit {status}\n")
        program.chmod(0o755)
        return lambda: len((tmp_path / "calls").read_text(encoding="utf-8").splitlines())

    return answer


def polled(directory):
    """What submitit answers when asked whether a job without a result is done: three times in each of two launches."""
    from submitit.slurm.slurm import SlurmJob

    answers = []
    for _ in range(2):
        spare_accounting()
        job = SlurmJob(directory, "12_0")
        answers += [job.done(force_check=True) for _ in range(3)]
    return set(answers)


def test_where_slurm_keeps_no_accounts_that_is_said_once(sacct, tmp_path, capfd, caplog):
    calls = sacct("Slurm accounting storage is disabled", 2, 1)
    assert polled(tmp_path) == {False}
    (record,) = caplog.records
    assert "Slurm accounting storage is disabled" in record.getMessage()
    said = capfd.readouterr()
    assert (said.out + said.err).count("storage is disabled") <= 1  # nothing beside that record
    assert calls() == 1


def test_where_slurm_keeps_accounts_submitit_reads_them(sacct, tmp_path, caplog):
    for state, done in (("RUNNING", False), ("FAILED", True)):
        calls = sacct(f"JobID|State|NodeList\n12_0|{state}|here", 1, 0)
        assert polled(tmp_path) == {done}
    assert caplog.records == []
    assert calls() >= 6


def test_where_there_is_no_sacct_the_jobs_are_launched_all_the_same(sacct, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert polled(tmp_path) == {False}
    assert len(caplog.records) == 1


def _made(directory):
    with SweepStore(directory).locked():
        return directory


@pytest.mark.parametrize("name", ["it's", "a${b}c", "a\\", "[x] = {y}, z"])
@pytest.mark.hydra
def test_jobs_find_their_directory_whatever_its_name_is(name, tmp_path):
    place = _made(tmp_path / name)
    ((sweep_dir, *_, job),) = write_jobs(place, RECIPE, [np.array([0])], False, None)
    assert value_of(sweep_dir) == str(place)
    assert (place / module.JOBS / value_of(job).removesuffix("#0")).is_file()
