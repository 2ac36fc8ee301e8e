"""A few extreme eigenvalues of a symmetric operator that is known by its products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dln.streams import stream

if TYPE_CHECKING:
    from jaxtyping import Float64

TOLERANCE = 1e-10
"""Residual of an eigenpair, ||H v - theta v||, at which it is accepted, as a share of the largest |theta| seen. Its
eigenvalue is then at most as far from a true one."""

GUARD = 4
"""Vectors in a block beyond the eigenvalues wanted: they make convergence depend on a gap further down."""

KEPT, GROWN = 3, 12
"""Blocks of Ritz vectors that a restart keeps, and blocks to which the basis grows before it."""

PATIENCE = 2000
"""Products with a block after which to give up."""


def largest_eigenvalues(
    product: Callable[[Float64[np.ndarray, "B P"]], Float64[np.ndarray, "B P"]], size: int, count: int
) -> Float64[np.ndarray, " count"]:
    """Return the largest eigenvalues (algebraic), the largest first, each as often as its multiplicity.

    Block Lanczos with full reorthogonalisation (Golub and Underwood 1977) and thick restarts (Wu and Simon 2000). A
    block has more vectors than eigenvalues are wanted, so none of a multiple one is missed. The start is the same
    random block in every call.

    Args:
        product: Maps the rows of a block of vectors v to H v.
        size: P, length of a vector.
        count: How many eigenvalues, at most P.

    Raises:
        ArithmeticError: They did not converge.

    >>> largest_eigenvalues(lambda v: v * np.arange(1000), 1000, 3)
    array([999., 998., 997.])
    """
    width = min(count + GUARD, size)
    limit = min(GROWN * width, size)
    basis = np.empty((limit + width, size))  # orthonormal rows
    fresh = np.linalg.qr(stream(0, "krylov").standard_normal((size, width)))[0].T
    projected = np.zeros((0, 0))  # H in the basis
    for _ in range(PATIENCE):
        used, new = len(projected), len(projected) + len(fresh)
        basis[used:new] = fresh
        known = basis[:new]
        rest = product(fresh)
        if not np.isfinite(rest).all():
            return np.full(count, np.nan)
        overlap = known @ rest.T  # [new, B]
        rest = rest - overlap.T @ known
        rest -= (rest @ known.T) @ known
        grown = np.zeros((new, new))
        grown[:used, :used] = projected
        grown[:, used:], grown[used:, :used] = overlap, overlap[:used].T
        projected = (grown + grown.T) / 2
        values, vectors = np.linalg.eigh(projected)
        values, vectors = values[::-1], vectors[:, ::-1]
        left, strengths, fresh = np.linalg.svd(rest, full_matrices=False)
        scale = np.abs(values).max()
        residuals = np.linalg.norm(strengths[:, None] * (left.T @ vectors[used:, :count]), axis=0)
        if new == size or (new >= count and (residuals <= TOLERANCE * scale).all()):
            return values[:count]
        fresh = fresh[strengths > 1e-14 * scale][: size - new]  # the others are rounding: nothing is left there
        fresh = np.linalg.qr((fresh - (fresh @ known.T) @ known).T)[0].T
        if new + len(fresh) > limit and limit < size:
            keep = min(KEPT * width, new)
            basis[:keep] = vectors[:, :keep].T @ known
            projected = np.diag(values[:keep])
    raise ArithmeticError(f"{count} eigenvalues did not converge in {PATIENCE} products with {width} vectors")
