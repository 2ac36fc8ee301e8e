"""Runs that branch off their reference: up to a step they are it, and from there on have values of their own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from dln.config import Branch, TrainingConfig
from dln.subject import Callback, Subject
from dln.timeline import acting_at


def branched(
    branch: Branch, reference: TrainingConfig, callbacks: Sequence[Callback], own: Sequence[Callback] | None
) -> list[Callback]:
    """Return the callbacks of a run that is its reference up to a step, and goes on from there as it says itself.

    What the optimizer keeps, and the streams of batches, go on; where the batch size is another, an epoch begins, and
    where the batch seed is, its streams begin.

    Args:
        branch: Where it leaves, and what it says.
        reference: What the reference says.
        callbacks: Those of the reference.
        own: The run's, which act from that step on; None: they are the same.
    """
    switch = _switch(branch, reference)
    if own is None:
        return [switch, *callbacks]
    before = [within(callback, 0, branch.step) for callback in callbacks]
    return [*before, switch, *(within(callback, branch.step) for callback in own)]


def _switch(branch: Branch, reference: TrainingConfig) -> Callback:
    """Return what sets the values in which a run differs from its reference."""
    own = branch.training

    def callback(step: int, trainer: Subject) -> None:
        if own.lr != reference.lr:
            trainer.lr = own.lr
        if own.batch_size != reference.batch_size:
            trainer.batch_size = own.batch_size
        if own.batch_seed != reference.batch_seed:
            trainer.reseed(own.batch_seed)

    return acting_at([branch.step], callback)


def within(callback: Callback, start: int, stop: int = sys.maxsize) -> Callback:
    """Return a callback that acts where another one does, from a step on and before another.

    >>> acts = within(acting_at(range(0, 100, 10), lambda step, trainer: print(step)), 15, 40)
    >>> acts.steps, acts(10, None), acts(20, None)
    20
    (range(20, 40, 10), None, None)
    """
    of = _shared if hasattr(callback, "lr_scale") else _within  # schedules are shared by the members of an ensemble
    return of(callback, start, stop)


def _within(callback: Callback, start: int, stop: int) -> Callback:
    @functools.wraps(callback)
    def limited(step: int, trainer: Subject) -> None:
        if start <= step < stop:
            callback(step, trainer)

    factors: Any = getattr(callback, "lr_scale", None)
    if factors is not None:
        limited.lr_scale = lambda steps: np.where((steps >= start) & (steps < stop), factors(steps), 1.0)  # type: ignore[attr-defined]
    steps: Collection[int] | None = getattr(callback, "steps", None)
    if steps is None:
        return limited
    return acting_at(_between(steps, start, stop), limited, getattr(callback, "at_end", False))


_shared = functools.cache(_within)


def _between(steps: Collection[int], start: int, stop: int) -> Collection[int]:
    """Return those of some steps that are at least `start` and below `stop`."""
    if isinstance(steps, range):
        first = steps.start + max(0, -(-(start - steps.start) // steps.step)) * steps.step
        return range(first, min(stop, steps.stop), steps.step)
    return [step for step in steps if start <= step < stop]
