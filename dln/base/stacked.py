"""Sums, products and decompositions of stacked tensors whose digits do not depend on how many are stacked.

torch chooses the order of summation by size and place in memory; numpy takes stacked matrices one by one. Everything is
float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.parallel import run_blocks

if TYPE_CHECKING:
    from jaxtyping import Float64


Decomposition = Callable[[np.ndarray], Any]
"""Returns a sequence of arrays [r, ...] for a stack of matrices [r, n, m]."""


def values_of(tensor: Tensor) -> Tensor:
    """Return a tensor's values in float64 on the cpu, where metrics are found whatever a run's precision and device."""
    return tensor.detach().cpu().double()


def inner(a: Tensor, b: Tensor, dims: int) -> Tensor:
    """Inner product over the last `dims` dimensions, summed in float64; numpy's order depends on nothing else."""
    a, b = (values_of(x).contiguous().flatten(-dims) for x in (a, b))
    return torch.from_numpy(np.asarray(np.vecdot(a.numpy(), b.numpy())))


def frobenius(matrix: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R"]:
    """Frobenius norm.

    >>> frobenius(torch.tensor([[3.0, 0.0], [0.0, 4.0]])).item()
    5.0
    """
    return inner(matrix, matrix, 2).sqrt()


def as_tensor(values: np.ndarray) -> Tensor:
    """Return an array as a tensor."""
    return torch.from_numpy(np.asarray(values, order="C"))


def as_array(values: Tensor) -> np.ndarray:
    """Return a tensor as an array."""
    return values.detach().cpu().numpy()


def summed(parts: Iterable[Float64[Tensor, "*R"]]) -> Float64[Tensor, "*R"]:
    """Sum of at least one tensor, one after the other."""
    return functools.reduce(torch.add, parts)


def total(layers: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R"]:
    """Sum over the last dimension; the order of torch.sum's depends on how many members there are.

    >>> total(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [3.0, 7.0]
    """
    return summed(layers.unbind(-1))


def matmul(a: Float64[Tensor, "*R n k"], b: Float64[Tensor, "*R k m"]) -> Float64[Tensor, "*R n m"]:
    """Matrix product; numpy multiplies matrix by matrix, so that the digits do not depend on how many there are."""
    return torch.from_numpy(np.matmul(as_array(a), as_array(b)))


def singular_values_of(matrix: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R k"]:
    """Singular values, largest first: numpy's, because the last digits of torch's depend on where a matrix lies.

    >>> singular_values_of(torch.tensor([[0.0, 1.0], [-3.0, 0.0]])).round(decimals=6).tolist()
    [3.0, 1.0]
    """
    return as_tensor(decomposed(as_array(matrix), lambda matrices: (np.linalg.svd(matrices, compute_uv=False),))[0])


def decomposed(matrices: Float64[np.ndarray, "*R n m"], function: Decomposition) -> list[np.ndarray]:
    """Apply a decomposition to stacked matrices one by one, on all cores where there are many.

    All decompositions of what may have diverged come through here. One matrix with a number that is not finite would
    make LAPACK complain on stderr and numpy raise for the whole stack, so such are left out, and their results are NaN;
    so are those of a matrix for which LAPACK finds none. The others have the digits that they have alone.

    Args:
        matrices: [*R, n, m].
        function: Maps a stack [r, n, m] to arrays [r, ...].

    >>> decomposed(np.array([[[4.0]], [[np.nan]]]), lambda matrices: (np.linalg.eigvalsh(matrices),))[0].tolist()
    [[4.0], [nan]]
    """
    *lead, n, m = matrices.shape
    stack = matrices.reshape(-1, n, m)
    finite = np.isfinite(stack).all((1, 2))
    some = stack if finite.all() else stack[finite]
    block = max(1, LONG // (n * m * min(n, m)))
    found = run_blocks(lambda first, last: _each(some[first:last], function), len(some), block)
    results = []
    for parts in zip(*(found or [_none(n, m, function)]), strict=True):
        result = np.concatenate(parts)[: len(some)]
        if len(some) < len(stack):
            every = np.full((len(stack), *result.shape[1:]), np.nan)
            every[finite] = result
            result = every
        results.append(result.reshape(*lead, *result.shape[1:]))
    return results


def _each(stack: Float64[np.ndarray, "r n m"], function: Decomposition) -> Sequence[np.ndarray]:
    """Decompose finite matrices; NaN for those where LAPACK gives up."""
    try:
        return function(stack)
    except np.linalg.LinAlgError:
        if len(stack) == 1:
            return _none(stack.shape[1], stack.shape[2], function)
        return [np.concatenate(parts) for parts in zip(*(_each(one[None], function) for one in stack), strict=True)]


def _none(n: int, m: int, function: Decomposition) -> Sequence[np.ndarray]:
    """Return what a matrix has that has no decomposition."""
    return [np.full_like(part, np.nan) for part in function(np.zeros((1, n, m)))]


def nonnegative(values: np.ndarray) -> np.ndarray:
    """Return numbers with 0 for negative ones, which come of rounding only; NaN where one is not finite.

    >>> nonnegative(np.array([2.0, -1e-20, np.inf])).tolist()
    [2.0, 0.0, nan]
    """
    return np.where(np.isfinite(values), np.maximum(values, 0), np.nan)


def finite(values: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """Return numbers with NaN for those that are not finite: to divide by infinity would give 0, which is wrong."""
    return values.where(values.isfinite(), torch.nan)


def cosine(ab: Float64[Tensor, "*R"], aa: Float64[Tensor, "*R"], bb: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """<a, b> / (||a|| ||b||) from the inner products, no more than 1 in size whatever is rounded.

    >>> cosine(*torch.tensor([[2.0, 0.0], [4.0, 0.0], [4.0, 1.0]])).tolist()  # of a vector that is zero there is none
    [0.5, nan]
    """
    root = (aa * bb).sqrt()  # one root of the product: exactly 1 for a = b
    return (ab / finite(root.where(root.isfinite() & (root > 0), aa.sqrt() * bb.sqrt()))).clamp(-1, 1)


LONG = 2**15
"""About how many multiplications a thread must have to do before starting it costs less than it saves."""
