"""Data of one's own, by `data.path`: a regression under both engines, in comparisons and in sweeps."""

import numpy as np
import pytest
import torch

from dln import Dataset, run_experiment
from dln.base.arrays import count_samples, load_arrays
from dln.base.streams import stream
from dln.composing.loader import load_config
from dln.config import ComparativeConfig, SingleConfig
from dln.data import load_dataset
from dln.errors import ConfigError
from dln.factory import check_names
from dln.results.frames import load_sweep
from dln.sweeps.driver import run_sweep
from tests import naive
from tests.sweeps.test_plan import planner

MODEL = ["model.in_dim=6", "model.out_dim=2", "model.hidden_dim=8", "model.num_hidden=1", "training.lr=0.02"]
FEW = ["max_steps=30", "dtype=float64"]


def regression(seed=0, samples=25):
    """Correlated, skewed features and targets that no linear map gives exactly, as data are."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(2.0, 0.2, (samples + 10, 3)) @ rng.standard_normal((3, 6)) + 0.1 * rng.standard_normal(
        (samples + 10, 6)
    )
    y = np.stack([np.tanh(x[:, 0]) + x[:, 1], x[:, 2] * x[:, 3]], 1) + 0.1 * rng.standard_normal((samples + 10, 2))
    return {"train_inputs": x[10:], "train_targets": y[10:], "test_inputs": x[:10], "test_targets": y[:10]}


def saved(path, **arrays):
    np.savez(path, **arrays)
    return f"data.path={path}"


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize("batch_size", ["null", 7])
def test_a_run_is_gradient_descent_on_the_arrays(tmp_path, engine, batch_size):
    arrays = regression()
    ours = [
        saved(tmp_path / "own.npz", **arrays),
        *MODEL,
        *FEW,
        f"training.batch_size={batch_size}",
        f"engine={engine}",
    ]
    history = run_experiment(ours)
    x, y = arrays["train_inputs"], arrays["train_targets"]
    order = [slice(None)] * 31 if batch_size == "null" else naive.batch_indices(25, 7, 0, 31)
    start = naive.initial_weights([6, 8, 2], 1.0, 0)
    weights, losses = naive.sgd(start, lambda s: (x[order[s]], y[order[s]]), 0.02, 30)
    np.testing.assert_allclose(history["train_loss"], losses, rtol=1e-9)
    at_end = naive.loss(weights, [0, 0], arrays["test_inputs"], arrays["test_targets"])
    np.testing.assert_allclose(history["test_loss"][-1], at_end, rtol=1e-9)
    given = [o for o in ours if not o.startswith("data.path")]
    same = run_experiment(given, dataset=Dataset.from_arrays(**arrays, dtype=torch.float64))
    assert same.records == history.records


def test_noise_is_added_to_the_training_targets_alone(tmp_path):
    arrays = regression()
    path = saved(tmp_path / "own.npz", **arrays).removeprefix("data.path=")
    plain, noisy = (load_dataset(path, noise_std=s, data_seed=3) for s in (0.0, 0.5))
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(plain, name), array)
        if name != "train_targets":
            np.testing.assert_array_equal(getattr(noisy, name), array)
    drawn = stream(3, "train noise").standard_normal((25, 2))
    np.testing.assert_allclose(noisy.train_targets, arrays["train_targets"] + 0.5 * drawn, rtol=1e-14)


def test_the_test_set_may_be_missing_and_other_arrays_be_there(tmp_path):
    arrays = {name: array for name, array in regression().items() if "train" in name}
    names = np.array(["age", "height"], dtype=object)
    for engine in ("compiled", "autograd"):
        history = run_experiment([saved(tmp_path / "own.npz", **arrays, names=names), *MODEL, *FEW, f"engine={engine}"])
        assert "test_loss" not in history
        assert len(history["train_loss"]) == 31


def test_numbers_of_any_kind_are_data(tmp_path):
    arrays = {name: np.round(10 * np.abs(array)) for name, array in regression().items()}
    for kind in (np.int32, np.uint16, np.float16, np.float64):
        path = saved(tmp_path / "own.npz", **{n: a.astype(kind) for n, a in arrays.items()}).removeprefix("data.path=")
        for name, array in arrays.items():
            np.testing.assert_array_equal(getattr(load_dataset(path), name), array)


@pytest.mark.parametrize("schema", [SingleConfig, ComparativeConfig])
def test_batch_sizes_are_checked_against_the_number_of_samples_in_the_file(tmp_path, schema):
    section = "shared." if schema is ComparativeConfig else ""
    model = [section + o for o in MODEL]
    path = saved(tmp_path / "own.npz", **regression())
    check_names(load_config([path, *model, f"{section}training.batch_size=25"], schema))
    with pytest.raises(ConfigError, match=r"training.*batch_size is 26 but there are only 25"):
        load_config([path, *model, f"{section}training.batch_size=26"], schema)
    saved(tmp_path / "own.npz", **regression(samples=40))
    assert load_config([path, *model, f"{section}training.batch_size=26"], schema).data.samples == 40


def test_samples_are_counted_anew_when_the_file_has_changed(tmp_path):
    for samples in (5, 6, 50):
        saved(tmp_path / "own.npz", **regression(samples=samples))
        assert count_samples(str(tmp_path / "own.npz")) == samples
    np.save(tmp_path / "one.npy", np.ones(3))
    assert load_arrays(tmp_path / "one.npy")[""].tolist() == [1, 1, 1]
    with pytest.raises(ConfigError, match="no array train_inputs"):
        count_samples(str(tmp_path / "one.npy"))


def test_two_models_are_compared_on_the_arrays(tmp_path):
    path = saved(tmp_path / "own.npz", **regression())
    pair = [path, *("shared." + o for o in MODEL), *FEW, "training_b.batch_size=7"]
    histories = [run_experiment([*pair, f"engine={e}"]) for e in ("compiled", "autograd")]
    alone = run_experiment([path, *MODEL, *FEW, "training.batch_size=7"])
    for history in histories:
        np.testing.assert_allclose(history["train_loss_b"], alone["train_loss"], rtol=1e-10)
        assert history["param_distance"][-1] > 1e-3


@pytest.mark.long
def test_a_sweep_over_files_and_rates(tmp_path):
    paths = [saved(tmp_path / f"{s}.npz", **regression(s)).removeprefix("data.path=") for s in (0, 1)]
    bare = {n: a for n, a in regression(2, samples=30).items() if "train" in n}
    paths.append(saved(tmp_path / "2.npz", **bare).removeprefix("data.path="))
    swept = [f"data.path={','.join(paths)}", "training.lr=0.01,0.02", "training.batch_seed=0,1", "data.noise_std=0,0.5"]
    plan = planner(SingleConfig)[0]([*MODEL[:-1], *FEW, "training.batch_size=5", *swept])
    assert [len(cells) for cells in plan.together()] == [8, 8, 8]
    assert run_sweep(plan, tmp_path / "sweep").failed == []
    rows = {row["run"]: row for row in load_sweep(tmp_path / "sweep").iter_rows(named=True)}
    assert len(rows) == 24
    for cell in range(24):
        alone = run_experiment(plan.config(cell))
        row = rows[plan.identity(cell)]
        assert row["data.path"] == plan.config(cell).data.path
        for name in ("train_loss", "test_loss"):
            if name in alone:
                np.testing.assert_array_equal(row[name], alone[name])
            else:
                assert row[name] is None
    with pytest.raises(ConfigError, match=r"no file '.*none.npz'"):
        planner(SingleConfig)[0]([*MODEL, f"data.path={paths[0]},{tmp_path / 'none.npz'}"])


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "own.npz", **regression())
    run = [*MODEL, *FEW, "training.batch_size=7"]
    at_home = run_experiment(["data.path='~/own.npz'", *run])
    assert at_home.records == run_experiment([f"data.path={tmp_path / 'own.npz'}", *run]).records


def test_a_table_of_text_is_told_how_to_become_arrays(tmp_path):
    (tmp_path / "own.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ConfigError, match=r"own.csv.*np\.savez"):
        run_experiment([f"data.path={tmp_path / 'own.csv'}", *MODEL, *FEW])


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
def test_the_modes_of_own_data_are_those_of_the_least_squares_map(tmp_path, engine):
    arrays = regression()
    x, y = arrays["train_inputs"], arrays["train_targets"]
    fitted = np.linalg.solve(x.T @ x, x.T @ y).T
    left, values, right = np.linalg.svd(fitted, full_matrices=False)
    names = "metrics=[mode_strengths,mode_alignments,teacher_distance,layer_norms]"
    run = ["dtype=float64", "max_steps=300", "training.lr=0.1", f"engine={engine}", names, "events=[mode_escapes]"]
    own = [saved(tmp_path / "own.npz", **arrays), *MODEL[:-1], *run]
    history = run_experiment([*own, "model.init=aligned", "model.init_params.strength=[0.2,0.1]"])
    np.testing.assert_allclose(history["mode_strengths"][0], [0.2, 0.1], rtol=1e-9)
    np.testing.assert_allclose(history["mode_alignments"][0], 1, rtol=1e-9)
    start = left @ np.diag([0.2, 0.1]) @ right
    np.testing.assert_allclose(history["teacher_distance"][0], np.linalg.norm(start - fitted), rtol=1e-9)
    learned = np.flatnonzero(history["mode_strengths"][:, 0] >= values[0] / 2)
    assert learned[0] > 0
    assert learned[0] - 1 < history.events["mode_escapes"][0] <= learned[0]
