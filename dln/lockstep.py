"""The one loop over steps: lanes in step, recorded, then updated. A single run is one lane, a comparison two.

step s:   begin      callbacks act, the batch is drawn, its loss says whether the lane has diverged
          record     what the lanes' weights theta_s are, where s is a step to record
          update     theta_s to theta_{s+1}

`Lockstep` is the loop. `StepByStep` goes one step at a time, its lanes being trainers; the compiled engine's `Ensemble`
goes a stretch of steps at a time, in which no callback acts, its lanes having many members each.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from dln.base.arithmetic import uniform
from dln.errors import USER_FAULTS, DlnError, ExtensionError
from dln.history import History, Record, suffixed
from dln.measure.supply import PairSupply, Supply
from dln.metrics import Metric, Value
from dln.subject import Callback, Subject, callback_name
from dln.timeline import acts_at

OnRecord = Callable[[Record], Any]


class Lane(Protocol):
    """One model of a run as the loop sees it."""

    diverged_at: int | None
    """The step at which it diverged: from there on there is nothing of it."""
    stopped_at: int | None
    """The step at which a callback stopped it: it is measured on, and never updated again."""

    @property
    def conditions(self) -> Mapping[str, float]:
        """How good the theories beside it are."""
        ...

    def begin(self, step: int) -> None:
        """Do what comes before the record of a step; here it may stop or diverge."""
        ...

    def supply(self) -> Supply:
        """Return what metrics may name at this step."""
        ...

    def measure(self, supply: Supply, suffix: str) -> dict[str, Value]:
        """Return what a record says of the lane at this step, each name followed by `suffix`; changes nothing."""
        ...

    def update(self) -> None:
        """Go on to the next step."""
        ...


class Lockstep(ABC):
    """Lanes in step: from the first step to the last, or to where none of them goes on."""

    max_steps: int
    """The last step."""
    step: int
    """The present one."""

    @uniform()
    def go(self) -> None:
        """Go on from the present step to the end."""
        while self.step <= self.max_steps:
            self._begin()
            stop = self._stop()
            self._advance(stop)
            if self._over(stop):
                break
            self.step = stop
        self.step = min(self.step, self.max_steps)

    @abstractmethod
    def _begin(self) -> None:
        """Do what comes before the record of the present step: callbacks act."""

    @abstractmethod
    def _stop(self) -> int:
        """Return the step that begins next; no callback acts before it."""

    @abstractmethod
    def _advance(self, stop: int) -> None:
        """Record what is due from the present step to before `stop`, and make the updates that lead there."""

    @abstractmethod
    def _over(self, stop: int) -> bool:
        """Whether all lanes have ended before `stop`."""


class StepByStep(Lockstep):
    """Lanes that are trained one step at a time, and what is recorded of them."""

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        max_steps: int,
        recorded: Collection[int],
        history: History,
        pair_metrics: Sequence[Metric] = (),
        first: int = 0,
    ) -> None:
        """Take lanes by the suffix of their columns: {"": lane}, or {"_a": lane, "_b": lane}.

        Args:
            lanes: As above.
            max_steps: The last step.
            recorded: Steps to record; a step at which a run ends because its lanes are stopped is recorded too.
            history: Where records go.
            pair_metrics: Metrics of lanes a and b; they are missing once either has diverged.
            first: The step to begin with.
        """
        self.lanes, self.max_steps, self.recorded = dict(lanes), max_steps, recorded
        self.history, self.pair_metrics = history, pair_metrics
        self.step = self._first = first
        self._on_record: OnRecord | None = None

    def run(self, on_record: OnRecord | None = None) -> History:
        """Go from the first step to the end and return the records, each passed to `on_record` too as it is taken."""
        self.step, self._on_record = self._first, on_record
        self.go()
        self.history.events = events_of(self.lanes)
        return self.history

    def _begin(self) -> None:
        for lane in self._alive().values():
            lane.begin(self.step)

    def _stop(self) -> int:
        return self.step + 1

    def _advance(self, stop: int) -> None:
        alive, over = self._alive(), self._over(stop)
        ends_now = over and any(lane.stopped_at == self.step for lane in alive.values())
        if ends_now or (alive and self.step in self.recorded):
            self._record(alive)
        if not over and self.step < self.max_steps:
            for lane in alive.values():
                lane.update()

    def _over(self, stop: int) -> bool:
        return all(lane.stopped_at is not None for lane in self._alive().values())

    def _alive(self) -> dict[str, Lane]:
        """Lanes that have not diverged."""
        return {suffix: lane for suffix, lane in self.lanes.items() if lane.diverged_at is None}

    def _record(self, alive: Mapping[str, Lane]) -> None:
        record: Record = {"step": self.step}
        supplies = {suffix: lane.supply() for suffix, lane in alive.items()}
        for suffix, lane in alive.items():
            record |= lane.measure(supplies[suffix], suffix)
        if len(alive) == 2:
            record |= columns_of(self.pair_metrics, PairSupply(supplies["_a"], supplies["_b"]), self.step)
        self.history.records.append(record)
        if self._on_record is not None:
            self._on_record(record)


def events_of(lanes: Mapping[str, Lane]) -> dict[str, Any]:
    """Return the steps at which lanes ended early, and how good theories are for them, each with the lane's suffix."""
    events: dict[str, Any] = {}
    for suffix, lane in lanes.items():
        ends = {"diverged_at": lane.diverged_at, "stopped_at": lane.stopped_at}
        own = {name: step for name, step in ends.items() if step is not None} | dict(lane.conditions)
        events |= suffixed(own, suffix)
    return events


@uniform()
def columns_of(metrics: Sequence[Metric], supply: Supply | PairSupply, step: int, suffix: str = "") -> dict[str, Value]:
    """Return the columns that metrics fill at a step, from what there is of a model or a pair."""
    values: dict[str, Value] = {}
    for metric in metrics:
        with naming(metric.called, step):
            values |= metric.columns(metric(supply), suffix)
    return values


def fire(callbacks: Sequence[Callback], step: int, subject: Subject) -> None:
    """Call, in their order, the callbacks that act at `step`."""
    for callback in callbacks:
        if acts_at(callback, step, ending=subject.stopped_at == step):
            with naming(f"callback {callback_name(callback)!r}", step):
                callback(step, subject)


@contextlib.contextmanager
def naming(what: str, step: int) -> Iterator[None]:
    """Say, in any error that the block raises, whose code it was and at which step."""
    try:
        yield
    except DlnError as error:
        raise type(error)(f"{what} at step {step}: {error}") from error.__cause__
    except USER_FAULTS as error:
        raise ExtensionError(f"{what} failed at step {step}: {error!r}") from error
