"""Batches of many members whose targets get fresh noise at every step, from streams of their own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from dln.base.streams import go_on, position, stream
from dln.data import Dataset
from dln.ensemble.batches import LARGE, EpochBatches, IndependentBatches, MemberBatches, distinct_pairs
from dln.kernels.batches import Data, Draw

if TYPE_CHECKING:
    from jaxtyping import Float64, Int


class NoisyBatches:
    """Batches of a training set whose targets get fresh noise at every step, from streams of their own."""

    def __init__(
        self,
        batches: EpochBatches | IndependentBatches,
        noise: Sequence[tuple[float, np.random.Generator]],
        source: Int[np.ndarray, " R"],
    ) -> None:
        """Take batches; standard deviations and generators of noise; and which of these is each member's.

        Members of one source have one dataset and one stream of batches: they see the same samples.
        """
        self.batches, self.noise, self.source = batches, noise, source

    def draw(self, steps: int) -> Draw:
        """Return the batches of the next `steps` steps."""
        drawn = self.batches.draw(steps)
        data, first = drawn.data, np.unique(self.source, return_index=True)[1]
        if self.batches.batch_size is None:  # every step has all samples, with noise of its own
            samples = data.inputs.shape[1]
            order = np.broadcast_to(np.arange(samples), (len(first), steps, samples))
            size = np.full(steps, samples, np.int64)
        else:
            order, size = drawn.order[drawn.stream[first]], drawn.size
        of = drawn.dataset[first, None, None]
        inputs, targets = data.inputs[of, order, : data.dim], data.targets[of, order]  # [S, steps, B, ...]
        used = np.arange(order.shape[2]) < size[:, None]
        for (std, rng), own in zip(self.noise, targets, strict=True):
            own[used] += (std * rng.standard_normal((int(size.sum()), targets.shape[-1]))).astype(targets.dtype)
        x, y = (a.reshape(len(first), -1, a.shape[-1]) for a in (inputs, targets))
        noisy = Data(x, y, data.inputs.dtype, data.inputs.shape[2] > data.dim)
        rows = np.arange(used.size, dtype=np.int32).reshape(1, *used.shape)
        return Draw(noisy, self.source, np.zeros(len(self.source), np.int64), rows, size)

    def select(self, members: Int[np.ndarray, " r"]) -> NoisyBatches:
        """Return batches that go on for some of the members only."""
        sources, source = np.unique(self.source[members], return_inverse=True)
        noise = [copy.deepcopy(self.noise[s]) for s in sources]
        return NoisyBatches(self.batches.select(members), noise, source)

    def resized(self, batch_size: int | None) -> NoisyBatches:
        """Return batches of another size, from the same streams."""
        return NoisyBatches(self.batches.resized(batch_size), self.noise, self.source)

    def learning_from(
        self, datasets: Sequence[Dataset], dataset: Int[np.ndarray, " r"], data: Data | None
    ) -> NoisyBatches:
        """Return batches that go on with targets of other teachers."""
        pairs, source = distinct_pairs(self.source, dataset)
        noise = [copy.deepcopy(self.noise[s]) for s, _ in pairs]
        return NoisyBatches(self.batches.learning_from(datasets, dataset, data), noise, source)

    def state(self, place: int) -> dict[str, np.ndarray]:
        """Return where a member's batches and noise stand."""
        return self.batches.state(place) | {"stream.label noise": position(self.noise[self.source[place]][1])}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with the batches and the noise of a state."""
        self.batches.go_on(state)
        for _, rng in self.noise if "stream.label noise" in state else ():
            go_on(rng, state["stream.label noise"])

    def longest_draw(self) -> int:
        """Steps whose batches fit comfortably in memory."""
        data = self.batches.data
        each = (self.batches.batch_size or data.inputs.shape[1]) * (data.dim + data.targets.shape[2])
        return min(self.batches.longest_draw(), max(1, LARGE // (len(self.noise) * each)))


def with_noise(batches: MemberBatches, batch_seeds: Sequence[int], std: Float64[np.ndarray, " R"]) -> NoisyBatches:
    """Return batches of a training set with fresh noise on the targets.

    Args:
        batches: The batches as they are without.
        batch_seeds: Each member's batch seed.
        std: Each member's standard deviation of the noise.
    """
    of_set = cast(EpochBatches | IndependentBatches, batches)
    keys = [*zip(of_set.dataset.tolist(), batch_seeds, std.tolist(), strict=True)]
    distinct = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    noise = [(sigma, stream(seed, "label noise")) for _, seed, sigma in distinct]
    return NoisyBatches(of_set, noise, np.array([distinct[key] for key in keys]))
