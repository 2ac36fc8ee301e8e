"""Metrics of all members at many records: the built-in ones in one call, a user's one member at a time."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dln.data import Dataset
from dln.ensemble.lane import Kept, Lane
from dln.ensemble.summary import pair_quantities, quantities
from dln.ensemble.supply import Draw
from dln.metrics import Metric, MetricData, quantity
from dln.model import DeepLinearNetwork
from dln.quantities import MODEL_QUANTITIES, PAIR_QUANTITIES
from dln.train import naming

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


@dataclass
class View:
    """Members of a lane as a metric sees a model: weights [R, out, in] and biases [R, out], in float64."""

    weights: list[Tensor]
    biases: list[Tensor]
    dtype: torch.dtype
    """The precision that members are trained in."""

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray], depth: int) -> View:
        """View arrays [R, ...] of weights, layer by layer, and then biases."""
        tensors = [torch.from_numpy(a.astype(np.float64, copy=False)) for a in arrays]
        return cls(tensors[:depth], tensors[depth:], torch.from_numpy(arrays[0][:0]).dtype)

    def parameters(self) -> list[Tensor]:
        """All tensors, weights first."""
        return [*self.weights, *self.biases]


def add_gradients(view: View, draw: Draw) -> None:
    """Give the tensors of `view` the gradients of the mean squared error on the first batch of `draw`.

    With E the end-to-end map of the inputs and a constant one, r = E x - y and G = 2/(B d_out) sum r x', layer l has
    gradient A_l' G H_{l-1}', where H_{l-1} maps the inputs to the layer's inputs and A_l its outputs to the net's.
    """
    weights, biases = ([t.numpy() for t in tensors] for tensors in (view.weights, view.biases))
    inputs, targets = batch_samples(draw)
    members, n = len(weights[0]), inputs.shape[2]
    below = [np.broadcast_to(np.eye(weights[0].shape[2], n), (members, weights[0].shape[2], n))]
    for layer, w in enumerate(weights):
        h = w @ below[-1]
        if biases:
            h[:, :, -1] += biases[layer]
        below.append(h)
    residuals = inputs @ below[-1].mT - targets  # [R, B, d_out]
    above = 2 * (residuals.mT @ inputs)  # G at the top, then A_l' G
    for layer in reversed(range(len(weights))):
        view.weights[layer].grad = torch.from_numpy(above @ below[layer].mT)
        if biases:
            view.biases[layer].grad = torch.from_numpy(above[:, :, -1].copy())
        above = weights[layer].mT @ above


def batch_samples(draw: Draw) -> tuple[Float64[np.ndarray, "R B n"], Float64[np.ndarray, "R B out"]]:
    """Return every member's first batch, scaled so that its squared residuals sum to the loss.

    Of a full batch these are the few pseudo-samples that have its loss and gradient.
    """
    n = draw.data.inputs.shape[2]
    if draw.size[0] == 0:
        joint = draw.data.samples[draw.dataset]
        return joint[:, :, :n], joint[:, :, n:]
    rows = draw.order[draw.stream, 0, : draw.size[0]]  # [R, B]
    inputs, targets = (a[draw.dataset[:, None], rows].astype(np.float64) for a in (draw.data.inputs, draw.data.targets))
    scale = 1 / np.sqrt(rows.shape[1] * targets.shape[2])
    return inputs * scale, targets * scale


class Sight:
    """One lane at several records, as metrics look at it."""

    def __init__(self, lane: Lane, kept: Sequence[Kept], names: Collection[str]) -> None:
        """Look at what a lane has kept, group by group, and find the quantities named."""
        self.lane, self.kept, self.depth = lane, kept, kept[0].layout.depth
        found = [quantities(names, k.layout, k.weights, len(k.members), k.draw, k.offsets) for k in kept]
        self.quantities = {name: self._merged([f[name] for f in found]) for name in names}
        """By name [T, R, ...]; a map that is not finite is zero: nothing of it is recorded, and it has no SVD."""
        if "end_to_end" in names:
            maps = self.quantities["end_to_end"]
            maps[~np.isfinite(maps).all((2, 3))] = 0

    @cached_property
    def arrays(self) -> list[np.ndarray]:
        """Weights of all layers, and then biases, each [T, R, ...]."""
        return [self._merged(parts) for parts in zip(*(k.unpacked() for k in self.kept), strict=True)]

    @cached_property
    def finite(self) -> np.ndarray:
        """Which members have finite weights only at which records [T, R]."""
        finite = [np.isfinite(a).all(axis=tuple(range(2, a.ndim))) for a in self.arrays]
        return np.logical_and.reduce(finite)

    @property
    def at_once(self) -> int:
        """How many members' weights fit the cache."""
        return max(1, CACHED // (8 * sum(a[0, 0].size for a in self.arrays)))

    def views(self, members: np.ndarray, cut: int) -> Iterator[View]:
        """Yield all records of some members in blocks [cut, ...]; those that are not finite are zeros."""
        records = len(self.arrays[0])
        lost = np.logical_not(self.finite[:, members]).reshape(-1)
        flat = [a[:, members].reshape(records * len(members), *a.shape[2:]) for a in self.arrays]
        for start in range(0, len(lost), cut):
            block = [a[start : start + cut] for a in flat]
            if lost[start : start + cut].any():
                block = [np.where(lost[start : start + cut].reshape(-1, *[1] * (a.ndim - 1)), 0, a) for a in block]
            yield View.of(block, self.depth)

    @cached_property
    def solos(self) -> list[tuple[int, DeepLinearNetwork, MetricData]]:
        """Every finite member at the first record as a network of its own, with the gradients, and its data."""
        networks = []
        for k in self.kept:
            view, draw = View.of([a[0] for a in k.unpacked()], self.depth), k.draw.at(k.offsets[0])
            add_gradients(view, draw)
            for place in np.flatnonzero(self.finite[0, k.members]).tolist():
                sets = self.lane.datasets[int(self.lane.dataset[k.members[place]])]
                networks.append((int(k.members[place]), solo_model(view, place), member_data(sets, draw, place)))
        return networks

    def _merged(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Put what was found of every group [T, r, ...] in the order of the members."""
        if len(parts) == 1:
            return parts[0]
        merged = np.empty((len(parts[0]), len(self.lane), *parts[0].shape[2:]), parts[0].dtype)
        for k, values in zip(self.kept, parts, strict=True):
            merged[:, k.members] = values
        return merged


CACHED = 2**20
"""Bytes of float64 weights that metrics are evaluated on at a time, so that they stay in a core's cache."""


class Probe:
    """Evaluates the metrics of lanes and of pairs of them."""

    def __init__(self, lanes: Mapping[str, Lane], metrics: Sequence[Metric], pair_metrics: Sequence[Metric]) -> None:
        """Take lanes by suffix, the metrics of each, and those of pairs."""
        self.lanes, self.metrics, self.pair_metrics = lanes, metrics, pair_metrics
        everyone = [*metrics, *pair_metrics]
        self.needed = bool(everyone)
        """Whether there is anything to measure."""
        self.one_by_one = not all(metric.batched for metric in everyone)
        """Whether a user's code is to be called for each member at each record."""
        self.wanted = {quantity(name) for metric in everyone if metric.of_quantities for name in metric.wants}

    def measure(
        self, kept: Mapping[str, Sequence[Kept]], members: Mapping[str, Int[np.ndarray, " R"]], step: int
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return the columns of all runs [T, R, ...], lane by lane, and last those of "pairs".

        Args:
            kept: Every lane's weights at the records, group by group; at a single record if `one_by_one`.
            members: Every run's member of each lane.
            step: The first record's step, for messages.
        """
        sights = {
            key: Sight(self.lanes[key], parts, [n for n in MODEL_QUANTITIES if self.wanted & {(n, key), (n, "")}])
            for key, parts in kept.items()
        }
        columns: dict[str, dict[str, np.ndarray]] = {}
        for key, sight in sights.items():
            columns[key] = {}
            everyone = np.arange(len(sight.lane))
            supply = _tensors(sight.quantities)
            for metric in self.metrics:
                with naming(f"metric {metric.label!r}", step):
                    if metric.batched:
                        found = _batched(metric, supply, [sight], [everyone], key)
                    else:
                        rows = {m: metric.columns(metric(model, data=data), key) for m, model, data in sight.solos}
                        found = stacked(rows, len(everyone))
                    columns[key] |= {name: values[:, members[key]] for name, values in found.items()}
        return columns | {"pairs": self._compare(sights, members, step) if self.pair_metrics else {}}

    def _compare(
        self, sights: Mapping[str, Sight], members: Mapping[str, Int[np.ndarray, " R"]], step: int
    ) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        found = {n + key: q[:, members[key]] for key, sight in sights.items() for n, q in sight.quantities.items()}
        if self.wanted & {(name, "") for name in PAIR_QUANTITIES}:
            (a, b), (member_a, member_b) = sights.values(), members.values()
            found |= _pair_quantities(a, b, member_a, member_b)
        supply = _tensors(found)
        for metric in self.pair_metrics:
            with naming(f"comparative metric {metric.label!r}", step):
                if metric.batched:
                    columns |= _batched(metric, supply, [*sights.values()], [members[key] for key in sights])
                else:
                    ours, theirs = ({m: model for m, model, _ in sight.solos} for sight in sights.values())
                    pairs = enumerate(zip(*(members[key].tolist() for key in sights), strict=True))
                    both = {r: (ours[i], theirs[j]) for r, (i, j) in pairs if i in ours and j in theirs}
                    rows = {r: metric.columns(metric(*models)) for r, models in both.items()}
                    columns |= stacked(rows, len(next(iter(members.values()))))
        return columns


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Return arrays as tensors that lie in memory alike, whatever the company: the order of sums may depend on it."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}


def _batched(
    metric: Metric,
    supply: Mapping[str, Tensor],
    sights: Sequence[Sight],
    members: Sequence[np.ndarray],
    suffix: str = "",
) -> dict[str, np.ndarray]:
    """Return the columns [T, R, ...] of a batched metric, of quantities or of models: one lane's, or pairs of two's."""
    if metric.of_quantities:
        return metric.batched_columns(metric.value(supply), suffix)
    cut = min(sight.at_once for sight in sights)
    views = [sight.views(of, cut) for sight, of in zip(sights, members, strict=True)]
    parts = [metric.batched_columns(metric(*sides), suffix) for sides in zip(*views, strict=True)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {name: values.reshape(-1, len(members[0]), *values.shape[1:]) for name, values in columns.items()}


def _pair_quantities(a: Sight, b: Sight, member_a: np.ndarray, member_b: np.ndarray) -> dict[str, np.ndarray]:
    """Return the quantities of pairs [T, R, ...], group of a by group of b."""
    columns: dict[str, np.ndarray] = {}
    for k, j in itertools.product(a.kept, b.kept):
        runs = np.flatnonzero(np.isin(member_a, k.members) & np.isin(member_b, j.members))
        if len(runs):
            places = (_places(of[runs], part.members) for of, part in ((member_a, k), (member_b, j)))
            for name, values in pair_quantities(k.layout, k.weights, j.weights, *places).items():
                columns.setdefault(name, np.empty((len(values), len(member_a), *values.shape[2:])))[:, runs] = values
    return columns


def _places(members: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return where each of `members` stands in `among`."""
    order = np.argsort(among)
    return order[np.searchsorted(among, members, sorter=order)]


def member_data(sets: Dataset, draw: Draw, place: int) -> MetricData:
    """Return what a metric may want to know of the data of a member: the first batch of `draw`, the whole sets."""
    if draw.size[0] == 0:
        inputs, targets = sets.train_inputs, sets.train_targets
    else:
        rows = draw.order[draw.stream[place], 0, : draw.size[0]]
        x, y = (a[draw.dataset[place], rows] for a in (draw.data.inputs, draw.data.targets))
        inputs, targets = torch.from_numpy(x[:, : sets.dims[0]].copy()), torch.from_numpy(y)
    assert inputs is not None
    assert targets is not None
    return MetricData.of(inputs, targets, nn.MSELoss(), sets)  # the only loss that is compiled


def stacked(rows: Mapping[int, Mapping[str, Any]], members: int) -> dict[str, np.ndarray]:
    """Return {column: [1, R, ...]} of values found member by member at one record, NaN for members without."""
    columns: dict[str, np.ndarray] = {}
    for member, row in rows.items():
        for name, value in row.items():
            if name not in columns:
                columns[name] = np.full((1, members, *np.shape(value)), np.nan)
            columns[name][0, member] = value
    return columns


def solo_model(view: View, member: int) -> DeepLinearNetwork:
    """Return one member as a network of its own, gradients included."""
    weights = [w[member] for w in view.weights]
    biases = [b[member] for b in view.biases] or None
    model = DeepLinearNetwork.from_weights(weights, biases, dtype=view.dtype, check=False)
    for ours, theirs in zip((*model.weights, *model.biases), (*view.weights, *view.biases), strict=True):
        if theirs.grad is not None:
            ours.grad = theirs.grad[member].to(view.dtype)
    return model
