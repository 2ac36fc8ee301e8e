"""The metrics of everyday: norms, the end-to-end map, balance; and distances of two models.

More are in `dln.measure.instruments`. All accumulate in float64 whatever the weights' own precision.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

import dln.measure.instruments  # noqa: F401  registers what is there
from dln.base.stacked import cosine, frobenius, matmul, total
from dln.measure.metric import (
    COMPARATIVE_METRICS,
    MODEL_METRICS,
    Metric,
    MetricData,
    Top,
    Value,
    build_metrics,
    check_lanes,
    comparative_metric,
    equal_shapes,
    keeps_time,
    looks_back,
    model_metric,
    two_layers,
)
from dln.measure.scope import SETS_OR_BATCH

if TYPE_CHECKING:
    from jaxtyping import Float64

__all__ = [
    "COMPARATIVE_METRICS",
    "MODEL_METRICS",
    "Metric",
    "MetricData",
    "Value",
    "build_metrics",
    "check_lanes",
    "comparative_metric",
    "keeps_time",
    "looks_back",
    "model_metric",
]


# --- metrics of one model ---------------------------------------------------------------------------------------------


@model_metric("time", cost="cheap", batched=True)
def time(time: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """Learning rates of all updates so far, summed: lr * step where the rate is constant; the time of gradient flow.

    >>> time(torch.tensor(0.5)).item()
    0.5
    """
    return time


@model_metric("weight_norm", cost="cheap", batched=True)
def weight_norm(
    weight_squares: Float64[Tensor, "*R L"], bias_squares: Float64[Tensor, "*R L"]
) -> Float64[Tensor, "*R"]:
    """Euclidean norm of all parameters, sqrt(sum_l ||W_l||_F^2), biases included.

    >>> weight_norm(torch.tensor([9.0, 16.0]), torch.tensor([0.0, 0.0])).item()
    5.0
    """
    return total(weight_squares + bias_squares).sqrt()


@model_metric("full_train_loss", cost="moderate", batched=True, loss="mse", sets=("train",))
def full_train_loss(mean_square: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """Mean squared error on the whole training set; `train_loss` is that of the step's batch."""
    return mean_square


@model_metric("gradient_norm", cost="cheap", batched=True, sets=SETS_OR_BATCH)
def gradient_norm(gradient_squares: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R"]:
    """Euclidean norm of the gradient over all parameters, of the loss on the step's batch, or on a whole set.

    >>> gradient_norm(torch.tensor([9.0, 16.0])).item()
    5.0
    """
    return total(gradient_squares).sqrt()


@model_metric("layer_norms", cost="cheap", batched=True)
def layer_norms(weight_squares: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R L"]:
    """Frobenius norms ||W_1||, ..., ||W_L||."""
    return weight_squares.sqrt()


@model_metric("end_to_end_norm", cost="cheap", batched=True)
def end_to_end_norm(end_to_end: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R"]:
    """Frobenius norm of the end-to-end map W = W_L ... W_1.

    >>> end_to_end_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]])).item()
    5.0
    """
    return frobenius(end_to_end)


@model_metric("end_to_end_map", cost="heavy", batched=True)  # to store
def end_to_end_map(end_to_end: Float64[Tensor, "*R out in"]) -> dict[str, Float64[Tensor, "*R in"]]:
    """The end-to-end map W itself, a column for each of its rows: `dln.mean_map` averages it over runs.

    >>> {row: entries.tolist() for row, entries in end_to_end_map(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).items()}
    {'1': [1.0, 2.0], '2': [3.0, 4.0]}
    """
    return {str(i): row for i, row in enumerate(end_to_end.unbind(-2), start=1)}


@model_metric("singular_values", cost="cheap", batched=True)
def singular_values(end_to_end_values: Float64[Tensor, "*R k"], top: Top = None) -> Float64[Tensor, "*R k"]:
    """Singular values of the end-to-end map, largest first; only the first `top` if that is given."""
    return end_to_end_values[..., :top]


@model_metric("balancedness", cost="moderate", batched=True, needs=two_layers, source="arXiv 1802.06509")
def balancedness(weights: list[Tensor]) -> Float64[Tensor, "*R L-1"]:
    """Norms ||W_{l+1}' W_{l+1} - W_l W_l'||_F, l = 1, ..., L-1: 0 when balanced, conserved by gradient flow.

    >>> balancedness([torch.tensor([[2.0]]), torch.tensor([[2.0]]), torch.tensor([[1.0]])]).tolist()
    [0.0, 3.0]
    """
    return torch.stack(
        [frobenius(matmul(after.mT, after) - matmul(before, before.mT)) for before, after in pairwise(weights)], -1
    )


# --- metrics of a pair ------------------------------------------------------------------------------------------------


@comparative_metric("param_distance", cost="cheap", batched=True, needs=equal_shapes)
def param_distance(difference_squares: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """Euclidean distance between the parameters of the two models."""
    return difference_squares.sqrt()


@comparative_metric("param_cosine_sim", cost="cheap", batched=True, needs=equal_shapes)
def param_cosine_sim(inner_products: Float64[Tensor, "*R 3"]) -> Float64[Tensor, "*R"]:
    """Cosine of the angle between the parameters of the two models, seen as vectors.

    >>> param_cosine_sim(torch.tensor([2.0, 4.0, 4.0])).item()
    0.5
    """
    inner, a, b = inner_products.unbind(-1)
    return cosine(inner, a, b)


@comparative_metric("end_to_end_distance", cost="cheap", batched=True)
def end_to_end_distance(
    end_to_end_a: Float64[Tensor, "*R out in"], end_to_end_b: Float64[Tensor, "*R out in"]
) -> Float64[Tensor, "*R"]:
    """Frobenius distance between the end-to-end maps of the two models, whatever their depths and widths.

    >>> round(end_to_end_distance(torch.eye(2), torch.zeros(2, 2)).item() ** 2, 12)
    2.0
    """
    return frobenius(end_to_end_a - end_to_end_b)
