"""What members are trained on, as the kernels take it: datasets converted once, and batches of their samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dln.base.stacked import decomposed

if TYPE_CHECKING:
    from jaxtyping import Int

    from dln.kernels.layout import Layout


class Data:
    """Datasets that members train or are tested on, converted once."""

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, dtype: Any, bias: bool) -> None:
        """Take D datasets of equal shape, which must not change from now on.

        Args:
            inputs: [D, N, in].
            targets: [D, N, out].
            dtype: Precision that members compute in.
            bias: Whether they have biases: inputs then get a column of ones.
        """
        inputs, targets = (np.asarray(a, dtype) for a in (inputs, targets))
        self.dim = inputs.shape[2]
        """Dimension of the inputs, without the constant one."""
        if bias:
            inputs = np.concatenate([inputs, np.ones_like(inputs[:, :, :1])], axis=2)
        self.inputs, self.targets = plain(inputs, dtype), plain(targets, dtype)

    @cached_property
    def moments(self) -> np.ndarray:
        """X'X / N and X'Y / N, [D, n, n + out], summed in float64: all that a full-batch step needs."""
        joint = self._joint
        n = self.inputs.shape[2]
        with np.errstate(over="ignore", invalid="ignore"):
            moments = np.swapaxes(joint[:, :, :n], 1, 2) @ joint / joint.shape[1]
            return plain(moments, self.inputs.dtype)

    @cached_property
    def samples(self) -> np.ndarray:
        """Pseudo-samples [D, min(N, n + out), n + out] in float64: their squared residuals sum to the loss.

        They are the R of a QR decomposition of [X | Y]: residuals are not squared before the data are compressed.
        """
        joint = self._joint
        return plain(
            decomposed(joint, lambda matrices: (np.linalg.qr(matrices, mode="r"),))[0]
            / np.sqrt(joint.shape[1] * self.targets.shape[2]),
            np.float64,
        )

    @cached_property
    def squares(self) -> np.ndarray:
        """Sums of squares of all inputs and of all targets, [D, 2], in float64."""
        with np.errstate(over="ignore"):
            sums = [np.square(a, dtype=np.float64).sum((1, 2)) for a in (self.inputs, self.targets)]
        return np.stack(sums, 1)

    @property
    def _joint(self) -> np.ndarray:
        return np.concatenate([self.inputs, self.targets], axis=2).astype(np.float64)


class Drawn(NamedTuple):
    """A `Draw` as kernels take it: member m sees the samples order[stream[m], s, : size[s]] of dataset[m] at step s."""

    inputs: np.ndarray
    """[D, N, n], with the constant one if there are biases."""
    targets: np.ndarray
    """[D, N, d_out]."""
    dataset: np.ndarray
    """[G, V], the row of inputs and targets that is a member's."""
    stream: np.ndarray
    """[G, V], the row of order."""
    order: np.ndarray
    """Sample numbers [K, drawn, B], int32."""
    size: np.ndarray
    """Samples in each batch [drawn]; 0 is the full batch."""


@dataclass(frozen=True)
class Draw:
    """Batches of consecutive steps: which samples of which data each member sees at each."""

    data: Data
    dataset: Int[np.ndarray, " R"]
    """A member's row of `data`."""
    stream: Int[np.ndarray, " R"]
    """A member's row of `order`."""
    order: Int[np.ndarray, "K steps B"]
    """Sample numbers, which are not checked."""
    size: Int[np.ndarray, " steps"]
    """Samples in each batch; 0 is the full batch."""

    @classmethod
    def full(cls, data: Data, dataset: Int[np.ndarray, " R"], steps: int = 1) -> Draw:
        """Return full batches."""
        stream, size = (np.zeros(count, np.int64) for count in (len(dataset), steps))
        return cls(data, dataset, stream, np.zeros((1, steps, 1), np.int32), size)

    def packed(self, layout: Layout) -> Drawn:
        """Return what kernels take for members of a layout."""
        dataset, stream = (layout.padded(of, len(self.dataset), np.int64) for of in (self.dataset, self.stream))
        order, size = plain(self.order, np.int32), plain(self.size, np.int64)
        return Drawn(self.data.inputs, self.data.targets, dataset, stream, order, size)

    def select(self, members: slice | Int[np.ndarray, " r"]) -> Draw:
        """Return the batches of some of the members."""
        return replace(self, dataset=self.dataset[members], stream=self.stream[members])

    def between(self, first: int, last: int) -> Draw:
        """Return the batches of steps first, ..., last - 1."""
        return replace(self, order=self.order[:, first:last], size=self.size[first:last])

    def at(self, step: int) -> Draw:
        """Return the batches of one step."""
        return self.between(step, step + 1)

    @property
    def largest(self) -> int:
        """Samples that a batch may have."""
        return self.data.inputs.shape[1] if (self.size == 0).any() else self.order.shape[2]

    def samples(self, place: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs [B, in] and targets [B, out] of a member's batch, in the precision it is trained in."""
        rows = self.order[self.stream[place], step, : self.size[step]] if self.size[step] else slice(None)
        x, y = (a[self.dataset[place], rows] for a in (self.data.inputs, self.data.targets))
        return x[:, : self.data.dim].copy(), y.copy()


def plain(array: Any, dtype: Any) -> np.ndarray:
    """Return an array of the kind that kernels are compiled for: contiguous, aligned, writable; a copy if need be."""
    return np.require(array, dtype, ["C", "A", "W"])
