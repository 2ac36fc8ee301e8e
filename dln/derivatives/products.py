"""What derivatives of a deep linear network are made of: products of its layers, and moments of the data.

All in float64 numpy. Leading dimensions, `*R`, are records and members of an ensemble; they broadcast. numpy multiplies
and diagonalises stacked matrices one by one, so a member has the same digits alone and among others.

A layer is W_l, or [W_l b_l] in a network with biases (`with_biases`): a bias is the weight of an input that is always
one, and inputs then end with a constant one too (`with_constant`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dln.base.stacked import decomposed

if TYPE_CHECKING:
    from jaxtyping import Float64

Array = np.ndarray | Tensor

AT_ONCE = 2**23
"""Bytes of intermediate results in memory at a time (`by_members`)."""


class Chain:
    """The layers of a network and their products, for the output f(x) = W x = A_l layer_l B_l x, whatever l.

    Layer l is [p_l, q_l]; with biases q_l is one more than p_{l-1}.

    >>> Chain([np.array([[2.0], [1.0]]), np.array([[3.0, 1.0]])]).end
    array([[7.]])
    """

    def __init__(self, layers: Sequence[Array]) -> None:
        """Multiply the layers up.

        Raises:
            ValueError: Their shapes do not chain.
        """
        self.layers: list[Float64[np.ndarray, "*R p q"]] = [as_float64(w) for w in layers]
        self.shapes = shapes = [w.shape[-2:] for w in self.layers]
        """(p_l, q_l) of each layer."""
        extra = {after[1] - before[0] for before, after in pairwise(shapes)}
        if len(extra) > 1 or not extra <= {0, 1}:
            raise ValueError(f"layers of shapes {shapes} do not chain: [out, in], or [out, in + 1] each with biases")
        self._constant = bool(extra and extra.pop())
        self.below: list[Float64[np.ndarray, "*R q in"]] = [np.eye(shapes[0][1])]
        """B_l = W_{l-1} ... W_1; with biases, its last row hands on the constant."""
        for w in self.layers[:-1]:
            self.below.append(self.pad(w @ self.below[-1], 1.0))
        self.end: Float64[np.ndarray, "*R out in"] = self.layers[-1] @ self.below[-1]
        """The end-to-end map."""
        self.above: list[Float64[np.ndarray, "*R out p"]] = [np.eye(shapes[-1][0])]
        """A_l = W_L ... W_{l+1}."""
        for w in reversed(self.layers[1:]):
            self.above.insert(0, self.cut(self.above[0] @ w))

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def outputs(self) -> int:
        """d_out."""
        return self.layers[-1].shape[-2]

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading dimensions *R."""
        return np.broadcast_shapes(*(w.shape[:-2] for w in self.layers))

    def between(self, low: int, high: int) -> Float64[np.ndarray, "*R q p"]:
        """Return the map from the outputs of layer `low` to the inputs of layer `high` > `low`; both count from 0."""
        product = self.pad(np.eye(self.layers[low].shape[-2]))
        for w in self.layers[low + 1 : high]:
            product = self.pad(w @ product)
        return product

    def pad(self, rows: Float64[np.ndarray, "*R p n"], constant: float = 0.0) -> Float64[np.ndarray, "*R q n"]:
        """Turn a layer's outputs into the next one's inputs: with biases, one more row, (0, ..., constant)."""
        if not self._constant:
            return rows
        last = np.zeros((*rows.shape[:-2], 1, rows.shape[-1]))
        last[..., -1] = constant
        return np.concatenate([rows, last], -2)

    def cut(self, columns: Float64[np.ndarray, "*R n q"]) -> Float64[np.ndarray, "*R n p"]:
        """Leave out what belongs to the constant input, which no parameter of the layer before moves."""
        return np.ascontiguousarray(columns[..., :-1]) if self._constant else columns

    def error(self, sigma: Array, sigma_yx: Array) -> Float64[np.ndarray, "*R out in"]:
        """Return G = (2 / d_out) (W Sigma - Sigma_yx), the gradient of the loss with respect to the end-to-end map.

        >>> Chain([np.array([[2.0]]), np.array([[3.0]])]).error(np.array([[1.0]]), np.array([[5.0]]))
        array([[2.]])
        """
        return 2 / self.outputs * (self.end @ as_float64(sigma) - as_float64(sigma_yx))

    def gradients(self, sigma: Array, sigma_yx: Array) -> list[Float64[np.ndarray, "*R p q"]]:
        """Return the gradient A_l' G B_l' of the loss with respect to each layer.

        >>> one = np.ones((1, 1))
        >>> Chain([2 * one, 3 * one]).gradients(one, 5 * one)  # of (w_2 w_1 - 5)^2
        [array([[6.]]), array([[4.]])]
        """
        return self.pulled(self.error(sigma, sigma_yx))

    def pulled(self, error: Float64[np.ndarray, "*R out in"]) -> list[Float64[np.ndarray, "*R p q"]]:
        """Return A_l' G B_l' of each layer, G given."""
        return [a.mT @ error @ b.mT for a, b in zip(self.above, self.below, strict=True)]


def with_biases(weights: Sequence[Array], biases: Sequence[Array]) -> list[Float64[np.ndarray, "*R out in+1"]]:
    """Return the layers [W_l b_l]; without biases, those of the weights alone.

    >>> with_biases([np.array([[1.0, 2.0]])], [np.array([3.0])])
    [array([[1., 2., 3.]])]
    """
    if not biases:
        return [as_float64(w) for w in weights]
    pairs = zip(weights, biases, strict=True)
    return [np.concatenate([as_float64(w), as_float64(b)[..., None]], -1) for w, b in pairs]


def with_constant(inputs: Array) -> Float64[np.ndarray, "*R N in+1"]:
    """Return inputs [*R, N, in] with a constant one at the end of each.

    >>> with_constant(np.array([[2.0, 3.0]]))
    array([[2., 3., 1.]])
    """
    x = as_float64(inputs)
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], -1)


def moments(inputs: Array, targets: Array) -> tuple[Float64[np.ndarray, "*R in in"], Float64[np.ndarray, "*R out in"]]:
    """Return Sigma = X'X / N and Sigma_yx = Y'X / N of inputs [*R, N, in] and targets [*R, N, out].

    >>> moments(np.array([[1.0], [3.0]]), np.array([[2.0], [6.0]]))
    (array([[5.]]), array([[10.]]))
    """
    x, y = as_float64(inputs), as_float64(targets)
    return x.mT @ x / x.shape[-2], y.mT @ x / x.shape[-2]


def as_float64(values: Array) -> np.ndarray:
    """Return an array or tensor as a float64 array, its numbers side by side in memory."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.ascontiguousarray(values, dtype=np.float64)


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the inner products of stacked matrices, over the last two dimensions."""
    return np.vecdot(*(np.ascontiguousarray(x).reshape(*x.shape[:-2], -1) for x in (a, b)))


def joined(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Return matrices put side by side (axis -1) or one below the other (-2), their leading dimensions broadcast."""
    lead = np.broadcast_shapes(*(part.shape[:-2] for part in parts))
    return np.concatenate([np.broadcast_to(part, (*lead, *part.shape[-2:])) for part in parts], axis)


def half(matrix: Float64[np.ndarray, "*R n n"]) -> Float64[np.ndarray, "*R n n"]:
    """Return F with F F' = matrix, which is positive semidefinite.

    >>> factor = half(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> np.allclose(factor @ factor.T, [[2, 1], [1, 2]])
    True
    """
    values, vectors = decomposed(matrix, np.linalg.eigh)
    return vectors * np.sqrt(np.maximum(values, 0))[..., None, :]


def eigenvalues(matrix: Float64[np.ndarray, "*R n n"]) -> Float64[np.ndarray, "*R n"]:
    """Return the eigenvalues of symmetric matrices, largest first; NaN for one that is not finite.

    >>> eigenvalues(np.array([[0.0, 1.0], [1.0, 0.0]])).round(6)
    array([ 1., -1.])
    """
    return decomposed(matrix, lambda matrices: (np.linalg.eigvalsh(matrices),))[0][..., ::-1]


def by_members(function: Callable[..., np.ndarray], each: int, *arrays: Array) -> np.ndarray:
    """Apply a function of stacked matrices to some members at a time, all leading dimensions broadcast and put back.

    Args:
        function: Maps arrays [R, ...], one for each of `arrays`, to one array [R, ...].
        each: Bytes it needs for a member.
        arrays: Matrices [*R, ., .].
    """
    stacks = [as_float64(a) for a in arrays]
    lead = np.broadcast_shapes(*(a.shape[:-2] for a in stacks))
    stacks = [np.broadcast_to(a, (*lead, *a.shape[-2:])) for a in stacks]
    count, cut = int(np.prod(lead)), max(1, AT_ONCE // each)
    parts = []
    for start in range(0, max(count, 1), cut):
        rows = np.unravel_index(np.arange(start, min(start + cut, count)), lead) if lead else (None,)
        parts.append(function(*(a[rows] for a in stacks)))
    found = np.concatenate(parts)
    return found.reshape((*lead, *found.shape[1:]))
