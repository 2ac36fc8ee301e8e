"""Gradient noise: how the gradients of batches spread about their mean, in closed form.

Formulas stand in `dln.derivatives.gradient_noise` and `dln.derivatives.mode_noise`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dln.base.stacked import as_tensor, finite, total
from dln.derivatives.gradient_noise import Noise
from dln.derivatives.mode_noise import ModeNoise
from dln.measure.instruments.modes import single
from dln.measure.metric import Tolerance, Top, model_metric
from dln.measure.noise_quantities import BatchNoise, Modes
from dln.measure.scope import SETS

if TYPE_CHECKING:
    from jaxtyping import Float64


@model_metric("noise_trace", cost="moderate", loss="mse", batched=True, sets=SETS, batches=True)
def noise_trace(batch_noise: BatchNoise) -> Float64[Tensor, "*R"]:
    """Trace of the covariance of the batch gradient, of batches of the step's size as the run draws them."""
    return batch_noise.trace


@model_metric("layer_noise_traces", cost="moderate", loss="mse", batched=True, sets=SETS, batches=True)
def layer_noise_traces(batch_noise: BatchNoise) -> Float64[Tensor, "*R L"]:
    """`noise_trace` layer by layer."""
    return batch_noise.layers


@model_metric("gradient_snr", cost="moderate", loss="mse", batched=True, sets=SETS, batches=True)
def gradient_snr(sample_gradients: Noise, batch_noise: BatchNoise) -> Float64[Tensor, "*R"]:
    """||g||^2 / `noise_trace`, g the gradient over the training set; NaN where there is no noise (the full batch)."""
    return total(as_tensor(sample_gradients.signal)) / finite(batch_noise.trace)


@model_metric("hessian_noise_trace", cost="moderate", loss="mse", batched=True, sets=SETS, batches=True)
def noise_in_curvature(
    hessian_noise: Float64[Tensor, "*R"],
    batch_share: Float64[Tensor, "*R"],
    hessian_target_noise: Float64[Tensor, "*R"],
) -> Float64[Tensor, "*R"]:
    """tr(H C), C the covariance of the batch gradient; lr^2 / 2 times it is what noise adds to the loss in a step."""
    return batch_share * hessian_noise + hessian_target_noise + 0.0  # of the full batch 0, not -0


@model_metric("population_noise_trace", cost="moderate", loss="mse", batched=True, sets=("population",))
def population_noise_trace(batch_noise: BatchNoise) -> Float64[Tensor, "*R"]:
    """Trace of the covariance of the gradient on fresh batches of the step's size, as in online training."""
    return batch_noise.trace


@model_metric("mode_drifts", cost="moderate", loss="mse", batched=True, sets=SETS)
def mode_drifts(
    mode_gradients: ModeNoise, end_to_end_modes: Modes, top: Top = None, tolerance: Tolerance = 1e-6
) -> Float64[Tensor, "*R k"]:
    """Rates ds_i / dt = -<grad s_i, g> at which gradient flow moves the singular values of W, largest value first.

    NaN where a singular value is zero or equal to another, to `tolerance` times the largest: what moves is then not
    determined by the map. Formulas: `dln.derivatives.mode_noise`.
    """
    return _determined(as_tensor(mode_gradients.drift), end_to_end_modes, tolerance)[..., :top]


@model_metric("mode_noises", cost="moderate", loss="mse", batched=True, sets=SETS, batches=True)
def mode_noises(
    mode_noise: Float64[Tensor, "*R k"], end_to_end_modes: Modes, top: Top = None, tolerance: Tolerance = 1e-6
) -> Float64[Tensor, "*R k"]:
    """Variances of the `mode_drifts` of batches of the step's size, as the run draws them."""
    return _determined(mode_noise, end_to_end_modes, tolerance)[..., :top]


@model_metric("mode_snrs", cost="moderate", loss="mse", batched=True, sets=SETS, batches=True)
def mode_snrs(
    mode_gradients: ModeNoise,
    mode_noise: Float64[Tensor, "*R k"],
    end_to_end_modes: Modes,
    top: Top = None,
    tolerance: Tolerance = 1e-6,
) -> Float64[Tensor, "*R k"]:
    """Squares of `mode_drifts` divided by `mode_noises`, mode by mode; NaN where there is no noise (the full batch)."""
    drifts = as_tensor(mode_gradients.drift)
    return _determined(drifts.square() / finite(mode_noise), end_to_end_modes, tolerance)[..., :top]


def _determined(values: Float64[Tensor, "*R k"], modes: Modes, tolerance: float) -> Float64[Tensor, "*R k"]:
    """Return values of modes, NaN for those that the map does not determine."""
    return values.where(single(modes[1], tolerance), torch.nan)
