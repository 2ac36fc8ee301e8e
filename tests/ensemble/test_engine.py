"""The compiled engine against the autograd engine, run by run, and against itself in other company."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dln import (
    Dataset,
    DeepLinearNetwork,
    Trainer,
    factory,
    register_callback,
    run_experiment,
    run_experiments,
    train_ensemble,
)
from dln.callbacks import CALLBACKS as REGISTERED
from dln.composing.alike import structure
from dln.composing.compose import resolve
from dln.config import ComparativeConfig, SingleConfig
from dln.ensemble import views
from dln.errors import ConfigError, ExtensionError
from dln.ingredients.inputs import INPUTS
from dln.metrics import comparative_metric, model_metric
from dln.timeline import acting_at

METRICS = ["weight_norm", "gradient_norm", "layer_norms", "end_to_end_norm", "singular_values"]
BASE = {
    "model": {"in_dim": 5, "out_dim": 4, "hidden_dim": 12, "num_hidden": 2},
    "data": {"params": {"matrix": "random_normal", "scale": 2.0}, "train_samples": 40, "test_samples": 30},
    "training": {"lr": 0.01},
    "dtype": "float64",
    "max_steps": 400,
    "evaluate_every": 37,
}


def merged(base, change):
    if not isinstance(change, dict) or not isinstance(base, dict):
        return change
    return {**base, **{k: merged(base.get(k), v) for k, v in change.items()}}


def config(change, engine, schema=SingleConfig):
    return resolve(merged(BASE, {**change, "engine": engine}), schema)


def both(change, schema=SingleConfig):
    """The same run on the two engines: (history, weights) of each."""
    if schema is ComparativeConfig:
        change = merged({"shared": {"model": BASE["model"], "training": BASE["training"]}}, change)
        base = {k: v for k, v in BASE.items() if k not in ("model", "training")}
        configs = [resolve(merged(base, {**change, "engine": e}), schema) for e in ("compiled", "autograd")]
    else:
        configs = [config(change, e) for e in ("compiled", "autograd")]
    compiled, autograd = (factory.build(c) for c in configs)
    return (compiled.run(), compiled), (autograd.run(), autograd)


def weights_of(runner):
    """The final weights and biases of a run, or of both lanes of a comparison."""
    if hasattr(runner, "ensemble"):
        lanes = [lane.weights() for lane in runner.ensemble.lanes.values()]
        return [w[0] for ws, bs in lanes for w in (*ws, *(bs or ()))]
    models = [lane.model for lane in getattr(runner, "lanes", {"": runner}).values()]
    return [p.detach().numpy() for model in models for p in (*model.weights, *model.biases)]


def assert_same(ours, theirs, rtol=1e-10):
    (history, runner), (expected, reference) = ours, theirs
    assert history["step"].tolist() == expected["step"].tolist()
    assert history.events == expected.events
    assert history.names == expected.names
    for w, e in zip(weights_of(runner), weights_of(reference), strict=True):
        assert np.linalg.norm(w - e) <= rtol * np.linalg.norm(e)
    for name in expected.names:
        scale = np.nanmax(np.abs(expected[name]))
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-7, atol=1e-11 * scale, err_msg=name)


SETTINGS = {
    "full batch": {},
    "one sample": {"training": {"batch_size": 1}},
    "seven samples": {"training": {"batch_size": 7, "batch_seed": 3}},
    "ten samples": {"training": {"batch_size": 10}, "data": {"noise_std": 0.3}},
    "batch of all": {"training": {"batch_size": 40}},
    "replacement": {"training": {"batch_size": 7, "replacement": True}},
    "replacement, as many as all": {"training": {"batch_size": 40, "replacement": True}},
    "label noise": {"training": {"batch_size": 7, "label_noise": 0.3}},
    "label noise, full batch": {"training": {"label_noise": 0.3}, "model": {"bias": True}},
    "label noise, replacement": {
        "training": {"batch_size": 3, "label_noise": 0.3, "replacement": True, "optimizer": "Adam", "lr": 0.003}
    },
    "online": {"data": {"online": True, "noise_std": 0.2}, "training": {"batch_size": 3}},
    "online, larger": {"data": {"online": True}, "training": {"batch_size": 9}},
    "one layer": {"model": {"num_hidden": 0}},
    "five layers, narrow and wide": {
        "model": {"num_hidden": 4, "hidden_dim": [3, 64, 1, 20]},
        "training": {"lr": 0.003},
    },
    "wide": {"model": {"hidden_dim": 64, "num_hidden": 3}, "training": {"batch_size": 7, "lr": 0.003}},
    "bias": {"model": {"bias": True}, "training": {"batch_size": 7}},
    "bias, full batch": {"model": {"bias": True}},
    "momentum": {"training": {"optimizer_params": {"momentum": 0.9}, "lr": 0.002, "batch_size": 10}},
    "nesterov": {
        "training": {"optimizer_params": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}, "lr": 0.003}
    },
    "dampening": {"training": {"optimizer_params": {"momentum": 0.5, "dampening": 0.3}}, "model": {"bias": True}},
    "adam": {"training": {"optimizer": "Adam", "lr": 0.003, "batch_size": 7}},
    "adamax": {"training": {"optimizer": "Adamax", "lr": 0.003, "optimizer_params": {"weight_decay": 0.01}}},
    "a rate for each layer": {
        "training": {"lr_factors": [0.5, 2, 1], "batch_size": 7},
        "model": {"alpha": [2, 1, 0.5]},
    },
    "a frozen layer": {"training": {"lr_factors": [1, 0, 0.5], "batch_size": 1}, "model": {"bias": True}},
    "a frozen end, momentum": {
        "training": {"lr_factors": [0, 1, 2], "lr": 0.002, "optimizer_params": {"momentum": 0.9}}
    },
    "adamw, layer by layer": {
        "training": {"optimizer": "AdamW", "lr": 0.003, "lr_factors": [2, 0.5, 0], "optimizer_params": {"eps": 0.01}}
    },
    "adamw": {"training": {"optimizer": "AdamW", "lr": 0.003, "optimizer_params": {"betas": [0.8, 0.99], "eps": 0.01}}},
}


LONG = ("seven samples", "adam")
"""Settings whose runs are five times as long: what grows slowly would show in these."""


@pytest.mark.sampled
@pytest.mark.parametrize("name", SETTINGS)
def test_a_whole_run_agrees_with_autograd(name):
    longer = {"max_steps": 2000} if name in LONG else {}
    assert_same(*both({**SETTINGS[name], **longer, "metrics": METRICS}))


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["full batch", "seven samples", "online", "bias", "adam"])
def test_losses_recorded_without_metrics_are_those_recorded_with(name):
    change = merged(SETTINGS[name], {"max_steps": 200, "evaluate_every": 1})
    (bare, _), reference = both(change)
    assert_same((bare, _), reference)
    measured = factory.build(config({**change, "metrics": ["weight_norm"]}, "compiled")).run()
    assert all(np.array_equal(bare[n], measured[n]) for n in bare.names)


INPUTS_OF_FIVE = {
    "gaussian": {},
    "power_law": {"alpha": 1.5, "rotate": True},
    "spectrum": {"values": [3.0, 1.0, 0.5, 0.2, 0.1]},
    "sphere": {},
}


@pytest.mark.sampled
@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("name", [e.name for e in INPUTS if e.function.__module__.startswith("dln.")])
def test_every_distribution_of_inputs_is_the_same_under_both_engines_and_in_any_company(name, online):
    sets = {"inputs": name, "inputs_params": INPUTS_OF_FIVE[name], "online": online, "rotate": True, "noise_std": 0.1}
    change = {"data": sets, "training": {"batch_size": 7}, "max_steps": 100, "evaluate_every": 7}
    assert_same(*both(change))
    with_seeds = [merged(change, {"data": {"data_seed": s % 2}, "training": {"batch_seed": s}}) for s in range(4)]
    others = [
        {**change, "data": {**sets, "inputs": other, "inputs_params": params}}
        for other, params in INPUTS_OF_FIVE.items()
    ]
    configs = [config(c, "compiled") for c in (*with_seeds, *others)]
    assert len({structure(c) for c in configs}) == 1
    records, _ = run_all(configs)
    for member in (0, 3):
        assert records[member] == run_all([configs[member]])[0][0]


@pytest.mark.parametrize(
    "change",
    [{"whiten": True}, {"d_active": 3}, {"whiten": True, "d_active": 3, "inputs_basis": "teacher"}],
)
def test_whitened_and_rank_deficient_inputs_agree_with_autograd(change):
    assert_same(
        *both({"data": change, "max_steps": 300, "training": {"batch_size": None if "whiten" in change else 7}})
    )


CALLBACKS = {
    "switch": [{"name": "switch_batch_size", "params": {"step": 50, "batch_size": 7}}],
    "a new epoch": [
        {"name": "switch_batch_size", "params": {"step": 50, "batch_size": 10}}
    ],  # the same size, where it was 10
    "to full": [{"name": "multi_switch_batch_size", "params": {"schedule": {20: 7, 33: None, 100: 1}}}],
    "decay": [{"name": "lr_decay", "params": {"factor": 0.5, "interval": 60}}],
    "stop": [{"name": "stop_at_loss", "params": {"target": 2.0, "loss": "test", "interval": 3}}],
    "cosine": [{"name": "lr_cosine", "params": {"steps": 100, "start": 20}}],
    "warmup": [{"name": "lr_warmup", "params": {"steps": 90}}],
    "cyclic": [{"name": "lr_cyclic", "params": {"period": 33, "max_factor": 3.0, "interval": 2}}],
    "growth": [{"name": "batch_growth", "params": {"factor": 1.7, "interval": 40, "largest": 31}}],
    "noise": [{"name": "weight_noise", "params": {"std": 0.01, "interval": 9, "start": 4}}],
    "kicks": [
        {"name": "kick", "params": {"step": 30, "size": 0.5}},
        {"name": "kick", "params": {"step": 60, "size": -0.5, "direction": "gradient"}},
    ],
    "teachers": [
        {"name": "switch_teacher", "params": {"step": 30, "teacher": {"matrix": "random_normal"}, "seed": 5}},
        {"name": "switch_teacher", "params": {"step": 50, "factor": -0.5, "interval": 40}},
    ],
    "stop at a gradient": [{"name": "stop_at_gradient", "params": {"norm": 0.5, "interval": 7}}],
    "stop at a plateau": [{"name": "stop_at_plateau", "params": {"patience": 20, "tolerance": 0.5, "interval": 5}}],
    "stop after": [{"name": "stop_after", "params": {"seconds": 1e-9, "interval": 50}}],
    "stop early": [{"name": "stop_at_loss", "params": {"target": 1e9}}],
    "all": [
        {"name": "switch_batch_size", "params": {"step": 20, "batch_size": 3}},
        {"name": "lr_decay", "params": {"factor": 0.9, "interval": 7}},
        {"name": "lr_warmup", "params": {"steps": 50, "initial": 0.1}},
        {"name": "kick", "params": {"step": 70, "size": 0.1}},
        {"name": "lr_cosine", "params": {"steps": 120, "final": 0.2}},
        {"name": "batch_growth", "params": {"factor": 2, "interval": 60, "largest": 20}},
        {"name": "stop_at_loss", "params": {"target": 0.01, "interval": 10}},
    ],
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("batch_size", [None, 10])
def test_built_in_callbacks_act_as_on_autograd(name, batch_size):
    change = {"callbacks": CALLBACKS[name], "training": {"batch_size": batch_size}, "max_steps": 150}
    ours, theirs = both(change)
    assert_same(ours, theirs)
    assert ("stopped_at" in theirs[0].events) == name.startswith("stop")


def test_every_built_in_callback_is_compared():
    compared = {act["name"] for acts in CALLBACKS.values() for act in acts} | {"multi_switch_batch_size"}
    assert compared == {e.name for e in REGISTERED if e.function.__module__ == "dln.callbacks"}


@pytest.mark.sampled
@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize(
    "name",
    ["momentum", "nesterov", "adam", "adamw", "bias", "online", "wide", "label noise", "label noise, replacement"],
)
def test_schedules_and_switches_act_as_on_autograd_under_every_rule(name, batch_size):
    training = {} if name == "online" else {"batch_size": batch_size}
    change = merged(SETTINGS[name], {"callbacks": CALLBACKS["all"][:-1], "max_steps": 150, "training": training})
    assert_same(*both(change))


def test_a_user_may_scale_the_rate_of_single_steps():
    @register_callback("test_engine_bursts")
    def bursts(interval: int):
        def callback(step, trainer):
            trainer.lr *= 1.01
            trainer.lr_scale *= 5

        return acting_at(range(3, 1000, interval), callback)

    acts = [{"name": "test_engine_bursts", "params": {"interval": n}} for n in (10, 1)]
    for own in ([acts[0]], [acts[0], *CALLBACKS["cosine"]], [*CALLBACKS["cosine"], acts[1]]):
        assert_same(*both({"callbacks": own, "max_steps": 100}))


def test_a_users_callback_that_declares_its_steps_may_change_the_weights():
    @register_callback("test_engine_shrinks")
    def shrinks(step: int):
        def callback(s, trainer):
            with torch.no_grad():
                for w in trainer.model.weights:
                    w.mul_(0.5)
            trainer.lr *= 1 + trainer.evaluate("train")

        return acting_at([step, step + 1], callback)

    assert_same(*both({"callbacks": [{"name": "test_engine_shrinks", "params": {"step": 40}}], "max_steps": 100}))


def test_users_metrics_see_the_model_its_gradients_and_the_data():
    @model_metric("test_engine_user")
    def user(model, data):
        residual = model(data.inputs) - data.targets
        return {
            "residual": residual.square().mean().item(),
            "gradient": sum(p.grad.abs().sum().item() for p in model.parameters()),
            "samples": len(data.inputs),
            "train": data.criterion(model(data.train_inputs), data.train_targets).item(),
        }

    for training in ({"batch_size": 7}, {}):
        assert_same(*both({"metrics": ["test_engine_user"], "training": training, "max_steps": 100}))


@pytest.mark.parametrize("batched", [True, False])
def test_metrics_of_quantities_agree_with_autograd(batched):
    @model_metric(f"test_engine_quantities_{batched}", batched=batched)
    def quantities(end_to_end, weight_squares, bias_squares, gradient_squares, power: int = 1):
        trace = end_to_end[..., :4, :4].diagonal(dim1=-2, dim2=-1).sum(-1)
        return {"trace": trace**power, "layers": weight_squares + bias_squares, "gradients": gradient_squares}

    @comparative_metric(f"test_engine_pair_quantities_{batched}", batched=batched)
    def pair(end_to_end_a, gradient_squares_b, difference_squares, inner_products):
        return (
            (end_to_end_a**2).sum((-2, -1)) + gradient_squares_b.sum(-1) + difference_squares + inner_products.sum(-1)
        )

    metric = {"name": f"test_engine_quantities_{batched}", "params": {"power": 2}}
    change = {"model": {"bias": True}, "metrics": ["weight_norm", metric, "balancedness"], "max_steps": 60}
    assert_same(*both({**change, "evaluate_every": 4, "training": {"batch_size": 7}}))
    pairs = {
        "model_metrics": [metric, "balancedness"],
        "comparative_metrics": [f"test_engine_pair_quantities_{batched}"],
    }
    assert_same(*both({**pairs, "training_b": {"batch_size": 10}, "max_steps": 60}, ComparativeConfig))


@pytest.mark.parametrize("batched", [True, False])
def test_a_metric_that_fails_is_named_with_its_step_and_the_records_before_are_kept(batched):
    @model_metric(f"test_engine_fails_{batched}", batched=batched)
    def fails(end_to_end):
        if (end_to_end.square().sum((-2, -1)) > 2).any():
            raise ValueError("too large")
        return end_to_end.square().sum((-2, -1))

    run = {"metrics": [f"test_engine_fails_{batched}"], "max_steps": 2000, "model": {"gamma": 1.5}}
    kept = []
    for engine in ("compiled", "autograd"):
        kept.append([])
        with pytest.raises(ExtensionError, match="too large") as caught:
            factory.build(config(run, engine)).run(kept[-1].append)
        assert f"at step {kept[-1][-1]['step'] + 37}: " in str(caught.value)
    assert len(kept[0]) > 2
    assert [r["step"] for r in kept[0]] == [r["step"] for r in kept[1]]


def test_pairs_whose_lanes_are_parted_differently_agree_with_autograd():
    """Runs share lane a; callbacks part lane b: whoever is compared is found wherever they are."""
    base = {k: v for k, v in BASE.items() if k not in ("model", "training")}
    base |= {"max_steps": 30, "evaluate_every": 3, "shared": {"model": BASE["model"], "training": BASE["training"]}}
    names = ["param_distance", "param_cosine_sim", "end_to_end_distance"]
    changes = [
        {
            "training_b": {"batch_size": 10, "model_seed": m},
            "callbacks_b": [{"name": "switch_batch_size", "params": {"step": 5 + 3 * m, "batch_size": m + 1}}],
        }
        for m in (2, 0, 1)
    ]
    configs = [resolve({**base, "comparative_metrics": names, **c}, ComparativeConfig) for c in changes]
    ensemble = factory.build_ensemble(configs).run()
    assert len(ensemble.lanes["_b"].groups) == 3
    for run, c in enumerate(changes):
        alone = resolve({**base, "comparative_metrics": names, **c, "engine": "autograd"}, ComparativeConfig)
        expected = factory.build(alone).run()
        for name in names:
            np.testing.assert_allclose(ensemble.history(run)[name], expected[name], rtol=1e-10, atol=1e-12)


def test_batched_metrics_of_models_of_different_width_see_the_same_runs():
    @comparative_metric("test_engine_batched_pair", batched=True)
    def pair(model_a, model_b):
        ends = [w for model in (model_a, model_b) for w in (model.weights[0], model.weights[-1])]
        return torch.stack([w.square().sum((-2, -1)) for w in ends], -1)

    name = "test_engine_batched_pair"
    base = {"max_steps": 9, "dtype": "float64", "comparative_metrics": [name]}
    base |= {"model_a": {"hidden_dim": 30}, "model_b": {"hidden_dim": 100}, "training_b": {"lr": 0.001}}
    seeds = [{**base, "training_a": {"model_seed": m}} for m in range(40)]
    ensemble = factory.build_ensemble([resolve(c, ComparativeConfig) for c in seeds]).run()
    alone = factory.build(resolve({**seeds[33], "engine": "autograd"}, ComparativeConfig)).run()
    np.testing.assert_allclose(ensemble.history(33)[name], alone[name], rtol=1e-10)


@pytest.mark.sampled
@pytest.mark.parametrize("lr_b", [0.01, 0.005, 1e3])
def test_comparisons_agree_with_autograd(lr_b):
    @comparative_metric("test_engine_pair")
    def pair(model_a, model_b):
        return (model_a.weights[0] - model_b.weights[0]).abs().max()

    change = {
        "training_b": {"lr": lr_b, "batch_size": 10},
        "comparative_metrics": ["param_distance", "param_cosine_sim", "end_to_end_distance", "test_engine_pair"],
        "model_metrics": ["weight_norm"],
        "callbacks_a": [{"name": "stop_at_loss", "params": {"target": 1.0, "interval": 11}}],
        "max_steps": 200,
        "evaluate_every": 5,
    }
    (ours, _), (theirs, _) = both(change, ComparativeConfig)
    assert ours["step"].tolist() == theirs["step"].tolist()
    assert ours.events == theirs.events
    for name in theirs.names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-7, atol=1e-12, err_msg=name)


def test_a_model_against_itself_is_at_distance_exactly_zero():
    for history, _ in both({"comparative_metrics": ["param_distance", "param_cosine_sim"]}, ComparativeConfig):
        assert (history["param_distance"] == 0).all()
        assert (history["param_cosine_sim"] == 1).all()


@pytest.mark.parametrize("lr", [0.9, 3.0, 50.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [None, 7])
def test_divergence_is_found_at_the_same_step(lr, dtype, batch_size):
    training = {"lr": lr, "batch_size": batch_size}
    (ours, _), (theirs, _) = both({"training": training, "dtype": dtype, "max_steps": 300, "evaluate_every": 2})
    assert theirs.diverged_at is not None
    assert ours.diverged_at == theirs.diverged_at
    assert ours["step"].tolist() == theirs["step"].tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_under_a_schedule_is_found_at_the_same_step(dtype):
    acts = [{"name": "lr_cyclic", "params": {"period": 100, "max_factor": 200.0}}]
    training = {"lr": 0.02, "batch_size": 7}
    (ours, _), (theirs, _) = both({"callbacks": acts, "training": training, "dtype": dtype, "max_steps": 300})
    assert 5 < theirs.diverged_at < 50  # while the rate rises
    assert ours.diverged_at == theirs.diverged_at


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["full batch", "seven samples", "adam"])
def test_float32_is_as_close_to_float64_as_autograds_is(name):
    """Rounding is chance: over ten seeds, the mean distance of the weights from those of a float64 run."""
    changes = [merged(SETTINGS[name], {"max_steps": 60, "training": {"model_seed": seed}}) for seed in range(10)]

    def compiled(dtype):
        ensemble = factory.build_ensemble([config({**c, "dtype": dtype}, "compiled") for c in changes])
        weights, biases = ensemble.run().weights()
        return np.hstack([w.reshape(len(w), -1) for w in (*weights, *(biases or ()))])

    def autograd(change):
        trainer = factory.build(config({**change, "dtype": "float32"}, "autograd"))
        trainer.run()
        return np.concatenate([w.ravel() for w in weights_of(trainer)])

    truth = compiled("float64")
    rounded = compiled("float32"), np.array([autograd(change) for change in changes])
    ours, theirs = (np.linalg.norm(w - truth, axis=1).mean() for w in rounded)
    assert 0 < ours < 1.5 * theirs


def test_losses_are_right_where_they_are_tiny():
    """Full batch and noise-free: the loss falls to rounding, and both engines' losses with it."""
    teacher = {"params": {"matrix": "random_orthogonal", "scale": 2.0}}  # equal modes fall alike, and soon
    change = {"training": {"lr": 0.1}, "data": teacher, "max_steps": 300, "evaluate_every": 5}
    (ours, _), (theirs, _) = both(change)
    small = theirs["train_loss"] > 1e-25 * theirs["train_loss"][0]
    assert theirs["train_loss"][-1] < 1e-25 * theirs["train_loss"][0]
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(ours[name][small], theirs[name][small], rtol=1e-2)
        assert ours[name][-1] < 1e-24 * ours[name][0]


# --- company


def members(count, own=None, **change):
    """Configs of runs that differ in all that is batchable, and in `own`, callbacks of each, if given."""
    return [
        resolve(
            merged(
                merged(BASE, {"max_steps": 60, "evaluate_every": 7, "metrics": METRICS, **change}),
                {
                    "training": {"lr": 0.005 * (1 + m % 3), "model_seed": m, "batch_seed": m % 2},
                    "data": {"data_seed": m % 4, "noise_std": 0.1 * (m % 2)},
                    "model": {"gamma": 0.8 + 0.1 * (m % 5)},
                    **({"callbacks": own[m]} if own else {}),
                },
            ),
            SingleConfig,
        )
        for m in range(count)
    ]


def run_all(configs):
    ensemble = factory.build_ensemble(configs).run()
    weights, _ = ensemble.lanes[""].weights()
    return [ensemble.history(m).records for m in range(len(configs))], weights


@functools.cache
def twenty(dtype, batch_size):
    return members(20, dtype=dtype, training={"batch_size": batch_size})


@functools.cache
def alone(member, *which):
    """The records and weights of one of the twenty."""
    return run_all([twenty(*which)[member]])


@pytest.mark.sampled
@settings(max_examples=10)
@given(data=st.data())
@pytest.mark.parametrize("batch_size", [None, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_member_is_the_same_bit_for_bit_in_any_company(data, dtype, batch_size):
    chosen = data.draw(st.lists(st.sampled_from(range(20)), min_size=1, max_size=20, unique=True))
    records, weights = run_all([twenty(dtype, batch_size)[m] for m in chosen])
    for place in data.draw(st.sets(st.sampled_from(range(len(chosen))), min_size=1, max_size=3)):
        expected, own = alone(chosen[place], dtype, batch_size)
        assert records[place] == expected[0]
        assert all(np.array_equal(w[place], o[0]) for w, o in zip(weights, own, strict=True))


@pytest.mark.parametrize("training", [{}, {"batch_size": 7}, {"batch_size": 7, "replacement": True}])
def test_members_with_and_without_label_noise_go_as_they_would_alone(training):
    """A full batch without noise is trained on its moments, one with noise is not: neither minds the other."""
    acts = [
        [{"name": "switch_batch_size", "params": {"step": 9 * m + 5, "batch_size": 5}}] if m % 4 else []
        for m in range(6)
    ]
    configs = members(6, acts if training else None, training=training)
    for m, c in enumerate(configs):
        c.training.label_noise = (0.0, 0.2, 0.2, 0.5)[m % 4]
    assert len({structure(c) for c in configs}) == 1
    records, _ = run_all(configs)
    for m, c in enumerate(configs):
        assert records[m] == run_all([c])[0][0]


def test_second_moments_of_sgd_with_replacement_and_label_noise_are_those_of_the_exact_recursion():
    """One layer is linear in its error d = w - w*: with P the mean of x x', eta = 2 lr / d_out and label noise s,

    d <- d - eta x (x'd - s z), so E dd' <- E (I - eta x x') E dd' (I - eta x x') + eta^2 s^2 P, x any of the samples.
    """
    rng, lr, std, runs = np.random.default_rng(5), 0.1, 0.4, 6000
    x, w, start = rng.standard_normal((4, 2)), rng.standard_normal((1, 2)), np.array([[1.5, -1.0]])
    ensemble = train_ensemble(
        [np.repeat(start[None], runs, 0)],
        Dataset.from_arrays(x, x @ w.T),
        lr=lr,
        max_steps=25,
        batch_size=1,
        batch_seeds=range(runs),
        replacement=True,
        label_noise=std,
        evaluate_every=25,
    )
    error = (ensemble.weights()[0][0] - w)[:, 0]
    moment, eta = np.outer(start - w, start - w), 2 * lr
    for _ in range(25):
        steps = [np.eye(2) - eta * np.outer(s, s) for s in x]
        moment = np.mean([a @ moment @ a for a in steps], 0) + eta**2 * std**2 * x.T @ x / 4
    products = error[:, :, None] * error[:, None, :]
    z = (products.mean(0) - moment) / (products.std(0) / np.sqrt(runs))
    assert np.abs(z).max() < 4


@pytest.mark.parametrize("width", [12, 100])
def test_a_diverging_member_leaves_the_others_untouched(width):
    configs = members(9, model={"hidden_dim": width}, training={"batch_size": 7}, metrics=["singular_values"])
    calm, _ = run_all(configs)
    configs[4].training.lr = 1e5
    wild, _ = run_all(configs)
    assert wild[:4] == calm[:4]
    assert wild[5:] == calm[5:]
    assert len(wild[4]) < len(calm[4])


def test_members_whose_callbacks_part_them_go_as_they_would_alone():
    params = [{"step": 10 * m + 5, "batch_size": None if m % 2 else 3} for m in range(6)]
    configs = members(6, [[{"name": "switch_batch_size", "params": p}] for p in params], training={"batch_size": 10})
    records, _ = run_all(configs)
    for m, c in enumerate(configs):
        assert records[m] == run_all([c])[0][0]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("dtype", "width", "optimizer"),
    [("float32", 12, "SGD"), ("float32", 100, "SGD"), ("float64", 12, "AdamW"), ("float64", 100, "SGD")],
)
def test_members_with_schedules_go_as_they_would_alone(dtype, width, optimizer):
    """Some share a schedule, some have their own, one is asked at every step: how stretches are cut changes nothing."""
    acts = [
        [],
        CALLBACKS["cosine"],
        CALLBACKS["cosine"],
        CALLBACKS["all"],
        CALLBACKS["cyclic"],
        [*CALLBACKS["cosine"], *CALLBACKS["decay"], {"name": "stop_at_loss", "params": {"target": 0.5}}],
        CALLBACKS["kicks"],
        [{"name": "stop_at_gradient", "params": {"norm": 1.0}}],
        [*CALLBACKS["noise"], *CALLBACKS["warmup"]],
        CALLBACKS["teachers"],
    ]
    training = {"batch_size": 10, "optimizer": optimizer}
    configs = members(len(acts), acts, dtype=dtype, model={"hidden_dim": width}, training=training, max_steps=100)
    records, weights = run_all(configs)
    for m, c in enumerate(configs):
        alone, own = run_all([c])
        assert records[m] == alone[0]
        assert all(np.array_equal(w[m], o[0]) for w, o in zip(weights, own, strict=True))


def test_curves_are_the_records_as_arrays():
    configs = members(5)
    configs[2].training.lr = 1e5
    ensemble = factory.build_ensemble(configs).run()
    curves = ensemble.curves()
    for m in range(5):
        history = ensemble.history(m)
        for name in history.names:
            expected = history[name]
            if name != "step":
                np.testing.assert_array_equal(curves[name][m, : len(expected)], expected)
                assert np.isnan(curves[name][m, len(expected) :]).all()


def test_runs_that_go_the_same_way_are_computed_once():
    """Full-batch runs do not depend on batch_seed; lane a is the same whatever lane b does."""
    seeds = [{"max_steps": 20, "training": {"batch_seed": s}} for s in range(5)]
    configs = [config(change, "compiled") for change in seeds]
    ensemble = factory.build_ensemble(configs).run()
    assert (len(ensemble), ensemble.trajectories) == (5, 1)
    assert all(ensemble.history(m).records == factory.build(c).run().records for m, c in enumerate(configs))

    base = {k: v for k, v in BASE.items() if k not in ("model", "training")} | {"max_steps": 20}
    pair = {"comparative_metrics": ["param_distance"], "model_metrics": ["weight_norm"]}
    lrs = (0.001, 0.01, 0.02, 1e4)
    configs = [resolve({**base, **pair, "training_b": {"lr": lr, "batch_size": 4}}, ComparativeConfig) for lr in lrs]
    ensemble = factory.build_ensemble(configs).run()
    assert ensemble.trajectories == 1 + len(lrs)
    assert all(ensemble.history(m).records == factory.build(c).run().records for m, c in enumerate(configs))


def test_many_experiments_are_each_what_it_would_be_alone():
    seeds = [{"max_steps": 10, "training": {"model_seed": s, "batch_size": 5}} for s in range(4)]
    others = [
        {"max_steps": 12, "training": {"lr": 0.01}},
        {"max_steps": 10, "training": {"optimizer": "RMSprop"}},
        {"max_steps": 10, "training_b": {"lr": 0.1}},
        ["max_steps=10", "training.batch_size=5"],
    ]
    everything = [*seeds, *others]
    histories = run_experiments(everything)
    assert all(h.records == run_experiment(c).records for h, c in zip(histories, everything, strict=True))


def test_weights_and_data_of_ones_own():
    rng = np.random.default_rng(0)
    start = [0.4 * rng.standard_normal((6, *shape)) for shape in ((7, 3), (2, 7))]
    x = rng.standard_normal((2, 25, 3))
    sets = [Dataset.from_arrays(a, a @ rng.standard_normal((3, 2)), dtype=torch.float64) for a in x]
    lr, of, seeds = [0.01 * (m + 1) for m in range(6)], [m % 2 for m in range(6)], list(range(6))
    settings = {"lr": lr, "dataset": of, "batch_size": 4, "batch_seeds": seeds, "max_steps": 50, "evaluate_every": 10}
    ensemble = train_ensemble(start, sets, **settings, metrics=["weight_norm"])
    weights, _ = ensemble.weights()
    for m in range(6):
        model = DeepLinearNetwork.from_weights([w[m] for w in start])
        alone = Trainer(model, sets[of[m]], lr=lr[m], batch_size=4, batch_seed=m, max_steps=50, metrics=["weight_norm"])
        expected = alone.run()
        for name in ("train_loss", "weight_norm"):
            np.testing.assert_allclose(ensemble.curves()[name][m], expected[name][::10], rtol=1e-10)
        for w, e in zip(weights, model.weights, strict=True):
            np.testing.assert_allclose(w[m], e.detach(), rtol=1e-9, atol=1e-12)


def test_an_ensemble_is_recorded_at_steps_of_ones_own():
    start = [np.random.default_rng(0).standard_normal((3, 2, 4))]
    sets = Dataset.from_arrays(np.eye(4), np.ones((4, 2)), dtype=torch.float64)
    full, some = (train_ensemble(start, sets, max_steps=9, evaluate_at=at).curves() for at in (None, np.array([7, 2])))
    assert some["step"].tolist() == [0, 2, 7, 9]
    assert np.array_equal(some["train_loss"], full["train_loss"][:, [0, 2, 7, 9]])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": [np.ones((2, 3, 4)), np.ones((2, 2, 5))]}, "W2"),
        ({"weights": [np.ones((2, 3, 4)), np.ones((3, 2, 3))]}, "members"),
        ({"weights": [np.ones((2, 3, 4))]}, "maps 4 to 3"),
        ({"weights": []}, "0 weights"),
        ({"optimizer": "RMSprop"}, "RMSprop"),
        ({"optimizer_params": {"momentun": 1}}, "momentum"),
        ({"batch_size": 26}, "only 25"),
    ],
)
def test_an_ensemble_that_cannot_be_trained_is_refused(change, named):
    data = Dataset.from_arrays(np.ones((25, 3)), np.ones((25, 2)))
    with pytest.raises(ConfigError, match=named):
        train_ensemble(**{"weights": [np.ones((2, 4, 3)), np.ones((2, 2, 4))], "datasets": data, **change})


# --- which engine


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"training": {"optimizer": "RMSprop"}}, "RMSprop"),
        ({"training": {"optimizer_params": {"maximize": True}}}, "maximize"),
        ({"training": {"criterion": "L1Loss"}}, "L1Loss"),
        ({"training": {"criterion_params": {"reduction": "sum"}}}, "reduction"),
        ({"callbacks": [{"name": "test_engine_everywhere"}]}, "does not declare its steps"),
    ],
)
def test_what_is_not_covered_runs_on_autograd_and_says_why(change, reason, caplog):
    register_callback("test_engine_everywhere")(everywhere)
    with caplog.at_level("INFO", "dln"):
        runner = factory.build(config({**change, "max_steps": 2}, "auto"))
    assert type(runner).__name__ == "Trainer"
    assert reason in caplog.text
    with pytest.raises(ConfigError, match="engine=compiled does not cover"):
        factory.build(config(change, "compiled"))


def everywhere():
    return lambda step, trainer: None


def test_auto_takes_the_compiled_engine_where_it_can(caplog):
    with caplog.at_level("INFO", "dln"):
        assert type(factory.build(config({}, "auto"))).__name__ == "SoloRun"
    assert caplog.text == ""


def test_metrics_of_samples_see_few_members_at_a_time(monkeypatch):
    """However many are trained together: what is made of all samples of all of them would fill the memory."""
    sizes = []

    @model_metric("test_engine_of_samples", batched=True)
    def of_samples(model, train_inputs):
        sizes.append(8 * train_inputs.numel())
        return train_inputs.square().mean((-2, -1)) * model.weights[0].square().sum((-2, -1))

    metrics = ["test_engine_of_samples", "full_train_loss", "gradient_snr", "weight_norm"]
    configs = [
        {"max_steps": 2, "metrics": metrics, "training": {"model_seed": seed, "batch_size": 5}} for seed in range(7)
    ]
    at_once = run_experiments(configs)
    monkeypatch.setattr("dln.ensemble.views.SAMPLED", max(sizes) // 4)
    sizes.clear()
    assert [history.records for history in run_experiments(configs)] == [history.records for history in at_once]
    assert max(sizes) <= views.SAMPLED
    assert len(sizes) > 4
