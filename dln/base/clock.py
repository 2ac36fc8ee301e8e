"""The time that training has taken: the learning rates of all updates summed, as gradient flow counts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

PARTS = 3
"""Numbers that a clock keeps of each run."""


class Clock:
    """Adds up the learning rates of R runs; what a rate adds while it lasts is one product, rate * steps.

    So the time of a run at a constant rate is exactly rate * step, and the digits do not depend on where it is read.

    >>> clock = Clock(2)
    >>> clock.go(0, np.array([[0.1, 0.5]] * 3 + [[0.1, 0.25]]), np.array([0, 3, 4])).tolist()
    [[0.0, 0.0], [0.30000000000000004, 1.5], [0.4, 1.75]]
    """

    def __init__(self, runs: int) -> None:
        """Start at 0."""
        self.parts = np.zeros((PARTS, runs))
        """When the present rates began to hold, as time; these rates; and since which steps."""

    def at(self, step: int) -> Float64[np.ndarray, " R"]:
        """Return the time at a step, all updates before which have been told."""
        before, rate, since = self.parts
        with np.errstate(invalid="ignore", over="ignore"):  # a rate without bound makes a run diverge
            return before + rate * (step - since)

    def tell(self, step: int, rates: Float64[np.ndarray, " R"]) -> None:
        """Take note of the rates of the update that follows a step, and of those behind it until others are told."""
        if not np.array_equal(rates, self.parts[1]):
            new = np.stack([self.at(step), rates, np.full(len(rates), float(step))])
            self.parts = np.where(rates != self.parts[1], new, self.parts)

    def go(
        self, step: int, rates: Float64[np.ndarray, "s R"], offsets: Int[np.ndarray, " t"]
    ) -> Float64[np.ndarray, "t R"]:
        """Take note of the rates of updates from a step on, and return the times at some steps on the way.

        Args:
            step: The first.
            rates: Of each update; those of the last hold for any more there are.
            offsets: The steps on the way, counted from the first, ascending.
        """
        begins = np.flatnonzero(np.r_[True, (rates[1:] != rates[:-1]).any(1)])
        times = []
        for begin, end in zip(begins, np.r_[begins[1:], np.inf], strict=True):
            self.tell(step + int(begin), rates[begin])
            times += [self.at(step + int(o)) for o in offsets[(offsets >= begin) & (offsets < end)]]
        return np.array(times).reshape(len(offsets), rates.shape[1])
