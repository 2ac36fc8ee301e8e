"""SGD as a stochastic differential equation with its exact noise: d theta = -g dtau + sqrt(lr C_B) dw, tau = lr n.

By Euler and Maruyama, in steps of h = lr / k: theta <- theta - h g + sqrt(h lr) xi, Cov xi = C_B, the covariance of a
batch's gradient. At k = 1 it is SGD with Gaussian noise in place of a batch's: what differs is what the shape of the
noise does. With larger k what differs more is what finite steps do.

The noise is never a matrix of all parameters: offline it is that of a gradient with random weights of the samples,
online one of the end-to-end map, which has the fourth moments of Gaussian inputs; so a step costs what one of SGD does.
It grows with the loss, so single draws run away at learning rates where no run of SGD does: they are counted, and the
others told of.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Annotated

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.registry import Bounds
from dln.base.streams import stream
from dln.derivatives.gradient_noise import batch_factor
from dln.derivatives.hessian import top_eigenvalues
from dln.derivatives.products import Chain, half
from dln.theory.narrow import narrowed
from dln.theory.sgd_noise import sizes
from dln.theory.theory import Prediction, Problem, register_theory, stacked

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

AWAY = 1e3
"""How many times the loss at the start, or that of the zero map, a draw's loss may be before it counts as diverged, and
is followed no further."""

LOOKS = 5
"""At how many steps of a draw its sharpness is found."""


NAMES = ("train_loss", "train_loss_median", "train_loss_std", "map_std", "diverged")
"""Columns, in the order of `_described`."""


@register_theory("sde", columns=NAMES, cost="heavy", source="arXiv 1511.06251, with the noise of every batch")
def sde(
    problem: Problem,
    steps: Int[np.ndarray, " T"],
    substeps: Annotated[int, Bounds(least=1)] = 1,
    members: Annotated[int, Bounds(least=2)] = 100,
) -> Prediction:
    """SGD's stochastic differential equation: mean, median and spread of the loss over draws of it.

    `members` draws by Euler and Maruyama in steps of lr / `substeps`, their noise exactly that of the run's batches:
    1 shows whether Gaussian noise is enough, 8 or more what finite steps do. Heavy: a draw costs what a run does, and
    there are `members` of them. Draws are of the model's seed, the same for all batch seeds and any choice of records.

    Columns: `train_loss` (mean), `train_loss_median`, `train_loss_std` over draws, `map_std`, the root of
    E ||W - E W||_F^2, and `diverged`, the share of draws that have run away; mean and spread are of the others, the
    median of all.

    Conditions: `standard_error`, the largest of the mean loss, relatively; `lr_sharpness_per_sample`, the largest
    lr lambda_max / B along a draw, on which the spread's error depends (a few percent at 0.2); `diverged`, the last
    share; and `in_epochs`, 1 for a run in epochs: the equation's noise is independent at every step, and spreads 10 to
    100 times further than batches that make up for one another do.
    """
    runs = map(problem.of, range(len(problem)))
    return stacked([_run(run, [*map(int, steps)], substeps, members) for run in runs])


@uniform()
def _run(run: Problem, steps: list[int], substeps: int, members: int) -> Prediction:
    """Return what is said of one run."""
    batch, last, rng = sizes(run)[0], max(steps), stream(int(run.seeds[0]), "sde")
    size, looks = run.lr[0] / substeps, {*np.linspace(0, last, LOOKS).astype(int).tolist()}
    layers = [np.repeat(w[None], members, 0) for w in narrowed([w[0] for w in run.layers])]
    rows = {step: i for i, step in enumerate(steps)}
    maps, found = np.full((len(steps), *run.dims), np.nan), np.full((len(steps), len(NAMES)), np.nan)
    scatter = np.full((len(steps), *run.dims[1:] * 2), np.nan)
    sharpness = []
    limit = AWAY * run.losses(np.stack([run.start[0], 0 * run.start[0]])[None]).max()
    for step in range(last + 1):
        ends = reduce(lambda below, w: w @ below, layers)
        away = ~(run.losses(ends[None])[0] <= limit)
        if away.any():
            ends, *layers = (np.where(away[:, None, None], np.nan, w) for w in (ends, *layers))
        if step in rows:
            row = rows[step]
            maps[row], scatter[row], found[row] = _described(run, ends)
        if step in looks:
            sharpness.append(top_eigenvalues([w[0] for w in layers], run.sigma[0], run.sigma_yx[0])[0])
        for _ in range(substeps if step < last else 0):
            chain = Chain(layers)
            error = noisy_errors(run, chain.end, batch, substeps, draws(run, members, rng))
            layers = [w - size * g for w, g in zip(chain.layers, chain.pulled(error), strict=True)]
    columns: dict[str, np.ndarray] = dict(zip(NAMES, found.T, strict=True))
    error = columns["train_loss_std"] / np.sqrt(members) / columns["train_loss"]
    conditions = {
        "standard_error": np.nanmax(error, initial=0.0),
        "lr_sharpness_per_sample": run.lr[0] * np.nanmax(sharpness, initial=0.0) / batch,
        "diverged": columns["diverged"][-1],
        "in_epochs": np.array(run.sampling == "epochs", float),
    }
    return Prediction(maps, columns, conditions, scatter)


def _described(run: Problem, maps: Float64[np.ndarray, "M out in"]) -> tuple[np.ndarray, np.ndarray, list]:
    """Return the mean map, the scatter around it, and the numbers of NAMES."""
    losses = run.losses(maps[None])[0]
    here = np.isfinite(losses)
    if not here.any():
        return np.full(run.dims, np.nan), np.full(run.dims[1:] * 2, np.nan), [np.nan] * 4 + [1.0]
    mean = maps[here].mean(0)
    off = maps[here] - mean
    scatter, spread = (off.mT @ off).mean(0), np.sqrt((off**2).sum((1, 2)).mean())
    median = np.median(np.where(here, losses, np.inf))
    some = losses[here]
    return mean, scatter, [some.mean(), median if np.isfinite(median) else np.nan, some.std(), spread, 1 - here.mean()]


def draws(run: Problem, members: int, rng: np.random.Generator) -> list[Float64[np.ndarray, "M ..."]]:
    """Return standard normal numbers for a step of all members: of the batch, and of noise on targets."""
    outputs, inputs = run.dims
    shapes = {"online": (inputs, inputs), "full": (0,)}
    of_batch = rng.standard_normal((members, *shapes.get(run.sampling, (run.samples or 0,))))
    noisy = run.label_noise[0] or (run.sampling == "online" and run.noise_std[0])
    return [of_batch, rng.standard_normal((members, outputs, inputs) if noisy else (members, 0, 0))]


def noisy_errors(
    run: Problem,
    maps: Float64[np.ndarray, "M out in"],
    batch: int,
    substeps: int,
    normal: list[Float64[np.ndarray, "M ..."]],
) -> Float64[np.ndarray, "M out in"]:
    """Return G of each member with the noise of one substep: the gradient of the loss with respect to the map.

    Offline samples have the weights 1/N + sqrt(f k / N) (z_s - mean z), f the factor of `batch_factor`. Online
    (2 / d_out) (k / B)^(1/2) E Sigma^(1/2) (Z + Z') / 2^(1/2) Sigma^(1/2) is added to G. Noise of standard deviation s
    on targets adds (2 / d_out) (k / B)^(1/2) s Z Sigma^(1/2), another Z.

    Args:
        run: A problem of one run.
        maps: W of each member.
        batch: B.
        substeps: k.
        normal: Those of `draws`.
    """
    z, of_targets = normal
    sigma, scale = run.sigma[0], 2 / run.dims[0]
    root, strength = half(sigma), np.sqrt(substeps / batch)
    std = run.label_noise[0]
    if run.sampling == "online":
        wrong, std = maps - run.optimum[0], np.hypot(std, run.noise_std[0])
        found = wrong @ sigma + strength / np.sqrt(2) * wrong @ root @ (z + z.mT) @ root.T
    elif z.shape[1]:
        assert run.inputs is not None
        assert run.targets is not None
        x, n = run.inputs[0], run.inputs.shape[1]
        factor = batch_factor(batch, n, replacement=run.sampling == "replacement")
        weights = 1 / n + np.sqrt(factor * substeps / n) * (z - z.mean(1, keepdims=True))
        found = (weights[:, :, None] * (x @ maps.mT - run.targets[0])).mT @ x
    else:
        found = maps @ sigma - run.sigma_yx[0]
    if of_targets.size:
        found = found + strength * std * of_targets @ root.T
    return scale * found
