"""Work on all cores by threads, for code that releases Python's lock: compiled kernels, numpy's linear algebra."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dln.base.arithmetic import uniform
from dln.errors import ConfigError

_pools: dict[int, ThreadPoolExecutor] = {}
# A forked child has none of its parent's threads; a pool inherited from it would wait for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)

_NAME = "dln"


def thread_count() -> int:
    """Return how many threads to use: DLN_THREADS of the environment, or as many as there are cores for us.

    Raises:
        ConfigError: DLN_THREADS is not a positive number.
    """
    asked = os.environ.get("DLN_THREADS", "")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ConfigError(f"the environment variable DLN_THREADS must be a positive number, not {asked!r}")
        return int(asked)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def run_blocks(work: Callable[[int, int], Any], count: int, block: int | None = None) -> list:
    """Return work(first, last) of blocks of range(count), in order; a single block runs in the calling thread.

    Args:
        work: What is done; no block may depend on another.
        count: How many items there are.
        block: Items in a block; None: such that there are several a thread, and a slow one keeps no other waiting.
    """
    threads, alike = thread_count(), uniform()(work)  # every thread has its own settings
    block = block or max(1, count // (8 * threads))
    blocks = [(first, min(first + block, count)) for first in range(0, count, block)]
    nested = threading.current_thread().name.startswith(_NAME)  # a pool that waits for itself would wait for ever
    if threads == 1 or len(blocks) == 1 or nested:
        return [alike(first, last) for first, last in blocks]
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix=_NAME)
    return list(_pools[threads].map(lambda block: alike(*block), blocks))  # raises what a block raised
