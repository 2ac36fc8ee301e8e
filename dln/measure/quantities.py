"""What several metrics share: computed once a record, and given to each metric that names it as an argument.

A quantity is a function of what its own arguments name: the model, other quantities, or what is given with the run:
its data and its start. Leading dimensions, if any, are records and members of an ensemble; everything is float64 on the
cpu, whatever the weights' own precision and device. `dln.measure.supply` finds them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dln.base.registry import Registry
from dln.base.stacked import as_array, as_tensor, decomposed, inner, matmul, singular_values_of, summed, values_of
from dln.derivatives import hessian
from dln.derivatives.products import Chain, as_float64, with_biases, with_constant
from dln.derivatives.tangent_kernel import gauss_newton_spectrum
from dln.errors import ConfigError, suggestion
from dln.measure.data_quantities import CONSTANTS
from dln.model import product

if TYPE_CHECKING:
    from jaxtyping import Float64

    from dln.model import DeepLinearNetwork

LANES = ("_a", "_b")

PAST = ("previous", "earlier")
"""What the weights and biases were one and two steps before, held as by a model; NaN where there was no such step."""

MODELS = ("model", "start", *PAST)
"""What holds weights and biases: `start` those that the run began with."""

GIVEN = (*MODELS, "data", "batch", "batch_size", "replacement", "fresh_noise", "lr", "time", "optimizer")
"""What a quantity or a metric of one model may name beside other quantities and constants of the data: `batch` is the
step's, as `scaled` makes it, or a few samples with the same loss and gradients; `batch_size` counts its samples, drawn
with `replacement` or without; `fresh_noise` is the standard deviation of the noise that their targets get at every
step; `lr` is the learning rate, `time` the sum of those of all updates so far; `optimizer` is a
`dln.ingredients.edge.Optimizer`; `data` is a `MetricData`."""

IN_KERNELS = ("weight_squares", "bias_squares", "gradient_squares", "end_to_end")
"""Quantities that the compiled engine finds for all members in one call, by kernels of its own
(`dln.kernels.summary`): a metric of these alone costs next to nothing there."""

PAIR_IN_KERNELS = ("difference_squares", "inner_products")
"""Quantities of pairs likewise."""


def of_model() -> list[str]:
    """Return all that a quantity or a metric of one model may name."""
    return [*GIVEN, *CONSTANTS, *MODEL_QUANTITIES.names()]


def of_pair() -> list[str]:
    """Return all that a quantity or a metric of two models may name."""
    return [*PAIR_QUANTITIES.names(), *(name + lane for name in of_model() for lane in LANES)]


MODEL_QUANTITIES = Registry("quantity", supplied=of_model)
"""Of one model. A metric of a pair receives them as `weights_a`, `weights_b` and so on."""

PAIR_QUANTITIES = Registry("quantity of a pair", supplied=of_pair)
"""Of two models of equal shapes."""


def quantity(function: Callable) -> Callable:
    """Register a quantity of one model under the function's own name, before the metrics that ask for it.

    Raises:
        ConfigError: The name is taken, or an argument names nothing that there is.
    """
    return _registered(MODEL_QUANTITIES, function)


def pair_quantity(function: Callable) -> Callable:
    """Register a quantity of two models, as `quantity` does one of a single model."""
    return _registered(PAIR_QUANTITIES, function)


def _registered(registry: Registry, function: Callable) -> Callable:
    name, called = function.__name__, f"{registry.kind} {function.__name__!r}"
    other = PAIR_QUANTITIES if registry is MODEL_QUANTITIES else MODEL_QUANTITIES
    if name in (*GIVEN, *CONSTANTS) or name in other or name.endswith(LANES):
        raise ConfigError(
            f"{called}: choose another name: it means something else already, or ends in _a or _b as lanes' names do"
        )
    known = registry.supplied
    for argument in inspect.signature(function).parameters:
        if argument not in known:
            raise ConfigError(f"{called} asks for {argument!r}, which nothing supplies; {suggestion(argument, known)}")
    return registry.register(name)(function)


# --- of one model -----------------------------------------------------------------------------------------------------


@quantity
def weights(model: DeepLinearNetwork) -> list[Float64[Tensor, "*R out in"]]:
    """W_1, ..., W_L."""
    return [values_of(w) for w in model.weights]


@quantity
def gradients(model: DeepLinearNetwork) -> list[Float64[Tensor, "*R out n"]]:
    """DLoss/dW_1, ..., dLoss/dW_L on the step's batch, each followed by dLoss/db_l as a column if there are biases."""
    of_weights = [_gradient(w) for w in model.weights]
    if not model.biases:
        return of_weights
    return [torch.cat([w, _gradient(b)[..., None]], -1) for w, b in zip(of_weights, model.biases, strict=True)]


@quantity
def weight_squares(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """||W_l||_F^2 of every layer.

    >>> from dln.model import DeepLinearNetwork
    >>> weight_squares(DeepLinearNetwork.from_weights([[[3.0, 4.0]], [[2.0]]])).tolist()
    [25.0, 4.0]
    """
    return torch.stack([inner(w, w, 2) for w in model.weights], -1)


@quantity
def bias_squares(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """||b_l||^2 of every layer; zeros for a network without biases."""
    if not model.biases:
        return torch.zeros_like(weight_squares(model))
    return torch.stack([inner(b, b, 1) for b in model.biases], -1)


@quantity
def gradient_squares(gradients: list[Tensor]) -> Float64[Tensor, "*R L"]:
    """||dLoss/dW_l||_F^2 + ||dLoss/db_l||^2 of every layer, the loss being that of the step's batch."""
    return torch.stack([inner(g, g, 2) for g in gradients], -1)


@quantity
def end_to_end(model: DeepLinearNetwork) -> Float64[Tensor, "*R out in"]:
    """The end-to-end map W = W_L ... W_1."""
    return product([values_of(w) for w in model.weights])


@quantity
def partial_products(weights: list[Tensor]) -> list[Float64[Tensor, "*R out in"]]:
    """W_1, W_2 W_1, ..., W_L ... W_1.

    >>> [p.item() for p in partial_products([torch.tensor([[2.0]]), torch.tensor([[3.0]]), torch.tensor([[4.0]])])]
    [2.0, 6.0, 24.0]
    """
    return list(accumulate(weights, lambda below, w: matmul(w, below)))


@quantity
def end_to_end_values(end_to_end: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R k"]:
    """Singular values of the end-to-end map, largest first."""
    return singular_values_of(end_to_end)


@quantity
def end_to_end_modes(end_to_end: Float64[Tensor, "*R out in"]) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition U [*R, out, k], s [*R, k], V' [*R, k, in] of the end-to-end map."""
    found = decomposed(as_array(end_to_end), lambda matrices: np.linalg.svd(matrices, full_matrices=False))
    left, values, right = map(as_tensor, found)
    return left, values, right


@quantity
def test_predictions(model: DeepLinearNetwork, test_inputs: Float64[Tensor, "*R M in"]) -> Float64[Tensor, "*R M out"]:
    """The model's outputs on the test inputs."""
    return _outputs(model, test_inputs)


@quantity
def train_predictions(
    model: DeepLinearNetwork, train_inputs: Float64[Tensor, "*R N in"]
) -> Float64[Tensor, "*R N out"]:
    """The model's outputs on all training inputs."""
    return _outputs(model, train_inputs)


@quantity
def mean_square(
    train_predictions: Float64[Tensor, "*R N out"], train_targets: Float64[Tensor, "*R N out"]
) -> Float64[Tensor, "*R"]:
    """Mean squared error over the training set."""
    return (train_predictions - train_targets).square().mean((-2, -1))


@quantity
def layers(model: DeepLinearNetwork) -> list[Float64[np.ndarray, "*R out n"]]:
    """[W_l b_l] of every layer, or W_l where there are no biases, as `dln.derivatives.products` takes them."""
    return with_biases(*([p.detach() for p in ps] for ps in (model.weights, model.biases)))


@quantity
def population_mean_square(
    layers: list[np.ndarray], teacher: Float64[Tensor, "*R out in"], population_input_root: Float64[Tensor, "*R n k"]
) -> Float64[Tensor, "*R"]:
    """Mean squared error over the population, tr(E Sigma E') / d_out with E = W - T; noise on targets aside.

    >>> root = torch.diag(torch.tensor([2.0, 1.0, 1.0]))  # of Sigma, and of a constant one
    >>> population_mean_square([np.array([[3.0, 2.0]])], torch.tensor([[1.0, 2.0]]), root).item()
    16.0
    """
    end = as_tensor(Chain(layers).end)
    error = end - torch.nn.functional.pad(teacher, (0, end.shape[-1] - teacher.shape[-1]))
    return mean_square_of(error, population_input_root)


@quantity
def start_layers(start: DeepLinearNetwork) -> list[Float64[np.ndarray, "*R out n"]]:
    """The initial `layers`."""
    return layers(start)


@quantity
def last_update(model: DeepLinearNetwork, previous: DeepLinearNetwork) -> list[Float64[Tensor, "*R out n"]]:
    """Theta_s - theta_{s-1}, layer by layer as `gradients`; what callbacks change is part of it."""
    return _change(model, previous)


@quantity
def update_before(previous: DeepLinearNetwork, earlier: DeepLinearNetwork) -> list[Float64[Tensor, "*R out n"]]:
    """Theta_{s-1} - theta_{s-2}, as `last_update`."""
    return _change(previous, earlier)


@quantity
def sigma(layers: list[np.ndarray], input_moments: Float64[Tensor, "*R n n"]) -> Float64[Tensor, "*R n n"]:
    """Sigma = X'X / N; inputs end with a constant one if the network has biases. Of online data, the population's."""
    n = layers[0].shape[-1]
    return input_moments[..., :n, :n]


@quantity
def sigma_yx(layers: list[np.ndarray], target_moments: Float64[Tensor, "*R out n"]) -> Float64[Tensor, "*R out n"]:
    """Sigma_yx = Y'X / N, as `sigma`."""
    return target_moments[..., : layers[0].shape[-1]]


@quantity
def whole_gradients(layers: list[np.ndarray], sigma: Tensor, sigma_yx: Tensor) -> list[Float64[Tensor, "*R out n"]]:
    """`gradients` of the mean squared error over a whole set, A_l' G B_l' with G of `Chain.error`."""
    return [as_tensor(g) for g in Chain(layers).gradients(sigma, sigma_yx)]


@quantity
def batch_sigma(batch: tuple[Tensor, Tensor]) -> Float64[Tensor, "*R n n"]:
    """`sigma` of the step's batch."""
    inputs, targets = batch
    return targets.shape[-1] * matmul(inputs.mT, inputs)


@quantity
def batch_sigma_yx(batch: tuple[Tensor, Tensor]) -> Float64[Tensor, "*R out n"]:
    """`sigma_yx` of the step's batch."""
    inputs, targets = batch
    return targets.shape[-1] * matmul(targets.mT, inputs)


@quantity
def midpoint_map(layers: list[np.ndarray], previous: DeepLinearNetwork) -> Float64[Tensor, "*R out n"]:
    """The end-to-end map of (theta_{s-1} + theta_s) / 2, the constants that biases add up to as a last column."""
    before = with_biases(*([p.detach() for p in ps] for ps in (previous.weights, previous.biases)))
    return as_tensor(Chain([(a + b) / 2 for a, b in zip(before, layers, strict=True)]).end)


@quantity
def hessian_eigenvalues(layers: list[np.ndarray], sigma: Tensor, sigma_yx: Tensor) -> Float64[Tensor, "*R P"]:
    """All eigenvalues of the Hessian of the mean squared error over the training set, largest first."""
    return as_tensor(hessian.hessian_spectrum(layers, sigma, sigma_yx))


@quantity
def largest_eigenvalue(layers: list[np.ndarray], sigma: Tensor, sigma_yx: Tensor) -> Float64[Tensor, "*R"]:
    """Largest eigenvalue of the Hessian."""
    return as_tensor(hessian.top_eigenvalues(layers, sigma, sigma_yx, 1))[..., 0]


@quantity
def gauss_newton_eigenvalues(layers: list[np.ndarray], sigma: Tensor) -> Float64[Tensor, "*R k"]:
    """The largest eigenvalues of the Gauss-Newton matrix, largest first; all others are zero."""
    return as_tensor(gauss_newton_spectrum(layers, sigma))


# --- of two models ----------------------------------------------------------------------------------------------------


@pair_quantity
def difference_squares(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """||theta_a - theta_b||^2 over all parameters."""
    gaps = [(values_of(a) - values_of(b), dims) for a, b, dims in _pairs(model_a, model_b)]
    return sum((inner(gap, gap, dims) for gap, dims in gaps), torch.zeros(()))


@pair_quantity
def inner_products(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R 3"]:
    """<theta_a, theta_b>, ||theta_a||^2, ||theta_b||^2 over all parameters, summed in one order: equal for a = b."""
    pairs = _pairs(model_a, model_b)
    sums = [[inner(x, y, d) for x, y, d in ((a, b, d), (a, a, d), (b, b, d))] for a, b, d in pairs]
    return torch.stack([sum(column, torch.zeros(())) for column in zip(*sums, strict=True)], -1)


@pair_quantity
def map_difference(layers_a: list[np.ndarray], layers_b: list[np.ndarray]) -> Float64[Tensor, "*R out n"]:
    """W_a - W_b, followed by the difference of the constants that biases add up to as a column, if there are any.

    Of models of equal shapes it is sum_l A_l (W_l,a - W_l,b) B_l, with what is above layer l in a and below it in b:
    layers that are close to each other are subtracted, not products of them, so that digits are kept.

    >>> one, two = np.array([[1.0]]), np.array([[2.0]])
    >>> map_difference([one, two], [two, two]).tolist()
    [[-2.0]]
    """
    a, b = Chain(layers_a), Chain(layers_b)
    if a.shapes != b.shapes:
        n = max(a.end.shape[-1], b.end.shape[-1])  # one of them may be without biases
        ends = (torch.nn.functional.pad(as_tensor(each.end), (0, n - each.end.shape[-1])) for each in (a, b))
        return next(ends) - next(ends)
    parts = zip(a.above, a.layers, b.layers, b.below, strict=True)
    return summed(as_tensor(above @ (x - y) @ below) for above, x, y, below in parts)


# --- parts of these --------------------------------------------------------------------------------------------------


def mean_square_of(matrix: Float64[Tensor, "*R out n"], root: Float64[Tensor, "*R n k"]) -> Float64[Tensor, "*R"]:
    """Mean square of the entries of A x, for inputs x of which R is an `input_root`: ||A R||^2 / d_out."""
    image = matmul(matrix, root[..., : matrix.shape[-1], :].to(matrix))
    return inner(image, image, 2) / matrix.shape[-2]


def mean_square_on(
    matrix: Float64[Tensor, "*R out n"], inputs: Float64[Tensor, "*R N in"], targets: Float64[Tensor, "*R N out"]
) -> Float64[Tensor, "*R"]:
    """Mean squared error of a map on samples; its last column meets a constant one, if it has one more than they.

    >>> mean_square_on(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [3.0]])).item()
    2.0
    """
    outputs = matmul(inputs, matrix[..., : inputs.shape[-1]].mT)
    if matrix.shape[-1] > inputs.shape[-1]:
        outputs = outputs + matrix[..., None, :, -1]
    residuals = outputs - targets
    return inner(residuals, residuals, 2) / (targets.shape[-1] * targets.shape[-2])


def scaled(inputs: Tensor, targets: Tensor, bias: bool) -> tuple[Float64[Tensor, "B n"], Float64[Tensor, "B out"]]:
    """Return a batch as `batch` is: squared residuals sum to the loss; of nets with biases, inputs end with ones."""
    x, y = with_constant(inputs) if bias else as_float64(inputs), as_float64(targets)
    size = np.sqrt(y.size)
    return as_tensor(x / size), as_tensor(y / size)


def _gradient(parameter: Tensor) -> Tensor:
    return values_of(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)


def _outputs(model: DeepLinearNetwork, inputs: Tensor) -> Tensor:
    for i, w in enumerate(model.weights):
        inputs = matmul(inputs, values_of(w).mT)
        if model.biases:
            inputs = inputs + values_of(model.biases[i])[..., None, :]
    return inputs


def _change(now: Any, then: Any) -> list[Tensor]:
    """Differences of two models' layers, a bias as a last column."""
    weights, biases = (
        [values_of(p) - values_of(q) for p, q in zip(a, b, strict=True)]
        for a, b in ((now.weights, then.weights), (now.biases, then.biases))
    )
    return [torch.cat([w, b[..., None]], -1) for w, b in zip(weights, biases, strict=True)] if biases else weights


def _pairs(a: DeepLinearNetwork, b: DeepLinearNetwork) -> list[tuple[Tensor, Tensor, int]]:
    """Parameters of two models side by side, with the number of each one's own, trailing dimensions."""
    weights = [(p, q, 2) for p, q in zip(a.weights, b.weights, strict=True)]
    return weights + [(p, q, 1) for p, q in zip(a.biases, b.biases, strict=True)]
