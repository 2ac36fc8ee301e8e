"""Arithmetic with the same digits on any number of threads, and without warnings when a run diverges."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from threadpoolctl import LibController, ThreadpoolController


@contextlib.contextmanager
def uniform() -> Iterator[None]:
    """Compute a `with` block, or the decorated function: the same digits on any number of threads, and no warnings.

    The last digits of what BLAS and torch find depend on how many threads they use, so each is limited to the thread
    that calls it; the process's own settings are restored afterwards. Members that diverge overflow: their values show
    it. Warnings are off, because whether numpy gives one depends on the processor's BLAS.

    All that computes a run's numbers is called in here: making data and weights, training, recording, finding events.
    To enter it within itself costs some microseconds.
    """
    with _limits, np.errstate(all="ignore"):
        yield


class _Limits:
    """One thread each for BLAS and torch, as long as any thread is inside.

    Some libraries count threads for the whole process, others for each thread that calls them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._undo: list[Undo] = []
        self._here = threading.local()

    def __enter__(self) -> None:
        here = self._here
        depth = getattr(here, "depth", 0)
        if depth == 0:
            here.undo, here.modules = [_limit_torch()], 0
        with self._lock:
            self._inside += depth == 0
            if here.modules != len(sys.modules):  # those that are new may have brought libraries
                here.modules = len(sys.modules)
                own, shared = _libraries(here.modules)
                here.undo.append(_limit(own))
                self._undo.append(_limit(shared))
        here.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._here.depth -= 1
        if self._here.depth:
            return
        with self._lock:
            self._inside -= 1
            while self._undo and not self._inside:
                self._undo.pop()()
        while self._here.undo:
            self._here.undo.pop()()


_limits = _Limits()

Undo = Callable[[], None]


def _limit(libraries: Sequence[LibController]) -> Undo:
    """Keep libraries to one thread; return what undoes it."""
    before = [library.num_threads for library in libraries]

    def set_to(counts: Iterable[Any]) -> None:
        for library, count in zip(libraries, counts, strict=True):
            # threadpoolctl obeys the first thread that sets a limit, and no other one after it
            getattr(library, "clear_controlling_thread", lambda force: None)(force=True)
            library.set_num_threads(count)

    set_to(1 for _ in libraries)
    return lambda: set_to(before)


def _limit_torch() -> Undo:
    """Keep torch, if there is one, to the calling thread; return what undoes it."""
    torch = sys.modules.get("torch")
    if torch is None:
        return lambda: None
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return lambda: torch.set_num_threads(before)


@functools.lru_cache(maxsize=1)
def _libraries(_modules: int) -> tuple[list[LibController], list[LibController]]:
    """Return the BLAS libraries that are loaded, those first that count threads for each thread that calls them."""
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [x for x in found if x.internal_api == "openblas" and x.threading_layer == "openmp"]
    return own, [x for x in found if x not in own]
