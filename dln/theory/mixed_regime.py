"""Two wide layers from random weights: between lazy and rich, with one number that says where (arXiv 2405.17580).

In a wide hidden layer random incoming and outgoing weights are orthogonal, W_1'W_1 = kappa I, W_2 W_2' = kappa I and
W_2 W_1 = 0 with kappa = h std^2, but for shares of about 1 / sqrt(h). What gradient flow conserves then makes
W_2 W_2' = sqrt(WW' + kappa^2) and W_1'W_1 = sqrt(W'W + kappa^2) for all times, so the map moves by itself:

    dW/dt = sqrt(WW' + kappa^2) (Sigma_yx - W Sigma) + (Sigma_yx - W Sigma) sqrt(W'W + kappa^2),   t = 2 tau / d_out.

Rich, with plateaus, where kappa is much less than the teacher's strengths; lazy where it is much more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.stacked import decomposed
from dln.derivatives.products import eigenvalues, inner
from dln.theory.conditions import check_depth
from dln.theory.descent import STIFF
from dln.theory.integration import Accuracy, integrate
from dln.theory.theory import Prediction, Problem, check_condition, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


@register_theory("mixed", cost="moderate", source="arXiv 2405.17580")
def mixed(problem: Problem, steps: Int[np.ndarray, " T"], rtol: Accuracy = 1e-10) -> Prediction:
    """Gradient flow of two wide layers from random weights, of the map alone: lazy, rich and between.

    dW/dt = sqrt(WW' + kappa^2) (Sigma_yx - W Sigma) + (Sigma_yx - W Sigma) sqrt(W'W + kappa^2) from the run's own map,
    t = 2 tau / d_out, kappa = ||W_2'W_2 - W_1 W_1'||_F / sqrt(in + out), which is h std^2 in wide layers.

    Needs two layers. Conditions: `orthogonality`, the larger of ||W_1'W_1 - sqrt(W'W + kappa^2)|| and
    ||W_2 W_2' - sqrt(WW' + kappa^2)|| at the start, as a share of the larger of ||W_1'W_1|| and ||W_2 W_2'|| (spectral
    norms): 0 where this is exact, of balanced weights too, and about sqrt(in / h) from random ones; and `lr_sharpness`,
    about the largest lr lambda_max along the path: gradient descent is about that share of its way from the flow, and
    above 10 it is refused.
    """
    check_depth("mixed", problem, 2)
    with uniform():
        first, second = problem.layers
        scale = kappa(first, second)
        sharpness = _lr_sharpness(problem, scale)
        known = np.where(np.isfinite(sharpness), sharpness, 0)
        check_condition("mixed", known, STIFF, "lr * sharpness", "use a smaller training.lr")
        maps = [
            mixed_maps(problem.start[r], problem.sigma[r], problem.sigma_yx[r], scale[r], times, rtol)
            for r, times in enumerate(problem.rate[:, None] * steps)
        ]
        conditions = {"orthogonality": _orthogonality(problem, scale), "lr_sharpness": sharpness}
    return Prediction(np.stack(maps), conditions=conditions)


def kappa(first: Float64[np.ndarray, "*R h in"], second: Float64[np.ndarray, "*R out h"]) -> Float64[np.ndarray, "*R"]:
    """Return ||W_2'W_2 - W_1 W_1'||_F / sqrt(in + out), about h std^2 for wide layers of random weights.

    >>> float(kappa(np.eye(3)[:, :2], np.eye(3)[2:]))
    1.0
    """
    difference = second.mT @ second - first @ first.mT
    return np.sqrt(inner(difference, difference) / (first.shape[-1] + second.shape[-2]))


@uniform()
def mixed_maps(
    end: Float64[np.ndarray, "out in"],
    sigma: Float64[np.ndarray, "in in"],
    sigma_yx: Float64[np.ndarray, "out in"],
    kappa: float | Float64[np.ndarray, ""],
    times: Float64[np.ndarray, " T"],
    rtol: float = 1e-10,
) -> Float64[np.ndarray, "T out in"]:
    """Return the map at times t = 2 tau / d_out, rising from 0 on, from `end` on.

    >>> one = np.ones((1, 1))
    >>> mixed_maps(0 * one, one, 2 * one, 1.0, np.array([0.0, 1.0])).ravel().round(6)
    array([0.      , 1.931338])
    >>> mixed_mode(2.0, 1.0, 1.0).round(6)
    np.float64(1.931338)
    """

    def field(state: np.ndarray) -> np.ndarray:
        now = state.reshape(end.shape)
        left, values, right = np.linalg.svd(now)
        out, into = (np.hypot(np.pad(values, (0, n - len(values))), kappa) for n in end.shape)
        return (left @ ((out[:, None] + into) * (left.T @ (sigma_yx - now @ sigma) @ right.T)) @ right).ravel()

    return integrate(field, end.ravel(), [(times, lambda states: states.reshape(-1, *end.shape))], rtol)[0]


@uniform()
def mixed_mode(
    strength: Float64[np.ndarray, "*n"], kappa: Float64[np.ndarray, "*n"], time: Float64[np.ndarray, "*n"]
) -> Float64[np.ndarray, "*n"]:
    """Return the strength of a mode at times t = 2 tau / d_out that starts at 0, on whitened inputs; broadcasts.

    With r = sqrt(s^2 + kappa^2), z+- = (s +- r) / kappa and D = e^(-2 r t):
    z = [z+ (1 - z-) - z- (1 - z+) D] / [(1 - z-) - (1 - z+) D], p = kappa (z - 1/z) / 2.

    >>> mixed_mode(2.0, np.array([1e-6, 1.0, 1e3]), 0.002).round(4)  # rich: not yet; lazy: s (1 - exp(-2 kappa t))
    array([0.    , 0.008 , 1.9634])
    """
    root = np.hypot(strength, kappa)
    high, low = (strength + root) / kappa, -kappa / (strength + root)
    decay = np.exp(-2 * root * time)
    z = (high * (1 - low) - low * (1 - high) * decay) / ((1 - low) - (1 - high) * decay)
    return kappa * (z - 1 / z) / 2


def _orthogonality(problem: Problem, scale: Float64[np.ndarray, " R"]) -> Float64[np.ndarray, " R"]:
    """Return how far W_1'W_1 and W_2 W_2' are from what the map's own equation takes them to be."""
    first, second = problem.layers
    gaps, sizes = [], []
    for gram, end in ((first.mT @ first, problem.start), (second @ second.mT, problem.start.mT)):
        _, values, vectors = decomposed(end, np.linalg.svd)  # of W'W itself roots of rounding would be taken
        roots = np.tile(scale[:, None], vectors.shape[-1])
        roots[:, : values.shape[-1]] = np.hypot(values, scale[:, None])
        gaps.append(np.abs(eigenvalues(gram - (vectors.mT * roots[:, None]) @ vectors)).max(-1))
        sizes.append(eigenvalues(gram)[:, 0])
    size = np.max(sizes, 0)
    return np.max(gaps, 0) / np.where(size > 0, size, 1)


def _lr_sharpness(problem: Problem, scale: Float64[np.ndarray, " R"]) -> Float64[np.ndarray, " R"]:
    """Return lr times the largest eigenvalue that the tangent kernel has at the start's map or at the optimum."""
    norms = [np.sqrt(eigenvalues(w.mT @ w)[:, 0]) for w in (problem.start, problem.optimum)]
    return 2 * problem.rate * eigenvalues(problem.sigma)[:, 0] * np.hypot(np.max(norms, 0), scale)
