"""The theory `sgd_mean`: mean and spread of SGD's loss and map, from the moments of `dln.theory.sgd_moments`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.registry import Bounds
from dln.derivatives.hessian import top_eigenvalues
from dln.derivatives.products import Chain
from dln.theory.narrow import narrowed
from dln.theory.sgd_moments import Moments, descent, moments_around_gd
from dln.theory.sgd_noise import sizes
from dln.theory.theory import Prediction, Problem, check_condition, register_theory, stacked

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

LOOKS = 5
"""At how many steps of a path its sharpness is found."""

FEW, GENTLE = 600, 0.5
"""Weights up to which steps are taken one by one, and what stride lr lambda_max is with more."""

AHEAD, STRAIGHT, SLIGHT = 2.0, 0.5, 0.1
"""Over how many standard deviations of time the loss has to fall straight, to within what share of one of the loss, for
the loss of members to be nearly Gaussian; and the share of the latter below which time plays no part."""


COLUMNS = ("train_loss", "train_loss_std", "train_loss_gd", "excess_loss", "map_std", "not_gaussian", "epoch_end")


@register_theory("sgd_mean", columns=COLUMNS, cost="heavy", source="moments of SGD around GD; 2101.12176 for epochs")
def sgd_mean(
    problem: Problem, steps: Int[np.ndarray, " T"], stride: Annotated[int | None, Bounds(least=1)] = None
) -> Prediction:
    """Mean and spread of SGD's loss and map around those of gradient descent, to first order in the noise of batches.

    E L_SGD - L_GD = g . m + tr(H P) / 2 with the mean m and the covariance P of the weights' deviation from gradient
    descent (`dln.theory.sgd_moments` has their recursions), for batches in epochs, with replacement or online, and for
    noise on targets that is drawn afresh. Heavy because of P, of which a step costs some ten of SGD in each direction
    of the noise, d_out d_in; starts that are balanced are followed in a narrower net. Steps are taken `stride` at a
    time (in epochs up to half of one), and between them columns are interpolated: a stride of 10 is five times as
    fast. Unless it is given it is 1 for up to 600 weights, and for more as large as keeps `stride_lr_sharpness` at 0.5.

    Columns: `train_loss` is the mean, `train_loss_std` the standard deviation over batch seeds, `train_loss_gd` the
    loss of gradient descent, `excess_loss` what the mean has more, `map_std` the root of E ||W - E W||_F^2.
    `not_gaussian` is 1 where members are so far apart in time that the loss is not straight between them (they stand
    before, in and after a drop): there the standard deviation can be wrong by a factor of 2 and more, and the mean by
    tens of percent. `epoch_end` is 1 where an epoch ends: the spread there, a hundredth of that within the epoch, is
    less certain. (In epochs of few samples the loss at a minimum is not Gaussian either: its spread is then 10% off.)

    Conditions: `noise_over_loss`, the largest tr(HP) / L of the path, and `lr_sharpness_per_sample`, the largest
    lr lambda_max / B: errors are about as large, relatively, and fall with lr / B. `stride_lr_sharpness` is stride lr
    lambda_max (0 for single steps): strides add an error of some 3% of its square. `not_gaussian` is the share of
    records with that flag.
    """
    half = _half_epoch(problem)
    if stride is not None and half is not None:
        remedy = "use a smaller one, or training.replacement=true"
        check_condition("sgd_mean", np.array([stride]), half, "stride (of half an epoch)", remedy)
    return stacked([_run(run, np.asarray(steps), stride) for run in map(problem.of, range(len(problem)))])


@uniform()
def _run(run: Problem, steps: Int[np.ndarray, " T"], stride: int | None) -> Prediction:
    """Return what is said of one run."""
    last, lr, batches = int(steps[-1]), run.lr[0], sizes(run)
    edge = lr * _sharpness(run, last)
    stride = stride or _gentle(run, edge)
    path, at, shifts, scatters, found = [], [], [], [], []
    for moments in moments_around_gd(run, last, stride):
        path += moments.passed
        at.append(moments.step)
        shifts.append(moments.response.moved(moments.shift) + moments.bend)
        scatters.append(moments.response.scatter(moments.covariance))
        found.append(_described(moments))
    known = steps <= at[-1]
    here = steps[known]
    losses = run.losses(np.stack(path)[None])[0]
    values = np.full((len(NAMES), len(steps)), np.nan)
    values[:, known] = _between(at, np.array(found), here).T
    columns: dict[str, np.ndarray] = dict(zip(NAMES, values, strict=True))
    curved, ahead, speed = (columns.pop(name) for name in NAMES[-3:])
    gd, maps = np.full(len(steps), np.nan), np.full((len(steps), *run.dims), np.nan)
    gd[known], maps[known] = losses[here], np.stack(path)[here] + _between(at, np.stack(shifts), here)
    scatter = np.full((len(steps), *run.dims[1:] * 2), np.nan)
    scatter[known] = _between(at, np.stack(scatters), here)
    columns |= {"train_loss_gd": gd, "train_loss": gd + columns["excess_loss"]}
    columns["not_gaussian"] = _bent(losses, steps, lr * speed, ahead, columns["train_loss_std"])
    ends = (steps > 0) & (steps % len(batches) == 0)
    columns["epoch_end"] = (ends & (run.sampling == "epochs")).astype(float)
    conditions = {
        "noise_over_loss": np.nanmax(curved / np.where(gd > 0, gd, np.nan), initial=0.0),
        "lr_sharpness_per_sample": edge / max(batches),
        "stride_lr_sharpness": edge * (stride if stride > 1 else 0),
        "not_gaussian": np.mean(columns["not_gaussian"] == 1),
    }
    return Prediction(maps, columns, conditions, scatter)


def _sharpness(run: Problem, last: int) -> float:
    """Return the largest eigenvalue of the Hessian along the path of gradient descent."""
    looks, found = {*np.linspace(0, last, LOOKS).astype(int).tolist()}, [0.0]
    for step, chain in enumerate(descent(Chain(narrowed([w[0] for w in run.layers])), run, last)):
        if not np.isfinite(chain.end).all():
            break
        if step in looks:
            found.append(top_eigenvalues(chain.layers, run.sigma[0], run.sigma_yx[0])[0])
    return float(np.max(found))


def _gentle(run: Problem, edge: float) -> int:
    """Return the stride of a run whose lr lambda_max is at most `edge`."""
    if sum(w.size for w in narrowed([w[0] for w in run.layers])) <= FEW:
        return 1
    most = _half_epoch(run)
    stride = max(int(GENTLE / edge), 1) if edge > 0 else 1
    return stride if most is None else min(stride, most)


def _half_epoch(problem: Problem) -> int | None:
    """Return half the steps of an epoch, at least 1; None where there are none."""
    return max(len(sizes(problem)) // 2, 1) if problem.sampling == "epochs" else None


NAMES = ("excess_loss", "train_loss_std", "map_std", "curved", "ahead", "speed")
"""What `_described` says, in this order; the last three are tr(HP), sqrt(g'Pg) and ||g||^2."""


def _described(moments: Moments) -> list[float]:
    """Return the numbers of NAMES."""
    response, f = moments.response, moments.covariance
    slopes, bend = response.slopes(), response.curvatures() @ f
    linear, map_variance = slopes @ f @ slopes, np.sum(response.overlaps() * f)
    excess = np.vdot(response.error, response.moved(moments.shift)) + np.trace(bend) / 2
    spreads = np.sqrt(np.maximum([linear + np.sum(bend * bend.T) / 2, map_variance, linear], 0))
    speed = sum(np.vdot(g, g) for g in moments.chain.pulled(response.error))
    return [float(excess), *spreads[:2].tolist(), float(np.trace(bend)), float(spreads[2]), float(speed)]


def _between(
    at: list[int], values: Float64[np.ndarray, "n ..."], steps: Int[np.ndarray, " T"]
) -> Float64[np.ndarray, "T ..."]:
    """Return values at steps, on straight lines between those that are known; exactly there."""
    places = np.array(at)
    low = np.searchsorted(places, steps, "right") - 1
    high = np.where(places[low] < steps, np.minimum(low + 1, len(at) - 1), low)
    share = (steps - places[low]) / np.maximum(places[high] - places[low], 1)
    return values[low] + share.reshape(-1, *[1] * (values.ndim - 1)) * (values[high] - values[low])


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
