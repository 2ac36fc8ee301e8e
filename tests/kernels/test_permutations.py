"""Batch order of many streams, against numpy's own."""

from __future__ import annotations

import numpy as np
import pytest

from dln.base.streams import stream
from dln.kernels.permutations import Orders


def make(count):
    generators = [stream(seed, "batch order") for seed in range(count)]
    generators[1].integers(0, 9, 3, dtype=np.int32)  # leaves half a word behind
    generators[2].permutation(100)
    return generators


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 65, 500, 40000])
def test_permutations_are_those_of_numpy(n):
    orders, generators = Orders(make(4)), make(4)
    for count in (2, 0, 1):
        got = orders.permutations(n, count)
        assert got.dtype == np.int32
        assert got.shape == (4, count, n)
        for row, generator in zip(got, generators, strict=True):
            for permutation in row:
                assert np.array_equal(permutation, generator.permutation(n))


def test_permutations_of_several_lengths_follow_each_other():
    orders, generators = Orders(make(3)), make(3)
    for n in (500, 3, 40, 500):
        got = orders.permutations(n, 1)
        assert np.array_equal(got[:, 0], [generator.permutation(n) for generator in generators])


def test_threads_do_not_change_the_order(monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "1")
    expected = Orders(make(40)).permutations(50, 3)
    monkeypatch.setenv("DLN_THREADS", "3")
    assert np.array_equal(Orders(make(40)).permutations(50, 3), expected)


def test_the_generators_are_left_alone():
    generators = make(3)
    Orders(generators).permutations(10, 2)
    assert generators[0].random() == stream(0, "batch order").random()


def test_other_kinds_of_generators_are_refused():
    with pytest.raises(ValueError, match="PCG64"):
        Orders([np.random.Generator(np.random.Philox(0))])
