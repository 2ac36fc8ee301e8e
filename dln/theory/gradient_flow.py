"""Gradient flow: what gradient descent would be with infinitely small steps.

Time is counted in steps n, so that a run and its flow are compared at equal n: dW_l/dn = -lr A_l' G B_l', flow time
being tau = lr n. Layers are followed, so nothing is approximated: the end-to-end map obeys
dW/dtau = -sum_l A_l A_l' G B_l' B_l.

Balanced layers, W_{l+1}'W_{l+1} = W_l W_l', stay balanced, and then the map alone says how it goes on:
dW/dtau = -sum_j [WW']^((j-1)/L) G [W'W]^((L-j)/L) (Arora, Cohen and Hazan, arXiv 1802.06509). All hidden layers then
have the rank of W, so a net as narrow as W has the same flow at a cost that does not grow with the width. That net is
what is integrated, with singular values of W to the power 1/L in each of its layers: its field is a polynomial,
whereas the fractional powers of W make much of rounding, where singular values are small. A start that is balanced, or
has two layers, is followed in the narrowest net that has its flow too (`dln.theory.narrow`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.stacked import decomposed
from dln.derivatives.products import Chain
from dln.theory.conditions import balance_gap
from dln.theory.descent import LOOKS, STIFF, Descent, each_run, narrowest
from dln.theory.integration import Accuracy, integrate
from dln.theory.theory import Prediction, Problem, register_theory

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

    from dln.theory.descent import Layers


@register_theory("gradient_flow", cost="moderate")
def gradient_flow(problem: Problem, steps: Int[np.ndarray, " T"], rtol: Accuracy = 1e-11) -> Prediction:
    """Gradient flow from the run's start, for any depth, weights and data: gradient descent in infinitely small steps.

    dW_l/dtau = -A_l' G B_l' at tau = lr step, integrated to `rtol`; of a run with batches, on the whole training set.

    Conditions: `lr_sharpness`, the largest lr lambda_max along the path (of nine looks), in the directions that it may
    take. Gradient descent is about that share of its way from the flow, and beyond 2 it does not follow it at all;
    above 10, where descent is lost at once and the flow stiff, it is refused.
    """
    return _flows("gradient_flow", problem, steps, rtol, narrowest)


@register_theory("balanced_flow", cost="moderate", source="arXiv 1802.06509")
def balanced_flow(problem: Problem, steps: Int[np.ndarray, " T"], rtol: Accuracy = 1e-11) -> Prediction:
    """Gradient flow of the run's initial map as if its layers were balanced: of the map alone, whatever the width.

    dW/dtau = -sum_j [WW']^((j-1)/L) G [W'W]^((L-j)/L).

    Conditions: `lr_sharpness` as for gradient_flow, along this flow, and `balance_gap`, the start's largest
    ||W_{l+1}'W_{l+1} - W_l W_l'||_F / ||W_l||_F^2: 0 where this is the gradient flow, about 1 for independent layers.
    """
    found = _flows(
        "balanced_flow", problem, steps, rtol, lambda layers: balanced_layers(Chain(layers).end, len(layers))
    )
    return Prediction(found.maps, conditions={**found.conditions, "balance_gap": balance_gap(problem.layers)})


@uniform()
def flow_maps(
    layers: Layers,
    sigma: Float64[np.ndarray, "in in"],
    sigma_yx: Float64[np.ndarray, "out in"],
    times: Float64[np.ndarray, " T"],
    rtol: float = 1e-11,
) -> Float64[np.ndarray, "T out in"]:
    """Return the end-to-end maps of a net under gradient flow at times tau, rising from 0 on.

    >>> one = np.ones((1, 1))  # one layer: W = W* + (W_0 - W*) exp(-2 tau)
    >>> flow_maps([0 * one], one, one, np.array([0.0, 0.5]))[:, 0, 0].round(6)
    array([0.      , 0.632121])
    """
    net = Descent(layers, sigma, sigma_yx)
    return integrate(net.change, net.start, [(times, net.maps)], rtol)[0]


@uniform()
def balanced_field(
    end: Float64[np.ndarray, "*R out in"], error: Float64[np.ndarray, "*R out in"], depth: int
) -> Float64[np.ndarray, "*R out in"]:
    """Return dW/dtau = -sum_j [WW']^((j-1)/L) G [W'W]^((L-j)/L), the flow of the map W of balanced layers.

    Singular values that are rounding are taken as zero, and a power of 0 as the identity.

    Args:
        end: W.
        error: G = (2 / d_out) (W Sigma - Sigma_yx).
        depth: L.

    >>> balanced_field(np.array([[4.0]]), np.array([[1.0]]), depth=2)
    array([[-8.]])
    """
    left, values, right = decomposed(end, np.linalg.svd)
    values = _cleared(values, end)
    powers = [_padded(values, n)[..., None] ** (2 / depth * np.arange(depth)) for n in end.shape[-2:]]  # [*R, n, L]
    factors = powers[0] @ powers[1][..., ::-1].mT  # sum_j s_r^(2(j-1)/L) s_c^(2(L-j)/L)
    return -left @ (factors * (left.mT @ error @ right.mT)) @ right


@uniform()
def balanced_layers(end: Float64[np.ndarray, "*R out in"], depth: int) -> list[Float64[np.ndarray, "*R p q"]]:
    """Return balanced layers of the map W = U S V': S^(1/L) V', then S^(1/L) in each, and U S^(1/L).

    >>> balanced_layers(np.array([[8.0]]), 3)
    [array([[2.]]), array([[2.]]), array([[2.]])]
    """
    if depth == 1:
        return [end]
    left, values, right = decomposed(end, lambda matrices: np.linalg.svd(matrices, full_matrices=False))
    roots = _cleared(values, end)[..., None] ** (1 / depth)
    return [roots * right, *[roots * np.eye(values.shape[-1])] * (depth - 2), left * roots.mT]


def _cleared(values: Float64[np.ndarray, "*R k"], end: Float64[np.ndarray, "*R out in"]) -> np.ndarray:
    """Return singular values with 0 for those that are rounding: a root would make much of them."""
    return np.where(values > max(end.shape[-2:]) * np.finfo(float).eps * values[..., :1], values, 0.0)


def _padded(values: Float64[np.ndarray, "*R k"], n: int) -> Float64[np.ndarray, "*R n"]:
    """Return n numbers: these, and then zeros."""
    return np.concatenate([values, np.zeros((*values.shape[:-1], n - values.shape[-1]))], -1)


@uniform()
def _flows(
    name: str, problem: Problem, steps: Int[np.ndarray, " T"], rtol: float, layers_of: Callable[[Layers], Layers]
) -> Prediction:
    """Return the gradient flow of each run, from what `layers_of` makes of its layers, for the theory `name`."""
    times, looks = np.asarray(steps, float), LOOKS * steps[-1]
    maps, sharpness = [], []
    for net in each_run(problem, layers_of):
        watched = partial(net.watched, name=name, limit=STIFF)
        found = integrate(net.change, net.start, [(times, net.maps), (looks, watched)], rtol)
        maps.append(found[0])
        sharpness.append(found[1].max())
    return Prediction(np.stack(maps), conditions={"lr_sharpness": np.array(sharpness)})
