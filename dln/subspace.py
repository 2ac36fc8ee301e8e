"""What the Hessian of a deep linear network can move, and coordinates of it.

A direction V of layer l enters the second derivative through A_l V and V B_l G' only, so all V with A_l V = 0 and
V B_l G' = 0 are in the kernel. In orthonormal bases whose first vectors span the rows of A_l and the columns of B_l G',
what is left are d_out whole rows and min(in, d_out) whole columns of V: of a layer of width h some 2 d_out h numbers,
instead of h^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dln.chain import Chain

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
    whole: tuple[int, int]
    """Rows and columns that are whole."""

    def between(self, chain: Chain, low: int, high: int) -> Float64[np.ndarray, "*R q p"]:
        """Return `Chain.between` in the bases of the two layers."""
        product = chain.between(low, high)
        for_outputs, for_inputs = self.bases[low], self.bases[high]
        if for_outputs is not None:
            product = product @ for_outputs[0]
        return product if for_inputs is None else for_inputs[1].mT @ product

    def spread(self, vectors: Float64[np.ndarray, "B K"]) -> list[Float64[np.ndarray, "B p q"]]:
        """Return directions of one member, layer by layer, by their entries."""
        rows, columns = self.whole
        found = []
        parts = np.split(vectors, np.cumsum([len(i) for i in self.rows])[:-1], -1)
        for part, a, b, bases in zip(parts, self.above, self.below, self.bases, strict=True):
            p, q = a.shape[-1], b.shape[-2]
            if bases is None:
                found.append(part.reshape(-1, q, p).mT)
                continue
            outputs, inputs = bases
            left, top = part[:, : p * columns], part[:, p * columns :]
            left, top = left.reshape(-1, columns, p).mT, top.reshape(-1, q - columns, rows).mT
            low = outputs @ left @ inputs[:, :columns].T
            found.append(low + outputs[:, :rows] @ (top @ inputs[:, columns:].T))
        return found

    def gather(self, directions: Sequence[Float64[np.ndarray, "B p q"]]) -> Float64[np.ndarray, "B K"]:
        """Return the entries of directions of one member: the transpose of `spread`, and its inverse."""
        rows, columns = self.whole
        found = []
        for direction, bases in zip(directions, self.bases, strict=True):
            if bases is None:
                found.append(direction)
                continue
            outputs, inputs = bases
            found.append(outputs.T @ (direction @ inputs[:, :columns]))
            found.append(outputs[:, :rows].T @ direction @ inputs[:, columns:])
        return to_vector(found)


def everything(chain: Chain) -> Coordinates:
    """Return the coordinates that the parameters themselves are."""
    rows, columns = zip(*(_entries(shape, shape) for shape in chain.shapes), strict=True)
    return Coordinates([*rows], [*columns], [*chain.above], [*chain.below], [None] * len(chain), (0, 0))


def movable(chain: Chain, error: Float64[np.ndarray, "*R out in"]) -> Coordinates:
    """Return coordinates of all that a Hessian with G = `error` can move."""
    found = everything(chain)
    found.whole = _whole(chain.shapes)
    rows, columns = found.whole
    for i, (p, q) in enumerate(chain.shapes):
        if p > rows and q > columns:
            seen = chain.below[i] if columns < chain.outputs else chain.below[i] @ error.mT
            outputs, inputs = (np.linalg.qr(x, mode="complete")[0] for x in (chain.above[i].mT, seen))
            found.bases[i] = outputs, inputs
            found.above[i], found.below[i] = chain.above[i] @ outputs, inputs.mT @ chain.below[i]
            found.rows[i], found.columns[i] = _entries((p, q), found.whole)
    return found


def dimension(shapes: Shapes) -> int:
    """Return how many numbers the coordinates of what can be moved are.

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


def _whole(shapes: Shapes) -> tuple[int, int]:
    """Return bounds on the ranks of A_l and of B_l G'."""
    return shapes[-1][0], min(shapes[0][1], shapes[-1][0])


def _entries(shape: tuple[int, int], whole: tuple[int, int]) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Return row and column of every entry that lies in a whole row or a whole column."""
    column, row = (index.ravel() for index in np.indices(shape[::-1]))
    kept = (row < whole[0]) | (column < whole[1])
    return row[kept], column[kept]
