"""Tells which runs raised an error, where users' code is called run by run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from dln.base.machine import is_shortage
from dln.errors import DlnError, StorageError

T = TypeVar("T")


def for_each(runs: Iterable[int], call: Callable[[int], T]) -> dict[int, T]:
    """Call a function with every run and return what it returns.

    Raises:
        DlnError: The first that a call raises, after all others were made; its `runs` tell what each of them raised.
            A full disk, or too little memory, is no run's fault and is raised at once.
    """
    found: dict[int, T] = {}
    told: dict[int, str] = {}
    first: DlnError | None = None
    try:
        for run in runs:
            try:
                found[run] = call(run)
            except DlnError as error:
                if isinstance(error, StorageError) or is_shortage(error.__cause__):
                    raise
                told[run] = str(error)
                first = first or error  # one is kept, as each keeps the variables of its stack trace in memory
        if first is not None:
            first.runs = told
            raise first
    finally:
        del first  # the error refers to this frame, which would refer to it
    return found


@contextlib.contextmanager
def as_runs(members: Iterable[int], counted: Sequence[bool] | None = None) -> Iterator[None]:
    """Turn the members that an error of the block names into runs; several runs may share a member.

    Args:
        members: Every run's member.
        counted: Which runs its fault is one of; None: all.
    """
    try:
        yield
    except DlnError as error:
        error.runs = {
            run: error.runs[member]
            for run, member in enumerate(members)
            if member in error.runs and (counted is None or counted[run])
        }
        raise
