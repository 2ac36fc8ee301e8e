"""Theories of modes that learn each for itself, from an aligned and balanced start on white inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dln.derivatives.hessian import top_eigenvalues
from dln.theory.alignment import alignment_conditions, modes_of
from dln.theory.gradient_flow import balanced_layers
from dln.theory.modes import aligned_modes, aligned_modes_gd
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


@register_theory("aligned_modes", cost="cheap", source="arXiv 1312.6120")
def predict_aligned_modes(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Map of gradient flow from an aligned, balanced start on white inputs: each mode's closed form, at any depth.

    W(t) = U diag(a_i(t)) V' with the modes of the least-squares map, da_i/dt = L a_i^(2 - 2/L) (s_i - a_i), at time
    t = 2 lr step / d_out. It is asked for with `model.init=aligned` and `data.whiten=true`; what is near that runs.

    Conditions: `alignment_gap`, the share of the initial map that is off these modes; `balance_gap`, how far layers are
    from W_{l+1}'W_{l+1} = W_l W_l'; `whitening_gap`, max |Sigma - I|, each at most 0.1; and `lr_sharpness`, the largest
    lr lambda_max along the path, which is how far gradient descent is from flow (2 is the edge of stability).
    Mini-batches have noise that it knows nothing of.
    """
    modes = modes_of(problem)
    conditions = alignment_conditions("aligned_modes", problem, modes)
    time = problem.rate[:, None, None] * steps[:, None]
    maps = modes.maps(aligned_modes(modes.strength[:, None], modes.start[:, None], problem.depth, time))
    return Prediction(maps, conditions=conditions | {"lr_sharpness": _lr_sharpness(problem, maps)})


@register_theory("aligned_modes_gd", cost="cheap", source="arXiv 1312.6120")
def predict_aligned_modes_gd(problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
    """Map of gradient descent from an aligned, balanced start on white inputs: each mode's own recursion, exactly.

    As `aligned_modes`, with w_i <- w_i + (2 lr / d_out) (s_i - w_i^L) w_i^(L-1), a_i = w_i^L, in place of flow: equal
    to a run on the full batch to rounding, at any lr. Conditions: those gaps.
    """
    modes = modes_of(problem)
    conditions = alignment_conditions("aligned_modes_gd", problem, modes)
    found = aligned_modes_gd(modes.strength, modes.start, problem.depth, problem.rate[:, None], steps)
    return Prediction(modes.maps(found.mT), conditions=conditions)


LOOKS = 20
"""At how many places of its path a prediction's sharpness is looked at."""


def _lr_sharpness(problem: Problem, maps: Float64[np.ndarray, "R T out in"]) -> Float64[np.ndarray, " R"]:
    """Return the largest lr lambda_max of balanced layers along a path."""
    looks = np.unique(np.linspace(0, maps.shape[1] - 1, LOOKS).astype(int))
    layers = balanced_layers(maps[:, looks], problem.depth)
    sharpness = top_eigenvalues(layers, problem.sigma[:, None], problem.sigma_yx[:, None])
    return problem.lr * sharpness.max((1, 2))
