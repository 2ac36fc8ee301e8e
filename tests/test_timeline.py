"""Steps at which records are taken and callbacks act."""

from hypothesis import given
from hypothesis import strategies as st

from dln.timeline import acting_at, acts_at, every, is_recorded


@given(last=st.integers(1, 200), interval=st.integers(1, 250))
def test_first_and_last_steps_and_multiples_are_recorded(last, interval):
    recorded = [s for s in range(last + 1) if is_recorded(s, last, interval)]
    assert recorded == sorted({0, last, *range(0, last, interval)})


@given(interval=st.integers(1, 50), start=st.integers(0, 50), step=st.integers(0, 10**9))
def test_every_has_no_end(interval, start, step):
    assert (step in every(interval, start)) == (step >= start and (step - start) % interval == 0)


def test_a_callback_acts_where_it_says_or_everywhere():
    declared = acting_at({3}, lambda step, trainer: None)
    assert [s for s in range(5) if acts_at(declared, s)] == [3]
    assert all(acts_at(lambda step, trainer: None, s) for s in range(5))
