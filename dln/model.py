"""The deep linear network: W = W_L ... W_1, optionally with biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from dln.base.arrays import load_arrays
from dln.base.files import placing
from dln.errors import ConfigError
from dln.ingredients.initialisations import draw_initial
from dln.utils import as_tensors

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import ArrayLike


class DeepLinearNetwork(nn.Module):
    """Stacked linear layers without activations, f(x) = W_L ... W_1 x.

    The weights of layer l are drawn from N(0, std_l^2) with std_l = width**(-gamma / 2) (arXiv 2106.15933), where width
    is that of the hidden layer it reads from (the first layer: that it writes to). gamma only rescales the same draws:
    each layer has its own stream of random numbers under `model_seed`. Biases start at zero.

    >>> model = DeepLinearNetwork(in_dim=3, hidden_dim=8, num_hidden=2, out_dim=2)
    >>> [tuple(w.shape) for w in model.weights]
    [(8, 3), (8, 8), (2, 8)]
    >>> DeepLinearNetwork.from_weights([[[1.0, 2.0]], [[3.0]]]).end_to_end().tolist()
    [[3.0, 6.0]]
    """

    def __init__(
        self,
        in_dim: int = 5,
        hidden_dim: int | Sequence[int] = 50,
        num_hidden: int = 3,
        out_dim: int = 5,
        *,
        gamma: float = 1.0,
        bias: bool = False,
        model_seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """Draw a network.

        Args:
            in_dim: Input dimension.
            hidden_dim: Width of all hidden layers, or a list with one width a layer.
            num_hidden: Number of hidden layers; weight matrices are one more.
            out_dim: Output dimension.
            gamma: Exponent of the initial scale.
            bias: Add biases.
            model_seed: Seed of the draws.
            dtype: Precision, to which draws in float64 are rounded.
            device: Where the weights live.

        Raises:
            ConfigError: The widths are not positive whole numbers, or not as many as there are hidden layers.
        """
        weights = draw_initial(in_dim, hidden_dim, num_hidden, out_dim, gamma=gamma, seed=model_seed)
        biases = [np.zeros(len(w)) for w in weights] if bias else None
        self._assign([torch.from_numpy(w) for w in weights], biases, dtype, device)

    @classmethod
    def from_weights(
        cls,
        weights: Sequence[ArrayLike | Float[Tensor, "out in"]],
        biases: Sequence[ArrayLike | Float[Tensor, " out"]] | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        check: bool = True,
    ) -> DeepLinearNetwork:
        """Build a network from its own weights [W_1, ..., W_L] (copied), and biases if it is to have any.

        It computes in their precision (float32 if all are float32, else float64), unless `dtype` is given.
        With `check` false the weights are taken as they are, finite or not.

        Raises:
            ConfigError: The shapes do not chain, or a weight is not a matrix of finite numbers.
        """
        layers = as_tensors([*weights, *(biases or ())], dtype)
        matrices, vectors = layers[: len(weights)], None if biases is None else layers[len(weights) :]
        check_chain([tuple(w.shape) for w in matrices], None if vectors is None else [tuple(b.shape) for b in vectors])
        if check and not all(torch.isfinite(p).all() for p in (*matrices, *(vectors or ()))):
            raise ConfigError("weights contain NaN or infinite numbers")
        model = cls.__new__(cls)
        model._assign(matrices, vectors, dtype or matrices[0].dtype, device)
        return model

    def _assign(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[ArrayLike | Tensor] | None,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for i, w in enumerate(weights):
            n_out, n_in = w.shape
            layer = _Layer(n_in, n_out, bias=biases is not None, dtype=dtype, device=device)
            with torch.no_grad():
                layer.weight.copy_(w)
                if biases is not None:
                    layer.bias.copy_(torch.as_tensor(biases[i]))
            self.layers.append(layer)

    def forward(self, inputs: Float[Tensor, "B in"]) -> Float[Tensor, "B out"]:
        """Return the outputs for a batch of inputs."""
        return self.layers(inputs)

    @property
    def weights(self) -> list[Float[Tensor, "out in"]]:
        """The weight matrices W_1, ..., W_L."""
        return [cast(nn.Linear, layer).weight for layer in self.layers]

    @property
    def biases(self) -> list[Float[Tensor, " out"]]:
        """The biases b_1, ..., b_L; empty for a network without."""
        biases: list[Tensor | None] = [cast(nn.Linear, layer).bias for layer in self.layers]
        return [b for b in biases if b is not None]

    @property
    def shapes(self) -> list[list[int]]:
        """Shapes of all parameters, layer by layer."""
        return [list(p.shape) for p in self.parameters()]

    def end_to_end(self) -> Float[Tensor, "out in"]:
        """Return the product W_L ... W_1."""
        return product(self.weights)


class _Layer(nn.Linear):
    """A linear layer without torch's own initialisation, which draws from its global generator."""

    def reset_parameters(self) -> None:
        """Leave the parameters as they are: the network sets them."""


def product(weights: Sequence[Float[Tensor, "*R out in"]]) -> Float[Tensor, "*R out in"]:
    """Return W_L ... W_1, whatever leading dimensions the weights share."""
    result = weights[0]
    for w in weights[1:]:
        result = w @ result
    return result


def save_weights(model: DeepLinearNetwork, path: Path, more: Mapping[str, np.ndarray] | None = None) -> None:
    """Save the weights as arrays W1, ..., WL and b1, ..., bL of an .npz file, written beside and renamed into place.

    Args:
        model: The network.
        path: The file.
        more: Further arrays, by other names.
    """
    arrays = {f"W{i}": w.detach().cpu().numpy() for i, w in enumerate(model.weights, start=1)}
    arrays |= {f"b{i}": b.detach().cpu().numpy() for i, b in enumerate(model.biases, start=1)}
    arrays |= more or {}
    path.parent.mkdir(parents=True, exist_ok=True)
    with placing(path) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_weights(path: str | Path) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Read what `save_weights` wrote: the weights, and the biases or None.

    Raises:
        ConfigError: There is no such file, or it is not a checkpoint.
    """
    arrays = load_arrays(path)
    count = sum(name.startswith("W") for name in arrays)
    try:
        weights = [arrays[f"W{i}"] for i in range(1, count + 1)]
        biases = [arrays[f"b{i}"] for i in range(1, count + 1)] if "b1" in arrays else None
    except KeyError as error:
        raise ConfigError(f"{str(path)!r} has no array {error}") from None
    if not weights:
        raise ConfigError(f"{str(path)!r} holds no arrays W1, W2, ...")
    return weights, biases


def check_chain(shapes: Sequence[tuple[int, ...]], bias_shapes: Sequence[tuple[int, ...]] | None) -> None:
    """Raise ConfigError unless matrices of these shapes can be multiplied, W_L ... W_1, and biases fit.

    >>> check_chain([(3, 2), (1, 3)], None)
    >>> check_chain([(3, 2), (1, 4)], None)
    Traceback (most recent call last):
    dln.errors.ConfigError: W2 [1, 4] cannot follow W1 [3, 2]: shapes are [out, in]
    """
    if not shapes or (bias_shapes is not None and len(bias_shapes) != len(shapes)):
        raise ConfigError(f"{len(shapes)} weights and {len(bias_shapes or ())} biases do not make a network")
    for i, shape in enumerate(shapes, start=1):
        if len(shape) != 2 or 0 in shape:
            raise ConfigError(f"W{i} has shape {shape}; a weight is a matrix [out, in]")
        if i > 1 and shape[1] != shapes[i - 2][0]:
            raise ConfigError(f"W{i} {list(shape)} cannot follow W{i - 1} {list(shapes[i - 2])}: shapes are [out, in]")
        if bias_shapes is not None and bias_shapes[i - 1] != (shape[0],):
            raise ConfigError(f"b{i} has shape {list(bias_shapes[i - 1])} but W{i} has {shape[0]} outputs")
