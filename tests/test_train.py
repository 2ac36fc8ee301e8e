"""One run: against hand arithmetic, plain numpy and theory; records that describe theta_s and change nothing."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dln import Dataset, DeepLinearNetwork, Trainer, linear_teacher, train_ensemble
from dln.errors import ConfigError, ExtensionError
from dln.ingredients.optimizers import optimizers
from dln.metrics import model_metric
from dln.timeline import acting_at
from tests import naive

F64 = torch.float64


def data(n=20, in_dim=4, out_dim=3, **kwargs):
    return linear_teacher(in_dim, out_dim, {"matrix": "random_normal", "scale": 2.0}, train_samples=n, **kwargs)


def network(seed=0, in_dim=4, out_dim=3, dtype=F64, **kwargs):
    return DeepLinearNetwork(in_dim, 6, 2, out_dim, model_seed=seed, dtype=dtype, **kwargs)


def weights(model):
    return [w.detach().numpy().copy() for w in model.weights]


def trainer(model=None, dataset=None, **kwargs):
    defaults = {"lr": 0.01, "max_steps": 20}
    return Trainer(model or network(), dataset or data(dtype=F64), **{**defaults, **kwargs})


# --- the exact meaning of a step


def test_a_golden_step_by_hand():
    """w = 3 and 2 in series, x = 1, y = 4: loss (6-4)^2 = 4, dl/dw1 = 2(6-4)*2 = 8, dl/dw2 = 12; lr 1/8."""
    model = DeepLinearNetwork.from_weights([[[3.0]], [[2.0]]])
    history = Trainer(model, Dataset.from_arrays([[1.0]], [[4.0]]), lr=0.125, max_steps=1).run()
    assert [w.item() for w in model.weights] == [2.0, 0.5]
    assert history["train_loss"].tolist() == [4.0, 9.0]
    assert history["step"].tolist() == [0, 1]


@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_the_chain_rule(bias):
    run = trainer(network(bias=bias), max_steps=5)
    run.run()
    x, y = run.dataset.train_inputs.numpy(), run.dataset.train_targets.numpy()
    biases = [b.detach().numpy() for b in run.model.biases] if bias else [0.0] * 3
    dws, dbs = naive.gradients(weights(run.model), biases, x, y)
    for w, expected in zip(run.model.weights, dws, strict=True):
        np.testing.assert_allclose(w.grad, expected, rtol=1e-12, atol=1e-14)
    for b, expected in zip(run.model.biases, dbs, strict=False):
        np.testing.assert_allclose(b.grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.sampled
@pytest.mark.parametrize("batch_size", [None, 1, 7, 10])
def test_a_whole_run_is_that_of_plain_numpy(batch_size):
    n, steps = 20, 300
    dataset = data(n, dtype=F64, noise_std=0.2, data_seed=1)
    run = trainer(network(seed=4), dataset, max_steps=steps, batch_size=batch_size, batch_seed=9)
    history = run.run()

    x, y = naive.teacher_data(dataset.teacher.numpy(), n, 0.2, 1)
    order = naive.batch_indices(n, batch_size or n, 9, steps + 1) if batch_size else [slice(None)] * (steps + 1)
    start = naive.initial_weights([4, 6, 6, 3], 1.0, 4)
    expected, losses = naive.sgd(start, lambda s: (x[order[s]], y[order[s]]), 0.01, steps)
    for w, e in zip(weights(run.model), expected, strict=True):
        np.testing.assert_allclose(w, e, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(history["train_loss"], losses, rtol=1e-10)


def test_callbacks_fire_before_the_batch_is_drawn_and_before_the_record():
    """A callback at step 2 sets the weights: the record of step 2 describes what it set, with the batch drawn after."""

    def reset(step, run):
        with torch.no_grad():
            for w in run.model.weights:
                w.zero_()

    run = trainer(batch_size=5, callbacks=[acting_at([2], reset)], metrics=["weight_norm"])
    history = run.run()
    assert history["weight_norm"][2] == 0
    batch = run.dataset.train_targets[naive.batch_indices(20, 5, 0, 3)[2]]
    np.testing.assert_allclose(history["train_loss"][2], (batch**2).mean())
    assert (history["train_loss"][3:] > 0).all()


def test_every_value_of_a_record_describes_the_weights_of_its_step():
    seen = {}

    @model_metric("test_remembers")
    def remembers(model, data):
        seen[len(seen)] = (weights(model), [w.grad.numpy().copy() for w in model.weights], data)
        return 0.0

    run = trainer(batch_size=6, max_steps=4, metrics=["test_remembers", "gradient_norm"])
    history = run.run()
    for record, (ws, grads, batch) in zip(history, seen.values(), strict=True):
        zeros = [0.0] * 3
        x, y = batch.inputs.numpy(), batch.targets.numpy()
        assert record["train_loss"] == pytest.approx(naive.loss(ws, zeros, x, y), rel=1e-13)
        test = naive.loss(ws, zeros, batch.test_inputs.numpy(), batch.test_targets.numpy())
        assert record["test_loss"] == pytest.approx(test, rel=1e-13)
        for g, expected in zip(grads, naive.gradients(ws, zeros, x, y)[0], strict=True):
            np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-15)
        assert record["gradient_norm"] == pytest.approx(math.sqrt(sum((g**2).sum() for g in grads)), rel=1e-13)
    assert len(batch.train_inputs) == 20
    assert isinstance(batch.criterion, type(run.criterion))


# --- determinism


@settings(max_examples=20)
@given(
    every=st.integers(1, 25),
    batch_size=st.sampled_from([None, 1, 7]),
    online=st.booleans(),
    metrics=st.sampled_from([(), ("gradient_norm", "singular_values")]),
    optimizer=st.sampled_from(["SGD", "Adam"]),
)
def test_recording_never_changes_a_number(every, batch_size, online, metrics, optimizer):
    def run(evaluate_every, metrics):
        dataset = data(dtype=torch.float32, online=online, noise_std=0.1)
        size = 4 if online else batch_size
        model = network(dtype=torch.float32)
        return trainer(
            model, dataset, batch_size=size, evaluate_every=evaluate_every, metrics=metrics, optimizer=optimizer
        )

    all_steps, some_steps = run(1, ()), run(every, metrics)
    full, sparse = all_steps.run(), some_steps.run()
    assert sparse["step"].tolist() == sorted({*range(0, 21, every), 20})
    for name in ("train_loss", "test_loss"):
        assert sparse[name].tolist() == full[name][sparse["step"]].tolist()
    for a, b in zip(weights(all_steps.model), weights(some_steps.model), strict=True):
        assert np.array_equal(a, b)


def test_a_run_draws_nothing_from_global_generators():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    trainer(batch_size=3).run()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


# --- theory


def test_updates_conserve_imbalance_up_to_their_square():
    """theory.md item 2: dD_l = dW_{l+1}' dW_{l+1} - dW_l dW_l' exactly, for any plain SGD step."""
    run = trainer(batch_size=3, max_steps=1)
    before = weights(run.model)
    run.run()
    after = weights(run.model)
    step = [b - a for a, b in zip(before, after, strict=True)]

    def imbalance(w):
        return [w[i + 1].T @ w[i + 1] - w[i] @ w[i].T for i in range(len(w) - 1)]

    for change, exact in zip(
        [b - a for a, b in zip(imbalance(before), imbalance(after), strict=True)], imbalance(step), strict=True
    ):
        np.testing.assert_allclose(change, exact, atol=2e-16)
        assert np.abs(exact).max() > 1e-8


def test_the_drift_of_imbalance_halves_with_the_learning_rate():
    """D is constant under gradient flow, so at fixed lr x steps its change is of first order in lr."""

    def drift(lr):
        run = trainer(lr=lr, max_steps=round(0.4 / lr), metrics=["balancedness"], evaluate_every=10**6)
        start = weights(run.model)
        run.run()
        end = weights(run.model)
        return np.linalg.norm(end[1].T @ end[1] - end[0] @ end[0].T - start[1].T @ start[1] + start[0] @ start[0].T)

    ratios = [drift(lr) / drift(lr / 2) for lr in (0.004, 0.002)]
    np.testing.assert_allclose(ratios, 2, rtol=0.05)


@pytest.mark.parametrize("engine", ["autograd", "compiled"])
def test_with_a_rate_of_its_own_for_each_layer_another_imbalance_is_conserved(engine):
    """dW_l = -f_l grad_l, so W_{l+1}'W_{l+1} / f_{l+1} - W_l W_l' / f_l is constant up to first order in lr."""
    factors = [0.5, 2.0, 1.0]

    def imbalances(layers):
        scaled = [(w / np.sqrt(f)) for w, f in zip(layers, factors, strict=True)]
        return [after.T @ after - before @ before.T for before, after in pairwise(scaled)]

    def drift(lr):
        start, steps = weights(network()), round(0.4 / lr)
        if engine == "autograd":
            run = trainer(lr=lr, max_steps=steps, evaluate_every=10**6, lr_factors=factors)
            run.run()
            end = weights(run.model)
        else:
            settings = {"lr": lr, "max_steps": steps, "evaluate_every": 10**6, "lr_factors": factors}
            end = [w[0] for w in train_ensemble([w[None] for w in start], data(dtype=F64), **settings).weights()[0]]
        return np.array([np.linalg.norm(b - a) for a, b in zip(imbalances(start), imbalances(end), strict=True)])

    ratios = [drift(lr) / drift(lr / 2) for lr in (0.004, 0.002)]
    np.testing.assert_allclose(ratios, 2, rtol=0.05)


@pytest.mark.parametrize("name", optimizers())
def test_a_frozen_layer_stays_where_it_is_under_every_optimizer_and_the_others_go_on(name):
    model = network(bias=name != "Muon")
    start = copy.deepcopy(model)
    trainer(model, optimizer=name, lr_factors=[1.0, 0.0, 0.5], max_steps=5, batch_size=7).run()
    for i, (before, after) in enumerate(zip(start.layers, model.layers, strict=True)):
        moved = [not torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True)]
        assert all(moved) if i != 1 else not any(moved)


def test_the_gradient_on_a_frozen_layer_is_recorded_as_ever():
    runs = [trainer(lr_factors=f, metrics=["gradient_layer_norms"], max_steps=3).run() for f in (None, [1, 1, 0])]
    np.testing.assert_array_equal(*(run["gradient_layer_norms"][:1] for run in runs))
    assert (runs[1]["gradient_layer_norms"][:, 2] > 0).all()


def test_one_layer_follows_its_closed_form():
    """theory.md item 5: W_n = W* + (W_0 - W*)(I - (2 lr / d_out) Sigma)^n."""
    dataset = data(50, dtype=F64)
    model = DeepLinearNetwork(4, 3, 0, 3, dtype=F64)
    start = weights(model)[0]
    trainer(model, dataset, lr=0.1, max_steps=40).run()
    x, y = dataset.train_inputs.numpy(), dataset.train_targets.numpy()
    sigma = x.T @ x / len(x)
    best = np.linalg.lstsq(x, y, rcond=None)[0].T
    decay = np.linalg.matrix_power(np.eye(4) - 2 * 0.1 / 3 * sigma, 40)
    np.testing.assert_allclose(weights(model)[0], best + (start - best) @ decay, rtol=1e-11)


def test_rotating_hidden_units_changes_no_loss():
    rng = np.random.default_rng(0)
    q, r = (np.linalg.qr(rng.standard_normal((6, 6)))[0] for _ in range(2))
    plain = network()
    w1, w2, w3 = weights(plain)
    turned = DeepLinearNetwork.from_weights([q @ w1, r @ w2 @ q.T, w3 @ r.T])
    losses = [trainer(m, max_steps=100, batch_size=7).run()["train_loss"] for m in (plain, turned)]
    np.testing.assert_allclose(*losses, rtol=1e-11)


def test_scaling_all_samples_n_times_is_the_same_run():
    """Every sample repeated three times: the same loss, the same gradients."""
    small = data(10, dtype=F64)
    sets = (small.train_inputs, small.train_targets, small.test_inputs, small.test_targets)
    repeated = Dataset.from_arrays(*(s.repeat(3, 1) for s in sets[:2]), *sets[2:], dtype=F64)
    losses = [trainer(network(), d, max_steps=50).run()["train_loss"] for d in (small, repeated)]
    np.testing.assert_allclose(*losses, rtol=1e-12)


# --- ends


def test_a_diverging_run_ends_where_its_loss_does():
    run = trainer(lr=1e3, max_steps=100, evaluate_every=1)
    history = run.run()
    assert run.diverged_at == history.diverged_at == len(history)
    assert np.isfinite(history["train_loss"]).all()
    sparse = trainer(lr=1e3, max_steps=100, evaluate_every=50).run()
    assert sparse.diverged_at == history.diverged_at
    assert sparse["step"].tolist() == [0]


def test_stopping_makes_the_present_step_the_last():
    run = trainer(max_steps=100, evaluate_every=50, callbacks=[acting_at([7], lambda s, t: t.stop())])
    history = run.run()
    assert history["step"].tolist() == [0, 7]
    assert history.events == {"stopped_at": 7}
    reference = trainer(max_steps=7)
    reference.run()
    assert all(np.array_equal(a, b) for a, b in zip(weights(run.model), weights(reference.model), strict=True))


def test_records_before_an_error_are_passed_on_and_the_step_is_named():
    @model_metric("test_fails_at_3")
    def fails(model, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 4:
            raise ZeroDivisionError("on purpose")
        return 0.0

    seen = []
    with pytest.raises(ExtensionError, match="metric 'test_fails_at_3' failed at step 3: ZeroDivisionError") as error:
        trainer(metrics=["test_fails_at_3"]).run(seen.append)
    assert [r["step"] for r in seen] == [0, 1, 2]
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_a_callback_that_raises_is_named_by_its_factory():
    def my_callback():
        def callback(step, run):
            raise KeyError("lost")

        return callback

    with pytest.raises(ExtensionError, match="callback 'my_callback' failed at step 0: KeyError"):
        trainer(callbacks=[my_callback()]).run()


# --- what does not fit


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        (data(in_dim=5, dtype=F64), "maps 4 to 3 but the train set has 5"),
        (data(in_dim=5, dtype=F64, online=True), "maps 4 to 3 but the t"),
    ],
)
def test_data_that_do_not_fit_the_model_are_refused(dataset, named):
    with pytest.raises(ConfigError, match=named):
        trainer(dataset=dataset, batch_size=2)


@pytest.mark.parametrize(("model", "other"), [(F64, torch.float32), (torch.float32, F64)])
def test_the_model_decides_what_a_run_computes_in(model, other):
    """From the data it is given, in whatever precision, as from the same data in its own."""
    start, dataset = network(dtype=model), data(dtype=other)
    ours, same = (trainer(copy.deepcopy(start), d) for d in (dataset, dataset.to(model, "cpu")))
    assert ours.run().records == same.run().records
    assert ours.model.weights[0].dtype == ours.dataset.train_inputs.dtype == model
    weights = [w.detach().numpy()[None] for w in start.weights]
    together = train_ensemble(weights, dataset, lr=0.1, max_steps=3)
    assert together.weights()[0][0].dtype == str(model).removeprefix("torch.")


def test_arrays_of_numpy_need_no_precision():
    rng = np.random.default_rng(0)
    model = DeepLinearNetwork.from_weights([rng.standard_normal((3, 4)), rng.standard_normal((2, 3))])
    dataset = Dataset.from_arrays(rng.standard_normal((9, 4)), rng.standard_normal((9, 2)))
    assert Trainer(model, dataset, max_steps=2).run().final["step"] == 2
    flat = Dataset.from_arrays(rng.standard_normal((9, 4)), np.arange(9))  # one target a sample
    assert flat.dims == (4, 1)
    assert flat.train_targets.dtype == F64
    with pytest.raises(ConfigError, match="real numbers"):
        Dataset.from_arrays(1j * np.ones((9, 4)), np.ones((9, 2)))
    with pytest.raises(ConfigError, match="real numbers"):
        DeepLinearNetwork.from_weights([1j * np.ones((2, 4))])


def test_a_dataset_without_a_test_set_has_no_test_loss():
    small = data(dtype=F64)
    history = trainer(dataset=Dataset.from_arrays(small.train_inputs, small.train_targets, dtype=F64)).run()
    assert history.names == ["step", "train_loss"]
