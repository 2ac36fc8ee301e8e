"""How much memory an ensemble needs is known before it is trained, and what does not fit is cut."""

import tracemalloc

import numpy as np
import pytest

from dln import factory, footprint, register_callback, run_experiments
from dln.config import SingleConfig
from dln.ensemble.lane import Lane
from dln.factory import build_ensemble
from dln.footprint import ensemble_bytes, members_that_fit
from dln.results.frames import load_sweep
from dln.sweeps.driver import run_sweep
from dln.timeline import acting_at
from tests.sweeps.test_plan import planner

WIDE = ["model.hidden_dim=300", "max_steps=3", "training.model_seed=0..7", "training.batch_size=5"]


def configs_of(*overrides):
    plan = planner(SingleConfig)[0](overrides)
    return [plan.config(cell) for cell in range(len(plan))]


@pytest.mark.long
@pytest.mark.parametrize(
    "more",
    [
        [],
        ["metrics=[weight_norm,singular_values]"],
        ["training.optimizer=Adam"],
        ["training.optimizer_params.momentum=0.9", "dtype=float64"],
        ["model.hidden_dim=4", "data.train_samples=20000", "data.data_seed=0..7"],
        ["model.hidden_dim=5", "max_steps=4000", "theory=aligned_modes_gd", "model.init=aligned", "data.whiten=true"],
    ],
    ids=["weights", "metrics", "adam", "momentum", "data", "theory"],
)
def test_what_an_ensemble_needs_is_foreseen(more):
    configs = configs_of(*WIDE, *more)
    build_ensemble(configs[:1]).run()  # what is loaded once
    tracemalloc.start()
    build_ensemble(configs).run().curves()
    needed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert needed / 2 < ensemble_bytes(configs) < 5 * needed


def test_only_so_many_are_trained_together_as_fit(monkeypatch, tmp_path):
    configs = configs_of(*WIDE)
    monkeypatch.setattr(footprint, "free", lambda: ensemble_bytes(configs[:3]) / footprint.SHARE)
    assert members_that_fit(configs) == 2
    sizes, build = [], factory.build_ensemble
    monkeypatch.setattr(factory, "build_ensemble", lambda c, *a, **k: (sizes.append(len(c)), build(c, *a, **k))[1])
    run_sweep(planner(SingleConfig)[0](WIDE), tmp_path, own_directories=False)
    assert sizes == [2, 3, 3]
    histories = run_experiments(configs)
    assert sizes[3:] == [2, 3, 3]
    losses = [row[-1] for row in load_sweep(tmp_path)["train_loss"].to_list()]
    assert losses == [np.float32(history.final["train_loss"]) for history in histories]


@pytest.mark.parametrize("shortage", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_where_memory_gives_out_half_are_tried(shortage, monkeypatch, tmp_path):
    build = factory.build_ensemble

    def short(configs, *args, **kwargs):
        if len(configs) > 2 or any(blueprint.config.training.model_seed == 7 for blueprint in configs):
            raise shortage
        return build(configs, *args, **kwargs)

    monkeypatch.setattr(factory, "build_ensemble", short)
    report = run_sweep(planner(SingleConfig)[0](["model.hidden_dim=3", *WIDE[1:]]), tmp_path, own_directories=False)
    assert report.finished == 7
    ((overrides, fault),) = report.failed
    assert "training.model_seed=7" in overrides
    assert "not enough memory; about" in fault


def test_runs_in_memory_are_halved_too_where_memory_gives_out(monkeypatch):
    configs = configs_of("model.hidden_dim=3", *WIDE[1:])
    whole, build, sizes = run_experiments(configs), factory.build_ensemble, []

    def short(some, *args, **kwargs):
        sizes.append(len(some))
        if len(some) > 3:
            raise MemoryError
        return build(some, *args, **kwargs)

    monkeypatch.setattr(factory, "build_ensemble", short)
    assert [history.records for history in run_experiments(configs)] == [history.records for history in whole]
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    monkeypatch.setattr(factory, "build_ensemble", lambda *args, **kwargs: short(configs))
    with pytest.raises(MemoryError):
        run_experiments(configs)


def test_runs_that_memory_cut_short_begin_anew(monkeypatch):
    """With callbacks that have seen nothing yet, whatever those of the first attempt remember."""

    @register_callback("test_footprint_third_time")
    def third_time():
        seen = []

        def stop(step, trainer):
            seen.append(step)
            if len(seen) == 3:
                trainer.stop()

        return acting_at(range(7), stop)

    callbacks = [{"name": "test_footprint_third_time"}]
    configs = [{"max_steps": 6, "training": {"model_seed": seed}, "callbacks": callbacks} for seed in range(3)]
    whole, draw, attempts = run_experiments(configs), Lane.draw, []

    def short(lane, steps):
        if lane.step == 1 and len(lane) > 1:
            attempts.append(len(lane))
            raise MemoryError
        return draw(lane, steps)

    monkeypatch.setattr(Lane, "draw", short)
    assert [history.records for history in run_experiments(configs)] == [history.records for history in whole]
    assert attempts == [3, 2]
    assert [history.final["step"] for history in whole] == [2, 2, 2]
