"""Learning rates of members: their own, times what schedules make of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dln.subject import Callback

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


class Rates:
    """Learning rates of R members.

    >>> from dln.callbacks import lr_decay
    >>> Rates(np.array([1.0, 2.0]), [[lr_decay(0.5, 10)], []]).at(0, np.array([1, 10])).tolist()
    [[1.0, 2.0], [0.5, 2.0]]
    """

    def __init__(self, lr: Float64[np.ndarray, " R"], callbacks: Sequence[Sequence[Callback]]) -> None:
        """Take each member's rate, and its callbacks, of which some are schedules."""
        self.own = lr
        """Rates that hold until they are changed [R]."""
        self.scale = np.ones(len(lr))
        """What they are multiplied by at this step alone [R]."""
        self._callbacks = callbacks

    def of_updates(self, step: int, updates: int) -> Float64[np.ndarray, "s R"]:
        """Return the rates of so many updates from this step, or of one where all are the same."""
        constant = updates < 2 or (not any(self._schedules()) and (self.scale == 1).all())
        return self.at(step, np.arange(1 if constant else updates))

    def at(self, step: int, offsets: Int[np.ndarray, " s"]) -> Float64[np.ndarray, "s R"]:
        """Return the rates so many steps from this one; on this step schedules have acted already, through `scale`."""
        scale = np.ones((len(offsets), len(self.own)))
        with np.errstate(over="ignore", invalid="ignore"):  # rates without bound make a member diverge
            for schedules, members in self._schedules().items():
                of_all = np.ones(len(offsets))
                for schedule in schedules:
                    of_all *= schedule(step + offsets)
                scale[:, members] = of_all[:, None]
            scale[offsets == 0] = self.scale
            return self.own * scale

    def _schedules(self) -> dict[tuple[Any, ...], list[int]]:
        """Return the members that have the same schedules of the learning rate, by these."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for m, callbacks in enumerate(self._callbacks if any(self._callbacks) else ()):
            schedules = (getattr(c, "lr_scale", None) for c in callbacks)
            alike.setdefault(tuple(s for s in schedules if s is not None), []).append(m)
        return alike
