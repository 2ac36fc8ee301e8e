"""Solutions of autonomous differential equations, as accurate as is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import scipy  # which loads its parts when they are first used

from dln.base.registry import Bounds
from dln.derivatives.products import AT_ONCE

if TYPE_CHECKING:
    from jaxtyping import Float64

    Field = Callable[[Float64[np.ndarray, " P"]], Float64[np.ndarray, " P"]]
    Read = Callable[[Float64[np.ndarray, "k P"]], Float64[np.ndarray, "k ..."]]

Accuracy = Annotated[float, Bounds(least=1e-13, most=1e-2)]
"""A parameter: the error that a step of an integrator may make, as a share of the solution."""


def integrate(
    field: Field,
    start: Float64[np.ndarray, " P"],
    readings: Sequence[tuple[Float64[np.ndarray, " T"], Read]],
    rtol: float,
) -> list[Float64[np.ndarray, "T ..."]]:
    """Solve dy/dt = field(y) from y(0) = `start`, and return what each of the readings notes.

    By the method of Dormand and Prince of order 8 (scipy's DOP853), and between its steps by its interpolant of order
    7. A step may err by `rtol` times the solution, number by number, or times the typical size of the start's numbers,
    whichever is more: so what starts small is right while it is small. NaN from where there is no going on.

    Args:
        field: The derivative at a state.
        start: The state at time 0.
        readings: Times, rising from 0 on, and what maps states to what is noted of each.
        rtol: The error that a step may make.

    >>> decay = (np.array([0.0, 1.0, 2.0]), lambda states: states[:, 0])
    >>> integrate(lambda y: -y, np.array([1.0]), [decay], 1e-12)[0].round(9)
    array([1.        , 0.36787944, 0.13533528])
    """
    noted = [_Noted(times, read, start) for times, read in readings]
    end = max(float(times[-1]) for times, _ in readings)
    if end > 0 and np.isfinite(start).all() and np.isfinite(field(start)).all():
        size = float(np.sqrt(np.mean(start**2))) or 1.0
        solver = scipy.integrate.DOP853(lambda _, y: field(y), 0.0, start, end, rtol=rtol, atol=rtol * size)
        while solver.status == "running":
            before = solver.t
            solver.step()
            due = [one for one in noted if one.due(before, solver.t)]
            if due:
                solution = solver.dense_output()
                for one in due:
                    one.take(before, solver.t, solution)
    return [one.values for one in noted]


class _Noted:
    """What is noted of a solution at some times."""

    def __init__(self, times: Float64[np.ndarray, " T"], read: Read, start: Float64[np.ndarray, " P"]) -> None:
        self._times, self._read = times, read
        first = read(start[None])[0]
        self.values = np.full((len(times), *np.shape(first)), np.nan)  # [T, ...]
        self.values[times == 0] = first
        self._at_once = max(1, AT_ONCE // (8 * len(start)))

    def due(self, low: float, high: float) -> bool:
        """Whether there is a time in (low, high]."""
        return bool(((self._times > low) & (self._times <= high)).any())

    def take(self, low: float, high: float, solution: Callable) -> None:
        """Note the states at times in (low, high], so many at a time as fit in memory."""
        inside = np.flatnonzero((self._times > low) & (self._times <= high))
        for first in range(0, len(inside), self._at_once):
            some = inside[first : first + self._at_once]
            self.values[some] = self._read(np.ascontiguousarray(solution(self._times[some]).T))
