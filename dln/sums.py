"""Sums, products and decompositions of stacked tensors whose digits do not depend on how many are stacked.

torch chooses the order of summation by size and place in memory; numpy takes stacked matrices one by one. Everything is
float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dln.threads import run_blocks

if TYPE_CHECKING:
    from jaxtyping import Float64


def values_of(tensor: Tensor) -> Tensor:
    """Return a tensor's values in float64 on the cpu, where metrics are found whatever a run's precision and device."""
    return tensor.detach().cpu().double()


def inner(a: Tensor, b: Tensor, dims: int) -> Tensor:
    """Inner product over the last `dims` dimensions, summed in float64; numpy's order depends on nothing else."""
    a, b = (values_of(x).contiguous().flatten(-dims) for x in (a, b))
    return torch.from_numpy(np.asarray(np.vecdot(a.numpy(), b.numpy())))


def frobenius(matrix: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R"]:
    """Frobenius norm."""
    return inner(matrix, matrix, 2).sqrt()


def as_tensor(values: np.ndarray) -> Tensor:
    """Return an array as a tensor."""
    return torch.from_numpy(np.asarray(values, order="C"))


def summed(parts: Iterable[Float64[Tensor, "*R"]]) -> Float64[Tensor, "*R"]:
    """Sum of at least one tensor, one after the other."""
    return functools.reduce(torch.add, parts)


def total(layers: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R"]:
    """Sum over the last dimension; the order of torch.sum's depends on how many members there are."""
    return summed(layers.unbind(-1))


def matmul(a: Float64[Tensor, "*R n k"], b: Float64[Tensor, "*R k m"]) -> Float64[Tensor, "*R n m"]:
    """Matrix product; numpy multiplies matrix by matrix, so that the digits do not depend on how many there are."""
    return torch.from_numpy(np.matmul(a.detach().cpu().numpy(), b.detach().cpu().numpy()))


def singular_values_of(matrix: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R k"]:
    """Singular values, largest first: numpy's, because the last digits of torch's depend on where a matrix lies."""
    return decomposed(matrix, lambda matrices: (np.linalg.svd(matrices, compute_uv=False),))[0]


def decomposed(matrix: Float64[Tensor, "*R n m"], function: Callable[[np.ndarray], Sequence[np.ndarray]]) -> list:
    """Apply a decomposition of stacked matrices, on all cores where there are many."""
    *lead, n, m = matrix.shape
    stack = matrix.detach().cpu().numpy().reshape(-1, n, m)
    block = max(1, LONG // (n * m * min(n, m)))
    found = run_blocks(lambda first, last: function(stack[first:last]), len(stack), block) or [function(stack)]
    parts = [np.concatenate(part) for part in zip(*found, strict=True)]
    return [torch.from_numpy(part.reshape(*lead, *part.shape[1:])) for part in parts]


LONG = 2**15
"""Multiplications, about, that are worth a thread's while."""
