"""What steps of finite size do beside following the gradient: regularise, see the curvature ahead, jump to and fro.

Where the steps are stable is said by `edge_of_stability`, in the same units as the sharpness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dln.base.stacked import as_tensor, finite, inner, summed, total
from dln.derivatives import hessian
from dln.derivatives.products import Chain, moments, with_constant
from dln.errors import ConfigError
from dln.ingredients.edge import Optimizer, edge_of
from dln.measure.instruments.modes import mode_strengths
from dln.measure.metric import Shapes, Top, model_metric
from dln.measure.noise_quantities import BatchNoise
from dln.measure.quantities import mean_square_on
from dln.measure.scope import FINITE_SETS, SETS

if TYPE_CHECKING:
    from jaxtyping import Float64

Layers = list[np.ndarray]


def plain_steps(optimizer: Optimizer) -> None:
    """Raise ConfigError unless steps are theta <- theta - lr g: for the mark `of_optimizer`.

    >>> plain_steps(Optimizer("SGD", {"momentum": 0.0}))
    >>> plain_steps(Optimizer("SGD", {"momentum": 0.9}))
    Traceback (most recent call last):
    dln.errors.ConfigError: it holds for plain SGD with one learning rate for all layers, not with momentum=0.9
    """
    told = [f"{name}={value}" for name, value in optimizer.params.items() if name in _CHANGING and value]
    told += [] if optimizer.lr_factors is None else ["lr_factors"]
    if optimizer.name != "SGD" or told:
        what = f"with {' and '.join(told)}" if optimizer.name == "SGD" else f"for {optimizer.name}"
        raise ConfigError(f"it holds for plain SGD with one learning rate for all layers, not {what}")


_CHANGING = ("momentum", "weight_decay", "maximize")
"""Parameters of SGD that make its steps others than -lr g."""


@model_metric(
    "implicit_regularizer",
    cost="moderate",
    loss="mse",
    batched=True,
    sets=SETS,
    of_optimizer=plain_steps,
    source="arXiv 2009.11162",
)
def implicit_regularizer(whole_gradients: list[Tensor], lr: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """(lr / 4) ||g||^2: gradient descent follows the gradient flow of the loss and this, to first order in lr.

    >>> import torch
    >>> implicit_regularizer([torch.tensor([[3.0, 4.0]])], torch.tensor(0.5)).item()
    3.125
    """
    return lr / 4 * summed(inner(g, g, 2) for g in whole_gradients)


@model_metric(
    "noise_regularizer",
    cost="moderate",
    loss="mse",
    batched=True,
    sets=SETS,
    batches=True,
    of_optimizer=plain_steps,
    source="arXiv 2101.12176",
)
def noise_regularizer(batch_noise: BatchNoise, lr: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """(lr / 4) `noise_trace`: what batches add to the mean of `implicit_regularizer`.

    (lr / 4) times the mean of ||g_b||^2 over batches b is the sum of both. Over an epoch SGD on average follows the
    gradient flow of the loss and both. Batches drawn with replacement or online have the same mean, but their
    gradients are independent of each other, and no force on the mean path comes of it.
    """
    return lr / 4 * batch_noise.trace


@model_metric("batch_sharpness", cost="moderate", loss="mse", batched=True, sets=("batch",), source="arXiv 2412.20553")
def batch_sharpness(
    layers: Layers, gradients: list[Tensor], batch_sigma: Tensor, batch_sigma_yx: Tensor
) -> Float64[Tensor, "*R"]:
    """Curvature g' H g / ||g||^2 along the gradient, g and H those of the loss on the step's batch."""
    return curvature_along(layers, batch_sigma, batch_sigma_yx, gradients)


@model_metric(
    "mean_batch_sharpness", cost="moderate", loss="mse", batched=True, sets=FINITE_SETS, source="arXiv 2412.20553"
)
def mean_batch_sharpness(
    layers: Layers,
    train_inputs: Float64[Tensor, "*R N in"],
    train_targets: Float64[Tensor, "*R N out"],
    batch_size: Float64[Tensor, "*R"],
    size: Top = None,
) -> Float64[Tensor, "*R"]:
    """Mean of `batch_sharpness` over batches of the step's size, or of `size`, that the set is cut into in its order.

    What is left at its end is left out.
    """
    sizes = batch_size if size is None else torch.tensor(float(size))
    found = torch.full(batch_size.shape, torch.nan, dtype=torch.float64)
    for own in torch.unique(sizes).tolist():
        which = (sizes == own).expand(found.shape)
        some = [w[which.numpy()] for w in layers], train_inputs[which], train_targets[which]
        found[which] = _mean_over_batches(*some, min(int(own), train_inputs.shape[-2]))
    return found


def _mean_over_batches(layers: Layers, inputs: Tensor, targets: Tensor, size: int) -> Float64[Tensor, " r"]:
    """Return the mean curvature along the gradient of members [r, ...] over the batches of their sets."""
    count = inputs.shape[-2] // size
    x, y = (a[:, : count * size].numpy().reshape(len(a), count, size, -1) for a in (inputs, targets))
    x = with_constant(x) if layers[0].shape[-1] > x.shape[-1] else x
    layers = [w[:, None] for w in layers]
    sigma, sigma_yx = moments(x, y)
    gradients = [as_tensor(g) for g in Chain(layers).gradients(sigma, sigma_yx)]
    return total(curvature_along(layers, as_tensor(sigma), as_tensor(sigma_yx), gradients)) / count


@model_metric("gradient_sharpness", cost="moderate", loss="mse", batched=True, sets=SETS, source="arXiv 2412.20553")
def gradient_sharpness(
    layers: Layers, whole_gradients: list[Tensor], sigma: Tensor, sigma_yx: Tensor
) -> Float64[Tensor, "*R"]:
    """Curvature g' H g / ||g||^2 along the gradient, g and H those of the loss over the training set."""
    return curvature_along(layers, sigma, sigma_yx, whole_gradients)


@model_metric(
    "edge_of_stability", cost="cheap", batched=True, of_optimizer=edge_of, source="arXiv 2103.00065, 2207.14484"
)
def edge_of_stability(lr: Float64[Tensor, "*R"], optimizer: Optimizer) -> Float64[Tensor, "*R"]:
    """Sharpness beyond which the steps of full-batch SGD are unstable, 2 / lr without momentum; `stability` is a ratio.

    With momentum, dampening, Nesterov's or not, and weight decay, see `dln.ingredients.edge`.

    >>> import torch
    >>> sgd, momentum = Optimizer("SGD", {}), Optimizer("SGD", {"momentum": 0.5})
    >>> [round(edge_of_stability(torch.tensor(0.1), optimizer).item(), 4) for optimizer in (sgd, momentum)]
    [20.0, 30.0]
    """
    gain, decay = edge_of(optimizer)
    return 1 / (lr * gain) - decay


def fits_any_map(shapes: Shapes) -> None:
    """Raise ConfigError for a net with biases or too narrow to be any map: for the mark `needs`."""
    weights = [shape for shape in shapes if len(shape) == 2]
    ends = min(weights[0][1], weights[-1][0])
    narrowest = min(min(shape) for shape in weights)
    if len(weights) < len(shapes):
        raise ConfigError("it is known of nets without biases only: set model.bias=false")
    if narrowest < ends:
        raise ConfigError(
            f"it needs hidden layers at least as wide as the smaller of inputs and outputs, {ends}, not {narrowest}"
        )


@model_metric(
    "least_sharpness",
    cost="moderate",
    loss="mse",
    batched=True,
    sets=SETS,
    needs=fits_any_map,
    source="arXiv 2002.04710",
)
def least_sharpness(layers: Layers, sigma: Tensor, sigma_yx: Tensor) -> Float64[Tensor, "*R"]:
    """No minimum of the loss is less sharp: (2 L / d_out) s_1^(2 - 2 / L) of white inputs; the same at all records.

    White inputs have Sigma = I; s_1 is then the largest singular value of the least-squares map, and balanced minima
    are as flat as that. Of other inputs it is a bound that may not be reached: see `dln.derivatives.hessian`.
    """
    return as_tensor(hessian.least_sharpness(sigma.numpy(), sigma_yx.numpy(), len(layers)))


@model_metric("midpoint_loss", cost="moderate", loss="mse", batched=True, sets=FINITE_SETS, source="arXiv 2410.24206")
def midpoint_loss(
    midpoint_map: Float64[Tensor, "*R out n"],
    train_inputs: Float64[Tensor, "*R N in"],
    train_targets: Float64[Tensor, "*R N out"],
) -> Float64[Tensor, "*R"]:
    """Loss over the training set midway between theta_{s-1} and theta_s, where jumps to and fro cancel.

    NaN at step 0.
    """
    return mean_square_on(midpoint_map, train_inputs, train_targets)


@model_metric("midpoint_strengths", cost="moderate", batched=True, source="arXiv 2410.24206")
def midpoint_strengths(
    midpoint_map: Float64[Tensor, "*R out n"],
    teacher_left: Float64[Tensor, "*R out k"],
    teacher_right: Float64[Tensor, "*R k in"],
    teacher_rank: Float64[Tensor, "*R"],
    top: Top = None,
) -> Float64[Tensor, "*R k"]:
    """`mode_strengths` midway between theta_{s-1} and theta_s; NaN at step 0."""
    weights = midpoint_map[..., : teacher_right.shape[-1]]
    return mode_strengths(weights, teacher_left, teacher_right, teacher_rank, top)


def curvature_along(layers: Layers, sigma: Tensor, sigma_yx: Tensor, direction: list[Tensor]) -> Float64[Tensor, "*R"]:
    """Return v' H v / ||v||^2 of directions v, layer by layer; NaN along none.

    >>> import torch
    >>> one = np.ones((1, 1))  # the loss (w_2 w_1)^2 at w_1 = w_2 = 1, whose Hessian is [[2, 4], [4, 2]]
    >>> moments = torch.ones(1, 1), torch.zeros(1, 1)
    >>> [curvature_along([one, one], *moments, list(torch.tensor([[[1.0]], [[x]]]))).item() for x in (1.0, -1.0)]
    [6.0, -2.0]
    """
    products = hessian.hessian_vector_product(layers, sigma, sigma_yx, direction)
    along = summed(inner(v, as_tensor(p), 2) for v, p in zip(direction, products, strict=True))
    return along / finite(summed(inner(v, v, 2) for v in direction))
