"""Moments of SGD around gradient descent against matrices of all parameters, all orders of batches, and ensembles."""

from itertools import permutations, product

import numpy as np
import pytest
from tests.theory.problems import problem

from dln.theory import Problem
from dln.theory.sgd_mean import moments_around_gd, sgd_mean

SHAPES = [(3, 2), (2, 3, 2), (3, 4, 3, 2)]


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

    def replace(self):
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
    run = problem(widths, samples=7, lr=0.03, batch_size=2, sampling="replacement")
    dense, found = Dense(run), sgd_mean(run, [0, 1, 2, 25])
    for step in range(26):
        if step in (0, 1, 2, 25):
            i = [0, 1, 2, 25].index(step)
            excess, spread, mean = dense.describe()
            np.testing.assert_allclose(found.columns["excess_loss"][0, i], excess, rtol=1e-7, atol=1e-14)
            np.testing.assert_allclose(found.columns["train_loss_std"][0, i], spread, rtol=1e-7, atol=1e-14)
            np.testing.assert_allclose(found.maps[0, i], mean, rtol=1e-9)
        dense.replace()


def members(run: Problem, orders) -> tuple[np.ndarray, np.ndarray]:
    """Losses [orders, steps + 1] and maps of plain SGD for each order of batches, a list of lists of rows."""
    dense, losses, maps = Dense(run), [], []
    for order in orders:
        theta, seen = dense.theta, []
        for rows in [*order, None]:
            seen.append((gradient(theta, dense.shapes, dense.x, dense.y)[1], end_to_end(theta, dense.shapes)))
            theta = theta - dense.lr * dense.of(theta, rows) if rows is not None else theta
        losses.append([loss for loss, _ in seen])
        maps.append([end for _, end in seen])
    return np.array(losses), np.array(maps)


def epochs(samples, batch):
    """All orders of one epoch, as batches that are sets."""
    cut = range(0, samples, batch)
    orders = {tuple(tuple(sorted(p[i : i + batch])) for i in cut) for p in permutations(range(samples))}
    return [[list(rows) for rows in order] for order in sorted(orders)]


def errors(run: Problem, orders, steps):
    """Relative errors of E L - L_GD, std L, E W - W_GD and the spread of W at the last of `steps` steps."""
    losses, maps = (x[:, -1] for x in members(run, orders))
    found = sgd_mean(run, [steps])
    still = sgd_mean(Problem(**{**vars(run), "sampling": "full", "batch_size": None}), [steps]).maps[0, 0]
    spread = np.sqrt(((maps - maps.mean(0)) ** 2).sum((1, 2)).mean())
    pairs = [
        (found.columns["excess_loss"][0, 0], losses.mean() - found.columns["train_loss_gd"][0, 0]),
        (found.columns["train_loss_std"][0, 0], losses.std()),
        (found.columns["map_std"][0, 0], spread),
        (np.linalg.norm(found.maps[0, 0] - maps.mean(0)) + np.linalg.norm(maps.mean(0) - still), np.linalg.norm(maps.mean(0) - still)),
    ]
    return np.array([abs(theory / truth - 1) for theory, truth in pairs])


CASES = {
    "replacement": (3, 1, 4, lambda: [[[a], [b], [c], [d]] for a, b, c, d in product(range(3), repeat=4)]),
    "epochs, one by one": (4, 1, 6, lambda: [a + b[:2] for a in epochs(4, 1) for b in epochs(4, 1)]),
    "epochs, the last batch short": (5, 2, 5, lambda: [a + b[:2] for a in epochs(5, 2) for b in epochs(5, 2)]),
    "mid-epoch": (5, 2, 2, lambda: [a[:2] for a in epochs(5, 2)]),
}


@pytest.mark.parametrize("name", CASES)
def test_its_error_falls_with_the_learning_rate_over_all_orders_of_batches(name):
    samples, batch, steps, orders = CASES[name]
    sampling = "replacement" if name == "replacement" else "epochs"
    found = []
    for lr in (0.02, 0.01, 0.005):
        run = problem((2, 3, 2), samples=samples, lr=lr, batch_size=batch, sampling=sampling, seed=1)
        found.append(errors(run, orders(), steps))
    print(name, found)
