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
what is left of the spread there, some hundredth, is of higher order, and less certain (standard deviations to 10-20%).

P is kept as Z F Z' (`dln.theory.spread`), because its rank is small: noise is of rank d_out d_in at any width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.derivatives.hessian import HessianProduct, top_eigenvalues
from dln.derivatives.products import Chain
from dln.theory.narrow import narrowed
from dln.theory.response import Layers, Response, units
from dln.theory.sgd_noise import batch_covariance, deviations, sizes
from dln.theory.spread import Spread
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


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
    assert problem.inputs is not None
    assert problem.targets is not None
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


LOOKS = 5
"""At how many steps of a path its sharpness is found."""

AHEAD, STRAIGHT, SLIGHT = 2.0, 0.5, 0.1
"""Over how many standard deviations of time the loss has to fall straight, to within what share of one of the loss, for
the loss of members to be nearly Gaussian; and the share of the latter below which time plays no part."""


COLUMNS = ("train_loss", "train_loss_std", "train_loss_gd", "excess_loss", "map_std", "not_gaussian", "epoch_end")


@register_theory("sgd_mean", columns=COLUMNS, cost="heavy", source="moments of SGD around GD; 2101.12176 for epochs")
def sgd_mean(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Mean and spread of SGD's loss and map around those of gradient descent, to first order in the noise of batches.

    E L_SGD - L_GD = g . m + tr(H P) / 2 with the mean m and the covariance P of the weights' deviation from gradient
    descent (the module `dln.theory.sgd_mean` has their recursions), for batches in epochs, with replacement or online,
    and for noise on targets that is drawn afresh. Heavy because of P, which costs some ten steps of SGD on every
    parameter and direction of the noise, d_out d_in; starts that are balanced are followed in a narrower net.

    Columns: `train_loss` is the mean, `train_loss_std` the standard deviation over batch seeds, `train_loss_gd` the
    loss of gradient descent, `excess_loss` what the mean has more, `map_std` the root of E ||W - E W||_F^2.
    `not_gaussian` is 1 where members are so far apart in time that the loss is not straight between them (they stand
    before, in and after a drop): there the standard deviation can be wrong by a factor of 2 and more, and the mean by
    tens of percent. `epoch_end` is 1 where an epoch ends: the spread there, a hundredth of that within the epoch, is
    less certain. (In epochs of few samples the loss at a minimum is not Gaussian either: its spread is then 10% off.)

    Conditions: `noise_over_loss`, the largest tr(HP) / L of the path, and `lr_sharpness_per_sample`, the largest
    lr lambda_max / B: errors are about as large, relatively, and fall with lr / B. `not_gaussian` is the share of
    records with that flag.
    """
    parts = [_run(run, [*map(int, steps)]) for run in map(problem.of, range(len(problem)))]
    columns, conditions = ({name: np.stack([part[i][name] for part in parts]) for name in parts[0][i]} for i in (1, 2))
    return Prediction(np.stack([part[0] for part in parts]), columns, conditions)


@uniform()
def _run(run: Problem, steps: list[int]) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return maps, columns and conditions of one run."""
    rows, looks = {step: i for i, step in enumerate(steps)}, {*np.linspace(0, max(steps), LOOKS).astype(int).tolist()}
    maps, found = np.full((len(steps), *run.dims), np.nan), np.full((len(steps), len(NAMES)), np.nan)
    path, sharpness = [], []
    for moments in moments_around_gd(run, max(steps)):
        path.append(moments.chain.end)
        if moments.step in rows:
            row = rows[moments.step]
            maps[row], found[row] = _described(moments)
        if moments.step in looks:
            sharpness.append(top_eigenvalues(moments.chain.layers, run.sigma[0], run.sigma_yx[0])[0])
    columns = dict(zip(NAMES, found.T, strict=True))
    losses = run.losses(np.stack(path)[None])[0]
    gd = np.where(np.array(steps) < len(path), losses[np.minimum(steps, len(path) - 1)], np.nan)
    columns |= {"train_loss_gd": gd, "train_loss": gd + columns["excess_loss"]}
    slopes, curved = columns.pop("speed") * run.lr[0], columns.pop("curved")
    columns["not_gaussian"] = _bent(losses, np.array(steps), slopes, columns.pop("ahead"), columns["train_loss_std"])
    batches = sizes(run)
    ends = (run.sampling == "epochs") & (np.array(steps) % len(batches) == 0)
    columns["epoch_end"] = ends.astype(float)
    conditions = {
        "noise_over_loss": np.nanmax(curved / np.where(gd > 0, gd, np.nan), initial=0.0),
        "lr_sharpness_per_sample": run.lr[0] * np.nanmax(sharpness) / max(batches),
        "not_gaussian": np.mean(columns["not_gaussian"] == 1),
    }
    return maps, columns, conditions


NAMES = ("excess_loss", "train_loss_std", "map_std", "curved", "ahead", "speed")
"""What `_described` says, in this order; the last three are tr(HP), sqrt(g'Pg) and ||g||^2."""


def _described(moments: Moments) -> tuple[Float64[np.ndarray, "out in"], list[float]]:
    """Return the mean map and the numbers of NAMES."""
    response, f = moments.response, moments.covariance
    slopes, bend = response.slopes(), response.curvatures() @ f
    linear, map_variance = slopes @ f @ slopes, np.sum(response.overlaps() * f)
    moved, (_, twice) = response.moved(moments.shift), response.second(f)
    excess = np.vdot(response.error, moved) + np.trace(bend) / 2
    spreads = np.sqrt(np.maximum([linear + np.sum(bend * bend.T) / 2, map_variance, linear], 0))
    speed = sum(np.vdot(g, g) for g in moments.chain.pulled(response.error))
    end = moments.chain.end + moved + twice / 2
    return end, [float(excess), *spreads[:2].tolist(), float(np.trace(bend)), float(spreads[2]), float(speed)]


def _bent(
    losses: Float64[np.ndarray, " n"],
    steps: Int[np.ndarray, " T"],
    slopes: Float64[np.ndarray, " T"],
    ahead: Float64[np.ndarray, " T"],
    spread: Float64[np.ndarray, " T"],
) -> Float64[np.ndarray, " T"]:
    """Tell (1, else 0) where the loss is not straight over the times at which members stand.

    A deviation of the loss along the path is one in time, of sqrt(g'Pg) / (lr ||g||^2) steps. The curve is compared
    with its tangent so many steps, times AHEAD, before and after.

    Args:
        losses: Of gradient descent, at all steps.
        steps: The steps to tell of.
        slopes: lr ||g||^2, by which it falls in a step there.
        ahead: sqrt(g'Pg).
        spread: Standard deviation of the loss.
    """
    last = len(losses) - 1
    time = AHEAD * np.minimum(ahead / np.where(slopes > 0, slopes, np.inf), last)
    here, gaps = np.interp(steps, np.arange(last + 1), losses), []
    for places in (steps - time, steps + time):
        places = np.clip(places, 0, last)
        straight = here - slopes * (places - steps)
        gaps.append(np.abs(np.interp(places, np.arange(last + 1), losses) - straight))
    bent = (np.max(gaps, 0) > STRAIGHT * spread) & (ahead > SLIGHT * spread)
    return np.where(np.isnan(spread), np.nan, bent)
