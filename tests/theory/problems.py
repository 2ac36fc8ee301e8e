"""Small problems for theories: a net at its start, and data, as `dln.theory` takes them."""

from dataclasses import replace
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


def aligned_problem(
    strength=(3.0, 2.0, 1.0),
    start=(0.1, 0.2, 0.3),
    depth=3,
    width=5,
    ends=(3, 3),
    samples=12,
    lr=0.01,
    sampling="full",
    seed=0,
    **how,
):
    """One run from an aligned, balanced start on white inputs; `ends` are d_in and d_out, `how` other fields."""
    rng = np.random.default_rng(seed)
    modes = len(strength)
    bases = [basis(rng, n, modes) for n in (ends[0], *[width] * (depth - 1), ends[1])]
    root = np.abs(start) ** (1 / depth)
    layers = [after * root @ before.T for before, after in pairwise(bases)]
    layers[0] = bases[1] * np.sign(start) * root @ bases[0].T
    teacher = (bases[-1] * strength @ bases[0].T)[None]
    square = (teacher**2).sum((1, 2))
    how = {"lr": np.array([lr]), "sampling": sampling, "seeds": np.array([seed]), **how}
    if sampling != "online":
        x = np.sqrt(samples) * basis(rng, samples, ends[0])[None]
        how |= {"inputs": x, "targets": x @ teacher.mT}
    return Problem([w[None] for w in layers], np.eye(ends[0])[None], teacher, square, **how)


def basis(rng, rows, columns):
    """Orthonormal columns; where there are more of them than rows, zeros for the others."""
    q = np.linalg.qr(rng.standard_normal((rows, min(rows, columns))))[0]
    return np.pad(q, ((0, 0), (0, max(columns - rows, 0))))


def together(*problems):
    """Several runs as one problem."""
    first = problems[0]
    stacked = {
        name: np.concatenate([getattr(p, name) for p in problems])
        for name in ("sigma", "sigma_yx", "target_square", "lr", "seeds", "noise_std", "label_noise")
    }
    for name in ("inputs", "targets"):
        stacked[name] = None if first.inputs is None else np.concatenate([getattr(p, name) for p in problems])
    layers = [np.concatenate(ws) for ws in zip(*(p.layers for p in problems), strict=True)]
    return replace(first, layers=layers, **stacked)
