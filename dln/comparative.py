"""Two runs in lockstep on the same data, with metrics of the pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dln.config import MetricConfig
from dln.errors import ConfigError
from dln.history import History
from dln.lockstep import OnRecord, StepByStep, events_of
from dln.metrics import COMPARATIVE_METRICS, Metric, build_metrics, check_lanes, keeps_time, looks_back
from dln.subject import Callback
from dln.train import Trainer


class ComparativeTrainer:
    """Trains lanes a and b step by step together.

    Each lane is an ordinary `Trainer`, with its own batches, optimizer and callbacks, and goes exactly as it would
    alone. Columns of a lane end in `_a` or `_b`. A lane that a callback stops keeps its weights while the other goes
    on; of one that diverges the later values are missing, comparative ones included. The run ends with the last lane.
    """

    engine = "autograd"

    def __init__(
        self,
        trainer_a: Trainer,
        trainer_b: Trainer,
        comparative_metrics: Sequence[str | MetricConfig] | Sequence[Metric] = (),
    ) -> None:
        """Pair two trainers of equal `max_steps` that record at the same steps.

        Raises:
            ConfigError: They differ in `max_steps`, in the first step or in the steps to record.
        """
        if trainer_a.max_steps != trainer_b.max_steps:
            a, b = trainer_a.max_steps, trainer_b.max_steps
            raise ConfigError(f"two lanes in lockstep need the same max_steps; a has {a}, b has {b}")
        if trainer_a.recorded != trainer_b.recorded:
            raise ConfigError("two lanes in lockstep need the same evaluate_every, or evaluate_at")
        if trainer_a.first != trainer_b.first:
            raise ConfigError(
                f"two lanes in lockstep begin at one step; a at {trainer_a.first}, b at {trainer_b.first}"
            )
        self.lanes = {"_a": trainer_a, "_b": trainer_b}
        self.max_steps = trainer_a.max_steps
        self.recorded = trainer_a.recorded
        shapes = [trainer_a.model.shapes, trainer_b.model.shapes]
        self.metrics = build_metrics(
            comparative_metrics,
            COMPARATIVE_METRICS,
            "comparative_metrics",
            shapes,
            trainer_a.dataset,
            trainer_a.criterion,
        )
        check_lanes(trainer_a.metrics, self.metrics)
        for lane in self.lanes.values():
            lane.looks_back |= looks_back(self.metrics)
            lane.keeps_time |= keeps_time(self.metrics)
        self.history = History()
        self._lockstep = StepByStep(
            self.lanes, self.max_steps, self.recorded, self.history, self.metrics, trainer_a.first
        )

    def run(self, on_record: OnRecord | None = None) -> History:
        """Train to the end and return the records; each is also passed to `on_record` as it is taken."""
        return self._lockstep.run(on_record)

    @property
    def step(self) -> int:
        """The present step."""
        return self._lockstep.step

    def add_callback(self, callback: Callback) -> None:
        """Add a callback behind those of the first lane."""
        self.lanes["_a"].add_callback(callback)

    @property
    def events(self) -> dict[str, Any]:
        """What is told of it once: `diverged_at_a`, `stopped_at_b`, ..."""
        return events_of(self.lanes)
