"""What a callback is, and what it sees of a run and may change of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from dln.data import Dataset
    from dln.model import DeepLinearNetwork


class Subject(Protocol):
    """What callbacks see of a run and may change of it: a `Trainer`, or a member of an ensemble."""

    @property
    def lr(self) -> float:
        """The learning rate."""
        ...

    @lr.setter
    def lr(self, value: float) -> None: ...

    @property
    def lr_scale(self) -> float:
        """What the learning rate is multiplied by at this step alone."""
        ...

    @lr_scale.setter
    def lr_scale(self, value: float) -> None: ...

    @property
    def batch_size(self) -> int | None:
        """Samples a step; None is the full batch. Setting it starts a new epoch, even at the same size."""
        ...

    @batch_size.setter
    def batch_size(self, size: int | None) -> None: ...

    @property
    def step(self) -> int:
        """The present step."""
        ...

    @property
    def max_steps(self) -> int:
        """The last step."""
        ...

    @property
    def dataset(self) -> Dataset:
        """What the model learns from."""
        ...

    @property
    def model(self) -> DeepLinearNetwork:
        """The network; what a callback changes of its weights counts."""
        ...

    @property
    def train_loss(self) -> float:
        """The batch loss when last recorded."""
        ...

    @property
    def stopped_at(self) -> int | None:
        """The step at which `stop` was called, or None."""
        ...

    def teach(self, teacher: np.ndarray) -> None:
        """Let all targets be those of another teacher from this step on: the same inputs, batches and noise."""
        ...

    def reseed(self, batch_seed: int) -> None:
        """Draw batches from the streams of another seed, from their beginning on, and so a new epoch."""
        ...

    def stop(self) -> None:
        """Make this step the last: it is recorded, and no update follows."""
        ...

    def evaluate(self, split: Literal["train", "test"]) -> float:
        """Return the loss of the present weights on the whole training or test set."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return what, beside the weights, makes the next steps what they are, as `dln.checkpoints` keeps it."""
        ...

    def gradient(self) -> list[Tensor]:
        """Return the gradient of the loss on the whole training set, one tensor a parameter of `model`."""
        ...

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of `gradient`."""
        ...


Callback = Callable[[int, Subject], None]
"""Called with (step, subject); may carry the steps it acts on, and a `memory` of numbers that checkpoints keep."""


def callback_name(callback: Callback) -> str:
    """Return what a callback is known by: the factory it was made in."""
    return getattr(callback, "__qualname__", type(callback).__name__).split(".<locals>.")[-2:][0]
