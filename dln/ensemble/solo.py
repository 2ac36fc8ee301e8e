"""One run of the compiled engine, which takes the place of a `Trainer`."""

from __future__ import annotations

from typing import Any

from dln.ensemble.engine import Ensemble
from dln.ensemble.member import NEVER
from dln.history import History
from dln.lockstep import OnRecord
from dln.subject import Callback


class SoloRun:
    """An ensemble of one run, with the methods of a `Trainer`."""

    engine = "compiled"

    def __init__(self, ensemble: Ensemble) -> None:
        """Take an ensemble of one."""
        self.ensemble = ensemble
        self.max_steps = ensemble.max_steps
        self.history = History()

    @property
    def step(self) -> int:
        """The present step; of a run that ended early, the step it ended at."""
        over = int(self.ensemble.over_at[0])
        return self.ensemble.step if over == NEVER else over

    @property
    def events(self) -> dict[str, Any]:
        """What is told of it once: `diverged_at`, `stopped_at`, with the lane's suffix."""
        return self.ensemble.events(0)

    def add_callback(self, callback: Callback) -> None:
        """Add a callback behind those of the first lane."""
        next(iter(self.ensemble.lanes.values())).callbacks[0].append(callback)

    def run(self, on_record: OnRecord | None = None) -> History:
        """Train to the end and return the records; each is also passed to `on_record`, soon after it is taken."""
        seen = 0

        def pass_on(count: int) -> None:
            nonlocal seen
            for record in self.ensemble.records(0, start=seen):
                self.history.records.append(record)
                if on_record is not None:
                    on_record(record)
            seen = count

        self.ensemble.run(pass_on)
        self.history.events = self.events
        return self.history
