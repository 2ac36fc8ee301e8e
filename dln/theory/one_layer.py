"""One layer, linear regression: gradient descent exactly, and the exact mean and spread of online SGD.

With eta = 2 lr / d_out a step of gradient descent is W <- W - eta (W Sigma - Sigma_yx). SGD on fresh Gaussian samples
has that as the step of its mean, and the spread of its maps obeys a recursion of its own, because the fourth moments of
Gaussian inputs are products of second ones: of V = E(W - EW)'(W - EW) and C = E(W - W*)'(W - W*), both [in, in],

    V <- (I - eta Sigma) V (I - eta Sigma) + (eta^2 / B) [Sigma C Sigma + (tr(C Sigma) + d_out s^2) Sigma],

where s is the standard deviation of the noise on targets and B the batch size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.stacked import decomposed
from dln.derivatives.products import eigenvalues, inner
from dln.errors import ConfigError
from dln.theory.conditions import check_depth
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


@register_theory("one_layer")
@uniform()
def one_layer(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Full-batch gradient descent of one layer, exactly: W* + (W_0 - W*) (I - (2 lr / d_out) Sigma)^n.

    Needs one layer, and no more: there are no conditions. It diverges if lr is above d_out / lambda_max(Sigma).
    """
    check_depth("one_layer", problem, 1)
    return Prediction(one_layer_maps(problem.start, problem.sigma, problem.sigma_yx, problem.rate, np.asarray(steps)))


@register_theory("one_layer_sgd", columns=["train_loss", "map_std"], cost="moderate")
@uniform()
def one_layer_sgd(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Online SGD of one layer, exactly: the mean map, the mean loss over the population and the spread of the map.

    Columns: `train_loss`, the mean of the loss over the population, noise on its targets included, and `map_std`,
    sqrt(E ||W - EW||_F^2). Maps are EW; `test_loss` is a mean, too, and whatever else is derived is of that map.

    Needs one layer and online Gaussian data, and no more: there are no conditions. At rates well below the critical one
    of gradient descent means may grow without bound, carried by rare runs.
    """
    check_depth("one_layer_sgd", problem, 1)
    if problem.sampling != "online" or not problem.normal.all() or problem.batch_size is None:
        told = "online but not Gaussian" if problem.sampling == "online" else f"of sampling {problem.sampling!r}"
        raise ConfigError(
            f"theory one_layer_sgd needs fresh Gaussian samples in every batch, and these are {told}; use "
            f"data.online=true and data.inputs=gaussian, or theory=[one_layer] for gradient descent"
        )
    steps = np.asarray(steps)
    error = problem.start - problem.optimum
    square = problem.dims[1:] * 2
    maps, scatter = (np.empty((len(problem), len(steps), *shape)) for shape in (problem.dims, square))
    moments = online_moments(
        error, problem.sigma, problem.rate, problem.noise_std**2, problem.batch_size, int(steps[-1])
    )
    for step, (mean, covariance) in enumerate(moments):
        at = steps == step
        if at.any():
            maps[:, at] = (problem.optimum + mean)[:, None]
            scatter[:, at] = covariance[:, None]
    excess = inner(scatter, problem.sigma[:, None])
    std = np.sqrt(np.trace(scatter, axis1=-2, axis2=-1))
    columns = {"train_loss": problem.losses(maps) + excess / problem.dims[0], "map_std": std}
    return Prediction(maps, columns, scatter=scatter)


def critical_lr(sigma: Float64[np.ndarray, "*R in in"], d_out: int) -> Float64[np.ndarray, "*R"]:
    """Return d_out / lambda_max(Sigma), the learning rate above which gradient descent of one layer diverges.

    >>> float(critical_lr(np.diag([4.0, 1.0]), d_out=2))
    0.5
    """
    return d_out / eigenvalues(sigma)[..., 0]


@uniform()
def one_layer_maps(
    start: Float64[np.ndarray, "*R out in"],
    sigma: Float64[np.ndarray, "*R in in"],
    sigma_yx: Float64[np.ndarray, "*R out in"],
    rate: Float64[np.ndarray, "*R"] | float,
    steps: Int[np.ndarray, " T"],
) -> Float64[np.ndarray, "*R T out in"]:
    """Return W_n = W_0 (I - eta Sigma)^n + Sigma_yx (eta times the sum of lower powers), whatever Sigma's rank.

    Args:
        start: W_0.
        sigma: X'X / N.
        sigma_yx: Y'X / N.
        rate: eta = 2 lr / d_out.
        steps: n.

    >>> one = np.ones((1, 1))
    >>> one_layer_maps(0 * one, one, one, 0.5, np.array([0, 1, 2])).ravel()
    array([0.  , 0.5 , 0.75])
    """
    values, vectors = decomposed(sigma, np.linalg.eigh)
    shrunk = np.asarray(rate)[..., None, None] * values[..., None, :]
    powers = (1 - shrunk) ** steps[:, None]  # [*R, T, in]
    sums = np.asarray(rate)[..., None, None] * geometric(shrunk, steps[:, None])
    seen, wanted = (matrix @ vectors for matrix in (start, sigma_yx))
    found = powers[..., None, :] * seen[..., None, :, :] + sums[..., None, :] * wanted[..., None, :, :]
    return found @ vectors.mT[..., None, :, :]


def geometric(shrunk: Float64[np.ndarray, "*n"], steps: Int[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """Return 1 + q + ... + q^(n-1) = (1 - q^n) / (1 - q) for q = 1 - `shrunk`, of small ones to all digits too.

    >>> geometric(np.array([0.0, 1e-12, 0.5]), 3)
    array([3.  , 3.  , 1.75])
    """
    small = np.abs(shrunk) < 0.5
    smooth = -np.expm1(steps * np.log1p(-np.where(small, shrunk, 0.0)))
    total = np.where(small, smooth, 1 - (1 - shrunk) ** steps)
    return np.where(shrunk == 0, steps, total / np.where(shrunk == 0, 1.0, shrunk))


def online_moments(
    error: Float64[np.ndarray, "*R out in"],
    sigma: Float64[np.ndarray, "*R in in"],
    rate: Float64[np.ndarray, "*R"],
    variance: Float64[np.ndarray, "*R"],
    batch_size: int,
    steps: int,
) -> Iterator[tuple[Float64[np.ndarray, "*R out in"], Float64[np.ndarray, "*R in in"]]]:
    """Yield m = E(W - W*) and V = E(W - EW)'(W - EW) of SGD on fresh x ~ N(0, Sigma), before each step and at the end.

    The mean excess loss is tr((V + m'm) Sigma) / d_out.

    Args:
        error: W_0 - W*.
        sigma: Sigma.
        rate: eta = 2 lr / d_out.
        variance: s^2 of the noise on each target.
        batch_size: B.
        steps: How many.
    """
    eta, noise = (np.asarray(a)[..., None, None] for a in (rate, error.shape[-2] * np.asarray(variance)))
    keep = np.eye(sigma.shape[-1]) - eta * sigma
    mean, covariance = error, np.zeros_like(error.mT @ error)
    for _ in range(steps):
        yield mean, covariance
        with uniform():
            second = covariance + mean.mT @ mean  # C
            added = sigma @ second @ sigma + (inner(second, sigma)[..., None, None] + noise) * sigma
            covariance = keep @ covariance @ keep + eta**2 / batch_size * added
            mean = mean @ keep
    yield mean, covariance
