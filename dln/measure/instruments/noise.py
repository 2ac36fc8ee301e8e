"""Gradient noise: how the gradients of batches spread about their mean, in closed form.

Formulas stand in `dln.derivatives.gradient_noise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dln.base.stacked import as_tensor, finite, total
from dln.derivatives.gradient_noise import Noise, hessian_label_noise, hessian_noise_trace, population_noise
from dln.measure.metric import model_metric

if TYPE_CHECKING:
    from jaxtyping import Float64

Layers = list[np.ndarray]


@model_metric("noise_trace", cost="moderate", loss="mse", batched=True)
def noise_trace(
    sample_gradients: Noise, batch_share: Float64[Tensor, "*R"], target_noise: Float64[Tensor, "*R L"]
) -> Float64[Tensor, "*R"]:
    """Trace of the covariance of the batch gradient, of batches of the step's size as the run draws them."""
    return batch_share * total(as_tensor(sample_gradients.noise)) + total(target_noise)


@model_metric("layer_noise_traces", cost="moderate", loss="mse", batched=True)
def layer_noise_traces(
    sample_gradients: Noise, batch_share: Float64[Tensor, "*R"], target_noise: Float64[Tensor, "*R L"]
) -> Float64[Tensor, "*R L"]:
    """`noise_trace` layer by layer."""
    return batch_share[..., None] * as_tensor(sample_gradients.noise) + target_noise


@model_metric("gradient_snr", cost="moderate", loss="mse", batched=True)
def gradient_snr(
    sample_gradients: Noise, batch_share: Float64[Tensor, "*R"], target_noise: Float64[Tensor, "*R L"]
) -> Float64[Tensor, "*R"]:
    """||g||^2 / `noise_trace`, g the gradient over the training set; NaN where there is no noise (the full batch)."""
    noise = finite(noise_trace(sample_gradients, batch_share, target_noise))
    return total(as_tensor(sample_gradients.signal)) / noise


@model_metric("hessian_noise_trace", cost="moderate", loss="mse", batched=True)
def noise_in_curvature(
    layers: Layers,
    train_inputs: Tensor,
    train_targets: Tensor,
    batch_share: Float64[Tensor, "*R"],
    batch_size: Float64[Tensor, "*R"],
    fresh_noise: Float64[Tensor, "*R"],
) -> Float64[Tensor, "*R"]:
    """tr(H C), C the covariance of the batch gradient; lr^2 / 2 times it is what noise adds to the loss in a step."""
    found = batch_share * as_tensor(hessian_noise_trace(layers, train_inputs, train_targets))
    if fresh_noise.any():
        of_targets = as_tensor(hessian_label_noise(layers, train_inputs, train_targets))
        found = found + fresh_noise.square() / batch_size * of_targets
    return found + 0.0  # of the full batch 0, not -0


@model_metric("population_noise_trace", cost="moderate", loss="mse", batched=True)
def population_noise_trace(
    layers: Layers, teacher: Tensor, label_noise: Tensor, normal_covariance: Tensor, batch_size: Float64[Tensor, "*R"]
) -> Float64[Tensor, "*R"]:
    """Trace of the covariance of the gradient on fresh batches of the step's size, as in online training."""
    noise = population_noise(layers, teacher, label_noise.numpy(), normal_covariance)
    return total(as_tensor(noise.noise)) / batch_size
