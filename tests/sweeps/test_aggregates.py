"""Sweeps that keep sums over runs in place of curves: the same table, exactly once, however the sweep went."""

import shutil

import numpy as np
import pytest
from polars.testing import assert_frame_equal

import dln
from dln.cli.show import show
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError, StorageError
from dln.results.frames import load_sweep, merge_sweeps
from dln.results.pieces import Found
from dln.results.sweep import SweepStore
from dln.sweeps.driver import run_sweep
from tests.sweeps.test_plan import planner
from tests.sweeps.test_storing import dies_at

SEED, SIZE = "training.batch_seed", "training.batch_size"
TINY = ["max_steps=4", "evaluate_every=2", "model.hidden_dim=2", "model.in_dim=2", "model.out_dim=2"]
STUDY = [*TINY, "data.train_samples=8", "training.lr=0.01", "engine=compiled", f"{SIZE}=1,4"]
KEPT = [f"aggregate.over={SEED}", "aggregate.pairs=[[train_loss,test_loss]]", "aggregate.curves=2"]
HOW = {"pairs": [("train_loss", "test_loss")], "quantiles": (0.25, 0.5)}


def plan_of(*overrides, schema=SingleConfig):
    return planner(schema)[0](overrides)


def study(seeds="0..5", *more):
    return plan_of(*STUDY, f"{SEED}={seeds}", *KEPT, *more)


def table(directory, **how):
    return dln.aggregate(directory, SEED, **HOW, **how)


@pytest.fixture(scope="module")
def plan():
    return study()


@pytest.fixture(scope="module")
def kept(plan, tmp_path_factory):
    directory = tmp_path_factory.mktemp("kept")
    run_sweep(plan, directory, members=5)
    return directory


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    directory = tmp_path_factory.mktemp("curves")
    run_sweep(plan_of(*STUDY, f"{SEED}=0..5"), directory, own_directories=False)
    return directory


@pytest.mark.parametrize("how", [{}, {"baseline": {SIZE: 4}}, {"of": ["test_loss"], "confidence": 0.9}])
def test_the_table_is_that_of_the_curves(how, kept, curves):
    assert_frame_equal(table(kept, **how), table(curves, **how), rel_tol=1e-12, abs_tol=1e-300)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("schema", "over", "more"),
    [
        (SingleConfig, SEED, ["reference={training.batch_size: null}", "comparative_metrics=[param_distance]"]),
        (SingleConfig, [SEED, "training.lr"], ["engine=autograd", "training.lr=1e60,0.01", "dtype=float64"]),
        (SingleConfig, SEED, ["metrics=[singular_values]", "aggregate.of=['singular_values[2]']"]),
        (SingleConfig, SEED, ["evaluate_at={linear: 5}", "max_steps=40"]),
        (ComparativeConfig, "training_b.batch_seed", []),
    ],
    ids=["reference", "diverging", "entry", "steps of a list", "comparison"],
)
def test_so_it_is_of_other_runs(schema, over, more, tmp_path):
    lane = "shared." if schema is ComparativeConfig else ""
    shape = [line.replace("model.", f"{lane}model.").replace("training.", f"{lane}training.") for line in STUDY]
    own = [line for line in more if "aggregate" not in line]
    seeds = f"{lane}{SEED}=0..3"
    run_sweep(plan_of(*shape, seeds, *own, schema=schema), tmp_path / "curves", own_directories=False)
    asked = over if isinstance(over, str) else f"[{','.join(over)}]"
    run_sweep(plan_of(*shape, seeds, *more, f"aggregate.over={asked}", schema=schema), tmp_path / "kept", members=3)
    found = dln.aggregate(tmp_path / "kept", over)
    names = [name.removesuffix(" count") for name in found.columns if name.endswith(" count")]
    expected = dln.aggregate(tmp_path / "curves", over, of=names)
    assert_frame_equal(found, expected, rel_tol=1e-12, abs_tol=1e-300)
    assert ("training.lr=1e60,0.01" in more) == (found["diverged"].max() > 0)


def test_neither_ensembles_nor_commands_nor_their_order_change_a_bit(plan, kept, tmp_path):
    run_sweep(plan, tmp_path / "singly", members=1)
    for number, seeds in enumerate(("4,2", "0..3", "0..5")):
        report = run_sweep(study(seeds), tmp_path / "grown", members=3)
        assert report.found == (0, 2, 10)[number]
    for directory in (tmp_path / "singly", tmp_path / "grown"):
        assert_frame_equal(table(directory), table(kept))


def test_sums_over_more_keys_are_put_together(tmp_path):
    more = ["training.model_seed=0,1"]
    run_sweep(study("0,1", *more), tmp_path / "kept")
    run_sweep(plan_of(*STUDY, f"{SEED}=0,1", *more), tmp_path / "curves", own_directories=False)
    found, expected = (
        dln.aggregate(tmp_path / name, [SEED, "training.model_seed"], **HOW) for name in ("kept", "curves")
    )
    assert_frame_equal(found, expected, rel_tol=1e-12)
    with pytest.raises(StorageError, match=r"keeps sums over training\.batch_seed, no curves: average over that"):
        dln.aggregate(tmp_path / "kept", "training.model_seed")


def test_the_first_runs_of_each_condition_keep_their_curves(kept, curves):
    first, all_of_them = load_sweep(kept), load_sweep(curves)
    assert sorted(first[SEED].to_list()) == [0, 0, 1, 1]
    assert_frame_equal(first.sort("run"), all_of_them.join(first.select("run"), "run", "semi").sort("run"))


def test_parts_of_a_sweep_are_merged_and_copies_count_once(plan, kept, tmp_path):
    for name, seeds in {"one": "0..2", "other": "3..5"}.items():
        run_sweep(study(seeds), tmp_path / name)
    assert merge_sweeps([tmp_path / "one", tmp_path / "other", tmp_path / "one"], tmp_path / "both") == 12
    assert_frame_equal(table(tmp_path / "both"), table(kept))
    assert run_sweep(plan, tmp_path / "both").found == 12
    assert merge_sweeps([tmp_path / "one", kept], tmp_path / "within") == 12
    run_sweep(study("1..3"), tmp_path / "across")
    with pytest.raises(StorageError, match=r"aggregates.parquet keep sums that have 2 runs in common, and each has"):
        merge_sweeps([tmp_path / "one", tmp_path / "across"], tmp_path / "new")


def test_pieces_left_by_a_crash_count_once_and_those_that_overlap_are_computed_again(plan, kept, tmp_path):
    here = shutil.copytree(kept, tmp_path / "here")
    pieces = here / "pieces"
    shutil.copy(here / "aggregates.parquet", pieces / "0.parquet")  # as if the removal had not come
    run_sweep(study("0,6"), tmp_path / "late")
    shutil.copy(tmp_path / "late" / "aggregates.parquet", pieces / "1.parquet")  # of a worker that was given up
    assert_frame_equal(table(here), table(kept))
    grown = study("0..6")
    assert run_sweep(grown, here).found == 12
    assert not [*pieces.iterdir()]
    run_sweep(grown, tmp_path / "at once")
    assert_frame_equal(table(here), table(tmp_path / "at once"))


def test_a_damaged_file_or_a_lost_curve_is_computed_again(plan, kept, tmp_path):
    here = shutil.copytree(kept, tmp_path / "here")
    whole = here / "aggregates.parquet"
    whole.write_bytes(whole.read_bytes()[:-40])
    report = run_sweep(plan, here)
    assert (report.found, report.finished, report.damaged) == (0, 12, ["aggregates.parquet"])
    (here / "results.parquet").unlink()
    assert run_sweep(plan, here).finished == 12  # what is left of a sum without a run cannot be told
    (here / "sweep.json").write_text("{", encoding="utf-8")
    assert run_sweep(plan, here).found == 12
    assert_frame_equal(table(here), table(kept))
    assert_frame_equal(load_sweep(here).sort("run"), load_sweep(kept).sort("run"))


def test_a_rerun_computes_what_is_summed_up_with_it_too(plan, kept, tmp_path):
    here = shutil.copytree(kept, tmp_path / "here")
    assert run_sweep(plan, here, rerun=[0]).finished == 6
    assert_frame_equal(table(here), table(kept))


def test_other_aggregates_or_curves_in_the_same_directory_are_refused(kept, curves):
    with pytest.raises(ConfigError, match=r"keeps other aggregates.*\n  aggregate\.curves: 2 -> 1"):
        run_sweep(study("0..5", "aggregate.curves=1"), kept)
    with pytest.raises(ConfigError, match="keeps curves, not aggregates"):
        run_sweep(study(), curves)
    with pytest.raises(ConfigError, match="keeps aggregates, not curves"):
        run_sweep(plan_of(*STUDY, f"{SEED}=0..5"), kept)
    with pytest.raises(StorageError, match="keep different aggregates, or one keeps curves"):
        merge_sweeps([kept, curves], kept / "new")


def test_a_sweep_that_has_kept_nothing_yet_may_keep_something_else(curves, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dln.sweeps.driver.train_together", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(study(), tmp_path)
    assert (tmp_path / "pieces").is_dir()
    assert not SweepStore(tmp_path).pieces.files()
    assert run_sweep(plan_of(*STUDY, f"{SEED}=0..5"), tmp_path, own_directories=False).finished == 12
    assert_frame_equal(load_sweep(tmp_path), load_sweep(curves))


def test_what_was_not_kept_is_told_in_a_line(kept, tmp_path):
    run_sweep(study("0,1", "aggregate.keep=[min]", "aggregate.of=test_loss", "aggregate.pairs=[]"), tmp_path)
    told = dln.aggregate(tmp_path, SEED).columns
    assert {"test_loss mean", "test_loss min"} < {*told}
    assert not [name for name in told[2:] if "max" in name or "q0" in name or "log" in name or "train" in name]
    for how, message in {
        ("of", ("train_loss",)): "keeps nothing of a column 'train_loss'",
        ("quantiles", (0.5,)): "keeps no quantiles",
        ("pairs", (("test_loss", "train_loss"),)): "keeps no covariance of test_loss and train_loss; kept: none",
        ("resamples", 100): "keeps sums, no curves: for a bootstrap",
        ("by", (SEED, SIZE)): "cannot both be averaged over",
    }.items():
        with pytest.raises(StorageError, match=message):
            dln.aggregate(tmp_path, SEED, **dict([how]))


def test_a_sweep_without_curves_is_shown_and_not_loaded(kept, tmp_path, capsys):
    run_sweep(study("0,1", "aggregate.curves=0"), tmp_path / "none")
    with pytest.raises(StorageError, match=r"keeps sums over runs, and no curves: dln\.aggregate"):
        load_sweep(tmp_path / "none")
    for directory, runs in {kept: 12, tmp_path / "none": 4}.items():
        show(str(directory))
        assert f"{runs} runs, of which sums over {SEED} are kept" in capsys.readouterr().out
    show(str(tmp_path))
    assert "4     -           complete" in capsys.readouterr().out


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("overrides", "message"),
    {
        ("aggregate.over=training.lr",): r"training\.lr does not vary",
        (
            f"aggregate.over={SIZE}",
        ): r"changes what its runs have in common; what may be averaged over: training\.batch_seed",
        ("aggregate.of=[tes_loss]",): r"aggregate\.of: there is no column 'tes_loss'; did you mean 'test_loss'",
        ("aggregate.pairs=[[test_loss,loss]]",): r"aggregate\.pairs: there is no column 'loss'",
        ("metrics=[layer_norms]", "aggregate.of='layer_norms[9]'"): "its entries are 1 to 4",
        ("metrics=[layer_norms]", "aggregate.of=layer_norms"): "has 4 numbers a record",
        ("aggregate.quantiles=[0.5,1]",): r"aggregate\.quantiles must lie between 0 and 1",
        ("aggregate.keep=[meen]",): "did you mean 'mean'",
        ("aggregate.curves=-1",): r"aggregate\.curves must be at least 0",
        ("aggregate.over=null", "aggregate.curves=3"): r"aggregate\.curves needs aggregate\.over",
        ("aggregate.curves=1,2",): "aggregate says what a sweep keeps of all its runs: it cannot be swept over",
        ("aggregate.pairs=[test_loss]",): "a pair is two columns",
    }.items(),
)
def test_what_cannot_be_kept_is_refused_before_anything_runs(overrides, message, tmp_path):
    lines = [f"{SEED}=0,1", f"{SIZE}=1,2", f"aggregate.over={SEED}", "max_steps=2", *overrides]
    with pytest.raises(ConfigError, match=message):
        dln.run_sweep(lines, directory=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_single_run_is_not_averaged_over():
    with pytest.raises(ConfigError, match="this is one run"):
        dln.run_experiment([f"aggregate.over={SEED}"])


def test_a_run_is_the_same_run_whatever_is_kept_of_it(plan):
    assert (plan.identities == plan_of(*STUDY, f"{SEED}=0..5").identities).all()


def test_files_are_put_together_while_a_sweep_goes_on(plan, kept, tmp_path, monkeypatch):
    monkeypatch.setattr("dln.sweeps.driver.LOOSE", 2)
    most = []
    run_sweep(plan, tmp_path, members=1, on_progress=lambda _: most.append(len(SweepStore(tmp_path).pieces.files())))
    assert max(most) <= 3
    assert_frame_equal(table(tmp_path), table(kept))


@pytest.mark.long
@pytest.mark.parametrize(("power", "every"), [(True, 1), (False, 3)], ids=["machine", "process"])
def test_whenever_a_sweep_dies_the_next_one_counts_every_run_once(power, every, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # disks are slow
    monkeypatch.setattr("dln.sweeps.driver.LOOSE", 1)
    plan, here, operation = study("0..2"), tmp_path / "here", 0
    run_sweep(plan, tmp_path / "undisturbed", members=2)
    expected = table(tmp_path / "undisturbed")
    while dies_at(operation, plan, here, monkeypatch, power, members=2):
        run_sweep(plan, here, members=2)
        assert_frame_equal(table(here), expected)
        assert_frame_equal(load_sweep(here), load_sweep(tmp_path / "undisturbed"))
        found = Found.of(SweepStore(here).pieces.files())
        assert sorted(np.concatenate(found.runs).tolist()) == sorted(plan.identities.tolist())
        shutil.rmtree(here)
        operation += every
    assert operation > 40
