"""Quantities of gradient noise: how samples' gradients spread, and with them those of batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dln.base.stacked import as_tensor, total
from dln.derivatives import gradient_noise
from dln.derivatives.gradient_noise import (
    Noise,
    hessian_label_noise,
    hessian_label_noise_of,
    hessian_noise_trace,
    label_noise_traces,
    population_noise,
    sample_noise,
)
from dln.derivatives.mode_noise import ModeNoise, mode_label_noise, population_mode_noise, sample_mode_noise
from dln.measure.quantities import quantity

if TYPE_CHECKING:
    from jaxtyping import Float64

Modes = tuple[Tensor, Tensor, Tensor]


class BatchNoise(NamedTuple):
    """Traces of the covariance of the batch gradient."""

    trace: Float64[Tensor, "*R"]
    layers: Float64[Tensor, "*R L"]


@quantity
def sample_gradients(layers: list[np.ndarray], train_inputs: Tensor, train_targets: Tensor) -> Noise:
    """Mean and spread of the training samples' gradients, layer by layer."""
    return sample_noise(layers, train_inputs, train_targets)


@quantity
def population_gradients(
    layers: list[np.ndarray], teacher: Tensor, label_noise: Tensor, normal_covariance: Tensor
) -> Noise:
    """Mean and spread of the gradients of fresh samples, layer by layer."""
    return population_noise(layers, teacher, label_noise.numpy(), normal_covariance)


@quantity
def batch_share(
    train_inputs: Float64[Tensor, "*R N in"], batch_size: Float64[Tensor, "*R"], replacement: bool
) -> Float64[Tensor, "*R"]:
    """Covariance of a batch's mean gradient in units of that of samples: `dln.derivatives.gradient_noise.batch_factor`.

    Of the full batch it is 0, and of more than there are samples too.

    >>> [batch_share(torch.zeros(3, 1), torch.tensor(2.0), again).item() for again in (False, True)]
    [0.25, 0.5]
    """
    n = train_inputs.shape[-2]
    size = batch_size if replacement else batch_size.clamp(max=n)
    return 1 / size if replacement else (n - size) / (size * max(n - 1, 1))


@quantity
def fresh_share(batch_size: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """`batch_share` of fresh samples."""
    return 1 / batch_size


@quantity
def target_noise(
    layers: list[np.ndarray], sigma: Tensor, batch_size: Float64[Tensor, "*R"], fresh_noise: Float64[Tensor, "*R"]
) -> Float64[Tensor, "*R L"]:
    """Traces of the covariance that fresh noise on targets gives the batch gradient, layer by layer."""
    if not fresh_noise.any():
        return torch.zeros(len(layers), dtype=torch.float64)
    return (fresh_noise.square() / batch_size)[..., None] * as_tensor(label_noise_traces(layers, sigma))


@quantity
def batch_noise(
    sample_gradients: Noise, batch_share: Float64[Tensor, "*R"], target_noise: Float64[Tensor, "*R L"]
) -> BatchNoise:
    """Spread of the gradient of batches from the training set."""
    noise = as_tensor(sample_gradients.noise)
    return BatchNoise(batch_share * total(noise) + total(target_noise), batch_share[..., None] * noise + target_noise)


@quantity
def fresh_batch_noise(
    population_gradients: Noise, batch_size: Float64[Tensor, "*R"], target_noise: Float64[Tensor, "*R L"]
) -> BatchNoise:
    """Spread of the gradient of batches of fresh samples."""
    noise = as_tensor(population_gradients.noise)
    return BatchNoise(total(noise) / batch_size + total(target_noise), noise / batch_size[..., None] + target_noise)


@quantity
def hessian_noise(layers: list[np.ndarray], train_inputs: Tensor, train_targets: Tensor) -> Float64[Tensor, "*R"]:
    """Tr(H C), C the covariance of the training samples' gradients."""
    return as_tensor(hessian_noise_trace(layers, train_inputs, train_targets))


@quantity
def population_hessian_noise(
    layers: list[np.ndarray], teacher: Tensor, label_noise: Tensor, normal_covariance: Tensor
) -> Float64[Tensor, "*R"]:
    """Tr(H C), C the covariance of the gradients of fresh samples."""
    return as_tensor(gradient_noise.population_hessian_noise(layers, teacher, label_noise.numpy(), normal_covariance))


@quantity
def hessian_target_noise(
    layers: list[np.ndarray],
    train_inputs: Tensor,
    train_targets: Tensor,
    batch_size: Float64[Tensor, "*R"],
    fresh_noise: Float64[Tensor, "*R"],
) -> Float64[Tensor, "*R"]:
    """What fresh noise on targets adds to tr(H C) of the batch gradient."""
    return _of_noise(fresh_noise, batch_size, lambda: hessian_label_noise(layers, train_inputs, train_targets))


@quantity
def fresh_hessian_target_noise(
    layers: list[np.ndarray],
    sigma: Tensor,
    sigma_yx: Tensor,
    batch_size: Float64[Tensor, "*R"],
    fresh_noise: Float64[Tensor, "*R"],
) -> Float64[Tensor, "*R"]:
    """`hessian_target_noise` of moments."""
    return _of_noise(fresh_noise, batch_size, lambda: hessian_label_noise_of(layers, sigma, sigma_yx))


def _of_noise(fresh_noise: Tensor, batch_size: Tensor, unit: Callable[[], np.ndarray]) -> Float64[Tensor, "*R"]:
    """Return what fresh noise adds, from what noise N(0, 1) adds to batches of one; of no noise nothing is found."""
    if not fresh_noise.any():
        return torch.zeros((), dtype=torch.float64)
    return fresh_noise.square() / batch_size * as_tensor(unit())


@quantity
def mode_gradients(
    layers: list[np.ndarray], train_inputs: Tensor, train_targets: Tensor, end_to_end_modes: Modes
) -> ModeNoise:
    """Drift of the map's modes, and its spread over the training samples."""
    left, _, right = end_to_end_modes
    return sample_mode_noise(layers, train_inputs, train_targets, left, right)


@quantity
def population_mode_gradients(
    layers: list[np.ndarray],
    teacher: Tensor,
    label_noise: Tensor,
    normal_covariance: Tensor,
    end_to_end_modes: Modes,
) -> ModeNoise:
    """Drift of the map's modes, and its spread over fresh samples."""
    left, _, right = end_to_end_modes
    return population_mode_noise(layers, teacher, label_noise.numpy(), normal_covariance, left, right)


@quantity
def mode_target_noise(
    layers: list[np.ndarray],
    sigma: Tensor,
    end_to_end_modes: Modes,
    batch_size: Float64[Tensor, "*R"],
    fresh_noise: Float64[Tensor, "*R"],
) -> Float64[Tensor, "*R k"]:
    """What fresh noise on targets adds to the noise of the map's modes."""
    left, values, right = end_to_end_modes
    if not fresh_noise.any():
        return torch.zeros_like(values)
    return (fresh_noise.square() / batch_size)[..., None] * as_tensor(mode_label_noise(layers, sigma, left, right))


@quantity
def mode_noise(
    mode_gradients: ModeNoise, batch_share: Float64[Tensor, "*R"], mode_target_noise: Float64[Tensor, "*R k"]
) -> Float64[Tensor, "*R k"]:
    """Variance of ds_i / dt on batches, s_i the singular values of the map."""
    return batch_share[..., None] * as_tensor(mode_gradients.noise) + mode_target_noise
