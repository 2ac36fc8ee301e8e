"""The Hessian of the mean squared error of a deep linear network, in closed form.

With A_l = W_L ... W_{l+1}, B_l = W_{l-1} ... W_1, the loss ||X W' - Y||_F^2 / (N d_out), Sigma = X'X / N,
Sigma_yx = Y'X / N and G = (2 / d_out) (W Sigma - Sigma_yx), layer l has the gradient A_l' G B_l'. Parameters come
layer by layer, columns one by one. The block (l, m) of the Gauss-Newton matrix is (2 / d_out) (B_l Sigma B_m') kron
(A_l' A_m); the Hessian adds, to blocks l < m, the second derivative of <G, W>: (B_l G' A_m)[j, a] C[b, i] for entries
(i, j) of W_l and (a, b) of W_m, C = W_{m-1} ... W_{l+1} (Singh, Bachmann and Hofmann, arXiv 2106.16225).

Layers, leading dimensions and biases are those of `dln.derivatives.products`. What is not finite has NaN eigenvalues.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from dln.base.arithmetic import uniform
from dln.base.stacked import decomposed
from dln.derivatives.hessian_range import Coordinates, Factored, Thin, dimension, everything, movable, thin_size
from dln.derivatives.lanczos import largest_eigenvalues, largest_of_each
from dln.derivatives.products import AT_ONCE, Array, Chain, as_float64, by_members, eigenvalues, inner, joined

if TYPE_CHECKING:
    from jaxtyping import Float64

FEW, DENSE = 60, 600
"""Dimensions up to which one eigenvalue, and a few, are found by finding all."""

NO_INPUTS = 1e-12
"""Share of the largest input variance below which one is zero, to rounding."""

LARGEST = 10_000
"""Dimension beyond which there is no finding all: the matrix would take a gigabyte, and the eigenvalues ten minutes."""

VECTORS = 24
"""Vectors a member that are in memory at a time while one eigenvalue is found."""


@uniform()
def hessian(layers: Sequence[Array], sigma: Array, sigma_yx: Array) -> Float64[np.ndarray, "*R P P"]:
    """Return the Hessian of the loss.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        sigma: X'X / N [*R, in, in].
        sigma_yx: Y'X / N [*R, out, in].

    Of w_2 w_1 x and the target 0, at w_1 = w_2 = 1, where the loss is (w_2 w_1)^2:

    >>> one = np.ones((1, 1))
    >>> hessian([one, one], one, 0 * one).tolist()
    [[2.0, 4.0], [4.0, 2.0]]
    """
    chain = Chain(layers)
    return _matrix(chain, as_float64(sigma), chain.error(sigma, sigma_yx), everything(chain))


@uniform()
def gauss_newton(layers: Sequence[Array], sigma: Array) -> Float64[np.ndarray, "*R P P"]:
    """Return the Gauss-Newton matrix: the Hessian where residuals vanish.

    Its spectrum is cheaper by `dln.derivatives.tangent_kernel`.

    >>> gauss_newton([np.ones((1, 1)), np.ones((1, 1))], np.ones((1, 1))).tolist()
    [[2.0, 2.0], [2.0, 2.0]]
    """
    chain = Chain(layers)
    return _matrix(chain, as_float64(sigma), None, everything(chain))


@uniform()
def hessian_spectrum(layers: Sequence[Array], sigma: Array, sigma_yx: Array) -> Float64[np.ndarray, "*R P"]:
    """Return all eigenvalues of the Hessian, largest first.

    The Hessian is diagonalised on a space that contains its range (`dln.derivatives.hessian_range`); all other
    eigenvalues are zero exactly.

    Of w_2 w_1 x and the target x, at the origin, which is a saddle, and at w_1 = w_2 = 1, which is a minimum:

    >>> one = np.ones((1, 1))
    >>> hessian_spectrum([0 * one, 0 * one], one, one).round(6), hessian_spectrum([one, one], one, one).round(6) + 0.0
    (array([ 2., -2.]), array([4., 0.]))
    """
    shapes = [w.shape[-2:] for w in layers]
    idle = sum(p * q for p, q in shapes) - dimension(shapes)

    def spectrum(*arrays: np.ndarray) -> Float64[np.ndarray, "R P"]:
        chain, sigma, error = _point(arrays)
        values = eigenvalues(_matrix(chain, sigma, error, movable(chain, error)))
        zeros = np.zeros((len(values), idle)) + values[:, :1] * 0  # NaN beside NaN
        return np.sort(np.concatenate([values, zeros], -1))[:, ::-1]

    return by_members(spectrum, 8 * dimension(shapes) ** 2, *layers, sigma, sigma_yx)


@uniform()
def top_eigenvalues(
    layers: Sequence[Array], sigma: Array, sigma_yx: Array, count: int = 1, *, smallest: bool = False
) -> Float64[np.ndarray, "*R count"]:
    """Return the largest eigenvalues of the Hessian, largest first, or the smallest ones, smallest first.

    Of a small network all are found; of a large one these, by `dln.derivatives.lanczos`, to 1e-10 of the Hessian's norm
    or better. At most P are returned. The first of the largest is the sharpness.

    >>> one = np.ones((1, 1))
    >>> top_eigenvalues([one, one], one, 0 * one, 1).round(9)
    array([6.])
    """
    shapes = [w.shape[-2:] for w in layers]
    if dimension(shapes) <= (FEW if count == 1 else max(DENSE, 4 * count)):
        spectrum = hessian_spectrum(layers, sigma, sigma_yx)
        return spectrum[..., ::-1][..., :count] if smallest else spectrum[..., :count]
    sign, size = -1 if smallest else 1, thin_size(shapes)
    idle = sum(p * q for p, q in shapes) - size

    def top(*arrays: np.ndarray) -> Float64[np.ndarray, "R count"]:
        chain, sigma, error = _point(arrays if count == 1 else [a[0] for a in arrays])
        product, thin = HessianProduct(chain, sigma, error), Thin(chain, error)

        def signed(vectors: np.ndarray) -> np.ndarray:
            return sign * thin.gather(product(thin.spread(vectors)))

        if count == 1:
            values = largest_of_each(signed, (len(arrays[0]), size))[:, None]
        else:
            values = largest_eigenvalues(signed, size, count)[None]
        zeros = np.zeros((len(values), min(count, idle)))  # beside what cannot move
        return sign * np.sort(np.concatenate([values, zeros + values[:, :1] * 0], -1))[:, ::-1][:, :count]

    each = 8 * VECTORS * size if count == 1 else AT_ONCE
    return by_members(top, each, *layers, sigma, sigma_yx)


@uniform()
def hessian_trace(layers: Sequence[Array], sigma: Array) -> Float64[np.ndarray, "*R"]:
    """Return tr H = (2 / d_out) sum_l tr(B_l Sigma B_l') ||A_l||_F^2, exact everywhere; that of Gauss-Newton too.

    Of w_2 w_1 x it is 2 (w_1^2 + w_2^2):

    >>> hessian_trace([np.array([[1.0]]), np.array([[2.0]])], np.ones((1, 1))).item()
    10.0
    """
    chain, sigma = Chain(layers), as_float64(sigma)
    terms = [inner(b @ sigma, b) * inner(a, a) for a, b in zip(chain.above, chain.below, strict=True)]
    return 2 / chain.outputs * np.maximum(reduce(np.add, terms), 0)  # below by rounding only


@uniform()
def least_sharpness(sigma: Array, sigma_yx: Array, depth: int) -> Float64[np.ndarray, "*R"]:
    """Return a bound from below on the largest eigenvalue of the Hessian at every minimum W = Sigma_yx Sigma^+ = W*.

    At such a minimum residuals vanish in the mean and the Hessian is the Gauss-Newton matrix, whose largest eigenvalue
    is at least (2 / d_out) sum_l ||A_l' u||^2 ||B_l Sigma^(1/2) v||^2 for unit vectors u, v. As A_l B_{l+1} = W*,
    ||A_l' u|| ||B_{l+1} Sigma^(1/2) v|| is at least s = u' W* Sigma^(1/2) v, and the product of the sum's L terms at
    least ||Sigma^(1/2) v||^2 s^(2L-2). So, as their mean is at least their geometric mean,

        lambda_max >= (2 L / d_out) ||Sigma^(1/2) v||^(2/L) ||W* Sigma^(1/2) v||^(2-2/L),

    of which the largest is returned that right singular vectors v of W* Sigma^(1/2) and eigenvectors of Sigma have.
    Of one layer it is lambda_max; of white inputs (2 L / d_out) s_1^(2-2/L), which balanced minima have
    (Mulayoff and Michaeli, arXiv 2002.04710).

    Args:
        sigma: X'X / N [*R, in, in].
        sigma_yx: Y'X / N [*R, out, in].
        depth: L.

    >>> least_sharpness(np.eye(2), np.diag([4.0, 1.0]), 2).item()
    8.0
    """
    values, vectors = decomposed(as_float64(sigma), np.linalg.eigh)
    rooted = np.sqrt(np.where(values > NO_INPUTS * values[..., -1:], values, 0))
    inverse = np.divide(1, rooted, out=np.zeros_like(rooted), where=rooted > 0)
    optimum = (as_float64(sigma_yx) @ vectors) * inverse[..., None, :]  # W* Sigma^(1/2), in the eigenbasis of Sigma
    _, strengths, right = decomposed(optimum, lambda matrices: np.linalg.svd(matrices, full_matrices=False))
    right = right * rooted[..., None, :]
    spreads = np.concatenate([np.vecdot(right, right), rooted**2], -1)  # ||Sigma^(1/2) v||^2
    strengths = np.concatenate([strengths, np.sqrt(np.vecdot(optimum.mT, optimum.mT))], -1)
    return 2 * depth / np.shape(sigma_yx)[-2] * (spreads ** (1 / depth) * strengths ** (2 - 2 / depth)).max(-1)


def saddle_index(spectrum: Float64[np.ndarray, "*R P"], tolerance: float = 1e-10) -> Float64[np.ndarray, "*R"]:
    """Return how many eigenvalues are below -tolerance max|lambda|; NaN where there is no spectrum.

    Rounding is about 1e-15 sqrt(P) max|lambda|: the default counts every negative eigenvalue that is one. Near a
    minimum that is not reached, residuals make small ones; a larger tolerance passes over them.

    >>> saddle_index(np.array([3.0, 0.0, -1e-15, -2.0])).item()
    1.0
    """
    threshold = tolerance * np.abs(spectrum).max(-1, keepdims=True)
    return np.where(np.isnan(threshold[..., 0]), np.nan, (spectrum < -threshold).sum(-1))


@uniform()
def hessian_vector_product(
    layers: Sequence[Array], sigma: Array, sigma_yx: Array, directions: Sequence[Array]
) -> list[Float64[np.ndarray, "*R p q"]]:
    """Return the Hessian times directions V [*R, p, q], layer by layer; see `HessianProduct`."""
    chain = Chain(layers)
    product = HessianProduct(chain, as_float64(sigma), chain.error(sigma, sigma_yx))
    return [found.formed() for found in product([as_float64(v) for v in directions])]


class HessianProduct:
    """Maps directions V to H V, layer by layer: the derivative along V of the gradients A_l' G B_l'.

    A product costs some P (in + out) multiplications; no matrix [P, P] is formed.
    """

    def __init__(
        self, chain: Chain, sigma: Float64[np.ndarray, "*R in in"], error: Float64[np.ndarray, "*R out in"]
    ) -> None:
        """Take the layers, Sigma and G; directions of one member may have leading dimensions of their own."""
        self._chain, self._sigma = chain, sigma
        self._right = [error @ b.mT for b in chain.below]  # G B_l'
        self._left = [a.mT @ error for a in chain.above]  # A_l' G

    def __call__(self, directions: Sequence[Float64[np.ndarray, "*R p q"] | Factored]) -> list[Factored]:
        """Return H V."""
        chain = self._chain
        below = [np.zeros_like(chain.below[0])]  # dB_l
        for v, w, b in zip(directions[:-1], chain.layers, chain.below, strict=False):
            below.append(chain.pad(v @ b + w @ below[-1]))
        end = directions[-1] @ chain.below[-1] + chain.layers[-1] @ below[-1]  # dW
        change = 2 / chain.outputs * (end @ self._sigma)  # dG
        above = np.zeros_like(chain.above[-1])  # dA_l
        products = []
        for i in reversed(range(len(chain))):
            # dA_l' G B_l' + A_l' dG B_l' + A_l' G dB_l'
            columns = joined([above.mT, chain.above[i].mT @ change, self._left[i]], -1)
            rows = joined([self._right[i], chain.below[i].mT, below[i].mT], -2)
            products.insert(0, Factored(columns, rows))
            above = chain.cut(above @ chain.layers[i] + chain.above[i] @ directions[i])
        return products


def hessian_autograd(model: nn.Module, criterion: nn.Module, inputs: Tensor, targets: Tensor) -> Float64[Tensor, "P P"]:
    """Return the Hessian of any criterion by automatic differentiation, in the order of `hessian`.

    In float64. Memory and time grow with P^2: for small networks whose loss is not the mean squared error.
    """
    model = copy.deepcopy(model).double()
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes])
        parts = [v.reshape(shape[::-1]).mT if len(shape) == 2 else v for v, shape in zip(pieces, shapes, strict=True)]
        output = torch.func.functional_call(model, dict(zip(names, parts, strict=True)), (inputs.double(),))
        return criterion(output, targets.double() if targets.is_floating_point() else targets)

    flat = torch.cat([p.detach().mT.flatten() if p.ndim == 2 else p.detach() for p in model.parameters()])
    return torch.func.jacrev(torch.func.grad(loss))(flat)  # forward mode warns of what torch itself deprecates


def _matrix(
    chain: Chain,
    sigma: Float64[np.ndarray, "*R in in"],
    error: Float64[np.ndarray, "*R out in"] | None,
    of: Coordinates,
) -> Float64[np.ndarray, "*R K K"]:
    """Return the Hessian, or without `error` the Gauss-Newton matrix, in the coordinates `of`."""
    ends = np.cumsum([0, *map(len, of.rows)])
    lead = np.broadcast_shapes(chain.lead, sigma.shape[:-2], () if error is None else error.shape[:-2])
    matrix = np.empty((*lead, ends[-1], ends[-1]))
    for low in range(len(chain)):
        for high in range(low, len(chain)):
            inputs = 2 / chain.outputs * (of.below[low] @ sigma @ of.below[high].mT)
            outputs = of.above[low].mT @ of.above[high]
            block = _pick(inputs, of.columns[low], of.columns[high]) * _pick(outputs, of.rows[low], of.rows[high])
            if error is not None and low < high:
                outer, between = of.below[low] @ error.mT @ of.above[high], of.between(chain, low, high).mT
                block += _pick(outer, of.columns[low], of.rows[high]) * _pick(between, of.rows[low], of.columns[high])
            if low == high:
                block = (block + block.mT) / 2  # symmetric to the last digit
            here, there = (slice(ends[i], ends[i + 1]) for i in (low, high))
            matrix[..., here, there] = block
            matrix[..., there, here] = block.mT
    return matrix


def _pick(matrix: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return matrix.take(rows, -2).take(columns, -1)


def _point(arrays: Sequence[np.ndarray]) -> tuple[Chain, np.ndarray, np.ndarray]:
    """Return the chain, Sigma and G of layers, Sigma and Sigma_yx."""
    *layers, sigma, sigma_yx = arrays
    chain = Chain(layers)
    return chain, sigma, chain.error(sigma, sigma_yx)
