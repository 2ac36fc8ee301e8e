"""What several metrics share: a metric that names one of these as an argument receives it, found once a record.

The compiled engine finds them for all members at once while their weights are at hand (`dln.ensemble.summary`), so a
metric of quantities alone costs next to nothing there. Here is what they are: leading dimensions, if any, are members
of an ensemble, and sums are taken in float64 whatever the weights' own precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dln.model import product

if TYPE_CHECKING:
    from jaxtyping import Float64

    from dln.model import DeepLinearNetwork


def weight_squares(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """||W_l||_F^2 of every layer."""
    return torch.stack([inner(w, w, 2) for w in model.weights], -1)


def bias_squares(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """||b_l||^2 of every layer; zeros for a network without biases."""
    if not model.biases:
        return torch.zeros_like(weight_squares(model))
    return torch.stack([inner(b, b, 1) for b in model.biases], -1)


def gradient_squares(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """||dLoss/dW_l||_F^2 + ||dLoss/db_l||^2 of every layer, the loss being that of the step's batch."""
    layers = [inner(_gradient(w), _gradient(w), 2) for w in model.weights]
    for i, b in enumerate(model.biases):
        layers[i] = layers[i] + inner(_gradient(b), _gradient(b), 1)
    return torch.stack(layers, -1)


def end_to_end(model: DeepLinearNetwork) -> Float64[Tensor, "*R out in"]:
    """The end-to-end map W = W_L ... W_1."""
    return product([w.double() for w in model.weights])


def difference_squares(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """||theta_a - theta_b||^2 over all parameters."""
    gaps = [(a.double() - b.double(), dims) for a, b, dims in _pairs(model_a, model_b)]
    return sum((inner(gap, gap, dims) for gap, dims in gaps), torch.zeros(()))


def inner_products(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R 3"]:
    """<theta_a, theta_b>, ||theta_a||^2, ||theta_b||^2 over all parameters, summed in one order: equal for a = b."""
    pairs = _pairs(model_a, model_b)
    sums = [[inner(x, y, d) for x, y, d in ((a, b, d), (a, a, d), (b, b, d))] for a, b, d in pairs]
    return torch.stack([sum(column, torch.zeros(())) for column in zip(*sums, strict=True)], -1)


MODEL_QUANTITIES: dict[str, Callable[..., Tensor]] = {
    f.__name__: f for f in (weight_squares, bias_squares, gradient_squares, end_to_end)
}
"""Of one model. A metric of a pair receives them as `weight_squares_a`, `weight_squares_b` and so on."""

PAIR_QUANTITIES: dict[str, Callable[..., Tensor]] = {f.__name__: f for f in (difference_squares, inner_products)}
"""Of two models of equal shapes."""


def inner(a: Tensor, b: Tensor, dims: int) -> Tensor:
    """Inner product over the last `dims` dimensions, summed in float64 and in one order, however the tensors lie."""
    a, b = (x.double().contiguous().flatten(-dims) for x in (a, b))
    return torch.linalg.vecdot(a, b)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _pairs(a: DeepLinearNetwork, b: DeepLinearNetwork) -> list[tuple[Tensor, Tensor, int]]:
    """Parameters of two models side by side, with the number of each one's own, trailing dimensions."""
    weights = [(p, q, 2) for p, q in zip(a.weights, b.weights, strict=True)]
    return weights + [(p, q, 1) for p, q in zip(a.biases, b.biases, strict=True)]
