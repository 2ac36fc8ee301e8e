"""Runs are the same whatever the threads of the process are set to, at every door, and leave these as they were."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import dln
import tests.ingredients.test_initialisations as initial_tests
import tests.ingredients.test_inputs as inputs_tests
import tests.ingredients.test_teachers as teachers_tests
from dln import Dataset, factory
from dln.base.arithmetic import uniform
from dln.blueprint import Blueprint
from dln.composing.compose import resolve
from dln.composing.loader import load_config
from dln.config import SingleConfig
from dln.measure.events import event
from dln.metrics import model_metric
from dln.sweeps.driver import run_sweep
from tests.sweeps.test_plan import planner

ROOT = Path(__file__).resolve().parents[2]
DIM = 150
"""So large that BLAS and torch share matrices among threads."""
SAMPLES = 300
COUNTS = (1, 2)
"""Threads that a process may be set to."""


@contextlib.contextmanager
def process_with(count):
    """Let BLAS and torch use so many threads, as OPENBLAS_NUM_THREADS, OMP_NUM_THREADS or the cores of a machine do."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(limits=count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


def at_all_counts(function):
    """Return what a function gives under every number of threads, as lists of arrays."""
    found = []
    for count in COUNTS:
        with process_with(count):
            found.append([np.asarray(a) for a in function()])
    return found


def assert_always_alike(function):
    first, *others = at_all_counts(function)
    assert first
    for other in others:
        assert len(first) == len(other)
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


def own_arrays(dims=DIM, samples=SAMPLES):
    rng = np.random.default_rng(0)
    return [rng.standard_normal((samples, dims)) for _ in range(2)]


def blas_now():
    """Every BLAS that is loaded: numpy's, and others' that other tests here have imported."""
    return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]


def threads_now():
    return {*(pool["num_threads"] for pool in blas_now()), torch.get_num_threads()}


# --- the door


def test_one_thread_inside_and_what_there_was_after():
    for count in (2, 3):
        with process_with(count):
            with uniform():
                assert threads_now() == {1}
                with uniform():
                    assert threads_now() == {1}
                assert threads_now() == {1}
            assert threads_now() == {count}
            with contextlib.suppress(ZeroDivisionError), uniform():
                1 / 0  # noqa: B018
            assert threads_now() == {count}


def test_threads_of_the_user_that_run_side_by_side_leave_things_as_they_were():
    inside, leave, seen = threading.Event(), threading.Event(), []

    def other():
        torch.set_num_threads(2)  # a count of its own, as torch keeps it
        with uniform():
            seen.append(threads_now())
            inside.set()
            leave.wait()
        seen.append(torch.get_num_threads())

    with process_with(2):
        thread = threading.Thread(target=other)
        with uniform():
            thread.start()
            inside.wait()
        shared = [pool["num_threads"] for pool in blas_now() if pool.get("threading_layer") != "openmp"]
        leave.set()  # before anything can fail, or it would wait for ever
        thread.join()
        assert set(shared) <= {1}, "the other was still inside"
        assert seen == [{1}, 2]
        assert threads_now() == {2}


def test_nothing_inside_speaks_of_numbers_that_are_not_finite():
    big = np.full((2, 2), 1e200)
    with np.errstate(all="raise"), uniform():
        assert np.isinf(big @ big).all()
        assert np.isnan((big @ big) - (big @ big)).all()
        assert np.isinf(big / 0).all()


def test_large_matrices_are_large_enough():
    """Without the door, digits do depend on threads: the other tests here can fail.

    Of which operations they do depends on the processor's kernels: of products of large matrices by all those tried, of
    decompositions by some.
    """
    x, y = own_arrays()
    one, two = at_all_counts(lambda: [x.T @ y])
    assert not np.array_equal(one, two)
    one, two = at_all_counts(lambda: [(torch.from_numpy(x[i:]) ** 2).mean() for i in range(20)])
    assert one != two


# --- what runs are made of


def config(data=None, model=None, **more):
    data = {"rotate": True, "train_samples": SAMPLES, "test_samples": 3, **(data or {})}
    model = {"in_dim": DIM, "out_dim": DIM, "hidden_dim": DIM, "num_hidden": 1, **(model or {})}
    return resolve({"data": data, "model": model, "dtype": "float64", "max_steps": 2, **more}, SingleConfig)


def made(config):
    """All that a run is made from: data and initial weights."""
    blueprint = Blueprint(config)
    data = blueprint.dataset
    tensors = [data.train_inputs, data.train_targets, data.test_inputs, data.test_targets, data.teacher]
    return [*(t.numpy() for t in tensors if t is not None), *blueprint.start("")[0]]


@pytest.mark.parametrize("name", teachers_tests.EXAMPLES)
def test_teachers(name, tmp_path):
    params = {"matrix": name, **teachers_tests.EXAMPLES[name]}
    if name == "file":
        params["path"] = str(tmp_path / "teacher.npy")
        np.save(params["path"], own_arrays(samples=DIM)[0])
    if "rank" in params:
        params["rank"] = DIM // 2
    assert_always_alike(lambda: made(config({"params": params})))


@pytest.mark.sampled
@pytest.mark.parametrize("init", initial_tests.EXAMPLES)
def test_initial_weights(init):
    for example in initial_tests.EXAMPLES[init]:
        assert_always_alike(lambda example=example: made(config(model={**example, "in_dim": DIM, "init": init})))


@pytest.mark.sampled
@pytest.mark.parametrize("name", inputs_tests.INPUTS_OF_FOUR)
def test_inputs_and_whitening(name):
    params = dict(inputs_tests.INPUTS_OF_FOUR[name])
    if "values" in params:
        params["values"] = np.linspace(1, 2, DIM).tolist()
    if "rotate" in params:
        params["rotate"] = True
    for whiten in (False, True):
        data = {"inputs": name, "inputs_params": params, "whiten": whiten}
        assert_always_alike(lambda data=data: made(config(data)))


def test_least_squares_maps_of_arrays():
    dataset = Dataset.from_arrays(*own_arrays(), dtype=torch.float64)
    start = config(model={"init": "aligned"})
    assert_always_alike(lambda: Blueprint(start, dataset).start("")[0])


def first_row(input_moments, target_moments, covariance, teacher_left, teacher_values, teacher_right):
    """Some numbers of what linear algebra makes of the data."""
    matrices = input_moments, target_moments, covariance, teacher_left, teacher_right
    return [float(x) for m in matrices for x in m[0]] + [float(x) for x in teacher_values]


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_constants_of_the_data(engine):
    model_metric("test_constants_in_a_record")(first_row)
    event("test_constants_in_an_event")(first_row)
    inputs = {"inputs": "power_law", "inputs_params": {"rotate": True}, "params": {"matrix": "random_normal"}}
    names = {"metrics": ["test_constants_in_a_record"], "events": [{"name": "test_constants_in_an_event"}]}
    run = config({**inputs, "rotate": False}, {"hidden_dim": 2}, engine=engine, **names)

    def found():
        history = dln.run_experiment(run)
        return [history["test_constants_in_a_record"], history.events["test_constants_in_an_event"]]

    assert_always_alike(found)


# --- every door

OVERRIDES = [
    f"model.in_dim={DIM}", f"model.out_dim={DIM}", "model.hidden_dim=20", "model.num_hidden=1", "model.init=orthogonal",
    f"data.train_samples={SAMPLES}", "data.test_samples=3", "data.rotate=true", "dtype=float64", "max_steps=3",
    "training.lr=0.001", "metrics=[weight_norm,teacher_distance,mode_strengths]",
]  # fmt: skip
"""A run whose data, start, training and records all take products of matrices that threads share."""
ENGINES = {"compiled": ["engine=compiled"], "autograd": ["engine=autograd", "training.optimizer=RMSprop"]}


def run_experiment(config):
    return [dln.run_experiment(config)]


def run_experiments(config):
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, model_seed=1))
    return dln.run_experiments([config, other])[:1]


def sweep(overrides, tmp_path):
    plan = planner(SingleConfig)[0]([*overrides, "training.model_seed=0,1"])
    run_sweep(plan, tmp_path)
    (row,) = dln.load_sweep(tmp_path).filter(run=plan.identity(0)).iter_rows(named=True)
    return row


def trainer(config):
    return [factory.build(config).run()]


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ENGINES)
def test_doors_in_this_process(engine, tmp_path):
    overrides = [*OVERRIDES, *ENGINES[engine]]
    first, config = dln.run_experiment(overrides), load_config(overrides, SingleConfig)
    names = first.names

    def doors(folder):
        histories = [*run_experiment(config), *run_experiments(config), *trainer(config)]
        return [*histories, sweep(overrides, folder)]

    for count in COUNTS:
        with process_with(count):
            for found in doors(tmp_path / str(count)):
                for name in names:
                    np.testing.assert_array_equal(np.array(found[name]), first[name], err_msg=name)


@pytest.mark.long
def test_run_py_whatever_its_environment_says(tmp_path):
    """A process of its own: what the variables say counts when numpy and torch are imported."""
    overrides = [*OVERRIDES, *ENGINES["autograd"]]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    command = [sys.executable, str(ROOT / "run.py"), *overrides, f"hydra.run.dir={tmp_path / 'run'}"]
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=tmp_path)
    assert dln.load_run(tmp_path / "run").records == dln.run_experiment(overrides).records
