"""Aggregates of stored runs: against loops over the runs, from files, from frames, and against baselines."""

import itertools

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

import dln
from dln.errors import ConfigError, StorageError
from dln.history import History
from dln.results.sweep import SweepStore
from dln.results.tables import make_table
from dln.studies import aggregate as aggregating

SIZE, WIDTH, SEED = "training.batch_size", "model.hidden_dim", "training.batch_seed"
STEPS = np.array([0, 5, 10, 15])
GD = {SIZE: None}


def made(sizes=(None, 1, 10), widths=(4, 8), seeds=range(6)):
    """Runs, made up: without noise at size null; some of size 1 diverge, one of size 10 is stopped."""
    rng = np.random.default_rng(0)
    starts = {4: rng.lognormal(size=4), 8: rng.lognormal(size=4)}
    rows = []
    for size, width, seed in itertools.product(sizes, widths, seeds):
        noise = 0 if size is None else rng.normal(size=4) * [0, 0.1, 0.1, 0.1]
        lost = int(rng.choice([7, 10, 12])) if size == 1 and seed < 2 else None
        records = 2 if (size, seed) == (10, 3) else np.sum((lost or 99) > STEPS)
        row = {SIZE: size, WIDTH: width, SEED: seed, "lost": lost, "records": records}
        rows.append(row | {"loss": starts[width] * np.exp(noise), "norms": rng.normal(size=(4, 2))})
    return rows


def stored(directory, rows):
    """Store runs as a sweep and return its directory."""
    curves = {name: np.array([row[name] for row in rows]) for name in ("loss", "norms")}
    curves = {"step": np.tile(STEPS, (len(rows), 1)), **curves}
    config = {key: [row[key] for row in rows] for key in (SIZE, WIDTH, SEED)} | {"max_steps": [15] * len(rows)}
    events = {"diverged_at": [row["lost"] for row in rows], "escapes": [[1.0, None, 2.0, 3.0]] * len(rows)}
    present = np.arange(4) < np.array([[row["records"]] for row in rows])
    (directory / "parts").mkdir(parents=True)
    names = [f"{i:024x}" for i in range(len(rows))]
    SweepStore(directory).write(make_table(names, config, events, curves, present))
    return directory


@pytest.fixture(scope="module")
def rows():
    return made()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, rows):
    return stored(tmp_path_factory.mktemp("study") / "sweep", rows)


@pytest.fixture(scope="module")
def table(sweep):
    return dln.aggregate(sweep, SEED, of=["loss", "norms[2]"], baseline=GD, quantiles=(0.25, 0.5), resamples=200)


def test_each_row_is_what_a_loop_over_its_runs_finds(rows, table):
    assert table.select(SIZE, WIDTH, "step").rows() == sorted(
        itertools.product((None, 1, 10), (4, 8), STEPS), key=lambda row: (row[0] or 0, *row[1:])
    )
    for row in table.iter_rows(named=True):
        group = [run for run in rows if (run[SIZE], run[WIDTH]) == (row[SIZE], row[WIDTH])]
        place = list(STEPS).index(row["step"])
        there = [run for run in group if run["records"] > place]
        assert row["runs"] == 6
        assert row["diverged"] == sum(run["lost"] is not None and run["lost"] <= row["step"] for run in group)
        assert row["runs"] == row["diverged"] + row["stopped"] + row["loss count"]
        for name, values in {
            "loss": [run["loss"][place] for run in there],
            "norms[2]": [run["norms"][place, 1] for run in there],
        }.items():
            np.testing.assert_allclose(row[f"{name} mean"], np.mean(values), rtol=1e-12)
            np.testing.assert_allclose(row[f"{name} error"], stats.sem(values), rtol=1e-9, atol=1e-15)
            np.testing.assert_allclose(row[f"{name} q0.25"], np.quantile(values, 0.25), rtol=1e-12)


def test_the_baseline_is_the_condition_that_agrees_in_the_other_keys(rows, table):
    for row in table.iter_rows(named=True):
        if row[SIZE] is None:
            assert row["loss baseline"] is row["loss ratio"] is row["loss p"] is row["loss side"] is None
            continue
        place = list(STEPS).index(row["step"])
        exact = next(run["loss"][place] for run in rows if run[SIZE] is None and run[WIDTH] == row[WIDTH])
        group = [
            r["loss"][place] for r in rows if (r[SIZE], r[WIDTH]) == (row[SIZE], row[WIDTH]) and r["records"] > place
        ]
        assert row["loss baseline"] == exact
        np.testing.assert_allclose(row["loss ratio"], np.mean(group) / exact, rtol=1e-12)
        if row["step"]:
            np.testing.assert_allclose(row["loss p"], stats.ttest_1samp(group, exact).pvalue, rtol=1e-8)
            assert row["loss p corrected"] >= row["loss p"]
        else:  # all begin at the same weights: there is nothing to test
            assert (row["loss p"], row["loss side"], row["loss ratio"]) == (None, 0, 1.0)


def test_a_baseline_that_spreads_is_a_group(sweep, rows):
    table = dln.aggregate(sweep, SEED, of=["norms[1]"], baseline={SIZE: 10})
    last = table.filter(pl.col(SIZE) == 1, pl.col(WIDTH) == 8, pl.col("step") == 0).row(0, named=True)
    groups = [[r["norms"][0, 0] for r in rows if (r[SIZE], r[WIDTH]) == (size, 8)] for size in (1, 10)]
    np.testing.assert_allclose(last["norms[1] p"], stats.ttest_ind(*groups, equal_var=False).pvalue, rtol=1e-10)
    assert last["norms[1] ratio"] is None or min(map(np.mean, groups)) > 0


def test_other_sweeps_and_histories_as_baselines(tmp_path, sweep, table):
    names = [SIZE, WIDTH, "step", "loss ratio", "loss p corrected", "loss ratio bootstrap low"]
    ours = table.filter(pl.col(SIZE) == 1).select(names)
    noisy = dln.load_sweep(sweep, constants=True).filter(pl.col(SIZE).is_not_null())
    other = stored(
        tmp_path / "other", made(sizes=(None,), seeds=(9,))
    )  # its size is no key of a condition, its seed is not needed
    found = dln.aggregate(noisy, SEED, of=["loss"], baseline=other, resamples=200)
    assert_frame_equal(found.filter(pl.col(SIZE) == 1).select(names), ours)
    run = dln.load_sweep(other).filter(pl.col(WIDTH) == 8).row(0, named=True)
    history = History([{"step": s, "loss": x} for s, x in zip(run["step"], run["loss"], strict=True)])
    found = dln.aggregate(noisy.filter(pl.col(WIDTH) == 8), SEED, [SIZE], of="loss", baseline=history, resamples=200)
    names.remove(WIDTH)
    assert_frame_equal(found.filter(pl.col(SIZE) == 1).select(names), ours.filter(pl.col(WIDTH) == 8).select(names))


def test_a_baseline_is_compared_at_the_steps_that_it_has(sweep):
    history = History([{"step": s, "loss": 1.0} for s in (0, 7, 10)])
    found = dln.aggregate(sweep, SEED, of=["loss"], baseline=history)
    assert found.filter(pl.col("loss baseline").is_not_null())["step"].unique().sort().to_list() == [0, 10]


def test_files_frames_parts_and_the_order_of_runs_make_no_difference(sweep, table, monkeypatch):
    frame = dln.load_sweep(sweep, constants=True)
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    options = {"of": ["loss", "norms[2]"], "baseline": GD, "quantiles": (0.25, 0.5), "resamples": 200}
    for results in (frame, shuffled, shuffled.lazy(), dln.scan_sweep(sweep)):
        assert_frame_equal(dln.aggregate(results, SEED, **options), table, check_exact=True)
    monkeypatch.setattr(aggregating, "HELD", 1)  # a condition at a time
    assert_frame_equal(dln.aggregate(sweep, SEED, **options), table, check_exact=True)


def test_all_curves_of_numbers_are_aggregated_unless_some_are_named(sweep):
    for results in (sweep, dln.load_sweep(sweep)):
        names = dln.aggregate(results, SEED, quantiles=()).columns
        told = ["count", "mean", "std", "error", "low", "high", "min", "max", "log mean", "log std"]
        assert names == [SIZE, WIDTH, "step", "runs", "diverged", "stopped", "lost", *(f"loss {what}" for what in told)]


def test_steps_that_some_runs_were_not_recorded_at_are_left_out():
    steps = [[0, 2, 4, 6], [0, 3, 6], [0, 2]]
    frame = pl.DataFrame({SEED: [0, 1, 2], "step": steps, "loss": steps, "diverged_at": [None, None, 3]})
    found = dln.aggregate(frame, SEED)
    assert found.select("step", "runs", "diverged", "loss count", "loss mean").rows() == [
        (0, 3, 0, 3, 0),
        (6, 3, 1, 2, 6),
    ]


def test_conditions_of_all_runs_and_over_several_keys(sweep, rows):
    found = dln.aggregate(sweep, [SEED, SIZE, WIDTH], of=["loss"])
    assert found["step"].to_list() == list(STEPS)
    np.testing.assert_allclose(found["loss mean"][0], np.mean([row["loss"][0] for row in rows]))


def test_what_cannot_be_aggregated_is_told(sweep, tmp_path):
    half = dln.load_sweep(sweep).filter((pl.col(SIZE).is_not_null()) | (pl.col(WIDTH) == 4))
    for error, fault, results, options in [
        (StorageError, "max_steps does not vary .*what does: training.batch_size", sweep, {"over": "max_steps"}),
        (
            StorageError,
            "no key 'training.batch_sed'; did you mean 'training.batch_seed'",
            sweep,
            {"over": "training.batch_sed"},
        ),
        (StorageError, "no key 'model.hiden_dim'; did you mean 'model.hidden_dim'", sweep, {"by": ["model.hiden_dim"]}),
        (StorageError, "differ in more than training.batch_seed: model.hidden_dim; name", sweep, {"by": [SIZE]}),
        (StorageError, "cannot both be averaged over", sweep, {"by": [SEED, SIZE, WIDTH]}),
        (StorageError, "no curve 'los'; did you mean 'loss'", sweep, {"of": ["los"]}),
        (StorageError, "has no curve of numbers", dln.load_sweep(sweep, ["step", "norms"]), {}),
        (StorageError, "no curve 'escapes'", sweep, {"of": ["escapes"]}),
        (StorageError, r"'norms' is a vector of 2: .* such as 'norms\[1\]'", sweep, {"of": ["norms"]}),
        (StorageError, r"'norms' has the entries 1 to 2", sweep, {"of": ["norms[3]"]}),
        (ConfigError, "quantiles must lie between 0 and 1", sweep, {"quantiles": [0.5, 1]}),
        (ConfigError, "confidence must lie between 0 and 1", sweep, {"confidence": 95}),
        (ConfigError, "at least 100, not 5", sweep, {"resamples": 5}),
        (
            StorageError,
            "has training.batch_size=2; it has training.batch_size=null, 1, 10",
            sweep,
            {"baseline": {SIZE: 2}},
        ),
        (StorageError, "max_steps must be one of the keys", sweep, {"baseline": {"max_steps": 15}}),
        (StorageError, "the baseline names no key", sweep, {"baseline": {}}),
        (StorageError, "no baseline for training.batch_size=1, model.hidden_dim=8: no run", half, {"baseline": GD}),
        (StorageError, "nothing to compare", sweep, {"by": [SIZE, WIDTH, "max_steps"], "baseline": {"max_steps": 15}}),
        (ConfigError, "seed must be", sweep, {"seed": -1}),
        (StorageError, "no results of a sweep", tmp_path, {}),
        (StorageError, "the frame has no column 'step': load it", dln.load_sweep(sweep, ["loss"]), {}),
        (StorageError, "there is no run", half.head(0), {}),
    ]:
        with pytest.raises(error, match=fault):
            dln.aggregate(results, **{"over": SEED, **options})
