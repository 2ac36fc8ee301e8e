"""Batches of many members at once: the draws of `dln.data.OfflineBatches` and `OnlineBatches`, stream by stream."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from dln.base.streams import stream
from dln.base.values import check_batch_size
from dln.data import Dataset
from dln.kernels.batches import Data, Draw
from dln.kernels.permutations import Orders

if TYPE_CHECKING:
    from jaxtyping import Int


class MemberBatches(Protocol):
    """Batches without end for some members."""

    def draw(self, steps: int) -> Draw:
        """Return the batches of the next `steps` steps."""
        ...

    def select(self, members: Int[np.ndarray, " r"]) -> MemberBatches:
        """Return batches that go on for some of the members only."""
        ...

    def resized(self, batch_size: int | None) -> MemberBatches:
        """Return batches of another size: a new epoch from the same streams."""
        ...

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        ...


LARGE = 4_000_000
"""Numbers that one draw may hold."""


class FullBatches:
    """Every step sees the whole training set; streams wait untouched for a later change of batch size."""

    def __init__(
        self,
        data: Data,
        dataset: Int[np.ndarray, " R"],
        samples: int,
        stream_of: Int[np.ndarray, " R"],
        orders: Orders,
    ) -> None:
        """Take the data, each member's row of it, its number of samples, and the streams of a later order."""
        self.data, self.dataset, self.samples, self.stream_of, self.orders = data, dataset, samples, stream_of, orders

    def draw(self, steps: int) -> Draw:
        """Return the batches of the next `steps` steps."""
        return Draw.full(self.data, self.dataset, steps)

    def select(self, members: Int[np.ndarray, " r"]) -> FullBatches:
        """Return batches that go on for some of the members only."""
        streams, stream_of = np.unique(self.stream_of[members], return_inverse=True)
        orders = self.orders.select(streams)
        return FullBatches(self.data, self.dataset[members], self.samples, stream_of, orders)

    def resized(self, batch_size: int | None) -> FullBatches | MiniBatches:
        """Return batches of another size: a new epoch from the same streams."""
        if batch_size is None or batch_size == self.samples:
            return FullBatches(self.data, self.dataset, self.samples, self.stream_of, self.orders)
        check_batch_size(batch_size, self.samples)
        return MiniBatches(self, batch_size)

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        return LARGE


class MiniBatches:
    """Permutations of the training set cut into batches; the last of an epoch is short where need be.

    An epoch is drawn when its first batch is wanted, not before: a change of batch size finds the streams where
    `OfflineBatches` has them.
    """

    def __init__(self, full: FullBatches, batch_size: int) -> None:
        """Start an epoch of batches of `batch_size`."""
        self.full, self.batch_size = full, batch_size
        edges = range(0, full.samples, batch_size)
        self._sizes = np.array([min(batch_size, full.samples - i) for i in edges])
        self._ready = np.zeros((len(full.orders), 0, batch_size), np.int32)
        self._ready_size = np.zeros(0, np.int64)

    def draw(self, steps: int) -> Draw:
        """Return the batches of the next `steps` steps."""
        missing = steps - self._ready.shape[1]
        if missing > 0:
            epochs, n, batches = -(-missing // len(self._sizes)), self.full.samples, len(self._sizes)
            permutations = self.full.orders.permutations(n, epochs)  # [K, epochs, n]
            padded = np.zeros((len(permutations), epochs, batches * self.batch_size), np.int32)
            padded[:, :, :n] = permutations
            fresh = padded.reshape(len(permutations), epochs * batches, self.batch_size)
            self._ready = np.concatenate([self._ready, fresh], 1)
            self._ready_size = np.concatenate([self._ready_size, np.tile(self._sizes, epochs)])
        order, self._ready = self._ready[:, :steps], self._ready[:, steps:]
        size, self._ready_size = self._ready_size[:steps], self._ready_size[steps:]
        order = np.ascontiguousarray(order)
        return Draw(self.full.data, self.full.dataset, self.full.stream_of, order, size)

    def select(self, members: Int[np.ndarray, " r"]) -> MiniBatches:
        """Return batches that go on for some of the members only."""
        chosen = MiniBatches(self.full.select(members), self.batch_size)
        chosen._ready = self._ready[np.unique(self.full.stream_of[members])]
        chosen._ready_size = self._ready_size
        return chosen

    def resized(self, batch_size: int | None) -> FullBatches | MiniBatches:
        """Return batches of another size: a new epoch from the same streams."""
        return self.full.resized(batch_size)

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        return max(1, LARGE // (len(self.full.orders) * self.batch_size))


class FreshBatches:
    """Online data: every batch is drawn afresh from its member's dataset, inputs and noise from two streams."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        generators: Sequence[tuple[np.random.Generator, np.random.Generator]],
        source: Int[np.ndarray, " R"],
        batch_size: int | None,
        dtype: np.dtype,
        bias: bool,
    ) -> None:
        """Take, source by source, a dataset and the generators of inputs and noise; and each member's source."""
        check_batch_size(batch_size, None)
        self.datasets, self.generators, self.source = datasets, generators, source
        self.batch_size, self.dtype, self.bias = cast(int, batch_size), dtype, bias

    def draw(self, steps: int) -> Draw:
        """Return the batches of the next `steps` steps."""
        count = steps * self.batch_size
        inputs, targets = [], []
        for dataset, (of_inputs, of_noise) in zip(self.datasets, self.generators, strict=True):
            x, y = dataset.draw(count, of_inputs, of_noise)
            inputs.append(x.astype(self.dtype))
            targets.append(y.astype(self.dtype))
        data = Data(np.stack(inputs), np.stack(targets), self.dtype, self.bias)
        order = np.arange(count, dtype=np.int32).reshape(1, steps, self.batch_size)
        size = np.full(steps, self.batch_size, np.int64)
        return Draw(data, self.source, np.zeros(len(self.source), np.int64), order, size)

    def select(self, members: Int[np.ndarray, " r"]) -> FreshBatches:
        """Return batches that go on for some of the members only."""
        sources, source = np.unique(self.source[members], return_inverse=True)
        datasets, generators = [self.datasets[s] for s in sources], [copy.deepcopy(self.generators[s]) for s in sources]
        return FreshBatches(datasets, generators, source, self.batch_size, self.dtype, self.bias)

    def resized(self, batch_size: int | None) -> FreshBatches:
        """Return batches of another size, from the same streams."""
        return FreshBatches(self.datasets, self.generators, self.source, batch_size, self.dtype, self.bias)

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        return max(1, LARGE // (len(self.datasets) * self.batch_size * sum(self.datasets[0].dims)))


def make_batches(
    datasets: Sequence[Dataset],
    dataset: Int[np.ndarray, " R"],
    batch_seeds: Sequence[int],
    batch_size: int | None,
    dtype: np.dtype,
    bias: bool,
) -> tuple[MemberBatches, Data | None]:
    """Return the batches of an ensemble, and its training data if there are any.

    Args:
        datasets: The datasets that members train on, all of one shape.
        dataset: Each member's dataset.
        batch_seeds: Each member's batch seed; members of equal seed and data see the same batches.
        batch_size: Samples a step; None is the full batch.
        dtype: Precision of the samples.
        bias: Whether the networks have biases.
    """
    if datasets[0].online:
        pairs, source = np.unique(np.stack([dataset, np.asarray(batch_seeds)], 1), axis=0, return_inverse=True)
        generators = [(stream(int(s), "online inputs"), stream(int(s), "online noise")) for _, s in pairs]
        return FreshBatches([datasets[d] for d, _ in pairs], generators, source, batch_size, dtype, bias), None
    data = split_data(datasets, "train", dtype, bias)
    assert data is not None
    seeds, stream_of = np.unique(np.asarray(batch_seeds), return_inverse=True)
    orders = Orders([stream(int(seed), "batch order") for seed in seeds])
    return FullBatches(data, dataset, data.inputs.shape[1], stream_of, orders).resized(batch_size), data


def split_data(datasets: Sequence[Dataset], split: str, dtype: np.dtype, bias: bool) -> Data | None:
    """Return the training or test sets of several datasets of one shape, or None if they have none."""
    if getattr(datasets[0], f"{split}_inputs") is None:
        return None
    inputs, targets = (np.stack([getattr(d, f"{split}_{k}").numpy() for d in datasets]) for k in ("inputs", "targets"))
    return Data(inputs, targets, dtype, bias)
