"""What can be measured: metrics of one model, and of a pair.

A metric is a function of what its arguments name: `model`, `data`, or quantities that metrics share
(`dln.quantities`). The built-in ones are written once for tensors whose leading dimensions, if any, are records and
members of an ensemble, and accumulate in float64 whatever the weights' own precision.
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
from dln.quantities import MODEL_QUANTITIES, PAIR_QUANTITIES, inner
from dln.registry import Registry

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

    from dln.data import Dataset
    from dln.model import DeepLinearNetwork

Value = float | list
"""What one column holds at one step: a number, or a (nested) list of them."""

LANES = ("_a", "_b")

MODEL_METRICS = Registry("metric", supplied=("model", "data", *MODEL_QUANTITIES))
COMPARATIVE_METRICS = Registry(
    "comparative metric",
    supplied=(*PAIR_QUANTITIES, *(name + lane for name in ("model", *MODEL_QUANTITIES) for lane in LANES)),
)


def model_metric(name: str, **marks: Any):
    """Register `f(model) -> value`, or of any of `model`, `data` and the names in `dln.quantities.MODEL_QUANTITIES`.

    Further arguments are parameters a config can set. `p.grad` of the model's parameters holds the gradient on the
    step's batch; `data` is a `MetricData`. The value is a number, a list or array (one column of vectors), or a dict of
    them (one column `name.key` each). A metric must only read: one that changes weights or gradients is an error.

    Marks: `needs=f(shapes)` may refuse models the metric has no value for; `batched=True` says that it takes tensors
    with leading dimensions and returns a value for each member: it then asks for no `data`, and reads no `p.grad`.
    """
    return MODEL_METRICS.register(name, **marks)


def comparative_metric(name: str, **marks: Any):
    """Register `f(model_a, model_b) -> value`; further arguments are parameters a config can set.

    It may also name `dln.quantities.PAIR_QUANTITIES`, and either lane's quantities: `end_to_end_a`, `end_to_end_b`, ...
    """
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
def weight_norm(
    weight_squares: Float64[Tensor, "*R L"], bias_squares: Float64[Tensor, "*R L"]
) -> Float64[Tensor, "*R"]:
    """Euclidean norm of all parameters, sqrt(sum_l ||W_l||_F^2), biases included."""
    return _total(weight_squares + bias_squares).sqrt()


@model_metric("gradient_norm", batched=True)
def gradient_norm(gradient_squares: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R"]:
    """Euclidean norm of the gradient of the batch loss over all parameters."""
    return _total(gradient_squares).sqrt()


@model_metric("layer_norms", batched=True)
def layer_norms(weight_squares: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R L"]:
    """Frobenius norms ||W_1||, ..., ||W_L||."""
    return weight_squares.sqrt()


@model_metric("end_to_end_norm", batched=True)
def end_to_end_norm(end_to_end: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R"]:
    """Frobenius norm of the end-to-end map W = W_L ... W_1."""
    return _frobenius(end_to_end)


@model_metric("singular_values", batched=True)
def singular_values(end_to_end: Float64[Tensor, "*R out in"], top: int | None = None) -> Float64[Tensor, "*R k"]:
    """Singular values of the end-to-end map, largest first; only the first `top` if that is given."""
    # numpy's, because the last digits of torch's depend on where in memory a matrix lies, so on a member's company.
    return torch.from_numpy(np.linalg.svd(end_to_end.cpu().numpy(), compute_uv=False))[..., :top]


@model_metric("balancedness", batched=True, needs=_two_layers)
def balancedness(model: DeepLinearNetwork) -> Float64[Tensor, "*R L-1"]:
    """Norms ||W_{l+1}' W_{l+1} - W_l W_l'||_F, l = 1, ..., L-1: 0 when balanced, conserved by gradient flow."""
    weights = [w.double() for w in model.weights]
    return torch.stack([_frobenius(after.mT @ after - before @ before.mT) for before, after in pairwise(weights)], -1)


# --- metrics of a pair ------------------------------------------------------------------------------------------------


@comparative_metric("param_distance", batched=True, needs=_equal_shapes)
def param_distance(difference_squares: Float64[Tensor, "*R"]) -> Float64[Tensor, "*R"]:
    """Euclidean distance between the parameters of the two models."""
    return difference_squares.sqrt()


@comparative_metric("param_cosine_sim", batched=True, needs=_equal_shapes)
def param_cosine_sim(inner_products: Float64[Tensor, "*R 3"]) -> Float64[Tensor, "*R"]:
    """Cosine of the angle between the parameters of the two models, seen as vectors."""
    inner, a, b = inner_products.unbind(-1)
    return inner / (a * b).sqrt()  # one root of the product: the cosine of a model with itself is exactly 1


@comparative_metric("end_to_end_distance", batched=True)
def end_to_end_distance(
    end_to_end_a: Float64[Tensor, "*R out in"], end_to_end_b: Float64[Tensor, "*R out in"]
) -> Float64[Tensor, "*R"]:
    """Frobenius distance between the end-to-end maps of the two models, whatever their depths and widths."""
    return _frobenius(end_to_end_a - end_to_end_b)


# Sums of one order: those of torch.sum depend on how many members there are, and a member's digits must not.


def _total(layers: Float64[Tensor, "*R L"]) -> Float64[Tensor, "*R"]:
    return reduce(torch.add, layers.unbind(-1))


def _frobenius(matrix: Float64[Tensor, "*R out in"]) -> Float64[Tensor, "*R"]:
    return inner(matrix, matrix, 2).sqrt()


# --- from names in a config to values in a record ---------------------------------------------------------------------


class Metric:
    """A registered metric with its parameters bound, and the column its values go to."""

    def __init__(self, registry: Registry, config: MetricConfig, where: str = "metrics") -> None:
        """Bind what `config` says; `where` is the config key to name in an error."""
        self._entry = registry.get(config.name, where)
        self._entry.check(config.params, f"{where}.params")
        self._params = dict(config.params)
        self.label = config.label or config.name
        arguments = inspect.signature(self._entry.function).parameters
        self.wants = [name for name in registry.supplied if name in arguments]
        """What it is a function of: `model`, `data`, quantities; of a pair, with the lane's suffix."""
        self.batched: bool = self._entry.marks.get("batched", False) and "data" not in self.wants

    @property
    def of_quantities(self) -> bool:
        """Whether it is a function of quantities alone, of all records and members at once."""
        return self.batched and all(quantity(name)[0] != "model" for name in self.wants)

    def check_fit(self, *shapes: Shapes) -> None:
        """Raise ConfigError if the metric has no value for models with parameters of these shapes."""
        needs = self._entry.marks.get("needs")
        if needs is not None:
            try:
                needs(*shapes)
            except ConfigError as error:
                raise ConfigError(f"{self._entry.kind} {self._entry.name!r}: {error}") from None

    def __call__(self, *models: Any, data: MetricData | None = None) -> Any:
        """Return the value for one model or a pair; one that differentiates asks for it with `torch.enable_grad()`."""
        before = _versions(models)
        with torch.no_grad():
            value = self.value({name: _supply(name, models, data) for name in self.wants})
        if _versions(models) != before:
            raise ExtensionError(
                "it changed the model's weights or gradients, and recording must not change the trajectory: "
                "work on copy.deepcopy(model), or use torch.autograd.grad"
            )
        return value

    def value(self, supply: Mapping[str, Any]) -> Any:
        """Return the value for what `wants` names."""
        return self._entry(**{name: supply[name] for name in self.wants}, **self._params)

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


def quantity(name: str) -> tuple[str, str]:
    """Split what a metric wants into the quantity and the lane it is of.

    >>> quantity("end_to_end_a"), quantity("end_to_end"), quantity("difference_squares")
    (('end_to_end', '_a'), ('end_to_end', ''), ('difference_squares', ''))
    """
    lane = name[-2:] if name[-2:] in LANES else ""
    return name.removesuffix(lane), lane


def _supply(name: str, models: Sequence[Any], data: MetricData | None) -> Any:
    if name == "data":
        return data
    if name in PAIR_QUANTITIES:
        return PAIR_QUANTITIES[name](*models)
    kind, lane = quantity(name)
    model = models[LANES.index(lane) if lane else 0]
    return model if kind == "model" else MODEL_QUANTITIES[kind](model)


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
