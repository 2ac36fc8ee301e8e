"""The neural tangent kernel of a deep linear network, and with it the Gauss-Newton spectrum.

On N inputs X the kernel's Gram matrix is K = sum_l (X B_l' B_l X') kron (A_l A_l') [N d_out, N d_out] (A_l, B_l of
`dln.derivatives.products`): the derivatives of all outputs by all parameters, times their transpose. Its nonzero
eigenvalues are N times those of k = sum_l (F' B_l' B_l F) kron (A_l A_l') with F F' = Sigma = X'X / N, which is [in
d_out, in d_out] whatever the width, and N d_out / 2 times those of the Gauss-Newton matrix. No larger matrix is formed
here.

Layers, leading dimensions and biases are those of `dln.derivatives.products`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.stacked import as_tensor, cosine, nonnegative
from dln.derivatives.hessian import gauss_newton
from dln.derivatives.products import Array, Chain, as_float64, by_members, eigenvalues, half, inner

if TYPE_CHECKING:
    from jaxtyping import Float64


@uniform()
def gauss_newton_spectrum(layers: Sequence[Array], sigma: Array) -> Float64[np.ndarray, "*R k"]:
    """Return the k = min(in d_out, P) largest eigenvalues of the Gauss-Newton matrix, largest first; others are zero.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        sigma: X'X / N [*R, in, in].

    Of w_2 w_1 x it is 2 (w_1^2 + w_2^2):

    >>> gauss_newton_spectrum([np.array([[1.0]]), np.array([[2.0]])], np.ones((1, 1))).round(6)
    array([10.])
    """
    n, d_out, parameters = np.shape(sigma)[-1], layers[-1].shape[-2], sum(w.shape[-2] * w.shape[-1] for w in layers)

    def spectrum(*arrays: np.ndarray) -> Float64[np.ndarray, "R k"]:
        if parameters < n * d_out:
            return eigenvalues(gauss_newton(arrays[:-1], arrays[-1]))
        inputs, outputs = _factors(Chain(arrays[:-1]), half(arrays[-1]))
        terms = inputs[..., :, None, :, None] * outputs[..., None, :, None, :]  # [R, L, in, out, in, out]
        kernel = terms[:, 0]
        for i in range(1, len(layers)):
            kernel = kernel + terms[:, i]
        return 2 / d_out * eigenvalues(kernel.reshape(-1, n * d_out, n * d_out))

    smaller = min(parameters, n * d_out)
    return nonnegative(by_members(spectrum, 8 * len(layers) * smaller**2, *layers, sigma))


def ntk_spectrum(layers: Sequence[Array], sigma: Array, samples: int) -> Float64[np.ndarray, "*R k"]:
    """Return the k = min(in d_out, P, N d_out) largest eigenvalues of the kernel's Gram matrix, largest first.

    All others are zero. `samples` is N, the number of inputs that `sigma` is of.

    >>> ntk_spectrum([np.ones((1, 1))], np.array([[3.0]]), samples=2).round(9)
    array([6.])
    """
    d_out = layers[-1].shape[-2]
    return samples * d_out / 2 * gauss_newton_spectrum(layers, sigma)[..., : samples * d_out]


@uniform()
def ntk_norm(layers: Sequence[Array], sigma: Array, samples: int) -> Float64[np.ndarray, "*R"]:
    """Return the Frobenius norm of the kernel's Gram matrix on `samples` inputs.

    Of w_2 w_1 x it is (w_1^2 + w_2^2) sum_n x_n^2:

    >>> ntk_norm([np.array([[1.0]]), np.array([[2.0]])], np.array([[3.0]]), samples=2).round(9).item()
    30.0
    """
    inputs, outputs = _factors(Chain(layers), half(as_float64(sigma)))
    return samples * np.sqrt(_product(inputs, outputs, inputs, outputs))


@uniform()
def ntk_distance(
    layers: Sequence[Array], others: Sequence[Array], sigma: Array, samples: int
) -> Float64[np.ndarray, "*R"]:
    """Return the Frobenius distance between the Gram matrices of two networks of equal depth on the same inputs.

    Of networks close to each other too: the difference S_l kron T_l - S'_l kron T'_l is taken before its norm, as
    (S_l - S'_l) kron T_l + S'_l kron (T_l - T'_l).

    >>> a, b = [np.array([[1.0]]), np.array([[2.0]])], [np.array([[1.0]]), np.array([[1.0]])]
    >>> ntk_distance(a, b, np.array([[1.0]]), samples=1).round(9).item()
    3.0
    """
    root = half(as_float64(sigma))
    inputs, outputs = _factors(Chain(layers), root)
    inputs_0, outputs_0 = _factors(Chain(others), root)
    left = np.concatenate(np.broadcast_arrays(inputs - inputs_0, inputs_0), -3)
    right = np.concatenate(np.broadcast_arrays(outputs, outputs - outputs_0), -3)
    return samples * np.sqrt(nonnegative(_product(left, right, left, right)))


@uniform()
def ntk_alignment(layers: Sequence[Array], others: Sequence[Array], sigma: Array) -> Float64[np.ndarray, "*R"]:
    """Return the cosine <K, K'> / (||K|| ||K'||) of the kernels of two networks on the same inputs, at most 1."""
    root = half(as_float64(sigma))
    a, b = (_factors(Chain(w), root) for w in (layers, others))
    found = cosine(*(as_tensor(_product(*x, *y)) for x, y in ((a, b), (a, a), (b, b))))
    return found.numpy()


def _factors(
    chain: Chain, root: Float64[np.ndarray, "*R in in"]
) -> tuple[Float64[np.ndarray, "*R L in in"], Float64[np.ndarray, "*R L out out"]]:
    """Return F' B_l' B_l F and A_l A_l' of every layer; `root` is F."""
    seen = [b @ root for b in chain.below]
    return _stacked([b.mT @ b for b in seen]), _stacked([a @ a.mT for a in chain.above])


def _stacked(matrices: Sequence[Float64[np.ndarray, "*R n n"]]) -> Float64[np.ndarray, "*R L n n"]:
    return np.stack(np.broadcast_arrays(*matrices), -3)


def _product(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> Float64[np.ndarray, "*R"]:
    """Return <sum_l a_l kron b_l, sum_m c_m kron d_m>, sums of <a_l, c_m> <b_l, d_m>."""
    a, b, c, d = (np.ascontiguousarray(x).reshape(*x.shape[:-2], -1) for x in (a, b, c, d))
    return inner(a @ c.mT, b @ d.mT)
