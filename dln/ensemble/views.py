"""What metrics see of a lane at several records: the whole of it, blocks of members, or members one by one.

    view     of                                    has                                      is for metrics that
    whole    all members at all records            what kernels have found, no weights      name quantities alone
    block    as many as fit the cache              weights [K, out, in], gradients          are batched and need weights
    solo     one member at one record              a `DeepLinearNetwork`, its data          are a user's, not batched

Kernels and numpy find the first two for many members at a time; the last is a call of Python for each.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dln.data import Dataset
from dln.ensemble.groups import Kept
from dln.ensemble.lane import Lane
from dln.kernels.batches import Draw
from dln.kernels.summary import quantities
from dln.measure.data_quantities import Later
from dln.measure.quantities import PAST, scaled
from dln.measure.supply import Supply
from dln.metrics import MetricData
from dln.model import DeepLinearNetwork

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

    def __init__(
        self, lane: Lane, kept: Sequence[Kept], steps: Sequence[int], names: Collection[str], given: Mapping[str, Later]
    ) -> None:
        """Look at what a lane has kept, group by group.

        Args:
            lane: The lane.
            kept: Weights of all its members at the records.
            steps: The records' steps.
            names: Quantities that kernels find.
            given: What is the same at all records [R, ...].
        """
        self.lane, self.kept, self.given, self.depth = lane, kept, given, kept[0].layout.depth
        self.alive = lane.diverged_at > np.array(steps)[:, None]
        """Which members have not diverged by which records [T, R]: only those are looked at, as `dln.train` does."""
        found = [quantities(names, k.layout, k.weights, k.draw, k.offsets) for k in kept]
        merged = {name: self._merged([f[name] for f in found]) for name in names}
        # Contiguous whatever the other members: the order of sums may depend on how a tensor lies.
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
    def batch_size(self) -> Float64[Tensor, "T R"]:
        """Samples in every member's batch at every record."""
        everyone = self.lane.sets.train
        full = 0 if everyone is None else everyone.inputs.shape[1]
        sizes = [np.repeat(k.draw.size[list(k.offsets)][:, None], len(k.members), 1) for k in self.kept]
        merged = self._merged(sizes)
        return torch.from_numpy(np.where(merged == 0, full, merged).astype(np.float64))

    @cached_property
    def lr(self) -> Float64[Tensor, "T R"]:
        """Every member's learning rate at every record."""
        return torch.from_numpy(np.ascontiguousarray(self._merged([k.lr for k in self.kept])))

    @cached_property
    def time(self) -> Float64[Tensor, "T R"]:
        """The time that every member's training has taken at every record."""
        return torch.from_numpy(np.ascontiguousarray(self._merged([k.time for k in self.kept])))

    @cached_property
    def batches(self) -> tuple[Float64[np.ndarray, "T R B n"], Float64[np.ndarray, "T R B out"]]:
        """Every member's batch at every record as `batch_samples` gives it, shorter ones filled up with zeros."""
        samples = [[batch_samples(k.draw.at(offset)) for offset in k.offsets] for k in self.kept]
        longest = max(inputs.shape[1] for group in samples for inputs, _ in group)

        def joined(which: int) -> np.ndarray:
            filled = [[_filled(pair[which], longest) for pair in group] for group in samples]
            return self._merged([np.stack(group) for group in filled])

        return joined(0), joined(1)

    def at_once(self, samples: Collection[str]) -> int:
        """Return how many members are looked at in one block by metrics that need such samples."""
        weights = sum(a[0, 0].size for a in self.arrays)
        numbers = sum(self.given[name].find()[0].numel() for name in samples)
        return max(1, min(CACHED // (8 * weights), SAMPLED // (8 * max(1, numbers))))

    def whole(self, record: Any, member: Any) -> Supply:
        """Return what there is without weights of members at records, [T, R, ...] or pair by pair."""
        return Supply(self._found(record, member) | self._given(record, member))

    def block(self, record: Int[np.ndarray, " K"], member: Int[np.ndarray, " K"], gradients: bool) -> Supply:
        """Return what there is of members at records, pair by pair, with their weights and, if wanted, gradients."""
        model = self._view(self.arrays, record, member)
        if gradients:
            add_gradients(model, *(samples[record, member] for samples in self.batches))
        models = {"model": model, "start": Later(lambda: View.of([a[member] for a in self.lane.start], self.depth))}
        models["batch"] = Later(lambda: tuple(torch.from_numpy(a[record, member]) for a in self.batches))
        for name, arrays in zip(PAST, self.past, strict=False):
            models[name] = Later(partial(self._view, arrays, record, member))
        return Supply(self._found(record, member) | self._given(record, member) | models)

    def _found(self, t: Any, m: Any) -> dict[str, Later]:
        """Return what kernels have found, for records t and members m."""
        return {name: Later(lambda v=values: v[t, m]) for name, values in self.quantities.items()}

    def _given(self, t: Any, m: Any) -> dict[str, Later]:
        """Return what is given with the runs, for records t and members m."""
        constant = {name: Later(lambda c=c: c.find()[m]) for name, c in self.given.items()}
        names = ("batch_size", "lr", "time")
        steps = {name: Later(lambda name=name: getattr(self, name)[t, m]) for name in names}
        noise = Later(lambda: torch.from_numpy(np.ascontiguousarray(self.lane.label_noise[m])))
        sampling = {"replacement": self.lane.replacement, "fresh_noise": noise}
        return constant | steps | sampling | {"optimizer": Later(lambda: self.lane.optimizer)}

    def _view(self, arrays: Sequence[np.ndarray], t: np.ndarray, m: np.ndarray) -> View:
        """View the weights [T, R, ...] of some members at some records."""
        return View.of([a[t, m] for a in arrays], self.depth)

    @cached_property
    def solos(self) -> dict[int, Supply]:
        """What there is of every member alive at the first record: its own network, gradients included, its data."""
        supplies = {}
        for k in self.kept:
            view, draw = View.of([a[0] for a in k.unpacked()], self.depth), k.draw.at(k.offsets[0])
            add_gradients(view, *batch_samples(draw))
            for place in np.flatnonzero(self.alive[0, k.members]).tolist():
                m = int(k.members[place])
                sets = self.lane.sets.datasets[int(self.lane.sets.dataset[m])]
                models = {"model": solo_model(view, place), "start": self._solo(self.lane.start, m)}
                models |= {n: self._solo([a[0] for a in past], m) for n, past in zip(PAST, self.past, strict=False)}
                data = member_data(sets, draw, place)
                batch = Later(lambda d=data, b=bool(view.biases): scaled(d.inputs, d.targets, b))
                supplies[m] = Supply(self._given(0, m) | models | {"data": data, "batch": batch})
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

SAMPLES = ("train_inputs", "train_targets", "test_inputs", "test_targets")
"""What is given of the data that is large."""

SAMPLED = 2**24
"""Bytes of members' samples likewise, so that what is made of them stays small."""


def _filled(samples: np.ndarray, length: int) -> np.ndarray:
    """Return samples [R, B, n] as [R, length, n], zeros behind."""
    return np.pad(samples, ((0, 0), (0, length - samples.shape[1]), (0, 0)))


def member_data(sets: Dataset, draw: Draw, place: int) -> MetricData:
    """Return what a metric may want to know of the data of a member: the first batch of `draw`, the whole sets."""
    if draw.size[0] == 0:
        inputs, targets = sets.train_inputs, sets.train_targets
    else:
        inputs, targets = map(torch.from_numpy, draw.samples(place, 0))
    assert inputs is not None
    assert targets is not None
    return MetricData.of(inputs, targets, nn.MSELoss(), sets)  # the only loss that is compiled


def solo_model(view: View, member: int) -> DeepLinearNetwork:
    """Return one member as a network of its own, gradients included."""
    weights = [w[member] for w in view.weights]
    biases = [b[member] for b in view.biases] or None
    model = DeepLinearNetwork.from_weights(weights, biases, dtype=view.dtype, check=False)
    for ours, theirs in zip((*model.weights, *model.biases), (*view.weights, *view.biases), strict=True):
        if theirs.grad is not None:
            ours.grad = theirs.grad[member].to(view.dtype)
    return model
