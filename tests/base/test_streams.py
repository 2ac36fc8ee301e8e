"""Streams: names and seeds are independent, also where schemes that add to the seed would overlap."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dln.base.streams import seeded_torch, stream

NAMES = [("teacher",), ("train inputs",), ("train noise",), ("test inputs",), ("batch order",), ("online inputs",)]
NAMES += [("online noise",), ("weights", 1), ("weights", 2), ("weights", 11), ("weights1",), ("weights", "1", "")]

seeds = st.integers(0, 2**40)


def draws(seed, *name, n=64):
    return stream(seed, *name).standard_normal(n)


@given(seed=seeds)
def test_a_stream_is_a_function_of_its_name_and_seed(seed):
    assert np.array_equal(draws(seed, "teacher"), draws(seed, "teacher"))


@given(seed=seeds, offset=st.integers(0, 3))
def test_different_names_share_no_draw_whatever_the_offset_of_their_seeds(seed, offset):
    these, those = ([draws(s, *name) for name in NAMES] for s in (seed, seed + offset))
    for one, other in itertools.permutations(range(len(NAMES)), 2):
        assert not np.isin(these[one], those[other]).any(), (NAMES[one], NAMES[other])


@given(seed=seeds, offset=st.integers(1, 1000))
def test_neighbouring_seeds_share_no_draw(seed, offset):
    assert not np.isin(draws(seed, "weights", 1), draws(seed + offset, "weights", 1)).any()


def test_streams_are_uncorrelated():
    # 12 names x 5 seeds, 4000 draws each: correlations are N(0, 1/4000), so 6 sigma is 0.095.
    rows = np.array([draws(seed, *name, n=4000) for seed in range(5) for name in NAMES])
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 0.095


def test_a_name_may_not_run_into_the_next():
    assert not np.array_equal(draws(0, "a", "bc"), draws(0, "ab", "c"))


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="non-negative"):
        stream(-1, "teacher")


def test_seeded_torch_reproduces_and_leaves_torch_as_it_was():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeded_torch(stream(3, "teacher")):
        first = torch.randn(4)
    with seeded_torch(stream(3, "teacher")):
        again = torch.randn(4)
    assert first.dtype == torch.float64
    assert torch.equal(first, again)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_default_dtype() == torch.float32
