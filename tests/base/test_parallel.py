"""Blocks of work on threads, and numpy's own threads kept out of it."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dln.base.parallel import run_blocks


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("block", [None, 1, 7, 100])
def test_blocks_come_back_in_order_and_cover_everything_once(monkeypatch, threads, block):
    monkeypatch.setenv("DLN_THREADS", threads)
    found = run_blocks(lambda first, last: list(range(first, last)), 50, block)
    assert [i for part in found for i in part] == list(range(50))
    assert run_blocks(lambda first, last: 1 / 0, 0, block) == []


def test_work_that_spreads_its_own_work_does_not_wait_for_itself(monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "2")

    def inner(first, last):
        return sum(run_blocks(lambda a, b: b - a, 10, 1)) * (last - first)

    assert sum(run_blocks(inner, 8, 1)) == 80


def test_an_error_in_a_block_is_raised(monkeypatch):
    monkeypatch.setenv("DLN_THREADS", "2")
    with pytest.raises(ZeroDivisionError):
        run_blocks(lambda first, last: 1 // (first - 3), 8, 1)


def test_blocks_keep_linear_algebra_to_one_thread_and_are_silent_on_every_thread(monkeypatch):
    def look(first, last):
        return np.geterr(), [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    for threads in ("1", "3"):
        monkeypatch.setenv("DLN_THREADS", threads)
        with threadpool_limits(limits=2, user_api="blas"), np.errstate(all="raise"):
            for settings, blas in run_blocks(look, 6, 1):
                assert set(settings.values()) == {"ignore"}
                assert set(blas) == {1}
