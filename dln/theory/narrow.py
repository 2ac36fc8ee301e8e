"""A narrower network that learns exactly as a wide one does, where the start of the wide one lets it.

The gradient of layer l on any batch is A_l' G B_l', so it maps only from the span of B_l and only into that of A_l'.
Let S_l be the smallest subspaces of the hidden units, S_0 and S_L all inputs and outputs, with W_l S_{l-1} in S_l and
W_l' S_l in S_{l-1}. Then all gradients stay in them whatever the data and the learning rates, and the layers between
them, U_l' W_l U_{l-1} with orthonormal bases U_l, are a network with the same end-to-end map at every step of gradient
descent, stochastic or not. A balanced start has S_l of dimension min(d_in, d_out) or less; any two layers have one of
d_in + d_out or less; random starts of three layers or more fill their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dln.base.stacked import decomposed

if TYPE_CHECKING:
    from jaxtyping import Float64

TOLERANCE = 1e-6
"""Share of a layer's norm that counts as rounding, that of float32 weights too: what lies outside the subspaces by no
more is left out."""


def narrowed(
    layers: Sequence[Float64[np.ndarray, "out in"]], tolerance: float = TOLERANCE
) -> list[Float64[np.ndarray, "k_out k_in"]]:
    """Return the layers of the narrowest network that plain (stochastic) gradient descent moves alike.

    Its end-to-end map is that of `layers` at every step, to rounding. If nothing can be left out, they are returned.

    >>> wide = [np.vstack([np.eye(2), np.zeros((5, 2))]), np.hstack([np.eye(2), np.zeros((2, 5))])]
    >>> [w.shape for w in narrowed(wide)]
    [(2, 2), (2, 2)]
    """
    if not all(np.isfinite(w).all() for w in layers):
        return [*layers]
    ends = layers[0].shape[1], layers[-1].shape[0]
    bases = [np.eye(ends[0]), *(np.zeros((w.shape[0], 0)) for w in layers[:-1]), np.eye(ends[1])]
    sizes: list[int] = []
    while sizes != (sizes := [u.shape[1] for u in bases]):
        for i, w in enumerate(layers[:-1]):  # upwards, W_l S_{l-1} in S_l, ...
            bases[i + 1] = _grown(bases[i + 1], w @ bases[i], tolerance * float(np.linalg.norm(w)))
        for i, w in reversed([*enumerate(layers)][1:]):  # ... and back down, W_l' S_l in S_{l-1}
            bases[i] = _grown(bases[i], w.T @ bases[i + 1], tolerance * float(np.linalg.norm(w)))
    if all(u.shape[0] == u.shape[1] for u in bases):
        return [*layers]
    return [after.T @ w @ before for w, (before, after) in zip(layers, pairwise(bases), strict=True)]


def _grown(
    basis: Float64[np.ndarray, "n k"], more: Float64[np.ndarray, "n m"], least: float
) -> Float64[np.ndarray, "n l"]:
    """Return the basis with what columns have outside of it, where that is more than `least`."""
    for _ in range(2):  # twice, so that rounding is orthogonal too
        more = more - basis @ (basis.T @ more)
    left, sizes, _ = decomposed(more, lambda matrices: np.linalg.svd(matrices, full_matrices=False))
    return np.concatenate([basis, left[:, sizes > least]], 1)[:, : len(basis)]
