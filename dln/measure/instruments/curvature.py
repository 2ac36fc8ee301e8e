"""Curvature of the mean squared error over the training set (of online data: over the population), in closed form.

Formulas and how they are found: `dln.derivatives.hessian` and `dln.derivatives.tangent_kernel`. Everything is
accumulated in float64. Losses other than the mean squared error have no closed form: `hessian_spectrum_autograd` takes
any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.stacked import as_tensor, finite
from dln.derivatives import hessian, hessian_range, tangent_kernel
from dln.derivatives.products import as_float64, eigenvalues
from dln.errors import ConfigError
from dln.ingredients.edge import Optimizer, edge_of
from dln.measure.metric import Count, MetricData, Shapes, Tolerance, Top, model_metric
from dln.measure.scope import FINITE_SETS, SETS

if TYPE_CHECKING:
    from jaxtyping import Float64

    from dln.model import DeepLinearNetwork

Layers = list[np.ndarray]


def of_hessian(name: str, **marks: Any) -> Callable:
    """Register a metric of the Hessian in closed form: that of the mean squared error, of many networks at once."""
    instead = "hessian_spectrum_autograd finds the curvature of other losses"
    return model_metric(name, loss="mse", instead=instead, batched=True, sets=SETS, **marks)


def few_dimensions(shapes: Shapes) -> None:
    """Raise ConfigError for a net whose Hessian is too large to find all its eigenvalues: for the mark `needs`."""
    weights = [(shape[0], shape[1]) for shape in shapes if len(shape) == 2]
    biased = len(weights) < len(shapes)
    size = hessian_range.dimension([(p, q + biased) for p, q in weights])
    if size > hessian.LARGEST:
        raise ConfigError(
            f"the range of the Hessian has {size} dimensions, and all eigenvalues are found up to {hessian.LARGEST}; "
            "top_eigenvalues finds a few"
        )


@of_hessian("hessian_trace", cost="moderate", source="arXiv 2106.16225")
def hessian_trace(layers: Layers, sigma: Tensor) -> Float64[Tensor, "*R"]:
    """Trace of the Hessian, (2 / d_out) sum_l tr(B_l Sigma B_l') ||A_l||^2; that of the Gauss-Newton matrix too."""
    return as_tensor(hessian.hessian_trace(layers, sigma))


@of_hessian("sharpness", cost="heavy", source="arXiv 2103.00065")
def sharpness(largest_eigenvalue: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """Largest eigenvalue of the Hessian; gradient descent is stable below 2 / lr."""
    return largest_eigenvalue


@model_metric(
    "stability",
    cost="heavy",
    loss="mse",
    batched=True,
    sets=SETS,
    of_optimizer=edge_of,
    source="arXiv 2103.00065, 2207.14484",
)
def stability(
    largest_eigenvalue: Float64[Tensor, "*R"], lr: Float64[Tensor, "*R"], optimizer: Optimizer
) -> Float64[Tensor, "*R"]:
    """Sharpness divided by the largest at which full-batch SGD is stable. Without momentum, lr / 2 times the sharpness.

    With momentum, dampening, Nesterov's or not, and weight decay, see `dln.ingredients.edge`; lr is the learning rate
    of the step. On batches it is the mean that leaves the edge at 1; noise may make steps unstable before.

    >>> sgd, momentum = Optimizer("SGD", {}), Optimizer("SGD", {"momentum": 0.5})
    >>> [stability(torch.tensor(20.0), torch.tensor(0.1), optimizer).item() for optimizer in (sgd, momentum)]
    [1.0, 0.6666666865348816]
    """
    gain, decay = edge_of(optimizer)
    return lr * gain * (largest_eigenvalue + decay)


@of_hessian("top_eigenvalues", cost="heavy", source="arXiv 2106.16225")
def top_eigenvalues(layers: Layers, sigma: Tensor, sigma_yx: Tensor, top: Count = 10) -> Float64[Tensor, "*R top"]:
    """The `top` largest eigenvalues of the Hessian, of large networks without the matrix."""
    return as_tensor(hessian.top_eigenvalues(layers, sigma, sigma_yx, top))


@of_hessian(
    "hessian_spectrum",
    cost="heavy",
    needs=few_dimensions,
    source="arXiv 2106.16225",
)
def hessian_spectrum(hessian_eigenvalues: Float64[Tensor, "*R P"], top: Top = None) -> Float64[Tensor, "*R k"]:
    """All eigenvalues of the Hessian, largest first; only the first `top` if that is given."""
    return hessian_eigenvalues[..., :top]


@of_hessian(
    "saddle_index",
    cost="heavy",
    needs=few_dimensions,
    source="arXiv 1406.2572",
)
def saddle_index(hessian_eigenvalues: Float64[Tensor, "*R P"], tolerance: Tolerance = 1e-10) -> Float64[Tensor, "*R"]:
    """How many eigenvalues of the Hessian are below -`tolerance` times the largest in size."""
    return as_tensor(np.asarray(hessian.saddle_index(hessian_eigenvalues.numpy(), tolerance), np.float64))


@model_metric("gauss_newton_spectrum", cost="moderate", loss="mse", batched=True, sets=SETS, source="arXiv 2106.16225")
def gauss_newton_spectrum(
    gauss_newton_eigenvalues: Float64[Tensor, "*R k"], top: Top = None
) -> Float64[Tensor, "*R k"]:
    """Eigenvalues of the Gauss-Newton matrix that can be nonzero, largest first; only the first `top` if given."""
    return gauss_newton_eigenvalues[..., :top]


@model_metric("ntk_spectrum", cost="moderate", batched=True, sets=FINITE_SETS, source="arXiv 1806.07572")
def ntk_spectrum(
    gauss_newton_eigenvalues: Float64[Tensor, "*R k"],
    train_targets: Float64[Tensor, "*R N out"],
    top: Top = None,
) -> Float64[Tensor, "*R k"]:
    """Eigenvalues of the neural tangent kernel's Gram matrix that can be nonzero, largest first; the first `top`."""
    size = train_targets.shape[-2] * train_targets.shape[-1]
    return (size / 2 * gauss_newton_eigenvalues[..., :size])[..., :top]


@model_metric("ntk_distance", cost="moderate", batched=True, sets=FINITE_SETS, source="arXiv 1806.07572")
def ntk_distance(
    layers: Layers,
    start_layers: Layers,
    sigma: Tensor,
    train_inputs: Float64[Tensor, "*R N in"],
    relative: bool = False,
) -> Float64[Tensor, "*R"]:
    """Frobenius distance of the kernel's Gram matrix from that at the start; `relative`: divided by the latter's."""
    samples = train_inputs.shape[-2]
    gone = as_tensor(tangent_kernel.ntk_distance(layers, start_layers, sigma, samples))
    return gone / finite(as_tensor(tangent_kernel.ntk_norm(start_layers, sigma, samples))) if relative else gone


@model_metric("ntk_alignment", cost="moderate", batched=True, sets=SETS, source="arXiv 1806.07572")
def ntk_alignment(layers: Layers, start_layers: Layers, sigma: Tensor) -> Float64[Tensor, "*R"]:
    """Cosine of the neural tangent kernel and that at the start."""
    return as_tensor(tangent_kernel.ntk_alignment(layers, start_layers, sigma))


@model_metric("hessian_spectrum_autograd")
def hessian_spectrum_autograd(model: DeepLinearNetwork, data: MetricData, top: Top = None) -> Float64[Tensor, " k"]:
    """Eigenvalues of the Hessian of any loss over the training set, by torch's autograd; for small networks."""
    assert data.train_inputs is not None
    assert data.train_targets is not None
    with torch.enable_grad():
        matrix = hessian.hessian_autograd(model, data.criterion, data.train_inputs, data.train_targets)
    return as_tensor(eigenvalues(as_float64(matrix))[:top])
