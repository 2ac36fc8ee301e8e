"""Checkpoints: the weights of a step, and all else that makes the steps after it what they are.

An .npz file has W1, ..., WL and b1, ..., bL, and beside these

    step                      the step s; callbacks have acted, its batch is not drawn
    lr                        the learning rate, and its factor at this step alone
    batch_size                samples a batch; -1 is the full batch
    given.lr ...              what the config said of lr, batch_size and batch_seed
    stream.NAME               where a stream of random numbers stands (`dln.base.streams.position`)
    pending                   sample numbers of the epoch that are not used yet
    optimizer                 its name in torch.optim, in bytes
    optimizer.W1.NAME ...     what it keeps of each parameter, by torch's names
    previous.W1, earlier.W1   the weights one and two steps before, where metrics look at them
    memory.I                  what callback I remembers, if it has a `memory`
    teacher                   the teacher, if a callback has changed it
    clock                     the time that training has taken, where metrics look at it (`dln.base.clock`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dln.base.arrays import load_arrays
from dln.base.clock import PARTS, Clock
from dln.errors import ConfigError
from dln.model import load_weights

FULL = -1
"""The batch size that stands for the full batch."""

State = dict[str, np.ndarray]
"""Arrays of a checkpoint beside the weights, by name."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint that a lane goes on from."""

    weights: list[np.ndarray]
    biases: list[np.ndarray] | None
    arrays: Mapping[str, np.ndarray]

    @property
    def step(self) -> int:
        """The step that it is of."""
        return int(self.arrays["step"])

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Weights and biases by name."""
        return named(self.weights, self.biases)

    @property
    def batch_seed(self) -> int:
        """The seed that its streams are of."""
        return int(self.arrays["given.batch_seed"])

    def lr(self, given: float) -> float:
        """Return the learning rate as it was, unless the config now gives another: then that."""
        return float(self.arrays["lr"][0]) if given == float(self.arrays["given.lr"]) else given

    @property
    def lr_scale(self) -> float:
        """The factor of the learning rate at this step alone."""
        return float(self.arrays["lr"][1])

    def batch_size(self, given: int | None) -> int | None:
        """Return the batch size as it was, unless the config now gives another: then that."""
        same = int(self.arrays["given.batch_size"]) == _kept_size(given)
        size = int(self.arrays["batch_size"]) if same else given
        return None if size == FULL else size

    @property
    def clock(self) -> np.ndarray:
        """What a clock kept [3, 1]; NaN where there was none."""
        return self.arrays.get("clock", np.full((PARTS, 1), np.nan))

    @property
    def teacher(self) -> np.ndarray | None:
        """The teacher that a callback had put in the place of the first one, if one had."""
        return self.arrays.get("teacher")

    def streams(self, batch_seed: int, batch_size: int | None) -> dict[str, np.ndarray]:
        """Return where the batches stood: nothing under another seed, and no rest of an epoch for another size."""
        if batch_seed != self.batch_seed:
            return {}
        found = {name: array for name, array in self.arrays.items() if name.startswith("stream.")}
        same = int(self.arrays["batch_size"]) == _kept_size(batch_size)
        return found | {
            "pending": self.arrays["pending"] if same and "pending" in self.arrays else np.zeros(0, np.int64)
        }

    def past(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the weights and biases that were `previous` or `earlier`, by name, if they were kept."""
        found = {key: self.arrays[f"{name}.{key}"] for key in self.parameters if f"{name}.{key}" in self.arrays}
        return found if len(found) == len(self.parameters) else None

    def kept(self, parameter: str) -> dict[str, np.ndarray]:
        """Return what the optimizer kept of a parameter, by torch's names."""
        prefix = f"optimizer.{parameter}."
        return {key.removeprefix(prefix): a for key, a in self.arrays.items() if key.startswith(prefix)}

    def check(self, shapes: Sequence[Sequence[int]], optimizer: str, dtype: str, max_steps: int) -> None:
        """Raise ConfigError unless a run of such a model can go on from here.

        Args:
            shapes: Of its parameters, layer by layer.
            optimizer: Its name in torch.optim.
            dtype: The run's precision.
            max_steps: The run's last step.
        """
        biases = self.biases if self.biases is not None else []
        own = [list(p.shape) for i, w in enumerate(self.weights) for p in (w, *biases[i : i + 1])]
        if own != [list(shape) for shape in shapes]:
            raise ConfigError(f"the checkpoint holds shapes {own}, but the config describes {shapes}")
        if str(self.weights[0].dtype) != dtype:
            raise ConfigError(f"the checkpoint is in {self.weights[0].dtype}; set dtype={self.weights[0].dtype}")
        saved = self.arrays["optimizer"].tobytes().decode()
        if saved != optimizer:
            raise ConfigError(f"the checkpoint is of {saved}, but the optimizer is {optimizer}")
        if self.step >= max_steps:
            raise ConfigError(f"the checkpoint is of step {self.step}; set max_steps to more")


def named(weights: Sequence[Any], biases: Sequence[Any] | None) -> dict[str, Any]:
    """Return what belongs to each weight and bias by the names W1, ..., b1, ...

    >>> named([5, 6], [7, 8])
    {'W1': 5, 'W2': 6, 'b1': 7, 'b2': 8}
    """
    groups = (("W", weights), ("b", biases or ()))
    return {f"{letter}{i}": value for letter, values in groups for i, value in enumerate(values, start=1)}


def given_state(lr: float, batch_size: int | None, batch_seed: int) -> State:
    """Return what the config of a run said of what callbacks may change, and of its streams."""
    return {
        "given.lr": np.array(lr, np.float64),
        "given.batch_size": np.array(_kept_size(batch_size), np.int64),
        "given.batch_seed": np.array(batch_seed, np.uint64),
    }


def present_state(step: int, lr: float, lr_scale: float, batch_size: int | None, optimizer: str) -> State:
    """Return the state of a run at a step, streams and the optimizer's arrays aside."""
    return {
        "step": np.array(step, np.int64),
        "batch_size": np.array(_kept_size(batch_size), np.int64),
        "optimizer": np.frombuffer(optimizer.encode(), np.uint8),
        "lr": np.array([lr, lr_scale]),
    }


def clock_state(clock: Clock, run: int = 0) -> State:
    """Return what a clock keeps of one of its runs."""
    return {"clock": clock.parts[:, [run]]}


def _kept_size(batch_size: int | None) -> int:
    """Return what a checkpoint has for a batch size."""
    return FULL if batch_size is None else batch_size


def memories(callbacks: Sequence[Callable]) -> State:
    """Return what callbacks remember, in their order."""
    kept = ((i, getattr(callback, "memory", None)) for i, callback in enumerate(callbacks))
    return {f"memory.{i}": np.array(list(memory), np.float64) for i, memory in kept if memory is not None}


def remember(callbacks: Sequence[Callable], arrays: Mapping[str, np.ndarray]) -> None:
    """Give callbacks back what they remembered."""
    for i, callback in enumerate(callbacks):
        memory: Any = getattr(callback, "memory", None)
        if memory is not None and f"memory.{i}" in arrays:
            memory.clear()
            memory.extend(arrays[f"memory.{i}"].tolist())


def load_checkpoint(path: str | Path, suffix: str = "") -> Saved:
    """Read a checkpoint of a lane, of which `path` names the file, or that of another lane of the run.

    Raises:
        ConfigError: There is no such file, or it holds weights alone.
    """
    stem = str(path).removesuffix(".npz")
    if suffix:
        stem = f"{stem.removesuffix('_a').removesuffix('_b')}{suffix}"
    weights, biases = load_weights(f"{stem}.npz")
    arrays = load_arrays(f"{stem}.npz")
    if "step" not in arrays:
        raise ConfigError(f"{stem + '.npz'!r} holds weights alone; model.weights starts a run from these")
    return Saved(weights, biases, {name: a for name, a in arrays.items() if name not in named(weights, biases)})
