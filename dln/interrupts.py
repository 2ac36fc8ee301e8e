"""Ctrl-C from Python: at a prompt or in a notebook a run that is interrupted gives back what was recorded of it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from dln.history import History

TWICE = 2.0
"""Seconds within which a second interrupt ends what the first one went on with: the rest of a cell, or of a loop."""

_last = -TWICE


@contextlib.contextmanager
def keeping(histories: Callable[[], Sequence[History]]) -> Iterator[None]:
    """Note, where the block is interrupted, what tells the records of its runs so far."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.so_far = lambda: dict(enumerate(histories()))  # type: ignore[attr-defined]
        raise


@contextlib.contextmanager
def numbered(runs: Sequence[int]) -> Iterator[None]:
    """Give the runs that an interrupt of the block keeps the numbers that they have outside of it."""
    try:
        yield
    except KeyboardInterrupt as stop:
        found = getattr(stop, "so_far", dict)
        stop.so_far = lambda: {runs[i]: history for i, history in found().items()}  # type: ignore[attr-defined]
        raise


def so_far(stop: KeyboardInterrupt) -> dict[int, History]:
    """Return the histories of the runs that were interrupted, by their numbers; none where none had begun."""
    return getattr(stop, "so_far", dict)()


def cut_short(history: History, step: int) -> History:
    """Return a history of a run that was interrupted at a step, or later if there are later records."""
    history.events = {**history.events, "interrupted_at": max(step, history.final.get("step", 0))}
    return history


def answer(stop: KeyboardInterrupt, done: str) -> None:
    """Say what was done, at a prompt or in a notebook; elsewhere, or at a second interrupt, let it end everything.

    Args:
        stop: The interrupt.
        done: How far it was: "step 3 of 10".
    """
    global _last
    now = time.monotonic()
    if not hasattr(sys, "ps1") or now - _last < TWICE:  # Python and IPython set it where someone is asked for more
        raise stop
    _last = now
    print(
        f"interrupted at {done}: what was recorded is returned; interrupt twice to stop the rest too", file=sys.stderr
    )
