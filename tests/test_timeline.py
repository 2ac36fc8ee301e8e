"""Steps at which records are taken and callbacks act."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dln.errors import ConfigError
from dln.timeline import acting_at, acts_at, chosen_steps, every


@given(last=st.integers(1, 200), interval=st.integers(1, 250))
def test_first_and_last_steps_and_multiples_are_chosen(last, interval):
    assert sorted(chosen_steps(last, interval)) == sorted({0, last, *range(0, last, interval)})


@given(last=st.integers(1, 200), interval=st.integers(1, 250), data=st.data())
def test_steps_of_ones_own_are_chosen_instead(last, interval, data):
    at = data.draw(st.lists(st.integers(0, last)))
    assert sorted(chosen_steps(last, interval, at)) == sorted({0, last, *at})
    assert chosen_steps(last, interval, np.array(at, dtype=np.int64)) == chosen_steps(last, 1, [float(s) for s in at])


@given(last=st.integers(1, 10**7), count=st.integers(2, 60))
def test_geometric_steps_are_those_of_numpy(last, count):
    steps = sorted(chosen_steps(last, at={"log": count}))
    exact = np.geomspace(1, last, count)
    assert steps[:2] == [0, 1]
    assert steps[-1] == last
    assert len(steps) <= count + 1
    assert all(np.abs(exact - step).min() < 0.5 + 1e-8 * step for step in steps[1:])
    assert all(np.abs(np.array(steps) - x).min() < 0.5 + 1e-8 * x for x in exact)


@pytest.mark.parametrize(
    ("at", "named"),
    [
        ([5, 30, 12, 20], "checkpoint_at lists steps beyond max_steps, 10: 12, 20, 30; leave"),
        (range(100), r"beyond max_steps, 10: 11, 12, 13, 14, 15, \.\.\.; leave"),
        ([-1], "a step of checkpoint_at must be a whole number, 0 or more, not -1"),
        ([1.5], "not 1.5"),
        ([True], "not True"),
        (["3"], "not '3'"),
        (7, "checkpoint_at must be a list of steps, {log: NUMBER} or {linear: NUMBER}, not 7"),
        ("log", "not 'log'"),
        ({"lin": 7}, "not {'lin': 7}"),
        ({}, "not {}"),
        ({"log": 1}, "checkpoint_at.log must be a whole number, 2 or more, not 1"),
        ({"log": [2]}, r"not \[2\]"),
        ({"log": float("inf")}, "not inf"),
    ],
)
def test_steps_that_are_none_are_refused(at, named):
    with pytest.raises(ConfigError, match=named):
        chosen_steps(10, at=at, key="checkpoint_at")


@given(interval=st.integers(1, 50), start=st.integers(0, 50), step=st.integers(0, 10**9))
def test_every_has_no_end(interval, start, step):
    assert (step in every(interval, start)) == (step >= start and (step - start) % interval == 0)


def test_a_callback_acts_where_it_says_or_everywhere():
    declared = acting_at({3}, lambda step, trainer: None)
    assert [s for s in range(5) if acts_at(declared, s)] == [3]
    assert all(acts_at(lambda step, trainer: None, s) for s in range(5))


@given(last=st.integers(1, 10**6), count=st.integers(2, 200))
def test_evenly_spaced_steps_are_as_even_as_whole_numbers_can_be(last, count):
    steps = sorted(chosen_steps(last, at={"linear": count}))
    assert steps[0] == 0
    assert steps[-1] == last
    assert len(steps) == min(count, last + 1)
    gaps = {b - a for a, b in pairwise(steps)}
    assert max(gaps) - min(gaps) <= 1
