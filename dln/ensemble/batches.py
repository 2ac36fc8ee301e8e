"""Batches of many members at once: the draws of `dln.batches`, stream by stream."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from dln.base.streams import go_on, position, stream
from dln.base.values import check_batch_size
from dln.batches import check_pending
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

    def learning_from(
        self, datasets: Sequence[Dataset], dataset: Int[np.ndarray, " r"], data: Data | None
    ) -> MemberBatches:
        """Return batches that go on with targets of other teachers.

        Args:
            datasets: With the same inputs as before.
            dataset: Which of them each member has now.
            data: Their training sets, if they have any.
        """
        ...

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        ...

    def state(self, place: int) -> dict[str, np.ndarray]:
        """Return where the batches of a member stand, as those of `dln.batches` do."""
        ...

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Let all members' batches go on from such a state; they have one seed."""
        ...


LARGE = 4_000_000
"""Numbers that one draw may hold."""


class EpochBatches:
    """Epochs of the training set: all of it at every step, or permutations cut into batches, the last short if need be.

    An epoch is drawn when its first batch is wanted, not before: a change of batch size finds the streams where
    `OfflineBatches` has them. Full batches draw nothing.
    """

    def __init__(
        self,
        data: Data,
        dataset: Int[np.ndarray, " R"],
        orders: Orders,
        stream_of: Int[np.ndarray, " R"],
        batch_size: int | None,
    ) -> None:
        """Start an epoch.

        Args:
            data: Training sets of equal shape.
            dataset: Each member's row of them.
            orders: Streams of permutations.
            stream_of: Each member's stream.
            batch_size: Samples a step; None is the full batch.
        """
        samples = data.inputs.shape[1]
        check_batch_size(batch_size, samples)
        self.data, self.dataset, self.orders, self.stream_of = data, dataset, orders, stream_of
        self.samples, self.batch_size = samples, None if batch_size == samples else batch_size
        self._ready = np.zeros((len(orders), 0, batch_size or 0), np.int32)
        """Batches [K, steps, B] that are drawn already."""
        self._ready_size = np.zeros(0, np.int64)

    def draw(self, steps: int) -> Draw:
        """Return the batches of the next `steps` steps."""
        if self.batch_size is None:
            return Draw.full(self.data, self.dataset, steps)
        if steps > len(self._ready_size):
            self._draw_epochs(self.batch_size, steps - len(self._ready_size))
        order, self._ready = self._ready[:, :steps], self._ready[:, steps:]
        size, self._ready_size = self._ready_size[:steps], self._ready_size[steps:]
        return Draw(self.data, self.dataset, self.stream_of, np.ascontiguousarray(order), size)

    def _draw_epochs(self, batch_size: int, missing: int) -> None:
        """Draw as many epochs as hold the batches of so many more steps."""
        epochs = -(-missing // -(-self.samples // batch_size))
        fresh, size = self._cut(self.orders.permutations(self.samples, epochs), batch_size)
        self._ready = np.concatenate([self._ready, fresh], 1)
        self._ready_size = np.concatenate([self._ready_size, size])

    @staticmethod
    def _cut(orders: Int[np.ndarray, "K E n"], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return epochs cut into batches [K, steps, B], and the sizes of these [steps]."""
        streams, epochs, samples = orders.shape
        sizes = [min(batch_size, samples - start) for start in range(0, samples, batch_size)]
        padded = np.zeros((streams, epochs, len(sizes) * batch_size), np.int32)
        padded[:, :, :samples] = orders
        return padded.reshape(streams, epochs * len(sizes), batch_size), np.tile(np.array(sizes, np.int64), epochs)

    def select(self, members: Int[np.ndarray, " r"]) -> EpochBatches:
        """Return batches that go on for some of the members only."""
        streams, stream_of = np.unique(self.stream_of[members], return_inverse=True)
        chosen = EpochBatches(self.data, self.dataset[members], self.orders.select(streams), stream_of, self.batch_size)
        chosen._ready, chosen._ready_size = self._ready[streams], self._ready_size
        return chosen

    def resized(self, batch_size: int | None) -> EpochBatches:
        """Return batches of another size: a new epoch from the same streams."""
        return EpochBatches(self.data, self.dataset, self.orders, self.stream_of, batch_size)

    def learning_from(
        self, datasets: Sequence[Dataset], dataset: Int[np.ndarray, " r"], data: Data | None
    ) -> EpochBatches:
        """Return batches that go on with targets of other teachers."""
        assert data is not None
        changed = EpochBatches(data, dataset, self.orders, self.stream_of, self.batch_size)
        changed._ready, changed._ready_size = self._ready, self._ready_size
        return changed

    def state(self, place: int) -> dict[str, np.ndarray]:
        """Return where a member's stream stands, and what is left of its epoch."""
        own = int(self.stream_of[place])
        used = np.arange(self._ready.shape[2]) < self._ready_size[:, None]
        return {"stream.batch order": self.orders.position(own), "pending": self._ready[own][used].astype(np.int64)}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with the epoch and the stream of a state, if they are of the same kind."""
        if "stream.batch order" not in state:
            return
        for own in range(len(self.orders)):
            self.orders.go_on(own, state["stream.batch order"])
        check_pending(state["pending"], self.samples)
        if self.batch_size is not None:
            self._ready, self._ready_size = self._cut(state["pending"][None, None], self.batch_size)
            self._ready = np.repeat(self._ready, len(self.orders), 0)

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        return LARGE if self.batch_size is None else max(1, LARGE // (len(self.orders) * self.batch_size))


class IndependentBatches:
    """Batches of the training set drawn with replacement, without epochs; full batches draw nothing."""

    def __init__(
        self,
        data: Data,
        dataset: Int[np.ndarray, " R"],
        generators: Sequence[np.random.Generator],
        stream_of: Int[np.ndarray, " R"],
        batch_size: int | None,
    ) -> None:
        """Take training sets, each member's row of them, generators, each member's generator, and a batch's size."""
        self.batch_size = check_batch_size(batch_size, data.inputs.shape[1])
        self.data, self.dataset, self.generators, self.stream_of = data, dataset, generators, stream_of

    def draw(self, steps: int) -> Draw:
        """Return the batches of the next `steps` steps."""
        if self.batch_size is None:
            return Draw.full(self.data, self.dataset, steps)
        samples, shape = self.data.inputs.shape[1], (steps, self.batch_size)
        order = np.stack([rng.integers(samples, size=shape).astype(np.int32) for rng in self.generators])
        return Draw(self.data, self.dataset, self.stream_of, order, np.full(steps, self.batch_size, np.int64))

    def select(self, members: Int[np.ndarray, " r"]) -> IndependentBatches:
        """Return batches that go on for some of the members only."""
        streams, stream_of = np.unique(self.stream_of[members], return_inverse=True)
        generators = [copy.deepcopy(self.generators[k]) for k in streams]
        return IndependentBatches(self.data, self.dataset[members], generators, stream_of, self.batch_size)

    def resized(self, batch_size: int | None) -> IndependentBatches:
        """Return batches of another size, from the same streams."""
        return IndependentBatches(self.data, self.dataset, self.generators, self.stream_of, batch_size)

    def learning_from(
        self, datasets: Sequence[Dataset], dataset: Int[np.ndarray, " r"], data: Data | None
    ) -> IndependentBatches:
        """Return batches that go on with targets of other teachers."""
        assert data is not None
        return IndependentBatches(data, dataset, self.generators, self.stream_of, self.batch_size)

    def state(self, place: int) -> dict[str, np.ndarray]:
        """Return where a member's stream stands."""
        nothing = np.zeros(0, np.int64)
        return {"stream.batch draws": position(self.generators[self.stream_of[place]]), "pending": nothing}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with the stream of a state, if it is of the same kind."""
        if "stream.batch draws" in state:
            for rng in self.generators:
                go_on(rng, state["stream.batch draws"])

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        return LARGE if self.batch_size is None else max(1, LARGE // (len(self.generators) * self.batch_size))


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

    def learning_from(
        self, datasets: Sequence[Dataset], dataset: Int[np.ndarray, " r"], data: Data | None
    ) -> FreshBatches:
        """Return batches that go on with targets of other teachers."""
        pairs, source = distinct_pairs(self.source, dataset)
        generators = [copy.deepcopy(self.generators[s]) for s, _ in pairs]
        taught = [datasets[d] for _, d in pairs]
        return FreshBatches(taught, generators, source, self.batch_size, self.dtype, self.bias)

    def state(self, place: int) -> dict[str, np.ndarray]:
        """Return where a member's two streams stand."""
        of_inputs, of_noise = map(position, self.generators[self.source[place]])
        return {"stream.online inputs": of_inputs, "stream.online noise": of_noise}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with the streams of a state."""
        for of_inputs, of_noise in self.generators if "stream.online inputs" in state else ():
            go_on(of_inputs, state["stream.online inputs"])
            go_on(of_noise, state["stream.online noise"])

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        return max(1, LARGE // (len(self.datasets) * self.batch_size * sum(self.datasets[0].dims)))


def distinct_pairs(a: Int[np.ndarray, " r"], b: Int[np.ndarray, " r"]) -> tuple[list[list[int]], Int[np.ndarray, " r"]]:
    """Return the distinct pairs of two numbers a member, and which of them each member has."""
    pairs, which = np.unique(np.stack([a, b], 1), axis=0, return_inverse=True)
    return pairs.tolist(), which


def make_batches(
    datasets: Sequence[Dataset],
    dataset: Int[np.ndarray, " R"],
    batch_seeds: Sequence[int],
    batch_size: int | None,
    dtype: np.dtype,
    bias: bool,
    replacement: bool = False,
    data: Data | None = None,
) -> MemberBatches:
    """Return the batches of an ensemble.

    Args:
        datasets: The datasets that members train on, all of one shape.
        dataset: Each member's dataset.
        batch_seeds: Each member's batch seed; members of equal seed and data see the same batches.
        batch_size: Samples a step; None is the full batch.
        dtype: Precision of the samples.
        bias: Whether the networks have biases.
        replacement: Whether samples of a training set are drawn with replacement.
        data: The training sets, if there are any.
    """
    if datasets[0].online:
        pairs, source = np.unique(np.stack([dataset, np.asarray(batch_seeds)], 1), axis=0, return_inverse=True)
        generators = [(stream(int(s), "online inputs"), stream(int(s), "online noise")) for _, s in pairs]
        return FreshBatches([datasets[d] for d, _ in pairs], generators, source, batch_size, dtype, bias)
    assert data is not None
    seeds, stream_of = np.unique(np.asarray(batch_seeds), return_inverse=True)
    if replacement:
        draws = [stream(int(seed), "batch draws") for seed in seeds]
        return IndependentBatches(data, dataset, draws, stream_of, batch_size)
    orders = Orders([stream(int(seed), "batch order") for seed in seeds])
    return EpochBatches(data, dataset, orders, stream_of, batch_size)


def split_data(datasets: Sequence[Dataset], split: str, dtype: np.dtype, bias: bool) -> Data | None:
    """Return the training or test sets of several datasets of one shape, or None if they have none."""
    if getattr(datasets[0], f"{split}_inputs") is None:
        return None
    inputs, targets = (np.stack([getattr(d, f"{split}_{k}").numpy() for d in datasets]) for k in ("inputs", "targets"))
    return Data(inputs, targets, dtype, bias)
