"""Linear teachers: the maps that targets come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.arithmetic import uniform
from dln.base.arrays import load_arrays
from dln.base.registry import Registry
from dln.base.streams import seeded_torch, stream
from dln.errors import ConfigError, ExtensionError, suggestion
from dln.ingredients.random_matrices import haar

if TYPE_CHECKING:
    from jaxtyping import Float64

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
    """Singular values scale * spectrum on the diagonal; by default evenly spaced: scale * (1, (k-1)/k, ..., 1/k).

    >>> diagonal(3, 2, {"scale": 10.0, "spectrum": None}).tolist()
    [[10.0, 0.0, 0.0], [0.0, 5.0, 0.0]]
    """
    k = min(in_dim, out_dim)
    spectrum = params["spectrum"]
    if spectrum is None:
        spectrum = [(k - i) / k for i in range(k)]
    return _on_diagonal(params["scale"] * _listed(spectrum, k, "spectrum"), in_dim, out_dim)


@register_matrix("power_law", defaults={"scale": 10.0, "alpha": 1.0})
def power_law(in_dim: int, out_dim: int, params: Mapping[str, Any]) -> Float64[Tensor, "out in"]:
    """Singular values scale * i**-alpha, i = 1, 2, ..., on the diagonal.

    >>> power_law(3, 3, {"scale": 6.0, "alpha": 1.0}).diag().tolist()
    [6.0, 3.0, 2.0]
    """
    modes = np.arange(1, min(in_dim, out_dim) + 1)
    return _on_diagonal(params["scale"] * modes ** -float(params["alpha"]), in_dim, out_dim)


@register_matrix("power_law_topk", defaults={"scale": 10.0, "alpha": 1.0, "k": 2})
def power_law_topk(in_dim: int, out_dim: int, params: Mapping[str, Any]) -> Float64[Tensor, "out in"]:
    """The first `k` modes of power_law, all others zero.

    Raises:
        ConfigError: `k` is not between 1 and the smaller dimension.

    >>> power_law_topk(3, 3, {"scale": 6.0, "alpha": 1.0, "k": 2}).diag().tolist()
    [6.0, 3.0, 0.0]
    """
    k = params["k"]
    if not 1 <= k <= min(in_dim, out_dim):
        raise ConfigError(f"data.params.k must be between 1 and {min(in_dim, out_dim)}, not {k}")
    modes = np.arange(1, k + 1)
    return _on_diagonal(params["scale"] * modes ** -float(params["alpha"]), in_dim, out_dim)


@register_matrix("identity", defaults={"scale": 10.0})
def identity(in_dim: int, out_dim: int, params: Mapping[str, Any]) -> Float64[Tensor, "out in"]:
    """The map scale * I, all modes equal; square only.

    Raises:
        ConfigError: The dimensions differ.
    """
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
    """`rank` singular values scale * (1, (r-1)/r, ..., 1/r) between random orthonormal singular vectors.

    Raises:
        ConfigError: `rank` is not between 1 and the smaller dimension.

    >>> teacher = low_rank(4, 3, {"scale": 10.0, "rank": 2}, np.random.default_rng(0))
    >>> torch.linalg.svdvals(teacher).round(decimals=9).tolist()
    [10.0, 5.0, 0.0]
    """
    rank = params["rank"]
    if not 1 <= rank <= min(in_dim, out_dim):
        raise ConfigError(f"data.params.rank must be between 1 and {min(in_dim, out_dim)}, not {rank}")
    left = np.linalg.qr(rng.standard_normal((out_dim, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((in_dim, rank)))[0]
    values = params["scale"] * (rank - np.arange(rank)) / rank
    return torch.from_numpy(left * values @ right.T)


@register_matrix("random_orthogonal", defaults={"scale": 10.0})
def random_orthogonal(
    in_dim: int, out_dim: int, params: Mapping[str, Any], rng: np.random.Generator
) -> Float64[Tensor, "out in"]:
    """Random (Haar) matrix with orthonormal columns, or rows where those are fewer, times scale.

    >>> teacher = random_orthogonal(4, 3, {"scale": 2.0}, np.random.default_rng(0))
    >>> np.allclose(teacher @ teacher.T, 4 * np.eye(3))
    True
    """
    return torch.from_numpy(params["scale"] * haar(out_dim, in_dim, rng))


@register_matrix("singular_values", defaults={"values": None, "scale": 1.0})
def singular_values(
    in_dim: int, out_dim: int, params: Mapping[str, Any], rng: np.random.Generator
) -> Float64[Tensor, "out in"]:
    """Singular values scale * values between random orthonormal singular vectors; any that are not given are zero.

    Raises:
        ConfigError: `values` are negative, or more than the smaller dimension.

    >>> teacher = singular_values(4, 3, {"values": [5, 2], "scale": 1.0}, np.random.default_rng(0))
    >>> torch.linalg.svdvals(teacher).round(decimals=9).tolist()
    [5.0, 2.0, 0.0]
    """
    values = _listed(params["values"], min(in_dim, out_dim), "values")
    if (values < 0).any():
        raise ConfigError(f"data.params.values: singular values are not negative, as in {params['values']}")
    left, right = haar(out_dim, len(values), rng), haar(in_dim, len(values), rng)
    return torch.from_numpy(left * (params["scale"] * values) @ right.T)


@register_matrix("file", defaults={"path": None, "key": None, "scale": 1.0})
def file(in_dim: int, out_dim: int, params: Mapping[str, Any]) -> Float64[Tensor, "out in"]:
    """An array [out, in] from a file, .npy or .npz, times scale; `key` names one of several arrays of an .npz.

    Raises:
        ConfigError: There is no such file or array, or its shape or numbers do not fit.
    """
    path, key = params["path"], params["key"]
    if not isinstance(path, str):
        raise ConfigError("data.params.path is missing: the .npy or .npz file that holds the teacher")
    try:
        arrays = load_arrays(path)
    except ConfigError as error:
        raise ConfigError(f"data.params.path: {error}") from error
    if key is None and len(arrays) == 1:
        (key,) = arrays
    if not isinstance(key, str) or key not in arrays:
        what = f"{len(arrays)} arrays" if key is None else f"no array {key!r}"
        raise ConfigError(f"data.params.key: {path!r} has {what}; {suggestion(key, arrays)}")
    matrix = np.asarray(arrays[key], dtype=float)
    if matrix.shape != (out_dim, in_dim):
        raise ConfigError(
            f"data.params.path: a teacher of [model.out_dim, model.in_dim] = [{out_dim}, {in_dim}] is needed, "
            f"but {path!r} has one of {list(matrix.shape)}"
        )
    if not np.isfinite(matrix).all():
        raise ConfigError(f"data.params.path: the teacher in {path!r} contains NaN or infinite numbers")
    return torch.from_numpy(params["scale"] * matrix)


def _listed(values: Any, most: int, parameter: str) -> Float64[np.ndarray, " k"]:
    """Return a parameter that lists at most one number a mode."""
    numbers = isinstance(values, list | tuple) and all(isinstance(v, int | float) for v in values)
    if not numbers or len(values) > most or not np.isfinite(values).all():
        raise ConfigError(f"data.params.{parameter} must list at most {most} numbers, one a mode, not {values!r}")
    return np.array(values, dtype=float)


def _on_diagonal(values: np.ndarray, in_dim: int, out_dim: int) -> Tensor:
    matrix = torch.zeros(out_dim, in_dim, dtype=torch.float64)
    index = torch.arange(len(values))
    matrix[index, index] = torch.from_numpy(values)
    return matrix


@uniform()
def make_teacher(
    in_dim: int,
    out_dim: int,
    params: Mapping[str, Any],
    data_seed: int,
    rotate: bool = False,
    conjugate: bool = False,
) -> Float64[Tensor, "out in"]:
    """Return the teacher T that `data.params` describes, turned if asked for.

    `rotate` makes it U T V', with the same singular values; `conjugate` makes it O' T O, with the same eigenvalues too.
    U, V and O are uniform (Haar), O from a stream of its own.

    Raises:
        ConfigError: Its name, parameters or dimensions do not fit.
        ExtensionError: A user's teacher raised, or returned something else than a finite [out_dim, in_dim] matrix.

    >>> make_teacher(2, 2, {"matrix": "identity", "scale": 3.0}, data_seed=0).tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """
    check_turned(in_dim, out_dim, rotate, conjugate)
    if "matrix" not in params:
        raise ConfigError(f"data.params.matrix is missing; it names the teacher: {', '.join(MATRICES.names())}")
    entry = MATRICES.get(params["matrix"], "data.params.matrix")
    given = {key: value for key, value in params.items() if key != "matrix"}
    entry.check(given, "data.params")
    rng = stream(data_seed, "teacher")
    arguments = in_dim, out_dim, {**entry.defaults, **given}, *([rng] if "rng" in entry.asks_for else [])
    with seeded_torch(rng):
        what = f"teacher matrix {entry.name!r}"
        matrix = entry.call(what, *arguments, named={}, read=lambda value: torch.as_tensor(value, dtype=torch.float64))
    if tuple(matrix.shape) != (out_dim, in_dim):
        raise ExtensionError(
            f"teacher matrix {entry.name!r} must return a finite [out_dim, in_dim] = [{out_dim}, {in_dim}] tensor, "
            f"not one of shape {list(matrix.shape)}"
        )
    if not torch.isfinite(matrix).all():
        raise entry.too_large("data.params", given)
    matrix = matrix.detach()
    if rotate:
        rng = stream(data_seed, "teacher rotation")
        left, right = haar(out_dim, out_dim, rng), haar(in_dim, in_dim, rng)
        matrix = torch.from_numpy(left @ matrix.numpy() @ right.T)
    if conjugate:
        turn = haar(in_dim, in_dim, stream(data_seed, "teacher conjugation"))
        matrix = torch.from_numpy(turn.T @ matrix.numpy() @ turn)
    return matrix


def check_turned(in_dim: int, out_dim: int, rotate: bool, conjugate: bool) -> None:
    """Raise ConfigError where a teacher cannot be turned as `data.rotate` and `data.conjugate` say."""
    if conjugate and rotate:
        raise ConfigError("data.conjugate: O' T O and U T V' are two ways to turn a teacher; set data.rotate=false")
    if conjugate and in_dim != out_dim:
        raise ConfigError(
            f"data.conjugate: O' T O needs model.in_dim == model.out_dim, not {in_dim} and {out_dim}; "
            "data.rotate=true turns any teacher"
        )


@uniform()
def input_directions(teacher: Float64[Tensor, "out in"]) -> Float64[np.ndarray, "in in"]:
    """Return the teacher's right singular vectors in columns, by falling singular value, those of zero last.

    The largest entry of each is positive; those of equal singular values, zero among them, are some orthonormal basis
    of what these span.

    >>> input_directions(torch.tensor([[0.0, -3.0, 0.0], [2.0, 0.0, 0.0]])).tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    right = np.linalg.svd(teacher.numpy())[2].T
    largest = right[np.abs(right).argmax(0), np.arange(len(right))]
    return right * np.where(largest < 0, -1.0, 1.0) + 0.0  # no negative zeros
