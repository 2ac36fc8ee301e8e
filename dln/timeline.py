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


def acting_at(steps: Collection[int], callback: F, at_end: bool = False) -> F:
    """Declare the steps a callback acts on; engines then call it only there and run undisturbed in between.

    Args:
        steps: The steps.
        callback: The callback, which is returned.
        at_end: Call it too at a step where a callback before it stops the run.
    """
    callback.steps, callback.at_end = steps, at_end  # type: ignore[attr-defined]
    return callback


def acts_at(callback: Callable[..., Any], step: int, ending: bool = False) -> bool:
    """Whether `callback` wants to be called at `step`; one that declares no steps is called at every step."""
    steps = getattr(callback, "steps", None)
    return steps is None or step in steps or (ending and getattr(callback, "at_end", False))


def next_step(steps: Collection[int], after: int) -> int | None:
    """Return the first of `steps` that is greater than `after`, or None.

    >>> next_step(every(10), 25), next_step({3, 7}, 3), next_step([1, 2], 5)
    (30, 7, None)
    """
    if isinstance(steps, range):
        first = steps.start + max(0, -(-(after + 1 - steps.start) // steps.step)) * steps.step
        return first if first in steps else None
    return min((step for step in steps if step > after), default=None)
