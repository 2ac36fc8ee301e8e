"""What members learn from: their datasets, and losses and gradients on whole sets for callbacks that ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from dln.data import Dataset
from dln.ensemble.batches import MemberBatches, make_batches, split_data
from dln.ensemble.divergence import near_limit, torch_loss
from dln.ensemble.groups import Group
from dln.errors import ConfigError
from dln.kernels.batches import Draw
from dln.kernels.summary import quantities

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int


class WholeSets:
    """The training and test sets of R members; what was found on them is kept until weights or targets change.

    A member may be given another teacher; its targets are then made from those of its first one, so that a run which
    goes on from a checkpoint has the same digits.
    """

    def __init__(
        self, datasets: Sequence[Dataset], dataset: Sequence[int], dtype: np.dtype, bias: bool, depth: int
    ) -> None:
        """Take datasets of one shape, which of them each member has, and the networks' dtype, biases and layers."""
        of = np.asarray(dataset, np.int64)
        self._first, self._made_for, self._depth = (datasets, of), (dtype, bias), depth
        self.teachers: dict[int, Float64[np.ndarray, "out in"]] = {}
        """What has taken the place of members' first teachers."""
        self.waiting: set[int] = set()
        """Members who have been given a teacher since `renew`."""
        self._take(datasets, of)

    def _take(self, datasets: Sequence[Dataset], dataset: Int[np.ndarray, " R"]) -> None:
        self.datasets, self.dataset = datasets, dataset
        """What there is to learn from, and which of it each member has."""
        self.train, self.test = (split_data(datasets, split, *self._made_for) for split in ("train", "test"))
        """The sets as kernels read them, if there are any."""
        self._found: dict[str, Float64[np.ndarray, " R"]] = {}

    def batches(
        self, members: Sequence[int], seeds: Sequence[int], batch_size: int | None, replacement: bool
    ) -> MemberBatches:
        """Return batches of some members from the beginning of their streams, as `make_batches` does."""
        return make_batches(
            self.datasets, self.dataset[members], seeds, batch_size, *self._made_for, replacement, self.train
        )

    def teach(self, members: Sequence[int], teacher: Float64[np.ndarray, "out in"]) -> None:
        """Give members another teacher, from `renew` on."""
        self.teachers |= dict.fromkeys(members, teacher)
        self.waiting.update(members)

    def renew(self) -> bool:
        """Make the data of members who have been given another teacher, if any; those who learn alike share them."""
        if not self.waiting:
            return False
        (first, of), datasets, dataset = self._first, list(self.datasets), self.dataset.copy()
        places: dict[tuple[int, bytes], int] = {}
        for member in sorted(self.waiting):
            key = int(of[member]), self.teachers[member].tobytes()
            if key not in places:
                places[key] = len(datasets)
                datasets.append(first[key[0]].taught(self.teachers[member]))
            dataset[member] = places[key]
        used, dataset = np.unique(dataset, return_inverse=True)
        self.waiting.clear()
        self._take([datasets[d] for d in used], dataset)
        return True

    def forget(self) -> None:
        """Forget what was found of weights that are no longer the present ones."""
        self._found = {}

    def losses(
        self, split: Literal["train", "test"], groups: Sequence[Group], moving: Bool[np.ndarray, " R"]
    ) -> Float64[np.ndarray, " R"]:
        """Return the loss of every member's present weights on the whole training or test set.

        Args:
            split: Which set.
            groups: All members, with their weights.
            moving: Which of them are still to be updated: of these, a loss near the limit is what torch finds.

        Raises:
            ConfigError: There is no such set.
        """
        if split not in self._found:
            data = self.train if split == "train" else self.test
            if data is None:
                raise ConfigError(f"there is no {split} set to evaluate a loss on")
            result = np.empty(len(self.dataset))
            for group in groups:
                members, state = group.members, group.state
                draw = Draw.full(data, self.dataset[members])
                (found,), _ = state.train(draw, 0, np.zeros(len(members)), [0])  # before update 0 of none
                result[members] = found
                close = near_limit(result[members], data.targets[0].size, state.layout.dtype) & moving[members]
                for place in np.flatnonzero(close).tolist():
                    weights, biases = state.select([place]).weights()
                    parameters = [p[0] for p in (*weights, *(biases or ()))]
                    result[members[place]] = self.torch_loss(split, members[place], parameters)
            self._found[split] = result
        return self._found[split]

    def gradient_norms(self, groups: Sequence[Group]) -> Float64[np.ndarray, " R"]:
        """Return the norm of the gradient of every member's loss on the whole training set.

        Raises:
            ConfigError: There is no training set.
        """
        if "gradient" not in self._found:
            data = self.train
            if data is None:
                raise ConfigError("there is no train set to take a gradient on")
            result = np.empty(len(self.dataset))
            for group in groups:
                draw = Draw.full(data, self.dataset[group.members])
                name, state = "gradient_squares", group.state
                squares = quantities([name], state.layout, state.packed()[None], draw, [0])[name]
                result[group.members] = np.sqrt(squares[0].sum(-1))
            self._found["gradient"] = result
        return self._found["gradient"]

    def torch_loss(self, split: Literal["train", "test"], member: int, parameters: Sequence[np.ndarray]) -> float:
        """Return the loss that torch finds for these weights, and then biases, on a member's training or test set."""
        data = self.datasets[self.dataset[member]]
        inputs, targets = (getattr(data, f"{split}_{kind}").numpy() for kind in ("inputs", "targets"))
        return torch_loss(parameters, self._depth, inputs, targets)


def check_dims(datasets: Sequence[Dataset], dims: tuple[int, int]) -> None:
    """Raise ConfigError where datasets are not of a model's input and output dimensions."""
    for data in datasets:
        if data.dims != dims:
            raise ConfigError("the model maps {} to {} but the train set has {} to {}".format(*dims, *data.dims))
