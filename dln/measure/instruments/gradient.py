"""The gradient: its size, all in all and layer by layer, and where it points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from dln.base.stacked import cosine, inner, summed
from dln.measure.metric import model_metric
from dln.measure.scope import SETS, SETS_OR_BATCH

if TYPE_CHECKING:
    from jaxtyping import Float64


@model_metric("gradient_layer_norms", cost="cheap", batched=True, sets=SETS_OR_BATCH)
def gradient_layer_norms(gradient_squares: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R L"]:
    """`gradient_norm` layer by layer."""
    return gradient_squares.sqrt()


@model_metric("drift", cost="moderate", loss="mse", batched=True, sets=SETS)
def drift(whole_gradients: list[Tensor]) -> Float64[Tensor, "*R"]:
    """||g||^2, g the gradient of the loss over the training set: what gradient flow takes from the loss in unit time.

    >>> import torch
    >>> drift([torch.tensor([[3.0, 4.0]])]).item()
    25.0
    """
    return summed(inner(g, g, 2) for g in whole_gradients)


@model_metric("gradient_alignment", cost="moderate", batched=True, sets=SETS_OR_BATCH)
def gradient_alignment(weights: list[Tensor], gradients: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Cosine between the weights and minus their gradient: positive where the step makes the weights grow.

    >>> import torch
    >>> gradient_alignment([torch.tensor([[3.0, 4.0]])], [torch.tensor([[0.0, -1.0]])]).item()
    0.8
    """
    slopes = [g[..., : w.shape[-1]].contiguous() for g, w in zip(gradients, weights, strict=True)]
    along = summed(inner(w, g, 2) for w, g in zip(weights, slopes, strict=True))
    return -cosine(along, summed(inner(w, w, 2) for w in weights), summed(inner(g, g, 2) for g in slopes))
