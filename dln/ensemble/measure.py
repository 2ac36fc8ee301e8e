"""Metrics of all members at many records: the built-in ones in one call, a user's one member at a time."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dln.constants import Later, constants
from dln.data import Dataset
from dln.ensemble.lane import Kept, Lane
from dln.ensemble.summary import pair_quantities, quantities
from dln.ensemble.supply import Draw
from dln.metrics import Metric, MetricData, looks_back
from dln.model import DeepLinearNetwork
from dln.quantities import IN_KERNELS, PAIR_QUANTITIES, PAST, PairSupply, Supply, needs
from dln.threads import one_thread_each, run_blocks, thread_count
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


def add_gradients(view: View, inputs: Float64[np.ndarray, "R B n"], targets: Float64[np.ndarray, "R B out"]) -> None:
    """Give the tensors of `view` the gradients of the sum of squared residuals on some samples.

    With E the end-to-end map of the inputs and a constant one, r = E x - y and G = 2 sum r x', layer l has gradient
    A_l' G H_{l-1}', where H_{l-1} maps the inputs to the layer's inputs and A_l its outputs to the net's.
    """
    weights, biases = ([t.numpy() for t in tensors] for tensors in (view.weights, view.biases))
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

    def __init__(self, lane: Lane, kept: Sequence[Kept], names: Collection[str], given: Mapping[str, Later]) -> None:
        """Look at what a lane has kept, group by group.

        Args:
            lane: The lane.
            kept: Weights of all its members at the records.
            names: Quantities that kernels find.
            given: What is the same at all records [R, ...].
        """
        self.lane, self.kept, self.given, self.depth = lane, kept, given, kept[0].layout.depth
        self.records = len(kept[0].weights)
        found = [quantities(names, k.layout, k.weights, len(k.members), k.draw, k.offsets) for k in kept]
        merged = {name: self._merged([f[name] for f in found]) for name in names}
        if "end_to_end" in names:  # a map that is not finite is zero: nothing of it is recorded, and it has no SVD
            maps = merged["end_to_end"]
            maps[~np.isfinite(maps).all((2, 3))] = 0
        # Contiguous, whatever the company: the order of sums may depend on how a tensor lies.
        self.quantities = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in merged.items()}
        """By name [T, R, ...]."""

    @cached_property
    def arrays(self) -> list[np.ndarray]:
        """Weights of all layers, and then biases, each [T, R, ...]."""
        return [self._merged(parts) for parts in zip(*(k.unpacked() for k in self.kept), strict=True)]

    @cached_property
    def past(self) -> list[list[np.ndarray]]:
        """The same one step before each record, and two, if that was kept."""
        steps = zip(*(k.past for k in self.kept), strict=True)
        return [[self._merged(parts) for parts in zip(*groups, strict=True)] for groups in steps]

    @cached_property
    def finite(self) -> np.ndarray:
        """Which members have finite weights only at which records [T, R]."""
        finite = [np.isfinite(a).all(axis=tuple(range(2, a.ndim))) for a in self.arrays]
        return np.logical_and.reduce(finite)

    @cached_property
    def batch_size(self) -> Float64[Tensor, "T R"]:
        """Samples in every member's batch at every record."""
        everyone = self.lane.train_data
        full = 0 if everyone is None else everyone.inputs.shape[1]
        sizes = [np.repeat(k.draw.size[list(k.offsets)][:, None], len(k.members), 1) for k in self.kept]
        merged = self._merged(sizes)
        return torch.from_numpy(np.where(merged == 0, full, merged).astype(np.float64))

    @cached_property
    def lr(self) -> Float64[Tensor, "T R"]:
        """Every member's learning rate at every record."""
        return torch.from_numpy(np.ascontiguousarray(self._merged([k.lr for k in self.kept])))

    @cached_property
    def batches(self) -> tuple[Float64[np.ndarray, "T R B n"], Float64[np.ndarray, "T R B out"]]:
        """Every member's batch at every record as `batch_samples` gives it, shorter ones filled up with zeros."""
        samples = [[batch_samples(k.draw.at(offset)) for offset in k.offsets] for k in self.kept]
        longest = max(inputs.shape[1] for group in samples for inputs, _ in group)

        def joined(which: int) -> np.ndarray:
            filled = [[_filled(pair[which], longest) for pair in group] for group in samples]
            return self._merged([np.stack(group) for group in filled])

        return joined(0), joined(1)

    @property
    def at_once(self) -> int:
        """How many members' weights fit the cache."""
        return max(1, CACHED // (8 * sum(a[0, 0].size for a in self.arrays)))

    def whole(self, members: np.ndarray) -> Supply:
        """Return what there is of some members at all records, [T, R, ...], for metrics that need no weights."""
        return Supply(self._found(slice(None), members) | self._given(slice(None), members))

    def block(self, members: np.ndarray, first: int, last: int, gradients: bool) -> Supply:
        """Return what there is of some members, record by record, from the first-th on; what is not finite is zero."""
        record, place = np.divmod(np.arange(first, last), len(members))
        member = members[place]
        model = self._view(self.arrays, record, member)
        if gradients:
            add_gradients(model, *(samples[record, member] for samples in self.batches))
        models = {"model": model, "start": Later(lambda: View.of([a[member] for a in self.lane.start], self.depth))}
        for name, arrays in zip(PAST, self.past, strict=False):
            models[name] = Later(partial(self._view, arrays, record, member))
        return Supply(self._found(record, member) | self._given(record, member) | models)

    def _found(self, t: Any, m: Any) -> dict[str, Later]:
        """Return what kernels have found, for records t and members m."""
        return {name: Later(lambda v=values: v[t, m]) for name, values in self.quantities.items()}

    def _given(self, t: Any, m: Any) -> dict[str, Later]:
        """Return what is given with the runs, for records t and members m."""
        constant = {name: Later(lambda c=c: c.find()[m]) for name, c in self.given.items()}
        return constant | {"batch_size": Later(lambda: self.batch_size[t, m]), "lr": Later(lambda: self.lr[t, m])}

    def _view(self, arrays: Sequence[np.ndarray], t: np.ndarray, m: np.ndarray) -> View:
        """View some members' weights [T, R, ...] at some records; zero where what is recorded is not finite."""
        lost = np.logical_not(self.finite[t, m])
        block = [a[t, m] for a in arrays]
        if lost.any():
            block = [np.where(lost.reshape(-1, *[1] * (a.ndim - 1)), 0, a) for a in block]
        return View.of(block, self.depth)

    @cached_property
    def solos(self) -> dict[int, Supply]:
        """What there is of every finite member at the first record: its own network, gradients included, its data."""
        supplies = {}
        for k in self.kept:
            view, draw = View.of([a[0] for a in k.unpacked()], self.depth), k.draw.at(k.offsets[0])
            add_gradients(view, *batch_samples(draw))
            for place in np.flatnonzero(self.finite[0, k.members]).tolist():
                m = int(k.members[place])
                sets = self.lane.datasets[int(self.lane.dataset[m])]
                models = {"model": solo_model(view, place), "start": self._solo(self.lane.start, m)}
                models |= {n: self._solo([a[0] for a in past], m) for n, past in zip(PAST, self.past, strict=False)}
                supplies[m] = Supply(self._given(0, m) | models | {"data": member_data(sets, draw, place)})
        return supplies

    def _solo(self, arrays: Sequence[np.ndarray], member: int) -> Later:
        """Return one of the members with weights [R, ...] as a network of its own."""
        return Later(lambda: solo_model(View.of([a[member : member + 1] for a in arrays], self.depth), 0))

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
        batched = [metric for metric in everyone if metric.batched]
        self.wanted = {name for metric in batched for name in needs(metric.wants, (*IN_KERNELS, *PAIR_QUANTITIES))}
        """What batched metrics need, as far as kernels do not find it from something else."""
        self.looks_back = looks_back(everyone)
        """Whether any needs weights of steps before the record's."""
        self.given = {key: _of_members(lane) for key, lane in lanes.items()}

    def measure(
        self, kept: Mapping[str, Sequence[Kept]], members: Mapping[str, Int[np.ndarray, " R"]], step: int
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return the columns of all runs [T, R, ...], lane by lane, and last those of "pairs".

        Args:
            kept: Every lane's weights at the records, group by group; at a single record if `one_by_one`.
            members: Every run's member of each lane.
            step: The first record's step, for messages.
        """
        with one_thread_each():
            return self._measure(kept, members, step)

    def _measure(
        self, kept: Mapping[str, Sequence[Kept]], members: Mapping[str, Int[np.ndarray, " R"]], step: int
    ) -> dict[str, dict[str, np.ndarray]]:
        names = [name for name in IN_KERNELS if name in self.wanted]
        sights = {key: Sight(self.lanes[key], parts, names, self.given[key]) for key, parts in kept.items()}
        columns: dict[str, dict[str, np.ndarray]] = {}
        for key, sight in sights.items():
            everyone = np.arange(len(sight.lane))
            rows = {m: (supply,) for m, supply in sight.solos.items()} if self._looped(self.metrics) else {}
            found = self._evaluate(self.metrics, [sight], [everyone], rows, step, key)
            columns[key] = {name: values[:, members[key]] for name, values in found.items()}
        return columns | {"pairs": self._compare(sights, members, step) if self.pair_metrics else {}}

    def _compare(
        self, sights: Mapping[str, Sight], members: Mapping[str, Int[np.ndarray, " R"]], step: int
    ) -> dict[str, np.ndarray]:
        of, rows = [members[key] for key in sights], {}
        if self._looped(self.pair_metrics):
            ours, theirs = (sight.solos for sight in sights.values())
            pairs = enumerate(zip(*(m.tolist() for m in of), strict=True))
            rows = {r: (ours[i], theirs[j]) for r, (i, j) in pairs if i in ours and j in theirs}
        return self._evaluate(self.pair_metrics, [*sights.values()], of, rows, step)

    @staticmethod
    def _looped(metrics: Sequence[Metric]) -> bool:
        return not all(metric.batched for metric in metrics)

    def _evaluate(
        self,
        metrics: Sequence[Metric],
        sights: Sequence[Sight],
        members: Sequence[np.ndarray],
        rows: Mapping[int, tuple[Supply, ...]],
        step: int,
        suffix: str = "",
    ) -> dict[str, np.ndarray]:
        """Return the columns [T, R, ...] of metrics of one lane, or of pairs of two lanes' members.

        Args:
            metrics: The metrics.
            sights: Of the one lane, or of both.
            members: The R members of each lane.
            rows: What there is of each run alone, for metrics that are evaluated one by one.
            step: The first record's step, for messages.
            suffix: Of the columns' names.
        """
        count = len(members[0])
        columns: dict[Metric, dict[str, np.ndarray]] = {}
        known = self._pair_quantities(sights, members) if len(sights) == 2 else {}
        whole = _joint([sight.whole(of) for sight, of in zip(sights, members, strict=True)], known)
        for metric in metrics:
            with naming(_called(metric), step):
                if metric.of_quantities:
                    columns[metric] = metric.batched_columns(metric(whole), suffix)
                elif not metric.batched:
                    columns[metric] = stacked(
                        {r: metric.columns(metric(_joint(row)), suffix) for r, row in rows.items()}, count
                    )
        columns |= self._in_blocks(metrics, sights, members, known, step, suffix)
        return {name: values for metric in metrics for name, values in columns[metric].items()}

    @staticmethod
    def _in_blocks(
        metrics: Sequence[Metric],
        sights: Sequence[Sight],
        members: Sequence[np.ndarray],
        known: Mapping[str, Tensor],
        step: int,
        suffix: str,
    ) -> dict[Metric, dict[str, np.ndarray]]:
        """Return the columns [T, R, ...] of batched metrics that need weights, found in blocks that fit the cache."""
        rest = [metric for metric in metrics if metric.batched and not metric.of_quantities]
        if not rest:
            return {}
        size, cut = sights[0].records * len(members[0]), min(sight.at_once for sight in sights)

        def block(some: Sequence[Metric], first: int, last: int) -> list[dict[str, np.ndarray]]:
            gradients = any("gradients" in needs(metric.wants, IN_KERNELS) for metric in some)
            sides = [sight.block(of, first, last, gradients) for sight, of in zip(sights, members, strict=True)]
            supply = _joint(sides, {name: values.flatten(0, 1)[first:last] for name, values in known.items()})
            found = []
            for metric in some:
                with naming(_called(metric), step):
                    found.append(metric.batched_columns(metric(supply), suffix))
            return found

        columns: dict[Metric, dict[str, np.ndarray]] = {}
        for heavy in (False, True):
            some = [metric for metric in rest if metric.heavy == heavy]
            if not some:
                continue
            if heavy:  # numpy's work more than Python's, so that threads pay
                blocks = run_blocks(partial(block, some), size, min(cut, -(-size // thread_count())))
            else:
                blocks = [block(some, first, min(first + cut, size)) for first in range(0, size, cut)]
            for metric, found in zip(some, zip(*blocks, strict=True), strict=True):
                joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
                columns[metric] = {n: v.reshape(-1, len(members[0]), *v.shape[1:]) for n, v in joined.items()}
        return columns

    def _pair_quantities(self, sights: Sequence[Sight], members: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Return the quantities of pairs [T, R, ...] that are wanted, group of a by group of b."""
        columns: dict[str, np.ndarray] = {}
        (a, b), (member_a, member_b) = sights, members
        for k, j in itertools.product(a.kept, b.kept) if self.wanted & PAIR_QUANTITIES.keys() else ():
            runs = np.flatnonzero(np.isin(member_a, k.members) & np.isin(member_b, j.members))
            if len(runs):
                places = (_places(of[runs], part.members) for of, part in ((member_a, k), (member_b, j)))
                for name, values in pair_quantities(k.layout, k.weights, j.weights, *places).items():
                    columns.setdefault(name, np.empty((len(values), len(member_a), *values.shape[2:])))[:, runs] = (
                        values
                    )
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns.items()}


def _of_members(lane: Lane) -> dict[str, Later]:
    """Return what is the same at all records, for all members of a lane [R, ...]."""

    def later(constant: Later) -> Later:
        return Later(functools.cache(lambda: constant.find()[lane.dataset]))

    return {name: later(constant) for name, constant in constants(lane.datasets).items()}


def _joint(sides: Sequence[Supply], known: Mapping[str, Any] | None = None) -> Supply | PairSupply:
    return sides[0] if len(sides) == 1 else PairSupply(sides[0], sides[1], known)


def _called(metric: Metric) -> str:
    return f"{metric.kind} {metric.label!r}"


def _filled(samples: np.ndarray, length: int) -> np.ndarray:
    """Return samples [R, B, n] as [R, length, n], zeros behind."""
    return np.pad(samples, ((0, 0), (0, length - samples.shape[1]), (0, 0)))


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
