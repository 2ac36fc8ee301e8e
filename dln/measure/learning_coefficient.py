"""How singular deep linear nets are at a map of some rank: Aoyagi's learning coefficient, exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, combinations
from typing import NamedTuple


class Coefficient(NamedTuple):
    """The free energy of n samples at a true map is n L + value log n - (multiplicity - 1) log log n + ..."""

    value: float
    multiplicity: int


def learning_coefficient(widths: Sequence[int], rank: int) -> Coefficient:
    """Return the real log canonical threshold lambda, and its multiplicity, of nets that learn a map of some rank.

    It takes the place of half the number of parameters, which it is for regular models, in Bayesian free energy and in
    the volume of weights within a loss: vol(L < L_0 + e) ~ e^lambda (log 1/e)^(m - 1). By Aoyagi (Neural Networks 172,
    2024): let M be the widths less the rank, in ascending order, and take of them the k = l + 1 >= 2 smallest that have
    M_k < M_(k+1), s >= l M_k and s < l M_(k+1), s their sum. With a = s - (ceil(s / l) - 1) l

        lambda = [r (d_in + d_out) - r^2] / 2 + a (l - a) / (4 l) - (l - 1) s^2 / (4 l) + (1/2) sum_{i<j} M_i M_j,

    and m = a (l - a) + 1. It is the least over all weights that make the map, at those where every layer has its rank.
    Where hidden layers are wider than about d_in + d_out it is d_in d_out / 2 at every rank: the net is then as regular
    as one layer, and lambda says nothing of rank.

    Args:
        widths: Of the input, the hidden layers and the output.
        rank: r of the map, at most the least of them.

    >>> [learning_coefficient([5, 5, 5, 5, 5], rank).value for rank in range(6)]
    [8.0, 9.5, 11.0, 12.0, 12.5, 12.5]
    >>> {learning_coefficient([5, 50, 50, 50, 5], rank).value for rank in range(6)}
    {12.5}
    """
    if not 0 <= rank <= min(widths) or len(widths) < 2:
        raise ValueError(f"a net of widths {list(widths)} makes no map of rank {rank}")
    spare = sorted(width - rank for width in widths)
    taken = spare[: _count(spare)]
    l, s = len(taken) - 1, sum(taken)  # noqa: E741  its name in the formula
    a = s - (math.ceil(s / l) - 1) * l
    pairs = sum(one * other for one, other in combinations(taken, 2))
    regular = rank * (widths[0] + widths[-1]) - rank**2
    return Coefficient(regular / 2 + (a * (l - a) - (l - 1) * s**2) / (4 * l) + pairs / 2, a * (l - a) + 1)


def _count(spare: Sequence[int]) -> int:
    """Return k, of which there is one only."""
    following = [*spare[1:], math.inf]
    sums = list(accumulate(spare))
    fits = (
        spare[i] < following[i] and i * spare[i] <= sums[i] < i * following[i]  # l = i: k = l + 1, counted from 0
        for i in range(1, len(spare))
    )
    return list(fits).index(True) + 2
