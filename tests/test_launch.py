"""Jobs of a launcher: what a worker is told, and how a driver knows that one has died."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dln import launch
from dln.config import SingleConfig
from dln.errors import LaunchError
from dln.frames import load_sweep
from dln.launch import Recipe, as_ranges, run_job, watched, write_jobs
from dln.results import SweepStore
from tests.test_plan import planner

RECIPE = Recipe(["max_steps=5", "training.lr=0.001,0.002,0.003", "training.model_seed=0..3"], [], [], "default", [])


def loader():
    from hydra._internal.utils import create_config_search_path

    from dln.compose import loader_class
    from dln.config import CONFIGS, folder

    return loader_class(SingleConfig)(create_config_search_path(str(CONFIGS / folder(SingleConfig))))


@given(st.sets(st.integers(0, 60)))
def test_ranges_hold_the_numbers_they_were_made_from(numbers):
    cells = np.array(sorted(numbers), np.int64)
    assert [c for span in as_ranges(cells) for c in range(*span)] == sorted(numbers)


def prepared(directory, stretches):
    store = SweepStore(directory)
    with store.locked():
        pass
    return [job[-1].partition("=")[2].strip("'") for job in write_jobs(directory, RECIPE, stretches, False, None)]


def test_a_worker_computes_the_cells_of_its_job(tmp_path):
    first, second = prepared(tmp_path, [np.array([0, 3, 5]), np.array([7])])
    run_job(first, loader())
    plan = planner(SingleConfig)[0](RECIPE.overrides)
    assert set(load_sweep(tmp_path)["run"]) == {plan.identity(cell) for cell in (0, 3, 5)}
    run_job(second, loader())
    assert len(load_sweep(tmp_path)) == 4


def test_jobs_that_are_done_need_no_word_from_the_launcher(tmp_path):
    jobs = write_jobs(_made(tmp_path), RECIPE, [np.array([0]), np.array([1])], False, None)
    hangs = threading.Event()

    def launcher(jobs):
        for job in jobs:
            run_job(job[-1].partition("=")[2].strip("'"), loader())
        hangs.wait(60)

    watched(launcher, jobs)
    hangs.set()
    assert len(load_sweep(tmp_path)) == 2


def test_a_job_without_a_sign_of_life_is_given_up(tmp_path, monkeypatch):
    jobs = write_jobs(_made(tmp_path), RECIPE, [np.array([0]), np.array([1])], False, None)
    hangs = threading.Event()

    def launcher(jobs):
        run_job(jobs[0][-1].partition("=")[2].strip("'"), loader())
        alive, _ = launch._signs(jobs[1][-1].partition("=")[2].strip("'"))
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


def _made(directory):
    with SweepStore(directory).locked():
        return directory
