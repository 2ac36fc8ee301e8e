"""A run counts as finished once all that it owes is on the disk: whenever a sweep dies, the next makes it whole."""

import json
import shutil

import pytest
from polars.testing import assert_frame_equal

from dln.config import SingleConfig
from dln.errors import StorageError
from dln.results.frames import load_sweep
from dln.results.run import load_run
from dln.results.sweep import SweepStore
from dln.sweeps.driver import run_sweep
from tests.crashes import CrashError, crashing
from tests.sweeps.test_plan import planner

TINY = ["max_steps=2", "model.hidden_dim=2", "model.in_dim=2", "model.out_dim=2", "data.train_samples=4"]
SWEEP = [*TINY, "training.lr=0.001,0.002", "checkpoint_every=2", "engine=compiled"]


def plan_of(*overrides):
    return planner(SingleConfig)[0](overrides)


@pytest.fixture(scope="module")
def plan():
    return plan_of(*SWEEP)


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    run_sweep(plan, directory, members=1)
    return directory


def contents(directory):
    """Every file of a sweep by its path, hidden ones too; of summaries all but the seconds."""
    files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    for path in files:
        if path.endswith("summary.json"):
            files[path] = {**json.loads(files[path]), "seconds": 0, "digest": ""}
        if path.endswith(".parquet"):
            files[path] = ""
    return files


def assert_same(directory, undisturbed):
    assert contents(directory) == contents(undisturbed)
    assert_frame_equal(load_sweep(directory), load_sweep(undisturbed))


def dies_at(operation, plan, directory, monkeypatch, power, **how):
    """Run a sweep that dies at its k-th operation on files, with or without the whole machine; whether it did."""
    with crashing(operation, monkeypatch) as crash:
        try:
            run_sweep(plan, directory, **{"members": 1, **how})
            return False
        except CrashError:
            pass
    if power:
        crash.lose_power(directory)
    return True


@pytest.mark.long
@pytest.mark.parametrize(("power", "every"), [(True, 1), (False, 3)], ids=["machine", "process"])
def test_whenever_a_sweep_dies_the_next_one_makes_it_whole(power, every, plan, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # disks are slow
    operation = 0
    while dies_at(operation, plan, tmp_path / "here", monkeypatch, power):
        run_sweep(plan, tmp_path / "here", members=1)
        assert_same(tmp_path / "here", undisturbed)
        shutil.rmtree(tmp_path / "here")
        operation += every
    assert operation > 90


@pytest.mark.long
@pytest.mark.parametrize(("power", "every"), [(True, 1), (False, 3)], ids=["machine", "process"])
def test_and_so_it_is_with_what_its_runs_are_compared_with(power, every, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    seeds = ["training.batch_seed=0,1", "training.batch_size=2", "reference={training.batch_size: null}"]
    plan, how = plan_of(*TINY, "training.lr=0.001,0.002", *seeds), {"members": 2, "own_directories": False}
    run_sweep(plan, tmp_path / "undisturbed", **how)
    assert len(load_sweep(tmp_path / "undisturbed" / "references")) == 2
    operation = 0
    while dies_at(operation, plan, tmp_path / "here", monkeypatch, power, **how):
        run_sweep(plan, tmp_path / "here", **how)
        assert_same(tmp_path / "here", tmp_path / "undisturbed")
        found, expected = (load_sweep(tmp_path / name / "references").sort("run") for name in ("here", "undisturbed"))
        assert_frame_equal(found, expected)
        shutil.rmtree(tmp_path / "here")
        operation += every
    assert operation > 60


def test_a_run_whose_directory_was_removed_is_computed_again(plan, undisturbed, tmp_path):
    here = shutil.copytree(undisturbed, tmp_path / "here")
    shutil.rmtree(here / "0")
    shutil.rmtree(here / "1" / "checkpoints")
    report = run_sweep(plan, here, members=1)
    assert (report.found, report.finished, report.incomplete) == (0, 2, 2)
    assert_same(here, undisturbed)


def test_only_sweeps_that_were_always_small_owe_directories(tmp_path):
    few, many = plan_of(*TINY, "training.model_seed=0..2"), plan_of(*TINY, "training.model_seed=0..3")
    run_sweep(few, tmp_path, own_directories=True)
    run_sweep(many, tmp_path, own_directories=False)
    assert not (tmp_path / "3").exists()
    shutil.rmtree(tmp_path / "1")
    assert run_sweep(many, tmp_path, own_directories=True).found == 4


def test_what_is_not_ours_is_left_alone(plan, undisturbed, tmp_path):
    theirs = ["0/notes.txt", ".old.tmp/notes.txt", ".notes.tmp", "parts/notes.txt", "1/summary.json"]
    for name in theirs:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[]", encoding="utf-8")
    run_sweep(plan, tmp_path, members=1)
    assert [(tmp_path / name).read_text(encoding="utf-8") for name in theirs] == ["[]"] * len(theirs)
    for cell in range(2):
        home = tmp_path / f"{cell}-{plan.identity(cell)[:8]}"
        assert load_run(home).records == load_run(undisturbed / str(cell)).records


def test_workers_of_an_earlier_driver_keep_what_they_write(plan, tmp_path):
    run_sweep(plan_of(*SWEEP, "training.lr=0.001"), tmp_path)
    half = tmp_path / f".{plan.identity(1)}.1a2b-3c.tmp"
    half.mkdir()
    results = SweepStore(tmp_path)
    results.expect_workers()
    with results.working():
        run_sweep(plan, tmp_path)
    assert half.exists()
    run_sweep(plan, tmp_path)
    assert not half.exists()


@pytest.mark.parametrize("what", ["parts", "0"])
def test_what_is_removed_while_a_sweep_runs_is_not_said_to_be_finished(what, plan, undisturbed, tmp_path):
    def remove(report):
        if report.finished == 2:
            shutil.rmtree(tmp_path / what)
            (tmp_path / "parts").mkdir(exist_ok=True)

    with pytest.raises(StorageError, match=r"of 2 runs were finished, but something has removed or changed"):
        run_sweep(plan, tmp_path, on_progress=remove, members=1)
    run_sweep(plan, tmp_path, members=1)
    assert_same(tmp_path, undisturbed)


def test_a_full_disk_costs_no_run_its_weights(small_disk):
    plan = plan_of(*TINY, "training.model_seed=0..29", "checkpoint_every=1", "model.hidden_dim=40")
    small_disk.mount("remount,size=600k")
    with pytest.raises(StorageError, match=r"cannot write.* No space left"):
        run_sweep(plan, small_disk.path, members=5)
    small_disk.mount("remount,size=200m")
    report = run_sweep(plan, small_disk.path)
    assert (report.found + report.finished, report.failed) == (30, [])
    assert report.found > 0
    assert sorted(len(list((small_disk.path / str(c) / "checkpoints").iterdir())) for c in range(30)) == [3] * 30
    assert not list(small_disk.path.glob(".*.tmp"))
