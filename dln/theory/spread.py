"""The covariance of SGD's weights around a path, of low rank, and how a step changes it.

P = Z F Z' with displacements Z, K of them, and a small matrix F. Within an epoch F has a part that cancels in its
course (see `dln.theory.sgd_moments`): sums over batches of squares, less the square of the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from dln.base.stacked import decomposed

if TYPE_CHECKING:
    from jaxtyping import Float64

NEGLIGIBLE = 1e-8
"""Share of the largest eigenvalue of P, or of its squares within an epoch, below which directions are left out: errors
of some 1e-7 of the mean loss, and 1e-4 of the spread at the end of an epoch, where nearly all of it cancels."""


class Spread:
    """P of one run: nothing at first."""

    def __init__(self, shapes: Sequence[tuple[int, int]], samples: int = 0) -> None:
        """Take the shapes of the layers, and N where batches come in epochs."""
        self.directions: list[Float64[np.ndarray, "K p q"]] = [np.zeros((0, *shape)) for shape in shapes]
        """Z, layer by layer."""
        self._settled = np.zeros((0, 0))  # of earlier epochs, and of what is drawn independently
        self._squares = np.zeros((0, 0))  # of batches of this epoch
        self._sums = np.zeros((0, samples))  # over batches of this epoch, sample by sample
        self._kept = 0

    def covariance(self) -> Float64[np.ndarray, "K K"]:
        """Return F."""
        samples = self._sums.shape[1]
        if not samples:
            return self._settled
        return self._settled + self._squares - self._sums @ self._sums.T / (samples * (samples - 1))

    @property
    def sums(self) -> Float64[np.ndarray, "K N"]:
        """Coordinates of the sums over this epoch's batches, sample by sample: lr U = Z sums."""
        return self._sums

    def add(
        self,
        directions: Sequence[Float64[np.ndarray, "J p q"]],
        covariance: Float64[np.ndarray, "J J"],
        deviations: Float64[np.ndarray, "J N"] | None = None,
        batch: int = 1,
    ) -> None:
        """Add what a step brings: independent noise, and in epochs that of a batch.

        Args:
            directions: J displacements in which the noise lies.
            covariance: lr^2 C in them, of what is independent of all other steps.
            deviations: lr times the deviations of samples' gradients, in epochs.
            batch: Size of the batch.
        """
        samples, new = self._sums.shape[1], len(covariance)
        if deviations is None:
            deviations, squares = np.zeros((new, samples)), np.zeros((new, new))
        else:
            squares = deviations @ deviations.T / (batch * (samples - 1))
        self.directions = [np.concatenate(pair) for pair in zip(self.directions, directions, strict=True)]
        self._settled = _diagonal(self._settled, covariance)
        self._squares = _diagonal(self._squares, squares)
        self._sums = np.concatenate([self._sums, deviations])
        if len(self._settled) > 2 * self._kept:
            self._compress()

    def end_epoch(self) -> None:
        """Begin another epoch, independent of all before."""
        self._settled = self.covariance()
        self._squares, self._sums = np.zeros_like(self._squares), np.zeros_like(self._sums)

    def _compress(self) -> None:
        """Leave out directions in which there is next to nothing; the others become orthonormal."""
        flat = [z.reshape(len(z), -1) for z in self.directions]
        gram = reduce(np.add, [z @ z.T for z in flat])
        values, vectors = decomposed(self._settled + self._squares, np.linalg.eigh)
        root = vectors * np.sqrt(np.maximum(values, 0))
        sizes, axes = decomposed(root.T @ gram @ root, np.linalg.eigh)
        kept = sizes > NEGLIGIBLE * sizes[-1] if len(sizes) else np.zeros(0, bool)  # none of NaN
        basis = root @ axes[:, kept] / np.sqrt(sizes[kept])  # Z basis is orthonormal
        onto = basis.T @ gram
        parts = [(basis.T @ z).reshape(-1, *full.shape[1:]) for z, full in zip(flat, self.directions, strict=True)]
        self.directions, self._kept = parts, basis.shape[1]
        self._settled, self._squares = (onto @ part @ onto.T for part in (self._settled, self._squares))
        self._sums = onto @ self._sums


def _diagonal(a: Float64[np.ndarray, "K K"], b: Float64[np.ndarray, "J J"]) -> Float64[np.ndarray, "K+J K+J"]:
    """Return the matrix with two blocks on its diagonal."""
    both = np.zeros((len(a) + len(b),) * 2)
    both[: len(a), : len(a)], both[len(a) :, len(a) :] = a, b
    return both
