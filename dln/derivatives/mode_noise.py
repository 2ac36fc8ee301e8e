"""Drift and noise of the singular modes of the end-to-end map, in closed form under the mean squared error.

With W = sum_i s_i u_i v_i', a change dW of the map changes s_i by u_i' dW v_i, to first order. Gradient flow on the
loss of sample n moves s_i at the rate r_n = -(2 / d_out) sum_l (u_i' A_l A_l' e_n)(x_n' B_l' B_l v_i), with the
residual e_n = W x_n - y_n (A_l, B_l as in `dln.derivatives.products`): minus the inner product of the gradients of s_i
and of the sample's loss. Its mean over samples is the drift of the mode, its variance the noise, one sample a batch;
that of a batch is `dln.derivatives.gradient_noise.batch_factor` times it. Biases move no mode.

Layers and leading dimensions are those of `dln.derivatives.products`; inputs come without the constant one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dln.base.arithmetic import uniform
from dln.derivatives.gradient_noise import population_of, samples_of
from dln.derivatives.products import Array, Chain, as_float64, by_members, inner

if TYPE_CHECKING:
    from jaxtyping import Float64


class ModeNoise(NamedTuple):
    """How singular values move under gradient flow, largest first."""

    drift: Float64[np.ndarray, "*R k"]
    """Mean of ds_i / dt."""
    noise: Float64[np.ndarray, "*R k"]
    """Variance of it, one sample a batch."""


@uniform()
def sample_mode_noise(layers: Sequence[Array], inputs: Array, targets: Array, left: Array, right: Array) -> ModeNoise:
    """Return drift and noise of modes on a training set, averages over its samples.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        inputs: [*R, N, in].
        targets: [*R, N, out].
        left: Left singular vectors u_i of the map in columns, [*R, out, k].
        right: Right singular vectors v_i in rows, [*R, k, in].

    >>> one, y = np.ones((1, 1)), np.array([[1.0], [3.0]])  # (w - y)^2 moves w = 1 at the rates 0 and 4
    >>> sample_mode_noise([one], np.ones((2, 1)), y, one, one)
    ModeNoise(drift=array([2.]), noise=array([4.]))
    """

    def found(*arrays: np.ndarray) -> Float64[np.ndarray, "R 2k"]:
        *rest, u, v = arrays
        chain, x, residuals = samples_of(rest)
        above, below = _pulls(chain, u, v)
        terms = [(residuals @ a) * (x @ b) for a, b in zip(above, below, strict=True)]
        rates = np.ascontiguousarray(-2 / chain.outputs * np.add.reduce(terms).mT)  # [R, k, N]
        drift = rates.sum(-1) / x.shape[-2]
        spread = rates - drift[..., None]
        return np.concatenate([drift, np.vecdot(spread, spread) / x.shape[-2]], -1)

    n, k = np.shape(inputs)[-2], np.shape(right)[-2]
    values = by_members(found, 8 * n * k * (len(layers) + 3), *layers, inputs, targets, left, right)
    return ModeNoise(values[..., :k], values[..., k:])


@uniform()
def population_mode_noise(
    layers: Sequence[Array],
    teacher: Array,
    label_noise: float | Array,
    sigma: Array | None,
    left: Array,
    right: Array,
) -> ModeNoise:
    """Return drift and noise of modes on fresh samples x ~ N(0, Sigma), y = T x + label_noise N(0, I).

    Without the noise on targets r = -x' P x, P = (2 / d_out) sum_l (W - T)' A_l A_l' u_i v_i' B_l' B_l, with the mean
    -tr(PM) and the variance tr(PMPM) + tr(PMP'M), M = E x x'; with biases the constant input, which is not Gaussian,
    takes off 2 P_cc^2. The noise adds its square times `mode_label_noise`.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        teacher: T [*R, out, in].
        label_noise: Standard deviation of the noise on every target, [*R].
        sigma: [*R, in, in]; None: the identity.
        left: Left singular vectors u_i of the map in columns, [*R, out, k].
        right: Right singular vectors v_i in rows, [*R, k, in].

    >>> one = np.ones((1, 1))  # (w x)^2 moves w = 1 at the rate -2 x^2
    >>> population_mode_noise([one], 0 * one, 0.0, None, one, one)
    ModeNoise(drift=array([-2.]), noise=array([8.]))
    """
    chain, variance = Chain(layers), np.asarray(label_noise, dtype=np.float64) ** 2
    teacher, root, biased = population_of(chain, teacher, sigma)
    moments, wrong = (root @ root.mT)[..., None, :, :], chain.end - teacher
    above, below = _pulls(chain, as_float64(left), as_float64(right))
    outer = _by_modes([wrong.mT @ a for a in above])
    p = 2 / chain.outputs * (outer.mT @ _by_modes(below))  # [*R, k, n, n]
    pm = p @ moments
    noise = inner(pm, pm.mT) + inner(pm, moments @ p)
    if biased:
        noise = np.maximum(noise - 2 * p[..., -1, -1] ** 2, 0)
    noise = noise + variance[..., None] * _of_targets(chain, root @ root.mT, above, below)
    return ModeNoise(-pm.trace(axis1=-2, axis2=-1), noise)


@uniform()
def mode_label_noise(layers: Sequence[Array], sigma: Array, left: Array, right: Array) -> Float64[np.ndarray, "*R k"]:
    """Return what noise N(0, 1) on all targets adds to the noise of modes, one sample a batch.

    (4 / d_out^2) sum_lm (u_i' A_l A_l' A_m A_m' u_i)(v_i' B_l' B_l Sigma B_m' B_m v_i).

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        sigma: X'X / N [*R, n, n]; inputs end with a constant one if there are biases.
        left: Left singular vectors u_i of the map in columns, [*R, out, k].
        right: Right singular vectors v_i in rows, [*R, k, in].

    >>> one = np.ones((1, 1))  # the gradient of (w - y)^2 has -2 times the noise of y
    >>> mode_label_noise([one], one, one, one)
    array([4.])
    """
    chain = Chain(layers)
    return _of_targets(chain, as_float64(sigma), *_pulls(chain, as_float64(left), as_float64(right)))


def _of_targets(
    chain: Chain, sigma: np.ndarray, above: Sequence[np.ndarray], below: Sequence[np.ndarray]
) -> Float64[np.ndarray, "*R k"]:
    a, b = _by_modes(above), _by_modes(below)
    return 4 / chain.outputs**2 * inner(a @ a.mT, b @ sigma[..., None, :, :] @ b.mT)


def _pulls(
    chain: Chain, left: Float64[np.ndarray, "*R out k"], right: Float64[np.ndarray, "*R k in"]
) -> tuple[list[Float64[np.ndarray, "*R out k"]], list[Float64[np.ndarray, "*R n k"]]]:
    """Return A_l A_l' u_i and B_l' B_l v_i of every layer, in columns."""
    v = right.mT
    if chain.end.shape[-1] > v.shape[-2]:  # the constant input is part of no mode
        v = np.concatenate([v, np.zeros((*v.shape[:-2], 1, v.shape[-1]))], -2)
    return [a @ (a.mT @ left) for a in chain.above], [b.mT @ (b @ v) for b in chain.below]


def _by_modes(layers: Sequence[Float64[np.ndarray, "*R n k"]]) -> Float64[np.ndarray, "*R k L n"]:
    """Return vectors of every layer and mode, mode by mode."""
    return np.ascontiguousarray(np.stack([part.mT for part in np.broadcast_arrays(*layers)], -2))
