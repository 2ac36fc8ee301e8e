"""Layers and what they make together, and how far they have gone from where they began."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.stacked import as_tensor, finite, frobenius, inner, matmul, singular_values_of, summed, values_of
from dln.measure.metric import Top, model_metric, two_layers

if TYPE_CHECKING:
    from jaxtyping import Float64


@model_metric("layer_singular_values", cost="moderate", batched=True)
def layer_singular_values(weights: list[Tensor], top: Top = None) -> dict[str, Float64[Tensor, "*R k"]]:
    """Singular values of every layer, a column each, largest first; only the first `top` if that is given.

    >>> import torch
    >>> layer_singular_values([torch.tensor([[0.0, 3.0], [1.0, 0.0]])])["1"].tolist()
    [3.0, 1.0]
    """
    return {str(i): singular_values_of(w)[..., :top] for i, w in enumerate(weights, start=1)}


@model_metric("partial_singular_values", cost="moderate", batched=True)
def partial_singular_values(partial_products: list[Tensor], top: Top = None) -> dict[str, Float64[Tensor, "*R k"]]:
    """Singular values of W_1, W_2 W_1, ..., W_L ... W_1, a column each, largest first; the first `top` if given."""
    return {str(i): singular_values_of(p)[..., :top] for i, p in enumerate(partial_products, start=1)}


@model_metric("product_singular_values", cost="moderate", batched=True, needs=two_layers)
def product_singular_values(weights: list[Tensor], top: Top = None) -> dict[str, Float64[Tensor, "*R k"]]:
    """Singular values of all products P(i, j) = W_j ... W_i, i < j, a column i_j each; the first `top` if given.

    >>> import torch
    >>> two, three, five = (torch.tensor([[x]]) for x in (2.0, 3.0, 5.0))
    >>> {name: values.item() for name, values in product_singular_values([two, three, five]).items()}
    {'1_2': 6.0, '1_3': 30.0, '2_3': 15.0}
    """
    found = {}
    for i in range(len(weights) - 1):
        products = accumulate(weights[i:], lambda below, w: matmul(w, below))
        found |= {f"{i + 1}_{j}": p for j, p in enumerate(products, start=i + 1) if j > i + 1}
    return {name: singular_values_of(p)[..., :top] for name, p in found.items()}


@model_metric("layer_gram_norms", cost="moderate", batched=True)
def layer_gram_norms(weights: list[Tensor]) -> Float64[Tensor, "*R L"]:
    """Frobenius norms ||W_l' W_l||_F = ||W_l W_l'||_F, layer by layer.

    >>> import torch
    >>> layer_gram_norms([torch.tensor([[3.0, 4.0]])]).tolist()
    [25.0]
    """
    smaller = [w if w.shape[-2] <= w.shape[-1] else w.mT for w in weights]
    return torch.stack([frobenius(matmul(w, w.mT)) for w in smaller], -1)


@model_metric("start_distance", cost="moderate", batched=True)
def start_distance(model: Any, start: Any, relative: bool = False) -> Float64[Tensor, "*R"]:
    """Distance ||theta - theta_0|| from the initial parameters; `relative`: divided by ||theta_0||."""
    pairs = [(values_of(a), values_of(b), 2) for a, b in zip(model.weights, start.weights, strict=True)]
    pairs += [(values_of(a), values_of(b), 1) for a, b in zip(model.biases, start.biases, strict=True)]
    gone = summed(inner(a - b, a - b, dims) for a, b, dims in pairs).sqrt()
    return gone / finite(summed(inner(b, b, dims) for _, b, dims in pairs)).sqrt() if relative else gone


@model_metric("update_norm", cost="moderate", batched=True)
def update_norm(last_update: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Length ||theta_s - theta_{s-1}|| of the last update, with what callbacks changed; NaN at step 0.

    >>> import torch
    >>> update_norm([torch.tensor([[3.0]]), torch.tensor([[4.0]])]).item()
    5.0
    """
    return _length(last_update)


@model_metric("update_angle", cost="moderate", batched=True)
def update_angle(last_update: list[Tensor], update_before: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Angle, in radians, between the last two updates; NaN at steps 0 and 1, and where one of them is zero.

    >>> import torch
    >>> round((update_angle([torch.tensor([[1.0, 1.0]])], [torch.tensor([[2.0, 0.0]])]) / torch.pi).item(), 12)
    0.25
    """
    return angle(last_update, update_before)


def angle(a: list[Tensor], b: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Angle between all numbers of a and all of b, layers [*R, out, n] each; NaN where one of them is all zero."""
    sizes = [finite(_length(layers))[..., None, None] for layers in (a, b)]
    pairs = [(x / sizes[0], y / sizes[1]) for x, y in zip(a, b, strict=True)]
    # Half the angle of unit vectors has the tangent ||x - y|| / ||x + y||, exact for small angles too (Kahan).
    sides = (_length([x + sign * y for x, y in pairs]).numpy() for sign in (-1, 1))
    return as_tensor(2 * np.arctan2(*sides))  # torch's digits depend on how many there are


def _length(layers: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Euclidean length over all layers [*R, out, n]."""
    return summed(inner(x, x, 2) for x in layers).sqrt()
