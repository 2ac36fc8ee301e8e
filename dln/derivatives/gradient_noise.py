"""Gradient noise of a deep linear network under the mean squared error, in closed form.

The gradient of sample n with respect to layer l is (2 / d_out) (A_l' e_n)(B_l x_n)', e_n = W x_n - y_n (A_l, B_l as in
`dln.derivatives.products`). C is the covariance of the samples' gradients over all parameters, and a batch's gradient,
their mean, has the covariance `batch_factor` C. Traces are given layer by layer: their sum is tr C.

Layers and leading dimensions are those of `dln.derivatives.products`; inputs come without the constant one, which a
network with biases adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dln.base.arithmetic import uniform
from dln.base.stacked import decomposed, nonnegative
from dln.derivatives.hessian import HessianProduct
from dln.derivatives.products import Array, Chain, as_float64, by_members, half, inner, with_constant

if TYPE_CHECKING:
    from jaxtyping import Float64


class Noise(NamedTuple):
    """The mean of samples' gradients and their spread, layer by layer."""

    signal: Float64[np.ndarray, "*R L"]
    """||g_l||^2, g the mean."""
    noise: Float64[np.ndarray, "*R L"]
    """tr C_l, one sample a batch."""

    def trace(self, factor: float = 1.0) -> Float64[np.ndarray, "*R"]:
        """Return the trace of the covariance of a batch's gradient; `factor` is that of `batch_factor`."""
        return factor * _total(self.noise)

    def snr(self, factor: float = 1.0) -> Float64[np.ndarray, "*R"]:
        """Return ||g||^2 / tr C of batches; infinite where there is no noise, NaN where there is no gradient either."""
        with uniform():
            return _total(self.signal) / self.trace(factor)


def batch_factor(batch_size: int, samples: int | None, *, replacement: bool = False) -> float:
    """Return the covariance of a batch's mean gradient in units of C.

    That of dln's offline batches, without replacement, is (N - B) / (B (N - 1)): a step at a random place of an epoch
    has a uniformly random subset of size B, and the last, short, batch of an epoch has its own, smaller B. (Batches of
    one epoch are not independent: their gradients at fixed weights are negatively correlated.)

    Args:
        batch_size: B.
        samples: N; None: fresh samples, of which the population is endless.
        replacement: Whether samples are drawn independently of each other: 1 / B.

    >>> batch_factor(10, 100), batch_factor(100, 100), batch_factor(10, None), batch_factor(1, 1)
    (0.09090909090909091, 0.0, 0.1, 0.0)
    """
    if samples is None or replacement:
        return 1 / batch_size
    return (samples - batch_size) / (batch_size * max(samples - 1, 1))


@uniform()
def sample_noise(layers: Sequence[Array], inputs: Array, targets: Array) -> Noise:
    """Return the gradient noise of a training set, averages over its samples.

    tr C_l = (4 / d_out^2) mean_n ||A_l' e_n||^2 ||B_l x_n||^2 - ||g_l||^2. The subtraction costs digits where noise is
    much smaller than the gradient: tr C is good to about 1e-15 ||g||^2.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        inputs: [*R, N, in].
        targets: [*R, N, out].

    >>> x, y = np.ones((2, 1)), np.array([[0.0], [2.0]])  # the gradient of (w x - y)^2 at w = 0 is 0 and -4
    >>> sample_noise([np.zeros((1, 1))], x, y)
    Noise(signal=array([4.]), noise=array([4.]))
    """

    def found(*arrays: np.ndarray) -> Float64[np.ndarray, "R 2L"]:
        chain, x, residuals = samples_of(arrays)
        n, scale = x.shape[-2], 4 / chain.outputs**2
        end = residuals.mT @ x / n
        signal, noise = [], []
        for a, b in zip(chain.above, chain.below, strict=True):
            above, below = residuals @ _slim(a.mT).mT, x @ _slim(b).mT  # rows as long as A_l' e_n and B_l x_n
            squares = np.vecdot(np.vecdot(above, above), np.vecdot(below, below))
            gradient = a.mT @ end @ b.mT
            signal.append(scale * inner(gradient, gradient))
            noise.append(nonnegative(scale * squares / n - signal[-1]))  # negative by rounding only
        return np.stack([*signal, *noise], -1)

    n, d_out = np.shape(targets)[-2:]
    each = 8 * n * (d_out + np.shape(inputs)[-1]) * 4
    values = by_members(found, each, *layers, inputs, targets)
    return Noise(values[..., : len(layers)], values[..., len(layers) :])


@uniform()
def population_noise(
    layers: Sequence[Array], teacher: Array, label_noise: float | Array = 0.0, sigma: Array | None = None
) -> Noise:
    """Return the gradient noise of fresh samples x ~ N(0, Sigma), y = T x + label_noise N(0, I).

    With E = W - T, P = F' E' A_l A_l' E F, R = F' B_l' B_l F, F F' = Sigma: ||g_l||^2 = (4 / d_out^2) tr(P R) and
    tr C_l = (4 / d_out^2) [tr P tr R + tr(P R) + label_noise^2 ||A_l||^2 tr R], the fourth moments of a Gaussian. With
    biases the constant input, which is not Gaussian, takes off 2 P_cc R_cc.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        teacher: T [*R, out, in].
        label_noise: Standard deviation of the noise on every target, [*R].
        sigma: [*R, in, in]; None: the identity.

    >>> population_noise([np.ones((1, 1))], np.zeros((1, 1)), np.zeros(()))  # the gradient of (x - 0)^2 is 2 x^2
    Noise(signal=array([4.]), noise=array([8.]))
    """
    chain, variance = Chain(layers), np.asarray(label_noise, dtype=np.float64) ** 2
    teacher, root, biased = population_of(chain, teacher, sigma)
    error = (chain.end - teacher) @ root
    signal, noise = [], []
    for a, b in zip(chain.above, chain.below, strict=True):
        wrong, seen = a.mT @ error, b @ root
        tr_p, tr_r = inner(wrong, wrong), inner(seen, seen)
        gradient = wrong @ seen.mT
        both = inner(gradient, gradient)  # tr(P R)
        spread = tr_p * tr_r + both + variance * inner(a, a) * tr_r
        if biased:
            last = (np.ascontiguousarray(x[..., -1]) for x in (wrong, seen))
            p_cc, r_cc = (np.vecdot(column, column) for column in last)
            spread = nonnegative(spread - 2 * p_cc * r_cc)
        signal.append(4 / chain.outputs**2 * both)
        noise.append(4 / chain.outputs**2 * spread)
    return Noise(*(np.stack(np.broadcast_arrays(*parts), -1) for parts in (signal, noise)))


@uniform()
def hessian_noise_trace(layers: Sequence[Array], inputs: Array, targets: Array) -> Float64[np.ndarray, "*R"]:
    """Return tr(H C), H the Hessian of the whole set's loss and C the covariance of its samples' gradients.

    tr(H C) = mean_n g_n' H g_n - g' H g; times `batch_factor`, and lr^2 / 2, it is what noise adds to the loss in a
    step of SGD, to second order. With e_n, x_n, S_l = B_l' B_l, T_l = A_l A_l' and W_{m..l} = W_{m-1} ... W_{l+1}:
    g_n' H g_n = (8 / d_out^3) sum_lm (e' T_l T_m e)(x' S_l Sigma S_m x)
    + (8 / d_out^2) sum_{l<m} (x' B_m' W_{m..l} A_l' e)(e' T_m G S_l x). No sum is over hidden units. Negative only
    where H has negative eigenvalues; what is within rounding of zero is zero.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        inputs: [*R, N, in].
        targets: [*R, N, out].

    >>> x, y = np.ones((2, 1)), np.array([[0.0], [2.0]])  # at w = 0 the gradients are 0 and -4, H is 2
    >>> hessian_noise_trace([np.zeros((1, 1))], x, y).item()
    8.0
    """

    def trace(*arrays: np.ndarray) -> Float64[np.ndarray, " R"]:
        chain, x, residuals = samples_of(arrays)
        n, d_out, depth = x.shape[-2], chain.outputs, range(len(chain))
        sigma = x.mT @ x / n
        error = 2 / d_out * (residuals.mT @ x / n)  # G
        outputs = [residuals @ (a @ a.mT) for a in chain.above]  # T_l e_n
        inputs = [x @ (b.mT @ b) for b in chain.below]  # S_l x_n
        terms = []
        for low in depth:
            through = inputs[low] @ sigma
            for high in depth:
                pairs = np.vecdot(outputs[low], outputs[high]), np.vecdot(through, inputs[high])
                terms.append(8 / d_out**3 * np.vecdot(*pairs) / n)
            for high in depth[low + 1 :]:
                route = _route(chain, low, high)
                pairs = np.vecdot(x @ route, residuals), np.vecdot(outputs[high] @ error, inputs[low])
                terms.append(8 / d_out**2 * np.vecdot(*pairs) / n)
        gradient = chain.pulled(error)
        bent = [v.formed() for v in HessianProduct(chain, sigma, error)(gradient)]
        terms += [-inner(g, h) for g, h in zip(gradient, bent, strict=True)]
        return _settled(terms)  # zero where all samples have the same gradient

    n, d_out = np.shape(targets)[-2:]
    each = 8 * n * (d_out + np.shape(inputs)[-1]) * (len(layers) + 2)
    return by_members(trace, each, *layers, inputs, targets)


@uniform()
def population_hessian_noise(
    layers: Sequence[Array], teacher: Array, label_noise: float | Array = 0.0, sigma: Array | None = None
) -> Float64[np.ndarray, "*R"]:
    """Return tr(H C) of fresh samples, as those of `population_noise`, H the Hessian of their expected loss.

    The means of `hessian_noise_trace` are fourth moments: with e = E x, M = E x x' and c the mean of x (0, or with
    biases the constant), E (x'P x)(x'R x) = tr(PM) tr(RM) + tr(PMRM) + tr(PMR'M) - 2 (c'Pc)(c'Rc).

    >>> population_hessian_noise([np.ones((1, 1))], np.zeros((1, 1))).item()  # H is 2, C is 8
    16.0
    """
    chain, variance = Chain(layers), np.asarray(label_noise, dtype=np.float64) ** 2
    teacher, root, biased = population_of(chain, teacher, sigma)
    moments, wrong = root @ root.mT, chain.end - teacher
    d_out, depth, error = chain.outputs, range(len(chain)), 2 / chain.outputs * (wrong @ moments)

    def fourth(p: np.ndarray, r: np.ndarray) -> Float64[np.ndarray, "*R"]:
        pm, rm = p @ moments, r @ moments
        last = p[..., -1, -1] * r[..., -1, -1] if biased else 0.0
        return _trace(pm) * _trace(rm) + inner(pm, rm.mT) + inner(pm, moments @ r) - 2 * last

    outputs = [a @ a.mT for a in chain.above]  # T_l
    inputs = [b.mT @ b for b in chain.below]  # S_l
    terms = []
    for low in depth:
        for high in depth:
            squares = wrong.mT @ outputs[low] @ outputs[high] @ wrong
            terms.append(8 / d_out**3 * fourth(squares, inputs[low] @ moments @ inputs[high]))
        for high in depth[low + 1 :]:
            pulled = wrong.mT @ outputs[high] @ error @ inputs[low]
            terms.append(8 / d_out**2 * fourth(_route(chain, low, high) @ wrong, pulled))
    gradient = chain.pulled(error)
    bent = [v.formed() for v in HessianProduct(chain, moments, error)(gradient)]
    terms += [-inner(g, h) for g, h in zip(gradient, bent, strict=True)]
    return _settled(terms) + variance * _of_targets(chain, moments, error)


@uniform()
def label_noise_traces(layers: Sequence[Array], sigma: Array) -> Float64[np.ndarray, "*R L"]:
    """Return what noise N(0, 1) on all targets adds to the traces tr C_l: (4 / d_out^2) ||A_l||^2 tr(B_l Sigma B_l').

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        sigma: Sigma = X'X / N, [*R, n, n].

    >>> label_noise_traces([np.ones((1, 1))], np.eye(1))  # the gradient of (w - y)^2 has -2 times the noise of y
    array([4.])
    """
    chain, sigma = Chain(layers), as_float64(sigma)
    pairs = zip(chain.above, chain.below, strict=True)
    return 4 / chain.outputs**2 * np.stack([inner(a, a) * inner(b @ sigma, b) for a, b in pairs], -1)


@uniform()
def hessian_label_noise(layers: Sequence[Array], inputs: Array, targets: Array) -> Float64[np.ndarray, "*R"]:
    """Return what noise N(0, 1) on all targets adds to tr(H C), one sample a batch.

    The e e' of `hessian_noise_trace` becomes the identity: (8 / d_out^3) sum_lm tr(T_l T_m) tr(S_l Sigma S_m Sigma)
    + (8 / d_out^2) sum_{l<m} tr(B_m' W_{m..l} A_l' T_m G S_l Sigma), with G that of the targets without the noise.

    Args:
        layers: L matrices [*R, out, in]; with biases, see `dln.derivatives.products.with_biases`.
        inputs: [*R, N, in].
        targets: [*R, N, out].

    >>> hessian_label_noise([np.ones((1, 1))], np.ones((3, 1)), np.zeros((3, 1))).item()  # H is 2, C is 4
    8.0
    """
    chain, x, residuals = samples_of([*map(as_float64, (*layers, inputs, targets))])
    n = x.shape[-2]
    return _of_targets(chain, x.mT @ x / n, 2 / chain.outputs * (residuals.mT @ x / n))


@uniform()
def hessian_label_noise_of(layers: Sequence[Array], sigma: Array, sigma_yx: Array) -> Float64[np.ndarray, "*R"]:
    """Return what `hessian_label_noise` does, of X'X / N [*R, in, in] and Y'X / N [*R, out, in], or their means."""
    chain = Chain(layers)
    return _of_targets(chain, as_float64(sigma), chain.error(sigma, sigma_yx))


def _of_targets(chain: Chain, sigma: np.ndarray, error: np.ndarray) -> Float64[np.ndarray, "*R"]:
    """Return what `hessian_label_noise` does, of Sigma and G."""
    d_out, depth = chain.outputs, range(len(chain))
    outputs = [a @ a.mT for a in chain.above]  # T_l
    inputs_of = [b.mT @ b @ sigma for b in chain.below]  # S_l Sigma
    terms = []
    for low in depth:
        for high in depth:
            spread = inner(inputs_of[low], inputs_of[high].mT)
            terms.append(8 / d_out**3 * inner(outputs[low], outputs[high]) * spread)
        for high in depth[low + 1 :]:
            route = _route(chain, low, high)
            terms.append(8 / d_out**2 * inner(route.mT, outputs[high] @ error @ inputs_of[low]))
    return reduce(np.add, terms)


ROUNDING = 1e-14
"""Error of a sum by rounding, at most, as a share of its terms' sizes."""


def _settled(terms: Sequence[Float64[np.ndarray, "*R"]]) -> Float64[np.ndarray, "*R"]:
    """Return the sum of terms, or zero where nothing but rounding is left, of either sign."""
    value = reduce(np.add, terms)
    rounding = ROUNDING * reduce(np.add, map(np.abs, terms))
    return np.where((np.abs(value) <= rounding) & np.isfinite(rounding), 0.0, value)


def _route(chain: Chain, low: int, high: int) -> Float64[np.ndarray, "*R in out"]:
    """Return B_m' W_{m..l} A_l' of layers l < m."""
    return chain.below[high].mT @ chain.between(low, high) @ chain.above[low].mT


def _trace(matrix: Float64[np.ndarray, "*R n n"]) -> Float64[np.ndarray, "*R"]:
    return matrix.trace(axis1=-2, axis2=-1)


def population_of(
    chain: Chain, teacher: Array, sigma: Array | None
) -> tuple[Float64[np.ndarray, "*R out n"], Float64[np.ndarray, "*R n n"], bool]:
    """Return the teacher and F with F F' = E x x', of the inputs that the chain takes, and whether one is constant."""
    teacher = as_float64(teacher)
    n = teacher.shape[-1]
    root = np.eye(n) if sigma is None else half(as_float64(sigma))
    if chain.end.shape[-1] == n:
        return teacher, root, False
    wide = np.zeros((*root.shape[:-2], n + 1, n + 1))
    wide[..., :n, :n], wide[..., n, n] = root, 1.0
    return np.concatenate([teacher, np.zeros((*teacher.shape[:-1], 1))], -1), wide, True


def samples_of(
    arrays: Sequence[np.ndarray],
) -> tuple[Chain, Float64[np.ndarray, "R N in"], Float64[np.ndarray, "R N out"]]:
    """Return the chain, the inputs it takes, and the residuals."""
    *layers, inputs, targets = arrays
    chain = Chain(layers)
    x = with_constant(inputs) if chain.end.shape[-1] == inputs.shape[-1] + 1 else inputs
    return chain, x, x @ chain.end.mT - targets


def _slim(matrix: Float64[np.ndarray, "*R p n"]) -> Float64[np.ndarray, "*R k n"]:
    """Return a matrix with at most n rows that maps every vector to one of the same length as `matrix` does."""
    return matrix if matrix.shape[-2] <= matrix.shape[-1] else decomposed(matrix, np.linalg.qr)[1]


def _total(layers: Float64[np.ndarray, "*R L"]) -> Float64[np.ndarray, "*R"]:
    return reduce(np.add, np.moveaxis(layers, -1, 0))
