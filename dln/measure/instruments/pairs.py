"""Two models side by side: their layers, maps, modes, gradients and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from torch import Tensor

from dln.base.registry import Bounds
from dln.base.stacked import as_tensor, cosine, frobenius, inner, matmul, singular_values_of, summed
from dln.derivatives.products import Chain
from dln.measure.instruments.layers import angle
from dln.measure.instruments.modes import apart
from dln.measure.metric import Count, Tolerance, comparative_metric, equal_shapes
from dln.measure.quantities import mean_square_of, mean_square_on
from dln.measure.scope import FINITE_SETS, SETS_OR_BATCH

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64


Points = Annotated[int, Bounds(least=2)]
"""A parameter that counts points of a line, both ends included."""


@comparative_metric("end_to_end_cosine", cost="cheap", batched=True)
def end_to_end_cosine(
    end_to_end_a: Float64[Tensor, "*R out in"], end_to_end_b: Float64[Tensor, "*R out in"]
) -> Float64[Tensor, "*R"]:
    """Cosine <W_a, W_b> / (||W_a|| ||W_b||) of the end-to-end maps.

    >>> end_to_end_cosine(torch.eye(2), torch.tensor([[-1.0, 0.0], [0.0, -1.0]])).item()
    -1.0
    """
    return _cosine([end_to_end_a], [end_to_end_b])


@comparative_metric("layer_distances", cost="moderate", batched=True, needs=equal_shapes)
def layer_distances(weights_a: list[Tensor], weights_b: list[Tensor]) -> Float64[Tensor, "*R L"]:
    """Frobenius distances of the weights, layer by layer.

    >>> layer_distances([torch.zeros(1, 2), torch.eye(1)], [torch.tensor([[3.0, 4.0]]), torch.eye(1)]).tolist()
    [5.0, 0.0]
    """
    return torch.stack([frobenius(a - b) for a, b in zip(weights_a, weights_b, strict=True)], -1)


@comparative_metric("layer_cosines", cost="moderate", batched=True, needs=equal_shapes)
def layer_cosines(weights_a: list[Tensor], weights_b: list[Tensor]) -> Float64[Tensor, "*R L"]:
    """Cosines of the weights, layer by layer.

    >>> layer_cosines([torch.eye(2), torch.eye(1)], [torch.ones(2, 2), -torch.eye(1)]).round(decimals=6).tolist()
    [0.707107, -1.0]
    """
    return torch.stack([_cosine([a], [b]) for a, b in zip(weights_a, weights_b, strict=True)], -1)


@comparative_metric("param_angle", cost="moderate", batched=True, needs=equal_shapes)
def param_angle(layers_a: list[np.ndarray], layers_b: list[np.ndarray]) -> Float64[Tensor, "*R"]:
    """Angle, in radians, between the parameters of the two models: its digits are kept where the cosine says 1.

    >>> round((param_angle([np.array([[1.0, 1.0]])], [np.array([[2.0, 0.0]])]) / torch.pi).item(), 12)
    0.25
    """
    return angle([*map(as_tensor, layers_a)], [*map(as_tensor, layers_b)])


@comparative_metric("gradient_cosine", cost="moderate", batched=True, needs=equal_shapes, sets=SETS_OR_BATCH)
def gradient_cosine(gradients_a: list[Tensor], gradients_b: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Cosine of the two models' gradients, each of the loss on its own batch, or on a whole set."""
    return _cosine(gradients_a, gradients_b)


@comparative_metric("singular_value_distance", cost="cheap", batched=True)
def singular_value_distance(
    end_to_end_values_a: Float64[Tensor, "*R k"], end_to_end_values_b: Float64[Tensor, "*R k"]
) -> Float64[Tensor, "*R"]:
    """Euclidean distance of the singular values of the end-to-end maps.

    >>> singular_value_distance(torch.tensor([4.0, 1.0]), torch.tensor([1.0, 5.0])).item()
    5.0
    """
    gap = end_to_end_values_a - end_to_end_values_b
    return inner(gap, gap, 1).sqrt()


@comparative_metric("mode_angles", cost="moderate", batched=True, source="Bjorck and Golub 1973")
def mode_angles(
    end_to_end_modes_a: tuple[Tensor, Tensor, Tensor],
    end_to_end_modes_b: tuple[Tensor, Tensor, Tensor],
    top: Count = 1,
    tolerance: Tolerance = 1e-6,
) -> dict[str, Float64[Tensor, "*R top"]]:
    """Principal angles, in radians, of the spans of the first `top` left and right singular vectors of the maps.

    NaN where these are not determined: the last of them belongs to zero, or to the same singular value as the next, to
    `tolerance` times the largest.
    """
    (left_a, values_a, right_a), (left_b, values_b, right_b) = end_to_end_modes_a, end_to_end_modes_b
    spans = {
        "left": (left_a[..., :top], left_b[..., :top]),
        "right": (right_a[..., :top, :].mT, right_b[..., :top, :].mT),
    }
    known = (_last_gap(values_a, top, tolerance) & _last_gap(values_b, top, tolerance))[..., None]
    return {side: _principal_angles(a, b).where(known, torch.nan) for side, (a, b) in spans.items()}


def _last_gap(values: Float64[Tensor, "*R k"], top: int, tolerance: float) -> Bool[Tensor, "*R"]:
    """Tell whether the first `top` singular values end before a smaller one, or before zero."""
    padded = torch.nn.functional.pad(values, (0, 1))
    return apart(padded, tolerance)[..., min(top, values.shape[-1]) - 1]


@comparative_metric("prediction_distance", cost="moderate", batched=True, sets=("test", "train", "population"))
def prediction_distance(
    map_difference: Float64[Tensor, "*R out n"], input_root_a: Float64[Tensor, "*R n k"]
) -> Float64[Tensor, "*R"]:
    """Root mean square difference of the two models' outputs on the test inputs, or on others, noise aside.

    >>> prediction_distance(torch.tensor([[3.0, 4.0]]), torch.eye(2)).item()
    5.0
    """
    return mean_square_of(map_difference, input_root_a).sqrt()


@comparative_metric("line_losses", cost="moderate", loss="mse", batched=True, needs=equal_shapes, sets=FINITE_SETS)
def line_losses(
    layers_a: list[np.ndarray],
    layers_b: list[np.ndarray],
    train_inputs_a: Float64[Tensor, "*R N in"],
    train_targets_a: Float64[Tensor, "*R N out"],
    points: Points = 11,
) -> Float64[Tensor, "*R points"]:
    """Losses over the training set at `points` evenly spaced points of the line from theta_a to theta_b."""
    maps = (map_between(layers_a, layers_b, i / (points - 1)) for i in range(points))
    return torch.stack([mean_square_on(each, train_inputs_a, train_targets_a) for each in maps], -1)


@comparative_metric(
    "line_barrier",
    cost="moderate",
    loss="mse",
    batched=True,
    needs=equal_shapes,
    sets=FINITE_SETS,
    source="arXiv 1912.05671",
)
def line_barrier(
    layers_a: list[np.ndarray],
    layers_b: list[np.ndarray],
    train_inputs_a: Float64[Tensor, "*R N in"],
    train_targets_a: Float64[Tensor, "*R N out"],
    points: Points = 11,
) -> Float64[Tensor, "*R"]:
    """The most by which `line_losses` exceed the straight line between their ends: 0 where there is no barrier."""
    losses = line_losses(layers_a, layers_b, train_inputs_a, train_targets_a, points)
    share = torch.arange(points, dtype=torch.float64) / (points - 1)
    straight = losses[..., :1] + share * (losses[..., -1:] - losses[..., :1])
    return (losses - straight)[..., :-1].amax(-1)  # the first is 0, and so is the last, but for rounding


def map_between(layers_a: list[np.ndarray], layers_b: list[np.ndarray], share: float) -> Float64[Tensor, "*R out n"]:
    """Return the end-to-end map of (1 - share) theta_a + share theta_b.

    >>> one, three = np.array([[1.0]]), np.array([[3.0]])
    >>> [map_between([one, one], [three, three], share).item() for share in (0.0, 0.5, 1.0)]
    [1.0, 4.0, 9.0]
    """
    return as_tensor(Chain([a + share * (b - a) for a, b in zip(layers_a, layers_b, strict=True)]).end)


def _cosine(a: list[Tensor], b: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Cosine of the angle between all numbers of a and all of b; exactly 1 for a = b."""
    ab, aa, bb = (summed(inner(x, y, 2) for x, y in zip(s, t, strict=True)) for s, t in ((a, b), (a, a), (b, b)))
    return cosine(ab, aa, bb)


def _principal_angles(a: Float64[Tensor, "*R n k"], b: Float64[Tensor, "*R n k"]) -> Float64[Tensor, "*R k"]:
    """Angles between the column spaces of orthonormal a and b, in ascending order.

    Small ones from their sines and large ones from their cosines, so that both keep their digits (Bjorck, Golub 1973).
    """
    cosines = singular_values_of(matmul(a.mT, b)).clamp(max=1.0)
    sines = singular_values_of(b - matmul(a, matmul(a.mT, b))).flip(-1).clamp(max=1.0)
    return torch.where(cosines**2 < 0.5, cosines.arccos(), sines.arcsin())
