"""Sums without rounding: whatever the order and however terms are cut into parts, the same digits come out.

A sum is kept as an expansion [K, ...]: the float64 nearest to it, then that nearest to what is left, and so on until
nothing is. So it depends on the sum's exact value alone, and two of them are added without loss. Its first entry is the
sum, rounded once. Terms are taken apart at powers of two, where float64 adds without rounding (S. M. Rump, T. Ogita and
S. Oishi, Accurate floating-point summation part I, 2008); an infinite or undefined term makes the sum so too.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from dln.base.arithmetic import uniform

LARGE = 2.0**960
"""Terms from here on are scaled while they are taken apart, so that nothing overflows on the way."""
SCALE = 2.0**100


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a + b, rounded, and what rounding has left out: together they are the sum (D. E. Knuth).

    >>> [float(x) for x in two_sum(np.float64(1), np.float64(2**-60))]
    [1.0, 8.673617379884035e-19]
    """
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@uniform()
def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a b, rounded, and what rounding has left out: together they are the product (T. J. Dekker).

    So they are where the product lies within 2^-968 and 2^1023, and factors are below 2^996; outside of that the second
    is rounded too, or zero, which depends on a and b alone.

    >>> [float(x) for x in two_product(np.float64(1 + 2**-30), np.float64(1 + 2**-30))]
    [1.0000000018626451, 8.673617379884035e-19]
    """
    total = a * b
    high_a, low_a = _halves(a)
    high_b, low_b = (high_a, low_a) if b is a else _halves(b)
    rest = ((high_a * high_b - total) + high_a * low_b + low_a * high_b) + low_a * low_b
    return total, np.where(np.isfinite(rest), rest, 0.0)


def _halves(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a as a sum of two numbers of at most 26 bits each."""
    shifted = a * (2.0**27 + 1)
    high = shifted - (shifted - a)
    return high, a - high


@uniform()
def exact_sum(*terms: ArrayLike) -> np.ndarray:
    """Return the sum of terms [M, ...], of one array or several, over the first axis, as an expansion [K, ...].

    >>> exact_sum([1e100, 1.0, -1e100, 2.0**-80]).tolist()
    [1.0, 8.271806125530277e-25]
    """
    arrays = [np.array(some, np.float64) for some in terms]
    shape = arrays[0].shape[1:]
    arrays = [some.reshape(len(some), -1) for some in arrays]
    odd, undefined = _not_finite(arrays)
    parts = [part for some in arrays for part in _taken_apart(some)]
    found = _canonical(np.array([*parts, np.zeros(arrays[0].shape[1])]))
    found[0, odd] = undefined
    return found.reshape(len(found), *shape)


def _not_finite(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return where terms [M, N] are not finite, and what their sums are there; they are set to zero."""
    odd = ~np.isfinite(sum(some.sum(0) for some in arrays))
    if odd.any():  # rarely: or only their sum is beyond float64
        odd = ~np.all([np.isfinite(some).all(0) for some in arrays], 0)
    undefined = np.sum([some[:, odd].sum(0) for some in arrays], 0)
    for some in arrays if odd.any() else ():
        some[:, odd] = 0
    return odd, undefined


def exact_products(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return terms [M, ...], in one array or two, whose sum is that of the products of a and b: see `two_product`."""
    if _is_single(a) and (b is a or _is_single(b)):
        return (a * b,)  # of 24 bits each: nothing is rounded
    total, rest = two_product(a, b)
    return (total, rest) if rest.any() else (total,)


@uniform()
def _is_single(a: np.ndarray) -> bool:
    return bool((a.astype(np.float32) == a).all())


@uniform()
def centred_products(count: np.ndarray, product: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the sum of (x - mean of x) (y - mean of y) times `count`, rounded once: n sum(x y) - sum(x) sum(y).

    Args:
        count: How many runs there are, n [...].
        product: The expansion of sum(x y).
        a: That of sum(x).
        b: That of sum(y).

    >>> x = np.array([1e8, 1e8 + 1, 1e8 + 2])
    >>> float(centred_products(np.array(3.0), exact_sum(*exact_products(x, x)), exact_sum(x), exact_sum(x)))
    6.0
    """
    terms = [two_product(count, part) for part in product]
    terms += [two_product(-left, right) for left in a for right in b]
    return exact_sum([part for both in terms for part in both])[0]


def _taken_apart(terms: np.ndarray) -> list[np.ndarray]:
    """Return parts [N] whose sum is that of finite terms [M, N], which are used up."""
    largest = _largest(terms)
    if largest.max(initial=0.0) >= LARGE:
        large = np.where(np.abs(terms) >= 1, terms, 0) / SCALE
        return [part * SCALE for part in _taken_apart(large)] + _taken_apart(np.where(np.abs(terms) < 1, terms, 0))
    parts, room = [], len(terms).bit_length()
    while largest.any():
        anchor = np.ldexp(1.0, np.frexp(largest)[1] + room)  # so many terms of its last place add up below it
        high = terms + anchor
        high -= anchor
        parts.append(high.sum(0))
        terms -= high
        largest = _largest(terms)
    return parts


def _largest(terms: np.ndarray) -> np.ndarray:
    return np.maximum(terms.max(0, initial=0.0), -terms.min(0, initial=0.0))


def _canonical(parts: np.ndarray) -> np.ndarray:
    """Return an expansion of the sum of parts [P, N], without entries that are zero everywhere."""
    plain, before = parts.sum(0), None
    while before is None or not np.array_equal(parts, before, equal_nan=True):
        before = parts.copy()
        for i in range(len(parts) - 1, 0, -1):
            parts[i - 1], parts[i] = two_sum(parts[i - 1], parts[i])
    beyond = ~np.isfinite(parts).all(0)
    parts[:, beyond] = 0
    parts[0, beyond] = plain[beyond]  # the sum itself is beyond what float64 holds
    for at in np.flatnonzero(_may_tie(parts)):
        parts[:, at] = _one_by_one(parts[:, at].tolist())
    used = np.flatnonzero(parts.any(1))
    return parts[: used[-1] + 1 if len(used) else 1] + 0.0  # no zero is negative


def _may_tie(parts: np.ndarray) -> np.ndarray:
    """Return where an entry may lie halfway between two numbers, so that what comes after it decides [N]."""
    beyond = np.nextafter(parts[1:], np.copysign(np.inf, parts[1:]))
    halfway = (parts[:-1] + beyond != parts[:-1]) & (parts[1:] != 0)
    return np.any(halfway[:-1] & (parts[2:] != 0), 0)


def _one_by_one(parts: list[float]) -> list[float]:
    """Return the expansion of a sum, found without vectors, padded with zeros."""
    found: list[float] = []
    while (top := math.fsum([*parts, *(-one for one in found)])) != 0:
        found.append(top)
    return found + [0.0] * (len(parts) - len(found))
