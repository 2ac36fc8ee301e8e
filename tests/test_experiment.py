"""From a config to a history: the same config gives the same numbers, wherever and however it is run."""

import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from dln import Dataset, History, load_run, run_experiment, run_experiments
from dln.composing.loader import load_config
from dln.config import ComparativeConfig, SingleConfig
from dln.errors import ConfigError
from dln.metrics import model_metric

SMALL = {"max_steps": 30, "model": {"hidden_dim": 8}, "training": {"batch_size": 7, "lr": 0.01}}
OVERRIDES = ["max_steps=30", "model.hidden_dim=8", "training.batch_size=7", "training.lr=0.01"]


def test_configs_from_python_may_hold_what_numpy_makes(tmp_path):
    rates = np.logspace(-4, -2, 3)
    common = {"max_steps": 1e1, "evaluate_every": np.int64(5)}
    model = {"hidden_dim": np.array([4, 3]), "num_hidden": np.int32(2)}
    given = [{**common, "model": model, "training": {"lr": lr, "batch_size": 1e1}} for lr in rates]
    ours = [
        {"max_steps": 10, "evaluate_every": 5, "model": {"hidden_dim": [4, 3], "num_hidden": 2}, "training": training}
        for training in [{"lr": float(lr), "batch_size": 10} for lr in rates]
    ]
    expected = [run_experiment(config).records for config in ours]
    assert [history.records for history in run_experiments(given)] == expected
    assert run_experiment(given[0]).records == expected[0]
    with pytest.raises(ConfigError, match="max_steps"):
        run_experiment({"max_steps": 10.5})


def test_overrides_dictionaries_and_resolved_configs_are_the_same_run():
    runs = [run_experiment(c) for c in (SMALL, OVERRIDES, load_config(OVERRIDES, SingleConfig))]
    assert runs[0].records == runs[1].records == runs[2].records
    assert runs[0]["step"].tolist() == list(range(31))


OTHER_PROCESS = f"""
import json, sys, dln
heavy = {{"torch", "numpy", "matplotlib", "polars", "hydra"}} & set(sys.modules)
records = dln.run_experiment({SMALL!r}).records
heavy |= {{"scipy.integrate", "scipy.optimize", "scipy.special"}} & set(sys.modules)  # theories and studies use them
missing = [name for name in dln.__all__ if getattr(dln, name) is None]
listed = sorted(dln._HOME) == dln.__all__
print(json.dumps({{"heavy": sorted(heavy), "missing": missing, "listed": listed, "records": records}}))
"""


@pytest.fixture(scope="module")
def elsewhere():
    """What a new process says of the package, step by step as it loads it, and of a run."""
    other = subprocess.run([sys.executable, "-c", OTHER_PROCESS], capture_output=True, text=True, check=True)
    return json.loads(other.stdout)


@pytest.mark.long
def test_another_process_gives_the_same_numbers_bit_for_bit(elsewhere):
    assert elsewhere["records"] == run_experiment(SMALL).records


@pytest.mark.parametrize("key", ["data.data_seed", "training.model_seed", "training.batch_seed", "data.noise_std"])
def test_each_seed_changes_the_run_and_a_run_repeats(key):
    part, name = key.split(".")
    change = {part: {**SMALL.get(part, {}), name: 1}}
    base, changed, again = (run_experiment({**SMALL, **more}) for more in ({}, change, change))
    assert changed.records == again.records
    assert changed.records != base.records


def test_a_comparison_is_recognised_by_its_keys():
    history = run_experiment({"max_steps": 3, "training_b": {"batch_size": 10}})
    assert "param_distance" not in history, "a dictionary has the schema's defaults, without metrics"
    assert {"train_loss_a", "train_loss_b"} <= set(history.names)
    assert "param_distance" in run_experiment(["max_steps=3", "training_b.batch_size=10"])
    assert "train_loss_a" in run_experiment(["max_steps=3"], comparative=True)
    assert "end_to_end_distance" in run_experiment(["max_steps=3"], config_name="rich_lazy")


def test_a_comparison_against_itself_through_the_config():
    both = {"training": {"batch_size": 10}, "model": {"hidden_dim": 6}}
    history = run_experiment({"max_steps": 20, "shared": both, "comparative_metrics": ["param_distance"]})
    assert (history["param_distance"] == 0).all()
    single = run_experiment({"max_steps": 20, **both})
    assert np.array_equal(history["train_loss_b"], single["train_loss"])


def test_a_stored_run_is_read_back_as_it_was(tmp_path):
    config = {**SMALL, "metrics": ["layer_norms", "weight_norm"]}
    history = run_experiment(config, directory=tmp_path / "run")
    stored = load_run(tmp_path / "run")
    assert stored.records == history.records
    assert stored.events == history.events == {}
    assert history.directory == stored.directory
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("finished", 30)


def test_records_are_on_disk_as_soon_as_they_are_taken(tmp_path):
    lines = []

    @model_metric("test_looks_at_the_disk")
    def looks(model):
        lines.append(len((tmp_path / "history.jsonl").read_text().splitlines()))
        return 0.0

    run_experiment({"max_steps": 5, "metrics": ["test_looks_at_the_disk"]}, directory=tmp_path)
    assert lines == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_run_keeps_its_records_and_says_so(tmp_path, interruption):
    name = f"test_interrupts_{interruption.__name__}"

    @model_metric(name)
    def interrupts(model, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 4:
            raise interruption
        return 0.0

    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        run_experiment({"max_steps": 9, "metrics": [name]}, directory=tmp_path)
    assert load_run(tmp_path)["step"].tolist() == [0, 1, 2]
    status = json.loads((tmp_path / "summary.json").read_text())["status"]
    assert status == ("interrupted" if interruption is KeyboardInterrupt else "failed")


def test_a_diverged_run_is_a_result(tmp_path):
    history = run_experiment({"max_steps": 50, "training": {"lr": 100.0}}, directory=tmp_path)
    assert 0 < history.diverged_at < 50
    assert load_run(tmp_path).events == {"diverged_at": history.diverged_at}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("diverged", history.diverged_at)


def test_checkpoints_continue_a_run_where_it_was(tmp_path):
    """Plain full-batch gradient descent has no state but its weights: 20 + 20 steps are 40."""
    config = {"model": {"hidden_dim": 8}, "training": {"lr": 0.01}}
    whole = run_experiment({**config, "max_steps": 40})
    run_experiment({**config, "max_steps": 20, "checkpoint_every": 8}, directory=tmp_path / "first")
    saved = sorted(p.name for p in (tmp_path / "first" / "checkpoints").iterdir())
    assert saved == [f"step_{s:08d}.npz" for s in (0, 8, 16, 20)]
    start = str(tmp_path / "first" / "checkpoints" / saved[-1])
    rest = run_experiment(
        {"training": config["training"], "max_steps": 20, "model": {"hidden_dim": 8, "weights": start}}
    )
    assert np.array_equal(rest["train_loss"], whole["train_loss"][20:])


def test_weights_are_saved_at_steps_of_ones_own(tmp_path):
    for name, at in (("list", [3, 11]), ("log", {"log": 4})):
        config = {"max_steps": 27, "checkpoint_every": 2, "checkpoint_at": at, "engine": "compiled"}
        run_experiment(config, directory=tmp_path / name)
    listed, spaced = (sorted(p.name for p in (tmp_path / n / "checkpoints").iterdir()) for n in ("list", "log"))
    assert listed == [f"step_{s:08d}.npz" for s in (0, 3, 11, 27)]
    assert spaced == [f"step_{s:08d}.npz" for s in (0, 1, 3, 9, 27)]


# --- which steps are recorded

STOP = [{"name": "stop_at_loss", "params": {"target": 8.0, "interval": 7}}]
RECORDED = {
    "single": {"metrics": ["weight_norm", "singular_values"], "data": {"noise_std": 0.1}},
    "stopped": {"metrics": ["gradient_norm"], "callbacks": STOP},
    "diverged": {"training": {"lr": 0.3, "batch_size": 7}, "metrics": ["weight_norm"]},
    "comparative": {"training_b": {"batch_size": 5}, "comparative_metrics": ["param_distance"], "callbacks_a": STOP},
    "one lane diverges": {"training_b": {"lr": 0.3}, "comparative_metrics": ["param_distance"]},
    "both lanes stop": {"callbacks_a": STOP, "callbacks_b": STOP, "training_b": {"lr": 0.02}},
}


@model_metric("test_experiment_one_by_one")
def one_by_one(model):
    return model.weights[0].abs().max().item()


def recorded(name, engine, slow):
    """One of the runs above; with a user's metric, which is asked at one record after the other, if it is `slow`."""
    base = {"max_steps": 60, **RECORDED[name], "engine": engine}
    pair = "comparative_metrics" in base or "callbacks_b" in base
    if not pair:
        base = {**SMALL, "model": {"hidden_dim": 8}, "training": {"lr": 0.01}, **base}
    else:
        base["shared"] = {"model": {"hidden_dim": 8}, "training": {"lr": 0.01}}
    if slow:
        key = "model_metrics" if pair else "metrics"
        base[key] = [*base.get(key, ()), "test_experiment_one_by_one"]
    return base


@functools.cache
def recorded_everywhere(*which):
    return run_experiment(recorded(*which))


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ["autograd", "compiled"])
@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize(
    ("at", "slow"), [([1, 2, 17, 18, 40], False), ([1, 2, 17, 18, 40], True), ({"log": 12}, False)], ids=str
)
def test_recording_at_steps_of_ones_own_changes_no_number(name, at, engine, slow):
    base, full = recorded(name, engine, slow), recorded_everywhere(name, engine, slow)
    some = run_experiment({**base, "evaluate_every": 5, "evaluate_at": at})
    assert some.events == full.events
    assert ("diverge" in name) == (some.diverged_at is not None)
    steps = {round(base["max_steps"] ** (i / 11)) for i in range(12)} if at == {"log": 12} else set(at)
    wanted = {0, *steps, base["max_steps"]}
    if name in ("stopped", "both lanes stop"):  # the step that ends a run early is recorded too
        assert full.final["step"] == max(full.events.values()) < base["max_steps"]
        wanted.add(full.final["step"])
    assert some.records == [record for record in full if record["step"] in wanted]


def test_both_lanes_and_an_early_stop_are_checkpointed(tmp_path):
    stop = [{"name": "stop_at_loss", "params": {"target": 1e9, "interval": 7}}]
    config = {"max_steps": 20, "checkpoint_every": 15, "callbacks_a": stop, "callbacks_b": []}
    run_experiment(config, directory=tmp_path)
    saved = sorted(p.stem for p in (tmp_path / "checkpoints").iterdir())
    assert saved == ["step_00000000_a", "step_00000000_b", "step_00000015_b", "step_00000020_b"]


def test_checkpoints_need_a_place():
    with pytest.raises(ConfigError, match="needs a directory"):
        run_experiment({"max_steps": 3, "checkpoint_every": 1})


def test_data_of_ones_own_set_the_dimensions():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    own = Dataset.from_arrays(x, x @ rng.standard_normal((3, 2)))
    history = run_experiment({"max_steps": 400, "training": {"lr": 0.05, "batch_size": 200}}, dataset=own)
    assert history["train_loss"][-1] < 1e-3 * history["train_loss"][0]
    assert "test_loss" not in history
    same = run_experiment(["max_steps=400", "training.lr=0.05", "training.batch_size=200"], dataset=own)
    assert same.records == history.records
    lanes = run_experiment({"max_steps": 4, "training_b": {"batch_size": 200}}, dataset=own)
    assert np.array_equal(lanes["train_loss_a"][:1], run_experiment({"max_steps": 1}, dataset=own)["train_loss"][:1])


@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model": {"in_dim": 4}}, "maps 4 to 2 but the train set has 3 to 2"),
        ({"model": {"num_hidden": 0}, "metrics": ["balancedness"]}, "'balancedness': it needs at least two layers"),
        ({"model_b": {"hidden_dim": 3}, "comparative_metrics": ["param_distance"]}, "'param_distance': .* no distance"),
    ],
)
def test_both_engines_refuse_what_does_not_fit(engine, config, named):
    own = Dataset.from_arrays(np.ones((9, 3)), np.ones((9, 2)))
    with pytest.raises(ConfigError, match=named):
        run_experiment({"engine": engine, "max_steps": 2, **config}, dataset=own)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_online_runs_learn_the_teacher(dtype):
    config = {"data": {"online": True}, "training": {"batch_size": 20, "lr": 0.01}, "dtype": dtype, "max_steps": 600}
    history = run_experiment(config)
    assert history["test_loss"][-1] < 1e-3 * history["test_loss"][0]


def test_float32_follows_float64():
    single, double = (run_experiment({**SMALL, "dtype": t}) for t in ("float32", "float64"))
    np.testing.assert_allclose(single["train_loss"], double["train_loss"], rtol=1e-4)
    assert not np.array_equal(single["train_loss"], double["train_loss"])


def test_adam_with_its_arguments_against_its_definition():
    config = {"max_steps": 3, "dtype": "float64", "model": {"hidden_dim": 4, "num_hidden": 1}}
    training = {"optimizer": "Adam", "optimizer_params": {"betas": [0.5, 0.9], "eps": 1e-3}, "lr": 0.1}
    history = run_experiment({**config, "training": training})
    from tests import naive

    teacher = np.diag([10.0, 8, 6, 4, 2])
    x, y = naive.teacher_data(teacher, 100, 0.0, 0)
    w = naive.initial_weights([5, 4, 5], 1.0, 0)
    m, v = ([np.zeros_like(p) for p in w] for _ in range(2))
    losses = []
    for step in range(1, 5):
        zeros = [0.0, 0.0]
        losses.append(naive.loss(w, zeros, x, y))
        for i, g in enumerate(naive.gradients(w, zeros, x, y)[0]):
            m[i] = 0.5 * m[i] + 0.5 * g
            v[i] = 0.9 * v[i] + 0.1 * g**2
            w[i] = w[i] - 0.1 * (m[i] / (1 - 0.5**step)) / (np.sqrt(v[i] / (1 - 0.9**step)) + 1e-3)
    np.testing.assert_allclose(history["train_loss"], losses, rtol=1e-10)


def test_a_string_is_not_a_list_of_overrides():
    with pytest.raises(ConfigError, match=r"\['max_steps=3'\]"):
        run_experiment("max_steps=3")


@pytest.mark.long
def test_names_load_when_they_are_used_and_the_import_is_light(elsewhere):
    assert (elsewhere["heavy"], elsewhere["missing"], elsewhere["listed"]) == ([], [], True)
    assert isinstance(run_experiment({"max_steps": 1}), History)
    assert isinstance(load_config(["max_steps=3"], ComparativeConfig), ComparativeConfig)
    assert torch.get_default_dtype() == torch.float32


def test_a_history_knows_the_config_that_it_is_of():
    one = run_experiment(["max_steps=2", "training.lr=0.25"])
    first, second = run_experiments([{"max_steps": 2, "training": {"lr": lr}} for lr in (0.1, 0.2)])
    rates = [history.config["training"]["lr"] for history in (one, first, second) if history.config]
    assert rates == [0.25, 0.1, 0.2]
    assert "lr" not in repr(one)
