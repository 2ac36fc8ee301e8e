"""What quantities and metrics may name of a run's data: the same at all records, and for all runs on the same data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.stacked import decomposed
from dln.data import Dataset, teacher_of
from dln.derivatives.products import with_constant
from dln.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

CONSTANTS: dict[str, Callable[[Dataset], np.ndarray]] = {}
"""Functions of the data, by name."""


def constant(function: Callable) -> Callable:
    """List a function of the data under its own name, before the quantities, metrics and events that ask for it.

    Raises:
        ConfigError: The name is taken.
    """
    name = function.__name__
    if name in CONSTANTS and CONSTANTS[name].__module__ != function.__module__:
        raise ConfigError(f"constant {name!r} is there already, of {CONSTANTS[name].__module__}; choose another name")
    CONSTANTS[name] = function
    return function


@constant
def train_inputs(dataset: Dataset) -> Float64[np.ndarray, "N in"]:
    """Inputs of the training set."""
    return _samples(dataset.train_inputs, "training")


@constant
def train_targets(dataset: Dataset) -> Float64[np.ndarray, "N out"]:
    """Targets of the training set."""
    return _samples(dataset.train_targets, "training")


@constant
def test_inputs(dataset: Dataset) -> Float64[np.ndarray, "M in"]:
    """Inputs of the test set."""
    return _samples(dataset.test_inputs, "test")


@constant
def test_targets(dataset: Dataset) -> Float64[np.ndarray, "M out"]:
    """Targets of the test set."""
    return _samples(dataset.test_targets, "test")


@constant
def input_moments(dataset: Dataset) -> Float64[np.ndarray, "n n"]:
    """Means of x x' over the training set, x ending with a constant one; of online data, over the population.

    >>> from dln.data import Dataset
    >>> input_moments(Dataset.from_arrays([1.0, 3.0], [0.0, 0.0])).tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    return population_input_moments(dataset) if dataset.online else _moments(train_inputs(dataset))


@constant
def target_moments(dataset: Dataset) -> Float64[np.ndarray, "out n"]:
    """Means of y x', as `input_moments`.

    >>> from dln.data import Dataset
    >>> target_moments(Dataset.from_arrays([1.0, 3.0], [2.0, 4.0])).tolist()
    [[7.0, 3.0]]
    """
    if dataset.online:
        return population_target_moments(dataset)
    return _moments(train_inputs(dataset), train_targets(dataset))


@constant
def test_input_moments(dataset: Dataset) -> Float64[np.ndarray, "n n"]:
    """Means of x x' over the test set, as `input_moments`."""
    return _moments(test_inputs(dataset))


@constant
def test_target_moments(dataset: Dataset) -> Float64[np.ndarray, "out n"]:
    """Means of y x' over the test set, as `input_moments`."""
    return _moments(test_inputs(dataset), test_targets(dataset))


@constant
def population_input_moments(dataset: Dataset) -> Float64[np.ndarray, "n n"]:
    """Means of x x' over the distribution that inputs come from, as `input_moments`."""
    moments = np.eye(dataset.dims[0] + 1)
    moments[:-1, :-1] = covariance(dataset)
    return moments


@constant
def population_target_moments(dataset: Dataset) -> Float64[np.ndarray, "out n"]:
    """Means of y x' over the distribution that inputs come from, as `input_moments`."""
    return np.pad(teacher(dataset) @ covariance(dataset), ((0, 0), (0, 1)))


@constant
def covariance(dataset: Dataset) -> Float64[np.ndarray, "in in"]:
    """Covariance of the distribution that inputs come from.

    Raises:
        ConfigError: It is not known.
    """
    if dataset.inputs is None:
        raise ConfigError("it speaks of the population, and these data come without one")
    known = dataset.inputs.covariance
    if known is None:
        raise ConfigError("it needs inputs of known covariance (a mark of register_inputs), and these have none")
    return known


@constant
def input_root(dataset: Dataset) -> Float64[np.ndarray, "n k"]:
    """A matrix R with R R' the means of x x' over the training set, x ending with a constant one.

    A mean square of A x is ||A R||^2: what A does to no input is then zero to the last digit, and nothing is negative.

    >>> from dln.data import Dataset
    >>> root = input_root(Dataset.from_arrays([1.0, 3.0], [0.0, 0.0]))
    >>> (root @ root.T).round(12).tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    return _root(train_inputs(dataset))


@constant
def test_input_root(dataset: Dataset) -> Float64[np.ndarray, "n k"]:
    """`input_root` of the test set."""
    return _root(test_inputs(dataset))


@constant
def population_input_root(dataset: Dataset) -> Float64[np.ndarray, "n k"]:
    """`input_root` of the distribution that inputs come from."""
    covariance(dataset)  # says what is wrong where it is not known
    assert dataset.inputs is not None
    root = dataset.inputs.root
    assert root is not None
    both = np.zeros((root.shape[0] + 1, root.shape[1] + 1))
    both[:-1, :-1], both[-1, -1] = root, 1
    return both


@constant
def normal_covariance(dataset: Dataset) -> Float64[np.ndarray, "in in"]:
    """Covariance of the Gaussian that inputs come from.

    Raises:
        ConfigError: Inputs are not Gaussian, or there is no distribution.
    """
    if dataset.inputs is not None and not dataset.inputs.normal:
        raise ConfigError("it needs inputs drawn from a Gaussian, and these are not")
    return covariance(dataset)


@constant
def label_noise(dataset: Dataset) -> Float64[np.ndarray, ""]:
    """Standard deviation of the noise on training targets."""
    return np.array(float(dataset.noise_std))


@constant
def teacher(dataset: Dataset) -> Float64[np.ndarray, "out in"]:
    """The teacher's matrix; of data that come without one, the least-squares map of the training set.

    Raises:
        ConfigError: The training set is not finite.
    """
    return teacher_of(dataset).astype(np.float64)


@constant
def teacher_left(dataset: Dataset) -> Float64[np.ndarray, "out k"]:
    """Left singular vectors of the teacher, in columns, by falling singular value."""
    return _modes(dataset)[0]


@constant
def teacher_values(dataset: Dataset) -> Float64[np.ndarray, " k"]:
    """Singular values of the teacher, largest first."""
    return _modes(dataset)[1]


@constant
def teacher_rank(dataset: Dataset) -> Int64[np.ndarray, ""]:
    """How many modes the teacher has to learn: singular values that are not zero, to rounding."""
    return np.array(rank_of(teacher_values(dataset)))


@constant
def teacher_right(dataset: Dataset) -> Float64[np.ndarray, "k in"]:
    """Right singular vectors of the teacher, in rows."""
    return _modes(dataset)[2]


def _modes(dataset: Dataset) -> list[np.ndarray]:
    return decomposed(teacher(dataset), lambda matrices: np.linalg.svd(matrices, full_matrices=False))


def rank_of(values: Float64[np.ndarray, " k"]) -> int:
    """Return how many singular values are not zero, to rounding.

    >>> rank_of(np.array([5.0, 1e-3, 1e-16]))
    2
    """
    return int(np.count_nonzero(values > ROUNDING * np.max(values, initial=0.0)))


ROUNDING = 1e-13
"""Error of a singular value by rounding, at most, as a share of the largest."""


def _moments(inputs: Float64[np.ndarray, "N in"], targets: np.ndarray | None = None) -> np.ndarray:
    """Return means of y x', where x ends with a constant one, and y is x if there are no targets."""
    x = with_constant(inputs)
    return (x if targets is None else targets).T @ x / len(x)


def _root(inputs: Float64[np.ndarray, "N in"]) -> np.ndarray:
    """Return R with R R' the means of x x', where x ends with a constant one."""
    return np.asarray(np.linalg.qr(with_constant(inputs) / np.sqrt(len(inputs)), mode="r")).T


def _samples(samples: Tensor | None, kind: str) -> np.ndarray:
    if samples is None:
        raise ConfigError(f"it needs a {kind} set, and these data come without one")
    return samples.cpu().numpy().astype(np.float64)


@dataclass(frozen=True)
class Later:
    """A given value that is computed only when it is first wanted."""

    find: Callable[[], Any]


def constants(datasets: Sequence[Dataset]) -> dict[str, Later]:
    """Return, for each of `CONSTANTS`, its values for some datasets of one shape, [D, ...]; found once."""

    def later(function: Callable[[Dataset], np.ndarray]) -> Later:
        return Later(functools.cache(lambda: torch.from_numpy(np.stack([function(d) for d in datasets]))))

    return {name: later(function) for name, function in CONSTANTS.items()}
