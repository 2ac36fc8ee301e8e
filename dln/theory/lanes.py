"""Theories beside runs: what they predict is recorded as one more lane, whose columns end in the theory's name.

    start, data, rates -> Problem -> theory -> maps [R, T, out, in] -> losses, metrics of the map, distances to the run

A prediction is made once for all runs that start and learn alike, at all steps that are recorded, before the first of
them. Whatever a record says of a map is found by the code that finds it of a run: a prediction is a net of one layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from dln.base.blame import for_each
from dln.base.stacked import as_tensor
from dln.config import TheoryConfig
from dln.data import Dataset
from dln.errors import DlnError, ExtensionError
from dln.measure.data_quantities import CONSTANTS, Later, constants
from dln.measure.supply import PairSupply, Supply
from dln.metrics import Metric
from dln.theory.samples import Samples
from dln.theory.theory import THEORIES, Prediction, Problem

if TYPE_CHECKING:
    from jaxtyping import Float64, Int

OF_MAP = ("end_to_end", "end_to_end_values", "end_to_end_modes", "population_mean_square", "map_difference")
"""Quantities of a model, or of two, that depend on the end-to-end map alone."""

LOSSES = ("train_loss", "test_loss")


def is_of_map(metric: Metric) -> bool:
    """Whether a metric depends on a model's end-to-end map and the data alone, so that predictions have it too."""
    needed = {name.partition(" of ")[0] for name in metric.needs_beyond(OF_MAP)}
    return metric.batched and needed <= {*OF_MAP, *CONSTANTS}


class Theory:
    """A registered theory with its parameters bound."""

    def __init__(self, config: TheoryConfig, where: str) -> None:
        """Bind what `config` says; `where` is the config key to name in an error."""
        self._entry, self._where, self._params = THEORIES.get(config.name, where), where, config.params
        self._entry.check(config.params, f"{where}.params")
        self.label = config.label or config.name
        """What its columns end in."""
        self.own: tuple[str, ...] = self._entry.marks["columns"]
        """Columns that it says directly."""
        self.maps: bool = self._entry.marks["maps"]
        """Whether it predicts maps."""

    def predict(self, problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
        """Return what it says of runs at some steps.

        Raises:
            DlnError: It cannot say anything of a run; its `runs` tell of which.
        """
        try:
            return self._predict(problem, steps)
        except DlnError:
            if len(problem) > 1:
                for_each(range(len(problem)), lambda run: self._predict(problem.of(run), steps))
            raise

    def _predict(self, problem: Problem, steps: Int[np.ndarray, " T"]) -> Prediction:
        called = f"theory {self.label!r}"
        named = {"problem": problem, "steps": steps, **self._params}
        prediction = self._entry.call(called, named=named, where=self._where)
        lead = (len(problem), len(steps))
        shapes = {name: np.shape(values)[:2] for name, values in prediction.columns.items()}
        for name in ("maps", "scatter"):
            if (values := getattr(prediction, name)) is not None:
                shapes[name] = np.shape(values)[:2]
        if odd := next((name for name, shape in shapes.items() if shape != lead), None):
            raise ExtensionError(f"{called} returned {odd!r} of {list(shapes[odd])}; it must begin with {list(lead)}")
        if {*prediction.columns} != {*self.own} or (prediction.maps is not None) != self.maps:
            raise ExtensionError(
                f"{called} must predict what it is registered for: columns {list(self.own)}, maps: {self.maps}; it "
                f"returned columns {list(prediction.columns)}, maps: {prediction.maps is not None}"
            )
        return prediction

    def names(self, metrics: Sequence[Metric], pair_metrics: Sequence[Metric], tested: bool) -> list[str]:
        """Return the labels of all columns of its lane, without the suffix of a model's."""
        derived = [*LOSSES[: 1 + tested], *(metric.label for metric in metrics)] if self.maps else []
        pairs = [metric.label for metric in pair_metrics] if self.maps else []
        return [f"{name}_{self.label}" for name in dict.fromkeys([*derived, *pairs, *self.own])]


@dataclass(frozen=True)
class Linear:
    """Maps as metrics see a model: one layer, [K, out, in]."""

    weights: list[Tensor]
    biases: tuple[()] = ()


@dataclass(frozen=True)
class Learned:
    """What R distinct runs learn from, as predictions are measured on it: found once for all theories."""

    datasets: Sequence[Dataset]
    which: Int[np.ndarray, " R"]
    """The dataset of each run."""

    @cached_property
    def constants(self) -> Mapping[str, Later]:
        """Constants of the datasets."""
        return constants(self.datasets)

    @cached_property
    def samples(self) -> dict[str, Samples]:
        """What losses are taken on, [R, S, ...]."""
        tested = self.datasets[0].test_inputs is not None
        splits = ("train", "test") if tested else ("train",)
        return {f"{split}_loss": Samples.of(self.datasets, split).at(self.which) for split in splits}

    def supply(self, maps: Float64[Tensor, "*K out in"], runs: Int[np.ndarray, " K"]) -> Supply:
        """Return what metrics may name of maps, each of which is of one of the runs."""
        given = {name: Later(lambda c=c: c.find()[self.which[runs]]) for name, c in self.constants.items()}
        return Supply({"model": Linear([maps.reshape(-1, *maps.shape[-2:])]), **given})


class TheoryLane:
    """What a theory says of M members of a lane."""

    def __init__(
        self,
        theory: Theory,
        problem: Problem,
        data: Learned,
        member: Int[np.ndarray, " M"],
        steps: Sequence[int],
        metrics: Sequence[Metric],
        pair_metrics: Sequence[Metric],
    ) -> None:
        """Predict.

        Args:
            theory: What predicts.
            problem: R distinct runs.
            data: What they learn from.
            member: Which of them each member is.
            steps: The steps that are to be recorded.
            metrics: Metrics of the lane; those of the map are derived of the prediction too.
            pair_metrics: Metrics of the run and the prediction.

        Raises:
            ConfigError: The theory does not hold for some of the runs.
        """
        self.theory, self._problem, self._member = theory, problem, member
        self._data = data
        self._metrics = [metric for metric in metrics if is_of_map(metric)]
        self._pairs = list(pair_metrics) if theory.maps else []
        self._steps = np.array(steps, np.int64)
        self._predicted = theory.predict(problem, self._steps)

    @property
    def wants_maps(self) -> bool:
        """Whether `columns` compares the prediction with maps of the run."""
        return bool(self._pairs)

    def conditions(self, member: int, suffix: str = "") -> dict[str, float]:
        """Return how good the theory is for a member, by names that end in the theory's and the lane's."""
        told, run = self._predicted.conditions, self._member[member]
        return {f"{name}_{self.theory.label}{suffix}": float(values[run]) for name, values in told.items()}

    def columns(
        self, steps: Sequence[int], suffix: str = "", maps: Float64[Tensor, "T M out in"] | None = None
    ) -> dict[str, Float64[np.ndarray, "T M ..."]]:
        """Return what it says at some steps, by names that end in the theory's and the lane's.

        Args:
            steps: Those that are planned, or others: then it predicts them now.
            suffix: The lane's.
            maps: End-to-end maps of all members at these steps, if it `wants_maps`.
        """
        prediction, end = self._prediction(np.array(steps, np.int64)), f"_{self.theory.label}{suffix}"
        found = self._derived(prediction, end) | {n + end: np.asarray(v) for n, v in prediction.columns.items()}
        columns = {name: values[self._member].swapaxes(0, 1) for name, values in found.items()}
        if maps is not None and self._pairs:
            columns |= self._compared(prediction, end, maps)
        return columns

    def record(self, step: int, suffix: str, end_to_end: Float64[Tensor, "out in"]) -> dict[str, Any]:
        """Return what it says at one step of a run that is alone, whose end-to-end map is given."""
        columns = self.columns([step], suffix, end_to_end[None, None])
        return {name: values[0, 0].tolist() for name, values in columns.items()}

    def _prediction(self, steps: Int[np.ndarray, " T"]) -> Prediction:
        places = np.searchsorted(self._steps, steps)
        planned = places < len(self._steps)
        if not (planned.all() and (self._steps[places] == steps).all()):  # a callback has stopped a run between records
            return self.theory.predict(self._problem, steps)
        whole = self._predicted
        maps, scatter = (None if a is None else np.asarray(a)[:, places] for a in (whole.maps, whole.scatter))
        columns = {name: np.asarray(values)[:, places] for name, values in whole.columns.items()}
        return Prediction(maps, columns, scatter=scatter)

    def _derived(self, prediction: Prediction, suffix: str) -> dict[str, Float64[np.ndarray, "R T ..."]]:
        """Return losses and metrics of predicted maps, of the distinct runs."""
        if prediction.maps is None:
            return {}
        runs, steps = prediction.maps.shape[:2]
        losses = {name: found.losses(prediction.maps, prediction.scatter) for name, found in self._data.samples.items()}
        supply = self._data.supply(as_tensor(prediction.maps), np.repeat(np.arange(runs), steps))
        columns = {name + suffix: values for name, values in losses.items()}
        return columns | _measured(self._metrics, supply, suffix, (runs, steps))

    def _compared(
        self, prediction: Prediction, suffix: str, maps: Float64[Tensor, "T M out in"]
    ) -> dict[str, Float64[np.ndarray, "T M ..."]]:
        """Return metrics of members and their predictions."""
        assert prediction.maps is not None
        theirs = as_tensor(np.ascontiguousarray(prediction.maps[self._member].swapaxes(0, 1)))
        steps, members = maps.shape[:2]
        runs = np.tile(self._member, steps)
        pair = PairSupply(self._data.supply(maps, runs), self._data.supply(theirs, runs))
        return _measured(self._pairs, pair, suffix, (steps, members))


def _measured(
    metrics: Sequence[Metric], supply: Supply | PairSupply, suffix: str, lead: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Return the columns [*lead, ...] of metrics of so many maps, or pairs of maps."""
    columns: dict[str, np.ndarray] = {}
    for metric in metrics:
        found = metric.batched_columns(metric(supply), suffix, (lead[0] * lead[1],))
        columns |= {name: values.reshape(*lead, *values.shape[1:]) for name, values in found.items()}
    return columns
