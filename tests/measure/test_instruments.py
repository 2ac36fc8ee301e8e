"""Every metric of `dln.measure.instruments` against a plain definition: numpy written out, or autograd."""

import itertools

import numpy as np
import pytest
import torch

import dln
from dln.callbacks import CALLBACKS, register_callback
from dln.errors import ConfigError
from dln.measure.instruments.pairs import _principal_angles
from dln.measure.metric import MODEL_METRICS, model_metric
from dln.measure.supply import PairSupply, Supply
from dln.model import DeepLinearNetwork
from dln.timeline import acting_at
from dln.train import Trainer
from tests.test_metrics import (
    BATCH,
    DATA,
    MOMENTUM,
    RATE,
    columns,
    network,
    numbers,
    others_of,
    rotated,
    supplied,
    value,
)

X, Y = DATA.train_inputs.numpy(), DATA.train_targets.numpy()


def end_to_end(model):
    w1, w2, w3 = (w.detach().numpy() for w in model.weights)
    return w3 @ w2 @ w1


def test_ranks():
    s = np.linalg.svd(end_to_end(network()), compute_uv=False)
    p = s / s.sum()
    np.testing.assert_allclose(value("effective_rank", network()), np.exp(-(p * np.log(p)).sum()))
    np.testing.assert_allclose(value("stable_rank", network()), (s**2).sum() / s[0] ** 2)
    for tolerance in (0.01, 0.5, 0.99):
        assert value("relative_rank", network(), tolerance=tolerance) == (s > tolerance * s[0]).sum()
        assert value("relative_rank", network(), above=2 * tolerance) == (s > 2 * tolerance).sum()


def test_ranks_of_a_map_with_equal_modes_count_them():
    model = DeepLinearNetwork.from_weights([np.eye(4, 4), np.diag([2.0, 2, 2, 0])[:3]], dtype=torch.float64)
    for name in ("effective_rank", "stable_rank", "relative_rank"):
        np.testing.assert_allclose(value(name, model), 3)


def test_what_is_learned_of_the_teacher():
    model, teacher = network(), DATA.teacher.numpy()
    u, s, v = np.linalg.svd(teacher, full_matrices=False)
    w = end_to_end(model)
    np.testing.assert_allclose(value("teacher_distance", model), np.linalg.norm(w - teacher))
    strengths = [u[:, i] @ w @ v[i] for i in range(len(s))]
    np.testing.assert_allclose(value("mode_strengths", model), strengths)
    np.testing.assert_allclose(value("mode_strengths", model, top=2), strengths[:2])
    p, _, q = np.linalg.svd(w, full_matrices=False)
    overlaps = [abs(p[:, i] @ u[:, i]) * abs(q[i] @ v[i]) for i in range(len(s))]
    np.testing.assert_allclose(value("mode_alignments", model), overlaps)


def test_a_model_that_is_the_teacher_has_learned_it_all():
    teacher = DATA.teacher.numpy()
    model = DeepLinearNetwork.from_weights([teacher, np.eye(3)], dtype=torch.float64)
    assert value("teacher_distance", model) == 0
    np.testing.assert_allclose(value("mode_strengths", model), np.linalg.svd(teacher, compute_uv=False))
    np.testing.assert_allclose(value("mode_alignments", model), 1)


def test_layers_and_their_products():
    model = network()
    ws = [w.detach().numpy() for w in model.weights]
    for name, matrices in (
        ("layer_singular_values", ws),
        ("partial_singular_values", [ws[0], ws[1] @ ws[0], ws[2] @ ws[1] @ ws[0]]),
    ):
        found = columns(name, supplied(model), top=2)
        for i, matrix in enumerate(matrices, start=1):
            np.testing.assert_allclose(found[f"{name}.{i}"], np.linalg.svd(matrix, compute_uv=False)[:2])


def test_all_products_of_neighbouring_layers_and_what_layers_do_to_lengths():
    w1, w2, w3 = (w.detach().numpy() for w in network().weights)
    found = columns("product_singular_values", supplied(network()))
    for name, matrix in (("1_2", w2 @ w1), ("1_3", w3 @ w2 @ w1), ("2_3", w3 @ w2)):
        expected = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(found.pop(f"product_singular_values.{name}"), expected)
    assert not found
    for turn in (lambda w: w.T @ w, lambda w: w @ w.T):
        norms = [np.linalg.norm(turn(w)) for w in (w1, w2, w3)]
        np.testing.assert_allclose(value("layer_gram_norms", network()), norms)


@pytest.mark.parametrize("bias", [False, True])
def test_the_last_updates_and_their_angle(bias):
    model = network(bias=bias)
    models = [model, *(others_of(model)[name] for name in ("previous", "earlier"))]
    now, previous, earlier = (np.concatenate([p.ravel() for p in numbers(m)]) for m in models)
    last, before = now - previous, previous - earlier
    np.testing.assert_allclose(value("update_norm", model), np.linalg.norm(last))
    cosine = last @ before / np.linalg.norm(last) / np.linalg.norm(before)
    np.testing.assert_allclose(np.cos(value("update_angle", model)), cosine)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, np.pi - 1e-9, np.pi])
def test_angles_between_updates_keep_their_digits(angle):
    """Where a cosine says 1: the angle of a turn of the plane."""
    earlier, step = np.zeros((1, 2)), np.array([[3.0, 0.0]])
    turned = 0.1 * np.array([[np.cos(angle), np.sin(angle)]])
    points = np.cumsum([earlier, 0.0 * step, turned], 0)
    points[1:] += step  # 0, step, step + turned
    models = [DeepLinearNetwork.from_weights([w], dtype=torch.float64) for w in points]
    found = columns("update_angle", Supply(dict(zip(("earlier", "previous", "model"), models, strict=True))))
    np.testing.assert_allclose(found["update_angle"], angle, rtol=1e-6, atol=1e-15)
    pair = [DeepLinearNetwork.from_weights([w], dtype=torch.float64) for w in (step, turned)]
    found = columns("param_angle", PairSupply(*(Supply({"model": model}) for model in pair)))
    np.testing.assert_allclose(found["param_angle"], angle, rtol=1e-12, atol=1e-15)


def test_an_update_of_plain_sgd_is_lr_times_the_gradient():
    run = {"max_steps": 12, "dtype": "float64", "training": {"batch_size": 7, "lr": 0.02}, "model": {"hidden_dim": 6}}
    for engine in ("compiled", "autograd"):
        history = dln.run_experiment({**run, "engine": engine, "metrics": ["update_norm", "gradient_norm"]})
        assert np.isnan(history["update_norm"][0])
        np.testing.assert_allclose(history["update_norm"][1:], 0.02 * history["gradient_norm"][:-1], rtol=1e-9)


CHANGES = [
    {"name": "kick", "params": {"step": 11, "size": 0.3}},
    {"name": "switch_batch_size", "params": {"step": 8, "batch_size": 5}},
    {"name": "lr_cosine", "params": {"steps": 30}},
]


@pytest.mark.sampled
@pytest.mark.parametrize("engine", ["compiled", "autograd"])
@pytest.mark.parametrize("more", [[], ["test_last_step"]], ids=["at once", "one by one"])
def test_updates_are_the_same_however_seldom_one_looks(engine, more):
    """A user's own metric of single networks sees the same weights of the steps before."""
    if more and "test_last_step" not in MODEL_METRICS:
        model_metric("test_last_step")(lambda model, previous: (model.end_to_end() - previous.end_to_end()).norm())
    names = ["update_norm", "update_angle", *more]
    run = {"max_steps": 25, "dtype": "float64", "training": {"batch_size": 7}, "callbacks": CHANGES, "engine": engine}
    run |= {"metrics": names, "model": {"hidden_dim": 6, "bias": True}}
    always = dln.run_experiment({**run, "evaluate_every": 1})
    for when in ({"evaluate_every": 3}, {"evaluate_at": [1, 2, 9, 11, 12, 13, 24]}, {"evaluate_every": 100}):
        seldom = dln.run_experiment({**run, **when})
        at = np.isin(always["step"], seldom["step"])
        for name in names:
            np.testing.assert_array_equal(seldom[name], always[name][at])


def test_a_lane_that_is_stopped_makes_no_more_updates():
    if "test_stop_at_6" not in CALLBACKS:
        register_callback("test_stop_at_6")(lambda: acting_at([6], lambda step, trainer: trainer.stop()))
    run = {"max_steps": 16, "evaluate_every": 2, "model_metrics": ["update_norm"]}
    run["callbacks_b"] = [{"name": "test_stop_at_6"}]
    for engine in ("compiled", "autograd"):
        history = dln.run_experiment({**run, "engine": engine, "training_b": {"model_seed": 1}})
        assert (history["update_norm_b"][1:4] > 0).all()
        assert (history["update_norm_b"][4:] == 0).all()
        assert (history["update_norm_a"][1:] > 0).all()


@pytest.mark.parametrize("bias", [False, True])
def test_distance_from_the_start(bias):
    model = network(bias=bias)
    now, then = (np.concatenate([p.ravel() for p in numbers(m)]) for m in (model, others_of(model)["start"]))
    np.testing.assert_allclose(value("start_distance", model), np.linalg.norm(now - then))
    ratio = np.linalg.norm(now - then) / np.linalg.norm(then)
    np.testing.assert_allclose(value("start_distance", model, relative=True), ratio)


@pytest.mark.parametrize("bias", [False, True])
def test_gradients(bias):
    model = network(bias=bias)
    layers = [[w.grad] for w in model.weights]
    for layer, b in zip(layers, model.biases, strict=False):
        layer.append(b.grad)
    norms = [np.sqrt(sum((g**2).sum().item() for g in layer)) for layer in layers]
    np.testing.assert_allclose(value("gradient_layer_norms", model), norms)
    w, g = (
        np.concatenate([x.detach().numpy().ravel() for x in of])
        for of in (model.weights, [layer[0] for layer in layers])
    )
    np.testing.assert_allclose(value("gradient_alignment", model), -w @ g / np.linalg.norm(w) / np.linalg.norm(g))


@pytest.mark.parametrize(("factor", "sign"), [(0.5, 1), (2.0, -1)])
def test_minus_the_gradient_points_along_the_weights_where_the_map_is_too_small(factor, sign):
    model = DeepLinearNetwork.from_weights([factor * DATA.teacher.numpy(), np.eye(3)], dtype=torch.float64)
    torch.nn.functional.mse_loss(model(DATA.train_inputs), DATA.train_inputs @ DATA.teacher.T).backward()
    assert np.sign(value("gradient_alignment", model)) == sign


# --- pairs


def test_pairs():
    a, b = network(0), network(1)
    both = [(x.detach().numpy(), y.detach().numpy()) for x, y in zip(a.weights, b.weights, strict=True)]
    np.testing.assert_allclose(value("layer_distances", a, b), [np.linalg.norm(x - y) for x, y in both])
    flat = [np.concatenate([p.ravel() for p in numbers(m)]) for m in (a, b)]
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    np.testing.assert_allclose(np.cos(value("param_angle", a, b)), cosine)
    cosines = [(x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y) for x, y in both]
    np.testing.assert_allclose(value("layer_cosines", a, b), cosines)
    maps = end_to_end(a), end_to_end(b)
    cosine = (maps[0] * maps[1]).sum() / np.linalg.norm(maps[0]) / np.linalg.norm(maps[1])
    np.testing.assert_allclose(value("end_to_end_cosine", a, b), cosine)
    values = [np.linalg.svd(m, compute_uv=False) for m in maps]
    np.testing.assert_allclose(value("singular_value_distance", a, b), np.linalg.norm(values[0] - values[1]))
    slopes = [np.concatenate([g.ravel() for g in numbers(m, gradient=True)]) for m in (a, b)]
    cosine = slopes[0] @ slopes[1] / np.linalg.norm(slopes[0]) / np.linalg.norm(slopes[1])
    np.testing.assert_allclose(value("gradient_cosine", a, b), cosine)


@pytest.mark.parametrize("bias", [False, True])
def test_predictions(bias):
    a, b = network(0, bias), network(1, bias)
    with torch.no_grad():
        gap = (a(DATA.test_inputs) - b(DATA.test_inputs)).numpy()
    np.testing.assert_allclose(value("prediction_distance", a, b), np.sqrt((gap**2).mean()))


def test_principal_angles_keep_their_digits():
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    angles = np.array([1e-12, 1e-5, 0.7, 1.5])[:2], np.array([0.7, 1.5, np.pi / 2])
    for expected in angles:
        k = len(expected)
        a, rest = q[:, :k], q[:, k : 2 * k]
        b = a * np.cos(expected) + rest * np.sin(expected)
        found = _principal_angles(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-16)


@pytest.mark.parametrize("top", [1, 2])
def test_angles_of_modes(top):
    a, b = network(0), network(1)
    found = columns("mode_angles", supplied(a, b), top=top)
    (ua, _, va), (ub, _, vb) = (np.linalg.svd(end_to_end(m), full_matrices=False) for m in (a, b))
    for side, x, y in (("left", ua[:, :top], ub[:, :top]), ("right", va[:top].T, vb[:top].T)):
        cosines = np.linalg.svd(x.T @ y, compute_uv=False)
        np.testing.assert_allclose(found[f"mode_angles.{side}"], np.arccos(cosines.clip(max=1)), atol=1e-7)
    same = columns("mode_angles", supplied(a, rotated(a)), top=top)
    assert all(np.abs(angles).max() < 1e-13 for angles in same.values())


# --- curvature and noise: their formulas are tested in test_curvature.py, test_ntk.py, test_noise.py


@pytest.mark.parametrize("bias", [False, True])
def test_curvature_is_that_of_the_training_loss(bias):
    model = network(bias=bias)
    (spectrum,) = columns("hessian_spectrum", supplied(model)).values()
    (expected,) = columns("hessian_spectrum_autograd", supplied(model)).values()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(spectrum, expected, atol=1e-12 * scale)
    np.testing.assert_allclose(value("sharpness", model), expected[0])
    np.testing.assert_allclose(value("top_eigenvalues", model, top=3), expected[:3])
    bears = 2 * (1 + MOMENTUM) / RATE  # the heavy ball's largest eigenvalue
    np.testing.assert_allclose(value("stability", model), expected[0] / bears)
    np.testing.assert_allclose(value("hessian_trace", model), expected.sum())
    assert value("saddle_index", model) == (expected < -1e-10 * scale).sum()


@pytest.mark.parametrize("bias", [False, True])
def test_kernels_are_those_of_the_outputs_on_the_training_inputs(bias):
    def gram(model):
        rows = []
        for output in model(DATA.train_inputs).reshape(-1):
            grads = torch.autograd.grad(output, list(model.parameters()), retain_graph=True)
            rows.append(torch.cat([g.reshape(-1) for g in grads]).numpy())
        rows = np.array(rows)
        return rows @ rows.T

    model = network(bias=bias)
    now, then = gram(model), gram(others_of(model)["start"])
    spectrum = value("ntk_spectrum", model)
    np.testing.assert_allclose(spectrum, np.linalg.eigvalsh(now)[::-1][: len(spectrum)], atol=1e-10 * spectrum[0])
    np.testing.assert_allclose(value("gauss_newton_spectrum", model) * Y.size / 2, spectrum)
    np.testing.assert_allclose(value("ntk_distance", model), np.linalg.norm(now - then))
    np.testing.assert_allclose(
        value("ntk_distance", model, relative=True), np.linalg.norm(now - then) / np.linalg.norm(then)
    )
    cosine = (now * then).sum() / np.linalg.norm(now) / np.linalg.norm(then)
    np.testing.assert_allclose(value("ntk_alignment", model), cosine)


@pytest.mark.parametrize("bias", [False, True])
def test_noise_is_that_of_batches_without_replacement(bias):
    model = network(bias=bias)
    layers = [[p for n, p in model.named_parameters() if n.startswith(f"layers.{i}.")] for i in range(3)]
    samples = []
    for x, y in zip(DATA.train_inputs, DATA.train_targets, strict=True):
        loss = torch.nn.functional.mse_loss(model(x[None]), y[None])
        grads = torch.autograd.grad(loss, list(itertools.chain(*layers)))
        samples.append(torch.cat([g.reshape(-1) for g in grads]).numpy())
    g = np.array(samples)
    sizes = [sum(p.numel() for p in layer) for layer in layers]
    n = len(g)
    spread = (n - BATCH) / (BATCH * (n - 1)) * ((g - g.mean(0)) ** 2).mean(0)
    of_layers = [part.sum() for part in np.split(spread, np.cumsum(sizes)[:-1])]
    np.testing.assert_allclose(value("layer_noise_traces", model), of_layers)
    np.testing.assert_allclose(value("noise_trace", model), spread.sum())
    np.testing.assert_allclose(value("gradient_snr", model), (g.mean(0) ** 2).sum() / spread.sum())
    (eigenvalues,) = columns("hessian_spectrum_autograd", supplied(model)).values()
    assert value("hessian_noise_trace", model) <= eigenvalues[0] * spread.sum()
    replaced = supplied(model, replacement=True)
    np.testing.assert_allclose(*columns("noise_trace", replaced).values(), g.var(0).sum() / BATCH)


def test_label_noise_adds_to_the_gradients_noise():
    """A sample's gradient is linear in its target: signs +-s have the second moments of N(0, s^2)."""
    model, std, gradients = network(), 0.7, []
    for x, y in zip(DATA.train_inputs, DATA.train_targets, strict=True):
        for signs in itertools.product((-std, std), repeat=len(y)):
            loss = torch.nn.functional.mse_loss(model(x[None]), (y + torch.tensor(signs))[None])
            found = torch.autograd.grad(loss, list(model.parameters()))
            gradients.append(torch.cat([g.reshape(-1) for g in found]).numpy())
    shaken = supplied(model, replacement=True, noise=std)
    spread, (norm,) = np.var(gradients, 0).sum() / BATCH, columns("gradient_snr", shaken).values()
    np.testing.assert_allclose(*columns("noise_trace", shaken).values(), spread)
    np.testing.assert_allclose(next(iter(columns("layer_noise_traces", shaken).values())).sum(), spread)
    np.testing.assert_allclose(norm, (np.mean(gradients, 0) ** 2).sum() / spread)


def test_tr_hc_is_what_noise_adds_to_the_loss_of_a_step():
    """E L(w - lr g_B) = L(w - lr g) + lr^2 / 2 tr(H C) + O(lr^3), over all batches of one sample."""
    model = network()

    def at(shift):
        return [w.detach() - lr * s for w, s in zip(model.weights, shift, strict=True)]

    def loss(weights):
        outputs = DATA.train_inputs
        for w in weights:
            outputs = outputs @ w.T
        return ((outputs - DATA.train_targets) ** 2).mean().item()

    slopes = []
    for x, y in zip(DATA.train_inputs, DATA.train_targets, strict=True):
        slopes.append(torch.autograd.grad(torch.nn.functional.mse_loss(model(x[None]), y[None]), list(model.weights)))
    mean = [torch.stack(layer).mean(0) for layer in zip(*slopes, strict=True)]
    n = len(X)
    whole = value("hessian_noise_trace", model) * BATCH * (n - 1) / (n - BATCH)  # one sample a batch, replaced
    errors = []
    for lr in (1e-3, 5e-4, 2.5e-4):
        added = np.mean([loss(at(s)) for s in slopes]) - loss(at(mean))
        errors.append(abs(added / (lr**2 / 2) - whole))
    assert errors[0] > 1.7 * errors[1] > 1.7**2 * errors[2]  # the rest is of third order


@pytest.mark.parametrize("inputs", ["gaussian", "power_law", "sphere"])
def test_the_loss_over_the_population_is_that_of_a_test_set_without_end(inputs):
    run = {"max_steps": 30, "evaluate_every": 10, "dtype": "float64", "metrics": ["population_loss"]}
    data = {"inputs": inputs, "noise_std": 0.5, "test_samples": 100_000}
    history = dln.run_experiment(
        {**run, "data": data, "model": {"hidden_dim": 4, "bias": True}, "training": {"lr": 0.01}}
    )
    np.testing.assert_allclose(history["population_loss"], history["test_loss"], rtol=0.02)


@pytest.mark.parametrize("inputs", ["gaussian", "power_law"])
def test_online_curvature_and_noise_are_the_populations(inputs):
    """As of a very large sample of the same distribution."""
    run = {"max_steps": 1, "dtype": "float64", "model": {"hidden_dim": 4, "num_hidden": 1}}
    data = {"inputs": inputs, "noise_std": 0.5}
    names = ["hessian_trace", "sharpness", "population_noise_trace"]
    online = {**run, "metrics": names, "data": {**data, "online": True}, "training": {"batch_size": 7}}
    names = ["hessian_trace", "sharpness", "noise_trace"]
    sample = {**run, "metrics": names, "data": {**data, "train_samples": 200_000}, "training": {"batch_size": 7}}
    ours, theirs = dln.run_experiment(online), dln.run_experiment(sample)
    for name, other in (
        ("hessian_trace", "hessian_trace"),
        ("sharpness", "sharpness"),
        ("population_noise_trace", "noise_trace"),
    ):
        np.testing.assert_allclose(ours[name][0], theirs[other][0], rtol=0.02)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"metrics": ["noise_trace"], "data": {"online": True}, "training": {"batch_size": 2}}, "training set"),
        ({"metrics": ["sharpness"], "training": {"criterion": "L1Loss"}}, "MSELoss only"),
        ({"metrics": ["population_noise_trace"], "data": {"inputs": "sphere"}}, "Gaussian"),
    ],
)
def test_where_a_formula_does_not_hold_it_is_said_before_the_run(config, words):
    for engine in ("auto", "autograd"):
        with pytest.raises(ConfigError, match=words):
            dln.run_experiment({**config, "engine": engine, "max_steps": 2})


def test_other_losses_have_their_curvature_by_autograd():
    data = dln.Dataset.from_arrays(X, Y, dtype=torch.float64)
    run = {"criterion": "HuberLoss", "max_steps": 2, "metrics": ["hessian_spectrum_autograd"]}
    model = network()
    history = Trainer(network(), data, **run).run()
    spectrum = history["hessian_spectrum_autograd"][0]
    step = 1e-4
    losses = []
    for sign in (1, 0, -1):  # the second difference along a random direction lies within the spectrum
        moved = network()
        rng = np.random.default_rng(3)
        with torch.no_grad():
            way = [torch.from_numpy(rng.standard_normal(w.shape)) for w in moved.weights]
            norm = np.sqrt(sum((v**2).sum().item() for v in way))
            for w, v in zip(moved.weights, way, strict=True):
                w += sign * step * v / norm
            losses.append(torch.nn.functional.huber_loss(moved(data.train_inputs), data.train_targets).item())
    curvature = (losses[0] - 2 * losses[1] + losses[2]) / step**2
    assert spectrum[-1] < curvature < spectrum[0]
    assert len(spectrum) == sum(p.numel() for p in model.parameters())


def test_a_word_stands_for_all_metrics_that_cost_at_most_so_much():
    run = {"max_steps": 2, "model": {"hidden_dim": 4, "num_hidden": 0}}
    names = {cost: dln.run_experiment({**run, "metrics": cost}).names for cost in ("cheap", "moderate", "heavy")}
    assert "weight_norm" in names["cheap"]
    assert "balancedness" not in names["heavy"]  # one layer has no pair
    assert set(names["cheap"]) < set(names["moderate"]) < set(names["heavy"])
    mixed = dln.run_experiment({**run, "metrics": ["cheap", {"name": "singular_values", "params": {"top": 1}}]})
    assert mixed["singular_values"].shape == (3, 1)


def test_stability_follows_the_schedule_of_the_learning_rate():
    callbacks = [
        {"name": "lr_cosine", "params": {"steps": 40}},
        {"name": "lr_decay", "params": {"factor": 0.5, "interval": 30}},
    ]
    stop = {"name": "stop_at_loss", "params": {"target": 0.0}}
    run = {"max_steps": 40, "evaluate_every": 7, "dtype": "float64", "model": {"hidden_dim": 4}}
    run |= {"metrics": ["sharpness", "stability"], "callbacks": [*callbacks, stop], "events": ["edge_of_stability"]}
    for engine in ("compiled", "autograd"):
        history = dln.run_experiment({**run, "engine": engine})
        step = history["step"]
        lr = 0.0005 * (1 + np.cos(np.pi * step / 40)) / 2 * 0.5 ** (step // 30)
        np.testing.assert_allclose(history["stability"], lr / 2 * history["sharpness"], rtol=1e-12, atol=1e-18)
        assert history.events["edge_of_stability"] is None


# --- all of them, under both engines, alone and in company

SMALL = {"max_steps": 60, "evaluate_every": 20, "dtype": "float64", "training": {"batch_size": 7}}
SETTINGS = {
    "plain": {"model": {"hidden_dim": 8}},
    "bias": {"model": {"hidden_dim": [4, 6], "num_hidden": 2, "bias": True}},
    "online": {"data": {"online": True, "inputs": "power_law", "noise_std": 0.3}, "model": {"hidden_dim": 4}},
    "switch": {"callbacks": [{"name": "switch_batch_size", "params": {"step": 30, "batch_size": None}}]},
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", SETTINGS)
def test_both_engines_measure_the_same(name):
    run = {**SMALL, **SETTINGS[name], "metrics": "heavy"}
    run.setdefault("model", {"hidden_dim": 5})
    ours, truth = (dln.run_experiment({**run, "engine": engine}) for engine in ("compiled", "autograd"))
    assert ours.names == truth.names
    assert len(ours.names) > 30
    for column in truth.names:
        scale = np.abs(truth[column][np.isfinite(truth[column])]).max(initial=1.0)
        np.testing.assert_allclose(ours[column], truth[column], rtol=1e-8, atol=1e-11 * scale, err_msg=column)


def test_both_engines_measure_pairs_alike():
    shared = {"model": {"hidden_dim": 5}, "training": {"batch_size": 7}}
    run = {"max_steps": 40, "evaluate_every": 10, "dtype": "float64", "shared": shared, "comparative_metrics": "heavy"}
    for other in ({"training_b": {"model_seed": 1, "batch_size": 10}}, {"model_b": {"hidden_dim": 4, "num_hidden": 1}}):
        ours, truth = (dln.run_experiment({**run, **other, "engine": engine}) for engine in ("compiled", "autograd"))
        assert ours.names == truth.names
        for column in truth.names:
            np.testing.assert_allclose(ours[column], truth[column], rtol=1e-8, atol=1e-10, err_msg=column)


@pytest.mark.sampled
@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_measured_of_a_run_does_not_depend_on_its_company(name):
    run = {**SMALL, **SETTINGS[name], "metrics": "heavy", "dtype": "float32"}
    run.setdefault("model", {"hidden_dim": 5})
    data = run.get("data", {})
    several = [
        {**run, "data": {**data, "data_seed": seed % 3}, "training": {"batch_size": 7, "model_seed": seed}}
        for seed in range(20)
    ]
    together = dln.run_experiments(several)
    for seed in (0, 7, 19):
        alone = dln.run_experiment(several[seed])
        for column in alone.names:
            np.testing.assert_array_equal(together[seed][column], alone[column], err_msg=column)


@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_on_the_whole_training_set(bias):
    model = network(bias=bias)
    outputs = model(DATA.train_inputs).detach().numpy()
    np.testing.assert_allclose(value("full_train_loss", model), np.mean((outputs - Y) ** 2), rtol=1e-12)
    base = {"max_steps": 20, "dtype": "float64", "metrics": ["full_train_loss"], "model": {"bias": bias}}
    for engine in ("compiled", "autograd"):
        full = dln.run_experiment({**base, "engine": engine})
        np.testing.assert_allclose(full["full_train_loss"], full["train_loss"], rtol=1e-12)
        batches = dln.run_experiment({**base, "engine": engine, "training": {"batch_size": 10}})
        assert abs(batches["full_train_loss"] / batches["train_loss"] - 1).max() > 0.01
    with pytest.raises(ConfigError, match=r"full_train_loss.*MSELoss only, not for L1Loss$"):
        dln.run_experiment({**base, "training": {"criterion": "L1Loss"}})
