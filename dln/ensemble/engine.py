"""The compiled engine: lanes of many runs, recorded as one run is, and read back as histories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dln.base.arithmetic import uniform
from dln.base.blame import as_runs
from dln.base.values import layer_factors
from dln.config import MetricConfig
from dln.data import Dataset
from dln.ensemble.coverage import why_not
from dln.ensemble.groups import Kept
from dln.ensemble.lane import Lane
from dln.ensemble.member import NEVER
from dln.ensemble.probe import Probe
from dln.errors import ConfigError, DlnError
from dln.history import History, Record
from dln.ingredients.optimizers import check_optimizer
from dln.interrupts import cut_short
from dln.kernels.rules import make_rule
from dln.lockstep import Lockstep
from dln.metrics import COMPARATIVE_METRICS, MODEL_METRICS, Metric, build_metrics, check_lanes
from dln.model import check_chain
from dln.timeline import Steps, chosen_steps
from dln.utils import as_tensors

if TYPE_CHECKING:
    from jaxtyping import Int
    from numpy.typing import ArrayLike


class Ensemble(Lockstep):
    """R runs (one lane) or R pairs of runs (lanes a and b), trained in lockstep and recorded at the same steps.

    Every run goes exactly as it would alone, and as the autograd engine's `Trainer` or `ComparativeTrainer` defines it.
    """

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        *,
        evaluate_every: int = 1,
        evaluate_at: Steps | None = None,
        metrics: Mapping[str, Sequence[str | MetricConfig] | Sequence[Metric]] | None = None,
        comparative_metrics: Sequence[str | MetricConfig] | Sequence[Metric] = (),
        members: Mapping[str, Int[np.ndarray, " R"]] | None = None,
    ) -> None:
        """Set up R runs.

        Args:
            lanes: By the suffix of their columns: {"": lane}, or {"_a": lane, "_b": lane}.
            evaluate_every: Steps between records.
            evaluate_at: Steps to record instead: a list, {"log": n} or {"linear": n}; 0 and the last are recorded too.
            metrics: Metrics of each lane, by its suffix, as in `Trainer`.
            comparative_metrics: Metrics of each pair.
            members: For each lane, which member each run is; runs may share a trajectory. None: run r is member r.
        """
        self.lanes = dict(lanes)
        self.members = dict(members or {key: np.arange(len(lane)) for key, lane in self.lanes.items()})
        first = next(iter(self.lanes.values()))
        self.max_steps = first.max_steps
        self.recorded = chosen_steps(self.max_steps, evaluate_every, evaluate_at)
        data = first.sets.datasets[0]  # all are alike
        built = {
            key: build_metrics(own, MODEL_METRICS, shapes=[lane.shapes], dataset=data, optimizer=lane.optimizer)
            for key, lane in self.lanes.items()
            for own in [metrics[key] if metrics else ()]
        }
        shapes = [lane.shapes for lane in self.lanes.values()]
        pair_metrics = build_metrics(comparative_metrics, COMPARATIVE_METRICS, "comparative_metrics", shapes, data)
        for own in built.values() if len(self.lanes) == 2 else ():
            check_lanes(own, pair_metrics)
        self.probe = Probe(self.lanes, built, pair_metrics)
        self.steps: list[int] = []
        self.columns: list[dict[str, np.ndarray]] = []
        self._on_records: Callable[[int], Any] | None = None
        self._lanes_of: dict[str, list[str]] = {}
        """The lanes that a column says something of."""
        self.step = first.step

    def __len__(self) -> int:
        return len(next(iter(self.members.values())))

    @property
    def trajectories(self) -> int:
        """How many trajectories are computed; runs that are the same share one."""
        return sum(len(lane) for lane in self.lanes.values())

    def run(self, on_records: Callable[[int], Any] | None = None) -> Ensemble:
        """Train to the end; `on_records` is called with the number of records there are whenever there are more.

        Raises:
            DlnError: What a metric or callback raises, of the first run whose does; where it is called run by run,
                `runs` says of which runs it failed at that step, and with which words.
        """
        self._on_records = on_records
        self.go()
        return self

    def _begin(self) -> None:
        for key, lane in self.lanes.items():
            with as_runs(self.members[key].tolist()):
                lane.begin(self.step)

    def _advance(self, stop: int) -> None:
        due = list(self._due(self.step, stop))
        error = self._train(stop, due)
        if due and self._on_records is not None:
            self._on_records(len(self.steps))
        if error is not None:
            try:
                raise error
            finally:
                del error  # it refers to this frame, which would refer to it

    def _over(self, stop: int) -> bool:
        return bool((self.over_at < stop).all())

    @property
    def over_at(self) -> np.ndarray:
        """The step [R] at which the last lane of each run ended early, or NEVER."""
        return np.max([np.minimum(self._at("stopped_at", key), self._at("diverged_at", key)) for key in self.lanes], 0)

    def present(self, runs: slice, start: int = 0) -> np.ndarray:
        """Which of some runs have a record at which of the recorded steps from the `start`-th on [R, T]."""
        return self._own(runs, self.steps[start:])

    def _own(self, runs: slice, recorded: Sequence[int]) -> np.ndarray:
        """Which of some runs have a record at which of some recorded steps [R, T]."""
        steps = np.array(recorded, dtype=np.int64)
        diverged, stopped = (
            [self._at(event, key)[runs, None] for key in self.lanes] for event in ("diverged_at", "stopped_at")
        )
        over = self.over_at[runs, None]
        alive = np.any([at > steps for at in diverged], 0)
        ended = np.any([at == steps for at in stopped], 0) & (over == steps)
        due = [step in self.recorded for step in recorded]
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

    def so_far(self) -> list[History]:
        """Return the runs as they are when training is interrupted."""
        over = self.over_at
        runs = [self.history(run) for run in range(len(self))]
        return [cut_short(run, self.step) if over[i] == NEVER else run for i, run in enumerate(runs)]

    def events(self, run: int) -> dict[str, Any]:
        """Return what is told of a run once: `diverged_at`, `stopped_at`, how good theories are for it; by lane.

        A lane that was stopped is still watched for the sake of other runs, but this one's is over.
        """
        events: dict[str, Any] = {}
        over = int(self.over_at[run])
        for key in self.lanes:
            for name in ("diverged_at", "stopped_at"):
                step = int(self._at(name, key)[run])
                if step != NEVER and step <= over:
                    events[name + key] = step
            for theory in self.lanes[key].theories:
                events |= theory.conditions(int(self.members[key][run]), key)
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
            nothing = np.full_like(self.columns[0][name], np.nan)  # of runs that have all diverged
            curves[name] = np.stack([c.get(name, nothing) for c in self.columns], 1).astype(np.float64)
            curves[name][~(present & (self._end_of(name)[:, None] > curves["step"]))] = np.nan
        return curves

    def _at(self, event: str, key: str) -> np.ndarray:
        """The steps [R] of a lane's `stopped_at` or `diverged_at`, run by run."""
        return getattr(self.lanes[key], event)[self.members[key]]

    def _end_of(self, name: str) -> np.ndarray:
        """The step [R] from which a column has no values: its lane has diverged, or of a pair's metric either."""
        return np.min([self._at("diverged_at", key) for key in self._lanes_of[name]], 0)

    def _stop(self) -> int:
        """Return the step before which Python is not needed again."""
        if not any(lane.moving.any() for lane in self.lanes.values()):
            return self.step + 1
        last = self.max_steps + 1
        stop = min(last, *(lane.next_callback(self.step) for lane in self.lanes.values()))
        stop = min(stop, *(self.step + lane.longest_draw() for lane in self.lanes.values()))
        if self.probe.needed:
            weights = sum(lane.record_bytes() for lane in self.lanes.values())
            at_once = max(1, KEPT // (weights * (6 if self.probe.looks_back else 1)))
            at_once = 1 if self.probe.one_by_one else at_once
            later = (step for step in range(self.step + 1, stop) if step in self.recorded)
            stop = next(islice(later, at_once - 1, None), stop)
        if self.probe.one_by_one and self.step < self.max_steps:  # the last step begins a stretch of its own
            stop = min(stop, self.max_steps)
        return stop

    def _due(self, start: int, stop: int) -> Iterator[int]:
        """Yield the steps to record among start, ..., stop - 1; `start` also if a member was stopped there."""
        stopped = any((lane.stopped_at == start).any() for lane in self.lanes.values())
        for step in range(start, stop):
            if step in self.recorded or (step == start and stopped):
                yield step

    def _train(self, stop: int, due: Sequence[int]) -> DlnError | None:
        """Go on to `stop` and record; return the error of a metric that fails, the records before it being kept."""
        updates = min(stop, self.max_steps) - self.step
        draws = {key: lane.draw(stop - self.step) for key, lane in self.lanes.items()}
        offsets = [step - self.step for step in due]
        kept: dict[str, list[Kept]] = {}
        losses: dict[str, dict[str, np.ndarray]] = {}
        keep = self.probe.needed and bool(due)
        for key, lane in self.lanes.items():
            train, test, kept[key] = lane.advance(draws[key], updates, offsets, keep, self.probe.looks_back)
            losses[key] = {f"train_loss{key}": train[:, self.members[key]]}
            if lane.sets.test is not None:
                losses[key][f"test_loss{key}"] = test[:, self.members[key]]
        count, measured, error = self._measure(kept, due) if keep else (len(due), {}, None)
        columns: dict[str, np.ndarray] = {}
        for key in [*self.lanes, "pairs"]:
            found = losses.get(key, {}) | measured.get(key, {})
            self._lanes_of |= dict.fromkeys(found, list(self.lanes) if key == "pairs" else [key])
            columns |= found
        rows = [{name: values[t] for name, values in columns.items()} for t in range(count)]
        steps = due[:count]
        self.steps += steps  # with nothing in between at which Python looks for interrupts
        self.columns += rows
        return error

    def _measure(
        self, kept: Mapping[str, Sequence[Kept]], due: Sequence[int]
    ) -> tuple[int, dict[str, dict[str, np.ndarray]], DlnError | None]:
        """Return T, what `Probe.measure` finds at the first T records, and the error of a metric that fails at T."""

        def measure(records: slice) -> dict[str, dict[str, np.ndarray]]:
            some = {key: [k.at(records) for k in groups] for key, groups in kept.items()}
            own = self._own(slice(None), due[records][:1])[:, 0]
            return self.probe.measure(some, self.members, due[records], own)

        try:
            return len(due), measure(slice(0, len(due))), None
        except DlnError as error:
            if len(due) == 1:
                return 0, {}, error
            for t in range(len(due)):
                try:
                    measure(slice(t, t + 1))
                except DlnError as error:
                    return t, measure(slice(0, t)) if t else {}, error
            raise


KEPT = 2**25
"""Bytes of weights that are kept before metrics are evaluated on them."""


@uniform()
def train_ensemble(
    weights: Sequence[ArrayLike],
    datasets: Dataset | Sequence[Dataset],
    *,
    biases: Sequence[ArrayLike] | None = None,
    dataset: Sequence[int] | None = None,
    lr: float | Sequence[float] = 0.0005,
    lr_factors: Sequence[float] | None = None,
    max_steps: int = 2500,
    batch_size: int | None = None,
    batch_seeds: int | Sequence[int] = 0,
    replacement: bool = False,
    label_noise: float | Sequence[float] = 0.0,
    optimizer: str = "SGD",
    optimizer_params: Mapping[str, Any] | None = None,
    evaluate_every: int = 1,
    evaluate_at: Steps | None = None,
    metrics: Sequence[str | MetricConfig] = (),
) -> Ensemble:
    """Train R networks of one shape together, from weights and on data of one's own.

    Args:
        weights: One array [R, out, in] a layer; their precision is that of the training.
        datasets: Data for all, or several datasets of equal shape; taken in the precision of the weights.
        biases: One array [R, out] a layer, or None.
        dataset: Which of several datasets each member trains on [R].
        lr: Learning rate, one for all or one a member.
        lr_factors: Factors on it, layer by layer; 0 freezes a layer; None: all are 1.
        max_steps: Number of updates.
        batch_size: Samples a step; None is the full batch.
        batch_seeds: Seed of the batch order and of label noise, one for all or one a member.
        replacement: Whether samples of a batch are drawn with replacement, not in epochs.
        label_noise: Standard deviation of fresh noise on the targets of every batch, one for all or one a member.
        optimizer: SGD, Adam, AdamW or Adamax.
        optimizer_params: Its further arguments, as in torch.optim.
        evaluate_every: Steps between records.
        evaluate_at: Steps to record instead: a list, {"log": n} or {"linear": n}; 0 and the last are recorded too.
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
    arrays = as_tensors([*weights, *(biases or ())])
    layers = [array.numpy() for array in arrays[: len(weights)]]
    shifts = None if biases is None else [array.numpy() for array in arrays[len(weights) :]]
    check_chain([w.shape[1:] for w in layers], None if shifts is None else [b.shape[1:] for b in shifts])
    if len({len(a) for a in (*layers, *(shifts or ()))}) != 1:
        raise ConfigError(f"layers of {[len(w) for w in layers]} members do not make an ensemble")
    lane = Lane(
        layers,
        shifts,
        [data.to(arrays[0].dtype, "cpu") for data in datasets],
        dataset=dataset,
        lr=lr,
        lr_factors=None if lr_factors is None else layer_factors(lr_factors, len(layers), "lr_factors"),
        batch_size=batch_size,
        batch_seeds=batch_seeds,
        replacement=replacement,
        label_noise=label_noise,
        rule=make_rule(optimizer, params),
        max_steps=max_steps,
    )
    return Ensemble({"": lane}, evaluate_every=evaluate_every, evaluate_at=evaluate_at, metrics={"": metrics}).run()
