"""The steps of a run at which something other than training happens."""

import sys
from collections.abc import Callable, Collection
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def is_recorded(step: int, last: int, every: int) -> bool:
    """Whether a record is taken at `step`: step 0, multiples of `every`, and the last one.

    >>> [s for s in range(8) if is_recorded(s, last=7, every=3)]
    [0, 3, 6, 7]
    """
    return step % every == 0 or step == last


def every(interval: int, start: int = 0) -> range:
    """All steps start, start + interval, start + 2 interval, ... without end.

    >>> 20 in every(10), 5 in every(10), 10 in every(10, start=20)
    (True, False, False)
    """
    return range(start, sys.maxsize, interval)


def acting_at(steps: Collection[int], callback: F) -> F:
    """Declare the steps a callback acts on; engines then call it only there and run undisturbed in between."""
    callback.steps = steps  # type: ignore[attr-defined]
    return callback


def acts_at(callback: Callable[..., Any], step: int) -> bool:
    """Whether `callback` wants to be called at `step`; one that declares no steps is called at every step."""
    steps = getattr(callback, "steps", None)
    return steps is None or step in steps
