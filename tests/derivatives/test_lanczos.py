"""Eigenvalues by products alone, of matrices whose eigenvalues are known."""

import numpy as np
import pytest

from dln.derivatives import lanczos
from dln.derivatives.lanczos import largest_eigenvalues, largest_of_each


def rotated(values, seed=0):
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return q * values @ q.T


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(-1, 1, 200),
        np.repeat([-5.0, 1.0, 2.0, 3.0], 50),
        np.concatenate([np.zeros(195), [-9.0, 1e-3, 1.0, 1.0, 7.0]]),
        np.full(200, -2.0),
        np.zeros(200),
        np.geomspace(1e-12, 1, 200),
    ],
    ids=["even", "multiple", "low rank", "negative", "zero", "graded"],
)
@pytest.mark.parametrize("count", [1, 4])
def test_eigenvalues_are_found_with_their_multiplicities(values, count):
    matrix = rotated(values)
    found = largest_eigenvalues(lambda v: v @ matrix, 200, count)
    np.testing.assert_allclose(found, np.sort(values)[::-1][:count], rtol=0, atol=1e-12 * np.abs(values).max())


def test_all_eigenvalues_of_a_small_matrix():
    values = np.array([3.0, 1.0, -2.0])
    matrix = rotated(values)
    np.testing.assert_allclose(largest_eigenvalues(lambda v: v @ matrix, 3, 3), values, rtol=1e-14)


def test_restarts_bound_the_memory_and_change_nothing():
    """Close to each other, eigenvalues need more products than a basis holds."""
    values = np.linspace(0, 1, 1000)
    shapes = []

    def product(v):
        shapes.append(v.shape)
        return v * values

    found = largest_eigenvalues(product, 1000, 2)
    assert len(shapes) > lanczos.GROWN
    np.testing.assert_allclose(found, values[::-1][:2], rtol=1e-12)


def test_no_convergence_is_an_error(monkeypatch):
    monkeypatch.setattr(lanczos, "PATIENCE", 3)
    with pytest.raises(ArithmeticError, match="did not converge in 3 products"):
        largest_eigenvalues(lambda v: v * np.linspace(0, 1, 1000), 1000, 2)


FAMILIES = [np.linspace(-1, 1, 200), np.concatenate([np.zeros(195), [-9.0, 1e-3, 1.0, 7.0, 7.0]]), np.full(200, -2.0)]
FAMILIES += [np.zeros(200), np.geomspace(1e-12, 1, 200), np.repeat([-5.0, -3.0, -2.0, -1.0], 50)]


def test_the_largest_of_many_operators_is_found_at_once():
    matrices = np.stack([rotated(values) for values in FAMILIES])
    found = largest_of_each(lambda v: (matrices @ v[..., None])[..., 0], (len(matrices), 200))
    scales = [np.abs(values).max() for values in FAMILIES]
    errors = np.abs(found - [values.max() for values in FAMILIES])
    assert (errors <= 1e-12 * np.array(scales)).all()


def test_an_operator_has_the_same_digits_alone_and_in_company():
    matrices = np.stack([rotated(values, seed=3) for values in FAMILIES])
    matrices[1, 0, 0] = np.nan
    together = largest_of_each(lambda v: (matrices @ v[..., None])[..., 0], (len(matrices), 200))
    assert np.isnan(together).tolist() == [False, True, False, False, False, False]
    for r, matrix in enumerate(matrices):
        np.testing.assert_array_equal(
            largest_of_each(lambda v, m=matrix: (m @ v[..., None])[..., 0], (1, 200))[0], together[r]
        )


def test_no_convergence_of_one_of_many_is_an_error(monkeypatch):
    monkeypatch.setattr(lanczos, "PATIENCE", 3)
    with pytest.raises(ArithmeticError, match="did not converge in 3 products"):
        largest_of_each(lambda v: v * np.linspace(0, 1, 1000), (2, 1000))
