"""Losses and gradients of members' present weights on whole training and test sets, for callbacks that ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from dln.data import Dataset
from dln.ensemble.divergence import near_limit, torch_loss
from dln.ensemble.groups import Group
from dln.errors import ConfigError
from dln.kernels.batches import Data, Draw
from dln.kernels.summary import quantities

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int


class WholeSets:
    """The training and test sets of R members; what was found on them is kept until weights change."""

    def __init__(
        self,
        datasets: Sequence[Dataset],
        dataset: Int[np.ndarray, " R"],
        train: Data | None,
        test: Data | None,
        depth: int,
    ) -> None:
        """Take the datasets, which of them each member has, their sets as kernels read them, and how many layers."""
        self._datasets, self._dataset, self._depth = datasets, dataset, depth
        self._sets = {"train": train, "test": test}
        self._found: dict[str, Float64[np.ndarray, " R"]] = {}

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
            data = self._sets[split]
            if data is None:
                raise ConfigError(f"there is no {split} set to evaluate a loss on")
            result = np.empty(len(self._dataset))
            for group in groups:
                members, state = group.members, group.state
                draw = Draw.full(data, self._dataset[members])
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
            data = self._sets["train"]
            if data is None:
                raise ConfigError("there is no train set to take a gradient on")
            result = np.empty(len(self._dataset))
            for group in groups:
                draw = Draw.full(data, self._dataset[group.members])
                name, state = "gradient_squares", group.state
                squares = quantities([name], state.layout, state.packed()[None], draw, [0])[name]
                result[group.members] = np.sqrt(squares[0].sum(-1))
            self._found["gradient"] = result
        return self._found["gradient"]

    def torch_loss(self, split: Literal["train", "test"], member: int, parameters: Sequence[np.ndarray]) -> float:
        """Return the loss that torch finds for these weights, and then biases, on a member's training or test set."""
        data = self._datasets[self._dataset[member]]
        inputs, targets = (getattr(data, f"{split}_{kind}").numpy() for kind in ("inputs", "targets"))
        return torch_loss(parameters, self._depth, inputs, targets)
