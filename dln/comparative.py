"""Two runs in lockstep on the same data, with metrics of the pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dln.base.arithmetic import uniform
from dln.callbacks import Callback
from dln.config import MetricConfig
from dln.errors import ConfigError
from dln.history import History, Record, suffixed
from dln.measure.quantities import PairSupply, Supply
from dln.metrics import COMPARATIVE_METRICS, build_metrics, check_lanes, looks_back
from dln.train import OnRecord, Trainer, columns_of


class ComparativeTrainer:
    """Trains lanes a and b step by step together.

    Each lane is an ordinary `Trainer`, with its own batches, optimizer and callbacks, and goes exactly as it would
    alone. Columns of a lane end in `_a` or `_b`. A lane that a callback stops keeps its weights while the other goes
    on; of one that diverges the later values are missing, comparative ones included. The run ends with the last lane.
    """

    engine = "autograd"

    def __init__(
        self, trainer_a: Trainer, trainer_b: Trainer, comparative_metrics: Sequence[str | MetricConfig] = ()
    ) -> None:
        """Pair two trainers of equal `max_steps` that record at the same steps."""
        if trainer_a.max_steps != trainer_b.max_steps:
            a, b = trainer_a.max_steps, trainer_b.max_steps
            raise ConfigError(f"two lanes in lockstep need the same max_steps; a has {a}, b has {b}")
        if trainer_a.recorded != trainer_b.recorded:
            raise ConfigError("two lanes in lockstep need the same evaluate_every, or evaluate_at")
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
        self.history = History()
        self.step = 0

    @uniform()
    def run(self, on_record: OnRecord | None = None) -> History:
        """Train to the end and return the records; each is also passed to `on_record` as it is taken."""
        for step in range(self.max_steps + 1):
            self.step = step
            for lane in self._alive():
                lane.begin(step)
            if not self._alive():
                break
            ended = not self._moving() and any(lane.stopped_at == step for lane in self._alive())
            last = step if ended else self.max_steps
            if step in self.recorded or step == last:
                self._record(on_record)
            if step == last or not self._moving():
                break
            for lane in self._alive():
                lane.update()
        self.history.events = self.events
        return self.history

    def add_callback(self, callback: Callback) -> None:
        """Add a callback behind those of the first lane."""
        self.lanes["_a"].add_callback(callback)

    @property
    def events(self) -> dict[str, int]:
        """Steps of what happened once: `diverged_at_a`, `stopped_at_b`, ..."""
        return {name: step for key, lane in self.lanes.items() for name, step in suffixed(lane.events, key).items()}

    def _alive(self) -> list[Trainer]:
        """Lanes that have not diverged."""
        return [lane for lane in self.lanes.values() if lane.diverged_at is None]

    def _moving(self) -> list[Trainer]:
        """Lanes that are still to be updated."""
        return [lane for lane in self._alive() if lane.stopped_at is None]

    def _record(self, on_record: OnRecord | None) -> None:
        record: Record = {"step": self.step}
        supplies = {suffix: lane.supply() for suffix, lane in self.lanes.items() if lane.diverged_at is None}
        for suffix, supply in supplies.items():
            record |= self.lanes[suffix].measure(suffix, supply)
        record |= self._compare(supplies)
        self.history.records.append(record)
        if on_record is not None:
            on_record(record)

    def _compare(self, supplies: Mapping[str, Supply]) -> dict[str, Any]:
        """Values of the comparative metrics; none once a lane has diverged."""
        if len(supplies) == len(self.lanes):
            return columns_of(self.metrics, PairSupply(supplies["_a"], supplies["_b"]), self.step)
        return {}
