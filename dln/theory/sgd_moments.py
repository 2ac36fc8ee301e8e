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

Steps can be taken k at a time, a stride: then A^k is I - k lr H + k (k - 1) / 2 lr^2 H^2 with H from the middle of the
stride, the noise of its steps enters there, and D^3 L[P] is the mean of its ends. The error falls as k^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dln.derivatives.products import Chain
from dln.theory.narrow import narrowed
from dln.theory.response import Layers, Response, units
from dln.theory.sgd_noise import batch_covariance, deviations, sizes
from dln.theory.spread import Spread
from dln.theory.theory import Problem

if TYPE_CHECKING:
    from jaxtyping import Float64


@dataclass(frozen=True)
class Moments:
    """SGD around gradient descent at one step, to first order in the noise."""

    step: int
    chain: Chain
    """Gradient descent (of a narrower network that learns alike, see `dln.theory.narrow`)."""
    response: Response
    """How it answers to the displacements Z."""
    covariance: Float64[np.ndarray, "K K"]
    """F of P = Z F Z'."""
    shift: Layers
    """m."""
    bend: Float64[np.ndarray, "out in"]
    """D^2 W[P] / 2, by which the mean map differs from that of the mean weights."""
    passed: list[Float64[np.ndarray, "out in"]]
    """Maps of gradient descent at the steps since the last moments, up to this one."""


@dataclass(frozen=True)
class Stride:
    """Steps that are taken together: how many, from which on, on batches of what size."""

    step: int
    count: int
    batch: int
    begins_epoch: bool


def strides(batches: Sequence[int], most: int, last: int) -> Iterator[Stride]:
    """Yield strides of up to `most` steps on batches of equal sizes that do not reach beyond an epoch, and one of none.

    >>> [(stride.step, stride.count, stride.batch) for stride in strides([4, 4, 4, 2], most=2, last=6)]
    [(0, 2, 4), (2, 1, 4), (3, 1, 2), (4, 2, 4), (6, 0, 4)]
    """
    step = 0
    while step < last:
        place = step % len(batches)
        ahead = batches[place : place + most] if len(batches) > 1 else [*batches] * most
        equal = next((i for i, size in enumerate(ahead) if size != ahead[0]), len(ahead))
        count = min(equal, last - step)
        yield Stride(step, count, batches[place], place == 0)
        step += count
    yield Stride(last, 0, batches[0], last % len(batches) == 0)


def moments_around_gd(problem: Problem, last: int, stride: int = 1) -> Iterator[Moments]:
    """Yield mean and covariance of SGD around gradient descent after every stride from step 0 to `last`, of one run.

    It ends early where gradient descent diverges.
    """
    batches, lr, sigma = sizes(problem), problem.lr[0], problem.sigma[0]
    epochs = problem.sampling == "epochs" and len(batches) > 1
    chain = Chain(narrowed([w[0] for w in problem.layers]))
    spread = Spread(chain.shapes, problem.samples or 0 if epochs else 0)
    shift: Layers = [np.zeros(shape) for shape in chain.shapes]
    passed, late = [chain.end], 0.0
    for now in strides(batches, stride, last):
        error = chain.error(sigma, problem.sigma_yx[0])
        if not np.isfinite(error).all():
            return
        response, covariance = Response(chain, sigma, error, spread.directions), spread.covariance()
        push, bend = response.second(covariance / 2)
        inside = _added(push, _of_samples(problem, response, spread.sums)) if spread.sums.any() else push
        shift = _added(shift, inside, -lr * late)
        if now.begins_epoch:
            spread.end_epoch()
            inside = push
        yield Moments(now.step, chain, response, covariance, shift, bend, passed)
        if not now.count:
            return
        path = [*descent(chain, problem, now.count)]
        middle, ahead, late = path[now.count // 2], now.count, (now.count - 1) / 2
        carry = partial(_carried, middle, sigma, middle.error(sigma, problem.sigma_yx[0]), lr)
        spread.directions = carry(spread.directions, ahead)
        noise = ahead * lr**2 * batch_covariance(problem, middle.end, now.batch)
        if epochs:
            each = ahead * lr * _deviations(problem, middle)
            spread.add(carry(units(middle), late), noise, each, ahead * now.batch)
        elif noise.any():
            spread.add(carry(units(middle), late), noise)
        moved, pushed = (
            carry([v[None] for v in part], e) for part, e in ((shift, ahead), (inside, 2 * late * ahead / (ahead + 1)))
        )
        shift = [v[0] for v in _added(moved, pushed, -lr * (ahead + 1) / 2)]
        chain, passed = path[-1], [step.end for step in path[1:]]


def descent(chain: Chain, problem: Problem, count: int) -> Iterator[Chain]:
    """Yield a network and those after each of some steps of gradient descent."""
    yield chain
    for _ in range(count):
        gradients = chain.gradients(problem.sigma[0], problem.sigma_yx[0])
        chain = Chain([w - problem.lr[0] * g for w, g in zip(chain.layers, gradients, strict=True)])
        yield chain


def _carried(
    chain: Chain,
    sigma: Float64[np.ndarray, "in in"],
    error: Float64[np.ndarray, "out in"],
    lr: float,
    directions: Sequence[Float64[np.ndarray, "K p q"]],
    exponent: float,
) -> list[Float64[np.ndarray, "K p q"]]:
    """Return A^e V, A = I - lr H, to second order in lr H; exactly for e = 0 and 1."""
    found, bent, factor = [*directions], directions, 1.0
    for order in (1, 2):
        factor *= -lr * (exponent - order + 1) / order
        if factor == 0:
            break
        bent = Response(chain, sigma, error, bent).hessian()
        found = _added(found, bent, factor)
    return found


def _added(
    a: Sequence[Float64[np.ndarray, "*K p q"]], b: Sequence[Float64[np.ndarray, "*K p q"]], factor: float = 1.0
) -> list[Float64[np.ndarray, "*K p q"]]:
    """Return a + factor b, layer by layer."""
    return [x + factor * y for x, y in zip(a, b, strict=True)]


def _deviations(problem: Problem, chain: Chain) -> Float64[np.ndarray, "K N"]:
    assert problem.inputs is not None
    assert problem.targets is not None
    x, y = problem.inputs[0], problem.targets[0]
    return deviations(x, x @ chain.end.T - y)


def _of_samples(problem: Problem, response: Response, sums: Float64[np.ndarray, "K N"]) -> Layers:
    """Return sum_s H_s U_s / (N (N - 1)), by which samples that were seen push the mean: they will not come again."""
    assert problem.inputs is not None
    each = _deviations(problem, response.chain)
    x = problem.inputs[0]
    n, (outputs, inputs) = len(x), problem.dims
    sums = sums / (n * (n - 1))
    squares = (x[:, :, None] * x[:, None, :]).reshape(n, -1)
    return response.varied((sums @ each.T).reshape(-1, outputs, inputs), (sums @ squares).reshape(-1, inputs, inputs))
