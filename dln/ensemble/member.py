"""One run of an ensemble as its callbacks see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from torch.nn import MSELoss

from dln.base.values import check_batch_size, real_number, whole_number
from dln.data import Dataset
from dln.ensemble.groups import Group
from dln.ensemble.rates import Rates
from dln.ensemble.whole_sets import WholeSets
from dln.model import DeepLinearNetwork
from dln.train import full_gradient

if TYPE_CHECKING:
    from torch import Tensor

NEVER = np.iinfo(np.int64).max
"""The step of an event that has not happened."""

UNCHANGED = object()
"""What a member wants of its batch size when no callback has set it."""


class Home(Protocol):
    """What a member sees of its lane; arrays have a number a member [R]."""

    step: int
    max_steps: int
    sets: WholeSets
    """What members learn from."""
    last_loss: np.ndarray
    stopped_at: np.ndarray
    rates: Rates

    def learn(self) -> None:
        """Let members learn from teachers that they have been given."""
        ...

    def group_of(self, member: int) -> tuple[Group, int]:
        """Return the group that a member is in, and its place there."""
        ...

    def parameters(self, member: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return a member's weights and biases."""
        ...

    def losses(self, split: Literal["train", "test"]) -> np.ndarray:
        """Return all members' losses on a whole set [R]."""
        ...

    def gradient_norms(self) -> np.ndarray:
        """Return the norms of all members' gradients on the training set [R]."""
        ...

    def state(
        self, member: int, batch_size: int | None, new_epoch: bool, batch_seed: int | None
    ) -> dict[str, np.ndarray]:
        """Return what a checkpoint keeps of a member beside its weights."""
        ...

    def changed(self) -> None:
        """Take note that a member's weights are not what they were."""
        ...


class Member:
    """One run, as callbacks see it: a `dln.subject.Subject`, as `Trainer` is one."""

    def __init__(self, lane: Home, index: int) -> None:
        """Stand for member `index` of `lane`."""
        self._lane, self._index = lane, index
        self._model: DeepLinearNetwork | None = None
        self.max_steps = lane.max_steps
        self.wanted_size: object = UNCHANGED
        self.wanted_seed: int | None = None

    @property
    def dataset(self) -> Dataset:
        """What the model learns from."""
        sets = self._lane.sets
        if self._index in sets.waiting:
            self._lane.learn()
        return sets.datasets[sets.dataset[self._index]]

    @property
    def step(self) -> int:
        """The present step."""
        return self._lane.step

    @property
    def train_loss(self) -> float:
        """The batch loss when last recorded."""
        return float(self._lane.last_loss[self._index])

    @property
    def stopped_at(self) -> int | None:
        """The step at which `stop` was called, or None."""
        step = self._lane.stopped_at[self._index]
        return None if step == NEVER else int(step)

    @property
    def lr(self) -> float:
        """The learning rate."""
        return float(self._lane.rates.own[self._index])

    @lr.setter
    def lr(self, value: float) -> None:
        self._lane.rates.own[self._index] = real_number(value, "lr")

    @property
    def lr_scale(self) -> float:
        """What the learning rate is multiplied by at this step alone."""
        return float(self._lane.rates.scale[self._index])

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        self._lane.rates.scale[self._index] = real_number(value, "lr_scale")

    @property
    def batch_size(self) -> int | None:
        """Samples a step; None is the full batch. Setting it starts a new epoch, even at the same size."""
        if self.wanted_size is not UNCHANGED:
            return self.wanted_size  # type: ignore[return-value]
        return self._lane.group_of(self._index)[0].batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        inputs = self.dataset.train_inputs
        self.wanted_size = check_batch_size(size, None if inputs is None else len(inputs))

    @property
    def model(self) -> DeepLinearNetwork:
        """The network; changes that a callback makes to it count."""
        if self._model is None:
            weights, biases = self._lane.parameters(self._index)
            self._model = DeepLinearNetwork.from_weights(weights, biases or None, check=False)
        return self._model

    def teach(self, teacher: np.ndarray) -> None:
        """Let all targets be those of another teacher from this step on: the same inputs, batches and noise."""
        self._lane.sets.teach([self._index], teacher)

    def reseed(self, batch_seed: int) -> None:
        """Draw batches from the streams of another seed, from their beginning on, and so a new epoch."""
        self.wanted_seed = int(whole_number(batch_seed, "batch_seed", least=0))

    def stop(self) -> None:
        """Make this step the last: it is recorded, and no update follows."""
        self._lane.stopped_at[self._index] = self._lane.step

    def evaluate(self, split: Literal["train", "test"]) -> float:
        """Return the loss of the present weights on the whole training or test set."""
        self.write_back(keep=True)
        self._lane.learn()
        return float(self._lane.losses(split)[self._index])

    def state(self) -> dict[str, np.ndarray]:
        """Return what, beside the weights, makes the next steps what they are, as `dln.checkpoints` keeps it."""
        return self._lane.state(self._index, self.batch_size, self.wanted_size is not UNCHANGED, self.wanted_seed)

    def gradient(self) -> list[Tensor]:
        """Return the gradient of the loss on the whole training set, one tensor a parameter of `model`."""
        return full_gradient(self.model, self.dataset, MSELoss())

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of `gradient`."""
        self.write_back(keep=True)
        self._lane.learn()
        return float(self._lane.gradient_norms()[self._index])

    def write_back(self, keep: bool = False) -> None:
        """Give the ensemble the weights of `model` where a callback has changed them, and drop the model."""
        if self._model is None:
            return
        weights, biases = self._lane.parameters(self._index)
        now = [p.detach().numpy() for p in (*self._model.weights, *self._model.biases)]
        if any(not np.array_equal(a, b) for a, b in zip(now, (*weights, *biases), strict=True)):
            group, place = self._lane.group_of(self._index)
            count = len(weights)
            group.state.replace(place, now[:count], now[count:] or None)
            self._lane.changed()
        if not keep:
            self._model = None
