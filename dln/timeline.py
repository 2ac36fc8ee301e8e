"""The steps of a run at which something other than training happens."""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar, cast

from dln.base.values import whole_number
from dln.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

Steps = Iterable[int] | Mapping[str, int]
"""Steps as a config gives them: a list, or {log: n} or {linear: n} for about n of them, geometric or evenly spaced."""


MOST_SPACED = 1_000_000
"""Steps spaced geometrically or evenly, which are listed one by one."""


def chosen_steps(last: int, every: int = 1, at: Steps | None = None, key: str = "evaluate_at") -> Collection[int]:
    """Return steps of a run: 0, `last`, and in between those of `at` or, without it, the multiples of `every`.

    Args:
        last: The last step.
        every: The interval where there is no `at`.
        at: A list of steps; or {log: n}: last**(i / (n - 1)), i = 0, ..., n - 1, or {linear: n}: last i / (n - 1);
            rounded, without duplicates.
        key: Where `at` stands in the config, for messages.

    Raises:
        ConfigError: `at` is neither a list nor {log: n} nor {linear: n}, or lists steps beyond `last`.

    >>> sorted(chosen_steps(7, every=3)), sorted(chosen_steps(100, at=[20, 5]))
    ([0, 3, 6, 7], [0, 5, 20, 100])
    >>> sorted(chosen_steps(1000, at={"log": 7}))
    [0, 1, 3, 10, 32, 100, 316, 1000]
    >>> sorted(chosen_steps(1000, at={"linear": 5}))
    [0, 250, 500, 750, 1000]
    """
    if at is None:
        multiples = range(0, last + 1, every)
        return multiples if last in multiples else frozenset([*multiples, last])
    if isinstance(at, Mapping):
        return _spaced(last, cast(Mapping[str, int], at), key)
    if isinstance(at, str) or not isinstance(at, Iterable):
        raise ConfigError(f"{key} must be {_KINDS}, not {at!r}")
    steps = [whole_number(step, f"a step of {key}", least=0) for step in at]
    beyond = sorted({step for step in steps if step > last})
    if beyond:
        named = ", ".join(map(str, beyond[:5])) + (", ..." if len(beyond) > 5 else "")
        raise ConfigError(f"{key} lists steps beyond max_steps, {last}: {named}; leave them out, or train for longer")
    return frozenset([0, *steps, last])


_KINDS = "a list of steps, {log: NUMBER} or {linear: NUMBER}"


def _spaced(last: int, at: Mapping[str, int], key: str) -> Collection[int]:
    """Return 0, `last`, and steps between that are spaced geometrically or evenly."""
    if list(at) not in (["log"], ["linear"]):
        raise ConfigError(f"{key} must be {_KINDS}, not {dict(at)!r}")
    ((kind, number),) = at.items()
    count = whole_number(number, f"{key}.{kind}", least=2)
    if count > MOST_SPACED:
        raise ConfigError(f"{key}.{kind} must be at most {MOST_SPACED}, not {count}")
    if kind == "log":
        return frozenset([0, *(round(last ** (i / (count - 1))) for i in range(count))])
    return frozenset((2 * last * i + count - 1) // (2 * (count - 1)) for i in range(count))


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
    """Whether `callback` wants to be called at `step`; one that declares no steps is called at every step.

    >>> callback = acting_at([5], lambda step, trainer: None)
    >>> acts_at(callback, 5), acts_at(callback, 6), acts_at(print, 6)
    (True, False, True)
    """
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
