"""Linear algebra that data are made with: random orthogonal matrices, products of one order, whitening."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dln.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float64


def haar(rows: int, columns: int, rng: np.random.Generator) -> Float64[np.ndarray, "rows columns"]:
    """Draw a matrix with orthonormal columns (rows, where those are fewer), each as likely as any other.

    The Q of a Gaussian matrix, where R has a positive diagonal: otherwise it is not uniform (arXiv math-ph/0609050,
    section 5).

    >>> q = haar(5, 3, np.random.default_rng(0))
    >>> np.allclose(q.T @ q, np.eye(3))
    True
    """
    if rows < columns:
        return haar(columns, rows, rng).T
    return _qr(rng.standard_normal((rows, columns)))[0]


def whitened(inputs: Float64[np.ndarray, "N d"]) -> Float64[np.ndarray, "N d"]:
    """Return sqrt(N) Q of the QR decomposition of X, so that X'X / N = I; near X if that was nearly so before.

    Raises:
        ConfigError: X has not d independent columns.

    >>> x = whitened(np.array([[1.0, 2.0], [1.0, -2.0]]))
    >>> np.allclose(x, [[1, 1], [1, -1]])
    True
    """
    samples, dim = inputs.shape
    q, r = _qr(inputs)
    lengths = np.linalg.norm(r, axis=0)  # of the columns of X
    if samples < dim or (np.diag(r) <= samples * np.finfo(float).eps * lengths).any():
        raise ConfigError(f"data.whiten: the {samples} training inputs span fewer than {dim} dimensions")
    return np.sqrt(samples) * q


def transform(matrix: Float64[np.ndarray, "out in"], inputs: Float64[np.ndarray, "N in"]) -> np.ndarray:
    """Return inputs @ matrix.T, [N, out], summed input by input.

    BLAS sums in an order that depends on how many samples it is given; this way a sample's output has the same digits
    whether it is drawn alone or among thousands.

    >>> transform(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [[11.0], [2.0]]
    """
    outputs = np.zeros((len(inputs), len(matrix)))
    for k in range(inputs.shape[1]):
        outputs += inputs[:, k : k + 1] * matrix[:, k]
    return outputs


def _qr(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Q and R with no negative number on the diagonal of R."""
    q, r = np.linalg.qr(matrix)
    signs = np.where(np.diag(r) < 0, -1.0, 1.0)
    return q * signs, signs[:, None] * r
