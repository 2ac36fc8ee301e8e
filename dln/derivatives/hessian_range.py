"""A space that contains the range of the Hessian of a deep linear network, and coordinates of it.

A direction V of layer l enters the second derivative through A_l V and V B_l G' only, so all V with A_l V = 0 and
V B_l G' = 0 are in the kernel. In orthonormal bases whose first vectors span the rows of A_l and the columns of B_l G',
what is left are d_out whole rows and min(in, d_out) whole columns of V: of a layer of width h some 2 d_out h numbers,
instead of h^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dln.base.stacked import decomposed
from dln.derivatives.products import Chain, joined

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

Shapes = Sequence[tuple[int, int]]


@dataclass
class Coordinates:
    """Entries of every layer's directions, column by column, in orthonormal bases of their own."""

    rows: list[Int[np.ndarray, " K"]]
    columns: list[Int[np.ndarray, " K"]]
    above: list[Float64[np.ndarray, "*R out p"]]
    """A_l U, U the basis of the layer's outputs."""
    below: list[Float64[np.ndarray, "*R q in"]]
    """V' B_l, V the basis of the layer's inputs."""
    bases: list[tuple[Float64[np.ndarray, "*R p p"], Float64[np.ndarray, "*R q q"]] | None]
    """(U, V), or None: the standard ones, and all entries."""

    def between(self, chain: Chain, low: int, high: int) -> Float64[np.ndarray, "*R q p"]:
        """Return `Chain.between` in the bases of the two layers."""
        product = chain.between(low, high)
        for_outputs, for_inputs = self.bases[low], self.bases[high]
        if for_outputs is not None:
            product = product @ for_outputs[0]
        return product if for_inputs is None else for_inputs[1].mT @ product


class Factored:
    """A stack of matrices of low rank, left @ right, which multiplies others without being formed."""

    __array_ufunc__ = None  # `array @ factored` is left to __rmatmul__

    def __init__(self, left: Float64[np.ndarray, "*R p k"], right: Float64[np.ndarray, "*R k q"]) -> None:
        """Take the factors."""
        self.left, self.right = left, right

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        return self.left @ (self.right @ other)

    def __rmatmul__(self, other: np.ndarray) -> np.ndarray:
        return (other @ self.left) @ self.right

    def formed(self) -> Float64[np.ndarray, "*R p q"]:
        """Return the matrices."""
        return self.left @ self.right


class Thin:
    """Directions in that space as short vectors, for products with the Hessian.

    A direction of a layer [p, q] is U T + L V', U [p, r] an orthonormal basis of the rows of A_l and V [q, c] one of
    the columns of B_l G', or of B_l; a vector holds T [r, q] and L [p, c], L orthogonal to U. Layers with no more
    entries than that are held as they are. Vectors have the inner products of the directions.
    """

    def __init__(self, chain: Chain, error: Float64[np.ndarray, "*R out in"]) -> None:
        """Take the layers and G = `error`."""
        self.shapes = chain.shapes
        self._rows, self._columns = _whole(chain.shapes)
        self._bases: list[tuple[np.ndarray, np.ndarray] | None] = []
        for i, (p, q) in enumerate(chain.shapes):
            thin = _thin_size((p, q), _whole(chain.shapes)) < p * q
            spans = (chain.above[i].mT, _seen(chain, error, i)) if thin else ()
            self._bases.append((_basis(spans[0]), _basis(spans[1])) if spans else None)
        self._ends = np.cumsum([_thin_size(shape, _whole(chain.shapes)) for shape in chain.shapes])

    def spread(self, vectors: Float64[np.ndarray, "*R K"]) -> list[np.ndarray | Factored]:
        """Return the directions [*R, p, q], layer by layer, that vectors are the nearest to."""
        lead, found = vectors.shape[:-1], []
        for part, (p, q), bases in zip(np.split(vectors, self._ends[:-1], -1), self.shapes, self._bases, strict=True):
            if bases is None:
                found.append(part.reshape(*lead, p, q))
                continue
            outputs, inputs = bases
            top = part[..., : self._rows * q].reshape(*lead, self._rows, q)
            left = part[..., self._rows * q :].reshape(*lead, p, self._columns)
            left = left - outputs @ (outputs.mT @ left)
            found.append(Factored(joined([outputs, left], -1), joined([top, inputs.mT], -2)))
        return found

    def gather(self, directions: Sequence[Factored]) -> Float64[np.ndarray, "*R K"]:
        """Return the vectors of directions: the transpose of `spread`."""
        found = []
        for direction, bases in zip(directions, self._bases, strict=True):
            if bases is None:
                found.append(direction.formed())
                continue
            outputs, inputs = bases
            inside = outputs.mT @ direction.left
            found += [inside @ direction.right, (direction.left - outputs @ inside) @ (direction.right @ inputs)]
        return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in found], -1)


def everything(chain: Chain) -> Coordinates:
    """Return the coordinates that the parameters themselves are."""
    rows, columns = zip(*(_entries(shape, shape) for shape in chain.shapes), strict=True)
    return Coordinates([*rows], [*columns], [*chain.above], [*chain.below], [None] * len(chain))


def movable(chain: Chain, error: Float64[np.ndarray, "*R out in"]) -> Coordinates:
    """Return coordinates of a space that contains the range of a Hessian with G = `error`."""
    found = everything(chain)
    rows, columns = _whole(chain.shapes)
    for i, (p, q) in enumerate(chain.shapes):
        if p > rows and q > columns:
            spans = chain.above[i].mT, _seen(chain, error, i)
            outputs, inputs = (_basis(x, "complete") for x in spans)
            found.bases[i] = outputs, inputs
            found.above[i], found.below[i] = chain.above[i] @ outputs, inputs.mT @ chain.below[i]
            found.rows[i], found.columns[i] = _entries((p, q), (rows, columns))
    return found


def thin_size(shapes: Shapes) -> int:
    """Return the length of the vectors of `Thin`.

    >>> thin_size([(100, 5), (100, 100), (5, 100)])
    2000
    """
    return sum(_thin_size(shape, _whole(shapes)) for shape in shapes)


def dimension(shapes: Shapes) -> int:
    """Return the dimension of the space whose coordinates `movable` returns.

    >>> dimension([(100, 5), (100, 100), (5, 100)]), 500 + 100 * 100 + 500
    (1975, 11000)
    """
    return sum(len(_entries(shape, _whole(shapes))[0]) for shape in shapes)


def to_vector(parts: Sequence[Float64[np.ndarray, "*R p q"]]) -> Float64[np.ndarray, "*R P"]:
    """Return matrices, layer by layer, as one vector: column by column, as Hessians are ordered.

    >>> to_vector([np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([[5.0, 6.0]])])
    array([1., 2., 3., 4., 5., 6.])
    """
    return np.concatenate([part.mT.reshape(*part.shape[:-2], -1) for part in parts], -1)


def _basis(spanning: Float64[np.ndarray, "*R n k"], mode: Literal["reduced", "complete"] = "reduced") -> np.ndarray:
    """Return orthonormal columns [*R, n, min(k, n)] that span what those of matrices do; "complete": [*R, n, n]."""
    return decomposed(spanning, lambda matrices: np.linalg.qr(matrices, mode))[0]


def _seen(chain: Chain, error: Float64[np.ndarray, "*R out in"], layer: int) -> Float64[np.ndarray, "*R q c"]:
    """Return what spans B_l G': itself, or B_l where that has fewer columns."""
    below = chain.below[layer]
    return below if below.shape[-1] < chain.outputs else below @ error.mT


def _whole(shapes: Shapes) -> tuple[int, int]:
    """Return bounds on the ranks of A_l and of B_l G'."""
    return shapes[-1][0], min(shapes[0][1], shapes[-1][0])


def _thin_size(shape: tuple[int, int], whole: tuple[int, int]) -> int:
    (p, q), (rows, columns) = shape, whole
    return min(rows * q + p * columns, p * q)


def _entries(shape: tuple[int, int], whole: tuple[int, int]) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Return row and column of every entry that lies in a whole row or a whole column."""
    column, row = (index.ravel() for index in np.indices(shape[::-1]))
    kept = (row < whole[0]) | (column < whole[1])
    return row[kept], column[kept]
