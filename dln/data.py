"""Synthetic data: linear teachers, the datasets they label, and the batches drawn from them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from dln.config import check_batch_size
from dln.errors import ConfigError, ExtensionError
from dln.registry import Registry
from dln.streams import seeded_torch, stream

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

MATRICES = Registry("teacher matrix")


def register_matrix(name: str, defaults: Mapping[str, Any] | None = None):
    """Register `f(in_dim, out_dim, params) -> Tensor [out_dim, in_dim]` as a teacher: `data.params.matrix=name`.

    The function may take a fourth argument `rng`, a numpy Generator of the teacher's own stream; one that draws from
    torch's global generator reproduces too. With `defaults`, `params` is completed by them and any other key is an
    error; without, `params` is what the config gives under `data.params` (`matrix` itself left out).
    """
    return MATRICES.register(name, defaults)


@register_matrix("diagonal", defaults={"scale": 10.0, "spectrum": None})
def diagonal(in_dim: int, out_dim: int, params: Mapping[str, Any]) -> Float64[Tensor, "out in"]:
    """Singular values scale * spectrum on the diagonal; by default evenly spaced: scale * (1, (k-1)/k, ..., 1/k)."""
    k = min(in_dim, out_dim)
    spectrum = params["spectrum"]
    if spectrum is None:
        spectrum = [(k - i) / k for i in range(k)]
    numbers = isinstance(spectrum, list | tuple) and all(isinstance(s, int | float) for s in spectrum)
    if not numbers or len(spectrum) > k:
        raise ConfigError(f"data.params.spectrum must list at most {k} numbers, one a mode, not {spectrum!r}")
    return _on_diagonal(params["scale"] * np.array(spectrum, dtype=float), in_dim, out_dim)


@register_matrix("power_law", defaults={"scale": 10.0, "alpha": 1.0})
def power_law(in_dim: int, out_dim: int, params: Mapping[str, Any]) -> Float64[Tensor, "out in"]:
    """Singular values scale * i**-alpha, i = 1, 2, ..., on the diagonal."""
    modes = np.arange(1, min(in_dim, out_dim) + 1)
    return _on_diagonal(params["scale"] * modes ** -float(params["alpha"]), in_dim, out_dim)


@register_matrix("identity", defaults={"scale": 10.0})
def identity(in_dim: int, out_dim: int, params: Mapping[str, Any]) -> Float64[Tensor, "out in"]:
    """The map scale * I, all modes equal; square only."""
    if in_dim != out_dim:
        raise ConfigError(
            f"data.params.matrix: 'identity' needs model.in_dim == model.out_dim, not {in_dim} and {out_dim}; "
            "'diagonal' may be rectangular"
        )
    return _on_diagonal(np.full(in_dim, params["scale"], dtype=float), in_dim, out_dim)


@register_matrix("random_normal", defaults={"scale": 10.0})
def random_normal(
    in_dim: int, out_dim: int, params: Mapping[str, Any], rng: np.random.Generator
) -> Float64[Tensor, "out in"]:
    """Independent N(0, scale**2 / in_dim) entries: every output has standard deviation scale."""
    return torch.from_numpy(rng.standard_normal((out_dim, in_dim)) * params["scale"] / np.sqrt(in_dim))


@register_matrix("low_rank", defaults={"scale": 10.0, "rank": 2})
def low_rank(
    in_dim: int, out_dim: int, params: Mapping[str, Any], rng: np.random.Generator
) -> Float64[Tensor, "out in"]:
    """`rank` singular values scale * (1, (r-1)/r, ..., 1/r) between random orthonormal singular vectors."""
    rank = params["rank"]
    if not 1 <= rank <= min(in_dim, out_dim):
        raise ConfigError(f"data.params.rank must be between 1 and {min(in_dim, out_dim)}, not {rank}")
    left = np.linalg.qr(rng.standard_normal((out_dim, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((in_dim, rank)))[0]
    values = params["scale"] * (rank - np.arange(rank)) / rank
    return torch.from_numpy(left * values @ right.T)


def _on_diagonal(values: np.ndarray, in_dim: int, out_dim: int) -> Tensor:
    matrix = torch.zeros(out_dim, in_dim, dtype=torch.float64)
    index = torch.arange(len(values))
    matrix[index, index] = torch.from_numpy(values)
    return matrix


def make_teacher(in_dim: int, out_dim: int, params: Mapping[str, Any], data_seed: int) -> Float64[Tensor, "out in"]:
    """Return the teacher that `data.params` describes.

    Raises:
        ConfigError: Its name, parameters or dimensions do not fit.
        ExtensionError: A user's teacher raised, or returned something else than a finite [out_dim, in_dim] matrix.
    """
    if "matrix" not in params:
        raise ConfigError(f"data.params.matrix is missing; it names the teacher: {', '.join(MATRICES.names())}")
    entry = MATRICES.get(params["matrix"], "data.params.matrix")
    given = {key: value for key, value in params.items() if key != "matrix"}
    entry.check(given, "data.params")
    rng = stream(data_seed, "teacher")
    extra = [rng] if "rng" in inspect.signature(entry.function).parameters else []
    try:
        with seeded_torch(rng):
            matrix = entry(in_dim, out_dim, {**entry.defaults, **given}, *extra)
        matrix = torch.as_tensor(matrix, dtype=torch.float64)
    except ConfigError:
        raise
    except Exception as error:
        raise ExtensionError(f"teacher matrix {entry.name!r} failed: {error!r}") from error
    if tuple(matrix.shape) != (out_dim, in_dim) or not torch.isfinite(matrix).all():
        raise ExtensionError(
            f"teacher matrix {entry.name!r} must return a finite [out_dim, in_dim] = [{out_dim}, {in_dim}] tensor, "
            f"not one of shape {list(matrix.shape)}"
        )
    return matrix.detach()


@dataclass(frozen=True)
class Dataset:
    """What a run learns from. Inputs are [N, in], targets [N, out], all of one dtype and device.

    An online dataset has no training set: every batch is drawn afresh from `teacher` and `noise_std`.
    """

    train_inputs: Float[Tensor, "N in"] | None
    train_targets: Float[Tensor, "N out"] | None
    test_inputs: Float[Tensor, "M in"] | None
    test_targets: Float[Tensor, "M out"] | None
    teacher: Float64[Tensor, "out in"] | None = None
    noise_std: float = 0.0

    @property
    def dims(self) -> tuple[int, int]:
        """Input and output dimension."""
        if self.train_inputs is not None and self.train_targets is not None:
            return self.train_inputs.shape[1], self.train_targets.shape[1]
        if self.teacher is None:
            raise ConfigError("a dataset without training samples needs a teacher to draw batches from")
        return self.teacher.shape[1], self.teacher.shape[0]

    @property
    def online(self) -> bool:
        """Whether batches are drawn afresh instead of from a training set."""
        return self.train_inputs is None

    @classmethod
    def from_arrays(
        cls,
        train_inputs: Any,
        train_targets: Any,
        test_inputs: Any = None,
        test_targets: Any = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Dataset:
        """Make a dataset from one's own arrays or tensors; the test set may be left out.

        Raises:
            ConfigError: Shapes do not fit together, or there are NaN or infinite numbers.
        """
        arrays = {
            "train_inputs": train_inputs,
            "train_targets": train_targets,
            "test_inputs": test_inputs,
            "test_targets": test_targets,
        }
        tensors = {
            name: None if a is None else torch.as_tensor(np.asarray(a)).to(dtype=dtype, device=device)
            for name, a in arrays.items()
        }
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

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Dataset:
        """Return the dataset with its samples in another precision, on another device."""
        names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
        moved = {n: None if (t := getattr(self, n)) is None else t.to(dtype=dtype, device=device) for n in names}
        return replace(self, **moved)


def linear_teacher(
    in_dim: int,
    out_dim: int,
    params: Mapping[str, Any],
    *,
    train_samples: int = 100,
    test_samples: int = 100,
    noise_std: float = 0.0,
    online: bool = False,
    data_seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Dataset:
    """Make the dataset of a linear teacher T: x ~ N(0, I), y = T x, plus N(0, noise_std^2) on training targets.

    Test targets are noise-free. Teacher, training inputs, training noise and test inputs each have their own stream
    under `data_seed`, drawn in float64 and rounded to `dtype` last.
    """
    teacher = make_teacher(in_dim, out_dim, params, data_seed)
    matrix = teacher.numpy()
    test_inputs = stream(data_seed, "test inputs").standard_normal((test_samples, in_dim))
    test = [torch.from_numpy(a) for a in (test_inputs, teacher_outputs(matrix, test_inputs))]
    train: list[Tensor | None] = [None, None]
    if not online:
        inputs = stream(data_seed, "train inputs").standard_normal((train_samples, in_dim))
        noise = stream(data_seed, "train noise").standard_normal((train_samples, out_dim))
        targets = teacher_outputs(matrix, inputs) + noise_std * noise
        train = [torch.from_numpy(inputs), torch.from_numpy(targets)]
    return Dataset(train[0], train[1], test[0], test[1], teacher, noise_std).to(dtype, device)


def teacher_outputs(teacher: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Return inputs @ teacher.T, [N, out], summed input by input.

    BLAS sums in an order that depends on how many samples it is given; this way a sample's target has the same digits
    whether it is drawn alone or among thousands.
    """
    outputs = np.zeros((len(inputs), len(teacher)))
    for k in range(inputs.shape[1]):
        outputs += inputs[:, k : k + 1] * teacher[:, k]
    return outputs


class Batches(Protocol):
    """An endless supply of batches; setting `batch_size` starts a new epoch from the same stream."""

    @property
    def batch_size(self) -> int | None:
        """Samples a batch; None is the full batch."""
        ...

    @batch_size.setter
    def batch_size(self, size: int | None) -> None: ...

    def draw(self) -> tuple[Float[Tensor, "B in"], Float[Tensor, "B out"]]:
        """Return the next batch: inputs and targets."""
        ...


class OfflineBatches:
    """Batches of a training set: every epoch a new permutation, its last batch short where the size does not divide N.

    With the full batch (size None or N) there is nothing to draw and the stream is not touched.
    """

    def __init__(
        self, inputs: Float[Tensor, "N in"], targets: Float[Tensor, "N out"], batch_size: int | None, batch_seed: int
    ) -> None:
        """Take the training set, the size of a batch, and the seed of the order."""
        self._inputs, self._targets = inputs, targets
        self._rng = stream(batch_seed, "batch order")
        self.batch_size = batch_size

    @property
    def batch_size(self) -> int | None:
        """Samples a batch; None is the full batch."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        check_batch_size(size, len(self._inputs))
        self._batch_size = size
        self._order = torch.empty(0, dtype=torch.int64)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: inputs and targets."""
        size = self._batch_size
        if size is None or size == len(self._inputs):
            return self._inputs, self._targets
        if len(self._order) == 0:
            self._order = torch.from_numpy(self._rng.permutation(len(self._inputs))).to(self._inputs.device)
        batch, self._order = self._order[:size], self._order[size:]
        return self._inputs[batch], self._targets[batch]


class OnlineBatches:
    """Fresh samples of a teacher for every batch: inputs and noise from two streams under `batch_seed`."""

    def __init__(
        self,
        teacher: Float64[Tensor, "out in"],
        noise_std: float,
        batch_size: int | None,
        batch_seed: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take the teacher, the noise on its outputs, the size of a batch, and the seed of the draws."""
        self._teacher = teacher.cpu().numpy()
        self._noise_std = noise_std
        self._inputs = stream(batch_seed, "online inputs")
        self._noise = stream(batch_seed, "online noise")
        self._to = {"dtype": dtype, "device": device}
        self.batch_size = batch_size

    @property
    def batch_size(self) -> int | None:
        """Samples a batch."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, size: int | None) -> None:
        check_batch_size(size, None)
        self._batch_size = cast(int, size)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the next batch: inputs and targets."""
        out_dim, in_dim = self._teacher.shape
        inputs = self._inputs.standard_normal((self._batch_size, in_dim))  # [B, in]
        noise = self._noise.standard_normal((self._batch_size, out_dim))  # [B, out]
        targets = teacher_outputs(self._teacher, inputs) + self._noise_std * noise
        return torch.from_numpy(inputs).to(**self._to), torch.from_numpy(targets).to(**self._to)


def make_batches(dataset: Dataset, batch_size: int | None, batch_seed: int, like: Tensor) -> Batches:
    """Return the batches of a dataset, online or offline, in the dtype and on the device of `like`."""
    if dataset.train_inputs is not None and dataset.train_targets is not None:
        return OfflineBatches(dataset.train_inputs, dataset.train_targets, batch_size, batch_seed)
    if dataset.teacher is None:
        raise ConfigError("a dataset without training samples needs a teacher to draw batches from")
    return OnlineBatches(dataset.teacher, dataset.noise_std, batch_size, batch_seed, like.dtype, like.device)
