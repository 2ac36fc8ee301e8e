"""Two layers: gradient flow in closed form, and gradient descent as a recursion that knows no hidden units.

Both are about Q = [W_1'; W_2], [in + out, hidden], of which only M = QQ' matters: its blocks are W_1'W_1, the map
W = W_2 W_1, and W_2 W_2'. A step of gradient descent multiplies Q from the left by I - lr GG, GG = [[0, G'], [G, 0]],
so M <- (I - lr GG) M (I - lr GG): exactly, for any two layers, data and batches.

If inputs are whitened and W_2'W_2 - W_1 W_1' = lambda I, gradient flow is a Riccati equation (Fukumizu 1998; Braun et
al. 2022; Domine et al., arXiv 2409.14623), dQ/dt = F Q - (1/2) QQ'Q with
F = [[-lambda/2 I, Sigma_yx'], [Sigma_yx, lambda/2 I]] and t = 2 tau / d_out. Over a time tau it takes Q to
e^(F tau) Q R^-1, where R'R = I + Q'GQ and G is the integral of e^(2 F s) over s from 0 to tau. Over a long time that
is 0 times infinity, and the usual ways to write it fail; so R is found as a triangular factor, without forming Q'GQ,
and time is cut into pieces in which nothing grows by more than e^8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.derivatives.hessian import top_eigenvalues
from dln.derivatives.products import inner, joined
from dln.theory.conditions import check_depth, whitening_gap
from dln.theory.theory import Prediction, Problem, check_condition, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

GROWTH = 8.0
"""By what power of e anything grows in a piece of time."""

ASSUMED = 1e-5
"""The largest gap of what the Riccati equation assumes; float32 makes about 1e-7."""


@register_theory("riccati", source="arXiv 2409.14623")
@uniform()
def riccati(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Gradient flow of two layers in closed form, from lambda-balanced weights on whitened inputs.

    dQ/dt = F Q - (1/2) QQ'Q of Q = [W_1'; W_2], with F = [[-lambda/2 I, Sigma_yx'], [Sigma_yx, lambda/2 I]] and
    t = 2 tau / d_out.

    Needs two layers, Sigma = I and W_2'W_2 - W_1 W_1' = lambda I, to 1e-5. Conditions: `whitening_gap`,
    max |Sigma - I|; `lambda_gap`, ||W_2'W_2 - W_1 W_1' - lambda I||_F / max ||W_l||_F^2; and `lr_sharpness`, the larger
    lr lambda_max of the start and the last step: gradient descent is about that share of its way from the flow.
    """
    check_depth("riccati", problem, 2)
    first, second = problem.layers
    white, (_, gap) = whitening_gap(problem.sigma), lambda_balance(first, second)
    check_condition("riccati", white, ASSUMED, "max |Sigma - I|", "use data.whiten=true, or theory=[gradient_flow]")
    told, remedy = "||W_2'W_2 - W_1W_1' - lambda I|| / ||W||^2", "use model.init=balanced or lambda_balanced"
    check_condition("riccati", gap, ASSUMED, told, f"{remedy}, or theory=[gradient_flow]")
    maps, sharpness = [], []
    for r, times in enumerate(problem.rate[:, None] * steps):
        later = riccati_layers(first[r], second[r], problem.sigma_yx[r], times)
        maps.append(later[1] @ later[0])
        nets = [first[r], second[r]], [w[-1] for w in later]
        sharpness.append(max(top_eigenvalues(net, problem.sigma[r], problem.sigma_yx[r]).item() for net in nets))
    conditions = {"whitening_gap": white, "lambda_gap": gap, "lr_sharpness": problem.lr * sharpness}
    return Prediction(np.stack(maps), conditions=conditions)


@register_theory("discrete", cost="moderate")
@uniform()
def discrete(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Full-batch gradient descent of two layers, exactly, by a recursion without hidden units.

    M <- (I - lr GG) M (I - lr GG) of M = QQ', Q = [W_1'; W_2], GG = [[0, G'], [G, 0]]. Needs two layers, and no more.
    """
    check_depth("discrete", problem, 2)
    steps, into = np.asarray(steps), problem.dims[1]
    first, second = problem.layers
    maps = np.empty((len(problem), len(steps), *problem.dims))
    batches = repeat((problem.sigma, problem.sigma_yx), int(steps[-1]))
    for step, gram in enumerate(two_layer_recursion(first, second, batches, problem.lr)):
        maps[:, steps == step] = gram[:, None, into:, :into]
    return Prediction(maps)


@uniform()
def lambda_balance(
    first: Float64[np.ndarray, "*R h in"], second: Float64[np.ndarray, "*R out h"]
) -> tuple[Float64[np.ndarray, "*R"], Float64[np.ndarray, "*R"]]:
    """Return lambda, the mean eigenvalue of W_2'W_2 - W_1 W_1', and how far that is from lambda I.

    The distance is in Frobenius norm, as a share of the largest ||W_l||_F^2.

    >>> lam, gap = lambda_balance(np.array([[1.0]]), np.array([[2.0]]))
    >>> float(lam), float(gap)
    (3.0, 0.0)
    """
    difference = second.mT @ second - first @ first.mT
    lam = difference.trace(axis1=-2, axis2=-1) / difference.shape[-1]
    rest = difference - lam[..., None, None] * np.eye(difference.shape[-1])
    norm = np.maximum(inner(first, first), inner(second, second))
    return lam, np.sqrt(inner(rest, rest)) / np.where(norm > 0, norm, 1)


@uniform()
def riccati_layers(
    first: Float64[np.ndarray, "h in"],
    second: Float64[np.ndarray, "out h"],
    sigma_yx: Float64[np.ndarray, "out in"],
    times: Float64[np.ndarray, " T"],
) -> tuple[Float64[np.ndarray, "T k in"], Float64[np.ndarray, "T out k"]]:
    """Return W_1 and W_2 at times t = 2 tau / d_out, rising from 0 on, but for a rotation of hidden units.

    Of layers with W_2'W_2 - W_1 W_1' = lambda I on whitened inputs. Hidden units beyond in + out, which are idle in
    some basis, are left out: k is at most in + out.

    >>> start, target = np.array([[0.01]]), np.array([[3.0]])  # a = s / (1 + (s / a_0 - 1) exp(-2 s t)), a_0 = 1e-4
    >>> first, second = riccati_layers(start, start, target, np.array([0.0, 2.0, 1000.0]))
    >>> (second @ first).ravel().round(6)
    array([1.000000e-04, 2.533099e+00, 3.000000e+00])
    """
    out, into = sigma_yx.shape
    lam = lambda_balance(first, second)[0]
    corners = lam / 2 * np.eye(into), lam / 2 * np.eye(out)
    values, vectors = np.linalg.eigh(np.block([[-corners[0], sigma_yx.T], [sigma_yx, corners[1]]]))
    seen = vectors.T @ _fewest(np.concatenate([first.T, second]))  # Q in the eigenvectors of F
    piece = GROWTH / max(np.abs(values).max(), GROWTH * 1e-9)  # long, if nothing grows
    pieces = np.maximum(np.ceil(times / piece) - 1, 0).astype(int)
    found, now = np.empty((len(times), *seen.shape)), 0
    for reached in np.unique(pieces):
        for _ in range(reached - now):
            seen = _advanced(values, seen, np.array([piece]))[0]
        now, inside = reached, pieces == reached
        found[inside] = _advanced(values, seen, times[inside] - reached * piece)
    both = vectors @ found
    return both[:, :into].mT, both[:, into:]


def _advanced(
    values: Float64[np.ndarray, " n"], seen: Float64[np.ndarray, "n k"], times: Float64[np.ndarray, " T"]
) -> Float64[np.ndarray, "T n k"]:
    """Return Q, in the eigenvectors of F, at short times after it was `seen`."""
    powers = times[:, None] * values
    twice = 2 * powers
    gramian = times[:, None] * np.divide(np.expm1(twice), twice, out=np.ones_like(twice), where=twice != 0)
    rows = joined([np.eye(seen.shape[1]), np.sqrt(gramian)[..., None] * seen], -2)  # of which R'R is I + Q'GQ
    triangle = _triangle(rows)
    return np.linalg.solve(triangle.mT, (np.exp(powers)[..., None] * seen).mT).mT


def two_layer_recursion(
    first: Float64[np.ndarray, "*R h in"],
    second: Float64[np.ndarray, "*R out h"],
    batches: Iterable[tuple[Float64[np.ndarray, "*R in in"], Float64[np.ndarray, "*R out in"]]],
    lr: float | Float64[np.ndarray, "*R"],
) -> Iterator[Float64[np.ndarray, "*R in+out in+out"]]:
    """Yield M = [[W_1'W_1, W'], [W, W_2 W_2']] at the start and after each step of gradient descent.

    M is kept as QQ' with as many columns as hidden units, at most in + out: by itself it would not keep its rank, and
    what rounding adds to that grows as if the net were wider than it is.

    Args:
        first: W_1.
        second: W_2.
        batches: Sigma = X'X / B and Sigma_yx = Y'X / B of each step's batch.
        lr: The learning rate.

    >>> one = np.ones((1, 1))  # w_1 = w_2 = 1, of which lr times the gradient of (w - 2)^2 is -0.2
    >>> [gram.round(9).tolist() for gram in two_layer_recursion(one, one, [(one, 2 * one)], lr=0.1)]
    [[[1.0, 1.0], [1.0, 1.0]], [[1.44, 1.44], [1.44, 1.44]]]
    """
    out, into = second.shape[-2], first.shape[-1]
    both = _fewest(joined([first.mT, second], -2))  # Q
    rate = 2 / out * np.asarray(lr)[..., None, None]
    gram = both @ both.mT
    for sigma, sigma_yx in batches:
        yield gram
        with uniform():
            above, below = both[..., :into, :], both[..., into:, :]
            error = rate * (below @ above.mT @ sigma - sigma_yx)  # lr G
            both = both - joined([error.mT @ below, error @ above], -2)
            gram = both @ both.mT
    yield gram


def _fewest(both: Float64[np.ndarray, "*R n h"]) -> Float64[np.ndarray, "*R n k"]:
    """Return Q in a basis of hidden units in which those beyond the first n are idle, without these."""
    n, width = both.shape[-2:]
    return _triangle(both.mT).mT if width > n else both


def _triangle(matrix: Float64[np.ndarray, "*T m k"]) -> Float64[np.ndarray, "*T k k"]:
    """Return R with R'R = matrix' matrix."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))
