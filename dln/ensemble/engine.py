"""The compiled engine: lanes of many runs, recorded as one run is, and read back as histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dln.callbacks import Callback
from dln.config import MetricConfig
from dln.data import Dataset
from dln.ensemble.coverage import make_rule, why_not
from dln.ensemble.lane import NEVER, Lane
from dln.ensemble.measure import Probe, View, add_gradients, solo_model, stacked
from dln.ensemble.supply import Draw
from dln.errors import ConfigError
from dln.history import History, Record
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, build_metrics
from dln.model import check_chain
from dln.optim import check_optimizer
from dln.timeline import is_recorded
from dln.train import OnRecord, naming

if TYPE_CHECKING:
    from jaxtyping import Int
    from numpy.typing import ArrayLike


class Ensemble:
    """R runs (one lane) or R pairs of runs (lanes a and b), trained in lockstep and recorded at the same steps.

    Every run goes exactly as it would alone, and as the autograd engine's `Trainer` or `ComparativeTrainer` defines it.
    """

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        *,
        evaluate_every: int = 1,
        metrics: Sequence[str | MetricConfig] = (),
        comparative_metrics: Sequence[str | MetricConfig] = (),
        members: Mapping[str, Int[np.ndarray, " R"]] | None = None,
    ) -> None:
        """Set up R runs.

        Args:
            lanes: By the suffix of their columns: {"": lane}, or {"_a": lane, "_b": lane}.
            evaluate_every: Steps between records.
            metrics: Metrics of each model.
            comparative_metrics: Metrics of each pair.
            members: For each lane, which member each run is; runs may share a trajectory. None: run r is member r.
        """
        self.lanes = dict(lanes)
        self.members = dict(members or {key: np.arange(len(lane)) for key, lane in self.lanes.items()})
        first = next(iter(self.lanes.values()))
        self.max_steps, self.evaluate_every = first.max_steps, evaluate_every
        self.probes = {
            key: Probe(build_metrics(metrics, MODEL_METRICS, shapes=[lane.shapes]), lane.datasets, lane.dataset)
            for key, lane in self.lanes.items()
        }
        shapes = [lane.shapes for lane in self.lanes.values()]
        self.pair_metrics = build_metrics(comparative_metrics, COMPARATIVE_METRICS, "comparative_metrics", shapes)
        self.python_records = bool(metrics or comparative_metrics)
        self.steps: list[int] = []
        self.columns: list[dict[str, np.ndarray]] = []
        self.step = 0

    def __len__(self) -> int:
        return len(next(iter(self.members.values())))

    @property
    def trajectories(self) -> int:
        """How many trajectories are computed; runs that are the same share one."""
        return sum(len(lane) for lane in self.lanes.values())

    def run(self, on_records: Callable[[int], Any] | None = None) -> Ensemble:
        """Train to the end; `on_records` is called with the number of records there are whenever there are more."""
        while self.step <= self.max_steps:
            for lane in self.lanes.values():
                lane.begin(self.step)
            stop = self._stop()
            due = list(self._due(self.step, stop))
            self._advance(stop, due)
            if due and on_records is not None:
                on_records(len(self.steps))
            if (self.over_at < stop).all():
                break
            self.step = stop
        self.step = min(self.step, self.max_steps)
        return self

    @property
    def over_at(self) -> np.ndarray:
        """The step [R] at which the last lane of each run ended early, or NEVER."""
        return np.max([np.minimum(self._at("stopped_at", key), self._at("diverged_at", key)) for key in self.lanes], 0)

    def present(self, runs: slice, start: int = 0) -> np.ndarray:
        """Which of some runs have a record at which of the recorded steps from the `start`-th on [R, T]."""
        steps = np.array(self.steps[start:], dtype=np.int64)
        diverged, stopped = (
            [self._at(event, key)[runs, None] for key in self.lanes] for event in ("diverged_at", "stopped_at")
        )
        over = self.over_at[runs, None]
        alive = np.any([at > steps for at in diverged], 0)
        ended = np.any([at == steps for at in stopped], 0) & (over == steps)
        due = [is_recorded(step, self.max_steps, self.evaluate_every) for step in steps]
        return alive & (steps <= over) & (np.array(due, dtype=bool) | ended)

    def records(self, run: int, start: int = 0) -> Iterator[Record]:
        """Yield the records of one run from the `start`-th recorded step on."""
        ends = {name: self._end_of(name)[run] for name in {n for c in self.columns[start:] for n in c}}
        (present,) = self.present(slice(run, run + 1), start)
        for i in np.flatnonzero(present) + start:
            step, columns = self.steps[i], self.columns[i]
            yield {"step": step, **{name: v[run].tolist() for name, v in columns.items() if ends[name] > step}}

    def history(self, run: int) -> History:
        """Return one run as a history."""
        return History(list(self.records(run)), self.events(run))

    def events(self, run: int) -> dict[str, int]:
        """Return the steps of what happened once to a run: `diverged_at`, `stopped_at`, with the lane's suffix."""
        events = {}
        for key in self.lanes:
            for name in ("diverged_at", "stopped_at"):
                step = int(self._at(name, key)[run])
                if step != NEVER:
                    events[name + key] = step
        return events

    def weights(self, key: str = "") -> tuple[list[np.ndarray], list[np.ndarray] | None]:
        """Return all runs' present weights, one [R, out, in] a layer, and biases [R, out] or None, of one lane."""
        weights, biases = self.lanes[key].weights()
        of = self.members[key]
        return [w[of] for w in weights], None if biases is None else [b[of] for b in biases]

    def curves(self) -> dict[str, np.ndarray]:
        """Return all columns as arrays [R, T, ...], NaN where a run has no record; `step` is [T]."""
        present = self.present(slice(None))
        curves: dict[str, np.ndarray] = {"step": np.array(self.steps)}
        for name in self.columns[0] if self.columns else ():
            curves[name] = np.stack([c[name] for c in self.columns], 1).astype(np.float64)
            curves[name][~(present & (self._end_of(name)[:, None] > curves["step"]))] = np.nan
        return curves

    def _at(self, event: str, key: str) -> np.ndarray:
        """The steps [R] of a lane's `stopped_at` or `diverged_at`, run by run."""
        return getattr(self.lanes[key], event)[self.members[key]]

    def _end_of(self, name: str) -> np.ndarray:
        """The step [R] from which a column has no values: its lane has diverged, or of a pair's metric either."""
        head = name.partition(".")[0]
        keys = [key for key in self.lanes if key and head.endswith(key)] or list(self.lanes)
        return np.min([self._at("diverged_at", key) for key in keys], 0)

    def _stop(self) -> int:
        """Return the step before which Python is not needed again."""
        if not any(lane.moving.any() for lane in self.lanes.values()):
            return self.step + 1
        last = self.max_steps + 1
        stop = min(last, *(lane.next_callback(self.step) for lane in self.lanes.values()))
        stop = min(stop, *(self.step + lane.longest_draw() for lane in self.lanes.values()))
        if self.python_records:  # the next step to record, and the last one, begin a stretch of their own
            stop = min(stop, (self.step // self.evaluate_every + 1) * self.evaluate_every)
            stop = min(stop, self.max_steps if self.step < self.max_steps else last)
        return stop

    def _due(self, start: int, stop: int) -> Iterator[int]:
        """Yield the steps to record among start, ..., stop - 1; `start` also if a member was stopped there."""
        stopped = any((lane.stopped_at == start).any() for lane in self.lanes.values())
        for step in range(start, stop):
            if is_recorded(step, self.max_steps, self.evaluate_every) or (step == start and stopped):
                yield step

    def _advance(self, stop: int, due: Sequence[int]) -> None:
        updates = min(stop, self.max_steps) - self.step
        draws = {key: lane.draw(stop - self.step) for key, lane in self.lanes.items()}
        measured = self._measure(draws) if self.python_records and due else {}
        offsets = [step - self.step for step in due]
        columns: dict[str, np.ndarray] = {}
        for key, lane in self.lanes.items():
            losses, tests = lane.advance(draws[key], updates, offsets)
            of = self.members[key]
            columns[f"train_loss{key}"] = losses[:, of]
            if lane.test_data is not None:
                columns[f"test_loss{key}"] = tests[:, of]
            columns |= {name: values[None, of] for name, values in measured.get(key, {}).items()}
        columns |= {name: values[None] for name, values in measured.get("pair", {}).items()}
        self.steps += due
        self.columns += [{name: values[t] for name, values in columns.items()} for t in range(len(due))]

    def _measure(self, draws: Mapping[str, Sequence[Draw]]) -> dict[str, dict[str, np.ndarray]]:
        measured: dict[str, dict[str, np.ndarray]] = {}
        present = {}
        for key, lane in self.lanes.items():
            weights, biases = present[key] = lane.weights()
            _blank(weights, biases)
            probe, columns = self.probes[key], measured.setdefault(key, {})
            for group, draw in zip(lane.groups, draws[key], strict=True):
                for block in _blocks(len(group.members), weights):
                    members, batches = group.members[block], draw.part(block)
                    view = View.of(weights, biases, members)
                    if probe.wants_gradients:
                        add_gradients(view, batches)
                    values = probe.measure(view, batches, members, key, self.step)
                    for name, v in values.items():
                        columns.setdefault(name, np.full((len(lane), *v.shape[1:]), np.nan))[members] = v
        measured["pair"] = self._compare(present) if self.pair_metrics else {}
        return measured

    def _compare(
        self, present: Mapping[str, tuple[list[np.ndarray], list[np.ndarray] | None]]
    ) -> dict[str, np.ndarray]:
        """Return the values [R, ...] of the comparative metrics."""
        columns: dict[str, np.ndarray] = {}
        for block in _blocks(len(self), next(iter(present.values()))[0]):
            views = [View.of(w, b, self.members[key][block]) for key, (w, b) in present.items()]
            runs = np.arange(len(self))[block]
            for metric in self.pair_metrics:
                with naming(f"comparative metric {metric.label!r}", self.step):
                    if metric.batched:
                        values = metric.batched_columns(metric(*views))
                    else:
                        finite = np.flatnonzero(np.all([view.finite() for view in views], 0))
                        rows = {int(m): metric.columns(metric(*(solo_model(v, int(m)) for v in views))) for m in finite}
                        values = stacked(rows, len(runs))
                for name, v in values.items():
                    columns.setdefault(name, np.full((len(self), *v.shape[1:]), np.nan))[runs] = v
        return columns


CACHED = 2**20
"""Bytes of float64 weights that metrics are evaluated on at a time, so that they stay in a core's cache."""


def _blocks(members: int, weights: Sequence[np.ndarray]) -> list[slice]:
    """Cut members into blocks whose weights fit the cache."""
    size = max(1, CACHED // (8 * sum(w[0].size for w in weights)))
    return [slice(first, first + size) for first in range(0, members, size)]


def _blank(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray] | None) -> None:
    """Zero the members that have left the finite numbers: nothing of them is recorded, and SVDs of NaN are errors."""
    arrays = (*weights, *(biases or ()))
    with np.errstate(over="ignore", invalid="ignore"):
        if all(np.isfinite(array.sum()) for array in arrays):
            return  # the usual case, at a glance
    lost = ~np.all([np.isfinite(a).all(axis=tuple(range(1, a.ndim))) for a in arrays], 0)
    for array in arrays:
        array[lost] = 0


def train_ensemble(
    weights: Sequence[ArrayLike],
    datasets: Dataset | Sequence[Dataset],
    *,
    biases: Sequence[ArrayLike] | None = None,
    dataset: Sequence[int] | None = None,
    lr: float | Sequence[float] = 0.0005,
    max_steps: int = 2500,
    batch_size: int | None = None,
    batch_seeds: int | Sequence[int] = 0,
    optimizer: str = "SGD",
    optimizer_params: Mapping[str, Any] | None = None,
    evaluate_every: int = 1,
    metrics: Sequence[str | MetricConfig] = (),
) -> Ensemble:
    """Train R networks of one shape together, from weights and on data of one's own.

    Args:
        weights: One array [R, out, in] a layer.
        datasets: Data for all, or several datasets of equal shape; their precision is that of the training.
        biases: One array [R, out] a layer, or None.
        dataset: Which of several datasets each member trains on [R].
        lr: Learning rate, one for all or one a member.
        max_steps: Number of updates.
        batch_size: Samples a step; None is the full batch.
        batch_seeds: Seed of the batch order, one for all or one a member.
        optimizer: SGD, Adam or AdamW.
        optimizer_params: Its further arguments, as in torch.optim.
        evaluate_every: Steps between records.
        metrics: Metrics to record.

    Returns:
        The trained ensemble: `curves()` gives all columns as arrays [R, T, ...], `weights()` the final weights.

    Raises:
        ConfigError: Weights and data do not fit together, or the compiled engine does not cover the settings.

    >>> from dln import linear_teacher
    >>> rng = np.random.default_rng(0)
    >>> start = [0.3 * rng.standard_normal((8, *shape)) for shape in ((10, 3), (2, 10))]
    >>> data = linear_teacher(3, 2, {"matrix": "diagonal", "scale": 1.0})
    >>> ensemble = train_ensemble(start, data, lr=0.1, max_steps=200, evaluate_every=100)
    >>> ensemble.curves()["train_loss"].shape
    (8, 3)
    """
    datasets = [datasets] if isinstance(datasets, Dataset) else list(datasets)
    params = dict(optimizer_params or {})
    check_optimizer(optimizer, params)
    reason = why_not(optimizer, params, "MSELoss", {}, torch.device("cpu"), [])
    if reason is not None:
        raise ConfigError(f"the compiled engine does not cover {reason}")
    dtype = next(t for t in (datasets[0].train_inputs, datasets[0].test_inputs) if t is not None).numpy().dtype
    layers = [np.asarray(w, dtype) for w in weights]
    shifts = None if biases is None else [np.asarray(b, dtype) for b in biases]
    check_chain([w.shape[1:] for w in layers], None if shifts is None else [b.shape[1:] for b in shifts])
    if len({len(a) for a in (*layers, *(shifts or ()))}) != 1:
        raise ConfigError(f"layers of {[len(w) for w in layers]} members do not make an ensemble")
    lane = Lane(
        layers,
        shifts,
        datasets,
        dataset=dataset,
        lr=lr,
        batch_size=batch_size,
        batch_seeds=batch_seeds,
        rule=make_rule(optimizer, params),
        max_steps=max_steps,
    )
    return Ensemble({"": lane}, evaluate_every=evaluate_every, metrics=metrics).run()


class SoloRun:
    """An ensemble of one run, with the face of a `Trainer`."""

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
    def events(self) -> dict[str, int]:
        """Steps of what happened once: `diverged_at`, `stopped_at`, with the lane's suffix."""
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
