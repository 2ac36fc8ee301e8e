"""Levels of the loss on which a run may rest: those of the saddles, where some modes are learned and others are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.errors import ConfigError
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

ROUNDING = 1e-13
"""Eigenvalue of Sigma, as a share of the largest, below which a direction has no inputs."""


@uniform()
def plateau_levels(
    sigma: Float64[np.ndarray, "*R in in"],
    sigma_yx: Float64[np.ndarray, "*R out in"],
    target_square: float | Float64[np.ndarray, "*R"],
    learned: Sequence[int] | None = None,
) -> Float64[np.ndarray, "*R"] | Float64[np.ndarray, "*R k+1"]:
    """Return the mean squared error at the saddles of a net of two layers or more.

    At every critical point W Sigma^(1/2) consists of some singular modes of W* Sigma^(1/2), W* = Sigma_yx Sigma^+ the
    least-squares map (Baldi and Hornik 1989). With s_i its singular values the loss is there

        (1 / d_out) (sum of s_i^2 over the other modes + what no map explains, E||y||^2 - sum of all s_i^2).

    Any subset is a critical point, if no more modes than the narrowest layer passes: a deep net that starts at random
    need not learn in order. The modes are not the teacher's where there is noise on targets, or inputs are not white.

    Args:
        sigma: X'X / N, or the population's covariance.
        sigma_yx: Y'X / N likewise.
        target_square: Mean of ||y||^2.
        learned: Numbers of the modes that are learned, 0 the largest; None: the first 0, 1, ..., k = min(out, in).

    >>> sigma_yx = np.diag([2.0, 1.0])  # of the teacher diag(2, 1) on white inputs
    >>> plateau_levels(np.eye(2), sigma_yx, 5.0)
    array([2.5, 0.5, 0. ])
    >>> plateau_levels(np.eye(2), sigma_yx, 5.0, learned=[1]).item()
    2.0
    """
    squares = explained_squares(sigma, sigma_yx)
    rest, d_out = np.asarray(target_square) - squares.sum(-1), sigma_yx.shape[-2]
    if learned is not None:
        return (rest + np.delete(squares, learned, -1).sum(-1)) / d_out
    unlearned = np.cumsum(squares[..., ::-1], -1)[..., ::-1]
    return (rest[..., None] + np.concatenate([unlearned, 0 * squares[..., :1]], -1)) / d_out


@uniform()
def explained_squares(
    sigma: Float64[np.ndarray, "*R in in"], sigma_yx: Float64[np.ndarray, "*R out in"]
) -> Float64[np.ndarray, "*R k"]:
    """Return the squared singular values of W* Sigma^(1/2): what of E||y||^2 each mode explains, largest first."""
    values, vectors = np.linalg.eigh(sigma)
    there = values > ROUNDING * values[..., -1:]
    scale = np.where(there, 1 / np.sqrt(np.where(there, values, 1.0)), 0.0)
    return np.linalg.svd(sigma_yx @ (vectors * scale[..., None, :]), compute_uv=False) ** 2


@register_theory("plateaus", columns=("levels",), maps=False, cost="cheap", source="Baldi and Hornik 1989")
def predict_plateaus(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Loss of the saddles with the first 0, 1, ... modes learned: lines to draw beside the run's plateaus.

    The column `levels` has (1 / d_out) (sum of s_i^2 over the modes not yet learned + what no map explains), s_i the
    singular values of W* Sigma^(1/2), for as many modes as the narrowest layer passes: the same numbers at every step.
    It holds for any net of two layers or more, so there are no conditions; `dln.theory.plateau_levels` has the levels
    of other subsets, which nets that start at random may come to.
    """
    if problem.depth == 1:
        raise ConfigError("theory plateaus needs two layers or more, and there is 1: use model.num_hidden=1 or more")
    levels = plateau_levels(problem.sigma, problem.sigma_yx, problem.target_square)
    passes = min(min(w.shape[-2:]) for w in problem.layers)
    lines = np.repeat(levels[:, None, : passes + 1], len(steps), 1)
    return Prediction(columns={"levels": lines})
