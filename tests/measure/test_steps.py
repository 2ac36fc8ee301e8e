"""Metrics of steps of finite size, and of the line between two models, against numpy, autograd and closed forms."""

import itertools

import numpy as np
import pytest
import torch

import dln
from dln.config import MetricConfig
from dln.derivatives.hessian import least_sharpness, top_eigenvalues
from dln.errors import ConfigError
from dln.ingredients.edge import Optimizer
from dln.measure.instruments.steps import plain_steps
from dln.measure.metric import MODEL_METRICS, Metric
from dln.model import DeepLinearNetwork
from tests.small_nets import balanced
from tests.test_metrics import BATCH, DATA, MOMENTUM, RATE, columns, network, others_of, supply, value

X, Y = DATA.train_inputs, DATA.train_targets


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def along_the_gradient(model, rows):
    """G'Hg / g'g by two passes of autograd."""
    parameters = list(model.parameters())
    loss = torch.nn.functional.mse_loss(model(X[rows]), Y[rows])
    g = torch.autograd.grad(loss, parameters, create_graph=True)
    direction = [each.detach() for each in g]
    product = torch.autograd.grad(sum((a * b).sum() for a, b in zip(g, direction, strict=True)), parameters)
    return (flat(product) @ flat(direction) / (flat(direction) @ flat(direction))).item()


@pytest.mark.parametrize("bias", [False, True])
def test_curvature_along_the_gradient(bias):
    model = network(bias=bias)
    np.testing.assert_allclose(value("batch_sharpness", model), along_the_gradient(model, slice(BATCH)))
    np.testing.assert_allclose(value("gradient_sharpness", model), along_the_gradient(model, slice(None)))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [1, 6, 20, 50])
def test_its_mean_over_the_batches_that_the_set_is_cut_into(bias, size):
    model, n = network(bias=bias), len(X)
    starts = range(0, n - min(size, n) + 1, size)
    each = [along_the_gradient(model, slice(start, start + size)) for start in starts]
    np.testing.assert_allclose(value("mean_batch_sharpness", model, size=size), np.mean(each))
    each = [along_the_gradient(model, slice(start, start + BATCH)) for start in range(0, n - BATCH + 1, BATCH)]
    np.testing.assert_allclose(value("mean_batch_sharpness", model), np.mean(each))


def test_what_regularises_is_the_mean_over_batches_of_squared_gradients():
    """(lr / 4) E_b ||g_b||^2 over all batches of two is the regulariser of the whole set and that of the noise."""
    model = network()
    given = supply(model)
    given = type(given)({**given._given, "optimizer": Optimizer("SGD", {})})

    def batch_gradient(rows):
        loss = torch.nn.functional.mse_loss(model(X[list(rows)]), Y[list(rows)])
        return flat(torch.autograd.grad(loss, list(model.parameters())))

    whole = batch_gradient(range(len(X)))
    batches = [batch_gradient(rows) for rows in itertools.combinations(range(len(X)), 2)]
    (ours,) = columns("implicit_regularizer", given).values()
    (noise,) = columns("noise_regularizer", given, batch_size=2).values()
    np.testing.assert_allclose(ours, RATE / 4 * (whole @ whole).item())
    np.testing.assert_allclose(ours + noise, RATE / 4 * np.mean([(g @ g).item() for g in batches]))


def test_descent_follows_the_flow_of_the_regularised_loss():
    """At a fixed time, flow on L + (lr / 4) ||g||^2 is nearer to descent by an order: half the lr, a quarter as far."""
    model = network()

    def field(flat_weights, lr):
        parts = flat_weights.split([w.numel() for w in model.weights])
        weights = [p.reshape(w.shape) for p, w in zip(parts, model.weights, strict=True)]
        leaves = [w.detach().requires_grad_() for w in weights]
        outputs = X
        for w in leaves:
            outputs = outputs @ w.T
        g = torch.autograd.grad(torch.nn.functional.mse_loss(outputs, Y), leaves, create_graph=True)
        total = sum((each**2).sum() for each in g)
        more = torch.autograd.grad(total, leaves) if lr else [torch.zeros_like(w) for w in leaves]
        return -flat(g).detach() - lr / 4 * flat(more)

    def flow(lr, time, steps=16):
        x, h = flat(w.detach() for w in model.weights), time / steps
        for _ in range(steps):
            a = field(x, lr)
            b = field(x + h / 2 * a, lr)
            c = field(x + h / 2 * b, lr)
            x = x + h / 6 * (a + 2 * b + 2 * c + field(x + h * c, lr))
        return x

    def descent(lr, time):
        x = flat(w.detach() for w in model.weights)
        for _ in range(round(time / lr)):
            x = x + lr * field(x, 0)
        return x

    time = 0.02
    errors = [(flow(lr, time) - descent(lr, time)).norm().item() for lr in (0.004, 0.002, 0.001)]
    ratios = [a / b for a, b in itertools.pairwise(errors)]
    np.testing.assert_allclose(ratios, 4, rtol=0.1)
    assert errors[0] < 0.1 * (flow(0, time) - descent(0.004, time)).norm()


def test_the_edge_is_where_stability_is_one():
    model = network()
    np.testing.assert_allclose(value("edge_of_stability", model), 2 * (1 + MOMENTUM) / RATE)
    np.testing.assert_allclose(value("sharpness", model) / value("edge_of_stability", model), value("stability", model))
    decaying = supply(model)
    decaying = type(decaying)({**decaying._given, "optimizer": Optimizer("SGD", {"weight_decay": 0.5})})
    np.testing.assert_allclose(*columns("edge_of_stability", decaying).values(), 2 / RATE - 0.5)


@pytest.mark.parametrize("bias", [False, True])
def test_midway_between_two_steps(bias):
    model = network(bias=bias)
    previous = others_of(model)["previous"]
    pairs = ((a, b) for a, b in zip(model.parameters(), previous.parameters(), strict=True))
    middle = network(bias=bias)
    with torch.no_grad():
        for p, (a, b) in zip(middle.parameters(), pairs, strict=True):
            p.copy_((a + b) / 2)
        loss = torch.nn.functional.mse_loss(middle(X), Y)
    np.testing.assert_allclose(value("midpoint_loss", model), loss)
    np.testing.assert_allclose(value("midpoint_strengths", model), value("mode_strengths", middle))
    np.testing.assert_allclose(value("midpoint_strengths", model, top=2), value("mode_strengths", middle)[:2])


# --- no minimum is less sharp


def minimum(optimum, depth, seed):
    """Layers of a random minimum, as wide as needed and far from balanced."""
    rng = np.random.default_rng(seed)
    widths = [optimum.shape[1], *[5] * (depth - 1)]
    layers = [rng.standard_normal((5, before)) for before in widths[:-1]]
    below = np.eye(widths[0])
    for w in layers:
        below = w @ below
    return [*layers, optimum @ np.linalg.pinv(below)]


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("white", [False, True])
def test_random_minima_are_at_least_so_sharp(depth, white):
    rng = np.random.default_rng(depth)
    for seed in range(10):
        optimum, root = rng.standard_normal((3, 4)), rng.standard_normal((4, 4))
        sigma = np.eye(4) if white else root @ root.T
        layers = minimum(optimum, depth, seed)
        found = top_eigenvalues(layers, sigma, optimum @ sigma)[0]
        bound = least_sharpness(sigma, optimum @ sigma, depth)
        assert found >= bound * (1 - 1e-12)
        if depth == 1:
            np.testing.assert_allclose(found, bound)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_balanced_minimum_of_white_inputs_is_the_flattest(depth):
    layers = balanced([5.0, 2.0, 1.0], 6, depth)
    optimum = np.linalg.multi_dot(layers[::-1]) if depth > 1 else layers[0]
    bound = least_sharpness(np.eye(3), optimum, depth)
    np.testing.assert_allclose(bound, 2 * depth / 3 * 5 ** (2 - 2 / depth))
    np.testing.assert_allclose(top_eigenvalues(layers, np.eye(3), optimum)[0], bound)


def test_directions_without_inputs_count_for_nothing():
    sigma, optimum = np.diag([2.0, 1.0, 0.0]), np.diag([3.0, 1.0, 100.0])
    expected = least_sharpness(sigma[:2, :2], optimum[:, :2] @ sigma[:2, :2], 3)
    np.testing.assert_allclose(least_sharpness(sigma, optimum @ sigma, 3), expected)


def test_the_metric_is_that_bound_and_refuses_nets_that_it_is_not_true_of():
    x, y = X.numpy(), Y.numpy()
    expected = least_sharpness(x.T @ x / len(x), y.T @ x / len(x), 3)
    np.testing.assert_allclose(value("least_sharpness", network()), expected)
    metric = Metric(MODEL_METRICS, MetricConfig("least_sharpness"))
    with pytest.raises(ConfigError, match="without biases"):
        metric.check_fit(network(bias=True).shapes)
    with pytest.raises(ConfigError, match=r"at least as wide as .* 3, not 2"):
        metric.check_fit(DeepLinearNetwork(4, 2, 2, 3).shapes)


# --- the line between two models


@pytest.mark.parametrize("bias", [False, True])
def test_losses_along_a_line(bias):
    a, b, between = (network(seed, bias) for seed in (0, 1, 0))
    shares, losses = np.linspace(0, 1, 7), []
    for share in shares:
        with torch.no_grad():
            for p, x, y in zip(between.parameters(), a.parameters(), b.parameters(), strict=True):
                p.copy_((1 - share) * x + share * y)
            losses.append(torch.nn.functional.mse_loss(between(X), Y).item())
    np.testing.assert_allclose(value("line_losses", a, b, points=7), losses)
    barrier = np.max(losses - (losses[0] + shares * (losses[-1] - losses[0])))
    np.testing.assert_allclose(value("line_barrier", a, b, points=7), barrier)
    assert value("line_barrier", a, a) == 0


def test_two_minima_of_turned_hidden_units_have_a_barrier_and_one_of_one_layer_has_none():
    fit = np.linalg.lstsq(X.numpy(), Y.numpy())[0].T
    turn = np.diag([-1.0, 1.0, 1.0, 1.0])
    a, b = (DeepLinearNetwork.from_weights([q, fit @ q], dtype=torch.float64) for q in (np.eye(4), turn))
    assert value("line_barrier", a, b) > 0.01
    one, other = (DeepLinearNetwork.from_weights([w], dtype=torch.float64) for w in (fit, 2 * fit))
    assert value("line_barrier", one, other) == 0  # convex


# --- under both engines


NAMES = ["implicit_regularizer", "noise_regularizer", "edge_of_stability"]
NAMES += ["mean_batch_sharpness", "batch_sharpness", "gradient_sharpness"]
NAMES += ["midpoint_loss", "midpoint_strengths", {"name": "gradient_sharpness", "params": {"of": "test"}}]


@pytest.mark.parametrize(
    "more",
    [
        {"training": {"batch_size": 7, "lr": 0.02}},
        {"training": {"batch_size": 7, "lr": 0.02}, "model": {"bias": True}},
        {"training": {"lr": 0.02}},
        {"training": {"batch_size": 7, "lr": 0.02, "label_noise": 0.5}},
        {"training": {"batch_size": 5, "lr": 0.02}, "data": {"online": True, "test_samples": 50}},
    ],
    ids=["batches", "biases", "full", "noise", "online"],
)
def test_both_engines_see_the_same(more):
    own = {"hidden_dim": 6, **more.get("model", {})}
    of = ["noise_regularizer", "midpoint_loss", "mean_batch_sharpness"] if "data" in more else []
    names = [n for n in NAMES if n not in of]
    names += [{"name": n, "params": {"of": s}} for n, s in zip(of, ("population", "test", "test"), strict=False)]
    run = {"max_steps": 20, "evaluate_every": 3, "dtype": "float64", **more, "model": own, "metrics": names}
    ours, theirs = (dln.run_experiment({**run, "engine": engine}) for engine in ("compiled", "autograd"))
    for name in ours.names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-8, atol=1e-12, err_msg=name)
    assert np.isnan(ours["midpoint_strengths"][0]).all()


def test_batches_of_two_sizes_in_one_ensemble_keep_their_own_sharpness():
    run = {
        "max_steps": 12,
        "evaluate_every": 4,
        "dtype": "float64",
        "metrics": ["batch_sharpness", "mean_batch_sharpness"],
    }
    runs = [{**run, "training": {"batch_size": size}, "model": {"hidden_dim": 6}} for size in (3, 8, None)]
    for together, config in zip(dln.run_experiments(runs), runs, strict=True):
        alone = dln.run_experiment({**config, "engine": "compiled"})
        for name in run["metrics"]:
            np.testing.assert_allclose(together[name], alone[name], rtol=1e-12)


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"optimizer": "Adam"}, "not for Adam"),
        ({"optimizer_params": {"momentum": 0.5}}, "not with momentum=0.5"),
        ({"lr_factors": [1, 2, 1]}, "not with lr_factors"),
    ],
)
def test_regularisers_of_other_optimizers_are_refused(training, told):
    run = {"max_steps": 2, "model": {"num_hidden": 2}, "metrics": ["implicit_regularizer"], "training": training}
    with pytest.raises(ConfigError, match=told):
        dln.run_experiment(run)
    plain_steps(Optimizer("SGD", {"momentum": 0, "nesterov": False}))
