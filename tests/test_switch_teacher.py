"""Another teacher in the middle of a run: against runs on data made by hand, and what is said of the teacher then."""

import numpy as np
import pytest
import torch

import dln
from dln import Dataset, linear_teacher
from dln.callbacks import CALLBACKS, register_callback
from dln.checkpoints import load_checkpoint
from dln.errors import ConfigError
from dln.ingredients.teachers import make_teacher
from dln.measure.data_quantities import CONSTANTS
from dln.measure.events import EVENTS
from dln.timeline import acting_at
from dln.train import full_gradient
from tests import naive

STEP, STEPS = 17, 40
ENGINES = ["compiled", "autograd"]
ANOTHER = {"matrix": "random_normal", "scale": 3.0}


def switch(step=STEP, **params):
    return {"name": "switch_teacher", "params": {"step": step, **params}}


def experiment(*acts, engine="auto", dtype="float64", **change):
    config = {"max_steps": STEPS, "evaluate_every": 1, "dtype": dtype, "engine": engine, "callbacks": [*acts]}
    config |= {"model": {"in_dim": 4, "out_dim": 3, "hidden_dim": 6, "num_hidden": 1}}
    config |= {"data": {"params": {"matrix": "diagonal", "scale": 2.0}, "train_samples": 20, "noise_std": 0.3}}
    config |= {"training": {"lr": 0.05, "batch_size": 6}}
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) and key in config else value
    return dln.run_experiment(config)


def data(**change):
    given = {"train_samples": 20, "noise_std": 0.3, "dtype": torch.float64} | change
    return linear_teacher(4, 3, {"matrix": "diagonal", "scale": 2.0}, **given)


def assert_alike(ours, theirs, **tolerance):
    for name in theirs.names:
        np.testing.assert_allclose(ours[name], theirs[name], **({"rtol": 1e-9, "atol": 1e-12} | tolerance))


# --- the data


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_inputs_and_noise_stay_and_targets_are_of_the_new_teacher(noise):
    first, teacher = data(noise_std=noise), make_teacher(4, 3, ANOTHER, 1).numpy()
    other = first.taught(teacher)
    before, after = ((d.train_targets - d.train_inputs @ d.teacher.T).numpy() for d in (first, other))
    np.testing.assert_allclose(after, before, atol=1e-14)
    assert other.train_inputs is first.train_inputs
    np.testing.assert_allclose(other.test_targets.numpy(), other.test_inputs.numpy() @ teacher.T, atol=1e-14)
    np.testing.assert_array_equal(other.teacher, teacher)


def test_the_first_teacher_again_gives_the_first_targets():
    first = data(dtype=torch.float32)
    again = first.taught(first.teacher.numpy())
    assert torch.equal(again.train_targets, first.train_targets)
    assert torch.equal(again.test_targets, first.test_targets)


# --- the run


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_size", [None, 6])
@pytest.mark.parametrize("params", [{"factor": -1.0}, {"teacher": ANOTHER, "seed": 3, "factor": 2.0}])
def test_a_run_is_that_of_numpy_on_the_new_targets_from_the_step_on(engine, batch_size, params):
    ours = experiment(switch(**params), engine=engine, training={"batch_size": batch_size})
    sets = data()
    x, y = sets.train_inputs.numpy(), sets.train_targets.numpy()
    given = params.get("teacher")
    other = params["factor"] * (sets.teacher if given is None else make_teacher(4, 3, given, 3)).numpy()
    later = y + x @ (other - sets.teacher.numpy()).T
    model = dln.DeepLinearNetwork(4, 6, 1, 3, dtype=torch.float64)
    rows = naive.batch_indices(20, batch_size or 20, 0, STEPS + 1)
    if batch_size is None:
        rows = [slice(None)] * (STEPS + 1)

    def batches(step):
        return x[rows[step]], (y if step < STEP else later)[rows[step]]

    _, losses = naive.sgd([w.detach().numpy() for w in model.weights], batches, 0.05, STEPS)
    np.testing.assert_allclose(ours["train_loss"], losses, rtol=1e-9)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"dtype": "float32"},
        {"training": {"batch_size": None}},
        {"training": {"replacement": True}},
        {"training": {"label_noise": 0.4}},
        {"data": {"online": True}},
        {"model": {"bias": True}},
    ],
    ids=["epochs", "float32", "full", "replacement", "label noise", "online", "biases"],
)
def test_both_engines_agree_on_the_run_and_on_what_is_said_of_the_teacher(change):
    names = ["mode_strengths", "teacher_distance", "gradient_sharpness", "batch_sharpness"]
    names += [] if "data" in change else ["full_train_loss", "noise_trace", "population_loss"]
    acts = [switch(teacher=ANOTHER), switch(step=29, factor=-0.5, interval=6)]
    ours, theirs = (experiment(*acts, engine=engine, metrics=names, **change) for engine in ENGINES)
    tolerance = {"rtol": 1e-3, "atol": 1e-5} if "dtype" in change else {}
    assert_alike(ours, theirs, **tolerance)


@pytest.mark.parametrize("engine", ENGINES)
def test_metrics_speak_of_the_teacher_of_their_step(engine):
    names = ["teacher_distance", "end_to_end_map", "full_train_loss", "mode_strengths"]
    history = experiment(switch(factor=-1.0), engine=engine, metrics=names)
    teacher, sets = data().teacher.numpy(), data()
    maps = np.stack([history[f"end_to_end_map.{row}"] for row in (1, 2, 3)], 1)
    sign = np.where(history["step"] < STEP, 1.0, -1.0)[:, None, None]
    expected = np.linalg.norm(maps - sign * teacher, axis=(1, 2))
    np.testing.assert_allclose(history["teacher_distance"], expected, rtol=1e-10)
    x, y = sets.train_inputs.numpy(), sets.train_targets.numpy()
    targets = y + x @ ((sign - 1) * teacher).mT
    losses = ((x @ maps.mT - targets) ** 2).mean((1, 2))
    np.testing.assert_allclose(history["full_train_loss"], losses, rtol=1e-10)
    jump = history["mode_strengths"][STEP] + history["mode_strengths"][STEP - 1]  # minus the modes they were
    assert np.abs(jump).max() < 0.2 * np.abs(history["mode_strengths"][STEP]).max()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_callback_behind_it_asks_is_of_the_new_teacher(engine):
    told = []
    if "test_asks_of_the_teacher" not in CALLBACKS:

        @register_callback("test_asks_of_the_teacher")
        def asks():
            def callback(step, trainer):
                losses = trainer.evaluate("train"), trainer.evaluate("test")
                weights = [w.detach().clone() for w in trainer.model.weights]
                asks.told.append((weights, losses, trainer.gradient_norm(), trainer.dataset.teacher.numpy()))

            return acting_at([STEP - 1, STEP], callback)

    CALLBACKS.get("test_asks_of_the_teacher").function.told = told
    acts = [switch(factor=-1.0), {"name": "test_asks_of_the_teacher"}]
    experiment(*acts, engine=engine)
    sets = data()
    for now, (weights, losses, slope, teacher) in zip((sets, sets.taught(-sets.teacher.numpy())), told, strict=True):
        model = dln.DeepLinearNetwork.from_weights(weights)
        np.testing.assert_array_equal(teacher, now.teacher)
        for split, loss in zip(("train", "test"), losses, strict=True):
            x, y = (getattr(now, f"{split}_{kind}") for kind in ("inputs", "targets"))
            expected = torch.nn.functional.mse_loss(model(x), y)
            np.testing.assert_allclose(loss, expected.item(), rtol=1e-10)
        gradients = full_gradient(model, now, torch.nn.MSELoss())
        np.testing.assert_allclose(slope, np.sqrt(sum(g.square().sum().item() for g in gradients)), rtol=1e-10)


# --- many at once


@pytest.mark.parametrize("change", [{}, {"data": {"online": True}}, {"training": {"label_noise": 0.3}}])
def test_members_of_one_ensemble_are_each_as_they_are_alone(change):
    """Some switch, at steps of their own, to teachers of their own; some share data and streams and do not."""
    acts = [[], [switch(factor=-1.0)], [switch(factor=-1.0)], [switch(step=9, teacher=ANOTHER)], [switch(factor=0.5)]]
    acts += [[switch(factor=-1.0), {"name": "switch_batch_size", "params": {"step": 17, "batch_size": 3}}]]
    base = {"max_steps": STEPS, "dtype": "float64", "engine": "compiled", "metrics": ["teacher_distance"]}
    base |= {"model": {"in_dim": 4, "out_dim": 3, "hidden_dim": 6, "num_hidden": 1}}
    base["data"] = {"train_samples": 20, **change.get("data", {})}
    base["training"] = {"lr": 0.05, "batch_size": 6, **change.get("training", {})}
    runs = [{**base, "callbacks": own} for own in acts]
    runs.append({**runs[1], "data": {**base["data"], "data_seed": 4}})
    for together, config in zip(dln.run_experiments(runs), runs, strict=True):
        alone = dln.run_experiment(config)
        for name in alone.names:
            np.testing.assert_array_equal(together[name], alone[name], err_msg=name)


def test_one_lane_of_a_comparison_may_switch_alone():
    run = {"max_steps": STEPS, "dtype": "float64", "callbacks_b": [switch(factor=-1.0)], "training_a": {"lr": 0.01}}
    run |= {"model_metrics": ["teacher_distance"], "comparative_metrics": ["end_to_end_distance", "line_losses"]}
    run["training_b"] = {"lr": 0.01}
    ours, theirs = (dln.run_experiment({**run, "engine": engine}) for engine in ENGINES)
    assert_alike(ours, theirs)
    assert (ours["end_to_end_distance"][: STEP + 1] == 0).all()
    assert ours["end_to_end_distance"][-1] > 0


# --- checkpoints


@pytest.mark.parametrize("saving", ENGINES)
@pytest.mark.parametrize("going_on", ENGINES)
def test_a_run_goes_on_with_the_teacher_that_it_had(tmp_path, saving, going_on):
    acts = [switch(step=5, teacher=ANOTHER), switch(step=11, factor=-1.0, interval=15)]
    config = {"max_steps": STEPS, "engine": saving, "callbacks": acts, "model": {"hidden_dim": 6, "num_hidden": 1}}
    config |= {"training": {"batch_size": 6, "lr": 0.01}, "metrics": ["teacher_distance"], "checkpoint_at": [20]}
    whole = dln.run_experiment(config, directory=tmp_path / "whole")
    path = next((tmp_path / "whole").rglob("step_00000020.npz"))
    saved = load_checkpoint(path)
    np.testing.assert_array_equal(saved.teacher, -make_teacher(5, 5, ANOTHER, 1).numpy())
    rest = dln.run_experiment({**config, "engine": going_on, "resume": str(path)}, directory=tmp_path / "rest")
    for name in ("train_loss", "test_loss", "teacher_distance"):
        late = whole[name][np.isin(whole["step"], rest["step"])]
        if saving == going_on:
            np.testing.assert_array_equal(rest[name], late)
        else:
            np.testing.assert_allclose(rest[name], late, rtol=1e-3)


# --- what is refused


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"callbacks": [switch()]}, "changes nothing"),
        ({"callbacks": [switch(rotate=True)]}, "changes nothing"),
        ({"callbacks": [switch(teacher={"matrix": "diagnal"})]}, r"callbacks: callback 'switch_teacher': .*'diagonal'"),
        ({"callbacks": [switch(teacher={"matrix": "diagonal", "scales": 1.0})]}, "'scale'"),
        ({"callbacks": [switch(factor=-1.0)], "theory": ["gradient_flow"]}, r"may change training \(switch_teacher\)"),
    ],
)
def test_what_cannot_be_is_refused_before_the_run(change, told):
    for engine in ENGINES:
        with pytest.raises(ConfigError, match=told):
            dln.run_experiment({"max_steps": STEPS, "engine": engine, **change})


def test_events_of_the_data_are_refused():
    run = {"max_steps": STEPS, "callbacks": [switch(factor=-1.0)]}
    of_data = [e.name for e in EVENTS if set(e.asks_for) & set(CONSTANTS) and e.function.__module__.startswith("dln.")]
    assert of_data
    for name in of_data:
        entry = EVENTS.get(name)
        if any(p.default is p.empty for p in (entry.parameters or {}).values()):
            continue
        needed = [column for column in entry.marks["of"] if column not in ("columns", "train_loss", "test_loss")]
        with pytest.raises(ConfigError, match="a callback changes the teacher"):
            dln.run_experiment({**run, "events": [name], "metrics": needed})


def test_data_without_a_teacher_have_none_to_change():
    own = Dataset.from_arrays(np.eye(5), np.eye(5), dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"callback 'switch_teacher': these data came without a teacher"):
        dln.run_experiment({"max_steps": STEPS, "callbacks": [switch(factor=-1.0)]}, dataset=own)
    with pytest.raises(ConfigError, match="without a teacher"):
        own.taught(np.eye(5))
