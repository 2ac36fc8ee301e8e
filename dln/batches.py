"""Batches of a training set, in epochs or drawn with replacement, and of fresh samples; noise on their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from dln.base.streams import go_on, position, stream
from dln.base.values import check_batch_size, check_sampling
from dln.data import Dataset
from dln.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float


class Batches(Protocol):
    """Batches without end; setting `batch_size` starts a new epoch from the same stream."""

    @property
    def batch_size(self) -> int | None:
        """Samples a batch; None is the full batch."""
        ...

    @batch_size.setter
    def batch_size(self, size: int | None) -> None: ...

    def draw(self) -> tuple[Float[Tensor, "B in"], Float[Tensor, "B out"]]:
        """Return the next batch: inputs and targets."""
        ...

    def learn_from(self, dataset: Dataset) -> None:
        """Take targets from now on from a dataset with another teacher."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return where the batches stand, as a checkpoint keeps it."""
        ...

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from such a state; streams that it does not have begin at their beginning."""
        ...


class _Sized:
    """A batch size that is checked whenever it is set, which begins an epoch."""

    def __init__(self, size: int | None, samples: int | None) -> None:
        """Take the size, and how many samples there are; None where they have no end."""
        self._samples = samples
        self.batch_size = size

    @property
    def batch_size(self) -> int | None:
        """Samples a batch; None is the full batch."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        self._batch_size = check_batch_size(size, self._samples)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """Forget what is left of the present epoch, if there are epochs."""


class OfflineBatches(_Sized):
    """Batches of a training set: every epoch a new permutation, its last batch short where the size does not divide N.

    With replacement every sample of a batch is drawn from the whole set, independently of all others: there are no
    epochs. With the full batch (size None, or N without replacement) there is nothing to draw: no stream is touched.

    >>> batches = OfflineBatches(torch.arange(5.0)[:, None], torch.zeros(5, 1), batch_size=2, batch_seed=0)
    >>> epoch = [batches.draw()[0].flatten().tolist() for _ in range(3)]
    >>> [len(batch) for batch in epoch], sorted(sum(epoch, []))
    ([2, 2, 1], [0.0, 1.0, 2.0, 3.0, 4.0])
    """

    def __init__(
        self,
        inputs: Float[Tensor, "N in"],
        targets: Float[Tensor, "N out"],
        batch_size: int | None,
        batch_seed: int,
        replacement: bool = False,
    ) -> None:
        """Take the training set, the size of a batch, the seed of the order, and whether samples are put back."""
        self._inputs, self._targets, self._replacement = inputs, targets, replacement
        self._stream = "batch draws" if replacement else "batch order"
        self._rng = stream(batch_seed, self._stream)
        super().__init__(batch_size, len(inputs))

    def _begin_epoch(self) -> None:
        self._order = torch.empty(0, dtype=torch.int64)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: inputs and targets."""
        size, samples = self._batch_size, len(self._inputs)
        if size is None or (size == samples and not self._replacement):
            return self._inputs, self._targets
        if self._replacement:
            batch = torch.from_numpy(self._rng.integers(samples, size=size)).to(self._inputs.device)
            return self._inputs[batch], self._targets[batch]
        if len(self._order) == 0:
            self._order = torch.from_numpy(self._rng.permutation(samples)).to(self._inputs.device)
        batch, self._order = self._order[:size], self._order[size:]
        return self._inputs[batch], self._targets[batch]

    def learn_from(self, dataset: Dataset) -> None:
        """Take targets from now on from a dataset with another teacher."""
        assert dataset.train_targets is not None
        self._targets = dataset.train_targets

    def state(self) -> dict[str, np.ndarray]:
        """Return where the stream stands, and what is left of the epoch."""
        return {f"stream.{self._stream}": position(self._rng), "pending": self._order.cpu().numpy()}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with the epoch and the stream of a state, if they are of the same kind."""
        if f"stream.{self._stream}" in state:
            go_on(self._rng, state[f"stream.{self._stream}"])
            check_pending(state["pending"], len(self._inputs))
            self._order = torch.from_numpy(state["pending"].astype(np.int64)).to(self._inputs.device)


class NoisyBatches:
    """Batches whose targets get fresh noise N(0, std^2) at every step, from a stream of its own under `batch_seed`.

    Noise is drawn in float64 and rounded to the targets' precision before it is added.
    """

    def __init__(self, batches: Batches, std: float, batch_seed: int) -> None:
        """Take the batches, the standard deviation of the noise, and its seed."""
        self._batches, self._std = batches, std
        self._noise = stream(batch_seed, "label noise")

    @property
    def batch_size(self) -> int | None:
        """Samples a batch; None is the full batch."""
        return self._batches.batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        self._batches.batch_size = size

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: inputs and noisy targets."""
        inputs, targets = self._batches.draw()
        noise = torch.from_numpy(self._std * self._noise.standard_normal(tuple(targets.shape)))
        return inputs, targets + noise.to(targets)

    def learn_from(self, dataset: Dataset) -> None:
        """Take targets from now on from a dataset with another teacher."""
        self._batches.learn_from(dataset)

    def state(self) -> dict[str, np.ndarray]:
        """Return where the batches and the noise stand."""
        return self._batches.state() | {"stream.label noise": position(self._noise)}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with the batches and the noise of a state."""
        self._batches.go_on(state)
        if "stream.label noise" in state:
            go_on(self._noise, state["stream.label noise"])


class OnlineBatches(_Sized):
    """Fresh samples for every batch: inputs and noise from two streams under `batch_seed`."""

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int | None,
        batch_seed: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take a dataset that can be drawn from, the size of a batch, and the seed of the draws."""
        self._dataset = dataset
        self._inputs = stream(batch_seed, "online inputs")
        self._noise = stream(batch_seed, "online noise")
        self._to = {"dtype": dtype, "device": device}
        super().__init__(batch_size, None)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: inputs and targets."""
        inputs, targets = self._dataset.draw(cast(int, self._batch_size), self._inputs, self._noise)
        return torch.from_numpy(inputs).to(**self._to), torch.from_numpy(targets).to(**self._to)

    def learn_from(self, dataset: Dataset) -> None:
        """Take targets from now on from a dataset with another teacher."""
        self._dataset = dataset

    def state(self) -> dict[str, np.ndarray]:
        """Return where the two streams stand."""
        return {"stream.online inputs": position(self._inputs), "stream.online noise": position(self._noise)}

    def go_on(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on with the streams of a state."""
        if "stream.online inputs" in state:
            go_on(self._inputs, state["stream.online inputs"])
            go_on(self._noise, state["stream.online noise"])


def check_pending(pending: np.ndarray, samples: int) -> None:
    """Raise ConfigError where the rest of an epoch is not one of so many samples."""
    if pending.max(initial=-1) >= samples:
        raise ConfigError(f"the checkpoint is of an epoch of more than {samples} training samples")


def make_batches(
    dataset: Dataset,
    batch_size: int | None,
    batch_seed: int,
    like: Tensor,
    *,
    replacement: bool = False,
    label_noise: float = 0.0,
) -> Batches:
    """Return the batches of a dataset, in the dtype and on the device of `like`.

    Args:
        dataset: Online or with a training set.
        batch_size: Samples a step; None is the full batch.
        batch_seed: Seed of all that is drawn.
        like: A tensor as the batches are to be.
        replacement: Whether samples of a training set are drawn with replacement, not as epochs.
        label_noise: Standard deviation of fresh noise on the targets of every batch.

    Raises:
        ConfigError: Batches of this size, or of such sampling, cannot be drawn.
    """
    check_sampling(replacement, label_noise, dataset.online)
    if dataset.train_inputs is None or dataset.train_targets is None:
        return OnlineBatches(dataset, batch_size, batch_seed, like.dtype, like.device)
    batches = OfflineBatches(dataset.train_inputs, dataset.train_targets, batch_size, batch_seed, replacement)
    return NoisyBatches(batches, label_noise, batch_seed) if label_noise else batches
