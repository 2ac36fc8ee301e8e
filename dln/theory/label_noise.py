"""What fresh noise on targets does to SGD at a minimum: a floor under the loss, and a slow drift along the valley.

At a minimum that fits the noiseless targets, noise of variance s^2 on every target gives gradients of a batch of B the
covariance C_B = 2 s^2 H / (d_out B): large where the Hessian is. So the weights spread evenly over the directions that
the loss sees, with lr s^2 / (d_out B) in each, to first order in lr, and the loss lies lr s^2 tr H / (2 d_out B) above
its minimum. The same spread pushes along the valley of minima, against the slope of tr H: in time tau = lr step

    dW_l / dtau = -lr s^2 / (2 d_out B) [P grad tr H]_l,    P the projection on the kernel of H,

(Damian, Ma and Lee, arXiv 2106.06530; Li, Wang and Arora, arXiv 2110.06914). The drift ends at minima of least trace,
which are not balanced: two layers with Sigma = I end at d_in W_2'W_2 = d_out W_1 W_1'.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.derivatives.hessian import hessian_trace
from dln.derivatives.products import Array, Chain, as_float64, half, inner
from dln.theory.integration import integrate

if TYPE_CHECKING:
    from jaxtyping import Float64

KERNEL = 1e-12
"""Share of the largest eigenvalue of the kernel J'J below which a direction of the map is one that nothing moves."""


def label_noise_floor(
    layers: Sequence[Array], sigma: Array, lr: float | Array, batch_size: int, noise_std: float | Array
) -> Float64[np.ndarray, "*R"]:
    """Return lr s^2 tr H / (2 d_out B), by which noise on targets keeps the loss above its minimum.

    To first order in lr: it is low by about lr lambda_max, relatively. The loss is that on noiseless targets.

    Args:
        layers: L matrices [*R, out, in], of a minimum.
        sigma: X'X / N [*R, in, in], or the population's covariance.
        lr: Learning rate [*R].
        batch_size: B.
        noise_std: s [*R].

    >>> label_noise_floor([np.ones((1, 1))], np.ones((1, 1)), 0.1, 1, 1.0).item()  # H = 2
    0.1
    """
    return np.asarray(lr) * np.asarray(noise_std) ** 2 * hessian_trace(layers, sigma) / _twice(layers, batch_size)


@uniform()
def label_noise_drift(
    layers: Sequence[Array], sigma: Array, batch_size: int, noise_std: float
) -> list[Float64[np.ndarray, "*R p q"]]:
    """Return the drift along the valley of minima, divided by lr: -s^2 / (2 d_out B) times P grad tr H, layer by layer.

    It is what moves layers in time tau = lr step, to first order in lr. Arguments are those of `label_noise_floor`.

    >>> drift = label_noise_drift([np.array([[2.0]]), np.array([[1.0]])], np.ones((1, 1)), 1, 1.0)
    >>> [w.round(6).item() for w in drift]  # along (-2, 1), which leaves w_2 w_1 as it is
    [-2.4, 1.2]
    """
    slope = trace_gradient(layers, sigma)
    across = _seen(Chain(layers), as_float64(sigma), slope)
    scale = noise_std**2 / _twice(layers, batch_size)
    return [-scale * (g - seen) for g, seen in zip(slope, across, strict=True)]


@uniform()
def trace_gradient(layers: Sequence[Array], sigma: Array) -> list[Float64[np.ndarray, "*R p q"]]:
    """Return the gradient of tr H = (2 / d_out) sum_l ||A_l||^2 tr(B_l Sigma B_l').

    With W_{m..l} = W_{m-1} ... W_{l+1}, layer m has (4 / d_out) [sum_{l>m} ||A_l||^2 W_{l..m}' B_l Sigma B_m'
    + sum_{l<m} tr(B_l Sigma B_l') A_m' A_l W_{m..l}'].

    >>> [w.item() for w in trace_gradient([np.array([[2.0]]), np.array([[1.0]])], np.ones((1, 1)))]  # 2 (w_1^2 + w_2^2)
    [8.0, 4.0]
    """
    chain, sigma = Chain(layers), as_float64(sigma)
    seen = [b @ sigma for b in chain.below]
    lengths = [inner(s, b)[..., None, None] for s, b in zip(seen, chain.below, strict=True)]
    heights = [inner(a, a)[..., None, None] for a in chain.above]
    found = []
    for m, (a, b) in enumerate(zip(chain.above, chain.below, strict=True)):
        terms = [heights[i] * (chain.between(m, i).mT @ seen[i] @ b.mT) for i in range(m + 1, len(chain))]
        terms += [lengths[i] * (a.mT @ chain.above[i] @ chain.between(i, m).mT) for i in range(m)]
        found.append(4 / chain.outputs * reduce(np.add, terms, np.zeros_like(chain.layers[m])))
    return found


def label_noise_path(
    layers: Sequence[Array],
    sigma: Array,
    batch_size: int,
    noise_std: float,
    times: Float64[np.ndarray, " T"],
    rtol: float = 1e-9,
) -> list[Float64[np.ndarray, "T p q"]]:
    """Return layers that start at a minimum and drift along its valley, at the times lr tau = lr^2 step.

    The map, on what inputs there are, stays as it is, and tr H falls. Other arguments are those of `label_noise_drift`.
    """
    shapes = [np.shape(w) for w in layers]
    cuts = np.cumsum([np.prod(shape) for shape in shapes])[:-1]

    def unpacked(states: Float64[np.ndarray, "*k P"]) -> list[Float64[np.ndarray, "*k p q"]]:
        parts = np.split(states, cuts, -1)
        return [part.reshape(*states.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)]

    def change(state: Float64[np.ndarray, " P"]) -> Float64[np.ndarray, " P"]:
        return np.concatenate([w.ravel() for w in label_noise_drift(unpacked(state), sigma, batch_size, noise_std)])

    start = np.concatenate([as_float64(w).ravel() for w in layers])
    return unpacked(integrate(change, start, [(times, lambda states: states)], rtol)[0])


def _seen(
    chain: Chain, sigma: Float64[np.ndarray, "*R in in"], direction: Sequence[Float64[np.ndarray, "*R p q"]]
) -> list[Float64[np.ndarray, "*R p q"]]:
    """Return what of a direction the Gauss-Newton matrix sees: its projection on the maps M -> A_l' M F' B_l'.

    With J that map, F F' = Sigma, the projection is J (J'J)^+ J': J'J is [d_out d_in, d_out d_in] at any width.
    """
    root = half(sigma)
    below = [b @ root for b in chain.below]
    pairs = [*zip(chain.above, below, strict=True)]
    kernel = reduce(np.add, [_kron(a @ a.mT, b.mT @ b) for a, b in pairs])
    moved = reduce(np.add, [a @ v @ b for (a, b), v in zip(pairs, direction, strict=True)])
    lead = moved.shape[:-2]
    back = np.linalg.pinv(kernel, KERNEL, hermitian=True) @ moved.reshape(*lead, -1, 1)
    return [a.mT @ back.reshape(moved.shape) @ b.mT for a, b in pairs]


def _kron(a: Float64[np.ndarray, "*R m m"], b: Float64[np.ndarray, "*R n n"]) -> Float64[np.ndarray, "*R mn mn"]:
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    size = a.shape[-1] * b.shape[-1]
    return product.reshape(*product.shape[:-4], size, size)


def _twice(layers: Sequence[Array], batch_size: int) -> int:
    """Return 2 d_out B."""
    return 2 * layers[-1].shape[-2] * batch_size
