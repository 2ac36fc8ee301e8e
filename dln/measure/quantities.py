"""What several metrics share: a metric that names one of these as an argument receives it, found once for all.

A quantity is a function of what its own arguments name: the model, other quantities, or what is given with the run:
its data and its start. Leading dimensions, if any, are records and members of an ensemble; everything is float64 on the
cpu, whatever the weights' own precision and device. The compiled engine finds those in `IN_KERNELS` for all members at
once while their weights are at hand (`dln.kernels.summary`), so a metric of these alone costs next to nothing there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dln.base.stacked import as_array, as_tensor, decomposed, inner, matmul, singular_values_of, values_of
from dln.derivatives import hessian
from dln.derivatives.gradient_noise import Noise, sample_noise
from dln.derivatives.products import with_biases
from dln.derivatives.tangent_kernel import gauss_newton_spectrum
from dln.measure.data_quantities import CONSTANTS, Later
from dln.model import product

if TYPE_CHECKING:
    from jaxtyping import Float64

    from dln.model import DeepLinearNetwork

LANES = ("_a", "_b")


# --- of one model -----------------------------------------------------------------------------------------------------


def weight_squares(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """||W_l||_F^2 of every layer."""
    return torch.stack([inner(w, w, 2) for w in model.weights], -1)


def bias_squares(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """||b_l||^2 of every layer; zeros for a network without biases."""
    if not model.biases:
        return torch.zeros_like(weight_squares(model))
    return torch.stack([inner(b, b, 1) for b in model.biases], -1)


def gradient_squares(gradients: list[Tensor]) -> Float64[Tensor, "*R L"]:
    """||dLoss/dW_l||_F^2 + ||dLoss/db_l||^2 of every layer, the loss being that of the step's batch."""
    return torch.stack([inner(g, g, 2) for g in gradients], -1)


def end_to_end(model: DeepLinearNetwork) -> Float64[Tensor, "*R out in"]:
    """The end-to-end map W = W_L ... W_1."""
    return product([values_of(w) for w in model.weights])


def weights(model: DeepLinearNetwork) -> list[Float64[Tensor, "*R out in"]]:
    """W_1, ..., W_L."""
    return [values_of(w) for w in model.weights]


def gradients(model: DeepLinearNetwork) -> list[Float64[Tensor, "*R out n"]]:
    """DLoss/dW_1, ..., dLoss/dW_L on the step's batch, each followed by dLoss/db_l as a column if there are biases."""
    of_weights = [_gradient(w) for w in model.weights]
    if not model.biases:
        return of_weights
    return [torch.cat([w, _gradient(b)[..., None]], -1) for w, b in zip(of_weights, model.biases, strict=True)]


def partial_products(weights: list[Tensor]) -> list[Float64[Tensor, "*R out in"]]:
    """W_1, W_2 W_1, ..., W_L ... W_1."""
    return list(accumulate(weights, lambda below, w: matmul(w, below)))


def end_to_end_values(end_to_end: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R k"]:
    """Singular values of the end-to-end map, largest first."""
    return singular_values_of(end_to_end)


def end_to_end_modes(end_to_end: Float64[Tensor, "*R out in"]) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition U [*R, out, k], s [*R, k], V' [*R, k, in] of the end-to-end map."""
    found = decomposed(as_array(end_to_end), lambda matrices: np.linalg.svd(matrices, full_matrices=False))
    left, values, right = map(as_tensor, found)
    return left, values, right


def test_predictions(model: DeepLinearNetwork, test_inputs: Float64[Tensor, "*R M in"]) -> Float64[Tensor, "*R M out"]:
    """The model's outputs on the test inputs."""
    outputs = test_inputs
    for i, w in enumerate(model.weights):
        outputs = matmul(outputs, values_of(w).mT)
        if model.biases:
            outputs = outputs + values_of(model.biases[i])[..., None, :]
    return outputs


def layers(model: DeepLinearNetwork) -> list[Float64[np.ndarray, "*R out n"]]:
    """[W_l b_l] of every layer, or W_l where there are no biases, as `dln.derivatives.products` takes them."""
    return with_biases(*([p.detach() for p in ps] for ps in (model.weights, model.biases)))


def start_layers(start: DeepLinearNetwork) -> list[Float64[np.ndarray, "*R out n"]]:
    """The initial `layers`."""
    return layers(start)


def last_update(model: DeepLinearNetwork, previous: DeepLinearNetwork) -> list[Float64[Tensor, "*R out n"]]:
    """Theta_s - theta_{s-1}, layer by layer as `gradients`; what callbacks change is part of it."""
    return _change(model, previous)


def update_before(previous: DeepLinearNetwork, earlier: DeepLinearNetwork) -> list[Float64[Tensor, "*R out n"]]:
    """Theta_{s-1} - theta_{s-2}, as `last_update`."""
    return _change(previous, earlier)


def sigma(layers: list[np.ndarray], input_moments: Float64[Tensor, "*R n n"]) -> Float64[Tensor, "*R n n"]:
    """Sigma = X'X / N; inputs end with a constant one if the network has biases. Of online data, the population's."""
    n = layers[0].shape[-1]
    return input_moments[..., :n, :n]


def sigma_yx(layers: list[np.ndarray], target_moments: Float64[Tensor, "*R out n"]) -> Float64[Tensor, "*R out n"]:
    """Sigma_yx = Y'X / N, as `sigma`."""
    return target_moments[..., : layers[0].shape[-1]]


def hessian_eigenvalues(layers: list[np.ndarray], sigma: Tensor, sigma_yx: Tensor) -> Float64[Tensor, "*R P"]:
    """All eigenvalues of the Hessian of the mean squared error over the training set, largest first."""
    return as_tensor(hessian.hessian_spectrum(layers, sigma, sigma_yx))


def largest_eigenvalue(layers: list[np.ndarray], sigma: Tensor, sigma_yx: Tensor) -> Float64[Tensor, "*R"]:
    """Largest eigenvalue of the Hessian."""
    return as_tensor(hessian.top_eigenvalues(layers, sigma, sigma_yx, 1))[..., 0]


def gauss_newton_eigenvalues(layers: list[np.ndarray], sigma: Tensor) -> Float64[Tensor, "*R k"]:
    """The largest eigenvalues of the Gauss-Newton matrix, largest first; all others are zero."""
    return as_tensor(gauss_newton_spectrum(layers, sigma))


def sample_gradients(layers: list[np.ndarray], train_inputs: Tensor, train_targets: Tensor) -> Noise:
    """Mean and spread of the training samples' gradients, layer by layer."""
    return sample_noise(layers, train_inputs, train_targets)


# --- of two models ----------------------------------------------------------------------------------------------------


def difference_squares(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """||theta_a - theta_b||^2 over all parameters."""
    gaps = [(values_of(a) - values_of(b), dims) for a, b, dims in _pairs(model_a, model_b)]
    return sum((inner(gap, gap, dims) for gap, dims in gaps), torch.zeros(()))


def inner_products(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R 3"]:
    """<theta_a, theta_b>, ||theta_a||^2, ||theta_b||^2 over all parameters, summed in one order: equal for a = b."""
    pairs = _pairs(model_a, model_b)
    sums = [[inner(x, y, d) for x, y, d in ((a, b, d), (a, a, d), (b, b, d))] for a, b, d in pairs]
    return torch.stack([sum(column, torch.zeros(())) for column in zip(*sums, strict=True)], -1)


# --- from names to values ---------------------------------------------------------------------------------------------

IN_KERNELS = ("weight_squares", "bias_squares", "gradient_squares", "end_to_end")
"""Quantities that the compiled engine finds by kernels of its own."""

MODEL_QUANTITIES: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        weight_squares, bias_squares, gradient_squares, end_to_end, weights, gradients, partial_products,
        end_to_end_values, end_to_end_modes, test_predictions, layers, start_layers, last_update, update_before,
        sigma, sigma_yx,
        hessian_eigenvalues, largest_eigenvalue, gauss_newton_eigenvalues, sample_gradients,
    )
}  # fmt: skip
"""Of one model. A metric of a pair receives them as `weights_a`, `weights_b` and so on."""

PAST = ("previous", "earlier")
"""What the weights and biases were one and two steps before, held as by a model; NaN where there was no such step."""

MODELS = ("model", "start", *PAST)
"""What holds weights and biases: `start` those that the run began with."""

GIVEN = (*MODELS, "data", "batch_size", "lr", "optimizer", *CONSTANTS)
"""What a quantity or a metric of one model may name beside other quantities: `batch_size` counts the samples of the
step's batch; `lr` is the learning rate; `optimizer` is a `dln.ingredients.edge.Optimizer`; `data` is a `MetricData`."""

PAIR_QUANTITIES: dict[str, Callable[..., Any]] = {f.__name__: f for f in (difference_squares, inner_products)}
"""Of two models of equal shapes."""


def needs(names: Iterable[str], known: Iterable[str] = ()) -> set[str]:
    """Return all that has to be found or given for some quantities of a model or a pair, without lanes' suffixes.

    Args:
        names: The quantities.
        known: Those that are found by other means: what they are made from is left out.

    >>> sorted(needs(["end_to_end_values"])), sorted(needs(["end_to_end_values"], IN_KERNELS))
    (['end_to_end', 'end_to_end_values', 'model'], ['end_to_end', 'end_to_end_values'])
    """
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name, _ = quantity(waiting.pop())
        made = MODEL_QUANTITIES.get(name) or PAIR_QUANTITIES.get(name)
        if made is not None and name not in found and name not in known:
            waiting += inspect.signature(made).parameters
        found.add(name)
    return found


class Supply:
    """What metrics of one model may name, each found when it is first asked for and then shared."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Take what is known from the start, or `Later`."""
        self._given = given
        self._found: dict[str, Any] = {}

    @property
    def models(self) -> list[nn.Module]:
        """The network that all this is of, if it is of a single one."""
        return [model] if isinstance(model := self._given.get("model"), nn.Module) else []

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Any:
        if name in self._given:
            given = self._given[name]
            return given.find() if isinstance(given, Later) else given
        return _made(MODEL_QUANTITIES[name], self)


class PairSupply:
    """What metrics of a pair may name: either lane's quantities with its suffix, and those of the pair."""

    def __init__(self, a: Supply, b: Supply, given: Mapping[str, Any] | None = None) -> None:
        """Take the lanes' supplies, and quantities of the pair that are known already."""
        self._lanes: dict[str, Supply] = {"_a": a, "_b": b}
        self._found = dict(given or {})

    @property
    def models(self) -> list[nn.Module]:
        """The two networks that all this is of, if it is of a single pair."""
        return [model for lane in self._lanes.values() for model in lane.models]

    def __getitem__(self, name: str) -> Any:
        kind, lane = quantity(name)
        if lane:
            return self._lanes[lane][kind]
        if name not in self._found:
            self._found[name] = _made(PAIR_QUANTITIES[name], self)
        return self._found[name]


def _made(function: Callable[..., Any], supply: Supply | PairSupply) -> Any:
    return function(**{name: supply[name] for name in inspect.signature(function).parameters})


def quantity(name: str) -> tuple[str, str]:
    """Split what a metric wants into the quantity and the lane it is of.

    >>> quantity("end_to_end_a"), quantity("end_to_end"), quantity("difference_squares")
    (('end_to_end', '_a'), ('end_to_end', ''), ('difference_squares', ''))
    """
    lane = name[-2:] if name[-2:] in LANES else ""
    return name.removesuffix(lane), lane


def _gradient(parameter: Tensor) -> Tensor:
    return values_of(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)


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
