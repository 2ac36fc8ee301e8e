"""Code of a user's that raises for some runs of a sweep costs those runs, and little time of the others'."""

import functools
import json

import pytest
from polars.testing import assert_frame_equal

import dln
from dln.base.blame import for_each
from dln.callbacks import register_callback
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import DlnError, ExtensionError, StorageError
from dln.measure.events import event
from dln.metrics import comparative_metric, model_metric
from dln.results.frames import load_sweep
from dln.sweeps import driver
from dln.sweeps.driver import ROUNDS, run_sweep
from dln.timeline import acting_at
from tests.sweeps.test_driver import plan_of

STEPS = ["max_steps=10", "evaluate_every=1"]
SMALL_PAIR = "shared.model.hidden_dim=4"
CODE = {
    "metric": (SingleConfig, ["metrics=[test_blame]"], "training.model_seed"),
    "callback": (SingleConfig, ["callbacks=[{name: test_blame}]"], "training.model_seed"),
    "event": (SingleConfig, ["events=[test_blame]"], "training.model_seed"),
    "metric of a lane": (ComparativeConfig, ["model_metrics=[test_blame]", SMALL_PAIR], "training_b.model_seed"),
    "metric of pairs": (ComparativeConfig, ["comparative_metrics=[test_blame]", SMALL_PAIR], "training_b.model_seed"),
    "callback of a lane": (
        ComparativeConfig,
        ["callbacks_b=[{name: test_blame}]", SMALL_PAIR],
        "training_b.model_seed",
    ),
}


@functools.cache
def plan_for(code, runs, *more):
    schema, overrides, key = CODE[code]
    return plan_of(*STEPS, *overrides, f"{key}=0..{runs - 1}", *more, schema=schema)


def mark(model):
    """What tells one run's weights at one step from all others."""
    return model.weights[0].detach().double().sum().item()


@pytest.fixture
def odd():
    """Which marks of weights the user's code of these tests raises for: none as yet."""
    which = {"marks": lambda mark: False}

    def check(mark):
        if which["marks"](mark):
            raise ValueError(f"odd: {mark}")
        return 1.0

    model_metric("test_blame")(lambda model: check(mark(model)))
    comparative_metric("test_blame")(lambda model_a, model_b: check(mark(model_b)))
    event("test_blame", of=["train_loss"])(lambda train_loss: int(check(train_loss[-1])))
    at_every = acting_at(range(11), lambda step, trainer: check(mark(trainer.model)) and None)
    register_callback("test_blame")(lambda: at_every)
    return which


@pytest.fixture
def passes(monkeypatch):
    """How many runs each training of a sweep was of."""
    sizes, train = [], driver._train

    def watched(plan, cells, *more):
        sizes.append(len(cells))
        return train(plan, cells, *more)

    monkeypatch.setattr(driver, "_train", watched)
    return sizes


def told(directory):
    """What failed.jsonl says, by run."""
    lines = [json.loads(line) for line in (directory / "failed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({line["run"] for line in lines}) == len(lines)
    return {line["run"]: line["error"] for line in lines}


def raised_alone(plan, cells):
    raised = {}
    for cell in cells:
        with pytest.raises(ExtensionError) as caught:
            dln.run_experiment(plan.config(cell))
        raised[plan.identity(cell)] = str(caught.value)
    return raised


@pytest.mark.sampled
@pytest.mark.parametrize("code", CODE)
def test_what_raises_for_all_costs_one_pass(code, odd, passes, tmp_path):
    odd["marks"] = lambda mark: True
    plan = plan_for(code, 32)
    run_sweep(plan, tmp_path, own_directories=False)
    assert passes == [32]
    assert len(told(tmp_path)) == 32
    some = raised_alone(plan, [0, 17])
    assert some.items() <= told(tmp_path).items()


def test_neighbours_on_the_autograd_engine_are_trained_once_more(odd, passes, tmp_path):
    plan = plan_for("metric", 8, "engine=autograd")
    first = mark(dln.DeepLinearNetwork(hidden_dim=4, model_seed=5))
    odd["marks"] = lambda mark: mark == first
    run_sweep(plan, tmp_path, own_directories=False)
    assert passes == [8, 7]
    assert told(tmp_path) == raised_alone(plan, [5])


@pytest.mark.long
@pytest.mark.parametrize("code", ["metric", "metric of pairs", "callback of a lane"])
def test_faults_at_different_steps_cost_a_few_passes_and_nobody_else_a_digit(code, odd, passes, tmp_path):
    seen = {}
    odd["marks"] = lambda mark: seen.setdefault(mark, len(seen)) is None
    plan = plan_for(code, 16)
    run_sweep(plan, tmp_path / "clean", own_directories=False)
    marks = list(seen)  # step by step, of each run in turn
    assert len(marks) == 16 * 11
    clean = load_sweep(tmp_path / "clean")
    culprits = {2 * k + 1: marks[16 * (k + 2) + 2 * k + 1] for k in range(8)}
    odd["marks"] = lambda mark: mark in culprits.values()
    passes.clear()
    run_sweep(plan, tmp_path / "faulty", own_directories=False)
    assert passes[: ROUNDS + 1] == [16, 15, 14, 13]
    assert all(size <= 6 for size in passes[ROUNDS + 1 :])  # parted, so that no fault costs the others a pass
    assert told(tmp_path / "faulty") == raised_alone(plan, culprits)
    others = load_sweep(tmp_path / "faulty")
    assert_frame_equal(others, clean.filter(clean["run"].is_in(others["run"].implode())))
    assert len(others) == 8


def test_runs_that_share_a_trajectory_fail_with_it(odd, passes, tmp_path):
    shared = ["training_a.model_seed=0,1", "training_b.model_seed=2..5"]
    plan = plan_of(*STEPS, SMALL_PAIR, "model_metrics=[test_blame]", *shared, schema=ComparativeConfig)
    first = mark(dln.DeepLinearNetwork(hidden_dim=4, model_seed=1))
    odd["marks"] = lambda mark: mark == first
    run_sweep(plan, tmp_path, own_directories=False)
    assert passes == [8, 4]
    assert told(tmp_path) == raised_alone(plan, [4, 5, 6, 7])


def test_what_is_no_record_of_a_run_is_not_its_fault(odd, passes, tmp_path):
    """Where one run stops, the others are looked at too; their metrics are not asked."""
    seen = []
    odd["marks"] = lambda mark: seen.append(mark) or False
    stop = "callbacks=[{name: stop_at_loss, params: {target: 40.0}}]"
    plan = plan_of(stop, "metrics=[test_blame]", "training.lr=0.0001,0.01", "evaluate_every=7")
    run_sweep(plan, tmp_path)
    slow, stopped = load_sweep(tmp_path).iter_rows(named=True)
    assert stopped["stopped_at"] not in slow["step"]
    assert passes == [2]
    assert len(seen) == len(slow["step"]) + len(stopped["step"])


def test_a_full_disk_and_a_want_of_memory_are_no_runs_fault():
    def call(run):
        if run == 0:
            raise DlnError("its own")
        raise fault

    shortage = ExtensionError("too little")
    shortage.__cause__ = MemoryError()
    for fault in (StorageError("full"), shortage):
        with pytest.raises(type(fault)) as caught:
            for_each(range(3), call)
        assert (caught.value, caught.value.runs) == (fault, {})
