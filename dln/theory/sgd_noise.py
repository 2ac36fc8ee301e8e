"""The noise of gradients as theory takes it: in the space of end-to-end maps, where it is small whatever the width.

The gradient of a sample with respect to the end-to-end map is M_s = (2 / d_out) e_s x_s', e_s = W x_s - y_s, and layer
l has A_l' M_s B_l'. So the covariance of gradients is J C J', J of rank d_out d_in and C the covariance of vec(M_s),
row by row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dln.errors import ConfigError
from dln.theory.theory import Problem

if TYPE_CHECKING:
    from jaxtyping import Float64


def sizes(problem: Problem) -> list[int]:
    """Return the sizes of the batches of an epoch, the last one short where they do not divide N; else of one batch.

    >>> from types import SimpleNamespace
    >>> sizes(SimpleNamespace(sampling="epochs", batch_size=4, samples=10))
    [4, 4, 2]
    """
    batch, samples = problem.batch_size, problem.samples
    if problem.sampling == "online":
        if batch is None:
            raise ConfigError("data.online=true needs training.batch_size: there is no full batch")
        if not problem.normal.all():
            raise ConfigError(
                "noise of online batches is known for data.inputs=gaussian only: use it, or data.online=false"
            )
        return [batch]
    if batch is None or problem.sampling == "full":
        return [samples or 1]
    if problem.sampling == "replacement":
        return [batch]
    assert samples is not None
    return [min(batch, samples - start) for start in range(0, samples, batch)]


def deviations(
    inputs: Float64[np.ndarray, "N in"], residuals: Float64[np.ndarray, "N out"]
) -> Float64[np.ndarray, "K N"]:
    """Return vec(M_s) less their mean, in columns.

    >>> deviations(np.array([[1.0], [1.0]]), np.array([[1.0], [3.0]]))  # gradients (2 / 1) e x, 2 and 6
    array([[-2.,  2.]])
    """
    each = 2 / residuals.shape[1] * residuals[:, :, None] * inputs[:, None, :]
    return (each - each.mean(0)).reshape(len(inputs), -1).T


def target_covariance(
    sigma: Float64[np.ndarray, "in in"], outputs: int, std: float | np.floating
) -> Float64[np.ndarray, "K K"]:
    """Return what noise N(0, std^2) on every target adds to C: (4 / d_out^2) std^2 I kron Sigma, one sample a batch."""
    return 4 / outputs**2 * std**2 * np.kron(np.eye(outputs), sigma)


def population_covariance(
    error: Float64[np.ndarray, "out in"], sigma: Float64[np.ndarray, "in in"], std: float | np.floating
) -> Float64[np.ndarray, "K K"]:
    """Return C of fresh samples x ~ N(0, Sigma), y = T x + std N(0, I), one sample a batch; `error` is E = W - T.

    Cov(e_i x_j, e_k x_l) = (E Sigma E' + std^2 I)_ik Sigma_jl + (E Sigma)_il (E Sigma)_kj.

    >>> population_covariance(np.ones((1, 1)), np.ones((1, 1)), 0.0)  # of 2 e x = 2 x^2
    array([[8.]])
    """
    seen = error @ sigma
    outputs, inputs = error.shape
    square = np.kron(seen @ error.T + std**2 * np.eye(outputs), sigma)
    crossed = np.einsum("il,kj->ijkl", seen, seen).reshape(outputs * inputs, -1)
    return 4 / outputs**2 * (square + crossed)


def batch_covariance(problem: Problem, end: Float64[np.ndarray, "out in"], batch: int) -> Float64[np.ndarray, "K K"]:
    """Return the covariance of a batch's mean M in one run, of what is drawn independently at every step.

    With replacement C / B, online the population's; noise on targets that is drawn afresh always, / B. Batches of
    epochs depend on each other: they are no part of this.
    """
    outputs, sigma, std = end.shape[0], problem.sigma[0], problem.label_noise[0]
    if problem.sampling == "online":
        both = np.hypot(std, problem.noise_std[0])
        return population_covariance(end - problem.optimum[0], sigma, both) / batch
    found = target_covariance(sigma, outputs, std) / batch
    if problem.sampling == "replacement" and problem.batch_size is not None:
        assert problem.inputs is not None
        assert problem.targets is not None
        inputs = problem.inputs[0]
        columns = deviations(inputs, inputs @ end.T - problem.targets[0])
        found = found + columns @ columns.T / (len(inputs) * batch)
    return found
