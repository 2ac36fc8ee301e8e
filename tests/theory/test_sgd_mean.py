"""Moments of SGD around gradient descent against matrices of all parameters, all orders of batches, and ensembles."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from dln.errors import ConfigError
from dln.theory import Problem, narrowed
from dln.theory.sgd_mean import sgd_mean
from dln.theory.sgd_noise import population_covariance
from tests.small_nets import balanced
from tests.theory.problems import problem

SHAPES = [(3, 2), (3, 4, 3, 2), (1, 7, 5, 1)]


def gradient(theta, shapes, x, y):
    """Gradient of the mean squared error by the chain rule, and the loss; `theta` may be complex."""
    sizes = [p * q for p, q in shapes]
    weights = [w.reshape(s) for w, s in zip(np.split(theta, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    hs = [x.T]
    for w in weights:
        hs.append(w @ hs[-1])
    e = hs[-1] - y.T
    g, found = 2 * e / y.size, []
    for w, h in zip(weights[::-1], hs[-2::-1], strict=True):
        found.insert(0, (g @ h.T).ravel())
        g = w.T @ g
    return np.concatenate(found), (e**2).sum() / y.size


def end_to_end(theta, shapes):
    sizes = [p * q for p, q in shapes]
    weights = [w.reshape(s) for w, s in zip(np.split(theta, np.cumsum(sizes)[:-1]), shapes, strict=True)]
    return np.linalg.multi_dot([*weights[::-1], np.eye(shapes[0][1])])


def taylor(function, theta, direction, degree):
    """Coefficients of t, t^2 of a polynomial along a line, from its values at roots of unity."""
    count = degree + 1
    roots = np.exp(2j * np.pi * np.arange(count) / count)
    values = np.array([function(theta + t * direction) for t in roots])
    return [np.tensordot(roots**-k, values, 1).real / count for k in (1, 2)]


class Dense:
    """The same moments with P of all parameters, H and D^3 L by values on complex circles."""

    def __init__(self, run: Problem):
        self.run, self.lr = run, run.lr[0]
        self.x, self.y = run.inputs[0], run.targets[0]
        self.shapes = [w.shape[1:] for w in run.layers]
        self.theta = np.concatenate([w[0].ravel() for w in run.layers])
        self.p, self.m = np.zeros((self.theta.size,) * 2), np.zeros(self.theta.size)

    def of(self, theta, rows=slice(None)):
        return gradient(theta, self.shapes, self.x[rows], self.y[rows])[0]

    def hessian(self, rows=slice(None)):
        step, axes = 1e-30, np.eye(self.theta.size)
        return np.array([self.of(self.theta + 1j * step * v, rows).imag / step for v in axes])

    def pull(self):
        """D^3 L[P] and D^2 W[P], by eigenpairs of P."""
        values, vectors = np.linalg.eigh(self.p)
        degree = 2 * len(self.shapes)
        third = sum(2 * w * taylor(self.of, self.theta, v, degree)[1] for w, v in zip(values, vectors.T, strict=True))
        ends = [taylor(lambda t: end_to_end(t, self.shapes), self.theta, v, degree)[1] for v in vectors.T]
        return third, sum(2 * w * end for w, end in zip(values, ends, strict=True))

    def gradients(self):
        return np.array([self.of(self.theta, [s]) for s in range(len(self.x))])

    def step(self):
        """A step of independent batches."""
        h, (third, _) = self.hessian(), self.pull()
        a, each = np.eye(len(h)) - self.lr * h, self.gradients()
        self.m = a @ self.m - self.lr / 2 * third
        self.p = a @ self.p @ a.T + self.lr**2 * np.cov(each.T, bias=True) / self.run.batch_size
        self.theta = self.theta - self.lr * each.mean(0)

    def describe(self):
        h, g = self.hessian(), self.of(self.theta)
        hp = h @ self.p
        spread = np.sqrt(g @ self.p @ g + np.trace(hp @ hp) / 2)
        first = taylor(lambda t: end_to_end(t, self.shapes), self.theta, self.m, 2 * len(self.shapes))[0]
        mean = end_to_end(self.theta, self.shapes) + first + self.pull()[1] / 2
        return g @ self.m + np.trace(hp) / 2, spread, mean


@pytest.mark.parametrize("widths", SHAPES)
def test_with_replacement_it_is_the_recursion_of_all_parameters(widths):
    run, steps = problem(widths, samples=7, lr=0.03, batch_size=2, sampling="replacement"), [0, 1, 2, 7]
    dense, found = Dense(run), sgd_mean(run, np.array(steps))
    for step in range(steps[-1] + 1):
        if step in steps:
            here = [found.columns[name][0, steps.index(step)] for name in ("excess_loss", "train_loss_std")]
            excess, spread, mean = dense.describe()
            np.testing.assert_allclose(here, (excess, spread), rtol=1e-7, atol=1e-14)
            np.testing.assert_allclose(found.maps[0, steps.index(step)], mean, rtol=1e-9)
        dense.step()


def members(run: Problem, batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses and maps of plain SGD after the steps of `batches` [M, n, B]; index N stands for no sample."""
    x = np.concatenate([run.inputs[0], np.zeros((1, run.dims[1]))])
    y = np.concatenate([run.targets[0], np.zeros((1, run.dims[0]))])
    weights = [np.repeat(w, len(batches), 0) for w in run.layers]
    for rows in np.moveaxis(batches, 1, 0):
        hs = [x[rows].mT]
        for w in weights:
            hs.append(w @ hs[-1])
        counts = (rows < run.samples).sum(1)[:, None, None]
        g, moved = 2 * (hs[-1] - y[rows].mT) / (counts * run.dims[0]), []
        for w, h in zip(weights[::-1], hs[-2::-1], strict=True):
            moved.insert(0, w - run.lr[0] * g @ h.mT)
            g = w.mT @ g
        weights = moved
    maps = weights[0]
    for w in weights[1:]:
        maps = w @ maps
    return ((run.inputs[0] @ maps.mT - run.targets[0]) ** 2).mean((1, 2)), maps


def epochs(samples: int, batch: int) -> list[tuple[tuple[int, ...], ...]]:
    """All epochs, as tuples of batches; a short one is filled up with N."""
    cut = range(0, samples, batch)
    full = [p + (samples,) * (-samples % batch) for p in permutations(range(samples))]
    return sorted({tuple(tuple(sorted(p[i : i + batch])) for i in cut) for p in full})


def errors(run: Problem, batches: np.ndarray) -> np.ndarray:
    """Relative errors of E L - L_GD, std L, E W - W_GD and the spread of W after some steps."""
    (losses, maps), steps = members(run, batches), np.array([batches.shape[1]])
    found, still = sgd_mean(run, steps), sgd_mean(replace(run, sampling="full"), steps)
    mean, spread = maps.mean(0), np.sqrt(((maps - maps.mean(0)) ** 2).sum((1, 2)).mean())
    excess = losses.mean() - still.columns["train_loss"].item()
    names = ("excess_loss", "train_loss_std", "map_std")
    ratios = np.array([found.columns[name].item() for name in names]) / (excess, losses.std(), spread)
    shift = np.linalg.norm(found.maps[0, 0] - mean) / np.linalg.norm(mean - still.maps[0, 0])
    return np.array([*np.abs(ratios - 1), shift])


def in_epochs(samples: int, batch: int, more: int) -> np.ndarray:
    """All ways through an epoch and `more` batches of the next one."""
    one = epochs(samples, batch)
    return np.array([a + b for a in one for b in sorted({b[:more] for b in one})])


ORDERS = {
    "replacement": (1, 3, 1, np.array([*product(range(3), repeat=4)])[:, :, None]),
    "one by one": (1, 4, 1, in_epochs(4, 1, 2)),
    "the last batch short": (2, 5, 2, in_epochs(5, 2, 1)),
    "inside an epoch": (2, 6, 2, np.array([a[:2] for a in epochs(6, 2)])),
}


@pytest.mark.parametrize("name", ORDERS)
def test_its_error_falls_as_the_learning_rate_over_all_orders_of_batches(name):
    seed, samples, batch, batches = ORDERS[name]
    sampling = "replacement" if name == "replacement" else "epochs"
    of = {"samples": samples, "batch_size": batch, "sampling": sampling, "seed": seed}
    wide, narrow = (errors(problem((2, 3, 2), lr=lr, **of), batches) for lr in (0.004, 0.002))
    assert (narrow < 0.005).all()
    assert (wide / narrow > 1.8).all()


def test_noise_on_targets_over_all_its_signs():
    signs, errors_of = np.array([*product([-1, 1], repeat=6)]).reshape(-1, 3, 2), []
    for lr in (0.004, 0.002):
        run = replace(problem((2, 3, 1), samples=2, lr=lr, seed=1), label_noise=np.array([0.5]))
        weights = [np.repeat(w, len(signs), 0) for w in run.layers]
        for step in range(3):
            h = weights[0] @ run.inputs[0].T
            e = weights[1] @ h - (run.targets[0].T + 0.5 * signs[:, step, None])
            weights = [weights[0] - lr * weights[1].mT @ e @ run.inputs[0], weights[1] - lr * e @ h.mT]
        maps = weights[1] @ weights[0]
        losses = ((run.inputs[0] @ maps.mT - run.targets[0]) ** 2).mean((1, 2))
        found = sgd_mean(run, np.array([3])).columns
        excess = losses.mean() - found["train_loss_gd"].item()
        errors_of.append([found["excess_loss"].item() / excess - 1, found["train_loss_std"].item() / losses.std() - 1])
    assert (np.abs(errors_of[1]) < 0.005).all()
    assert (np.abs(np.divide(*errors_of)) > 1.8).all()


def test_without_noise_it_is_gradient_descent():
    run = problem((3, 4, 2), lr=0.05)
    found = sgd_mean(run, np.arange(20))
    assert not found.columns["excess_loss"].any()
    assert not found.columns["map_std"].any()
    weights = [w[0] for w in run.layers]
    for step in range(20):
        np.testing.assert_allclose(found.maps[0, step], weights[1] @ weights[0], rtol=1e-12)
        g = (weights[1] @ weights[0] @ run.inputs[0].T - run.targets[0].T) @ run.inputs[0] / 12
        weights = [weights[0] - 0.05 * weights[1].T @ g, weights[1] - 0.05 * g @ weights[0].T]


@pytest.mark.parametrize("sampling", ["replacement", "epochs", "online"])
def test_a_run_has_the_same_digits_among_others(sampling):
    runs = problem((3, 4, 2), samples=6, lr=0.02, batch_size=2, sampling=sampling, runs=3)
    together = sgd_mean(runs, np.array([0, 3, 9]))
    for r in range(3):
        alone = sgd_mean(runs.of(r), np.array([0, 3, 9]))
        assert alone.maps[0].tobytes() == together.maps[r].tobytes()
        for mine, ours in ((alone.columns, together.columns), (alone.conditions, together.conditions)):
            assert all(mine[name][0].tobytes() == ours[name][r].tobytes() for name in ours)


def test_of_a_run_that_diverges_it_says_nothing_after():
    found = sgd_mean(problem((3, 4, 2), lr=3.0, batch_size=3, sampling="epochs"), np.array([0, 2, 60]))
    assert np.isfinite(found.maps[0, :2]).all()
    assert np.isnan(found.maps[0, 2]).all()
    assert np.isnan(found.columns["train_loss"][0, 2])
    assert found.conditions["lr_sharpness_per_sample"] > 0.5


def test_its_conditions_grow_with_the_noise():
    steps, of = np.arange(0, 120, 4), {"widths": (3, 4, 4, 2), "sampling": "replacement", "scale": 0.35}
    quiet, loud = (sgd_mean(problem(lr=0.01, batch_size=batch, **of), steps).conditions for batch in (200, 1))
    for name in ("noise_over_loss", "lr_sharpness_per_sample", "not_gaussian"):
        assert quiet[name][0] < 0.02
        assert loud[name][0] > 0.04


def test_members_are_told_apart_in_time_around_a_drop():
    steps = np.arange(0, 300, 10)
    found = sgd_mean(problem((4, 5, 5, 3), 24, 0.025, 10, "replacement", 0.35, 0.3, seed=3), steps).columns
    loss, flags = found["train_loss_gd"][0], found["not_gaussian"][0] == 1
    assert flags[(loss > 0.6) & (loss < 5)].all()  # the first modes are learned
    assert not flags[(loss > 0.35) & (loss < 0.5)].any()  # a plateau
    assert not flags[-5:].any()


def test_gradients_of_fresh_samples_by_quadrature():
    rng = np.random.default_rng(0)
    error, root = rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    points = np.array([*product(nodes, repeat=4)])
    chances = np.prod([*product(weights / weights.sum(), repeat=4)], 1)
    x = points[:, :2] @ root.T
    e = x @ error.T - 0.7 * points[:, 2:]
    each = (2 / 2 * e[:, :, None] * x[:, None, :]).reshape(-1, 4)
    expected = np.cov(each.T, aweights=chances, bias=True)
    np.testing.assert_allclose(population_covariance(error, root @ root.T, 0.7), expected, rtol=1e-12)


@pytest.mark.parametrize("change", [{"batch_size": None}, {"normal": np.array([False])}])
def test_online_batches_that_it_does_not_know(change):
    with pytest.raises(ConfigError, match="online"):
        sgd_mean(replace(problem(sampling="online", batch_size=2), **change), np.arange(3))


@pytest.mark.parametrize("widths", [(3, 40, 2), (2, 30, 30, 2)])
def test_wide_nets_that_a_narrow_one_equals(widths):
    wide = problem(widths, samples=8, lr=0.02, batch_size=2, sampling="epochs", scale=0.2)
    if len(widths) == 4:  # balanced
        wide = replace(wide, layers=[w[None] for w in balanced([1.0, 0.4], 30, 3)])
    narrow = narrowed([w[0] for w in wide.layers])
    assert max(w.shape[0] for w in narrow) == (5 if len(widths) == 3 else 2)
    batches = np.random.default_rng(0).integers(8, size=(3, 30, 2))
    for a, b in zip(
        members(wide, batches), members(replace(wide, layers=[w[None] for w in narrow]), batches), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_random_deep_net_is_as_narrow_as_it_can_be():
    layers = [w[0] for w in problem((2, 6, 6, 2)).layers]
    assert all(a is b for a, b in zip(narrowed(layers), layers, strict=True))


@pytest.mark.parametrize(("sampling", "samples"), [("replacement", 12), ("online", 12), ("epochs", 54)])
def test_steps_that_are_taken_together_err_as_the_square_of_their_number(sampling, samples):
    run = problem((3, 4, 2), samples=samples, lr=0.008, batch_size=2, sampling=sampling, seed=1)
    found = [sgd_mean(run, np.array([36, 45]), stride) for stride in (1, 3, 9)]
    for name in ("excess_loss", "train_loss_std", "map_std"):
        truth, near, far = (prediction.columns[name][0] for prediction in found)
        np.testing.assert_allclose(near, truth, rtol=0.04)
        np.testing.assert_allclose((far - truth) / (near - truth), (9**2 - 1) / (3**2 - 1), rtol=0.15)
    assert found[0].conditions["stride_lr_sharpness"] == 0
    assert found[2].conditions["stride_lr_sharpness"] > 0.1


def test_between_strides_it_interpolates_and_keeps_the_path():
    run = problem((3, 4, 2), lr=0.004, batch_size=2, sampling="replacement")
    whole, some = sgd_mean(run, np.arange(21), 5), sgd_mean(run, np.array([5, 10]), 5)
    for name in ("excess_loss", "train_loss_std", "map_std", "train_loss_gd"):
        np.testing.assert_array_equal(whole.columns[name][0, [5, 10]], some.columns[name][0])
    np.testing.assert_allclose(whole.columns["excess_loss"][0, 7], some.columns["excess_loss"][0] @ [0.6, 0.4])
    np.testing.assert_array_equal(whole.columns["train_loss_gd"], sgd_mean(run, np.arange(21)).columns["train_loss_gd"])


def test_ends_of_epochs_are_marked():
    of = {"samples": 5, "batch_size": 2}
    epochs, independent = (sgd_mean(problem(sampling=way, **of), np.arange(8)) for way in ("epochs", "replacement"))
    assert np.flatnonzero(epochs.columns["epoch_end"][0]).tolist() == [3, 6]
    assert not independent.columns["epoch_end"].any()


def test_strides_beyond_half_an_epoch():
    with pytest.raises(ConfigError, match=r"stride .* at most 3, and it is 4; use a smaller one"):
        sgd_mean(problem(samples=12, batch_size=2, sampling="epochs"), np.arange(3), 4)


def test_large_nets_take_steps_as_large_as_their_sharpness_lets_them():
    run = problem((3, 25, 25, 2), lr=0.002, batch_size=2, sampling="replacement", scale=0.25)
    steps = np.array([20, 60])
    found, exact = sgd_mean(run, steps), sgd_mean(run, steps, 1)
    assert 0.3 < found.conditions["stride_lr_sharpness"] <= 0.5
    for name in ("excess_loss", "train_loss_std", "map_std"):
        np.testing.assert_allclose(found.columns[name], exact.columns[name], rtol=0.03)
    short = sgd_mean(replace(run, sampling="epochs"), steps).conditions  # epochs of six steps
    assert short["stride_lr_sharpness"] == pytest.approx(3 * 2 * short["lr_sharpness_per_sample"])
