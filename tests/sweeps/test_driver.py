"""Sweeps: each run is what it would be alone; what is stored is never computed twice; nothing finished is lost."""

import contextlib
import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from polars.testing import assert_frame_equal

import dln
from dln.cli.launching import workers_of
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError, StorageError
from dln.metrics import model_metric
from dln.results import frames, tables
from dln.results.finals import final_values
from dln.results.frames import load_sweep, merge_sweeps, to_xarray
from dln.results.listing import look
from dln.results.run import load_run
from dln.results.sweep import SweepStore
from dln.sweeps import driver
from dln.sweeps.driver import run_sweep
from dln.sweeps.estimate import estimate
from dln.sweeps.plan import Plan
from tests.sweeps.test_plan import planner

SMALL = ["max_steps=20", "evaluate_every=6", "model.hidden_dim=4"]


def plan_of(*overrides, schema=SingleConfig, zips=()):
    return planner(schema)[0]([*SMALL, *overrides] if schema is SingleConfig else list(overrides), zips)


def assert_rows_are_runs_alone(frame, plan):
    """Every row of a loaded sweep holds what `run_experiment` gives for its cell, rounded to the run's precision."""
    rows = {row["run"]: row for row in frame.iter_rows(named=True)}
    assert len(rows) == len(frame)
    for cell in range(len(plan)):
        row, config = rows[plan.identity(cell)], plan.config(cell)
        history = dln.run_experiment(config)
        for name, column in history.columns.items():
            column = column if name == "step" else column.astype(config.dtype)
            np.testing.assert_array_equal(np.array(row[name], column.dtype), column, strict=True)
        for event, step in history.events.items():
            assert row[event] == step


def test_every_run_is_what_it_is_alone(tmp_path):
    swept = ["training.lr=0.001,0.002,50", "training.batch_size=1,null", "training.batch_seed=0..2"]
    plan = plan_of(*swept, "dtype=float64", "metrics=[weight_norm,layer_norms,singular_values]")
    report = run_sweep(plan, tmp_path)
    assert (report.runs, report.diverged, report.failed) == (18, 6, [])
    assert report.trajectories == 9 + 3  # on the full batch the seeds do not matter
    frame = load_sweep(tmp_path)
    assert_rows_are_runs_alone(frame, plan)
    assert frames.swept_keys(frame) == ["training.lr", "training.batch_size", "training.batch_seed"]
    assert frame["layer_norms"].dtype == pl.List(pl.Array(pl.Float64, 4))


def test_runs_of_different_shapes_and_engines_share_a_file(tmp_path):
    plan = plan_of("model.num_hidden=1,2", "max_steps=10,20", "training.optimizer=SGD,RMSprop", "metrics=[layer_norms]")
    run_sweep(plan, tmp_path)
    assert [path.name for path in SweepStore(tmp_path).files()] == ["results.parquet"]
    assert_rows_are_runs_alone(load_sweep(tmp_path), plan)


def test_a_table_has_the_entries_of_vectors_and_of_events(tmp_path):
    found = ["metrics=[singular_values,mode_strengths]", "events=[mode_escapes,plateaus]", "evaluate_every=20"]
    run_sweep(plan_of("training.lr=0.002,0.01", "training.model_seed=0..2", "max_steps=200", *found), tmp_path)
    frame, table = load_sweep(tmp_path), final_values(tmp_path)
    for row, lr in enumerate(table["training.lr"]):
        runs = frame.filter(pl.col("training.lr") == lr)
        last = np.array([curve[-1] for curve in runs["singular_values"].to_list()])
        escapes = [np.array([np.nan if e is None else e for e in run]) for run in runs["mode_escapes"].to_list()]
        for i in range(5):
            np.testing.assert_allclose(table[f"singular_values[{i + 1}]"][row], last[:, i].mean())
            np.testing.assert_allclose(table[f"singular_values[{i + 1}] std"][row], last[:, i].std(ddof=1), rtol=1e-6)
            seen = [run[i] for run in escapes if not np.isnan(run[i])]
            shown = table[f"mode_escapes[{i + 1}]"][row]
            assert shown is None if not seen else shown == pytest.approx(np.mean(seen))
    assert "mode_escapes" not in table.columns
    assert table.columns.index("train_loss") < table.columns.index("mode_escapes[1]")


def test_comparisons(tmp_path):
    overrides = ["max_steps=9", "training_b.lr=0.001,0.002,90", "shared.model.hidden_dim=4"]
    metrics = ["model_metrics=[weight_norm]", "comparative_metrics=[param_distance]"]
    plan = plan_of(*overrides, *metrics, schema=ComparativeConfig)
    report = run_sweep(plan, tmp_path)
    assert (report.trajectories, report.lanes, report.diverged) == (4, 6, 1)
    assert_rows_are_runs_alone(load_sweep(tmp_path), plan)


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_a_row_holds_its_own_records_only_and_ends_where_its_run_ended(tmp_path, engine):
    stop = "callbacks=[{name: stop_at_loss, params: {target: 40.0}}]"
    swept = [f"engine={engine}", "training.lr=0.0001,0.01,50", "evaluate_every=7"]
    plan = plan_of(stop, *swept, "metrics=[layer_norms]")
    run_sweep(plan, tmp_path / "all")
    assert_rows_are_runs_alone(load_sweep(tmp_path / "all"), plan)
    slow, stopped, diverged = load_sweep(tmp_path / "all").iter_rows(named=True)
    assert slow["step"] == [0, 7, 14, 20]
    assert stopped["step"][-1] == stopped["stopped_at"] not in slow["step"]
    assert diverged["step"][-1] < diverged["diverged_at"]
    for row in (slow, stopped, diverged):
        place = tmp_path / row["run"]
        run_sweep(plan_of(stop, *swept[::2], f"training.lr={row['training.lr']}", "metrics=[layer_norms]"), place)
        (alone,) = load_sweep(place, constants=True).iter_rows(named=True)
        assert all(alone[name] == row.get(name, alone[name]) for name in alone)
    shown = final_values(tmp_path / "all")
    expected = [np.float32(dln.run_experiment(plan.config(cell)).final["train_loss"]) for cell in (0, 1)]
    assert shown["train_loss"].to_list() == [*expected, None]


def test_a_pair_goes_on_where_one_lane_has_ended(tmp_path):
    plan = plan_of("max_steps=9", "training_b.lr=0.001,90", "shared.model.hidden_dim=4", schema=ComparativeConfig)
    run_sweep(plan, tmp_path)
    ended = load_sweep(tmp_path).row(1, named=True)
    assert len(ended["step"]) == len(ended["train_loss_b"]) == 10
    assert np.isnan(ended["train_loss_b"][ended["diverged_at_b"] :]).all()
    assert np.isfinite(ended["train_loss_a"]).all()


def test_small_sweeps_have_a_directory_for_each_run(tmp_path):
    plan = plan_of("training.lr=0.001,0.002")
    run_sweep(plan, tmp_path)
    for cell in range(2):
        history = load_run(tmp_path / str(cell))
        assert history.records == dln.run_experiment(plan.config(cell)).records
        summary = json.loads((tmp_path / str(cell) / "summary.json").read_text(encoding="utf-8"))
        assert (summary["status"], summary["steps"], summary["max_steps"]) == ("finished", 20, 20)


@pytest.mark.parametrize("optimizer", ["SGD", "RMSprop"])
def test_weights_are_saved_in_every_runs_directory(tmp_path, optimizer):
    plan = plan_of("training.batch_seed=1,2", "checkpoint_every=10", f"training.optimizer={optimizer}")
    run_sweep(plan, tmp_path, own_directories=False)
    for cell in range(2):
        dln.run_experiment(plan.config(cell), directory=tmp_path / "alone" / str(cell))
        for step in (0, 10, 20):
            saved, alone = (
                d / str(cell) / "checkpoints" / f"step_{step:08d}.npz" for d in (tmp_path, tmp_path / "alone")
            )
            assert saved.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("optimizer", ["SGD", "RMSprop"])
def test_steps_of_ones_own_are_recorded_and_saved_in_sweeps(tmp_path, optimizer):
    own = ["training.lr=0.001,0.01,100", "evaluate_at={log: 4}", f"training.optimizer={optimizer}"]
    plan = plan_of(*own, "metrics=[weight_norm]")
    run_sweep(plan, tmp_path)
    frame = load_sweep(tmp_path)
    assert frame["step"][0].to_list() == [0, 1, 3, 7, 20]
    assert_rows_are_runs_alone(frame, plan)
    run_sweep(plan_of(*own, "checkpoint_at=[5]"), tmp_path / "saved", own_directories=False)
    saved = sorted(p.name for p in (tmp_path / "saved" / "0" / "checkpoints").iterdir())
    assert saved == [f"step_{s:08d}.npz" for s in (0, 5, 20)]


def test_which_steps_are_recorded_can_vary(tmp_path):
    plan = plan_of("evaluate_at=[1,10],[3],{log:3},null", "training.batch_seed=0,1")
    run_sweep(plan, tmp_path)
    frame = load_sweep(tmp_path)
    assert_rows_are_runs_alone(frame, plan)
    steps = [[0, 1, 10, 20], [0, 3, 20], [0, 1, 4, 20], [0, 6, 12, 18, 20]]
    assert sorted(frame["step"].to_list()) == sorted(steps * 2)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "change", ["evaluate_every=5", "evaluate_at={log: 20}", "evaluate_at=[]", "resume", "engine=autograd"]
)
def test_a_dry_run_tells_what_will_lie_on_disk(change, tmp_path):
    changes = ["evaluate_every=50", "checkpoint_at=[300]"] if change == "resume" else [change]
    steps = 200 if change == "engine=autograd" else 1000
    plan = plan_of("training.batch_seed=0,1", f"max_steps={steps}", *changes)
    if change == "resume":
        run_sweep(plan, tmp_path / "before")
        saved = next((tmp_path / "before" / "0").glob("checkpoints/*.npz"))
        plan = plan_of("training.batch_seed=0,1", "max_steps=1000", "evaluate_every=5", f"resume={saved}")
    told = estimate(plan, np.arange(2), enough=0.1)
    run_sweep(plan, tmp_path / "here")
    stored = sum(path.stat().st_size for path in (tmp_path / "here").rglob("*") if path.suffix not in ("", ".npz"))
    assert told.bytes == pytest.approx(stored, rel=0.3)


def test_directories_of_other_runs_are_left_alone(tmp_path):
    run_sweep(plan_of("training.lr=0.001,0.002"), tmp_path)
    plan = plan_of("training.lr=0.003,0.002")
    (tmp_path / f".{plan.identity(0)}.tmp").mkdir()
    (tmp_path / f".{plan.identity(0)}.tmp" / "history.jsonl").write_text("of a killed sweep", encoding="utf-8")
    run_sweep(plan, tmp_path, rerun=[1])
    rates = {d.name[:2]: OmegaConf.load(d / ".hydra" / "config.yaml").training.lr for d in tmp_path.glob("[0-9]*")}
    assert rates == {"0": 0.001, "1": 0.002, "0-": 0.003}


def test_only_what_is_missing_is_computed(tmp_path, monkeypatch):
    trained = []
    train = driver._train

    def watched(plan, cells, *more):
        trained.extend(map(plan.values, cells))
        return train(plan, cells, *more)

    monkeypatch.setattr(driver, "_train", watched)
    run_sweep(plan_of("training.batch_seed=0..3", "training.batch_size=2"), tmp_path)
    assert len(trained) == 4
    trained.clear()
    report = run_sweep(plan_of("training.batch_seed=0..3", "training.batch_size=2"), tmp_path)
    assert (trained, report.found, report.finished) == ([], 4, 0)
    report = run_sweep(plan_of("training.batch_seed=2..5", "training.batch_size=2"), tmp_path)
    assert [v["training.batch_seed"] for v in trained] == [4, 5]
    trained.clear()
    wide = plan_of("training.batch_size=1,2", "training.batch_seed=0..5")  # another axis, the old value among its own
    report = run_sweep(wide, tmp_path)
    assert {v["training.batch_size"] for v in trained} == {1}
    assert (report.found, report.finished) == (6, 6)
    assert_rows_are_runs_alone(load_sweep(tmp_path), wide)
    fresh = tmp_path / "fresh"
    run_sweep(wide, fresh)
    assert_frame_equal(load_sweep(fresh), load_sweep(tmp_path))


def test_the_same_run_twice_in_a_sweep_is_computed_once(tmp_path):
    report = run_sweep(plan_of("training.lr=0.001,0.0010,0.002"), tmp_path)
    assert report.finished == 2
    assert len(load_sweep(tmp_path)) == 2


def test_a_changed_fixed_value_is_refused_with_the_difference(tmp_path):
    run_sweep(plan_of("training.lr=0.001,0.002", "model.gamma=1"), tmp_path)
    before = load_sweep(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)fixed values.*model.gamma: 1.0 -> 1.5"):
        run_sweep(plan_of("training.lr=0.001,0.002", "model.gamma=1.5"), tmp_path)
    with pytest.raises(ConfigError, match="another kind"):
        run_sweep(plan_of("max_steps=3", schema=ComparativeConfig), tmp_path)
    assert_frame_equal(load_sweep(tmp_path), before)
    run_sweep(plan_of("training.lr=0.001,0.002", "model.gamma=1,1.5"), tmp_path)
    assert len(load_sweep(tmp_path)) == 4


def test_runs_are_computed_anew_on_request(tmp_path):
    plan = plan_of("training.lr=0.001,0.002,0.003")
    run_sweep(plan, tmp_path)
    before = load_sweep(tmp_path)
    report = run_sweep(plan, tmp_path, rerun=[1])
    assert (report.found, report.finished) == (2, 1)
    assert_frame_equal(load_sweep(tmp_path), before)


def test_a_metric_that_raises_for_one_member_costs_only_that_member(tmp_path):
    @model_metric("test_sweep_fragile")
    def fragile(model):
        if model.weights[0].flatten()[0].item() == first[3]:
            raise ValueError("not this one")
        return 1.0

    plan = plan_of("training.model_seed=0..6", "metrics=[test_sweep_fragile]")
    first = [dln.DeepLinearNetwork(hidden_dim=4, model_seed=s).weights[0].flatten()[0].item() for s in range(7)]
    report = run_sweep(plan, tmp_path)
    assert report.finished == 6
    ((overrides, error),) = report.failed
    assert "training.model_seed=3" in overrides
    assert "not this one" in error
    assert sorted(load_sweep(tmp_path)["training.model_seed"]) == [0, 1, 2, 4, 5, 6]
    (line,) = (tmp_path / "failed.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["run"] == plan.identity(3)
    first[3] = None
    report = run_sweep(plan, tmp_path)
    assert (report.found, report.finished, report.failed) == (6, 1, [])
    assert not (tmp_path / "failed.jsonl").exists()
    assert_rows_are_runs_alone(load_sweep(tmp_path), plan)


def test_a_truncated_part_is_set_aside_and_its_runs_recomputed(tmp_path, monkeypatch):
    monkeypatch.setattr(SweepStore, "compact", lambda self, order: None)
    plan = plan_of("training.lr=0.001,0.002,0.003,0.004")
    run_sweep(plan, tmp_path, members=2)
    monkeypatch.undo()
    part, _ = SweepStore(tmp_path).files()
    part.write_bytes(part.read_bytes()[:-20])
    (tmp_path / "parts" / "x.parquet").write_bytes(b"")
    report = run_sweep(plan, tmp_path)
    assert (report.found, report.finished) == (2, 2)
    assert {path.name for path in (tmp_path / "damaged").iterdir()} == {part.name, "x.parquet"}
    assert sorted(report.damaged) == sorted([part.name, "x.parquet"])
    assert_rows_are_runs_alone(load_sweep(tmp_path), plan)


def test_a_rerun_in_a_directory_with_a_damaged_part(tmp_path):
    plan = plan_of("training.lr=0.001,0.002,0.003")
    run_sweep(plan, tmp_path)
    before = load_sweep(tmp_path)
    (tmp_path / "parts" / "x.parquet").write_bytes(b"")
    report = run_sweep(plan, tmp_path, rerun=[1])
    assert (report.found, report.finished, report.damaged) == (2, 1, ["x.parquet"])
    assert_frame_equal(load_sweep(tmp_path), before)


def test_keys_at_the_top_of_the_config_are_swept_keys_too(tmp_path):
    plan = plan_of("max_steps=10,20", "dtype=float32,float64", "metrics=[{name: layer_norms, label: a.b}]")
    run_sweep(plan, tmp_path)
    frame = load_sweep(tmp_path)
    assert frames.swept_keys(frame) == ["max_steps", "dtype"]
    table = final_values(tmp_path)
    assert table["runs"].to_list() == [1, 1, 1, 1]
    assert to_xarray(frame)["train_loss"].sizes == {"max_steps": 2, "dtype": 2, "record": 5}


def test_parts_left_by_an_interrupted_compaction_do_no_harm(tmp_path):
    plan = plan_of("training.lr=0.001,0.002")
    run_sweep(plan, tmp_path)
    before = load_sweep(tmp_path)
    SweepStore(tmp_path).write(pq.read_table(tmp_path / "results.parquet"))
    assert_frame_equal(load_sweep(tmp_path), before)
    run_sweep(plan, tmp_path)
    assert_frame_equal(load_sweep(tmp_path), before)
    assert [path.name for path in SweepStore(tmp_path).files()] == ["results.parquet"]


def test_a_second_driver_is_refused(tmp_path):
    plan = plan_of("training.lr=0.001,0.002")
    with SweepStore(tmp_path).locked(), pytest.raises(StorageError, match="another process"):
        run_sweep(plan, tmp_path)
    assert run_sweep(plan, tmp_path).finished == 2


def test_a_lazy_frame_holds_the_same(tmp_path):
    plan = plan_of("training.lr=0.001,0.002", "model.num_hidden=1,2", "metrics=[layer_norms]")
    run_sweep(plan, tmp_path)
    for _ in range(2):
        lazy = frames.scan_sweep(tmp_path).collect()
        assert_frame_equal(lazy, load_sweep(tmp_path, constants=True))
        SweepStore(tmp_path).write(pq.read_table(tmp_path / "results.parquet"))  # some rows twice


@pytest.mark.parametrize(
    ("launcher", "workers", "threads"),
    [
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": -1}, 8, 1),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 2}, 2, 4),
        (
            {
                "_target_": "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
                "ray": {"remote": {"num_cpus": 4}},
            },
            2,
            4,
        ),
        ({"_target_": "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher", "ray": {"remote": {}}}, 8, 1),
        (
            {
                "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
                "cpus_per_task": None,
            },
            8,
            1,
        ),
        (
            {
                "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
                "cpus_per_task": None,
            },
            8,
            None,
        ),
        (
            {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", "cpus_per_task": 16},
            8,
            16,
        ),
    ],
)
def test_workers_share_the_cores(launcher, workers, threads, monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "8")
    assert workers_of(OmegaConf.create(launcher)) == (workers, threads)


def test_loading_some_columns_or_nothing(tmp_path):
    run_sweep(plan_of("training.lr=0.001,0.002", "metrics=[weight_norm]"), tmp_path)
    assert load_sweep(tmp_path, ["weight_norm"]).columns == ["run", "training.lr", "weight_norm"]
    assert "model.gamma" in load_sweep(tmp_path, constants=True).columns
    with pytest.raises(StorageError, match=r"no column 'weight'; it has: .*weight_norm"):
        load_sweep(tmp_path, ["weight"])
    with pytest.raises(StorageError, match=r"no sweep\.json"):
        load_sweep(tmp_path / "nowhere")


@pytest.mark.long
def test_a_full_disk_loses_nothing_that_was_finished(small_disk):
    plan = plan_of("training.model_seed=0..999", "evaluate_every=1", "max_steps=400", "metrics=[layer_norms]")
    small_disk.mount("remount,size=4m")
    with pytest.raises(StorageError, match="what was finished is safe"):
        run_sweep(plan, small_disk.path)
    assert not list((small_disk.path / "parts").glob("*.tmp"))
    done = len(load_sweep(small_disk.path, ["train_loss"]))
    assert 0 < done < 1000
    small_disk.mount("remount,size=200m")
    report = run_sweep(plan, small_disk.path)
    assert (report.found, report.finished) == (done, 1000 - done)
    assert len(load_sweep(small_disk.path, ["train_loss"])) == 1000


def test_several_grids_are_one_sweep(tmp_path):
    one = plan_of("training.lr=0.001,0.002")
    two = plan_of("model.gamma=1,1.5", "training.lr=0.002", "max_steps=10")
    both = Plan([*one.grids, *two.grids])
    assert both.varying() == {"training.lr", "model.gamma", "max_steps"}
    report = run_sweep(both, tmp_path)
    assert (report.runs, report.finished) == (4, 4)
    assert_rows_are_runs_alone(load_sweep(tmp_path), both)
    assert [load_run(tmp_path / str(cell)).final["step"] for cell in range(4)] == [20, 20, 10, 10]


def test_merged_sweeps_are_the_sweep_of_both(tmp_path):
    one, two = (
        plan_of("training.lr=0.001,0.002", "model.gamma=1"),
        plan_of("training.lr=0.002,0.003", "model.gamma=1.2"),
    )
    run_sweep(one, tmp_path / "a")
    run_sweep(two, tmp_path / "b")
    assert merge_sweeps([tmp_path / "a", tmp_path / "b"], tmp_path / "c") == 4
    frame = load_sweep(tmp_path / "c")
    assert frames.swept_keys(frame) == ["model.gamma", "training.lr"]
    assert_rows_are_runs_alone(frame, Plan([*one.grids, *two.grids]))
    more = plan_of("training.lr=0.001,0.002,0.003", "model.gamma=1,1.2")
    assert run_sweep(more, tmp_path / "c").found == 4  # and it goes on as a sweep of its own
    with pytest.raises(StorageError, match="holds a sweep already"):
        merge_sweeps([tmp_path / "a", tmp_path / "b"], tmp_path / "c")


def test_runs_of_an_older_sweep_have_the_defaults_of_keys_that_it_did_not_know(tmp_path):
    def forget(directory, key):
        """Make a sweep what it is by a version that lacks a key."""
        path = directory / "results.parquet"
        rows = tables.read([path])
        about = tables.about(rows.schema)
        about["config"].remove(key)
        tables.write([rows.drop_columns([key]).replace_schema_metadata({"dln": json.dumps(about)})], path)
        told = json.loads((directory / "sweep.json").read_bytes())
        told["fixed"].pop(key, None)
        SweepStore(directory).describe(told)

    run_sweep(plan_of("training.batch_size=null", "training.batch_seed=0,1"), tmp_path)
    for key in ("data.rotate", "training.label_noise", "resume"):
        forget(tmp_path, key)
    report = run_sweep(plan_of("training.batch_size=null", "training.batch_seed=0..2"), tmp_path)
    assert (report.found, report.finished) == (2, 1)
    assert load_sweep(tmp_path, constants=True)["data.rotate"].to_list() == [False] * 3
    assert look(tmp_path).keys == ["training.batch_seed"]


def test_of_a_run_in_several_sweeps_the_first_or_the_last_counts(tmp_path):
    plan = plan_of("training.lr=0.001,0.002")
    for name in ("a", "b"):
        run_sweep(plan, tmp_path / name)
    path = tmp_path / "b" / "results.parquet"
    table = pq.read_table(path)
    marked = table.set_column(table.column_names.index("diverged_at"), "diverged_at", [[7, 7]])
    pq.write_table(marked.replace_schema_metadata(table.schema.metadata), path)
    for keep, expected in (("first", [None, None]), ("last", [7, 7])):
        assert merge_sweeps([tmp_path / "a", tmp_path / "b"], tmp_path / keep, keep) == 2
        assert load_sweep(tmp_path / keep)["diverged_at"].to_list() == expected


def test_sweeps_of_different_metrics_are_not_merged(tmp_path):
    run_sweep(plan_of("training.lr=0.001,0.002"), tmp_path / "a")
    run_sweep(plan_of("training.lr=0.001,0.002", "metrics=[weight_norm]"), tmp_path / "b")
    with pytest.raises(StorageError, match="differ in the curves weight_norm"):
        merge_sweeps([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_sweep_as_an_xarray(tmp_path):
    overrides = ["training.lr=0.001,0.002,90", "training.batch_size=2,null", "metrics=[layer_norms]", "max_steps=20"]
    plan = plan_of(*overrides)
    run_sweep(plan, tmp_path)
    data = to_xarray(load_sweep(tmp_path))
    assert data["train_loss"].dims == ("training.lr", "training.batch_size", "record")
    assert data["layer_norms"].shape == (3, 2, 5, 4)
    for cell in range(len(plan)):
        config = plan.config(cell)
        history = dln.run_experiment(config)
        at = {"training.lr": config.training.lr, "training.batch_size": [2, None].index(config.training.batch_size)}
        chosen = data["layer_norms"].sel({"training.lr": at["training.lr"]})[at["training.batch_size"]].to_numpy()
        expected = history["layer_norms"].astype("float32")
        np.testing.assert_array_equal(chosen[: len(expected)].astype("float32"), expected)


def test_keys_that_others_determine_are_coordinates_along_them():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "run": [str(i) for i in range(6)],
            "training_a.lr": [0.2, 0.1, None] * 2,
            "training_b.lr": [0.2, 0.1, None] * 2,
            "model_b.gamma": [1.0, 2.0, 1.0] * 2,
            "data.data_seed": [0, 0, 0, 1, 1, 1],
            "step": [[0, 5, 9], [0, 5, 9], [0]] * 2,
            "train_loss": [[float(i), i / 2, i / 4][: 1 if i % 3 == 2 else 3] for i in range(6)],
        }
    )
    data = to_xarray(frame)
    assert data["train_loss"].sizes == {"training_a.lr": 3, "data.data_seed": 2, "record": 3}
    assert data["step"].dims == ("record",)
    assert data["step"].to_numpy().tolist() == [0, 5, 9]
    for i, row in enumerate(frame.iter_rows(named=True)):
        at = [0.1, 0.2, None].index(row["training_a.lr"]), row["data.data_seed"]
        assert data["train_loss"].to_numpy()[at][0] == i
        assert data["model_b.gamma"].dims == ("training_a.lr",)
        assert data["model_b.gamma"].to_numpy()[at[0]] == row["model_b.gamma"]
    other = to_xarray(frame.with_columns(pl.Series("step", [[0, 5, 9], [0, 6, 9], [0]] * 2)))
    assert other["step"].dims == other["train_loss"].dims


def test_runs_without_a_record_and_of_other_depths_as_an_xarray(tmp_path):
    pytest.importorskip("xarray")
    plan = plan_of("data.params.scale=1e30,10", "model.num_hidden=1,2", "metrics=[layer_norms]")
    run_sweep(plan, tmp_path)
    frame = load_sweep(tmp_path)
    assert frame["diverged_at"].to_list() == [0, 0, None, None]
    assert [len(steps) for steps in frame["step"]] == [0, 0, 5, 5]
    data = to_xarray(frame)
    assert data["layer_norms"].shape == (2, 2, 5, 3)
    assert np.isnan(data["layer_norms"].sel({"data.params.scale": 1e30})).all()
    for depth in (1, 2):
        norms = data["layer_norms"].sel({"data.params.scale": 10.0, "model.num_hidden": depth}).to_numpy()
        assert np.isfinite(norms).all(0).tolist() == [i <= depth for i in range(3)]
    assert final_values(tmp_path)["diverged"].to_list() == [0, 0, 1, 1]


# --- doors


def sweep_argv(*more):
    return ["-m", *SMALL, "hydra.sweep.dir=here", *more]


MORTAL = """
import os, signal, time
from pathlib import Path
from dln import model_metric

def parts():
    return len([*Path("here/parts").glob("*.parquet")])

def first(what):
    try:
        Path(what).mkdir()
    except FileExistsError:
        return False
    return True

@model_metric("mortal")
def mortal(model):
    '''Kills its process in the midst of its second ensemble, and in the next process of the one after that.'''
    if 0 < parts() < 3 and first(f"death {parts()}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0

@model_metric("envious")
def envious(model):
    '''Kills the first process that comes here, as soon as another one has finished something.'''
    if first("death"):
        while not parts():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0
"""
MANY = ["training.model_seed=0..65", "extensions=[mortal_lab]"]  # too many for a directory each


@pytest.fixture
def mortal_lab(tmp_path, monkeypatch):
    """A working directory with MORTAL in it, for processes and for us."""
    (tmp_path / "mortal_lab.py").write_text(MORTAL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_a_killed_sweep_goes_on_where_it_was(door, mortal_lab):
    grid = [*MANY, "metrics=[mortal]"]
    here = mortal_lab / "here"
    for done in (22, 44):
        assert door.run(mortal_lab, *sweep_argv(*grid, "hydra.sweeper.members=22")).status == -signal.SIGKILL
        assert len(SweepStore(here).finished()) == done
    result = door.run(mortal_lab, *sweep_argv(*grid, "hydra.sweeper.members=22"))
    assert result.status == 0, result.err
    assert "22 finished, 44 finished earlier" in result.out
    run_sweep(plan_of(*grid), mortal_lab / "there")
    assert_frame_equal(load_sweep(here), load_sweep(mortal_lab / "there"))


@pytest.mark.long
def test_an_interrupted_sweep_says_how_to_go_on(door, waiting, tmp_path):
    argv = sweep_argv("training.model_seed=0..2999", "max_steps=10000", "evaluate_every=500")
    process = door.start(tmp_path, *argv)
    waiting(lambda: list((tmp_path / "here" / "parts").glob("*.parquet")), "a part")
    process.send(signal.SIGINT)
    result = process.wait()
    assert result.status == 130
    command = shlex.split(result.err.partition("go on with: python ")[2])
    assert command[1:] == argv  # as it was given
    noted = (tmp_path / "here" / "commands.txt").read_text(encoding="utf-8")
    assert shlex.split(noted, comments=True)[2:] == argv
    assert "Traceback" not in result.err


@pytest.mark.long
def test_a_dry_run_says_what_would_run_and_writes_nothing(door, tmp_path):
    argv = ["-m", "training.lr=0.001,0.002", "model.hidden_dim=5,6", "dry_run=true"]
    result = door.run(tmp_path, *argv)
    assert result.status == 0, result.err
    assert "4 runs of 2 kinds" in result.out
    assert "hidden_dim=6" in result.out
    assert result.created == []


@pytest.mark.long
@pytest.mark.hydra
def test_zips_reruns_and_yaml_params(door, tmp_path):
    (tmp_path / "own.yaml").write_text(
        "max_steps: 5\nhydra: {sweeper: {params: {training.lr: '0.001,0.002', model.gamma: '1,2'}}}\n", encoding="utf-8"
    )
    argv = ["--config-dir=.", "-cn=own", "-m", "hydra.sweep.dir=here"]
    result = door.run(tmp_path, *argv, "zip=[training.lr,model.gamma]")
    assert result.status == 0, result.err
    assert "2 runs" in result.out
    result = door.run(tmp_path, *argv)
    assert "4 runs" in result.out
    assert "2 finished earlier" in result.out
    result = door.run(tmp_path, *argv, "rerun=[model.gamma=2]")
    assert result.status == 0, result.err
    assert "2 finished, 2 finished earlier" in result.out
    for wrong, named in (("model.gama=2", "did you mean 'model.gamma'"), ("model.gamma=3", "no run")):
        result = door.run(tmp_path, *argv, f"rerun=[{wrong}]")
        assert result.status == 2
        assert named in result.err


@pytest.mark.long
def test_several_grids_merging_and_showing_from_the_shell(door, tmp_path):
    grids = "grids=[[training.lr=0.001,0.002,model.gamma=1],[training.model_seed=5..7]]"
    result = door.run(tmp_path, "-m", *SMALL, grids, "hydra.sweep.dir=a")
    assert result.status == 0, result.err
    assert "5 runs" in result.out
    frame = load_sweep(tmp_path / "a")
    assert frame["training.model_seed"].to_list() == [0, 0, 5, 6, 7]
    result = door.run(tmp_path, "-m", *SMALL, "training.lr=0.003", "hydra.sweep.dir=b")
    assert result.status == 0, result.err
    python = [sys.executable, "-m", "dln"]
    done = subprocess.run(
        [*python, "merge", "a", "b", "-o", "c"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "6 runs in c\n"
    done = subprocess.run([*python, "show", "c", "test_loss"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("training.lr", "0.003", "test_loss", "±"))
    assert done.stderr == ""
    done = subprocess.run([*python, "show", "nowhere"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.long
@pytest.mark.hydra
def test_hydras_own_sweeper_can_be_asked_for(door, tmp_path):
    result = door.run(tmp_path, "-m", "max_steps=3,4", "hydra/sweeper=basic", "hydra.sweep.dir=here")
    assert result.status == 0, result.err
    assert (tmp_path / "here" / "multirun.yaml").exists()
    assert len(load_run(tmp_path / "here" / "1")) == 5


FRAGILE = """
from dln import model_metric

@model_metric("fragile")
def fragile(model):
    if abs(model.weights[0].std().item() - 1) < 0.3:
        raise ValueError("too large")
    return 0.0
"""


def test_a_failing_run_is_named_and_the_status_tells(door, tmp_path):
    (tmp_path / "my_lab.py").write_text(FRAGILE, encoding="utf-8")
    argv = ["-m", "max_steps=3", "extensions=[my_lab]", "metrics=[fragile]", "model.gamma=0,1", "hydra.sweep.dir=here"]
    result = door.run(tmp_path, *argv)
    assert result.status == 1
    assert "1 of 2 runs failed" in result.err
    assert "model.gamma=0" in result.err
    assert "too large" in result.err
    assert "Traceback" not in result.err
    assert len(load_sweep(tmp_path / "here")) == 1


@pytest.mark.long
def test_show_prints_a_table(door, tmp_path):
    result = door.run(tmp_path, *sweep_argv("training.lr=0.001,50", "training.model_seed=0..3"))
    assert result.status == 0, result.err
    table = final_values(tmp_path / "here")
    assert table["training.lr"].to_list() == [0.001, 50.0]
    assert table["runs"].to_list() == [4, 4]
    assert table["diverged"].to_list() == [0, 4]
    run = {"max_steps": 20, "evaluate_every": 6, "model": {"hidden_dim": 4}}
    seeds = [{**run, "training": {"lr": 0.001, "model_seed": seed}} for seed in range(4)]
    losses = [dln.run_experiment(config).final["test_loss"] for config in seeds]
    np.testing.assert_allclose(table["test_loss"][0], np.mean(losses), rtol=1e-6)
    np.testing.assert_allclose(table["test_loss std"][0], np.std(losses, ddof=1), rtol=1e-5)
    assert table["test_loss"][1] is None
    assert_frame_equal(final_values(tmp_path / "here", ["test_loss"]), table.drop("train_loss", "train_loss std"))


# --- launchers


def children(pid):
    """Processes started by `pid`, and by those, and their commands; any of them may end while it is looked at."""
    below = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[1]) == pid:
                child = int(stat.parent.name)
                below |= {child: (stat.parent / "cmdline").read_bytes(), **children(child)}
    return below


def started_at_once(directory):
    """Return an override by which a command in `directory` starts its own processes for the first run already."""
    (directory / "hasty_lab.py").write_text(
        "from dln.sweeps import processes\n\nprocesses.WORTH = 0.0\n", encoding="utf-8"
    )
    return "extensions=[hasty_lab]"


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_killed_worker_of_a_launcher_costs_nothing_that_was_finished(launcher, door, mortal_lab):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    grid = [*MANY, "metrics=[envious]"]
    jobs = [f"hydra/launcher={launcher}", "hydra.sweeper.members=33", "hydra.sweeper.patience=5"]
    if launcher == "joblib":
        jobs.append("hydra.launcher.n_jobs=2")
    result = door.run(mortal_lab, *sweep_argv(*grid, *jobs))
    assert result.status == 0, result.err + result.out
    assert "launched again" in result.out + result.err
    assert [line for line in result.out.splitlines() if line.startswith("launching")] == [
        "launching 66 runs in 2 jobs",
        "launching 33 runs in 1 jobs",
    ]
    run_sweep(plan_of(*grid), mortal_lab / "there")
    assert_frame_equal(load_sweep(mortal_lab / "here"), load_sweep(mortal_lab / "there"))


@pytest.mark.long
@pytest.mark.hydra
def test_failures_in_a_launchers_worker_are_reported(door, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "my_lab.py").write_text(FRAGILE, encoding="utf-8")
    argv = ["-m", "max_steps=3", "extensions=[my_lab]", "metrics=[fragile]", "model.gamma=0,1", "hydra.sweep.dir=here"]
    result = door.run(tmp_path, *argv, "hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    assert result.status == 1
    assert "1 of 2 runs failed" in result.err
    assert "too large" in result.err
    assert len(load_sweep(tmp_path / "here")) == 1
