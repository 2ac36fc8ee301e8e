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


class TheoryLane:
    """What a theory says of M members of a lane."""

    def __init__(
        self,
        theory: Theory,
        problem: Problem,
        datasets: Sequence[Dataset],
        which: Int[np.ndarray, " R"],
        member: Int[np.ndarray, " M"],
        steps: Sequence[int],
        metrics: Sequence[Metric],
        pair_metrics: Sequence[Metric],
    ) -> None:
        """Predict.

        Args:
            theory: What predicts.
            problem: R distinct runs.
            datasets: What they learn from.
            which: The dataset of each of them.
            member: Which of them each member is.
            steps: The steps that are to be recorded.
            metrics: Metrics of the lane; those of the map are derived of the prediction too.
            pair_metrics: Metrics of the run and the prediction.

        Raises:
            ConfigError: The theory does not hold for some of the runs.
        """
        self.theory, self._problem, self._member = theory, problem, member
        self._datasets, self._which = datasets, which
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
        found = self._at(np.array(steps, np.int64), f"_{self.theory.label}{suffix}")
        columns = {name: values[self._member].swapaxes(0, 1) for name, values in found.items()}
        if maps is not None and self._pairs:
            columns |= self._compared(steps, f"_{self.theory.label}{suffix}", maps)
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

    def _at(self, steps: Int[np.ndarray, " T"], suffix: str) -> dict[str, Float64[np.ndarray, "R T ..."]]:
        """Return the columns of the distinct runs."""
        prediction = self._prediction(steps)
        columns: dict[str, np.ndarray] = {}
        if prediction.maps is not None:
            told = prediction.maps, prediction.scatter
            columns |= {name + suffix: found.losses(*told) for name, found in self._samples.items()}
            supply = self._supply(as_tensor(prediction.maps), np.repeat(self._which, len(steps)))
            lead = prediction.maps.shape[:2]
            for metric in self._metrics:
                found = metric.batched_columns(metric(supply), suffix, (lead[0] * lead[1],))
                columns |= {name: values.reshape(*lead, *values.shape[1:]) for name, values in found.items()}
        return columns | {name + suffix: np.asarray(values) for name, values in prediction.columns.items()}

    def _compared(
        self, steps: Sequence[int], suffix: str, maps: Float64[Tensor, "T M out in"]
    ) -> dict[str, Float64[np.ndarray, "T M ..."]]:
        predicted = self._prediction(np.array(steps, np.int64)).maps
        assert predicted is not None
        theirs = as_tensor(np.ascontiguousarray(predicted[self._member].swapaxes(0, 1)))
        which = np.tile(self._which[self._member], len(steps))
        pair = PairSupply(self._supply(maps, which), self._supply(theirs, which))
        columns, lead = {}, maps.shape[:2]
        for metric in self._pairs:
            found = metric.batched_columns(metric(pair), suffix, (lead[0] * lead[1],))
            columns |= {name: values.reshape(*lead, *values.shape[1:]) for name, values in found.items()}
        return columns

    def _supply(self, maps: Float64[Tensor, "*K out in"], which: Int[np.ndarray, " K"]) -> Supply:
        given = {name: Later(lambda c=c: c.find()[which]) for name, c in self._constants.items()}
        return Supply({"model": Linear([maps.reshape(-1, *maps.shape[-2:])]), **given})

    @cached_property
    def _constants(self) -> Mapping[str, Later]:
        return constants(self._datasets)

    @cached_property
    def _samples(self) -> dict[str, Samples]:
        """What losses are taken on, [R, S, ...]."""
        tested = self._datasets[0].test_inputs is not None
        splits = ("train", "test") if tested else ("train",)
        return {f"{split}_loss": Samples.of(self._datasets, split).at(self._which) for split in splits}
