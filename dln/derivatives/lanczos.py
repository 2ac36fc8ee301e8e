"""A few extreme eigenvalues of a symmetric operator H that is known by its products with vectors.

The basis V grows by a block of vectors at a time: H times the last block, made orthogonal to all before. In it H is a
small matrix T = V H V', whose eigenvalues (Ritz values) come near those of H, the outermost first. When V has become
too large, a thick restart keeps the best Ritz vectors Y in place of all of V, and goes on from the block F that would
have come next. H F has a part along every Y, so T begins with an arrow, which the next product finds anew:

    T before                 T after                        t: a block of T
    t t . . .                y . . . x                      y: Ritz values that are kept, a diagonal
    t t t . .                . y . . x                      x: what H F has along each Y
    . t t t .     keep Y     . . y . x
    . . t t t    -------->   . . . y x
    . . . t t                x x x x t
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dln.base.stacked import decomposed
from dln.base.streams import stream

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

FIRST, LATER = 8, 1.25
"""After how many products to look for a single eigenvalue, and by what factor more to look again."""


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

    >>> largest_eigenvalues(lambda v: v * np.arange(200), 200, 3)
    array([199., 198., 197.])
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
        overlap = known @ rest.T  # [new, B]
        if not np.isfinite(overlap).all():
            return np.full(count, np.nan)
        rest = rest - overlap.T @ known
        rest -= (rest @ known.T) @ known
        grown = np.zeros((new, new))
        grown[:used, :used] = projected
        grown[:, used:], grown[used:, :used] = overlap, overlap[:used].T
        projected = (grown + grown.T) / 2
        values, vectors = decomposed(projected, np.linalg.eigh)
        values, vectors = values[::-1], vectors[:, ::-1]
        left, strengths, fresh = decomposed(rest, lambda m: np.linalg.svd(m, full_matrices=False))
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


def largest_of_each(
    product: Callable[[Float64[np.ndarray, "R P"]], Float64[np.ndarray, "R P"]], shape: tuple[int, int]
) -> Float64[np.ndarray, " R"]:
    """Return the largest eigenvalue of each of R operators; NaN for one that is not finite.

    Lanczos' recursion of three terms, without keeping the basis: the loss of orthogonality makes copies of eigenvalues
    that have converged, and no wrong ones (Paige 1980). The start is the same random vector in every call.

    Args:
        product: Maps vectors v_r to H_r v_r.
        shape: (R, P).

    Raises:
        ArithmeticError: One did not converge.

    >>> largest_of_each(lambda v: v * np.arange(1000), (1, 1000))
    array([999.])
    """
    members, size = shape
    v = np.tile(stream(0, "krylov").standard_normal(size), (members, 1))
    v /= _norms(v)
    before, beside = np.zeros_like(v), np.zeros((members, 1))
    found, scale = np.full(members, np.nan), np.zeros(members)
    waiting = np.ones(members, bool)
    projected = np.zeros((members, PATIENCE, 2))  # H in the basis: what is on the diagonal, and beside it
    look = FIRST
    for j in range(PATIENCE):
        rest = product(v) - beside * before
        overlap = np.vecdot(v, rest)[:, None]
        rest -= overlap * v
        length = _norms(rest)
        projected[:, j] = np.concatenate([overlap, length], -1)
        scale = np.maximum(scale, np.linalg.norm([overlap, beside, length], axis=0)[:, 0])
        waiting &= np.isfinite(scale)
        done = length[:, 0] <= 1e-14 * scale  # nothing is left but rounding
        looked = np.flatnonzero(waiting if j + 1 == look else waiting & done)
        if len(looked):
            values, last = _top(projected[looked, : j + 1])
            good = last * length[looked, 0] <= TOLERANCE * scale[looked]
            found[looked[good]] = values[good]
            waiting[looked[good]] = False
        if not waiting.any():
            return found
        look = int(LATER * look) if j + 1 == look else look
        beside, before, v = length, v, rest / np.where(length > 0, length, 1)
    raise ArithmeticError(f"an eigenvalue did not converge in {PATIENCE} products with a vector")


def _top(projected: Float64[np.ndarray, "R n 2"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalue of tridiagonal matrices, and the size of the last entry of its vector."""
    n = projected.shape[1]
    matrix = np.zeros((len(projected), n, n))
    i = np.arange(n)
    matrix[:, i, i] = projected[:, :, 0]
    matrix[:, i[1:], i[:-1]] = projected[:, :-1, 1]  # eigh reads the lower triangle
    values, vectors = decomposed(matrix, np.linalg.eigh)
    return values[:, -1], np.abs(vectors[:, -1, -1])


def _norms(vectors: Float64[np.ndarray, "R P"]) -> Float64[np.ndarray, "R 1"]:
    return np.sqrt(np.vecdot(vectors, vectors))[:, None]
