"""Callbacks: what they do to a run, and that the steps they declare are the steps they act on."""

import itertools
import math

import numpy as np
import pytest
import torch

from dln import DeepLinearNetwork, Trainer, linear_teacher, register_callback, run_experiment
from dln.base.streams import stream
from dln.callbacks import CALLBACKS, build_callbacks
from dln.config import CallbackConfig
from dln.errors import ConfigError, DlnError, ExtensionError
from dln.timeline import acting_at
from tests import naive

EXAMPLES = {
    "switch_batch_size": {"step": 6, "batch_size": 5},
    "multi_switch_batch_size": {"schedule": {4: 3, 9: None}},
    "lr_decay": {"factor": 0.5, "interval": 4},
    "stop_at_loss": {"target": 5.0, "interval": 3},
    "lr_cosine": {"steps": 8, "start": 2},
    "lr_warmup": {"steps": 5, "initial": 0.1},
    "lr_cyclic": {"period": 6, "max_factor": 3.0},
    "batch_growth": {"factor": 2, "interval": 3, "largest": 7},
    "weight_noise": {"std": 0.01, "interval": 5, "start": 1},
    "kick": {"step": 4, "size": 0.5},
    "stop_at_gradient": {"norm": 1e9, "interval": 5},
    "switch_teacher": {"step": 5, "factor": -1.0},
    "stop_at_plateau": {"patience": 6, "tolerance": 0.99, "interval": 3},
    "stop_after": {"seconds": 1e-9, "interval": 4},
}


def callbacks(name, **params):
    return build_callbacks([CallbackConfig(name, params)])


def run(acts, max_steps=12, **kwargs):
    dataset = linear_teacher(3, 3, {"matrix": "diagonal", "scale": 3.0}, train_samples=20, dtype=torch.float64)
    model = DeepLinearNetwork(3, 4, 1, 3, dtype=torch.float64)
    trainer = Trainer(model, dataset, **{"lr": 0.05, "max_steps": max_steps, "callbacks": acts, **kwargs})
    seen = []
    trainer.callbacks.append(lambda step, t: seen.append((t.lr * t.lr_scale, t.batch_size)))
    history = trainer.run()
    return history, seen, trainer


@pytest.mark.parametrize("name", [e.name for e in CALLBACKS if e.function.__module__ == "dln.callbacks"])
def test_a_built_in_acts_only_at_the_steps_it_declares(name):
    (callback,) = callbacks(name, **EXAMPLES[name])
    declared, _, reference = run([callback], batch_size=2)
    (everywhere,) = callbacks(name, **EXAMPLES[name])
    steps = everywhere.steps

    def called_at_every_step(step, trainer):
        if step in steps:
            everywhere(step, trainer)

    undeclared, _, trainer = run([called_at_every_step], batch_size=2)
    assert declared.records == undeclared.records
    assert declared.records != run([], batch_size=2)[0].records
    assert all(torch.equal(a, b) for a, b in zip(reference.model.weights, trainer.model.weights, strict=True))


def test_switch_batch_size_from_its_step_on():
    _, seen, _ = run(callbacks("switch_batch_size", step=6, batch_size=5))
    assert [size for _, size in seen] == [None] * 6 + [5] * 7


def test_multi_switch_batch_size_follows_its_schedule():
    _, seen, _ = run(callbacks("multi_switch_batch_size", schedule={4: 3, 9: None}), batch_size=2)
    assert [size for _, size in seen] == [2] * 4 + [3] * 5 + [None] * 4


def test_lr_decay_multiplies_after_every_interval():
    _, seen, _ = run(callbacks("lr_decay", factor=0.5, interval=4), lr=0.08)
    assert [lr for lr, _ in seen] == [0.08] * 4 + [0.04] * 4 + [0.02] * 4 + [0.01]
    _, seen, _ = run(callbacks("lr_decay", factor=0.5, interval=4, start=5), lr=0.08)
    assert [lr for lr, _ in seen] == [0.08] * 9 + [0.04] * 4


@pytest.mark.parametrize("loss", ["train", "test"])
def test_stop_at_loss_stops_at_the_first_step_that_reaches_it(loss):
    free, _, _ = run([], max_steps=40)
    target = free[f"{loss}_loss"][17]
    stopped, _, _ = run(callbacks("stop_at_loss", target=float(target), loss=loss), max_steps=40)
    assert stopped.events == {"stopped_at": 17}
    np.testing.assert_array_equal(stopped["train_loss"], free["train_loss"][:18])
    later, _, _ = run(callbacks("stop_at_loss", target=float(target), loss=loss, interval=10), max_steps=40)
    assert later.events == {"stopped_at": 20}


# --- against numpy loops with the rates, sizes and displacements written out

ENGINES = ["autograd", "compiled"]
STEPS = 40


def listed(*acts):
    return [{"name": name, "params": params} for name, params in acts]


def experiment(engine, acts, batch_size=3, **change):
    config = {
        "model": {"in_dim": 4, "out_dim": 3, "hidden_dim": 6, "num_hidden": 1},
        "data": {"params": {"matrix": "diagonal", "scale": 2.0}, "train_samples": 20},
        "training": {"lr": 0.05, "batch_size": batch_size, "model_seed": 2},
        "dtype": "float64",
        "max_steps": STEPS,
        "engine": engine,
    }
    return run_experiment({**config, "callbacks": acts, **change})


def expectation(lr=0.05, sizes=(3,) * (STEPS + 1), before=None):
    """Batch losses of the run that `experiment` describes, with a rate and a batch size for each step."""
    x, y = naive.teacher_data(2.0 * np.eye(3, 4) * [1, 2 / 3, 1 / 3, 0], 20, 0.0, 0)
    rng, batches, order = stream(0, "batch order"), [], []
    for last, size in zip((None, *sizes), sizes, strict=False):
        order = rng.permutation(20) if size != last or len(order) == 0 else order
        batches.append(order[:size])
        order = order[size:]
    start = naive.initial_weights([4, 6, 3], 1.0, 2)
    return naive.sgd(start, lambda s: (x[batches[s]], y[batches[s]]), lr, STEPS, before)[1], (x, y)


def cosine(since, steps, final):
    return 1 if since < 0 else final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(since, steps) / steps))


SCHEDULES = {
    "cosine": (listed(("lr_cosine", {"steps": 25})), lambda s: cosine(s, 25, 0)),
    "cosine, later": (listed(("lr_cosine", {"steps": 20, "start": 7, "final": 0.3})), lambda s: cosine(s - 7, 20, 0.3)),
    "cosine, held": (
        listed(("lr_cosine", {"steps": 20, "start": 3, "interval": 4})),
        lambda s: cosine((s - 3) // 4 * 4, 20, 0),
    ),
    "warmup": (listed(("lr_warmup", {"steps": 15})), lambda s: min(1, s / 15)),
    "warmup, held": (
        listed(("lr_warmup", {"steps": 15, "initial": 0.2, "interval": 5})),
        lambda s: 0.2 + 0.8 * min(1, s // 5 / 3),
    ),
    "cyclic": (
        listed(("lr_cyclic", {"period": 10, "max_factor": 3})),
        lambda s: [1, 1.4, 1.8, 2.2, 2.6, 3, 2.6, 2.2, 1.8, 1.4][s % 10],
    ),
    "cyclic, odd and later": (
        listed(("lr_cyclic", {"period": 3, "max_factor": 0.1, "start": 4})),
        lambda s: 1 if s < 4 else [1, 0.4, 0.4][(s - 4) % 3],
    ),
    "decay": (listed(("lr_decay", {"factor": 0.9, "interval": 1})), lambda s: 0.9**s),
    "decay, later": (
        listed(("lr_decay", {"factor": 1.1, "interval": 6, "start": 5})),
        lambda s: 1.1 ** max(0, (s - 5) // 6),
    ),
    "all together": (
        listed(
            ("lr_warmup", {"steps": 5}),
            ("lr_cosine", {"steps": 40, "final": 0.1}),
            ("lr_decay", {"factor": 0.5, "interval": 11}),
        ),
        lambda s: min(1, s / 5) * cosine(s, 40, 0.1) * 0.5 ** (s // 11),
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_multiply_the_rate_of_every_step(name, engine):
    acts, factor = SCHEDULES[name]
    expected, _ = expectation(0.05 * np.array([factor(s) for s in range(STEPS)]))
    np.testing.assert_allclose(experiment(engine, acts)["train_loss"], expected, rtol=1e-10)


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_grow_up_to_the_largest(engine):
    acts = listed(("batch_growth", {"factor": 1.5, "interval": 6, "largest": 9}))
    sizes = [(3, 4, 6, 9)[min(s // 6, 3)] for s in range(STEPS + 1)]
    np.testing.assert_allclose(experiment(engine, acts)["train_loss"], expectation(sizes=sizes)[0], rtol=1e-10)
    # From one sample, growth is by one at least; a full batch, or one that is larger already, stays.
    _, seen, _ = run(callbacks("batch_growth", factor=1.1, interval=3, largest=3), batch_size=1)
    assert [size for _, size in seen] == [1] * 3 + [2] * 3 + [3] * 7
    for size in (None, 8):
        assert {s for _, s in run(callbacks("batch_growth", factor=2, interval=1, largest=5), batch_size=size)[1]} == {
            size
        }


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_is_drawn_layer_by_layer_from_a_stream_of_each_step(engine):
    def before(step, weights):
        if step < 2 or (step - 2) % 3:
            return weights
        rng = stream(5, "weight noise", step)
        return [w + 0.01 * rng.standard_normal(w.shape) for w in weights]

    acts = listed(("weight_noise", {"std": 0.01, "interval": 3, "start": 2, "seed": 5}))
    np.testing.assert_allclose(experiment(engine, acts)["train_loss"], expectation(before=before)[0], rtol=1e-10)


def test_noise_has_the_variance_it_says():
    still = {"lr": 1e-300, "max_steps": 400}
    _, _, noisy = run(callbacks("weight_noise", std=0.1), **still)
    _, _, calm = run([], **still)
    moved = [(a - b).detach().numpy().ravel() for a, b in zip(noisy.model.weights, calm.model.weights, strict=True)]
    variance = np.mean(np.concatenate(moved) ** 2) / 401  # 24 sums of 401 draws
    assert abs(variance / 0.01 - 1) < 4 * np.sqrt(2 / 24)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("direction", "size"), [("random", 0.7), ("gradient", 0.7), ("gradient", -0.7)])
def test_a_kick_moves_the_weights_by_its_size(direction, size, engine):
    _, (x, y) = expectation()

    def before(step, weights):
        if step != 9:
            return weights
        rng = stream(1, "kick")
        way = [rng.standard_normal(w.shape) for w in weights]
        if direction == "gradient":
            way, _ = naive.gradients(weights, [np.zeros(len(w)) for w in weights], x, y)
        length = np.linalg.norm(np.concatenate([v.ravel() for v in way]))
        return [w + size * v / length for w, v in zip(weights, way, strict=True)]

    acts = listed(("kick", {"step": 9, "size": size, "direction": direction, "seed": 1}))
    history = experiment(engine, acts)
    np.testing.assert_allclose(history["train_loss"], expectation(before=before)[0], rtol=1e-10)


def test_no_kick_along_a_gradient_that_is_zero():
    zero = DeepLinearNetwork.from_weights([np.zeros((4, 3)), np.zeros((3, 4))])
    data = linear_teacher(3, 3, {"matrix": "diagonal"}, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"callback 'kick' at step 2: the gradient is zero"):
        Trainer(zero, data, max_steps=3, callbacks=callbacks("kick", step=2, size=1.0, direction="gradient")).run()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_stops_at_the_first_gradient_that_is_small(engine, dtype):
    _, (x, y) = expectation()
    norms = []

    def before(step, weights):
        gradients, _ = naive.gradients(weights, [np.zeros(len(w)) for w in weights], x, y)
        norms.append(np.sqrt(sum(np.sum(g**2) for g in gradients)))
        return weights

    expectation(before=before)
    target = np.sort(norms)[5] * 1.0001
    first = int(np.flatnonzero(norms <= target)[0])
    assert first > 3
    acts = listed(("stop_at_gradient", {"norm": float(target)}))
    assert experiment(engine, acts, dtype=dtype).events == {"stopped_at": first}
    later = -(-first // 4) * 4
    while norms[later] > target:
        later += 4
    acts = listed(("stop_at_gradient", {"norm": float(target), "interval": 4}))
    assert experiment(engine, acts, dtype=dtype).events == {"stopped_at": later}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_stops_where_its_loss_falls_too_slowly(engine):
    losses = experiment(engine, [], batch_size=None)["train_loss"]
    tolerance = 0.5 * max(1 - losses[s] / losses[s - 6] for s in range(6, STEPS + 1))
    fast = next(s for s in range(6, STEPS) if losses[s - 6] - losses[s] < tolerance * losses[s - 6])
    acts = listed(("stop_at_plateau", {"patience": 6, "tolerance": float(tolerance)}))
    assert experiment(engine, acts, batch_size=None).events == {"stopped_at": fast}
    slow = next(s for s in range(6, STEPS, 3) if losses[s - 6] - losses[s] < tolerance * losses[s - 6])
    acts = listed(("stop_at_plateau", {"patience": 6, "tolerance": float(tolerance), "interval": 3}))
    assert experiment(engine, acts, batch_size=None).events == {"stopped_at": slow}


def test_a_plateau_is_looked_for_anew_in_every_run():
    (callback,) = callbacks("stop_at_plateau", patience=4, tolerance=0.9)
    first, second = (run([callback], max_steps=30)[0] for _ in range(2))
    assert first.events == second.events
    assert first.events["stopped_at"] >= 4


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_stops_after_so_many_seconds(engine, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("dln.callbacks.time.monotonic", lambda: float(next(clock)))
    acts = listed(("stop_after", {"seconds": 3, "interval": 5}))
    assert experiment(engine, acts).events == {"stopped_at": 15}


@pytest.mark.parametrize("name", ["stop_at_gradient", "kick"])
@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_training_set_there_is_no_gradient(name, engine):
    params = {"norm": 1.0} if name == "stop_at_gradient" else {"step": 0, "size": 1.0, "direction": "gradient"}
    with pytest.raises(ConfigError, match=f"callback '{name}' at step 0: there is no train set"):
        experiment(engine, listed((name, params)), data={"online": True})


@pytest.mark.parametrize(
    ("name", "params", "named"),
    [
        ("swich_batch_size", {}, r"callbacks\[0\]: unknown callback.*did you mean 'switch_batch_size'"),
        ("switch_batch_size", {"step": 5}, "batch_size: .* needs this parameter"),
        ("switch_batch_size", {"stp": 5}, "did you mean 'step'"),
        ("switch_batch_size", {"step": "x", "batch_size": 1}, r"takes int here, not 'x'"),
        ("switch_batch_size", {"step": 1, "batch_size": 0}, "batch_size must be a whole number, 1 or more"),
        ("lr_decay", {"factor": 0, "interval": 2}, "factor must be greater than 0"),
        ("lr_decay", {"factor": 0.5, "interval": 0}, "interval must be"),
        ("stop_at_loss", {"target": 0.1, "loss": "tset"}, "'train' or 'test'"),
        ("lr_cosine", {"steps": 0}, "steps must be a whole number, 1 or more"),
        ("lr_cosine", {"steps": 5, "final": -0.1}, "final must be 0 or more"),
        ("lr_cosine", {"steps": 5, "start": -1}, "start must be a whole number, 0 or more"),
        ("lr_warmup", {"steps": 5, "initial": -1}, "initial must be 0 or more"),
        ("lr_warmup", {"steps": 5, "interval": 0}, "interval must be a whole number, 1 or more"),
        ("lr_cyclic", {"period": 1, "max_factor": 2}, "period must be a whole number, 2 or more"),
        ("lr_cyclic", {"period": 4, "max_factor": 0}, "max_factor must be greater than 0"),
        ("batch_growth", {"factor": 1, "interval": 2, "largest": 9}, "factor must be greater than 1"),
        ("batch_growth", {"factor": 2, "interval": 2, "largest": 0}, "largest must be a whole number"),
        ("weight_noise", {"std": 0}, "std must be greater than 0"),
        ("weight_noise", {"std": 0.1, "seed": -1}, "seed must be a whole number, 0 or more"),
        ("kick", {"step": -1, "size": 1.0}, "step must be a whole number, 0 or more"),
        ("kick", {"step": 1, "size": 0}, "size must not be 0"),
        ("kick", {"step": 1, "size": 1, "direction": "up"}, "'random' or 'gradient' here, not 'up'"),
        ("stop_at_gradient", {"norm": -1}, "norm must be 0 or more"),
        (
            "stop_at_plateau",
            {"patience": 5, "tolerance": 0.1, "interval": 2},
            "patience must be a multiple of interval",
        ),
        ("stop_at_plateau", {"patience": 5, "tolerance": -0.1}, "tolerance must be 0 or more"),
        ("stop_after", {"seconds": 0}, "seconds must be greater than 0"),
    ],
)
def test_bad_parameters_are_refused_by_name(name, params, named):
    with pytest.raises(ConfigError, match=named):
        callbacks(name, **params)


def test_a_factory_that_returns_no_callback_is_named():
    register_callback("test_returns_nothing")(lambda: None)
    with pytest.raises(ExtensionError, match="'test_returns_nothing' must return"):
        callbacks("test_returns_nothing")


# --- what a callback may set, and what not

SET: dict[str, object] = {}
"""What the callback `test_sets` sets at step 3."""


@pytest.fixture
def setting():
    """Return the outcome of a run in which a callback sets something at step 3, under both engines."""

    def at_three(step, trainer):
        for name, value in SET.items():
            setattr(trainer, name, value)

    if "test_sets" not in CALLBACKS:
        register_callback("test_sets")(lambda: acting_at([3], at_three))

    def outcomes(name, value, **change):
        SET.clear()
        SET[name] = value
        found = []
        for engine in ENGINES:
            try:
                history = experiment(engine, listed(("test_sets", {})), **change)
                found.append((history.events, history["step"].tolist()))
            except DlnError as error:
                found.append((type(error), str(error)))
        assert found[0] == found[1]
        return found[0]

    return outcomes


@pytest.mark.parametrize("size", [-3, 0, 2.5, "x", "3", True, math.nan, math.inf, [3], 21])
@pytest.mark.parametrize("start", [3, None])
def test_a_batch_size_that_there_is_not_is_refused_by_both_engines(size, start, setting):
    error, message = setting("batch_size", size, batch_size=start)
    assert error is ConfigError
    assert message.startswith("callback 'setting' at step 3: batch_size ")
    assert len(message) < 150


@pytest.mark.parametrize("size", [4, 4.0, np.int64(4), torch.tensor(4), None])
def test_a_batch_size_may_come_from_numpy_or_torch(size, setting):
    assert setting("batch_size", size) == ({}, list(range(STEPS + 1)))


@pytest.mark.parametrize("name", ["lr", "lr_scale"])
@pytest.mark.parametrize(
    "rate", ["0.1", True, None, [0.1], 1j, torch.ones(2), np.ones(2), pytest.param(10**400, id="huge")]
)
def test_a_rate_that_is_no_number_is_refused_by_both_engines(name, rate, setting):
    error, message = setting(name, rate)
    assert error is ConfigError
    assert message.startswith(f"callback 'setting' at step 3: {name} must be a number, not ")
    assert len(message) < 150


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["lr", "lr_scale"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf, 1e300])
def test_a_rate_without_bound_makes_a_run_diverge_under_both_engines(name, rate, dtype, optimizer, setting):
    training = {"lr": 0.05, "batch_size": 3, "optimizer": optimizer}
    events, steps = setting(name, rate, dtype=dtype, training=training)
    assert events["diverged_at"] in (4, 5)
    assert steps[-1] == events["diverged_at"] - 1


@pytest.mark.parametrize("rate", [-0.01, 0, np.float32(0.02), torch.tensor(0.02), torch.tensor([0.02])])
def test_a_rate_may_be_negative_and_come_from_numpy_or_torch(rate, setting):
    assert setting("lr", rate) == ({}, list(range(STEPS + 1)))
