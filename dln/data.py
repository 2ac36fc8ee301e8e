"""Datasets, of linear teachers or of one's own arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.arithmetic import uniform
from dln.base.arrays import load_arrays
from dln.base.streams import stream
from dln.config import BASES
from dln.errors import ConfigError, suggestion
from dln.ingredients.inputs import Inputs, make_inputs
from dln.ingredients.random_matrices import transform
from dln.ingredients.teachers import input_directions, make_teacher
from dln.ingredients.teachers import register_matrix as register_matrix  # teachers may be written in this file too
from dln.utils import as_tensors

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

POPULATION = ["rotate", "conjugate", "inputs", "inputs_params", "inputs_basis", "d_active", "noise_std", "data_seed"]
"""Keys of `data` that say, beside the teacher's `params`, where samples are drawn from."""


@dataclass(frozen=True)
class Dataset:
    """What a run learns from. Inputs are [N, in], targets [N, out], all of one dtype and device.

    An online dataset has no training set: every batch is drawn afresh from `inputs`, `teacher` and `noise_std`.
    """

    train_inputs: Float[Tensor, "N in"] | None
    train_targets: Float[Tensor, "N out"] | None
    test_inputs: Float[Tensor, "M in"] | None
    test_targets: Float[Tensor, "M out"] | None
    teacher: Float64[Tensor, "out in"] | None = None
    noise_std: float = 0.0
    inputs: Inputs | None = None

    @property
    def dims(self) -> tuple[int, int]:
        """Input and output dimension.

        Raises:
            ConfigError: There are neither training samples nor a teacher.
        """
        if self.train_inputs is not None and self.train_targets is not None:
            return self.train_inputs.shape[1], self.train_targets.shape[1]
        if self.teacher is None:
            raise ConfigError("a dataset without training samples needs a teacher to draw batches from")
        return self.teacher.shape[1], self.teacher.shape[0]

    @property
    def online(self) -> bool:
        """Whether batches are drawn afresh instead of from a training set."""
        return self.train_inputs is None

    @uniform()
    def draw(
        self, samples: int, of_inputs: np.random.Generator, of_noise: np.random.Generator
    ) -> tuple[Float64[np.ndarray, "N in"], Float64[np.ndarray, "N out"]]:
        """Draw fresh samples: inputs, and their targets.

        Args:
            samples: How many, N; the digits of a sample do not depend on it.
            of_inputs: Where inputs are drawn from.
            of_noise: Where the noise on targets is drawn from.

        Raises:
            ConfigError: The dataset has no teacher or no distribution of inputs.
        """
        if self.inputs is None:
            raise ConfigError("a dataset without training samples needs inputs to draw batches from")
        inputs = self.inputs.draw(samples, of_inputs)
        return inputs, self.label(inputs, of_noise)

    def label(self, inputs: Float64[np.ndarray, "N in"], of_noise: np.random.Generator) -> np.ndarray:
        """Return training targets [N, out] of some inputs: T x + N(0, noise_std^2).

        Raises:
            ConfigError: The dataset has no teacher.
        """
        if self.teacher is None:
            raise ConfigError("a dataset without training samples needs a teacher to draw batches from")
        teacher = self.teacher.cpu().numpy()
        return transform(teacher, inputs) + self.noise_std * of_noise.standard_normal((len(inputs), len(teacher)))

    @classmethod
    def from_arrays(
        cls,
        train_inputs: Any,
        train_targets: Any,
        test_inputs: Any = None,
        test_targets: Any = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> Dataset:
        """Make a dataset from one's own arrays or tensors; the test set may be left out, and [N] stands for [N, 1].

        Samples keep their precision, float32 or float64 (all other numbers become float64), unless `dtype` is given.
        What a run computes in, its model decides: it takes the samples in its own precision.

        Raises:
            ConfigError: Shapes do not fit together, or there are NaN or infinite numbers.

        >>> Dataset.from_arrays([1, 2, 3], [[2, 0], [4, 0], [6, 0]]).dims
        (1, 2)
        """
        arrays = {
            "train_inputs": train_inputs,
            "train_targets": train_targets,
            "test_inputs": test_inputs,
            "test_targets": test_targets,
        }
        made = iter(as_tensors([a for a in arrays.values() if a is not None], dtype, device))
        tensors = {name: None if a is None else _columns(next(made)) for name, a in arrays.items()}
        for name, tensor in tensors.items():
            if tensor is None:
                if arrays["test_inputs" if name == "test_targets" else "test_targets"] is not None or "train" in name:
                    raise ConfigError(f"dataset: {name} is missing")
            elif tensor.ndim != 2 or 0 in tensor.shape:
                raise ConfigError(f"dataset: {name} must be [samples, dimension], not {list(tensor.shape)}")
            elif not torch.isfinite(tensor).all():
                raise ConfigError(f"dataset: {name} contains NaN or infinite numbers")
        for split in ("train", "test"):
            x, y = tensors[f"{split}_inputs"], tensors[f"{split}_targets"]
            if x is not None and y is not None and len(x) != len(y):
                raise ConfigError(f"dataset: {len(x)} {split}_inputs but {len(y)} {split}_targets")
        for kind in ("inputs", "targets"):
            train, test = tensors[f"train_{kind}"], tensors[f"test_{kind}"]
            if train is not None and test is not None and train.shape[1] != test.shape[1]:
                raise ConfigError(
                    f"dataset: train_{kind} have {train.shape[1]} dimensions, test_{kind} {test.shape[1]}"
                )
        return cls(tensors["train_inputs"], tensors["train_targets"], tensors["test_inputs"], tensors["test_targets"])

    def taught(self, teacher: Float64[np.ndarray, "out in"]) -> Dataset:
        """Return the dataset with another teacher: the same inputs, and the same noise on training targets.

        Raises:
            ConfigError: The dataset came without a teacher.

        >>> dataset = linear_teacher(2, 2, {"matrix": "identity", "scale": 3.0}, noise_std=1.0, dtype=torch.float64)
        >>> other = dataset.taught(np.zeros((2, 2)))  # what is left is noise
        >>> torch.allclose(other.train_targets, dataset.train_targets - 3 * dataset.train_inputs)
        True
        """
        if self.teacher is None:
            raise ConfigError("these data came without a teacher, so there is none to take the place of")
        change, targets = teacher - self.teacher.cpu().numpy(), {}
        for split in ("train", "test"):
            x, y = (getattr(self, f"{split}_{kind}") for kind in ("inputs", "targets"))
            if y is not None:
                more = transform(change, x.cpu().double().numpy())
                targets[f"{split}_targets"] = (y.cpu().double() + torch.from_numpy(more)).to(y)
        return replace(self, teacher=torch.from_numpy(teacher), **targets)

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Dataset:
        """Return the dataset with its samples in a precision and on a device; itself, if that is where they are."""
        names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
        moved = {n: None if (t := getattr(self, n)) is None else t.to(dtype=dtype, device=device) for n in names}
        there = all(moved[name] is getattr(self, name) for name in names)
        return self if there else replace(self, **moved)


@uniform()
def linear_teacher(
    in_dim: int,
    out_dim: int,
    params: Mapping[str, Any],
    *,
    rotate: bool = False,
    conjugate: bool = False,
    inputs: str = "gaussian",
    inputs_params: Mapping[str, Any] | None = None,
    inputs_basis: str = "coordinates",
    d_active: int | None = None,
    whiten: bool = False,
    train_samples: int = 100,
    test_samples: int = 100,
    noise_std: float = 0.0,
    online: bool = False,
    data_seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Dataset:
    """Make the dataset of a linear teacher T: inputs x, by default N(0, I), y = T x, plus noise on training targets.

    Noise is N(0, noise_std^2); test targets are noise-free. Teacher, its rotation, the basis of inputs, training
    inputs, training noise and test inputs each have their own stream under `data_seed`, drawn in float64 and rounded
    to `dtype` last. The arguments are the keys of `data` in a config.

    Raises:
        ConfigError: An argument does not fit; the message names the key of `data`.

    >>> dataset = linear_teacher(2, 2, {"matrix": "identity", "scale": 3.0}, noise_std=1.0)
    >>> torch.allclose(dataset.test_targets, 3 * dataset.test_inputs)
    True
    """
    outline = population(
        in_dim,
        out_dim,
        params,
        rotate=rotate,
        conjugate=conjugate,
        inputs=inputs,
        inputs_params=inputs_params,
        inputs_basis=inputs_basis,
        d_active=d_active,
        noise_std=noise_std,
        data_seed=data_seed,
    )
    dataset = drawn(
        outline,
        whiten=whiten,
        train_samples=None if online else train_samples,
        test_samples=test_samples,
        data_seed=data_seed,
    )
    return dataset.to(dtype, device)


@uniform()
def population(
    in_dim: int,
    out_dim: int,
    params: Mapping[str, Any],
    *,
    rotate: bool = False,
    conjugate: bool = False,
    inputs: str = "gaussian",
    inputs_params: Mapping[str, Any] | None = None,
    inputs_basis: str = "coordinates",
    d_active: int | None = None,
    noise_std: float = 0.0,
    data_seed: int = 0,
) -> Dataset:
    """Return a dataset of no samples yet: a teacher, noise, and the distribution of inputs; arguments as above."""
    if inputs_basis not in BASES:
        raise ConfigError(f"data.inputs_basis: no such choice as {inputs_basis!r}; {suggestion(inputs_basis, BASES)}")
    teacher = make_teacher(in_dim, out_dim, params, data_seed, rotate, conjugate)
    axes = input_directions(teacher) if inputs_basis == "teacher" else None
    source = make_inputs(in_dim, inputs, inputs_params, d_active, data_seed, axes)
    return Dataset(None, None, None, None, teacher, noise_std, source)


@uniform()
def drawn(outline: Dataset, *, whiten: bool, train_samples: int | None, test_samples: int, data_seed: int) -> Dataset:
    """Return a dataset of this teacher, noise and inputs with samples drawn, in float64 on the cpu.

    Args:
        outline: Its own samples are not looked at.
        whiten: Whether X'X/N of the training inputs is to be I.
        train_samples: Size of the training set; None: there is none, data are online.
        test_samples: Size of the test set.
        data_seed: Seed of all.
    """
    teacher, source = outline.teacher, outline.inputs
    assert teacher is not None
    assert source is not None
    if whiten:
        check_whiten(train_samples, source.active)
    x = source.draw(test_samples, stream(data_seed, "test inputs"))
    test = [torch.from_numpy(a) for a in (x, transform(teacher.numpy(), x))]
    dataset = Dataset(None, None, test[0], test[1], teacher, outline.noise_std, source)
    if train_samples is not None:
        x = source.draw(train_samples, stream(data_seed, "train inputs"), whiten)
        y = dataset.label(x, stream(data_seed, "train noise"))
        dataset = replace(dataset, train_inputs=torch.from_numpy(x), train_targets=torch.from_numpy(y))
    return dataset


def check_whiten(samples: int | None, dim: int) -> None:
    """Raise ConfigError where training inputs cannot be whitened.

    Args:
        samples: Size of the training set; None if data are online.
        dim: How many inputs are not always zero.
    """
    if samples is None:
        raise ConfigError("data.whiten needs a training set: set data.online=false or data.whiten=false")
    if samples < dim:
        raise ConfigError(
            f"data.whiten: {samples} samples cannot have covariance I in {dim} dimensions; "
            f"set data.train_samples={dim} or more"
        )


@uniform()
def load_dataset(
    path: str | Path, *, noise_std: float = 0.0, data_seed: int = 0, dims: tuple[int, int] | None = None
) -> Dataset:
    """Load one's own data, in float64, from an .npz file.

    Args:
        path: Holds train_inputs [N, in], train_targets [N, out], and, if there is a test set, test_inputs [M, in] and
            test_targets [M, out]; other arrays are not looked at.
        noise_std: Standard deviation of noise added to the training targets.
        data_seed: Seed of that noise.
        dims: What a model's input and output dimensions are that is to learn it.

    Raises:
        ConfigError: There is no such file; arrays are missing, do not fit together or the model, or contain NaN.
    """
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    try:
        found = load_arrays(path, names)
        arrays = [None if (a := found.get(name)) is None else np.asarray(a, np.float64) for name in names]
        dataset = Dataset.from_arrays(*arrays, dtype=torch.float64)
    except ConfigError as error:
        raise ConfigError(f"data.path: {error}") from error
    if dims is not None and dataset.dims != dims:
        raise ConfigError(
            f"data.path: {str(path)!r} has {dataset.dims[0]} inputs and {dataset.dims[1]} outputs a sample, but "
            f"model.in_dim={dims[0]} and model.out_dim={dims[1]}"
        )
    assert dataset.train_targets is not None
    noise = torch.from_numpy(stream(data_seed, "train noise").standard_normal(tuple(dataset.train_targets.shape)))
    return replace(dataset, train_targets=dataset.train_targets + noise_std * noise)


def teacher_of(data: Dataset) -> Float64[np.ndarray, "out in"]:
    """Return the map to be learned: the teacher, or the least-squares map of arrays that came without one.

    The latter is Sigma_yx Sigma^-1; where inputs do not span all dimensions, the one of least norm.

    Raises:
        ConfigError: There is neither a teacher nor a training set, or the latter is not finite.

    >>> teacher_of(Dataset.from_arrays([[1.0], [2.0]], [[3.0], [6.0]])).round(12).tolist()
    [[3.0]]
    """
    if data.teacher is not None:
        return data.teacher.cpu().numpy()
    if data.train_inputs is None or data.train_targets is None:
        raise ConfigError("data: there is neither a teacher nor a training set to fit a map to")
    inputs, targets = (t.double().cpu() for t in (data.train_inputs, data.train_targets))
    if not (inputs.isfinite().all() and targets.isfinite().all()):
        raise ConfigError("data: no map can be fitted to numbers too large for float32; set dtype=float64")
    with uniform():
        return np.linalg.lstsq(inputs.numpy(), targets.numpy())[0].T


def _columns(samples: Tensor) -> Tensor:
    """Return samples of one number each, [N], as [N, 1]."""
    return samples[:, None] if samples.ndim == 1 else samples
