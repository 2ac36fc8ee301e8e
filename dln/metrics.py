"""What can be measured: metrics of one model, and of a pair.

The built-in ones are written on weight tensors [*R, out, in] whose leading dimensions, if any, are members of an
ensemble, and accumulate in float64 whatever the weights' own precision.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dln.config import MetricConfig
from dln.errors import ConfigError, ExtensionError
from dln.model import product
from dln.registry import Registry

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

    from dln.data import Dataset
    from dln.model import DeepLinearNetwork

Value = float | list
"""What one column holds at one step: a number, or a (nested) list of them."""

MODEL_METRICS = Registry("metric", supplied=("model", "data"))
COMPARATIVE_METRICS = Registry("comparative metric", supplied=("model_a", "model_b"))


def model_metric(name: str, **marks: Any):
    """Register `f(model) -> value`, or `f(model, data)`; further arguments are parameters a config can set.

    `p.grad` of the model's parameters holds the gradient on the step's batch; `data` is a `MetricData`. The value is a
    number, a list or array (one column of vectors), or a dict of them (one column `name.key` each). A metric must only
    read: one that changes weights or gradients is an error.

    Marks: `needs=f(shapes)` may refuse models the metric has no value for; `batched=True` says that it takes weights
    with a leading member dimension and returns a value for each; such a one says `gradient=True` if it reads gradients.
    """
    return MODEL_METRICS.register(name, **marks)


def comparative_metric(name: str, **marks: Any):
    """Register `f(model_a, model_b) -> value`; further arguments are parameters a config can set."""
    return COMPARATIVE_METRICS.register(name, **marks)


@dataclass(frozen=True)
class MetricData:
    """What a metric that asks for `data` receives: the step's batch, the whole sets (None: there is none), the loss."""

    inputs: Float[Tensor, "B in"]
    targets: Float[Tensor, "B out"]
    criterion: nn.Module
    train_inputs: Float[Tensor, "N in"] | None
    train_targets: Float[Tensor, "N out"] | None
    test_inputs: Float[Tensor, "M in"] | None
    test_targets: Float[Tensor, "M out"] | None

    @classmethod
    def of(cls, inputs: Tensor, targets: Tensor, criterion: nn.Module, sets: Dataset) -> MetricData:
        """Put a batch and its loss beside the sets it is from."""
        return cls(
            inputs, targets, criterion, sets.train_inputs, sets.train_targets, sets.test_inputs, sets.test_targets
        )


Shapes = list[list[int]]
"""Shapes of a model's parameters, layer by layer."""


def _two_layers(shapes: Shapes) -> None:
    if sum(len(shape) == 2 for shape in shapes) < 2:
        raise ConfigError("it needs at least two layers (model.num_hidden=1 or more)")


def _equal_shapes(a: Shapes, b: Shapes) -> None:
    if a != b:
        raise ConfigError(
            f"parameters of different shapes have no distance: a has {a}, b has {b}; "
            "end_to_end_distance compares the maps"
        )


# --- metrics of one model ---------------------------------------------------------------------------------------------


@model_metric("weight_norm", batched=True)
def weight_norm(model: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """Euclidean norm of all parameters, sqrt(sum_l ||W_l||_F^2), biases included."""
    return _sum_of_squares(_parameters(model)).sqrt()


@model_metric("gradient_norm", batched=True, gradient=True)
def gradient_norm(model: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """Euclidean norm of the gradient of the batch loss over all parameters."""
    return _sum_of_squares(_parameters(model, gradient=True)).sqrt()


@model_metric("layer_norms", batched=True)
def layer_norms(model: DeepLinearNetwork) -> Float64[Tensor, "*R L"]:
    """Frobenius norms ||W_1||, ..., ||W_L||."""
    return torch.stack([_squares(w, 2).sqrt() for w in model.weights], -1)


@model_metric("end_to_end_norm", batched=True)
def end_to_end_norm(model: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """Frobenius norm of the end-to-end map W = W_L ... W_1."""
    return _squares(_end_to_end(model), 2).sqrt()


@model_metric("singular_values", batched=True)
def singular_values(model: DeepLinearNetwork, top: int | None = None) -> Float64[Tensor, "*R k"]:
    """Singular values of the end-to-end map, largest first; only the first `top` if that is given."""
    return torch.linalg.svdvals(_end_to_end(model))[..., :top]


@model_metric("balancedness", batched=True, needs=_two_layers)
def balancedness(model: DeepLinearNetwork) -> Float64[Tensor, "*R L-1"]:
    """Norms ||W_{l+1}' W_{l+1} - W_l W_l'||_F, l = 1, ..., L-1: 0 when balanced, conserved by gradient flow."""
    weights = [w.double() for w in model.weights]
    gaps = [after.mT @ after - before @ before.mT for before, after in pairwise(weights)]
    return torch.stack([_squares(gap, 2).sqrt() for gap in gaps], -1)


# --- metrics of a pair ------------------------------------------------------------------------------------------------


@comparative_metric("param_distance", batched=True, needs=_equal_shapes)
def param_distance(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """Euclidean distance between the parameters of the two models."""
    pairs = _paired_parameters(model_a, model_b)
    return _sum_of_squares([(a.double() - b.double(), dims) for a, b, dims in pairs]).sqrt()


@comparative_metric("param_cosine_sim", batched=True, needs=_equal_shapes)
def param_cosine_sim(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """Cosine of the angle between the parameters of the two models, seen as vectors."""
    pairs = _paired_parameters(model_a, model_b)
    inner = reduce(torch.add, [_inner(a, b, dims) for a, b, dims in pairs])
    # One square root of the product, so that the cosine of a model with itself is exactly 1.
    squares = _sum_of_squares(_parameters(model_a)) * _sum_of_squares(_parameters(model_b))
    return inner / squares.sqrt()


@comparative_metric("end_to_end_distance", batched=True)
def end_to_end_distance(model_a: DeepLinearNetwork, model_b: DeepLinearNetwork) -> Float64[Tensor, "*R"]:
    """Frobenius distance between the end-to-end maps of the two models, whatever their depths and widths."""
    return _squares(_end_to_end(model_a) - _end_to_end(model_b), 2).sqrt()


def _end_to_end(model: DeepLinearNetwork) -> Tensor:
    return product([w.double() for w in model.weights])


def _parameters(model: DeepLinearNetwork, gradient: bool = False) -> list[tuple[Tensor, int]]:
    """Return each parameter (or its gradient) with the number of its own, trailing dimensions."""
    tensors = [(w, 2) for w in model.weights] + [(b, 1) for b in model.biases]
    if gradient:
        return [(t.grad, dims) for t, dims in tensors if t.grad is not None]
    return tensors


def _paired_parameters(a: DeepLinearNetwork, b: DeepLinearNetwork) -> list[tuple[Tensor, Tensor, int]]:
    return [(p, q, dims) for (p, dims), (q, _) in zip(_parameters(a), _parameters(b), strict=True)]


def _squares(tensor: Tensor, dims: int) -> Tensor:
    return _inner(tensor, tensor, dims)


def _inner(a: Tensor, b: Tensor, dims: int) -> Tensor:
    return torch.linalg.vecdot(a.double().flatten(-dims), b.double().flatten(-dims))


def _sum_of_squares(tensors: Sequence[tuple[Tensor, int]]) -> Tensor:
    return reduce(torch.add, [_squares(t, dims) for t, dims in tensors])


# --- from names in a config to values in a record ---------------------------------------------------------------------


class Metric:
    """A registered metric with its parameters bound, and the column its values go to."""

    def __init__(self, registry: Registry, config: MetricConfig, where: str = "metrics") -> None:
        """Bind what `config` says; `where` is the config key to name in an error."""
        self._entry = registry.get(config.name, where)
        self._entry.check(config.params, f"{where}.params")
        self._params = dict(config.params)
        self._wants_data = "data" in inspect.signature(self._entry.function).parameters
        self.label = config.label or config.name
        self.batched: bool = self._entry.marks.get("batched", False)
        self.wants_gradients: bool = self._entry.marks.get("gradient", not self.batched)

    def check_fit(self, *shapes: Shapes) -> None:
        """Raise ConfigError if the metric has no value for models with parameters of these shapes."""
        needs = self._entry.marks.get("needs")
        if needs is not None:
            try:
                needs(*shapes)
            except ConfigError as error:
                raise ConfigError(f"{self._entry.kind} {self._entry.name!r}: {error}") from None

    def __call__(self, *models: Any, data: MetricData | None = None) -> Any:
        """Return the value for these models; a metric that differentiates asks for it with `torch.enable_grad()`."""
        arguments = {**self._params, "data": data} if self._wants_data else self._params
        before = _versions(models)
        with torch.no_grad():
            value = self._entry(*models, **arguments)
        if _versions(models) != before:
            raise ExtensionError(
                "it changed the model's weights or gradients, and recording must not change the trajectory: "
                "work on copy.deepcopy(model), or use torch.autograd.grad"
            )
        return value

    def columns(self, value: Any, suffix: str = "") -> dict[str, Value]:
        """Return the columns a value fills, e.g. {"norms_a.first": 1.0, "norms_a.last": 2.0} for a dict."""
        name = self.label + suffix
        if isinstance(value, Mapping):
            return {f"{name}.{key}": _plain(v) for key, v in value.items()}
        return {name: _plain(value)}

    def batched_columns(self, value: Any, suffix: str = "") -> dict[str, np.ndarray]:
        """Return the columns [R, ...] that the values of R members fill."""
        name = self.label + suffix
        parts = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
        return {column: part.detach().numpy() for column, part in parts.items()}


def build_metrics(
    metrics: Sequence[str | MetricConfig],
    registry: Registry = MODEL_METRICS,
    key: str = "metrics",
    shapes: Sequence[Shapes] = (),
) -> list[Metric]:
    """Return the metrics that a config lists; two that would fill the same column are an error.

    Args:
        metrics: Names, or MetricConfigs.
        registry: Where they are registered.
        key: The config key to name in an error.
        shapes: Parameter shapes of the models, one or a pair, that each metric must have a value for.
    """
    configs = [MetricConfig(name=m) if isinstance(m, str) else m for m in metrics]
    built = [Metric(registry, config, f"{key}[{i}]") for i, config in enumerate(configs)]
    labels = [metric.label for metric in built]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"{key}: two metrics are called {label!r}; give one a label of its own")
        if label in ("step", "train_loss", "test_loss"):
            raise ConfigError(f"{key}: every record has a column {label!r} already; choose another label")
    for metric in built if shapes else ():
        metric.check_fit(*shapes)
    return built


def _versions(models: Sequence[Any]) -> list[tuple[int, int, int]]:
    """What changes whenever a parameter or its gradient is written to or replaced."""
    return [
        (p._version, id(p.grad), -1 if p.grad is None else p.grad._version)
        for model in models
        for p in model.parameters()
    ]


def _plain(value: Any) -> Value:
    """Return a metric's value as a float or a list of floats."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ExtensionError(
            f"it returned {value!r}: neither a number, nor a list of numbers, nor a dict of them"
        ) from None
    return array.tolist()
