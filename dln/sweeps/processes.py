"""Runs of the autograd engine on all cores, in processes: threads would wait for one another."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from pathlib import Path

from dln.base.blame import for_each
from dln.blueprint import Blueprint
from dln.engines import train_alone
from dln.errors import LaunchError
from dln.factory import Described
from dln.history import History

Task = tuple[Described, Path | None]
"""A run, and where its weights are saved."""

WORTH = 5.0
"""Seconds of training in this process before others are started: each takes some seconds to begin."""


class Spread:
    """Trains runs on several cores, and shorter work here."""

    def __init__(self, processes: int) -> None:
        """Take the number of processes to use at most; none is started before it is worth it."""
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None
        self._theirs, self._hold = multiprocessing.Pipe(duplex=False)
        self._spent = 0.0

    def run(self, configs: Sequence[Described], checkpoints: Sequence[Path | None]) -> list[History]:
        """Train each run, with its directory of checkpoints, and return the histories.

        Raises:
            DlnError: What the first run raises that fails, once all are over; its `runs` tell of which.
            LaunchError: A process died.
        """
        tasks = [*zip(configs, checkpoints, strict=True)]
        elsewhere: dict[int, Future[History]] = {}

        def train(run: int) -> History:
            if not elsewhere and (self.processes == 1 or (self._pool is None and self._spent < WORTH)):
                return self._here(tasks[run])
            if not elsewhere:
                elsewhere.update((later, self._submit(tasks[later])) for later in range(run, len(tasks)))
            return elsewhere[run].result()  # `map` would cancel some where this is interrupted

        try:
            return [*for_each(range(len(tasks)), train).values()]
        except BrokenProcessPool:
            self._pool = None
            raise LaunchError("a process that trained it died, perhaps for want of memory") from None

    def _here(self, task: Task) -> History:
        started = time.perf_counter()
        try:
            return train_alone(*task)
        finally:
            self._spent += time.perf_counter() - started

    def _submit(self, task: Task) -> Future[History]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
            self._pool = ProcessPoolExecutor(self.processes, context, initializer=_begin, initargs=(self._theirs,))
        described, place = task
        config = described.config if isinstance(described, Blueprint) else described
        return self._pool.submit(train_alone, config, place)

    def drop(self) -> None:
        """End its processes at once, and no others: whoever else is at work in this one may have children too."""
        self._hold.close()

    def end(self) -> None:
        """Wait until its processes have ended."""
        if self._pool is not None:
            self._pool.shutdown()
        self._hold.close()
        self._theirs.close()


@contextlib.contextmanager
def spread(processes: int) -> Iterator[Spread]:
    """Give the block a `Spread`; its processes end with the block, at once if it is left by an error."""
    spread = Spread(processes)
    try:
        yield spread
    except BaseException:
        spread.drop()
        raise
    finally:
        spread.end()


def _begin(hold: Connection) -> None:
    """Prepare a process: it leaves signals to the driver, and ends when the driver does, or lets go of `hold`."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # not on every system
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    driver = multiprocessing.parent_process()
    assert driver is not None

    def leave() -> None:
        wait([driver.sentinel, hold])
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()
