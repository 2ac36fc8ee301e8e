"""Mean and spread of SGD around gradient descent, to first order in the noise.

Along the path theta_n of full-batch gradient descent, with g, H and D^3 L the derivatives of the loss there and
A = I - lr H, the deviation of SGD has the covariance P and the mean m, and

    P <- A P A' + lr^2 C_B,                m <- A m - (lr / 2) D^3 L[P],
    E L_SGD - L_GD = g . m + tr(H P) / 2,  Var L_SGD = g' P g + tr(H P H P) / 2,

C_B the covariance of a batch's gradient. That is right where batches are independent of each other: with replacement,
online, or where only noise on the targets is drawn. In epochs a sample that was seen will not come again: within one

    P = A .. P_start .. A' + lr^2 [sum_k D_k / (B_k (N - 1)) - U U' / (N (N - 1))],
    m <- A m - lr [D^3 L[P] / 2 + lr / (N (N - 1)) sum_s H_s U_s],

where U_s is the sum over the batches k so far of the deviation of sample s' gradient from the mean, carried on by A,
and D_k the sum over samples of the squares of batch k's. At the end of an epoch the bracket cancels to leading order:
what is left of the spread there is right in size only (some 10% low for the standard deviation).

P is kept as Z F Z' (`dln.theory.spread`), because its rank is small: noise is of rank d_out d_in at any width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.derivatives.hessian import HessianProduct, top_eigenvalues
from dln.derivatives.products import Chain
from dln.theory.narrow import narrowed
from dln.theory.response import Layers, Response, units
from dln.theory.sgd_noise import batch_covariance, deviations, singly, sizes
from dln.theory.spread import Spread
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True)
class Moments:
    """SGD around gradient descent at one step, to first order in the noise."""

    step: int
    chain: Chain
    """Gradient descent (of a narrower network that learns alike, see `dln.theory.narrow`)."""
    response: Response
    """How they answer to the displacements Z."""
    covariance: Float64[np.ndarray, "K K"]
    """F of P = Z F Z'."""
    shift: Layers
    """m."""
    ends_epoch: bool


def moments_around_gd(problem: Problem, last: int) -> Iterator[Moments]:
    """Yield mean and covariance of SGD around gradient descent at steps 0, ..., `last`, for a problem of one run.

    It ends early where gradient descent diverges.
    """
    batches, lr, sigma = sizes(problem), problem.lr[0], problem.sigma[0]
    epochs = problem.sampling == "epochs" and len(batches) > 1
    layers = narrowed([w[0] for w in problem.layers])
    spread = Spread([w.shape for w in layers], problem.samples or 0 if epochs else 0)
    shift: Layers = [np.zeros_like(w) for w in layers]
    for step in range(last + 1):
        chain = Chain(layers)
        error = chain.error(sigma, problem.sigma_yx[0])
        if not np.isfinite(error).all():
            return
        response = Response(chain, sigma, error, spread.directions)
        covariance, place = spread.covariance(), step % len(batches)
        yield Moments(step, chain, response, covariance, shift, epochs and place == 0)
        changes, _ = response.second(covariance / 2)
        if shift[0].any():
            bent = HessianProduct(chain, sigma, error)(shift)
            changes = [change + h.formed() for change, h in zip(changes, bent, strict=True)]
        noise = lr**2 * batch_covariance(problem, chain.end, batches[place])
        moved = [-lr * h for h in response.hessian()]
        if epochs:
            each = _deviations(problem, chain)
            if place:
                repelled = _of_samples(problem, response, spread.sums, each)
                changes = [change + r for change, r in zip(changes, repelled, strict=True)]
            spread.move(moved)
            spread.add(units(chain), noise, lr * each, batches[place])
            if place == len(batches) - 1:
                spread.end_epoch()
        else:
            spread.move(moved)
            if noise.any():
                spread.add(units(chain), noise)
        shift = [m - lr * change for m, change in zip(shift, changes, strict=True)]
        layers = [w - lr * g for w, g in zip(chain.layers, chain.pulled(error), strict=True)]


def _deviations(problem: Problem, chain: Chain) -> Float64[np.ndarray, "K N"]:
    assert problem.inputs is not None and problem.targets is not None
    x, y = problem.inputs[0], problem.targets[0]
    return deviations(x, x @ chain.end.T - y)


def _of_samples(
    problem: Problem, response: Response, sums: Float64[np.ndarray, "K N"], each: Float64[np.ndarray, "J N"]
) -> Layers:
    """Return sum_s H_s U_s / (N (N - 1)), by which samples that were seen push the mean: they will not come again."""
    assert problem.inputs is not None
    x = problem.inputs[0]
    n, (outputs, inputs) = len(x), problem.dims
    sums = sums / (n * (n - 1))
    squares = (x[:, :, None] * x[:, None, :]).reshape(n, -1)
    return response.varied((sums @ each.T).reshape(-1, outputs, inputs), (sums @ squares).reshape(-1, inputs, inputs))


@register_theory("sgd_mean", cost="heavy", source="moments of SGD around GD, with Smith et al. 2101.12176 for epochs")
@uniform()
def sgd_mean(problem: Problem, steps: Sequence[int]) -> Prediction:
    """Mean and spread of SGD's loss and map around those of gradient descent, to first order in the noise.
    """
    parts = [_run(run, steps) for run in singly(problem)]
    columns, conditions = ({name: np.stack([part[i][name] for part in parts]) for name in parts[0][i]} for i in (1, 2))
    return Prediction(np.stack([part[0] for part in parts]), columns, conditions)


def _run(run: Problem, steps: Sequence[int]) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return maps, columns and conditions of one run."""
    rows = {step: row for row, step in enumerate(steps)}
    maps, path = (np.full((len(steps), *run.dims), np.nan) for _ in range(2))
    names = ("excess_loss", "train_loss_std", "map_std", "curved")
    columns = {name: np.full(len(steps), np.nan) for name in names}
    for moments in moments_around_gd(run, max(steps)):
        row = rows.get(moments.step)
        if row is not None:
            path[row], maps[row], found = _described(moments)
            for name, value in zip(names, found, strict=True):
                columns[name][row] = value
    loss = run.losses(path[None])[0]
    curved = columns.pop("curved")
    columns |= {"train_loss_gd": loss, "train_loss": loss + columns["excess_loss"]}
    return maps, columns, {"curved": np.max(curved / loss)}


def _described(moments: Moments) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Return the map of gradient descent, the mean one, and E L - L_GD, std of L, std of the map and tr(HP)."""
    response, f = moments.response, moments.covariance
    slopes, bend = response.slopes(), response.curvatures() @ f
    linear, curved = slopes @ f @ slopes, np.trace(bend)
    moved = response.moved(moments.shift)
    along = np.vdot(response.error, moved)
    variance = linear + np.sum(bend * bend.T) / 2
    map_variance = np.sum(response.overlaps() * f)
    _, twice = response.second(f / 2)
    end = moments.chain.end
    spread, map_spread = np.sqrt(np.maximum([variance, map_variance], 0))
    return end, end + moved + twice, (along + curved / 2, spread, map_spread, curved)
