"""Sums are exact, rounded once, whatever the order and the cut: against fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from dln.aggregates.exact import centred_products, exact_products, exact_sum, two_product

KINDS = {
    "float32": lambda rng, n: rng.normal(size=n).astype(np.float32).astype(float),
    "any size": lambda rng, n: rng.normal(size=n) * 10.0 ** rng.uniform(-300, 300, n),
    "cancelling": lambda rng, n: np.concatenate([x := rng.normal(size=n) * 1e10, -x, rng.normal(size=2) * 1e-20]),
    "subnormal": lambda rng, n: rng.integers(-3, 4, n) * 2.0 ** rng.integers(-1074, -1020, n),
    "halfway": lambda rng, n: rng.choice([1.0, 2**-53, 2**-54, -(2**-53), 2**-106, -(2**-107), 0.0], n),
    "enormous": lambda rng, n: rng.normal(size=n) * 1e307,
    "losses": lambda rng, n: rng.lognormal(size=n),
}


def fraction(numbers):
    return sum(map(Fraction, np.asarray(numbers, float).ravel().tolist()), Fraction(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_is_the_numbers_exactly_and_nearest_first(kind):
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 40):
        terms = np.stack([KINDS[kind](rng, count) for _ in range(20)], 1)
        found = exact_sum(terms)
        for at in range(20):
            left = fraction(terms[:, at])
            if abs(left) > Fraction(1.7e308):
                continue
            for entry in found[:, at].tolist():
                assert entry == float(left)  # the nearest, by Python's own rounding
                left -= Fraction(entry)
            assert left == 0


@pytest.mark.parametrize("kind", KINDS)
def test_neither_order_nor_cut_changes_a_bit(kind):
    rng = np.random.default_rng(1)
    terms = np.stack([KINDS[kind](rng, 60) for _ in range(5)], 1)
    whole = exact_sum(terms)
    for cuts in ([1], [2, 30], [5, 6, 50], [*range(1, len(terms))]):
        parts = [exact_sum(part) for part in np.split(rng.permutation(terms), cuts)]
        np.testing.assert_array_equal(exact_sum(np.concatenate(parts)), whole)


def test_what_is_not_finite_makes_the_sum_so_and_leaves_others_alone():
    terms = np.array([[1.0, np.inf, np.nan, np.inf], [2.0**-70, 1.0, 1.0, -np.inf]])
    found = exact_sum(terms)
    assert found[:, 0].tolist() == [1.0, 2.0**-70]
    np.testing.assert_array_equal(found[0, 1:], [np.inf, np.nan, np.nan])
    assert exact_sum([1.7e308, 1.7e308]).tolist() == [math.inf]
    assert exact_sum([0.0, -0.0]).tolist() == [0.0]


@pytest.mark.parametrize("size", [1e-140, 1.0, 1e150])
def test_products_lose_nothing_within_their_range(size):
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 50)) * size
    for x, y, high, low in zip(a, b, *two_product(a, b), strict=True):
        assert Fraction(high) + Fraction(low) == Fraction(x) * Fraction(y)
    assert fraction(exact_sum(*exact_products(a, b))) == sum(
        (Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(0)
    )


def test_nothing_cancels_in_a_variance_and_a_covariance():
    rng = np.random.default_rng(3)
    x, y = 1e8 + rng.normal(size=(2, 30)) * 1e-6
    for a, b in itertools.product((x, y), repeat=2):
        n = len(a)
        exact = n * sum(Fraction(u) * Fraction(v) for u, v in zip(a, b, strict=True)) - fraction(a) * fraction(b)
        found = centred_products(np.array(float(n)), exact_sum(*exact_products(a, b)), exact_sum(a), exact_sum(b))
        assert found == float(exact)
