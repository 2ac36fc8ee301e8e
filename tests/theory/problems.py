"""Small problems for theories: a net at its start, and data, as `dln.theory` takes them."""

from itertools import pairwise

import numpy as np

from dln.theory import Problem


def problem(
    widths=(3, 4, 2), samples=12, lr=0.01, batch_size=None, sampling="full", scale=0.6, noise=0.1, runs=1, seed=0
) -> Problem:
    """Runs of random nets on random linear teachers; of online data, inputs are standard normal."""
    rng = np.random.default_rng(seed)
    layers = [scale * rng.standard_normal((runs, after, before)) for before, after in pairwise(widths)]
    teacher = rng.standard_normal((runs, widths[-1], widths[0]))
    how = {"lr": np.full(runs, lr), "sampling": sampling, "batch_size": batch_size, "label_noise": np.zeros(runs)}
    how |= {"seeds": np.arange(runs)}
    if sampling == "online":
        sigma = np.broadcast_to(np.eye(widths[0]), (runs, widths[0], widths[0]))
        square = (teacher**2).sum((1, 2)) + widths[-1] * noise**2
        return Problem(layers, sigma, teacher, square, noise_std=np.full(runs, noise), **how)
    x = rng.standard_normal((runs, samples, widths[0]))
    y = x @ teacher.mT + noise * rng.standard_normal((runs, samples, widths[-1]))
    square = (y**2).sum((1, 2)) / samples
    how |= {"inputs": x, "targets": y, "noise_std": np.zeros(runs)}
    return Problem(layers, x.mT @ x / samples, y.mT @ x / samples, square, **how)
